#include <errno.h>
#include <string.h>

#include "core/store_internal.h"
#include "util/alloc.h"

// ---- profiles ------------------------------------------------------------------------------

static int visit_profile(const Query *query, StoreProfileFn fn, void *userdata)
{
        _cleanup_free_ char *error = query_column_text(query, 2);
        const ProfileRecord record = {.name = (const char *)sqlite3_column_text(query->stmt, 0),
                                      .mtime = sqlite3_column_int64(query->stmt, 1),
                                      .error = error};

        return fn(&record, userdata);
}

int store_profiles_each(Store *store, StoreProfileFn fn, void *userdata, Error *err)
{
        _cleanup_query_ Query query = query_new(store, "SELECT name, mtime, error FROM profile");
        int r;

        while ((r = query_step(&query, "read the profiles", err)) == QUERY_ROW) {
                r = visit_profile(&query, fn, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

// False when the column is NULL; a value of another size cannot be ours.
static bool column_digest(const Query *query, int at, Digest *ret)
{
        const void *data = sqlite3_column_blob(query->stmt, at);

        if (!data || (size_t)sqlite3_column_bytes(query->stmt, at) != sizeof ret->bytes)
                return false;
        memcpy(ret->bytes, data, sizeof ret->bytes);
        return true;
}

// The same for a checksum, which has one of two sizes.
static bool column_checksum(const Query *query, int at, Checksum *ret)
{
        const void *data = sqlite3_column_blob(query->stmt, at);
        size_t len = (size_t)sqlite3_column_bytes(query->stmt, at);

        if (!data || (len != CHECKSUM_XXH3_BYTES && len != CHECKSUM_SHA256_BYTES))
                return false;
        *ret = (Checksum){.len = (uint8_t)len};
        memcpy(ret->bytes, data, len);
        return true;
}

// False also for the ids of an earlier version, which were longer.
static bool column_content_id(const Query *query, int at, ContentId *ret)
{
        const void *data = sqlite3_column_blob(query->stmt, at);

        if (!data || (size_t)sqlite3_column_bytes(query->stmt, at) != CONTENT_ID_BYTES)
                return false;
        content_id_from_bytes(data, ret);
        return true;
}

int store_profile_get(Store *store, const char *name, ProfileRecord *ret, Error *err)
{
        static const char sql[] =
                "SELECT mtime, error, raw, content, ignored, in_order FROM profile"
                " WHERE name = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        ProfileRecord record = {.name = name};
        int r;

        query_text(&query, name);
        r = query_step(&query, "read a profile", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        record.mtime = query_column_int(&query, 0, 0);
        record.error = query_column_text(&query, 1);
        record.has_content = column_checksum(&query, 2, &record.raw);
        record.has_id = record.has_content && column_content_id(&query, 3, &record.content) &&
                        column_digest(&query, 4, &record.ignore);
        record.in_order = record.has_id && query_column_int(&query, 5, 0);
        *ret = record;
        return 0;
}

void profile_record_done(ProfileRecord *record)
{
        free(TAKE_PTR(record->error));
}

static void bind_bytes(Query *query, bool known, const uint8_t *bytes, size_t len)
{
        if (known)
                query_blob(query, bytes, len);
        else
                query_null(query);
}

int store_profile_put(Store *store, const ProfileRecord *record, Error *err)
{
        static const char sql[] =
                "INSERT OR REPLACE INTO profile (name, mtime, error, raw, content, ignored,"
                " in_order) VALUES (?, ?, ?, ?, ?, ?, ?)";
        bool has_id = record->has_content && record->has_id;
        _cleanup_query_ Query query = query_cached(store, sql);
        uint8_t content[CONTENT_ID_BYTES];

        content_id_to_bytes(&record->content, content);
        query_text(&query, record->name);
        query_int(&query, record->mtime);
        query_text(&query, record->error);
        bind_bytes(&query, record->has_content, record->raw.bytes, record->raw.len);
        bind_bytes(&query, has_id, content, sizeof content);
        bind_bytes(&query, has_id, record->ignore.bytes, sizeof record->ignore.bytes);
        query_int(&query, has_id && record->in_order);
        return query_run(&query, "write a profile", err);
}

int store_profile_delete(Store *store, const char *name, Error *err)
{
        static const char sql[] = "DELETE FROM profile WHERE name = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, name);
        return query_run(&query, "delete a profile", err);
}

// ---- small values --------------------------------------------------------------------------

int store_meta_get(Store *store, const char *key, char **ret, Error *err)
{
        static const char sql[] = "SELECT value FROM meta WHERE key = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, key);
        r = query_step(&query, "read a value", err);
        if (r < 0)
                return r;
        *ret = r == QUERY_ROW ? query_column_text(&query, 0) : NULL;
        return 0;
}

static int meta_unset(Store *store, const char *key, Error *err)
{
        static const char sql[] = "DELETE FROM meta WHERE key = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, key);
        return query_run(&query, "delete a value", err);
}

int store_meta_set(Store *store, const char *key, const char *value, Error *err)
{
        static const char sql[] = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)";
        _cleanup_query_ Query query = {0};

        if (!value)
                return meta_unset(store, key, err);
        query = query_cached(store, sql);
        query_text(&query, key);
        query_text(&query, value);
        return query_run(&query, "write a value", err);
}
