// What the tests of the store share.
#pragma once

#include "../unit.h"

#include "core/store_internal.h"
#include "util/alloc.h"

static inline Store *open_store(const char *folder, StoreKind kind, StoreMode mode)
{
        Error err = ERROR_NONE;
        Store *store = NULL;
        int r = store_open(folder, kind, mode, &store, &err);

        assert_ok(r, err);
        assert_int_equal(r, 0);
        return store;
}

static inline void run_sql(Store *store, const char *sql)
{
        if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s: %s", sql, sqlite3_errmsg(store->db));
}

// The number that a query gives.
static inline int64_t number(Store *store, const char *sql)
{
        _cleanup_query_ Query query = query_new(store, sql);
        Error err = ERROR_NONE;

        assert_int_equal(query_step(&query, "look", &err), QUERY_ROW);
        return query_column_int(&query, 0, -1);
}

// ---- builds --------------------------------------------------------------------------------

#define BODY "{\"system\": {}}"

static inline Build make_build(const char *build_id, const char *image)
{
        return (Build){.build_id = xstrdup(build_id),
                       .image = xstrdup(image),
                       .template = xstrdup("/etc/packer-utils/x.json"),
                       .personality = xstrdup("web"),
                       .entry = xstrdup("profiles/web1.json"),
                       .content_id = xstrdup("abcd"),
                       .message_id = xasprintf("message of %s", build_id),
                       .changes = xstrdup("/software/packages\n/system/os"),
                       .attempt = 1,
                       .queued_ms = 1000,
                       .exit_code = -1};
}

static inline int64_t insert(Store *store, Build *build, const char *body)
{
        Error err = ERROR_NONE;

        assert_ok(store_build_insert(store, build, body, strlen(body), &err), err);
        return build->id;
}

static inline void go(Store *store, Build *build, BuildEvent event, const char *reason,
                      int64_t now_ms)
{
        Error err = ERROR_NONE;

        assert_ok(store_build_transition(store, build, event, reason, now_ms, &err), err);
}

#define _cleanup_build_ _cleanup_(build_done)
