#include "unit_store.h"

#include <errno.h>

static MessageFate fate(Store *store, const char *message_id, int64_t expected_id)
{
        MessageFate fate = MESSAGE_NEW;
        int64_t id = -1;
        Error err = ERROR_NONE;

        assert_ok(store_message_fate(store, message_id, &fate, &id, &err), err);
        assert_int_equal(id, expected_id);
        return fate;
}

static Build make_build_of(const char *build_id, const char *message_id, const char *image)
{
        Build build = make_build(build_id, image);

        replace_string(&build.message_id, message_id);
        return build;
}

// ---- what became of a message --------------------------------------------------------------

static void test_fate_follows_the_builds(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build one = make_build_of("u1", "m", "a"),
                              two = make_build_of("u2", "m", "b");

        assert_int_equal(fate(store, "m", 0), MESSAGE_NEW);
        (void)insert(store, &one, BODY);
        (void)insert(store, &two, BODY);
        assert_int_equal(fate(store, "m", two.id), MESSAGE_UNFINISHED);
        go(store, &two, BUILD_EVENT_SKIP, NULL, 1);
        assert_int_equal(fate(store, "m", two.id), MESSAGE_UNFINISHED);
        go(store, &one, BUILD_EVENT_SKIP, NULL, 1);
        assert_int_equal(fate(store, "m", two.id), MESSAGE_OVER);
        assert_int_equal(fate(store, "another", 0), MESSAGE_NEW);
}

static void test_interrupted_for_good_is_given_away(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build one = make_build_of("u1", "m", "a"),
                              two = make_build_of("u2", "m", "b"),
                              again = make_build_of("u3", "m", "a");

        (void)insert(store, &one, BODY);
        (void)insert(store, &two, BODY);
        go(store, &one, BUILD_EVENT_INTERRUPT, "its lease ran out", 1);
        assert_int_equal(fate(store, "m", two.id), MESSAGE_UNFINISHED);
        go(store, &two, BUILD_EVENT_START, NULL, 1);
        go(store, &two, BUILD_EVENT_SUCCEED, NULL, 1);
        // Its newest build succeeded, but that of another image.
        assert_int_equal(fate(store, "m", two.id), MESSAGE_GIVEN_AWAY);
        (void)insert(store, &again, BODY);
        go(store, &again, BUILD_EVENT_FAIL, NULL, 1);
        assert_int_equal(fate(store, "m", again.id), MESSAGE_OVER);
}

static void test_message_of_an_unfinished_build(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build_of("u1", "m", "a");
        _cleanup_(message_done) Message message = {0}, none = {0};
        Error err = ERROR_NONE;

        (void)insert(store, &build, BODY);
        assert_ok(store_message_get(store, "m", &message, &err), err);
        assert_string_equal(message.body, BODY);
        assert_int_equal(message.body_len, strlen(BODY));
        assert_string_equal(message.message_id, "m");
        assert_string_equal(message.entry, build.entry);
        assert_string_equal(message.content_id, build.content_id);
        assert_string_equal(message.changes, build.changes);
        go(store, &build, BUILD_EVENT_SKIP, NULL, 1);
        assert_int_equal(store_message_get(store, "m", &none, &err), STORE_NOT_FOUND);
        assert_int_equal(store_message_get(store, "n", &none, &err), STORE_NOT_FOUND);
}

// ---- leases --------------------------------------------------------------------------------

static int append_record(const LeaseRecord *record, void *userdata)
{
        char **text = userdata;
        char *longer =
                xasprintf("%s%lld %s %s %lld %lld\n", *text ? *text : "", (long long)record->slot,
                          record->message_id, record->app_id ? record->app_id : "-",
                          (long long)record->timestamp, (long long)record->ends_ms);

        free(*text);
        *text = longer;
        return 0;
}

static void assert_leases(Store *store, const char *expected)
{
        _cleanup_free_ char *text = xstrdup("");
        Error err = ERROR_NONE;

        assert_ok(store_leases_each(store, append_record, &text, &err), err);
        assert_string_equal(text, expected);
}

static int stop_walk(const LeaseRecord *record, void *userdata)
{
        (void)record;
        (void)userdata;
        return -ECANCELED;
}

static void test_leases_are_kept_by_slot(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const LeaseRecord one = {1, "m", "cdb2rabbit", 10, 0}, zero = {0, "n", NULL, 11, 5000},
                          held = {1, "m", "cdb2rabbit", 10, 9000};
        Error err = ERROR_NONE;

        assert_leases(store, "");
        assert_ok(store_lease_put(store, &one, &err), err);
        assert_ok(store_lease_put(store, &zero, &err), err);
        assert_leases(store, "0 n - 11 5000\n1 m cdb2rabbit 10 0\n");
        assert_ok(store_lease_put(store, &held, &err), err);
        assert_leases(store, "0 n - 11 5000\n1 m cdb2rabbit 10 9000\n");
        assert_int_equal(store_leases_each(store, stop_walk, NULL, &err), -ECANCELED);
        assert_ok(store_lease_delete(store, 0, &err), err);
        assert_ok(store_lease_delete(store, 7, &err), err);
        assert_leases(store, "1 m cdb2rabbit 10 9000\n");
}

static void test_worker_keeps_its_id(void **state)
{
        _cleanup_free_ char *first = NULL, *second = NULL;
        Error err = ERROR_NONE;

        for (int at = 0; at < 2; at++) {
                _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

                assert_ok(store_worker_id(store, at ? &second : &first, &err), err);
        }
        assert_int_equal(strlen(first), 36);
        assert_string_equal(first, second);
}

static void test_failures_have_words(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const LeaseRecord record = {1, "m", NULL, 10, 0};
        _cleanup_(message_done) Message message = {0};
        _cleanup_free_ char *id = NULL;
        MessageFate ignored;
        int64_t build;
        Error err = ERROR_NONE;

        run_sql(store, "DROP TABLE lease; DROP TABLE meta; DROP TABLE build");
        assert_true(store_lease_put(store, &record, &err) < 0);
        assert_contains(err.text, "cannot write a lease");
        assert_true(store_lease_delete(store, 1, &err) < 0);
        assert_contains(err.text, "cannot delete a lease");
        assert_true(store_leases_each(store, stop_walk, NULL, &err) < 0);
        assert_contains(err.text, "cannot read the leases");
        assert_true(store_worker_id(store, &id, &err) < 0);
        assert_true(store_message_fate(store, "m", &ignored, &build, &err) < 0);
        assert_true(store_message_get(store, "m", &message, &err) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_fate_follows_the_builds),
                unit_test_in_folder(test_interrupted_for_good_is_given_away),
                unit_test_in_folder(test_message_of_an_unfinished_build),
                unit_test_in_folder(test_leases_are_kept_by_slot),
                unit_test_in_folder(test_worker_keeps_its_id),
                unit_test_in_folder(test_failures_have_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
