// The consumer over RabbitMQ: one connection in the event loop, made again when it is lost.
//
// Connecting blocks the loop for LINK_TIMEOUT_MS at most (usually some milliseconds; when a host
// drops packets, and then at most about once a minute, as tries grow rarer). What children write
// meanwhile waits in their pipes. All else is done as frames arrive.
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "net/amqp_asker.h"
#include "net/amqp_link.h"
#include "net/amqp_message.h"
#include "net/amqp_sender.h"
#include "net/queue_transport.h"
#include "util/alloc.h"
#include "util/backoff.h"
#include "util/clock.h"
#include "util/log.h"

#define CONSUME_CHANNEL 1
#define SEND_CHANNEL 2 // and the next
#define ASK_CHANNEL 4  // and the next
#define CONSUMER_TAG "packuilon"
#define FRAMES_PER_TURN 64 // then the loop's other sources have a turn

// Both sides must hear from the other in twice this time; the broker may want it shorter. We send
// at each half of it.
#define HEARTBEAT_SECONDS 60
#define HEARTBEAT_ACCURACY_USEC (USEC_PER_SECOND / 4)

#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 8000
#define STABLE_MS 10000 // a connection that lived so long was a good one

// A delivery that cannot be moved goes back to its queue after this time, not at once: it would
// only go round and round.
#define MOVE_RETRY_USEC (60 * USEC_PER_SECOND)
#define REJECTED_SUFFIX ".rejected"

typedef struct AmqpConsumer {
        Consumer base;
        const Config *config;
        sd_event *event;
        char *queue;
        uint16_t prefetch;
        bool paused;
        bool closing; // no more callbacks

        AmqpLink link;
        bool connected;
        uint64_t connection; // counts them
        unsigned attempts;   // since the last good connection
        int64_t connected_ms;
        Error broken; // noticed while sending; the loop's next turn acts on it

        Incoming incoming;

        Sender sender;
        Asker asker;
        Delivery **unmoved; // go back to their queue when `retry` says so
        size_t n_unmoved;

        sd_event_source *readable, *turn, *heartbeat, *connect, *retry;
} AmqpConsumer;

static AmqpConsumer *to_amqp(Consumer *consumer)
{
        return CONTAINER_OF(consumer, AmqpConsumer, base);
}

static void turn_soon(AmqpConsumer *consumer)
{
        (void)sd_event_source_set_enabled(consumer->turn, SD_EVENT_ONESHOT);
}

