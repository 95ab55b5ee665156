// Asks the broker things without waiting: each answer is reported when it comes, by the callbacks
// of the consumer that it is a part of. On a channel of its own, as the broker closes the channel
// when it refuses; knocks are heard on the next one.
#pragma once

#include "net/amqp_link.h"
#include "net/queue_transport.h"

#define ASKER_CHANNELS 2

typedef struct Ask Ask;

typedef struct Asker {
        AmqpLink *link;     // borrowed, as the next two
        const char *prefix; // of the names of all queues
        Consumer *consumer; // whose callbacks are called
        amqp_channel_t number;
        bool channel_open, knocks_open;
        bool hears_knocks;
        Ask *unanswered; // in the order of their answers
} Asker;

void asker_init(Asker *asker, AmqpLink *link, amqp_channel_t number, const char *prefix,
                Consumer *consumer);

// The connection is gone (or the consumer): forgets what is unanswered without a callback.
void asker_reset(Asker *asker);

// The consumer's functions of the same names. < 0: the connection is lost.
int asker_drop(Asker *asker, const char *suffix, uint64_t token, Error *err) must_check;
int asker_lock(Asker *asker, const LockSpec *spec, Error *err) must_check;
int asker_unlock(Asker *asker, const char *suffix, Error *err) must_check;
int asker_knock(Asker *asker, const char *suffix, Error *err) must_check;

// A frame of one of its channels. < 0: the connection is lost.
int asker_on_frame(Asker *asker, const amqp_frame_t *frame, Error *err) must_check;
