// Statements: prepared once for each connection, bound, stepped, and their failures put in words.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/store_internal.h"
#include "util/alloc.h"

typedef struct SqlFailure {
        int rc; // SQLite's primary result code
        int code;
        const char *advice;
} SqlFailure;

static const SqlFailure failures[] = {
        {SQLITE_BUSY, EBUSY, "another process keeps it locked; see who with fuser(1)"},
        {SQLITE_FULL, ENOSPC, "make room on its file system"},
        {SQLITE_READONLY, EROFS, "check the permissions of the file and its folder"},
        {SQLITE_PERM, EACCES, "check the permissions of the file and its folder"},
        {SQLITE_CANTOPEN, EIO, "check the permissions of the file and its folder"},
        {SQLITE_IOERR, EIO, "check the disk"},
        {SQLITE_CORRUPT, EUCLEAN,
         "the file is damaged: stop the programs, move it and its -wal and -shm away, restore a "
         "copy or start without"},
        {SQLITE_NOTADB, EBADMSG,
         "it is damaged or belongs to another program: move it away, or set another STATE_DIR"},
        {SQLITE_NOMEM, ENOMEM, NULL},
        {SQLITE_TOOBIG, EFBIG, NULL},
        {SQLITE_CONSTRAINT, EEXIST, NULL},
};

static SqlFailure look_up(int rc)
{
        for (size_t at = 0; at < ELEMENTSOF(failures); at++) {
                if (failures[at].rc == rc)
                        return failures[at];
        }
        return (SqlFailure){rc, EIO, NULL};
}

int store_fail(Store *store, Error *err, const char *action)
{
        Error local = ERROR_NONE;
        SqlFailure failure = look_up(sqlite3_errcode(store->db) & 0xFF);
        int os_error = sqlite3_system_errno(store->db);

        // The system's reason says more where there is one, but is left over from an earlier
        // failure where there is none.
        if ((failure.rc != SQLITE_CANTOPEN && failure.rc != SQLITE_IOERR) || os_error <= 0)
                os_error = 0;
        if (os_error)
                failure.code = os_error;
        (void)error_set(&local, failure.code, "%s: cannot %s: %s%s%s%s%s", store->path, action,
                        sqlite3_errmsg(store->db), os_error ? ": " : "",
                        os_error ? strerror(os_error) : "", failure.advice ? "; " : "",
                        failure.advice ? failure.advice : "");
        if (store->in_transaction && !store->failure.code)
                store->failure = local;
        if (err)
                *err = local;
        return -local.code;
}

// ---- the cache -----------------------------------------------------------------------------

static int prepare(Store *store, const char *sql, unsigned flags, sqlite3_stmt **ret)
{
        return sqlite3_prepare_v3(store->db, sql, -1, flags, ret, NULL);
}

Query query_new(Store *store, const char *sql)
{
        Query query = {.store = store};

        query.failed = prepare(store, sql, 0, &query.stmt) != SQLITE_OK;
        return query;
}

Query query_cached(Store *store, const char *sql)
{
        Query query = {.store = store, .cached = true};

        for (size_t at = 0; at < store->n_statements; at++) {
                if (store->statements[at].sql == sql) {
                        query.stmt = store->statements[at].stmt;
                        return query;
                }
        }
        query.failed = prepare(store, sql, SQLITE_PREPARE_PERSISTENT, &query.stmt) != SQLITE_OK;
        if (!query.failed) {
                store->statements = xreallocarray(store->statements, store->n_statements + 1,
                                                  sizeof *store->statements);
                store->statements[store->n_statements++] = (CachedStatement){sql, query.stmt};
        }
        return query;
}

// The results repeat what the last step has reported.
void query_done(Query *query)
{
        if (!query->cached) {
                (void)sqlite3_finalize(query->stmt);
        } else if (query->stmt) {
                (void)sqlite3_reset(query->stmt);
                (void)sqlite3_clear_bindings(query->stmt);
        }
        query->stmt = NULL;
}

// ---- parameters ----------------------------------------------------------------------------

static void note_bind(Query *query, int rc)
{
        if (rc != SQLITE_OK)
                query->failed = true;
}

// What is bound is borrowed and not copied: it outlives the query.
void query_text(Query *query, const char *value)
{
        if (!value)
                query_null(query);
        else if (!query->failed)
                note_bind(query, sqlite3_bind_text64(query->stmt, ++query->n_bound, value,
                                                     strlen(value), SQLITE_STATIC, SQLITE_UTF8));
}

void query_int(Query *query, int64_t value)
{
        if (!query->failed)
                note_bind(query, sqlite3_bind_int64(query->stmt, ++query->n_bound, value));
}

void query_int_or_null(Query *query, int64_t value, int64_t null_value)
{
        if (value == null_value)
                query_null(query);
        else
                query_int(query, value);
}

void query_blob(Query *query, const void *data, size_t len)
{
        // A NULL pointer would bind SQL's NULL instead of an empty value.
        if (!query->failed)
                note_bind(query, sqlite3_bind_blob64(query->stmt, ++query->n_bound, len ? data : "",
                                                     len, SQLITE_STATIC));
}

void query_null(Query *query)
{
        if (!query->failed)
                note_bind(query, sqlite3_bind_null(query->stmt, ++query->n_bound));
}

// ---- running -------------------------------------------------------------------------------

int query_step(Query *query, const char *action, Error *err)
{
        Store *store = query->store;
        int rc;

        if (query->failed)
                return store_fail(store, err, action);
        if (store->failure.code && !sqlite3_stmt_readonly(query->stmt)) {
                if (err)
                        *err = store->failure;
                return -store->failure.code;
        }
        rc = sqlite3_step(query->stmt);
        if (rc == SQLITE_ROW)
                return QUERY_ROW;
        return rc == SQLITE_DONE ? 0 : store_fail(store, err, action);
}

int query_run(Query *query, const char *action, Error *err)
{
        int r = query_step(query, action, err);

        return r < 0 ? r : 0;
}

int64_t query_column_int(const Query *query, int at, int64_t if_null)
{
        if (sqlite3_column_type(query->stmt, at) == SQLITE_NULL)
                return if_null;
        return sqlite3_column_int64(query->stmt, at);
}

char *query_column_text(const Query *query, int at)
{
        const unsigned char *text = sqlite3_column_text(query->stmt, at);

        if (!text)
                return NULL;
        return xstrndup((const char *)text, (size_t)sqlite3_column_bytes(query->stmt, at));
}