static void arm(sd_event_source *timer, uint64_t usec)
{
        (void)sd_event_source_set_time_relative(timer, usec);
        (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static void disarm(sd_event_source *source)
{
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

// ---- losing and making connections --------------------------------------------------------

static void forget_deliveries(AmqpConsumer *consumer)
{
        sender_reset(&consumer->sender);
        asker_reset(&consumer->asker);
        while (consumer->n_unmoved)
                delivery_free(consumer->unmoved[--consumer->n_unmoved]);
        incoming_done(&consumer->incoming);
}

static void disconnect(AmqpConsumer *consumer)
{
        consumer->readable = sd_event_source_disable_unref(consumer->readable);
        disarm(consumer->turn);
        disarm(consumer->heartbeat);
        disarm(consumer->retry);
        forget_deliveries(consumer);
        consumer->connected = false;
}

static void lose(AmqpConsumer *consumer, const Error *why)
{
        const Error reason = *why; // may be consumer->broken

        if (consumer->connected && clock_mono_ms() - consumer->connected_ms >= STABLE_MS)
                consumer->attempts = 0;
        disconnect(consumer);
        link_close(&consumer->link);
        arm(consumer->connect,
            (uint64_t)backoff_ms(BACKOFF_MIN_MS, BACKOFF_MAX_MS, ++consumer->attempts) *
                    USEC_PER_MS);
        consumer->base.callbacks.on_connection(&consumer->base, &reason, consumer->base.userdata);
}

// Something could not be sent while the callee was calling; it hears of it later. The socket may be
// closed, and its number another's before that.
static void break_later(AmqpConsumer *consumer, const Error *why)
{
        consumer->readable = sd_event_source_disable_unref(consumer->readable);
        if (!consumer->broken.code)
                consumer->broken = *why;
        turn_soon(consumer);
}

static void arm_heartbeat(AmqpConsumer *consumer)
{
        int seconds = link_heartbeat(&consumer->link);

        if (seconds > 0)
                arm(consumer->heartbeat, (unsigned)seconds * USEC_PER_SECOND / 2);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int open_link(AmqpConsumer *consumer, Error *err)
{
        AmqpLink *link = &consumer->link;
        int r = link_open(link, consumer->config, HEARTBEAT_SECONDS, err);

        if (r == 0)
                r = link_open_channel(link, CONSUME_CHANNEL, err);
        if (r == 0 && consumer->base.binding)
                r = link_ensure_bound(link, CONSUME_CHANNEL, consumer->queue,
                                      consumer->base.binding, err);
        else if (r == 0)
                r = link_ensure_queue(link, CONSUME_CHANNEL, consumer->queue, err);
        if (r == 0)
                r = link_set_prefetch(link, CONSUME_CHANNEL, consumer->prefetch, err);
        if (r == 0 && !consumer->paused)
                r = link_consume(link, CONSUME_CHANNEL, consumer->queue, CONSUMER_TAG, err);
        if (r < 0)
                return r;
        r = sd_event_add_io(consumer->event, &consumer->readable, link_fd(link), EPOLLIN,
                            on_readable, consumer);
        return r < 0 ? error_set(err, -r, "cannot watch the connection: %s", strerror(-r)) : 0;
}

static int on_connect_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        AmqpConsumer *consumer = userdata;
        Error err = ERROR_NONE;

        (void)source;
        (void)usec;
        consumer->broken = ERROR_NONE;
        if (open_link(consumer, &err) < 0) {
                lose(consumer, &err);
                return 0;
        }
        consumer->connected = true;
        consumer->connection++;
        consumer->connected_ms = clock_mono_ms();
        arm_heartbeat(consumer);
        turn_soon(consumer); // deliveries may have come with the answers
        consumer->base.callbacks.on_connection(&consumer->base, NULL, consumer->base.userdata);
        return 0;
}

// ---- deliveries ---------------------------------------------------------------------------

static bool is_current(const AmqpConsumer *consumer, const Delivery *delivery)
{
        return consumer->connected && !consumer->link.lost &&
               delivery->connection == consumer->connection;
}

static void send_or_break(AmqpConsumer *consumer, amqp_method_number_t method, void *fields)
{
        Error err = ERROR_NONE;

        if (link_send(&consumer->link, CONSUME_CHANNEL, method, fields, &err) < 0)
                break_later(consumer, &err);
}

static void amqp_consumer_ack(Consumer *base, Delivery *delivery)
{
        AmqpConsumer *consumer = to_amqp(base);
        amqp_basic_ack_t ack = {.delivery_tag = delivery->tag};

        if (is_current(consumer, delivery))
                send_or_break(consumer, AMQP_BASIC_ACK_METHOD, &ack);
        delivery_free(delivery);
}

static void amqp_consumer_requeue(Consumer *base, Delivery *delivery)
{
        AmqpConsumer *consumer = to_amqp(base);
        amqp_basic_reject_t reject = {.delivery_tag = delivery->tag, .requeue = 1};

        if (is_current(consumer, delivery))
                send_or_break(consumer, AMQP_BASIC_REJECT_METHOD, &reject);
        delivery_free(delivery);
}

static void amqp_consumer_move(Consumer *base, Delivery *delivery, const char *suffix,
                               const char *reason)
{
        AmqpConsumer *consumer = to_amqp(base);
        _cleanup_free_ char *queue = xasprintf("%s%s", consumer->queue, suffix);
        Error err = ERROR_NONE;

        if (!is_current(consumer, delivery)) {
                delivery_free(delivery);
                return;
        }
        if (sender_move(&consumer->sender, delivery, queue, reason, &err) < 0)
                break_later(consumer, &err);
        turn_soon(consumer); // frames may have come with the answers
}

static void on_moved(Delivery *delivery, const Error *err, void *userdata)
{
        AmqpConsumer *consumer = userdata;

        if (!err) {
                amqp_consumer_ack(&consumer->base, delivery);
                return;
        }
        log_warning("%s; it goes back to queue \"%s\" in %llu s", err->text, consumer->queue,
                    MOVE_RETRY_USEC / USEC_PER_SECOND);
        consumer->unmoved =
                xreallocarray(consumer->unmoved, consumer->n_unmoved + 1, sizeof(Delivery *));
        consumer->unmoved[consumer->n_unmoved++] = delivery;
        arm(consumer->retry, MOVE_RETRY_USEC);
}

static int on_retry_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        AmqpConsumer *consumer = userdata;

        (void)source;
        (void)usec;
        while (consumer->n_unmoved)
                amqp_consumer_requeue(&consumer->base, consumer->unmoved[--consumer->n_unmoved]);
        return 0;
}

// Keeping it would take the memory of all, dropping it would lose it, and given back it would come
// again at once: what is kept of it is moved, for a person to look at.
static void move_oversize(AmqpConsumer *consumer, Delivery *delivery, uint64_t size)
{
        _cleanup_free_ char *reason = xasprintf(
                "the message has %llu bytes, the limit is %u; only the first %zu are kept",
                (unsigned long long)size, MESSAGE_MAX_BYTES, OVERSIZE_KEEP);

        log_warning("a message is moved to %s" REJECTED_SUFFIX ": %s", consumer->queue, reason);
        amqp_consumer_move(&consumer->base, delivery, REJECTED_SUFFIX, reason);
}

static void deliver(AmqpConsumer *consumer)
{
        uint64_t size = 0;
        Delivery *delivery = incoming_take(&consumer->incoming, &size);

        delivery->connection = consumer->connection;
        if (consumer->closing)
                delivery_free(delivery);
        else if (size > MESSAGE_MAX_BYTES)
                move_oversize(consumer, delivery, size);
        else
                consumer->base.callbacks.on_delivery(&consumer->base, delivery,
                                                     consumer->base.userdata);
}

// ---- messages of the caller's -------------------------------------------------------------

static void amqp_consumer_send(Consumer *base, const Message *message, const SendSpec *spec,
                               uint64_t token)
{
        AmqpConsumer *consumer = to_amqp(base);
        _cleanup_free_ char *queue = xasprintf("%s%s", consumer->queue, spec->suffix);
        const char *return_to = spec->return_after_ms ? consumer->queue : NULL;
        Error err = ERROR_NONE;

        if (!consumer->connected || consumer->link.lost)
                return;
        if (sender_send(&consumer->sender, message, queue, return_to, spec->return_after_ms, token,
                        &err) < 0)
                break_later(consumer, &err);
        turn_soon(consumer); // frames may have come with the answers
}

static void on_sent(uint64_t token, const Error *err, void *userdata)
{
        AmqpConsumer *consumer = userdata;

        if (!consumer->closing && consumer->base.callbacks.on_sent)
                consumer->base.callbacks.on_sent(&consumer->base, token, err,
                                                 consumer->base.userdata);
}

// ---- questions ----------------------------------------------------------------------------

static bool can_ask(const AmqpConsumer *consumer)
{
        return consumer->connected && !consumer->link.lost;
}

// `r` and `err` are what asking came to.
static void asked(AmqpConsumer *consumer, int r, const Error *err)
{
        if (r < 0)
                break_later(consumer, err);
        turn_soon(consumer); // frames may have come with the answers
}

static void amqp_consumer_drop(Consumer *base, const char *suffix, uint64_t token)
{
        AmqpConsumer *consumer = to_amqp(base);
        Error err = ERROR_NONE;

        if (can_ask(consumer))
                asked(consumer, asker_drop(&consumer->asker, suffix, token, &err), &err);
}

static void amqp_consumer_lock(Consumer *base, const LockSpec *spec)
{
        AmqpConsumer *consumer = to_amqp(base);
        Error err = ERROR_NONE;

        if (can_ask(consumer))
                asked(consumer, asker_lock(&consumer->asker, spec, &err), &err);
}

static void amqp_consumer_unlock(Consumer *base, const char *suffix)
{
        AmqpConsumer *consumer = to_amqp(base);
        Error err = ERROR_NONE;

        if (can_ask(consumer))
                asked(consumer, asker_unlock(&consumer->asker, suffix, &err), &err);
}

static void amqp_consumer_knock(Consumer *base, const char *suffix)
{
        AmqpConsumer *consumer = to_amqp(base);
        Error err = ERROR_NONE;

        if (can_ask(consumer))
                asked(consumer, asker_knock(&consumer->asker, suffix, &err), &err);
}

// ---- frames -------------------------------------------------------------------------------

static int out_of_order(const AmqpConsumer *consumer, Error *err)
{
        return error_set(err, EPROTO, "RabbitMQ at %s sent frames that do not belong together",
                         consumer->link.peer);
}

static int on_content_frame(AmqpConsumer *consumer, const amqp_frame_t *frame, Error *err)
{
        int r = incoming_frame(&consumer->incoming, frame);

        if (r < 0)
                return out_of_order(consumer, err);
        if (r == INCOMING_COMPLETE)
                deliver(consumer);
        return 0;
}

static int on_consume_method(AmqpConsumer *consumer, const amqp_method_t *method, Error *err)
{
        switch (method->id) {
        case AMQP_BASIC_DELIVER_METHOD:
                return incoming_begin(&consumer->incoming, method->decoded) < 0
                               ? out_of_order(consumer, err)
                               : 0;
        case AMQP_BASIC_CANCEL_METHOD:
                return error_set(err, ENOENT,
                                 "queue \"%s\" of RabbitMQ at %s was deleted, or its node went "
                                 "down",
                                 consumer->queue, consumer->link.peer);
        case AMQP_CHANNEL_CLOSE_METHOD:
                return link_closed_error(&consumer->link, method, err);
        default:
                return 0;
        }
}

static int on_frame(AmqpConsumer *consumer, const amqp_frame_t *frame, Error *err)
{
        amqp_method_number_t method =
                frame->frame_type == AMQP_FRAME_METHOD ? frame->payload.method.id : 0;

        if (frame->channel == SEND_CHANNEL)
                return sender_on_frame(&consumer->sender, frame, err);
        if (frame->channel >= ASK_CHANNEL)
                return consumer->closing ? 0 : asker_on_frame(&consumer->asker, frame, err);
        if (method == AMQP_CONNECTION_BLOCKED_METHOD || method == AMQP_CONNECTION_UNBLOCKED_METHOD)
                return sender_set_blocked(&consumer->sender,
                                          method == AMQP_CONNECTION_BLOCKED_METHOD, err);
        if (frame->channel != CONSUME_CHANNEL)
                return 0;
        return method ? on_consume_method(consumer, &frame->payload.method, err)
                      : on_content_frame(consumer, frame, err);
}

static void take_turn(AmqpConsumer *consumer)
{
        amqp_frame_t frame;
        Error err = ERROR_NONE;

        for (unsigned n = 0; n < FRAMES_PER_TURN && !consumer->broken.code; n++) {
                int r = link_next_frame(&consumer->link, &frame, &err);

                if (r == 0)
                        return;
                if (r == LINK_FRAME)
                        r = on_frame(consumer, &frame, &err);
                if (r < 0) {
                        lose(consumer, &err);
                        return;
                }
                link_release(&consumer->link, frame.channel);
        }
        if (consumer->broken.code)
                lose(consumer, &consumer->broken);
        else
                turn_soon(consumer);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        (void)source;
        (void)fd;
        (void)revents;
        take_turn(userdata);
        return 0;
}

static int on_turn(sd_event_source *source, void *userdata)
{
        (void)source;
        take_turn(userdata);
        return 0;
}

static int on_heartbeat_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        AmqpConsumer *consumer = userdata;
        Error err = ERROR_NONE;

        (void)usec;
        (void)source;
        arm_heartbeat(consumer);
        if (link_send_heartbeat(&consumer->link, &err) < 0)
                lose(consumer, &err);
        else
                take_turn(consumer); // notices when the broker is silent
        return 0;
}

// ---- flow and life ------------------------------------------------------------------------

static void amqp_consumer_pause(Consumer *base)
{
        AmqpConsumer *consumer = to_amqp(base);
        amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(CONSUMER_TAG),
                                      .nowait = 1};

        if (consumer->paused)
                return;
        consumer->paused = true;
        if (consumer->connected && !consumer->link.lost)
                send_or_break(consumer, AMQP_BASIC_CANCEL_METHOD, &cancel);
}

