#include "unit_store.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/buf.h"

static Build get(Store *store, int64_t id)
{
        Build build = {0};
        Error err = ERROR_NONE;
        int r = store_build_get(store, id, &build, &err);

        assert_ok(r, err);
        assert_int_equal(r, 0);
        return build;
}

static bool has_body(Store *store, int64_t id, const char *expected)
{
        _cleanup_free_ char *body = NULL;
        size_t len = 0;
        Error err = ERROR_NONE;
        int r = store_build_body(store, id, &body, &len, &err);

        assert_ok(r, err);
        if (r == STORE_NOT_FOUND)
                return false;
        assert_int_equal(len, strlen(expected));
        assert_string_equal(body, expected);
        return true;
}

static int append_event(const BuildEventRecord *event, void *userdata)
{
        return buf_printf(userdata, "%lld %s%s%s\n", (long long)event->at_ms, event->what,
                          event->detail ? ": " : "", event->detail ? event->detail : "");
}

static void assert_history(Store *store, int64_t id, const char *expected)
{
        _cleanup_buf_ Buf text = BUF_INIT(4096);
        Error err = ERROR_NONE;

        assert_ok(store_build_events_each(store, id, append_event, &text, &err), err);
        assert_string_equal(buf_str(&text), expected);
}

static void assert_same(const char *a, const char *b)
{
        if (a && b)
                assert_string_equal(a, b);
        else
                assert_ptr_equal(a, b);
}

static void assert_same_build(const Build *a, const Build *b)
{
        assert_int_equal(a->id, b->id);
        assert_int_equal(a->state, b->state);
        assert_same(a->build_id, b->build_id);
        assert_same(a->image, b->image);
        assert_same(a->template, b->template);
        assert_same(a->personality, b->personality);
        assert_same(a->os, b->os);
        assert_same(a->source_image, b->source_image);
        assert_same(a->entry, b->entry);
        assert_same(a->content_id, b->content_id);
        assert_same(a->message_id, b->message_id);
        assert_same(a->changes, b->changes);
        assert_same(a->artifact, b->artifact);
        assert_same(a->reason, b->reason);
        assert_same(a->log_path, b->log_path);
        assert_int_equal(a->attempt, b->attempt);
        assert_int_equal(a->queued_ms, b->queued_ms);
        assert_int_equal(a->started_ms, b->started_ms);
        assert_int_equal(a->ended_ms, b->ended_ms);
        assert_int_equal(a->exit_code, b->exit_code);
}

// ---- one build -------------------------------------------------------------------------------

static void test_life_of_a_build(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "web-sl7x");
        Error err = ERROR_NONE;

        assert_true(insert(store, &build, BODY) > 0);
        {
                _cleanup_build_ Build seen = get(store, build.id);

                assert_same_build(&seen, &build);
                assert_int_equal(seen.exit_code, -1);
        }
        build.os = xstrdup("sl7x-x86_64");
        build.source_image = xstrdup("c0ffee");
        build.log_path = xstrdup("/var/log/x.log");
        build.pid = 4711;
        go(store, &build, BUILD_EVENT_START, NULL, 2000);
        assert_int_equal(build.state, BUILD_BUILDING);
        assert_int_equal(build.started_ms, 2000);
        assert_ok(store_build_phase(store, &build, "provisioning", 2500, &err), err);
        assert_string_equal(build.phase, "provisioning");
        {
                _cleanup_build_ Build seen = get(store, build.id);

                assert_same_build(&seen, &build);
                assert_int_equal(seen.pid, 4711);
                assert_string_equal(seen.phase, "provisioning");
        }
        assert_true(has_body(store, build.id, BODY));
        build.exit_code = 0;
        build.artifact = xstrdup("deadbeef");
        go(store, &build, BUILD_EVENT_SUCCEED, "one image", 3000);
        assert_int_equal(build.ended_ms, 3000);
        assert_string_equal(build.reason, "one image");
        {
                _cleanup_build_ Build seen = get(store, build.id);

                assert_same_build(&seen, &build);
                // Of a process that is gone.
                assert_int_equal(seen.pid, 0);
                assert_null(seen.phase);
        }
        assert_false(has_body(store, build.id, BODY));
        assert_history(store, build.id,
                       "1000 queued\n2000 building\n2500 phase: provisioning\n"
                       "3000 succeeded: one image\n");
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 0);
}

