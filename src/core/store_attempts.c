// What earlier builds of an image say about the next, and what operators ask of a worker.
#include "core/store_internal.h"

int store_build_count_failures(Store *store, const char *image, const char *template,
                               const char *failure, int64_t *ret, Error *err)
{
        static const char sql[] =
                "SELECT count(*) FROM build WHERE image = ?1 AND template = ?2"
                " AND state = 'failed' AND failure = ?3 AND id > coalesce("
                "  (SELECT max(id) FROM build WHERE image = ?1 AND template = ?2"
                "   AND (state = 'succeeded' OR (state = 'failed' AND failure IS NOT ?3))), 0)";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, image);
        query_text(&query, template);
        query_text(&query, failure);
        r = query_step(&query, "count an image's failures", err);
        if (r < 0)
                return r;
        *ret = query_column_int(&query, 0, 0);
        return 0;
}

int store_build_last_failed(Store *store, const char *image, const char *template, Build *ret,
                            Error *err)
{
        static const char sql[] = "SELECT id, state FROM build WHERE image = ? AND template = ?"
                                  " AND state IN ('failed', 'succeeded')"
                                  " ORDER BY id DESC LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);
        _cleanup_free_ char *state = NULL;
        BuildState last;
        int r;

        query_text(&query, image);
        query_text(&query, template);
        r = query_step(&query, "look for an image's last failure", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        state = query_column_text(&query, 1);
        if (!build_state_from_name(state, &last) || last != BUILD_FAILED)
                return STORE_NOT_FOUND;
        return store_build_get(store, query_column_int(&query, 0, 0), ret, err);
}

int store_build_last_started(Store *store, const char *image, const char *template, int64_t *ret_ms,
                             int64_t *ret_id, Error *err)
{
        static const char sql[] = "SELECT started_ms, id FROM build WHERE image = ?"
                                  " AND template = ? AND state IN ('building', 'succeeded')"
                                  " ORDER BY id DESC LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, image);
        query_text(&query, template);
        r = query_step(&query, "look for an image's last start", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret_ms = query_column_int(&query, 0, 0);
        *ret_id = query_column_int(&query, 1, 0);
        return 0;
}

int store_cancel_request(Store *store, int64_t build, const char *by, Error *err)
{
        static const char sql[] = "INSERT OR REPLACE INTO cancel_request (build, by) VALUES (?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, build);
        query_text(&query, by);
        return query_run(&query, "ask for a cancel", err);
}

int store_cancel_next(Store *store, int64_t after, int64_t *ret_build, char **ret_by, Error *err)
{
        static const char sql[] =
                "SELECT build, by FROM cancel_request WHERE build > ? ORDER BY build LIMIT 1";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_int(&query, after);
        r = query_step(&query, "look for requests to cancel", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret_build = query_column_int(&query, 0, 0);
        *ret_by = query_column_text(&query, 1);
        return 0;
}

int store_cancel_drop(Store *store, int64_t build, Error *err)
{
        static const char sql[] = "DELETE FROM cancel_request WHERE build = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, build);
        return query_run(&query, "drop a request to cancel", err);
}