static void amqp_consumer_resume(Consumer *base)
{
        AmqpConsumer *consumer = to_amqp(base);
        amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(consumer->queue),
                                        .consumer_tag = amqp_cstring_bytes(CONSUMER_TAG),
                                        .nowait = 1};

        if (!consumer->paused)
                return;
        consumer->paused = false;
        if (consumer->connected && !consumer->link.lost)
                send_or_break(consumer, AMQP_BASIC_CONSUME_METHOD, &consume);
}

// What was published but not acked would be in both queues.
static void finish_moves(AmqpConsumer *consumer)
{
        int64_t deadline = clock_mono_ms() + LINK_CLOSE_TIMEOUT_MS;
        struct pollfd waiting = {.fd = link_fd(&consumer->link), .events = POLLIN};
        amqp_frame_t frame;
        int r = 1;

        consumer->closing = true;
        while (r > 0 && consumer->sender.sent && !consumer->link.lost) {
                r = link_next_frame(&consumer->link, &frame, NULL);
                if (r == 0) {
                        int64_t left = deadline - clock_mono_ms();

                        r = left > 0 ? poll(&waiting, 1, (int)left) : 0;
                        continue;
                }
                if (r == LINK_FRAME && on_frame(consumer, &frame, NULL) < 0)
                        return;
                link_release(&consumer->link, frame.channel);
        }
}

