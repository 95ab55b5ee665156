#include "net/amqp_incoming.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"

void incoming_done(Incoming *incoming)
{
        if (incoming->delivery)
                delivery_free(&TAKE_PTR(incoming->delivery)->delivery);
        content_done(&incoming->content);
}

int incoming_begin(Incoming *incoming, const amqp_basic_deliver_t *announced)
{
        if (incoming->content.state != CONTENT_NONE)
                return -EPROTO;
        incoming->tag = announced->delivery_tag;
        incoming->redelivered = announced->redelivered;
        content_begin(&incoming->content);
        return 0;
}

static int on_properties(Incoming *incoming, const amqp_frame_t *frame)
{
        const amqp_bytes_t encoded = frame->payload.properties.raw;
        uint64_t size = frame->payload.properties.body_size;
        AmqpDelivery *delivery = xcalloc(1, sizeof *delivery + encoded.len);

        delivery->delivery.tag = incoming->tag;
        delivery->delivery.redelivered = incoming->redelivered;
        delivery->properties_len = encoded.len;
        if (encoded.len)
                memcpy(delivery->properties, encoded.bytes, encoded.len);
        message_from_properties(frame->payload.properties.decoded, &delivery->delivery.message);
        incoming->delivery = delivery;
        return content_header(&incoming->content, size,
                              size > MESSAGE_MAX_BYTES ? OVERSIZE_KEEP : (size_t)size);
}

int incoming_frame(Incoming *incoming, const amqp_frame_t *frame)
{
        ContentState wanted =
                frame->frame_type == AMQP_FRAME_HEADER ? CONTENT_WANTS_HEADER : CONTENT_WANTS_BODY;
        int r;

        if (incoming->content.state != wanted)
                return -EPROTO;
        r = wanted == CONTENT_WANTS_HEADER
                    ? on_properties(incoming, frame)
                    : content_body(&incoming->content, frame->payload.body_fragment);
        if (r < 0)
                return -EPROTO;
        return incoming->content.state == CONTENT_COMPLETE ? INCOMING_COMPLETE : 0;
}

Delivery *incoming_take(Incoming *incoming, uint64_t *ret_size)
{
        Delivery *delivery = &TAKE_PTR(incoming->delivery)->delivery;
        Message *message = &delivery->message;

        *ret_size = incoming->content.size;
        incoming->content.state = CONTENT_NONE;
        message->body = buf_take(&incoming->content.body, &message->body_len);
        if (!message->body)
                message->body = xstrdup("");
        return delivery;
}
