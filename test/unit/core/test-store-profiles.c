#include "unit_store.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/hash.h"

static Digest digest(const char *text)
{
        Digest result;

        digest_sha256(text, strlen(text), &result);
        return result;
}

static Checksum checksum(const char *text)
{
        Checksum result;

        checksum_of(text, strlen(text), &result);
        return result;
}

static void put(Store *store, const ProfileRecord *record)
{
        Error err = ERROR_NONE;

        assert_ok(store_profile_put(store, record, &err), err);
}

static ProfileRecord get(Store *store, const char *name)
{
        ProfileRecord record = {0};
        Error err = ERROR_NONE;
        int r = store_profile_get(store, name, &record, &err);

        assert_ok(r, err);
        assert_int_equal(r, 0);
        return record;
}

static void test_whole_record_comes_back(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        char words[] = "404 for https://aquilon/profiles/a.json";
        const ProfileRecord in = {.name = "profiles/o'neil;\"$NAME\".json",
                                  .mtime = INT64_C(1732300000123),
                                  .raw = checksum("raw"),
                                  .content = {{UINT64_C(0x0102030405060708), UINT64_MAX}},
                                  .ignore = digest("ignore"),
                                  .in_order = true,
                                  .has_content = true,
                                  .has_id = true,
                                  .error = words};
        ProfileRecord out = {0};

        put(store, &in);
        out = get(store, in.name);
        assert_ptr_equal(out.name, in.name);
        assert_int_equal(out.mtime, in.mtime);
        assert_true(out.has_content);
        assert_true(checksum_matches(&out.raw, "raw", 3));
        assert_true(out.has_id);
        assert_true(out.in_order);
        assert_true(content_id_equal(&out.content, &in.content));
        assert_true(digest_equal(&out.ignore, &in.ignore));
        assert_string_equal(out.error, words);
        profile_record_done(&out);
        assert_null(out.error);
        profile_record_done(&out);
}

// A version before had SHA-256 for all three.
static void test_checksum_of_either_kind(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        ProfileRecord record = {.name = "a.json", .has_content = true};

        record.raw.len = CHECKSUM_SHA256_BYTES;
        memcpy(record.raw.bytes, digest("raw").bytes, CHECKSUM_SHA256_BYTES);
        put(store, &record);
        record = get(store, "a.json");
        assert_true(record.has_content);
        assert_int_equal(record.raw.len, CHECKSUM_SHA256_BYTES);
        assert_true(checksum_matches(&record.raw, "raw", 3));
}

static void test_record_without_content(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        ProfileRecord record = {.name = "a.json", .mtime = 5, .raw = checksum("never stored")};

        put(store, &record);
        record = get(store, "a.json");
        assert_false(record.has_content);
        assert_null(record.error);
        assert_int_equal(record.raw.len, 0);
        assert_int_equal(record.mtime, 5);
}

static void test_put_replaces_and_delete_deletes(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        ProfileRecord record = {.name = "a.json", .mtime = 1, .has_content = true};
        Error err = ERROR_NONE;

        put(store, &record);
        record.mtime = 2;
        record.has_content = false;
        put(store, &record);
        record = get(store, "a.json");
        assert_int_equal(record.mtime, 2);
        assert_false(record.has_content);
        assert_int_equal(number(store, "SELECT count(*) FROM profile"), 1);

        assert_ok(store_profile_delete(store, "a.json", &err), err);
        assert_ok(store_profile_delete(store, "a.json", &err), err);
        assert_int_equal(store_profile_get(store, "a.json", &record, &err), STORE_NOT_FOUND);
}

// One of an earlier version, which had 32 bytes: it is known that there is content, and which
// bytes. Neither does a record of which only the error is new become another.
static void test_content_id_of_another_size(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        const ProfileRecord in = {.name = "a.json",
                                  .raw = checksum("raw"),
                                  .has_content = true,
                                  .has_id = true,
                                  .in_order = true};

        put(store, &in);
        run_sql(store, "UPDATE profile SET content = zeroblob(32)");
        for (int again = 0; again < 2; again++) {
                ProfileRecord out = get(store, "a.json");

                assert_true(out.has_content);
                assert_true(checksum_matches(&out.raw, "raw", 3));
                assert_false(out.has_id);
                assert_false(out.in_order);
                put(store, &out);
        }
}

// A file as the first version made it.
static void test_file_of_the_first_version(void **state)
{
        Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        const ProfileRecord in = {
                .name = "a.json", .raw = checksum("raw"), .has_content = true, .has_id = true};
        ProfileRecord out;

        put(store, &in);
        run_sql(store, "ALTER TABLE profile DROP COLUMN in_order; PRAGMA user_version = 1");
        store_close(store);
        store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        out = get(store, "a.json");
        assert_true(out.has_id);
        assert_false(out.in_order);
        store_close(store);
}

