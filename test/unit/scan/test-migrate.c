#include "../unit.h"

#include <errno.h>

#include "scan/cache.h"
#include "scan/migrate.h"
#include "util/alloc.h"

#define INDEX                                                                                      \
        "<?xml version='1.0' encoding='utf-8'?>\n<profiles>\n"                                     \
        "<profile mtime='11'>cached.cloud.json</profile>\n"                                        \
        "<profile mtime='12'>seen.cloud.json</profile>\n"                                          \
        "<profile mtime='13'>broken.cloud.json</profile>\n"                                        \
        "<profile mtime='14'>other.json</profile>\n"                                               \
        "</profiles>"

typedef struct Fixture {
        Store *store;
        ScanConfig config;
        ProfilePaths *ignore;
        DecisionRules rules;
} Fixture;

static void fixture_init(Fixture *fixture, char *folder)
{
        static char match[] = ".cloud.json";
        Error err = ERROR_NONE;
        int r;

        *fixture = (Fixture){
                .config =
                        {
                                .cache_dir = folder,
                                .profile_match = match,
                                .max_profile_bytes = 1000,
                                .max_index_bytes = 1000,
                        },
        };
        r = store_open(folder, STORE_PROFILES, STORE_READ_WRITE, &fixture->store, &err);
        assert_ok(r, err);
        r = decision_rules_init(&fixture->rules, &fixture->config, &fixture->ignore, &err);
        assert_ok(r, err);
}

static void fixture_done(Fixture *fixture)
{
        store_close(fixture->store);
        profile_paths_free(fixture->ignore);
}

#define _cleanup_fixture_ _cleanup_(fixture_done)

static void write_file(const Fixture *fixture, const char *name, const char *text)
{
        Error err = ERROR_NONE;
        int r = cache_write(fixture->config.cache_dir, name, text, strlen(text), &err);

        assert_ok(r, err);
}

static int migrate(Fixture *fixture, size_t *ret_n, Error *err)
{
        return migrate_python_cache(fixture->store, &fixture->config, &fixture->rules, ret_n, err);
}

static void get(const Fixture *fixture, const char *name, ProfileRecord *ret)
{
        Error err = ERROR_NONE;
        int r = store_profile_get(fixture->store, name, ret, &err);

        assert_ok(r, err);
        assert_int_equal(r, 0);
}

static void test_records(void **state)
{
        _cleanup_(profile_record_done) ProfileRecord cached, seen, broken;
        ProfileRecord other;
        _cleanup_fixture_ Fixture fixture;
        Error err = ERROR_NONE;
        size_t n = 0;
        int r;

        fixture_init(&fixture, *state);
        write_file(&fixture, CACHE_INDEX_NAME, INDEX);
        write_file(&fixture, "cached.cloud.json", "{\"a\": 1}");
        write_file(&fixture, "broken.cloud.json", "{\"a\": ");
        r = migrate(&fixture, &n, &err);
        assert_ok(r, err);
        assert_int_equal(r, 0);
        assert_int_equal(n, 3);
        get(&fixture, "cached.cloud.json", &cached);
        assert_int_equal(cached.mtime, 11);
        assert_true(cached.has_content);
        assert_null(cached.error);
        assert_true(checksum_matches(&cached.raw, "{\"a\": 1}", 8));
        // To be fetched, as their content is not known.
        get(&fixture, "seen.cloud.json", &seen);
        assert_int_equal(seen.mtime, 12);
        assert_false(seen.has_content);
        assert_string_equal(seen.error, MIGRATE_NOT_FETCHED);
        get(&fixture, "broken.cloud.json", &broken);
        assert_false(broken.has_content);
        assert_int_equal(store_profile_get(fixture.store, "other.json", &other, &err),
                         STORE_NOT_FOUND);
}

static void test_nothing_to_take_over(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        Error err = ERROR_NONE;
        size_t n = 0;

        fixture_init(&fixture, *state);
        assert_int_equal(migrate(&fixture, &n, &err), MIGRATE_NOTHING);
}

static void test_damaged_index(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        Error err = ERROR_NONE;
        size_t n = 0;

        fixture_init(&fixture, *state);
        write_file(&fixture, CACHE_INDEX_NAME, "<html/>");
        assert_int_equal(migrate(&fixture, &n, &err), -EBADMSG);
        assert_contains(err.text, CACHE_INDEX_NAME);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_records),
                unit_test_in_folder(test_nothing_to_take_over),
                unit_test_in_folder(test_damaged_index),
        };

        return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
