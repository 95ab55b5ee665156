// Brings messages back that were put aside: from "<QUEUE>.failed" or "<QUEUE>.rejected" to <QUEUE>.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/config.h"
#include "core/message.h"
#include "util/error.h"

// So many messages of the queue are looked at, in one call.
#define QUEUE_RETURN_MAX 1000

typedef struct QueueReturn {
        const char *suffix; // ".failed"
        const char *app_id; // of the returned messages: who sends them
        bool (*match)(const Message *message, void *userdata);
        void *userdata;
} QueueReturn;

// Each message that matches is sent to <QUEUE> under a new message_id, confirmed, and only then
// removed where it was: killed in between it is built twice, never lost. The others keep their
// places. *ret_returned counts also when this fails half way. A queue that is not there is empty.
int queue_return(const Config *config, const QueueReturn *what, size_t *ret_returned,
                 Error *err) must_check;