typedef struct Walk {
        int n, n_errors;
        int stop_after; // 0: never
        int64_t mtimes;
        Store *writer; // NULL: only look
} Walk;

static int visit(const ProfileRecord *record, void *userdata)
{
        Walk *walk = userdata;

        walk->n++;
        walk->n_errors += record->error != NULL;
        walk->mtimes += record->mtime;
        assert_non_null(record->name);
        if (walk->writer)
                put(walk->writer, record);
        return walk->n == walk->stop_after ? -ECANCELED : 0;
}

static void test_walk_sees_each_and_can_stop(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        char words[] = "truncated";
        ProfileRecord record = {0};
        Walk walk = {0}, stopped = {.stop_after = 3}, writing = {.writer = store};
        Error err = ERROR_NONE;

        for (int at = 1; at <= 10; at++) {
                _cleanup_free_ char *name = xasprintf("host%d.json", at);

                record.name = name;
                record.mtime = at;
                record.error = at % 5 == 0 ? words : NULL;
                put(store, &record);
        }
        assert_ok(store_profiles_each(store, visit, &walk, &err), err);
        assert_int_equal(walk.n, 10);
        assert_int_equal(walk.n_errors, 2);
        assert_int_equal(walk.mtimes, 55);
        assert_int_equal(store_profiles_each(store, visit, &stopped, &err), -ECANCELED);
        assert_int_equal(stopped.n, 3);
        // A walk that writes what it visits.
        assert_ok(store_profiles_each(store, visit, &writing, &err), err);
        assert_int_equal(number(store, "SELECT count(*) FROM profile"), 10);
}

static void test_meta_is_set_replaced_and_unset(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        static const char *const values[] = {"\"5f-61\"", "", "W/\"5f-62\"", NULL, NULL};
        Error err = ERROR_NONE;

        for (size_t at = 0; at < ELEMENTSOF(values); at++) {
                _cleanup_free_ char *value = NULL;

                assert_ok(store_meta_set(store, "index_etag", values[at], &err), err);
                assert_ok(store_meta_get(store, "index_etag", &value, &err), err);
                if (values[at])
                        assert_string_equal(value, values[at]);
                else
                        assert_null(value);
        }
}

static void test_two_connections_see_what_was_committed(void **state)
{
        _cleanup_store_ Store *scanner = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_store_ Store *reader = open_store(*state, STORE_PROFILES, STORE_READ_ONLY);
        const ProfileRecord record = {.name = "a.json", .mtime = 1};
        ProfileRecord seen;
        Error err = ERROR_NONE;

        assert_ok(store_begin(scanner, &err), err);
        put(scanner, &record);
        assert_int_equal(store_profile_get(reader, "a.json", &seen, &err), STORE_NOT_FOUND);
        assert_ok(store_commit(scanner, &err), err);
        assert_int_equal(get(reader, "a.json").mtime, 1);
        assert_int_equal(store_profile_put(reader, &record, &err), -EROFS);
        assert_int_equal(store_profile_delete(reader, "a.json", &err), -EROFS);
}

// A file of which only the table is lost: every function says so and names the file.
static void test_every_function_reports_a_failure(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        ProfileRecord record = {.name = "a.json"};
        _cleanup_free_ char *value = NULL;
        Walk walk = {0};
        Error err = ERROR_NONE;

        run_sql(store, "DROP TABLE profile; DROP TABLE meta");
        assert_true(store_profile_get(store, "a.json", &record, &err) < 0);
        assert_contains(err.text, "profiles.db: cannot read a profile");
        assert_true(store_profile_put(store, &record, &err) < 0);
        assert_contains(err.text, "cannot write a profile");
        assert_true(store_profile_delete(store, "a.json", &err) < 0);
        assert_contains(err.text, "cannot delete a profile");
        assert_true(store_profiles_each(store, visit, &walk, &err) < 0);
        assert_contains(err.text, "cannot read the profiles");
        assert_true(store_meta_get(store, "k", &value, &err) < 0);
        assert_true(store_meta_set(store, "k", "v", &err) < 0);
        assert_true(store_meta_set(store, "k", NULL, &err) < 0);
        assert_contains(err.text, "cannot delete a value");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_whole_record_comes_back),
                unit_test_in_folder(test_checksum_of_either_kind),
                unit_test_in_folder(test_record_without_content),
                unit_test_in_folder(test_put_replaces_and_delete_deletes),
                unit_test_in_folder(test_content_id_of_another_size),
                unit_test_in_folder(test_file_of_the_first_version),
                unit_test_in_folder(test_walk_sees_each_and_can_stop),
                unit_test_in_folder(test_meta_is_set_replaced_and_unset),
                unit_test_in_folder(test_two_connections_see_what_was_committed),
                unit_test_in_folder(test_every_function_reports_a_failure),
        };

        return cmocka_run_group_tests_name("store-profiles", tests, NULL, NULL);
}
