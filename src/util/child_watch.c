#include "util/child_watch.h"

#include <sys/wait.h>

int child_watch(sd_event *event, pid_t pid, sd_event_child_handler_t handler, void *userdata,
                sd_event_source **ret)
{
        int r = sd_event_add_child(event, ret, pid, WEXITED, handler, userdata);

        // One that is on already keeps EPOLLONESHOT.
        if (r >= 0)
                r = sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_ON);
}
