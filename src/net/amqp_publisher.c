// The publisher over RabbitMQ: one connection, one channel with confirms, for one run.
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "net/amqp_link.h"
#include "net/amqp_message.h"
#include "net/amqp_publish_channel.h"
#include "net/queue_transport.h"
#include "util/alloc.h"
#include "util/clock.h"

#define PUBLISH_CHANNEL 1
// A run may be silent for minutes while profiles are fetched, and nobody would send heartbeats
// then; a dead peer is found by TCP's own means (tcp_tune).
#define PUBLISH_HEARTBEAT_SECONDS 0
// How long the broker may take to confirm anything at all while the window is full or it is
// blocking publishers.
#define PUBLISH_STALL_MS 60000

typedef struct AmqpPublisher {
        Publisher base;
        AmqpLink link;
        char *queue;
        PublishChannel channel;
        char *blocked; // why the broker takes no messages for now; NULL: it does
        Error lost;    // the connection is gone
} AmqpPublisher;

static AmqpPublisher *to_amqp(Publisher *publisher)
{
        return CONTAINER_OF(publisher, AmqpPublisher, base);
}

static const AmqpPublisher *to_const_amqp(const Publisher *publisher)
{
        return (const AmqpPublisher *)publisher; // base is its first member
}

// ---- what arrives -------------------------------------------------------------------------

static int on_connection_method(AmqpPublisher *publisher, const amqp_method_t *method)
{
        if (method->id == AMQP_CONNECTION_BLOCKED_METHOD) {
                const amqp_connection_blocked_t *blocked = method->decoded;

                free(publisher->blocked);
                publisher->blocked = link_visible(blocked->reason);
        } else if (method->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
                free(TAKE_PTR(publisher->blocked));
        }
        return 0;
}

static int on_frame(AmqpPublisher *publisher, const amqp_frame_t *frame, Error *err)
{
        if (frame->channel == PUBLISH_CHANNEL)
                return publish_channel_on_frame(&publisher->channel, frame, err);
        if (frame->frame_type == AMQP_FRAME_METHOD)
                return on_connection_method(publisher, &frame->payload.method);
        return 0;
}

// All that wait have failed, now and for ever.
static int lose(AmqpPublisher *publisher, const Error *why, Error *err)
{
        publisher->lost = *why;
        link_close(&publisher->link);
        confirms_fail_all(&publisher->channel.confirms, &publisher->lost);
        if (err)
                *err = publisher->lost;
        return -publisher->lost.code;
}

static int amqp_process(Publisher *base, Error *err)
{
        AmqpPublisher *publisher = to_amqp(base);
        Error why = ERROR_NONE;
        amqp_frame_t frame;
        int r = 0;

        // A callback may publish, and a publish may lose the connection.
        while (!publisher->lost.code) {
                r = link_next_frame(&publisher->link, &frame, &why);
                if (r == LINK_FRAME)
                        r = on_frame(publisher, &frame, &why);
                else if (r == 0)
                        return 0;
                if (r < 0)
                        return lose(publisher, &why, err);
                if (!publisher->lost.code)
                        link_release(&publisher->link, frame.channel);
        }
        if (err)
                *err = publisher->lost;
        return -publisher->lost.code;
}

// ---- waiting ------------------------------------------------------------------------------

// False when nothing arrived in time.
static bool wait_readable(const AmqpPublisher *publisher, int64_t timeout_ms)
{
        struct pollfd waiting = {.fd = link_fd(&publisher->link), .events = POLLIN};

        return poll(&waiting, 1, (int)MIN(timeout_ms, INT32_MAX)) != 0;
}

static int stalled(const AmqpPublisher *publisher, int64_t timeout_ms, Error *err)
{
        if (publisher->blocked)
                return error_set(err, ETIMEDOUT,
                                 "RabbitMQ at %s takes no messages (%s): free memory or disk space "
                                 "there",
                                 publisher->link.peer, publisher->blocked);
        return error_set(err, ETIMEDOUT,
                         "RabbitMQ at %s has confirmed none of %zu messages for %lld s",
                         publisher->link.peer, publisher->channel.confirms.n_waiting,
                         (long long)timeout_ms / 1000);
}

static bool has_room(const AmqpPublisher *publisher, size_t most)
{
        (void)most;
        return !publisher->blocked && !confirms_full(&publisher->channel.confirms);
}

static bool has_settled(const AmqpPublisher *publisher, size_t most)
{
        return publisher->channel.confirms.n_waiting <= most;
}

