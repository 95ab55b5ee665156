// What the store*.c files share: the connection, its statements, and how SQL fails.
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store.h"
#include "util/error.h"
#include "util/macro.h"

typedef struct CachedStatement {
        const char *sql; // a literal: statements are told apart by its address
        sqlite3_stmt *stmt;
} CachedStatement;

struct Store {
        sqlite3 *db;
        char *path;
        CachedStatement *statements;
        size_t n_statements;
        bool in_transaction; // between store_begin and its end
        Error failure;       // what went wrong in this transaction: it can only be rolled back
};

// ---- store_schema.c: the tables ----------------------------------------------------------------

typedef struct StoreSchema {
        const char *file_name;
        uint32_t application_id;  // in the file's header, so that no other file is taken for ours
        const char *const *steps; // SQL; a file of version n has had the first n of them
        int n_steps;
} StoreSchema;

extern const StoreSchema store_schemas[]; // by StoreKind

// store.c. Brings an empty or older file up to date, one transaction a step. The caller sees to it
// that no other process does.
int store_migrate(Store *store, const StoreSchema *schema, Error *err) must_check;

// ---- store_query.c: statements -----------------------------------------------------------------

// Fills err from the connection's last failure: "<path>: cannot <action>: <reason>; <what to do>".
// Ends the open transaction's hope: see Store.failure.
int store_fail(Store *store, Error *err, const char *action);

// One use of a statement. Parameters are bound in order, borrowed until query_done. A failure to
// prepare or to bind is reported by the first step, so that callers test one result.
typedef struct Query {
        Store *store;
        sqlite3_stmt *stmt;
        int n_bound;
        bool cached; // given back to the store instead of being finalized
        bool failed; // to prepare or to bind
} Query;

// For statements that run often; `sql` must be a literal with a place of its own. Not for loops
// that call out: the callback could need the same statement.
Query query_cached(Store *store, const char *sql);
Query query_new(Store *store, const char *sql);
void query_done(Query *query);
#define _cleanup_query_ _cleanup_(query_done)

void query_text(Query *query, const char *value); // NULL: SQL's NULL
void query_int(Query *query, int64_t value);
void query_int_or_null(Query *query, int64_t value, int64_t null_value);
void query_blob(Query *query, const void *data, size_t len);
void query_null(Query *query);

#define QUERY_ROW 1

// QUERY_ROW, 0 at the end, or negative; `action` completes "cannot …".
int query_step(Query *query, const char *action, Error *err) must_check;

// A statement that gives no rows, run to its end.
int query_run(Query *query, const char *action, Error *err) must_check;

// Columns of the row at hand.
int64_t query_column_int(const Query *query, int at, int64_t if_null);
char *query_column_text(const Query *query, int at); // a copy; NULL for SQL's NULL

// Several statements that belong together: within the caller's transaction if one is open,
// otherwise in one of their own. Usage:
//
//     r = store_atomic_begin(store, &own, err);
//     if (r == 0)
//             r = store_atomic_end(store, own, work(…), err);
int store_atomic_begin(Store *store, bool *ret_own, Error *err) must_check;
int store_atomic_end(Store *store, bool own, int r, Error *err) must_check;

// ---- store_bodies.c: message bodies, shared by queue and builds ---------------------------------

// The id of the body with this content; it is written if it is not there yet.
int store_body_add(Store *store, const char *body, size_t len, int64_t *ret_id,
                   Error *err) must_check;

// A copy, NUL-terminated; the caller frees.
int store_body_read(Store *store, int64_t id, char **ret, size_t *ret_len, Error *err) must_check;

// Deletes it unless a queued message or an unfinished build still refers to it.
int store_body_drop(Store *store, int64_t id, Error *err) must_check;
