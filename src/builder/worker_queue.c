// The worker and its queue: the connection, what arrives, and the broker's answers to what leases
// and locks ask.
#include "builder/worker_internal.h"
#include "util/log.h"

// Builds of a blink are journalled and acknowledged many at a time: the next must be here by then.
#define PREFETCH_PER_SLOT 8

// What is held is the broker's again.
static void disconnected(Worker *worker)
{
        worker->connected = false;
        if (worker->leases)
                leases_disconnected(worker->leases);
        worker_locks_disconnected(worker);
        delivery_list_done(&worker->held);
}

static void on_delivery(Consumer *consumer, Delivery *delivery, void *userdata)
{
        Worker *worker = userdata;

        if (worker->draining || worker_is_blocked(worker)) {
                consumer_requeue(consumer, delivery);
                return;
        }
        worker->idle_checks = 0;
        if (!worker_has_slot(worker) && worker_knows(worker, delivery))
                worker_take_delivery(worker, delivery);
        else
                delivery_list_add(&worker->held, delivery);
        worker_schedule(worker);
}

static void on_connection(Consumer *consumer, const Error *err, void *userdata)
{
        Worker *worker = userdata;

        if (err) {
                log_error("queue: %s", err->text);
                disconnected(worker);
                worker_schedule(worker);
                return;
        }
        worker->connected = true;
        log_info("connected to the queue %s", worker->config->global.queue);
        if (worker->leases)
                leases_connected(worker->leases, consumer, worker->config->build.lease_seconds);
        if (worker->image_locks)
                image_locks_connected(worker->image_locks, consumer);
        outbox_restart(worker);
}

static void on_sent(Consumer *consumer, uint64_t token, const Error *err, void *userdata)
{
        Worker *worker = userdata;

        (void)consumer;
        if (token & OUTBOX_TOKEN)
                outbox_on_sent(worker, token, err);
        else
                leases_on_sent(worker->leases, token, err);
}

static void on_dropped(Consumer *consumer, uint64_t token, int64_t n, const Error *err,
                       void *userdata)
{
        Worker *worker = userdata;

        (void)consumer;
        leases_on_dropped(worker->leases, token, n, err);
}

static void on_locked(Consumer *consumer, const char *suffix, bool ours, int64_t lease_ms,
                      const Error *err, void *userdata)
{
        const Worker *worker = userdata;

        (void)consumer;
        image_locks_on_locked(worker->image_locks, suffix, ours, lease_ms, err);
}

static void on_unlocked(Consumer *consumer, const char *suffix, void *userdata)
{
        const Worker *worker = userdata;

        (void)consumer;
        image_locks_on_unlocked(worker->image_locks, suffix);
}

static void on_knock(Consumer *consumer, void *userdata)
{
        const Worker *worker = userdata;

        (void)consumer;
        image_locks_on_knock(worker->image_locks);
}

int worker_connect(Worker *worker, Error *err)
{
        static const ConsumerCallbacks callbacks = {.on_delivery = on_delivery,
                                                    .on_connection = on_connection,
                                                    .on_sent = on_sent,
                                                    .on_dropped = on_dropped,
                                                    .on_locked = on_locked,
                                                    .on_unlocked = on_unlocked,
                                                    .on_knock = on_knock};
        const Config *config = worker->config;
        int r;

        if (worker->consumer) {
                worker_commit(worker);
                consumer_free(TAKE_PTR(worker->consumer));
                disconnected(worker);
        }
        r = consumer_new(config, worker->store, worker->event,
                         PREFETCH_PER_SLOT * config->build.slots, &callbacks, worker,
                         &worker->consumer, err);
        // What would only go back is not asked for.
        if (r == 0 && (worker->draining || worker_is_blocked(worker)))
                consumer_pause(worker->consumer);
        return r;
}
