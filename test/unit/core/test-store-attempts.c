#include "unit_store.h"

#include <errno.h>

#include "util/alloc.h"

#define IMAGE "web-sl7x"
#define TEMPLATE "managed.json"

typedef struct Case {
        const char *image, *template;
        BuildEvent end;
        const char *failure;
} Case;

// A build that was started at `now_ms` and has ended as told; its id.
static int64_t add_build(Store *store, const Case *c, int64_t now_ms)
{
        _cleanup_(build_done) Build build = {.build_id = message_new_id(),
                                             .image = xstrdup(c->image),
                                             .template = xstrdup(c->template),
                                             .attempt = 1,
                                             .exit_code = -1};
        Error err = ERROR_NONE;

        assert_ok(store_build_insert(store, &build, "{}", 2, &err), err);
        if (c->end == BUILD_EVENT_START || build_state_next(BUILD_BUILDING, c->end) >= 0)
                assert_ok(store_build_transition(store, &build, BUILD_EVENT_START, NULL, now_ms,
                                                 &err),
                          err);
        if (c->end == BUILD_EVENT_START)
                return build.id;
        build.failure = xstrdup(c->failure);
        assert_ok(store_build_transition(store, &build, c->end, "why", now_ms + 1, &err), err);
        return build.id;
}

static int64_t add(Store *store, BuildEvent end, const char *failure)
{
        return add_build(store, &(Case){IMAGE, TEMPLATE, end, failure}, 1000);
}

static int64_t failures(Store *store, const char *failure)
{
        Error err = ERROR_NONE;
        int64_t n = -1;

        assert_ok(store_build_count_failures(store, IMAGE, TEMPLATE, failure, &n, &err), err);
        return n;
}

// The id of the newest failed build, 0: none.
static int64_t last_failed(Store *store)
{
        _cleanup_(build_done) Build build = {0};
        Error err = ERROR_NONE;
        int r = store_build_last_failed(store, IMAGE, TEMPLATE, &build, &err);

        assert_ok(r, err);
        if (r == STORE_NOT_FOUND)
                return 0;
        assert_int_equal(build.state, BUILD_FAILED);
        assert_string_equal(build.image, IMAGE);
        return build.id;
}

static void test_failures_in_a_row(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        assert_int_equal(failures(store, "quota"), 0);
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        assert_int_equal(failures(store, "quota"), 2);
        assert_int_equal(failures(store, "template"), 0);
        // What is neither a success nor a failure does not count.
        (void)add(store, BUILD_EVENT_CANCEL, NULL);
        (void)add(store, BUILD_EVENT_INTERRUPT, NULL);
        (void)add(store, BUILD_EVENT_SKIP, NULL);
        (void)add(store, BUILD_EVENT_SUPERSEDE, NULL);
        (void)add(store, BUILD_EVENT_START, NULL);
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        assert_int_equal(failures(store, "quota"), 3);
        // Another failure ends the row, also one without signature.
        (void)add(store, BUILD_EVENT_FAIL, "template");
        assert_int_equal(failures(store, "quota"), 0);
        assert_int_equal(failures(store, "template"), 1);
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        (void)add(store, BUILD_EVENT_FAIL, NULL);
        assert_int_equal(failures(store, "quota"), 0);
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        assert_int_equal(failures(store, "quota"), 1);
        (void)add(store, BUILD_EVENT_SUCCEED, NULL);
        assert_int_equal(failures(store, "quota"), 0);
}

static void test_images_and_templates_are_apart(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const Case others[] = {{"db-sl7x", TEMPLATE, BUILD_EVENT_SUCCEED, NULL},
                               {IMAGE, "unmanaged.json", BUILD_EVENT_SUCCEED, NULL},
                               {IMAGE, "unmanaged.json", BUILD_EVENT_FAIL, "quota"},
                               {"db-sl7x", TEMPLATE, BUILD_EVENT_FAIL, "quota"}};
        int64_t id = add(store, BUILD_EVENT_FAIL, "quota");

        for (size_t at = 0; at < ELEMENTSOF(others); at++)
                (void)add_build(store, &others[at], 2000);
        assert_int_equal(failures(store, "quota"), 1);
        assert_int_equal(last_failed(store), id);
}

static void test_last_failed(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        int64_t id;

        assert_int_equal(last_failed(store), 0);
        (void)add(store, BUILD_EVENT_FAIL, "quota");
        id = add(store, BUILD_EVENT_FAIL, "template");
        assert_int_equal(last_failed(store), id);
        (void)add(store, BUILD_EVENT_CANCEL, NULL);
        assert_int_equal(last_failed(store), id);
        (void)add(store, BUILD_EVENT_SUCCEED, NULL);
        assert_int_equal(last_failed(store), 0);
}