static void amqp_consumer_free(Consumer *base)
{
        AmqpConsumer *consumer = to_amqp(base);

        if (consumer->connected)
                finish_moves(consumer);
        disconnect(consumer);
        link_close(&consumer->link);
        (void)sd_event_source_disable_unref(consumer->turn);
        (void)sd_event_source_disable_unref(consumer->heartbeat);
        (void)sd_event_source_disable_unref(consumer->connect);
        (void)sd_event_source_disable_unref(consumer->retry);
        (void)sd_event_unref(consumer->event);
        free(consumer->unmoved);
        free(consumer->queue);
        free(consumer);
}

static const ConsumerOps amqp_consumer_ops = {
        .ack = amqp_consumer_ack,
        .requeue = amqp_consumer_requeue,
        .pause = amqp_consumer_pause,
        .resume = amqp_consumer_resume,
        .move = amqp_consumer_move,
        .send = amqp_consumer_send,
        .drop = amqp_consumer_drop,
        .lock = amqp_consumer_lock,
        .unlock = amqp_consumer_unlock,
        .knock = amqp_consumer_knock,
        .free = amqp_consumer_free,
};

static int add_timer(AmqpConsumer *consumer, uint64_t accuracy, sd_event_time_handler_t handler,
                     sd_event_source **ret)
{
        int r = sd_event_add_time_relative(consumer->event, ret, CLOCK_MONOTONIC, 0, accuracy,
                                           handler, consumer);

        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_sources(AmqpConsumer *consumer, Error *err)
{
        int r = sd_event_add_defer(consumer->event, &consumer->turn, on_turn, consumer);

        if (r >= 0)
                r = sd_event_source_set_enabled(consumer->turn, SD_EVENT_OFF);
        if (r >= 0)
                r = add_timer(consumer, HEARTBEAT_ACCURACY_USEC, on_heartbeat_time,
                              &consumer->heartbeat);
        if (r >= 0)
                r = add_timer(consumer, 0, on_connect_time, &consumer->connect);
        if (r >= 0)
                r = add_timer(consumer, 0, on_retry_time, &consumer->retry);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

int consumer_new_amqp(const Config *config, sd_event *event, unsigned prefetch,
                      const Consumer *base, Consumer **ret, Error *err)
{
        static const SenderCallbacks sender_callbacks = {on_moved, on_sent};
        AmqpConsumer *consumer = xcalloc(1, sizeof *consumer);
        int r;

        consumer->base = *base;
        consumer->base.ops = &amqp_consumer_ops;
        consumer->config = config;
        consumer->event = sd_event_ref(event);
        consumer->queue = xstrdup(config->global.queue);
        consumer->prefetch = (uint16_t)MIN(MAX(prefetch, 1U), (unsigned)UINT16_MAX);
        sender_init(&consumer->sender, &consumer->link, SEND_CHANNEL, &sender_callbacks, consumer);
        asker_init(&consumer->asker, &consumer->link, ASK_CHANNEL, consumer->queue,
                   &consumer->base);
        r = add_sources(consumer, err);
        if (r < 0) {
                amqp_consumer_free(&consumer->base);
                return r;
        }
        arm(consumer->connect, 0);
        *ret = &consumer->base;
        return 0;
}
