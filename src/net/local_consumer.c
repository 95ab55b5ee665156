// Consuming from the queue in builds.db: one turn at a time writes what the callee decided and
// takes the next messages, in one commit.
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "net/local_queue.h"
#include "net/queue_transport.h"
#include "util/alloc.h"
#include "util/fs.h"

#define TAKE_BATCH 16U
#define SAFETY_POLL_USEC (30 * 1000000ULL)
#define SAFETY_ACCURACY_USEC (5 * 1000000ULL)
#define RETRY_USEC (10 * 1000000ULL) // after the store failed

// What the callee decided of a delivery; written in the next turn, one commit for all.
typedef struct Outcome {
        Delivery *delivery;
        bool release;
        char *move_to; // queue; NULL: released or acked
} Outcome;

typedef struct LocalConsumer {
        Consumer base;
        Store *store; // borrowed
        char *queue;
        char *wake_path;
        unsigned prefetch;
        unsigned n_unacked;
        Outcome *outcomes;
        size_t n_outcomes;
        uint64_t connection; // a failure of the store ends one and the next begins
        bool connected;
        bool paused;
        int inotify_fd;
        sd_event_source *watch; // queue.wake was touched
        sd_event_source *turn;  // write outcomes and take messages when the loop has time
        sd_event_source *timer; // … or later: the slow look, or the next try
} LocalConsumer;

static LocalConsumer *to_consumer(Consumer *consumer)
{
        return CONTAINER_OF(consumer, LocalConsumer, base);
}

static void turn_soon(LocalConsumer *consumer)
{
        (void)sd_event_source_set_enabled(consumer->turn, SD_EVENT_ONESHOT);
}

static void turn_later(LocalConsumer *consumer, uint64_t usec)
{
        (void)sd_event_source_set_time_relative(consumer->timer, usec);
        (void)sd_event_source_set_enabled(consumer->timer, SD_EVENT_ONESHOT);
}

static void forget_outcomes(LocalConsumer *consumer)
{
        while (consumer->n_outcomes) {
                Outcome *outcome = &consumer->outcomes[--consumer->n_outcomes];

                delivery_free(outcome->delivery);
                free(outcome->move_to);
        }
}

static void lose(LocalConsumer *consumer, const Error *why)
{
        consumer->connected = false;
        consumer->connection++;
        consumer->n_unacked = 0;
        forget_outcomes(consumer);
        (void)sd_event_source_set_enabled(consumer->turn, SD_EVENT_OFF);
        turn_later(consumer, RETRY_USEC);
        consumer->base.callbacks.on_connection(&consumer->base, why, consumer->base.userdata);
}

static int connect_store(LocalConsumer *consumer, Error *err)
{
        int r = store_queue_release_all(consumer->store, consumer->queue, err);

        if (r < 0)
                return r;
        consumer->connected = true;
        consumer->base.callbacks.on_connection(&consumer->base, NULL, consumer->base.userdata);
        return 0;
}

static int write_outcome(Store *store, const Outcome *outcome, Error *err)
{
        int64_t id = (int64_t)outcome->delivery->tag;
        int r = 0;

        if (outcome->release)
                return store_queue_release(store, id, err);
        if (outcome->move_to)
                r = store_queue_push(store, outcome->move_to, &outcome->delivery->message, err);
        return r < 0 ? r : store_queue_remove(store, id, err);
}

static int take(LocalConsumer *consumer, Delivery **ret, Error *err)
{
        Delivery *delivery = xcalloc(1, sizeof *delivery);
        int64_t id = 0;
        int r = store_queue_take(consumer->store, consumer->queue, &id, &delivery->message, err);

        if (r != 0) {
                delivery_free(delivery);
                return r;
        }
        delivery->tag = (uint64_t)id;
        delivery->connection = consumer->connection;
        *ret = delivery;
        return 0;
}

typedef struct Batch {
        Delivery *deliveries[TAKE_BATCH];
        size_t n;
} Batch;

static int exchange(LocalConsumer *consumer, Batch *ret, Error *err)
{
        size_t room = consumer->paused ? 0 : consumer->prefetch - consumer->n_unacked;
        size_t max = MIN(room, TAKE_BATCH);
        int r = 0;

        for (size_t at = 0; r == 0 && at < consumer->n_outcomes; at++)
                r = write_outcome(consumer->store, &consumer->outcomes[at], err);
        while (r == 0 && ret->n < max) {
                r = take(consumer, &ret->deliveries[ret->n], err);
                ret->n += r == 0;
        }
        return MIN(r, 0);
}

static int exchange_committed(LocalConsumer *consumer, Batch *ret, Error *err)
{
        int r = store_begin(consumer->store, err);

        if (r < 0)
                return r;
        r = exchange(consumer, ret, err);
        if (r == 0)
                r = store_commit(consumer->store, err);
        if (r == 0)
                return 0;
        store_rollback(consumer->store);
        while (ret->n)
                delivery_free(ret->deliveries[--ret->n]);
        return r;
}

static int exchange_and_deliver(LocalConsumer *consumer, Error *err)
{
        Batch batch = {0};
        int r = exchange_committed(consumer, &batch, err);

        if (r < 0)
                return r;
        forget_outcomes(consumer);
        if (batch.n)
                turn_soon(consumer); // there may be more
        consumer->n_unacked += (unsigned)batch.n;
        for (size_t at = 0; at < batch.n; at++)
                consumer->base.callbacks.on_delivery(&consumer->base, batch.deliveries[at],
                                                     consumer->base.userdata);
        return 0;
}