static void test_last_started(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const Case succeeded = {IMAGE, TEMPLATE, BUILD_EVENT_SUCCEED, NULL};
        const Case failed = {IMAGE, TEMPLATE, BUILD_EVENT_FAIL, "quota"};
        const Case running = {IMAGE, TEMPLATE, BUILD_EVENT_START, NULL};
        const Case other = {IMAGE, "unmanaged.json", BUILD_EVENT_SUCCEED, NULL};
        int64_t ms = 0, id = 0, expected;
        Error err = ERROR_NONE;

        assert_int_equal(store_build_last_started(store, IMAGE, TEMPLATE, &ms, &id, &err),
                         STORE_NOT_FOUND);
        expected = add_build(store, &succeeded, 5000);
        (void)add_build(store, &failed, 6000);
        (void)add_build(store, &other, 7000);
        assert_int_equal(store_build_last_started(store, IMAGE, TEMPLATE, &ms, &id, &err), 0);
        assert_int_equal(id, expected);
        assert_int_equal(ms, 5000);
        expected = add_build(store, &running, 8000);
        assert_int_equal(store_build_last_started(store, IMAGE, TEMPLATE, &ms, &id, &err), 0);
        assert_int_equal(id, expected);
        assert_int_equal(ms, 8000);
}

static void assert_request(Store *store, int64_t after, int64_t expected_build,
                           const char *expected_by)
{
        _cleanup_free_ char *by = NULL;
        int64_t build = 0;
        Error err = ERROR_NONE;
        int r = store_cancel_next(store, after, &build, &by, &err);

        assert_ok(r, err);
        if (!expected_by) {
                assert_int_equal(r, STORE_NOT_FOUND);
                return;
        }
        assert_int_equal(build, expected_build);
        assert_string_equal(by, expected_by);
}

static void test_cancel_requests(void **state)
{
        _cleanup_store_ Store *worker = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *asker = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        assert_request(worker, 0, 0, NULL);
        assert_ok(store_cancel_request(asker, 7, "ann", &err), err);
        assert_ok(store_cancel_request(asker, 3, "bob", &err), err);
        assert_ok(store_cancel_request(asker, 7, "eve", &err), err);
        assert_request(worker, 0, 3, "bob");
        assert_request(worker, 2, 3, "bob");
        assert_request(worker, 3, 7, "eve");
        assert_request(worker, 7, 0, NULL);
        assert_ok(store_cancel_drop(worker, 3, &err), err);
        assert_request(worker, 0, 7, "eve");
        // A drop that was undone.
        assert_ok(store_begin(worker, &err), err);
        assert_ok(store_cancel_drop(worker, 7, &err), err);
        assert_request(worker, 0, 0, NULL);
        store_rollback(worker);
        assert_request(worker, 0, 7, "eve");
        // One that is not there.
        assert_ok(store_cancel_drop(worker, 8, &err), err);
}

static void test_cancel_while_locked(void **state)
{
        _cleanup_store_ Store *worker = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *other = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        assert_ok(store_cancel_request(worker, 7, "ann", &err), err);
        assert_int_equal(sqlite3_busy_timeout(worker->db, 1), SQLITE_OK);
        assert_ok(store_begin(other, &err), err);
        assert_int_equal(store_cancel_drop(worker, 7, &err), -EBUSY);
        assert_contains(err.text, "cannot drop a request to cancel");
        assert_int_equal(store_cancel_request(worker, 8, "ann", &err), -EBUSY);
        assert_contains(err.text, "cannot ask for a cancel");
        store_rollback(other);
        assert_request(worker, 0, 7, "ann");
}

static void test_every_function_reports_a_failure(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Build build = {0};
        char *by = NULL;
        int64_t n, id;
        Error err = ERROR_NONE;

        run_sql(store, "PRAGMA foreign_keys = OFF; DROP TABLE build; DROP TABLE cancel_request");
        assert_true(store_build_count_failures(store, IMAGE, TEMPLATE, "x", &n, &err) < 0);
        assert_contains(err.text, "builds.db: cannot count an image's failures");
        assert_true(store_build_last_failed(store, IMAGE, TEMPLATE, &build, &err) < 0);
        assert_true(store_build_last_started(store, IMAGE, TEMPLATE, &n, &id, &err) < 0);
        assert_contains(err.text, "cannot look for an image's last start");
        assert_true(store_cancel_request(store, 1, "ann", &err) < 0);
        assert_true(store_cancel_next(store, 0, &id, &by, &err) < 0);
        assert_contains(err.text, "cannot look for requests to cancel");
        assert_null(by);
        assert_true(store_cancel_drop(store, 1, &err) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_failures_in_a_row),
                unit_test_in_folder(test_images_and_templates_are_apart),
                unit_test_in_folder(test_last_failed),
                unit_test_in_folder(test_last_started),
                unit_test_in_folder(test_cancel_requests),
                unit_test_in_folder(test_cancel_while_locked),
                unit_test_in_folder(test_every_function_reports_a_failure),
        };

        return cmocka_run_group_tests_name("store-attempts", tests, NULL, NULL);
}
