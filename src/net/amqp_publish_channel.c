#include "net/amqp_publish_channel.h"

#include <errno.h>

#include "util/alloc.h"

void publish_channel_init(PublishChannel *channel, AmqpLink *link, amqp_channel_t number,
                          PublishDoneFn done, void *userdata)
{
        *channel = (PublishChannel){.link = link, .number = number};
        confirms_init(&channel->confirms, done, userdata);
}

void publish_channel_done(PublishChannel *channel)
{
        confirms_done(&channel->confirms);
        free(TAKE_PTR(channel->refusal));
}

static char *copy_text(amqp_bytes_t bytes)
{
        return xstrndup(bytes.len ? bytes.bytes : "", bytes.len);
}

int publish_channel_send(PublishChannel *channel, const char *queue,
                         const amqp_basic_properties_t *properties, amqp_bytes_t body,
                         uint64_t token, Error *err)
{
        _cleanup_free_ char *id = copy_text(properties->message_id);
        int r = link_publish(channel->link, channel->number, queue, properties, body, err);

        if (r == 0)
                confirms_add(&channel->confirms, token, id);
        return r;
}

static void on_nack(PublishChannel *channel, const amqp_basic_nack_t *nack)
{
        Error err = ERROR_NONE;

        (void)error_set(&err, EIO, "RabbitMQ at %s could not take the message (nack)",
                        channel->link->peer);
        confirms_settle(&channel->confirms, nack->delivery_tag, nack->multiple, &err);
}

static void on_return(PublishChannel *channel, const amqp_basic_return_t *returned)
{
        _cleanup_free_ char *text = link_visible(returned->reply_text);
        _cleanup_free_ char *queue = link_visible(returned->routing_key);

        free(channel->refusal);
        channel->refusal = xasprintf("%u %s (queue \"%s\" is gone)", (unsigned)returned->reply_code,
                                     text, queue);
}

static void on_returned_properties(PublishChannel *channel,
                                   const amqp_basic_properties_t *properties)
{
        _cleanup_free_ char *id = NULL;

        if (!channel->refusal || !(properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG))
                return;
        id = copy_text(properties->message_id);
        confirms_returned(&channel->confirms, id, channel->refusal);
        free(TAKE_PTR(channel->refusal));
}

static int on_method(PublishChannel *channel, const amqp_method_t *method, Error *err)
{
        switch (method->id) {
        case AMQP_BASIC_ACK_METHOD: {
                const amqp_basic_ack_t *ack = method->decoded;

                confirms_settle(&channel->confirms, ack->delivery_tag, ack->multiple, NULL);
                return 0;
        }
        case AMQP_BASIC_NACK_METHOD:
                on_nack(channel, method->decoded);
                return 0;
        case AMQP_BASIC_RETURN_METHOD:
                on_return(channel, method->decoded);
                return 0;
        case AMQP_CHANNEL_CLOSE_METHOD:
                return link_closed_error(channel->link, method, err);
        default:
                return 0;
        }
}

int publish_channel_on_frame(PublishChannel *channel, const amqp_frame_t *frame, Error *err)
{
        if (frame->frame_type == AMQP_FRAME_METHOD)
                return on_method(channel, &frame->payload.method, err);
        if (frame->frame_type == AMQP_FRAME_HEADER)
                on_returned_properties(channel, frame->payload.properties.decoded);
        return 0; // the body of a returned message is not looked at
}