static void test_postponed_build_waits_again(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), seen = {0};

        (void)insert(store, &build, BODY);
        build.pid = 4711;
        go(store, &build, BUILD_EVENT_START, NULL, 2000);
        build.not_before_ms = 9000;
        go(store, &build, BUILD_EVENT_POSTPONE, "Keystone is away", 3000);
        seen = get(store, build.id);
        assert_same_build(&seen, &build);
        assert_int_equal(seen.state, BUILD_QUEUED);
        assert_int_equal(seen.not_before_ms, 9000);
        assert_int_equal(seen.started_ms, 0);
        assert_int_equal(seen.ended_ms, 0);
        assert_int_equal(seen.pid, 0);
        assert_true(has_body(store, build.id, BODY));
        assert_history(store, build.id,
                       "1000 queued\n2000 building\n3000 queued: Keystone is away\n");
}

static void test_smallest_build(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = {.build_id = xstrdup("u1"), .exit_code = -1};
        _cleanup_build_ Build seen = {0};

        (void)insert(store, &build, "");
        assert_true(has_body(store, build.id, ""));
        go(store, &build, BUILD_EVENT_SKIP, "no source image for sl6", 5);
        seen = get(store, build.id);
        assert_same_build(&seen, &build);
        assert_int_equal(seen.started_ms, 0);
        assert_int_equal(seen.ended_ms, 5);
}

static void test_every_refused_transition_changes_nothing(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        int refused = 0;

        for (int from = 0; from < N_BUILD_STATES; from++) {
                for (int event = 0; event < N_BUILD_EVENTS; event++) {
                        _cleanup_free_ char *id = xasprintf("u%d-%d", from, event);
                        _cleanup_build_ Build build = make_build(id, "i"), seen = {0};
                        Error err = ERROR_NONE;

                        if (build_state_next((BuildState)from, (BuildEvent)event) !=
                            BUILD_EVENT_REFUSED)
                                continue;
                        (void)insert(store, &build, BODY);
                        build.state = (BuildState)from;
                        refused++;
                        assert_int_equal(store_build_transition(store, &build, (BuildEvent)event,
                                                                "why", 9, &err),
                                         -EINVAL);
                        assert_contains(err.text, build_state_name((BuildState)from));
                        assert_contains(err.text, build_event_name((BuildEvent)event));
                        assert_int_equal(build.state, from);
                        assert_null(build.reason);
                        seen = get(store, build.id);
                        assert_int_equal(seen.state, BUILD_QUEUED);
                        assert_history(store, build.id, "1000 queued\n");
                }
        }
        assert_int_equal(refused, N_BUILD_STATES * N_BUILD_EVENTS - 11);
}

static void test_row_that_is_over_stays_so(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), copy = {0}, unknown = {.id = 99};
        Error err = ERROR_NONE;

        (void)insert(store, &build, BODY);
        go(store, &build, BUILD_EVENT_START, NULL, 1);
        copy = get(store, build.id);
        go(store, &build, BUILD_EVENT_CANCEL, "operator", 2);
        // Somebody who has not heard of it.
        assert_int_equal(store_build_transition(store, &copy, BUILD_EVENT_SUCCEED, NULL, 3, &err),
                         -EINVAL);
        assert_contains(err.text, "build 1 is over already");
        assert_int_equal(copy.state, BUILD_BUILDING);
        assert_int_equal(store_build_phase(store, &copy, "saving image", 3, &err), -EINVAL);
        assert_null(copy.phase);
        assert_int_equal(store_build_transition(store, &unknown, BUILD_EVENT_SKIP, NULL, 3, &err),
                         -EINVAL);
        assert_contains(err.text, "build 99");
        assert_history(store, build.id, "1000 queued\n1 building\n2 cancelled: operator\n");
        assert_int_equal(store_build_phase(store, &build, "saving image", 3, &err), -EINVAL);
        assert_contains(err.text, "cancelled");
}

static void test_insert_refuses(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build first = make_build("u1", "i"), again = make_build("u1", "i");
        _cleanup_build_ Build running = make_build("u2", "i");
        Error err = ERROR_NONE;

        (void)insert(store, &first, BODY);
        assert_int_equal(store_build_insert(store, &again, "other", 5, &err), -EEXIST);
        assert_contains(err.text, "builds.db: cannot write a build");
        assert_int_equal(again.id, 0);
        running.state = BUILD_BUILDING;
        assert_int_equal(store_build_insert(store, &running, BODY, 1, &err), -EINVAL);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 1);
        assert_false(store_in_transaction(store));
}

static void test_not_found(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Build build = {0};
        Error err = ERROR_NONE;

        assert_int_equal(store_build_get(store, 1, &build, &err), STORE_NOT_FOUND);
        assert_false(has_body(store, 1, BODY));
        assert_history(store, 1, "");
}

