// What the tests of the store share.
#pragma once

#include "../unit.h"

#include "core/store_internal.h"

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
