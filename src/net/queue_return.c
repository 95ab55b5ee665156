#include "net/queue_return.h"

#include <errno.h>
#include <string.h>

#include "core/store.h"
#include "net/queue.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"

#define STALL_SECONDS 30
#define CONFIRM_MS 30000

typedef struct Returning {
        const QueueReturn *what;
        sd_event *event;
        sd_event_source *stall; // nothing has come for STALL_SECONDS
        Publisher *publisher;
        Consumer *consumer;
        Delivery **kept; // those that do not match
        size_t n_kept;
        size_t n_expected, n_seen, n_returned;
        Error err;
} Returning;

static void end(Returning *returning)
{
        (void)sd_event_exit(returning->event, 0);
}

static void on_published(uint64_t token, const Error *err, void *userdata)
{
        Returning *returning = userdata;

        (void)token;
        if (err)
                returning->err = *err;
}

// The journal takes a message_id that it knows for one that came twice.
static int send_back(Returning *returning, const Message *message)
{
        _cleanup_free_ char *id = message_new_id();
        _cleanup_free_ char *app_id = xstrdup(returning->what->app_id);
        Message fresh = *message;
        int r;

        fresh.message_id = id;
        fresh.app_id = app_id;
        fresh.reason = NULL;
        fresh.timestamp = clock_wall_ms() / 1000;
        r = publisher_send(returning->publisher, &fresh, 0, &returning->err);
        if (r == 0)
                r = publisher_flush(returning->publisher, CONFIRM_MS, &returning->err);
        return r < 0 ? r : -returning->err.code;
}

static void on_delivery(Consumer *consumer, Delivery *delivery, void *userdata)
{
        Returning *returning = userdata;

        if (returning->n_seen == returning->n_expected) {
                // Put aside since we began, perhaps one of those that we have just sent back.
                consumer_requeue(consumer, delivery);
                return;
        }
        (void)sd_event_source_set_time_relative(returning->stall, STALL_SECONDS * USEC_PER_SECOND);
        returning->n_seen++;
        if (returning->err.code ||
            !returning->what->match(&delivery->message, returning->what->userdata)) {
                returning->kept[returning->n_kept++] = delivery;
        } else if (send_back(returning, &delivery->message) < 0) {
                returning->kept[returning->n_kept++] = delivery;
        } else {
                consumer_ack(consumer, delivery);
                returning->n_returned++;
        }
        if (returning->n_seen == returning->n_expected) {
                consumer_pause(consumer);
                end(returning);
        }
}

static void on_connection(Consumer *consumer, const Error *err, void *userdata)
{
        Returning *returning = userdata;

        (void)consumer;
        if (!err)
                return;
        if (!returning->err.code)
                returning->err = *err;
        end(returning);
}

static int on_stall(sd_event_source *source, uint64_t usec, void *userdata)
{
        Returning *returning = userdata;

        (void)source;
        (void)usec;
        // Somebody else takes from that queue as well.
        end(returning);
        return 0;
}

static int go(Returning *returning, const Config *aside, Store *store, Error *err)
{
        static const ConsumerCallbacks callbacks = {.on_delivery = on_delivery,
                                                    .on_connection = on_connection};
        int r = sd_event_add_time_relative(returning->event, &returning->stall, CLOCK_MONOTONIC,
                                           STALL_SECONDS * USEC_PER_SECOND, 0, on_stall, returning);

        if (r < 0)
                return error_set(err, -r, "cannot set a timer: %s", strerror(-r));
        r = consumer_new(aside, store, returning->event, (unsigned)returning->n_expected,
                         &callbacks, returning, &returning->consumer, err);
        if (r < 0)
                return r;
        r = sd_event_loop(returning->event);
        for (size_t at = 0; at < returning->n_kept; at++)
                consumer_requeue(returning->consumer, returning->kept[at]);
        consumer_free(returning->consumer);
        if (r < 0)
                return error_set(err, -r, "the event loop failed: %s", strerror(-r));
        if (err && returning->err.code)
                *err = returning->err;
        return -returning->err.code;
}

static int return_from(const Config *config, const Config *aside, const QueueReturn *what,
                       size_t n_expected, size_t *ret_returned, Error *err)
{
        Returning returning = {.what = what, .n_expected = n_expected};
        _cleanup_store_ Store *store = NULL;
        int r = config->global.transport == TRANSPORT_LOCAL
                        ? store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_WRITE,
                                     &store, err)
                        : 0;

        if (r == 0)
                r = publisher_open(config, on_published, &returning, &returning.publisher, err);
        if (r < 0)
                return r;
        returning.kept = xcalloc(n_expected, sizeof(Delivery *));
        r = sd_event_new(&returning.event);
        r = r < 0 ? error_set(err, -r, "cannot make an event loop: %s", strerror(-r))
                  : go(&returning, aside, store, err);
        (void)sd_event_source_disable_unref(returning.stall);
        (void)sd_event_unref(returning.event);
        publisher_close(returning.publisher);
        free(returning.kept);
        *ret_returned = returning.n_returned;
        return r;
}

int queue_return(const Config *config, const QueueReturn *what, size_t *ret_returned, Error *err)
{
        _cleanup_free_ char *queue = xasprintf("%s%s", config->global.queue, what->suffix);
        _cleanup_free_ char *lock_path = fs_join(config->global.state_dir, "return.lock");
        _cleanup_close_ int lock = -1;
        Config aside = *config; // borrows all but the name
        int64_t ready = 0;
        int r;

        *ret_returned = 0;
        aside.global.queue = queue;
        r = fs_make_dirs(config->global.state_dir, 0750, err);
        if (r == 0)
                r = fs_lock(lock_path, &lock, err);
        if (r == FS_LOCKED)
                return error_set(err, EBUSY, "another process brings messages back (it holds %s)",
                                 lock_path);
        if (r == 0)
                r = queue_probe(&aside, &ready, err);
        if (r < 0 || ready <= 0)
                return r;
        return return_from(config, &aside, what, (size_t)MIN(ready, QUEUE_RETURN_MAX), ret_returned,
                           err);
}