// ---- bodies ----------------------------------------------------------------------------------

static void test_builds_of_one_message_share_its_body(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build a = make_build("u1", "i"), b = make_build("u2", "i"),
                              c = make_build("u3", "i");

        (void)insert(store, &a, BODY);
        (void)insert(store, &b, BODY);
        (void)insert(store, &c, "another");
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 2);
        go(store, &a, BUILD_EVENT_FAIL, NULL, 1);
        assert_false(has_body(store, a.id, BODY));
        assert_true(has_body(store, b.id, BODY));
        go(store, &b, BUILD_EVENT_SUPERSEDE, NULL, 1);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 1);
        assert_true(has_body(store, c.id, "another"));
}

// As the worker does it: the new row is there before the old one is over.
static void test_interrupted_build_hands_its_body_on(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build old = make_build("u1", "i"), again = make_build("u2", "i");
        _cleanup_free_ char *body = NULL;
        size_t len = 0;
        Error err = ERROR_NONE;

        (void)insert(store, &old, BODY);
        go(store, &old, BUILD_EVENT_START, NULL, 1);
        assert_ok(store_begin(store, &err), err);
        assert_ok(store_build_body(store, old.id, &body, &len, &err), err);
        (void)insert(store, &again, body);
        go(store, &old, BUILD_EVENT_INTERRUPT, "rabbit2packer ended while it ran", 2);
        assert_ok(store_commit(store, &err), err);
        assert_true(has_body(store, again.id, BODY));
        assert_false(has_body(store, old.id, BODY));
}

static void test_body_with_nul_bytes(void **state)
{
        static const char bytes[] = {'a', '\0', 'b', '\0'};
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i");
        _cleanup_free_ char *body = NULL;
        size_t len = 0;
        Error err = ERROR_NONE;

        assert_ok(store_build_insert(store, &build, bytes, sizeof bytes, &err), err);
        assert_ok(store_build_body(store, build.id, &body, &len, &err), err);
        assert_int_equal(len, sizeof bytes);
        assert_memory_equal(body, bytes, sizeof bytes);
        assert_int_equal(body[len], '\0');
}

// ---- transactions ----------------------------------------------------------------------------

static void test_rolled_back_turn_did_not_happen(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build running = make_build("u1", "i"), lost = make_build("u2", "j");
        Error err = ERROR_NONE;

        (void)insert(store, &running, BODY);
        assert_ok(store_begin(store, &err), err);
        go(store, &running, BUILD_EVENT_START, NULL, 5);
        (void)insert(store, &lost, "lost");
        store_rollback(store);
        assert_false(has_body(store, lost.id, "lost"));
        assert_history(store, running.id, "1000 queued\n");
        // Packer runs all the same; its end is written with what the struct knows.
        go(store, &running, BUILD_EVENT_SUCCEED, NULL, 6);
        {
                _cleanup_build_ Build seen = get(store, running.id);

                assert_same_build(&seen, &running);
                assert_int_equal(seen.started_ms, 5);
        }
}

static void test_refusal_does_not_end_the_transaction(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i");
        Error err = ERROR_NONE;

        assert_ok(store_begin(store, &err), err);
        (void)insert(store, &build, BODY);
        assert_int_equal(store_build_transition(store, &build, BUILD_EVENT_SUCCEED, NULL, 1, &err),
                         -EINVAL);
        assert_ok(store_commit(store, &err), err);
        assert_true(has_body(store, build.id, BODY));
}

static void test_full_disk(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), next = make_build("u2", "i");
        _cleanup_free_ char *big = xmalloc(1 << 20);
        Error err = ERROR_NONE;

        memset(big, 'x', 1 << 20);
        (void)insert(store, &build, BODY);
        go(store, &build, BUILD_EVENT_START, NULL, 1);
        run_sql(store, "PRAGMA max_page_count = 30");
        assert_int_equal(store_build_insert(store, &next, big, 1 << 20, &err), -ENOSPC);
        assert_contains(err.text, "builds.db: cannot write a message body");
        // Within the worker's turn: nothing of it is committed.
        assert_ok(store_begin(store, &err), err);
        go(store, &build, BUILD_EVENT_FAIL, "x", 2);
        assert_int_equal(store_build_insert(store, &next, big, 1 << 20, &err), -ENOSPC);
        assert_int_equal(store_build_insert(store, &next, "small", 5, &err), -ENOSPC);
        assert_int_equal(store_commit(store, &err), -ENOSPC);
        assert_history(store, build.id, "1000 queued\n1 building\n");
        assert_true(has_body(store, build.id, BODY));
        assert_int_equal(number(store, "SELECT count(*) FROM build"), 1);
}

