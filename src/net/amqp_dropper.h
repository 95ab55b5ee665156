// Empties queues of the broker, without waiting: each answer is reported when it comes. On a
// channel of its own, as the broker closes the channel when a queue is not there. Part of the
// consumer over RabbitMQ.
#pragma once

#include "net/amqp_link.h"
#include "net/queue.h"

// err NULL: `n` messages were there and are gone, or there is no such queue (DROPPED_NO_QUEUE).
typedef void (*DropDoneFn)(uint64_t token, int64_t n, const Error *err, void *userdata);

typedef struct Drop {
        struct Drop *next;
        char *queue;
        uint64_t token;
} Drop;

typedef struct Dropper {
        AmqpLink *link; // borrowed
        amqp_channel_t number;
        bool channel_open;
        Drop *unanswered; // in the order of their answers
        DropDoneFn done;
        void *userdata;
} Dropper;

void dropper_init(Dropper *dropper, AmqpLink *link, amqp_channel_t number, DropDoneFn done,
                  void *userdata);

// The connection is gone (or the consumer): forgets what is unanswered without a callback.
void dropper_reset(Dropper *dropper);

// < 0: the connection is lost.
int dropper_drop(Dropper *dropper, const char *queue, uint64_t token, Error *err) must_check;

// A frame of this channel. < 0: the connection is lost.
int dropper_on_frame(Dropper *dropper, const amqp_frame_t *frame, Error *err) must_check;
