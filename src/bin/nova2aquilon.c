// nova2aquilon: the registrar as a daemon.
#include <stdbool.h>

#include "aquilon/registrar.h"
#include "bin/daemon.h"
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

static int run(const Invocation *invocation, Error *err)
{
        const Options *given = invocation->options;
        const RegistrarOptions registrar_options = {.until_idle = given->until_idle};
        _cleanup_event_ sd_event *event = NULL;
        _cleanup_(registrar_free_p) Registrar *registrar = NULL;
        int r = daemon_prepare(false, &event, err);

        if (r == 0)
                r = registrar_new(invocation->config, &registrar_options, event, &registrar, err);
        return r < 0 ? r : daemon_run(event, err);
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
