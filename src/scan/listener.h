// cdb2rabbit --listen: runs a scan when the broker says that profiles changed (CDP packets), every
// POLL_SECONDS, and once at the start, since packets are sent once and may be lost.
//
// A scan is a child process, one at a time: notifications that arrive while it runs are worth
// exactly one more.
#pragma once

#include <systemd/sd-event.h>

#include "core/config.h"
#include "util/error.h"
#include "util/macro.h"

typedef struct Listener Listener;

// Binds CDP_LISTEN and attaches to the loop; the first scan starts with it. `scan_argv` is the
// command of one scan. All borrowed. SIGCHLD, SIGTERM and SIGINT must be blocked. The loop exits
// after TERM or INT, when the running scan has ended: it gets a TERM, too, which it may at any
// time.
int listener_new(const Config *config, const char *const *scan_argv, sd_event *event,
                 Listener **ret, Error *err) must_check;
void listener_free(Listener *listener);
DEFINE_CLEANUP(Listener, listener_free)
