// A channel with publisher confirms: sends messages, and turns the broker's frames into the fate of
// each.
#pragma once

#include "net/amqp_confirms.h"
#include "net/amqp_link.h"

typedef struct PublishChannel {
        AmqpLink *link; // borrowed
        amqp_channel_t number;
        Confirms confirms;
        char *refusal; // of the message that is coming back; its properties follow
} PublishChannel;

void publish_channel_init(PublishChannel *channel, AmqpLink *link, amqp_channel_t number,
                          PublishDoneFn done, void *userdata);
void publish_channel_done(PublishChannel *channel);

// `properties` must have a message_id, by which a message that comes back is known. Only when the
// window has room. < 0: the connection is lost.
int publish_channel_send(PublishChannel *channel, const char *queue,
                         const amqp_basic_properties_t *properties, amqp_bytes_t body,
                         uint64_t token, Error *err) must_check;

// A frame of this channel. < 0: the broker has closed the channel; the messages that wait are
// still to be failed (confirms_fail_all).
int publish_channel_on_frame(PublishChannel *channel, const amqp_frame_t *frame,
                             Error *err) must_check;
