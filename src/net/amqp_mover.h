// Moves deliveries to other queues of the broker: published on a channel of its own, confirmed, and
// only then acked where they came from. Part of the consumer over RabbitMQ.
#pragma once

#include "net/amqp_publish_channel.h"

// A delivery of the consumer over RabbitMQ, with its properties as they came, for a move keeps
// what we do not know. One allocation: delivery_free knows only the first member.
typedef struct AmqpDelivery {
        Delivery delivery;
        size_t properties_len;
        unsigned char properties[]; // as on the wire
} AmqpDelivery;

typedef enum MoveResult {
        MOVE_DONE,   // the other queue has it
        MOVE_FAILED, // it is where it was
} MoveResult;

// The fate of a delivery, which is the callee's again.
typedef void (*MoveDoneFn)(Delivery *delivery, MoveResult result, const Error *err, void *userdata);

typedef struct Move {
        struct Move *next;
        struct Mover *mover;
        Delivery *delivery;
        char *queue;
        char *reason;
} Move;

typedef struct Mover {
        PublishChannel channel;
        bool channel_open;
        // Looking for a queue that is not there closes the channel, so it has its own, number + 1.
        bool declare_channel_open;
        char **declared; // queues that are known to be there
        Move *waiting;   // for the window or for the broker, in order
        Move *sent;
        bool blocked;
        MoveDoneFn done;
        void *userdata;
} Mover;

void mover_init(Mover *mover, AmqpLink *link, amqp_channel_t number, MoveDoneFn done,
                void *userdata);

// The connection is gone (or the consumer): forgets everything, frees the deliveries.
void mover_reset(Mover *mover);

// Takes the delivery. `done` may be called before this returns. < 0: the connection is lost; the
// delivery was taken nevertheless.
int mover_move(Mover *mover, Delivery *take_delivery, const char *queue, const char *reason,
               Error *err) must_check;

// connection.blocked and .unblocked: while the broker takes no messages none is sent, for then it
// would not read our acks either.
int mover_set_blocked(Mover *mover, bool blocked, Error *err) must_check;

// A frame of the mover's channel. < 0: the connection is lost.
int mover_on_frame(Mover *mover, const amqp_frame_t *frame, Error *err) must_check;
