// What became of a message, and the copies of it that the broker holds for us.
#include "core/store_internal.h"
#include "util/alloc.h"

#define WORKER_ID_KEY "worker_id"

// ---- messages ------------------------------------------------------------------------------

static int is_given_away(Store *store, const char *message_id, Error *err)
{
        static const char sql[] =
                "SELECT 1 FROM build AS a WHERE message_id = ? AND state = 'interrupted'"
                " AND NOT EXISTS (SELECT 1 FROM build AS b WHERE b.message_id = a.message_id"
                "  AND b.id > a.id AND b.image IS a.image AND b.template IS a.template) LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, message_id);
        return query_step(&query, "look for a message's builds", err);
}

int store_message_fate(Store *store, const char *message_id, MessageFate *ret, int64_t *ret_id,
                       Error *err)
{
        static const char sql[] =
                "SELECT max(id), sum(ended_ms IS NULL) FROM build WHERE message_id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, message_id);
        r = query_step(&query, "look for a message's builds", err);
        if (r < 0)
                return r;
        *ret_id = query_column_int(&query, 0, 0);
        *ret = MESSAGE_NEW;
        if (!*ret_id)
                return 0;
        *ret = MESSAGE_UNFINISHED;
        if (query_column_int(&query, 1, 0))
                return 0;
        r = is_given_away(store, message_id, err);
        if (r < 0)
                return r;
        *ret = r == QUERY_ROW ? MESSAGE_GIVEN_AWAY : MESSAGE_OVER;
        return 0;
}

int store_message_get(Store *store, const char *message_id, Message *ret, Error *err)
{
        static const char sql[] = "SELECT body, entry, content_id, changes FROM build"
                                  " WHERE message_id = ? AND body IS NOT NULL LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, message_id);
        r = query_step(&query, "look for a message", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret = (Message){0};
        r = store_body_read(store, query_column_int(&query, 0, 0), &ret->body, &ret->body_len, err);
        if (r < 0)
                return r;
        ret->message_id = xstrdup(message_id);
        ret->entry = query_column_text(&query, 1);
        ret->content_id = query_column_text(&query, 2);
        ret->changes = query_column_text(&query, 3);
        return 0;
}

// ---- leases --------------------------------------------------------------------------------

static int visit(const Query *query, StoreLeaseFn fn, void *userdata)
{
        _cleanup_free_ char *message_id = query_column_text(query, 1);
        _cleanup_free_ char *app_id = query_column_text(query, 2);
        const LeaseRecord record = {.slot = query_column_int(query, 0, 0),
                                    .message_id = message_id,
                                    .app_id = app_id,
                                    .timestamp = query_column_int(query, 3, 0),
                                    .ends_ms = query_column_int(query, 4, 0)};

        return fn(&record, userdata);
}

int store_leases_each(Store *store, StoreLeaseFn fn, void *userdata, Error *err)
{
        _cleanup_query_ Query query =
                query_new(store, "SELECT slot, message_id, app_id, timestamp, ends_ms FROM lease"
                                 " ORDER BY slot");
        int r;

        while ((r = query_step(&query, "read the leases", err)) == QUERY_ROW) {
                r = visit(&query, fn, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

int store_lease_put(Store *store, const LeaseRecord *record, Error *err)
{
        static const char sql[] = "INSERT OR REPLACE INTO lease"
                                  " (slot, message_id, app_id, timestamp, ends_ms)"
                                  " VALUES (?, ?, ?, ?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, record->slot);
        query_text(&query, record->message_id);
        query_text(&query, record->app_id);
        query_int(&query, record->timestamp);
        query_int_or_null(&query, record->ends_ms, 0);
        return query_run(&query, "write a lease", err);
}

int store_lease_delete(Store *store, int64_t slot, Error *err)
{
        static const char sql[] = "DELETE FROM lease WHERE slot = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, slot);
        return query_run(&query, "delete a lease", err);
}

int store_worker_id(Store *store, char **ret, Error *err)
{
        _cleanup_free_ char *id = NULL;
        int r = store_meta_get(store, WORKER_ID_KEY, &id, err);

        if (r == 0 && !id) {
                id = message_new_id();
                r = store_meta_set(store, WORKER_ID_KEY, id, err);
        }
        if (r == 0)
                *ret = TAKE_PTR(id);
        return r;
}
