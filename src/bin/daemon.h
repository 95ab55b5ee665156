// What the programs that stay have in common: an event loop, the signals that it takes, and what
// systemd is told.
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "util/error.h"
#include "util/macro.h"

DEFINE_CLEANUP(sd_event, sd_event_unref)
#define _cleanup_event_ _cleanup_(sd_event_unref_p)

// Makes the loop, with systemd's watchdog. SIGCHLD, SIGTERM and SIGINT, and SIGHUP if `reloads`,
// are for its sources from now on. Those of a gone reader and a file that may not grow are ignored:
// write(2) tells it.
int daemon_prepare(bool reloads, sd_event **ret, Error *err) must_check;

// Tells systemd that all is set up, and runs the loop to its end: 0, PROGRAM_FAILED if it was ended
// with another code than 0, or a negative errno.
int daemon_run(sd_event *event, Error *err) must_check;
