// The local queue: rows in the order of their ids; a taken row keeps its place.
#include <errno.h>

#include "core/store_internal.h"
#include "util/alloc.h"

static int insert_message(Store *store, const char *queue, const Message *message, Error *err)
{
        static const char sql[] = "INSERT INTO message (queue, body, timestamp, message_id, app_id,"
                                  " entry, content_id, changes, reason)"
                                  " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        _cleanup_query_ Query query = {0};
        int64_t body;
        int r = store_body_add(store, message->body, message->body_len, &body, err);

        if (r < 0)
                return r;
        query = query_cached(store, sql);
        query_text(&query, queue);
        query_int(&query, body);
        query_int(&query, message->timestamp);
        query_text(&query, message->message_id);
        query_text(&query, message->app_id);
        query_text(&query, message->entry);
        query_text(&query, message->content_id);
        query_text(&query, message->changes);
        query_text(&query, message->reason);
        return query_run(&query, "queue a message", err);
}

int store_queue_push(Store *store, const char *queue, const Message *message, Error *err)
{
        bool own;
        int r = store_atomic_begin(store, &own, err);

        if (r < 0)
                return r;
        return store_atomic_end(store, own, insert_message(store, queue, message, err), err);
}

static int read_oldest(Store *store, const char *queue, int64_t *ret_id, Message *ret, Error *err)
{
        static const char sql[] =
                "SELECT id, body, timestamp, message_id, app_id, entry, content_id, changes, reason"
                " FROM message WHERE queue = ? AND taken = 0 ORDER BY id LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, queue);
        r = query_step(&query, "look into the queue", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        r = store_body_read(store, query_column_int(&query, 1, 0), &ret->body, &ret->body_len, err);
        if (r < 0)
                return r;
        *ret_id = query_column_int(&query, 0, 0);
        ret->timestamp = query_column_int(&query, 2, 0);
        ret->message_id = query_column_text(&query, 3);
        ret->app_id = query_column_text(&query, 4);
        ret->entry = query_column_text(&query, 5);
        ret->content_id = query_column_text(&query, 6);
        ret->changes = query_column_text(&query, 7);
        ret->reason = query_column_text(&query, 8);
        return 0;
}

// STORE_NOT_FOUND when another consumer was quicker.
static int mark_taken(Store *store, int64_t id, Error *err)
{
        static const char sql[] = "UPDATE message SET taken = 1 WHERE id = ? AND taken = 0";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_int(&query, id);
        r = query_run(&query, "take a message", err);
        if (r < 0)
                return r;
        return sqlite3_changes(store->db) ? 0 : STORE_NOT_FOUND;
}

// Read before it is marked: what cannot be read is not taken, and an empty queue, which is asked
// often, takes no lock.
int store_queue_take(Store *store, const char *queue, int64_t *ret_id, Message *ret, Error *err)
{
        int r;

        do {
                _cleanup_(message_done) Message message = {0};
                int64_t id = 0;

                r = read_oldest(store, queue, &id, &message, err);
                if (r != 0)
                        return r;
                r = mark_taken(store, id, err);
                if (r == 0) {
                        *ret_id = id;
                        *ret = message;
                        message = (Message){0};
                }
        } while (r == STORE_NOT_FOUND);
        return r;
}

static int delete_message(Store *store, int64_t id, Error *err)
{
        static const char sql[] = "DELETE FROM message WHERE id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, id);
        return query_run(&query, "remove a message", err);
}

static int find_body(Store *store, int64_t id, int64_t *ret_body, Error *err)
{
        static const char sql[] = "SELECT body FROM message WHERE id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_int(&query, id);
        r = query_step(&query, "look for a message", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret_body = query_column_int(&query, 0, 0);
        return 0;
}

static int remove_message(Store *store, int64_t id, Error *err)
{
        int64_t body;
        int r = find_body(store, id, &body, err);

        if (r != 0)
                return r < 0 ? r : 0;
        r = delete_message(store, id, err);
        return r < 0 ? r : store_body_drop(store, body, err);
}

int store_queue_remove(Store *store, int64_t id, Error *err)
{
        bool own;
        int r = store_atomic_begin(store, &own, err);

        if (r < 0)
                return r;
        return store_atomic_end(store, own, remove_message(store, id, err), err);
}

int store_queue_release(Store *store, int64_t id, Error *err)
{
        static const char sql[] = "UPDATE message SET taken = 0 WHERE id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, id);
        return query_run(&query, "give a message back to the queue", err);
}

int store_queue_release_all(Store *store, const char *queue, Error *err)
{
        static const char sql[] = "UPDATE message SET taken = 0 WHERE queue = ? AND taken <> 0";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, queue);
        return query_run(&query, "give the messages back to the queue", err);
}

int store_queue_count(Store *store, const char *queue, int64_t *ret, Error *err)
{
        static const char sql[] = "SELECT count(*) FROM message WHERE queue = ? AND taken = 0";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, queue);
        r = query_step(&query, "count the queue", err);
        if (r < 0)
                return r;
        *ret = query_column_int(&query, 0, 0);
        return 0;
}