static void test_another_process_holds_the_lock(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *other = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), next = make_build("u2", "i");
        Error err = ERROR_NONE;

        (void)insert(store, &build, BODY);
        assert_int_equal(sqlite3_busy_timeout(store->db, 1), SQLITE_OK);
        assert_ok(store_begin(other, &err), err);
        assert_int_equal(store_build_insert(store, &next, BODY, 1, &err), -EBUSY);
        assert_int_equal(store_build_transition(store, &build, BUILD_EVENT_START, NULL, 1, &err),
                         -EBUSY);
        assert_int_equal(build.state, BUILD_QUEUED);
        store_rollback(other);
        go(store, &build, BUILD_EVENT_START, NULL, 1);
        assert_ok(store_begin(other, &err), err);
        assert_int_equal(store_build_phase(store, &build, "p", 1, &err), -EBUSY);
        store_rollback(other);
}

static int count_builds(const Build *build, void *userdata)
{
        (void)build;
        ++*(int *)userdata;
        return 0;
}

static int count_events(const BuildEventRecord *event, void *userdata)
{
        (void)event;
        ++*(int *)userdata;
        return 0;
}

// ---- failures --------------------------------------------------------------------------------

static void test_every_function_reports_a_failure(void **state)
{
        static const BuildFilter all = {0};
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), other = make_build("u2", "i");
        _cleanup_free_ char *body = NULL;
        size_t len;
        int n = 0;
        Error err = ERROR_NONE;

        (void)insert(store, &build, BODY);
        go(store, &build, BUILD_EVENT_START, NULL, 1);
        run_sql(store, "ALTER TABLE build_event RENAME TO lost");
        assert_true(store_build_insert(store, &other, BODY, 1, &err) < 0);
        assert_contains(err.text, "cannot write a build's history");
        assert_true(store_build_transition(store, &build, BUILD_EVENT_FAIL, NULL, 1, &err) < 0);
        assert_int_equal(build.state, BUILD_BUILDING);
        assert_true(store_build_phase(store, &build, "p", 1, &err) < 0);
        assert_null(build.phase);
        assert_true(store_build_events_each(store, 1, count_events, &n, &err) < 0);
        assert_contains(err.text, "cannot read a build's history");
        assert_int_equal(number(store, "SELECT count(*) FROM build WHERE ended_ms IS NULL"), 1);

        run_sql(store, "PRAGMA foreign_keys = OFF; DELETE FROM body");
        assert_true(store_build_body(store, build.id, &body, &len, &err) < 0);
        assert_contains(err.text, "cannot read a message body");
        run_sql(store, "DROP TABLE build");
        assert_true(store_build_get(store, 1, &other, &err) < 0);
        assert_true(store_build_body(store, 1, &body, &len, &err) < 0);
        assert_true(store_builds_each(store, &all, count_builds, &n, &err) < 0);
        assert_contains(err.text, "builds.db: cannot read the builds");
        assert_true(store_build_insert(store, &other, BODY, 1, &err) < 0);
        assert_true(store_build_phase(store, &build, "p", 1, &err) < 0);
        assert_true(store_build_transition(store, &build, BUILD_EVENT_FAIL, NULL, 1, &err) < 0);
        build.state = BUILD_QUEUED;
        assert_true(store_build_transition(store, &build, BUILD_EVENT_START, NULL, 1, &err) < 0);
        run_sql(store, "DROP TABLE body");
        assert_true(store_build_insert(store, &other, BODY, 1, &err) < 0);
        assert_contains(err.text, "cannot look for a message body");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_life_of_a_build),
                unit_test_in_folder(test_postponed_build_waits_again),
                unit_test_in_folder(test_smallest_build),
                unit_test_in_folder(test_every_refused_transition_changes_nothing),
                unit_test_in_folder(test_row_that_is_over_stays_so),
                unit_test_in_folder(test_insert_refuses),
                unit_test_in_folder(test_not_found),
                unit_test_in_folder(test_builds_of_one_message_share_its_body),
                unit_test_in_folder(test_interrupted_build_hands_its_body_on),
                unit_test_in_folder(test_body_with_nul_bytes),
                unit_test_in_folder(test_rolled_back_turn_did_not_happen),
                unit_test_in_folder(test_refusal_does_not_end_the_transaction),
                unit_test_in_folder(test_full_disk),
                unit_test_in_folder(test_another_process_holds_the_lock),
                unit_test_in_folder(test_every_function_reports_a_failure),
        };

        return cmocka_run_group_tests_name("store-builds", tests, NULL, NULL);
}
