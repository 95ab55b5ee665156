// Sends messages to other queues of the broker, on a channel of its own with confirms: deliveries
// that move there (and are only then acked where they came from), and messages of the caller's.
// Part of the consumer over RabbitMQ.
#pragma once

#include "net/amqp_incoming.h"
#include "net/amqp_publish_channel.h"

// err NULL: the other queue has it. Otherwise it is not there, and err says why.
typedef struct SenderCallbacks {
        // The delivery is the callee's again.
        void (*moved)(Delivery *delivery, const Error *err, void *userdata);
        void (*sent)(uint64_t token, const Error *err, void *userdata);
} SenderCallbacks;

// One message on its way: a delivery that moves, or a message of the caller's.
typedef struct Sending {
        struct Sending *next;
        struct Sender *sender;
        char *queue;
        Delivery *delivery; // NULL: a message of the caller's
        char *reason;       // of the move
        Message message;
        char *return_to; // queue; NULL: it stays
        int64_t return_after_ms;
        uint64_t token;
} Sending;

typedef struct Sender {
        PublishChannel channel;
        bool channel_open;
        // Looking for a queue that is not there closes the channel, so it has its own, number + 1.
        bool declare_channel_open;
        char **declared;  // queues that are known to be there
        Sending *waiting; // for the window or for the broker, in order
        Sending *sent;
        bool blocked;
        SenderCallbacks callbacks;
        void *userdata;
} Sender;

void sender_init(Sender *sender, AmqpLink *link, amqp_channel_t number,
                 const SenderCallbacks *callbacks, void *userdata);

// The connection is gone (or the consumer): forgets everything without a callback, frees the
// deliveries.
void sender_reset(Sender *sender);

// Takes the delivery. A callback may come before this returns. < 0: the connection is lost; the
// delivery was taken nevertheless.
int sender_move(Sender *sender, Delivery *take_delivery, const char *queue, const char *reason,
                Error *err) must_check;

// The same for a message, which is copied. `return_to`: the queue it goes to after
// return_after_ms, or NULL.
int sender_send(Sender *sender, const Message *message, const char *queue, const char *return_to,
                int64_t return_after_ms, uint64_t token, Error *err) must_check;

// connection.blocked and .unblocked: while the broker takes no messages none is sent, for then it
// would not read our acks either.
int sender_set_blocked(Sender *sender, bool blocked, Error *err) must_check;

// A frame of the sender's channel. < 0: the connection is lost.
int sender_on_frame(Sender *sender, const amqp_frame_t *frame, Error *err) must_check;
