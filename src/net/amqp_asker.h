// Asks the broker things without waiting: each answer is reported when it comes. On a channel of
// its own, as the broker closes the channel when it refuses. Part of the consumer over RabbitMQ.
#pragma once

#include "net/amqp_link.h"
#include "net/queue.h"

typedef enum AskKind {
        ASK_DROP, // empty a queue
        ASK_LOCK, // declare a queue that is this connection's alone, and goes with it
} AskKind;

typedef struct Ask {
        struct Ask *next;
        AskKind kind;
        char *suffix; // of the queue
        char *queue;
        uint64_t token;
} Ask;

typedef struct AskerCallbacks {
        // err NULL: `n` messages were there and are gone, or there is no such queue
        // (DROPPED_NO_QUEUE).
        void (*dropped)(uint64_t token, int64_t n, const Error *err, void *userdata);
        // err NULL: it is ours, or (`ours` false) another connection's.
        void (*locked)(uint64_t token, const char *suffix, bool ours, const Error *err,
                       void *userdata);
} AskerCallbacks;

typedef struct Asker {
        AmqpLink *link; // borrowed
        amqp_channel_t number;
        bool channel_open;
        Ask *unanswered; // in the order of their answers
        AskerCallbacks callbacks;
        void *userdata;
} Asker;

void asker_init(Asker *asker, AmqpLink *link, amqp_channel_t number,
                const AskerCallbacks *callbacks, void *userdata);

// The connection is gone (or the consumer): forgets what is unanswered without a callback.
void asker_reset(Asker *asker);

// `queue` and `suffix` name the same queue, whole and as the caller knows it. < 0: the connection
// is lost.
int asker_ask(Asker *asker, AskKind kind, const char *queue, const char *suffix, uint64_t token,
              Error *err) must_check;

// Gives a lock back; no answer. < 0: the connection is lost.
int asker_unlock(Asker *asker, const char *queue, Error *err) must_check;

// A frame of this channel. < 0: the connection is lost.
int asker_on_frame(Asker *asker, const amqp_frame_t *frame, Error *err) must_check;
