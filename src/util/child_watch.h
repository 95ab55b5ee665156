// Children in an event loop.
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

// As sd_event_add_child, for the child's end: the handler must drop or disable the source, after
// which the child is reaped. One that another process traces (strace, a leak checker) ends for that
// one first. The event loop wakes then, too, and a source that fires once would have fired.
int child_watch(sd_event *event, pid_t pid, sd_event_child_handler_t handler, void *userdata,
                sd_event_source **ret) must_check;
