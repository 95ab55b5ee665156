#include "bin/daemon.h"

#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "bin/program.h"

static int take_signals(bool reloads, Error *err)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGCHLD);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        if (reloads)
                (void)sigaddset(&set, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return error_sys(err, "cannot block signals");
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        return 0;
}

int daemon_prepare(bool reloads, sd_event **ret, Error *err)
{
        _cleanup_event_ sd_event *event = NULL;
        int r = take_signals(reloads, err);

        if (r < 0)
                return r;
        r = sd_event_new(&event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return error_set(err, -r, "cannot make the event loop: %s", strerror(-r));
        *ret = TAKE_PTR(event);
        return 0;
}

int daemon_run(sd_event *event, Error *err)
{
        int r;

        (void)sd_notify(0, "READY=1");
        r = sd_event_loop(event);
        if (r < 0)
                return error_set(err, -r, "the event loop failed: %s", strerror(-r));
        return r ? PROGRAM_FAILED : PROGRAM_DONE;
}
