// A delivery whose frames are on their way.
#pragma once

#include "net/amqp_message.h"
#include "net/queue.h"

// A delivery of the consumer over RabbitMQ, with its properties as they came, for a move keeps
// what we do not know. One allocation: delivery_free knows only the first member.
typedef struct AmqpDelivery {
        Delivery delivery;
        size_t properties_len;
        unsigned char properties[]; // as on the wire
} AmqpDelivery;

typedef struct Incoming {
        uint64_t tag;
        bool redelivered;
        AmqpDelivery *delivery; // once its properties are here
        Content content;
} Incoming;

void incoming_done(Incoming *incoming);

// It was announced. -EPROTO when another is on its way.
int incoming_begin(Incoming *incoming, const amqp_basic_deliver_t *announced) must_check;

// A header or body frame. Of bodies larger than MESSAGE_MAX_BYTES only OVERSIZE_KEEP are kept.
// INCOMING_COMPLETE, or 0: more follows. -EPROTO when it does not belong here.
#define OVERSIZE_KEEP ((size_t)64 * 1024)
#define INCOMING_COMPLETE 1
int incoming_frame(Incoming *incoming, const amqp_frame_t *frame) must_check;

// The complete delivery, but for the number of its connection; *ret_size is that of the whole body.
Delivery *incoming_take(Incoming *incoming, uint64_t *ret_size);
