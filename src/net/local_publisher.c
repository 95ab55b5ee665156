// Publishing into, and looking at, the queue in builds.db.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "net/local_queue.h"
#include "net/queue_transport.h"
#include "util/alloc.h"
#include "util/fs.h"

#define WAKE_MODE 0640
#define BATCH_MESSAGES 32 // committed together, as each commit waits for the disk
#define BATCH_BYTES ((size_t)4 * 1024 * 1024) // … or as soon as they hold this much

void local_queue_wake(const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, WAKE_MODE);

        if (fd >= 0)
                (void)close(fd);
}

// ---- publishing ---------------------------------------------------------------------------

typedef struct Pending {
        Message message;
        uint64_t token;
} Pending;

typedef struct LocalPublisher {
        Publisher base;
        Store *store;
        char *queue;
        char *wake_path;
        Pending pending[BATCH_MESSAGES];
        size_t n_pending;
        size_t pending_bytes;
} LocalPublisher;

static LocalPublisher *to_local(Publisher *publisher)
{
        return CONTAINER_OF(publisher, LocalPublisher, base);
}

static int push_pending(LocalPublisher *publisher, Error *err)
{
        int r = store_begin(publisher->store, err);

        for (size_t at = 0; r == 0 && at < publisher->n_pending; at++)
                r = store_queue_push(publisher->store, publisher->queue,
                                     &publisher->pending[at].message, err);
        if (r == 0)
                r = store_commit(publisher->store, err);
        if (r < 0)
                store_rollback(publisher->store);
        return r;
}

static void settle_pending(LocalPublisher *publisher, const Error *err)
{
        uint64_t tokens[BATCH_MESSAGES];
        size_t n = publisher->n_pending;

        for (size_t at = 0; at < n; at++) {
                tokens[at] = publisher->pending[at].token;
                message_done(&publisher->pending[at].message);
        }
        publisher->n_pending = publisher->pending_bytes = 0;
        // Only now: a callback may publish.
        for (size_t at = 0; at < n; at++)
                publisher->base.done(tokens[at], err, publisher->base.userdata);
}

static int local_process(Publisher *base, Error *err)
{
        LocalPublisher *publisher = to_local(base);
        Error why = ERROR_NONE;
        int r;

        if (!publisher->n_pending)
                return 0;
        r = push_pending(publisher, &why);
        if (r == 0)
                local_queue_wake(publisher->wake_path);
        settle_pending(publisher, r < 0 ? &why : NULL);
        if (r < 0 && err)
                *err = why;
        return r;
}

static int local_send(Publisher *base, const Message *message, uint64_t token, Error *err)
{
        LocalPublisher *publisher = to_local(base);
        Pending *pending;
        Error too_big = ERROR_NONE;

        if (message->body_len > MESSAGE_MAX_BYTES) {
                // This message cannot be sent; the next one can.
                (void)error_set(&too_big, EMSGSIZE, "the message has %zu bytes; %u is the limit",
                                message->body_len, MESSAGE_MAX_BYTES);
                base->done(token, &too_big, base->userdata);
                return 0;
        }
        if (publisher->n_pending == BATCH_MESSAGES || publisher->pending_bytes >= BATCH_BYTES) {
                int r = local_process(base, err);

                if (r < 0)
                        return r;
        }
        pending = &publisher->pending[publisher->n_pending++];
        message_copy(message, &pending->message);
        pending->token = token;
        publisher->pending_bytes += message->body_len;
        return 0;
}

static int local_fd(const Publisher *base)
{
        (void)base;
        return -1;
}

static int local_wait(Publisher *base, size_t most, int64_t timeout_ms, Error *err)
{
        (void)most;
        (void)timeout_ms; // the store has its own
        return local_process(base, err);
}

static size_t local_unconfirmed(const Publisher *base)
{
        return ((const LocalPublisher *)base)->n_pending; // base is its first member
}

static void local_close(Publisher *base)
{
        LocalPublisher *publisher = to_local(base);

        for (size_t at = 0; at < publisher->n_pending; at++)
                message_done(&publisher->pending[at].message);
        if (publisher->store)
                store_close(publisher->store);
        free(publisher->queue);
        free(publisher->wake_path);
        free(publisher);
}

static const PublisherOps local_publisher_ops = {
        .send = local_send,
        .fd = local_fd,
        .process = local_process,
        .wait = local_wait,
        .unconfirmed = local_unconfirmed,
        .close = local_close,
};

int publisher_open_local(const Config *config, const Publisher *base, Publisher **ret, Error *err)
{
        LocalPublisher *publisher = xcalloc(1, sizeof *publisher);
        int r;

        publisher->base = *base;
        publisher->base.ops = &local_publisher_ops;
        publisher->queue = xstrdup(config->global.queue);
        publisher->wake_path = fs_join(config->global.state_dir, LOCAL_QUEUE_WAKE_FILE);
        r = store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_WRITE, &publisher->store,
                       err);
        if (r < 0) {
                local_close(&publisher->base);
                return r;
        }
        *ret = &publisher->base;
        return 0;
}

// ---- looking ------------------------------------------------------------------------------

int queue_probe_local(const Config *config, int64_t *ret_ready, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        int r = store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_ONLY, &store, err);

        if (r == STORE_NOT_FOUND) {
                *ret_ready = -1;
                return 0;
        }
        return r < 0 ? r : store_queue_count(store, config->global.queue, ret_ready, err);
}