// Handles what arrives until `reached` holds. The time starts anew with each confirm.
static int wait_until(AmqpPublisher *publisher, bool (*reached)(const AmqpPublisher *, size_t),
                      size_t most, int64_t timeout_ms, Error *err)
{
        int64_t since = clock_mono_ms();

        for (;;) {
                size_t before = publisher->channel.confirms.n_waiting;
                int64_t left;
                int r = amqp_process(&publisher->base, err);

                if (r < 0 || reached(publisher, most))
                        return r;
                if (publisher->channel.confirms.n_waiting < before)
                        since = clock_mono_ms();
                left = since + timeout_ms - clock_mono_ms();
                if (left <= 0 || !wait_readable(publisher, left))
                        return stalled(publisher, timeout_ms, err);
        }
}

// ---- the publisher's operations -----------------------------------------------------------

static int publish(AmqpPublisher *publisher, const Message *message, uint64_t token, Error *err)
{
        _cleanup_free_ char *made_id = message->message_id ? NULL : message_new_id();
        Message with_id = *message;
        OutgoingProperties outgoing;
        int r;

        // A message that comes back is known by its id.
        if (made_id)
                with_id.message_id = made_id;
        r = message_to_properties(&with_id, &outgoing, err);
        if (r < 0) {
                // This message cannot be sent; the next one can.
                publisher->base.done(token, err, publisher->base.userdata);
                return 0;
        }
        r = publish_channel_send(&publisher->channel, publisher->queue, &outgoing.properties,
                                 (amqp_bytes_t){message->body_len, message->body}, token, err);
        if (r < 0) {
                const Error why = *err;

                return lose(publisher, &why, err);
        }
        return 0;
}

static int amqp_send(Publisher *base, const Message *message, uint64_t token, Error *err)
{
        AmqpPublisher *publisher = to_amqp(base);
        Error why = ERROR_NONE;
        int r = 0;

        if (publisher->lost.code) {
                why = publisher->lost;
                r = -why.code;
        } else if (!has_room(publisher, 0)) {
                r = wait_until(publisher, has_room, 0, PUBLISH_STALL_MS, &why);
                if (r < 0 && !publisher->lost.code)
                        r = lose(publisher, &why, NULL);
        } else if (publisher->channel.confirms.n_waiting >= PUBLISH_WINDOW / 2) {
                r = amqp_process(base, &why);
        }
        if (r == 0)
                r = publish(publisher, message, token, &why);
        if (r < 0 && err)
                *err = why;
        return r;
}

static int amqp_fd(const Publisher *base)
{
        return link_fd(&to_const_amqp(base)->link);
}

static int amqp_wait(Publisher *base, size_t most, int64_t timeout_ms, Error *err)
{
        AmqpPublisher *publisher = to_amqp(base);

        if (has_settled(publisher, most))
                return 0;
        return wait_until(publisher, has_settled, most, timeout_ms, err);
}

static size_t amqp_unconfirmed(const Publisher *base)
{
        return to_const_amqp(base)->channel.confirms.n_waiting;
}

static void amqp_close(Publisher *base)
{
        AmqpPublisher *publisher = to_amqp(base);

        link_close(&publisher->link);
        publish_channel_done(&publisher->channel);
        free(publisher->blocked);
        free(publisher->queue);
        free(publisher);
}

static const PublisherOps amqp_ops = {
        .send = amqp_send,
        .fd = amqp_fd,
        .process = amqp_process,
        .wait = amqp_wait,
        .unconfirmed = amqp_unconfirmed,
        .close = amqp_close,
};

int publisher_open_amqp(const Config *config, const Publisher *base, Publisher **ret, Error *err)
{
        AmqpPublisher *publisher = xcalloc(1, sizeof *publisher);
        AmqpLink *link = &publisher->link;
        int r;

        publisher->base = *base;
        publisher->base.ops = &amqp_ops;
        publisher->queue = xstrdup(config->global.queue);
        publish_channel_init(&publisher->channel, link, PUBLISH_CHANNEL, base->done,
                             base->userdata);
        r = link_open(link, config, PUBLISH_HEARTBEAT_SECONDS, err);
        if (r == 0)
                r = link_open_channel(link, PUBLISH_CHANNEL, err);
        if (r == 0)
                r = link_ensure_queue(link, PUBLISH_CHANNEL, publisher->queue, err);
        if (r == 0)
                r = link_select_confirms(link, PUBLISH_CHANNEL, err);
        if (r < 0) {
                amqp_close(&publisher->base);
                return r;
        }
        *ret = &publisher->base;
        return 0;
}

int queue_probe_amqp(const Config *config, int64_t *ret_ready, Error *err)
{
        AmqpLink link;
        int r = link_open(&link, config, PUBLISH_HEARTBEAT_SECONDS, err);

        if (r < 0)
                return r;
        r = link_open_channel(&link, PUBLISH_CHANNEL, err);
        if (r == 0)
                r = link_find_queue(&link, PUBLISH_CHANNEL, config->global.queue, ret_ready, err);
        if (r == LINK_NO_QUEUE)
                *ret_ready = -1;
        link_close(&link);
        return r < 0 ? r : 0;
}
