// Messages that were given up wait in the store's table as queue "<QUEUE>.failed". With the local
// queue that is where they belong; with a broker it is an outbox, and they are sent on to the
// broker's queue of that name, where `packuilon retry` of any host finds them.
#include <inttypes.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/log.h"

#define OUTBOX_WINDOW 16 // unconfirmed at a time
#define RETRY_USEC (60 * USEC_PER_SECOND)

static char *queue_name(const Worker *worker)
{
        return xasprintf("%s" FAILED_SUFFIX, worker->config->global.queue);
}

// STORE_NOT_FOUND when none is left.
static int send_next(Worker *worker, const char *queue, Error *err)
{
        static const SendSpec spec = {.suffix = FAILED_SUFFIX};
        _cleanup_(message_done) Message message = {0};
        int64_t id;
        int r = store_queue_take(worker->store, queue, &id, &message, err);

        if (r != 0)
                return r;
        worker->outbox_unconfirmed++;
        consumer_send(worker->consumer, &message, &spec, (uint64_t)id | OUTBOX_TOKEN);
        return 0;
}

void outbox_send(Worker *worker)
{
        _cleanup_free_ char *queue = queue_name(worker);
        Error err = ERROR_NONE;
        int r;

        if (!worker->outbox_waiting || !worker->connected ||
            !consumer_has_broker(worker->consumer) || worker->outbox_unconfirmed >= OUTBOX_WINDOW)
                return;
        r = worker_write(worker, &err);
        while (r == 0 && worker->outbox_unconfirmed < OUTBOX_WINDOW)
                r = send_next(worker, queue, &err);
        if (r != 0)
                worker->outbox_waiting = false;
        if (r < 0) {
                log_warning("%s: not sent yet: %s", queue, err.text);
                timer_arm(worker->outbox_timer, RETRY_USEC);
        }
}

void outbox_restart(Worker *worker)
{
        _cleanup_free_ char *queue = queue_name(worker);
        Error err = ERROR_NONE;
        int64_t n = 0;
        int r;

        if (!consumer_has_broker(worker->consumer))
                return;
        worker->outbox_unconfirmed = 0;
        r = worker_write(worker, &err);
        if (r == 0)
                r = store_queue_release_all(worker->store, queue, &err);
        if (r == 0)
                r = store_queue_count(worker->store, queue, &n, &err);
        if (r < 0) {
                log_warning("%s: not sent yet: %s", queue, err.text);
                timer_arm(worker->outbox_timer, RETRY_USEC);
        }
        worker->outbox_waiting = n > 0;
        outbox_send(worker);
}

void outbox_on_sent(Worker *worker, uint64_t token, const Error *why)
{
        int64_t id = (int64_t)(token & ~OUTBOX_TOKEN);
        Error err = ERROR_NONE;
        int r = worker_write(worker, &err);

        worker->outbox_unconfirmed -= worker->outbox_unconfirmed > 0;
        if (why) {
                log_warning("%s; tried again in %llu s", why->text, RETRY_USEC / USEC_PER_SECOND);
                timer_arm(worker->outbox_timer, RETRY_USEC);
        }
        if (r == 0)
                r = why ? store_queue_release(worker->store, id, &err)
                        : store_queue_remove(worker->store, id, &err);
        if (r < 0)
                log_warning("%s", err.text);
        outbox_send(worker);
}
