// nova2aquilon: the registrar as a daemon.
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "aquilon/registrar.h"
#include "bin/program.h"

typedef struct Options {
        bool until_idle;
} Options;

static const ProgramOption options[] = {
        {"until-idle", 0, NULL, "end when the queue is empty and nothing is left to do",
         offsetof(Options, until_idle)},
};

static const char details[] =
        "Runs in the foreground. SIGTERM or SIGINT ends it when the requests that are on their\n"
        "way have their answers; what is left is done at the next start.\n";

static void event_unref_p(sd_event **event)
{
        (void)sd_event_unref(*event);
}

// The signals that the registrar takes from its event loop.
static int block_signals(Error *err)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return error_sys(err, "cannot block signals");
        // A connection that is gone is an error of write(2), not our end.
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN); // a file that may not grow is an error like a full disk
        return 0;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *given = invocation->options;
        const RegistrarOptions registrar_options = {.until_idle = given->until_idle};
        _cleanup_(event_unref_p) sd_event *event = NULL;
        _cleanup_(registrar_free_p) Registrar *registrar = NULL;
        int r = block_signals(err);

        if (r < 0)
                return r;
        r = sd_event_new(&event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return error_set(err, -r, "cannot make the event loop: %s", strerror(-r));
        r = registrar_new(invocation->config, &registrar_options, event, &registrar, err);
        if (r < 0)
                return r;
        (void)sd_notify(0, "READY=1");
        r = sd_event_loop(event);
        if (r < 0)
                return error_set(err, -r, "the event loop failed: %s", strerror(-r));
        return r ? PROGRAM_FAILED : PROGRAM_DONE;
}

static const Program program = {
        .name = "nova2aquilon",
        .summary = "Register the servers that Nova announces with Aquilon.",
        .details = details,
        .options = options,
        .n_options = ELEMENTSOF(options),
        .options_size = sizeof(Options),
        .require = config_require_aquilon,
        .run = run,
};

int main(int argc, char **argv)
{
        return program_main(&program, argc, argv);
}
