// Message bodies, once for each content. A body of 100 MB is written once from the queue to the end
// of its last build, and read straight into the memory that the caller gets.
#include <errno.h>
#include <limits.h>

#include "core/store_internal.h"
#include "util/alloc.h"
#include "util/hash.h"

static int find(Store *store, const Digest *digest, int64_t *ret_id, Error *err)
{
        static const char sql[] = "SELECT id FROM body WHERE digest = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_blob(&query, digest->bytes, sizeof digest->bytes);
        r = query_step(&query, "look for a message body", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret_id = query_column_int(&query, 0, 0);
        return 0;
}

int store_body_add(Store *store, const char *body, size_t len, int64_t *ret_id, Error *err)
{
        static const char sql[] = "INSERT INTO body (digest, content) VALUES (?, ?)";
        _cleanup_query_ Query query = {0};
        Digest digest;
        int r;

        digest_sha256(body, len, &digest);
        r = find(store, &digest, ret_id, err);
        if (r != STORE_NOT_FOUND)
                return r;
        query = query_cached(store, sql);
        query_blob(&query, digest.bytes, sizeof digest.bytes);
        query_blob(&query, body, len);
        r = query_run(&query, "write a message body", err);
        if (r == 0)
                *ret_id = sqlite3_last_insert_rowid(store->db);
        return r;
}

int store_body_read(Store *store, int64_t id, char **ret, size_t *ret_len, Error *err)
{
        _cleanup_free_ char *body = NULL;
        sqlite3_blob *blob = NULL;
        int len, rc;

        if (sqlite3_blob_open(store->db, "main", "body", "content", id, 0, &blob) != SQLITE_OK)
                return store_fail(store, err, "read a message body");
        len = sqlite3_blob_bytes(blob);
        body = xmalloc((size_t)len + 1);
        rc = sqlite3_blob_read(blob, body, len, 0);
        if (rc != SQLITE_OK) {
                int r = store_fail(store, err, "read a message body");

                (void)sqlite3_blob_close(blob);
                return r;
        }
        (void)sqlite3_blob_close(blob);
        body[len] = '\0';
        *ret = TAKE_PTR(body);
        *ret_len = (size_t)len;
        return 0;
}

int store_body_drop(Store *store, int64_t id, Error *err)
{
        static const char sql[] = "DELETE FROM body WHERE id = ?1"
                                  " AND NOT EXISTS (SELECT 1 FROM message WHERE body = ?1)"
                                  " AND NOT EXISTS (SELECT 1 FROM build WHERE body = ?1)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, id);
        return query_run(&query, "delete a message body", err);
}