static int take_turn(LocalConsumer *consumer)
{
        Error err = ERROR_NONE;
        int r;

        turn_later(consumer, SAFETY_POLL_USEC);
        if (store_in_transaction(consumer->store)) {
                turn_soon(consumer); // the callee's, which it commits when it is idle: before us
                return 0;
        }
        r = consumer->connected ? 0 : connect_store(consumer, &err);
        if (r == 0)
                r = exchange_and_deliver(consumer, &err);
        if (r < 0) {
                (void)error_prefix(&err, "the local queue");
                lose(consumer, &err);
        }
        return 0;
}

static int on_turn(sd_event_source *source, void *userdata)
{
        (void)source;
        return take_turn(userdata);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        return take_turn(userdata);
}

static int watch_wake_file(LocalConsumer *consumer)
{
        local_queue_wake(consumer->wake_path); // makes it
        return inotify_add_watch(consumer->inotify_fd, consumer->wake_path, IN_CLOSE_WRITE);
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        LocalConsumer *consumer = userdata;
        union {
                struct inotify_event event;
                char bytes[4096];
        } buffer;
        bool gone = false;
        ssize_t n;

        (void)source;
        (void)revents;
        while ((n = read(fd, &buffer, sizeof buffer)) > 0) {
                const struct inotify_event *event;

                for (const char *at = buffer.bytes; at < buffer.bytes + n;
                     at += sizeof *event + event->len) {
                        event = (const struct inotify_event *)(const void *)at;
                        gone |= event->mask & IN_IGNORED;
                }
        }
        if (gone)
                (void)watch_wake_file(consumer);
        if (consumer->connected)
                turn_soon(consumer);
        return 0;
}

static void decide(Consumer *base, Outcome outcome)
{
        LocalConsumer *consumer = to_consumer(base);

        // A delivery of an earlier connection: its message is somebody's again.
        if (!consumer->connected || outcome.delivery->connection != consumer->connection) {
                delivery_free(outcome.delivery);
                free(outcome.move_to);
                return;
        }
        consumer->outcomes = xreallocarray(consumer->outcomes, consumer->n_outcomes + 1,
                                           sizeof *consumer->outcomes);
        consumer->outcomes[consumer->n_outcomes++] = outcome;
        consumer->n_unacked--;
        turn_soon(consumer);
}

static void local_ack(Consumer *base, Delivery *delivery)
{
        decide(base, (Outcome){.delivery = delivery});
}

static void local_requeue(Consumer *base, Delivery *delivery)
{
        decide(base, (Outcome){.delivery = delivery, .release = true});
}

static void local_move(Consumer *base, Delivery *delivery, const char *suffix, const char *reason)
{
        replace_string(&delivery->message.reason, reason);
        decide(base, (Outcome){.delivery = delivery,
                               .move_to = xasprintf("%s%s", to_consumer(base)->queue, suffix)});
}

static void local_pause(Consumer *base)
{
        to_consumer(base)->paused = true;
}

static void local_resume(Consumer *base)
{
        LocalConsumer *consumer = to_consumer(base);

        if (!consumer->paused)
                return;
        consumer->paused = false;
        if (consumer->connected)
                turn_soon(consumer);
}

static void local_free(Consumer *base)
{
        LocalConsumer *consumer = to_consumer(base);
        Batch none = {0};

        // Not written, they come again: no reason to fail.
        consumer->paused = true;
        if (consumer->n_outcomes && !store_in_transaction(consumer->store) &&
            exchange_committed(consumer, &none, NULL) < 0)
                consumer->connected = false;
        forget_outcomes(consumer);
        free(consumer->outcomes);
        (void)sd_event_source_disable_unref(consumer->watch);
        (void)sd_event_source_disable_unref(consumer->turn);
        (void)sd_event_source_disable_unref(consumer->timer);
        if (consumer->inotify_fd >= 0)
                (void)close(consumer->inotify_fd);
        free(consumer->queue);
        free(consumer->wake_path);
        free(consumer);
}

static const ConsumerOps local_consumer_ops = {
        .ack = local_ack,
        .requeue = local_requeue,
        .pause = local_pause,
        .resume = local_resume,
        .move = local_move,
        .free = local_free,
};

static int add_sources(LocalConsumer *consumer, sd_event *event, Error *err)
{
        int r;

        consumer->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (consumer->inotify_fd < 0)
                return error_sys(err, "cannot watch for messages");
        if (watch_wake_file(consumer) < 0)
                return error_sys(err, "cannot watch %s", consumer->wake_path);
        r = sd_event_add_io(event, &consumer->watch, consumer->inotify_fd, EPOLLIN, on_wake,
                            consumer);
        if (r >= 0)
                r = sd_event_add_defer(event, &consumer->turn, on_turn, consumer);
        // After a callee that commits its own work when it is idle.
        if (r >= 0)
                r = sd_event_source_set_priority(consumer->turn, SD_EVENT_PRIORITY_IDLE + 1);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &consumer->timer, CLOCK_MONOTONIC,
                                               SAFETY_POLL_USEC, SAFETY_ACCURACY_USEC, on_timer,
                                               consumer);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

int consumer_new_local(const Config *config, Store *store, sd_event *event, unsigned prefetch,
                       const Consumer *base, Consumer **ret, Error *err)
{
        LocalConsumer *consumer = xcalloc(1, sizeof *consumer);
        int r;

        consumer->base = *base;
        consumer->base.ops = &local_consumer_ops;
        consumer->store = store;
        consumer->queue = xstrdup(config->global.queue);
        consumer->wake_path = fs_join(config->global.state_dir, LOCAL_QUEUE_WAKE_FILE);
        consumer->prefetch = MAX(prefetch, 1U);
        consumer->inotify_fd = -1;
        r = add_sources(consumer, event, err);
        if (r < 0) {
                local_free(&consumer->base);
                return r;
        }
        *ret = &consumer->base;
        return 0;
}
