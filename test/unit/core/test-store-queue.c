#include "unit_store.h"

#include <errno.h>

#include "util/alloc.h"

#define QUEUE "image-builds"

static void push(Store *store, const char *queue, const char *body)
{
        const Message message = {.body = xstrdup(body), .body_len = strlen(body)};
        Error err = ERROR_NONE;

        assert_ok(store_queue_push(store, queue, &message, &err), err);
        free(message.body);
}

// Takes the next and expects its body; 0 and NULL: expects none.
static int64_t take(Store *store, const char *queue, const char *expected)
{
        _cleanup_(message_done) Message message = {0};
        Error err = ERROR_NONE;
        int64_t id = 0;
        int r = store_queue_take(store, queue, &id, &message, &err);

        assert_ok(r, err);
        if (!expected) {
                assert_int_equal(r, STORE_NOT_FOUND);
                return 0;
        }
        assert_int_equal(r, 0);
        assert_string_equal(message.body, expected);
        return id;
}

static int64_t count(Store *store, const char *queue)
{
        Error err = ERROR_NONE;
        int64_t n = -1;

        assert_ok(store_queue_count(store, queue, &n, &err), err);
        return n;
}

static void release(Store *store, int64_t id)
{
        Error err = ERROR_NONE;

        assert_ok(store_queue_release(store, id, &err), err);
}

static void drop(Store *store, int64_t id)
{
        Error err = ERROR_NONE;

        assert_ok(store_queue_remove(store, id, &err), err);
}

static void test_whole_message_comes_back(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        char body[] = {'{', '\0', '}'}, id[] = "m-1", app[] = "cdb2rabbit", entry[] = "a.json",
             content[] = "ff00", changes[] = "/system/os\n/software", reason[] = "not JSON";
        const Message in = {.body = body,
                            .body_len = sizeof body,
                            .message_id = id,
                            .app_id = app,
                            .entry = entry,
                            .content_id = content,
                            .changes = changes,
                            .reason = reason,
                            .timestamp = 1732300000};
        _cleanup_(message_done) Message out = {0};
        Error err = ERROR_NONE;
        int64_t row = 0;

        assert_ok(store_queue_push(store, QUEUE, &in, &err), err);
        assert_int_equal(store_queue_take(store, QUEUE, &row, &out, &err), 0);
        assert_true(row > 0);
        assert_int_equal(out.body_len, sizeof body);
        assert_memory_equal(out.body, body, sizeof body);
        assert_int_equal(out.body[out.body_len], '\0');
        assert_string_equal(out.message_id, id);
        assert_string_equal(out.app_id, app);
        assert_string_equal(out.entry, entry);
        assert_string_equal(out.content_id, content);
        assert_string_equal(out.changes, changes);
        assert_string_equal(out.reason, reason);
        assert_int_equal(out.timestamp, in.timestamp);
}

static void test_bare_message(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const Message in = {0};
        _cleanup_(message_done) Message out = {0};
        Error err = ERROR_NONE;
        int64_t row;

        assert_ok(store_queue_push(store, QUEUE, &in, &err), err);
        assert_int_equal(store_queue_take(store, QUEUE, &row, &out, &err), 0);
        assert_int_equal(out.body_len, 0);
        assert_string_equal(out.body, "");
        assert_null(out.message_id);
        assert_null(out.reason);
        assert_int_equal(out.timestamp, 0);
}

static void test_order_release_and_remove(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        int64_t one, two, three;

        take(store, QUEUE, NULL);
        push(store, QUEUE, "1");
        push(store, QUEUE, "2");
        push(store, QUEUE, "3");
        assert_int_equal(count(store, QUEUE), 3);
        one = take(store, QUEUE, "1");
        two = take(store, QUEUE, "2");
        assert_int_equal(count(store, QUEUE), 1);
        // Back to their old places, whatever the order.
        release(store, two);
        release(store, one);
        assert_int_equal(count(store, QUEUE), 3);
        assert_int_equal(take(store, QUEUE, "1"), one);
        drop(store, one);
        drop(store, one);
        release(store, one); // gone: nothing comes back
        assert_int_equal(take(store, QUEUE, "2"), two);
        three = take(store, QUEUE, "3");
        take(store, QUEUE, NULL);
        drop(store, three);
        drop(store, two);
        assert_int_equal(number(store, "SELECT count(*) FROM message"), 0);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 0);
        push(store, QUEUE, "4");
        assert_true(take(store, QUEUE, "4") > three); // an id never comes back
}

static void test_queues_are_apart(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Error err = ERROR_NONE;
        int64_t id;

        push(store, QUEUE, "1");
        push(store, QUEUE ".rejected", "2");
        id = take(store, QUEUE, "1");
        take(store, QUEUE, NULL);
        assert_int_equal(count(store, QUEUE ".rejected"), 1);
        assert_true(take(store, QUEUE ".rejected", "2") != id);
        assert_ok(store_queue_release_all(store, QUEUE, &err), err);
        assert_int_equal(count(store, QUEUE), 1);
        assert_int_equal(count(store, QUEUE ".rejected"), 0);
        assert_int_equal(count(store, "no such queue"), 0);
}

static void test_taken_outlives_the_taker_until_released(void **state)
{
        Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        push(store, QUEUE, "1");
        push(store, QUEUE, "2");
        (void)take(store, QUEUE, "1");
        store_close(store);
        store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        (void)take(store, QUEUE, "2");
        take(store, QUEUE, NULL);
        assert_ok(store_queue_release_all(store, QUEUE, &err), err);
        (void)take(store, QUEUE, "1");
        (void)take(store, QUEUE, "2");
        store_close(store);
}

static void test_two_connections_take_different_messages(void **state)
{
        _cleanup_store_ Store *a = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *b = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        push(a, QUEUE, "1");
        push(b, QUEUE, "2");
        (void)take(a, QUEUE, "1");
        (void)take(b, QUEUE, "2");
        take(a, QUEUE, NULL);
}

static int take_first(unsigned event, void *other, void *stmt, void *sql)
{
        (void)event;
        (void)stmt;
        if (strncmp(sql, "UPDATE message", 14) == 0 && count(other, QUEUE) == 2)
                (void)take(other, QUEUE, "1");
        return 0;
}

// Between the look and the mark of one, the other takes what was looked at.
static void test_message_is_taken_once(void **state)
{
        _cleanup_store_ Store *a = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *b = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        push(a, QUEUE, "1");
        push(a, QUEUE, "2");
        assert_int_equal(sqlite3_trace_v2(a->db, SQLITE_TRACE_STMT, take_first, b), SQLITE_OK);
        (void)take(a, QUEUE, "2");
        assert_int_equal(count(a, QUEUE), 0);
}

static void test_body_is_shared_with_builds(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_(build_done) Build build = {.build_id = xstrdup("u1"), .exit_code = -1};
        _cleanup_free_ char *body = NULL;
        Error err = ERROR_NONE;
        size_t len;
        int64_t one, two;

        push(store, QUEUE, "same");
        push(store, QUEUE, "same");
        one = take(store, QUEUE, "same");
        two = take(store, QUEUE, "same");
        assert_ok(store_build_insert(store, &build, "same", 4, &err), err);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 1);
        drop(store, one);
        assert_int_equal(store_build_body(store, build.id, &body, &len, &err), 0);
        assert_ok(store_build_transition(store, &build, BUILD_EVENT_SKIP, NULL, 1, &err), err);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 1); // `two` needs it
        drop(store, two);
        assert_int_equal(number(store, "SELECT count(*) FROM body"), 0);
}

static void test_rolled_back_take_did_not_happen(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        push(store, QUEUE, "1");
        assert_ok(store_begin(store, &err), err);
        drop(store, take(store, QUEUE, "1"));
        push(store, QUEUE, "2");
        store_rollback(store);
        (void)take(store, QUEUE, "1");
        take(store, QUEUE, NULL);
}

static void test_large_message(void **state)
{
        enum { LARGE = 20 << 20 };
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Message in = {.body = xmalloc(LARGE), .body_len = LARGE};
        _cleanup_(message_done) Message out = {0};
        Error err = ERROR_NONE;
        int64_t id;

        for (size_t at = 0; at < LARGE; at++)
                in.body[at] = (char)(at >> 12);
        assert_ok(store_queue_push(store, QUEUE, &in, &err), err);
        assert_int_equal(store_queue_take(store, QUEUE, &id, &out, &err), 0);
        assert_int_equal(out.body_len, in.body_len);
        assert_int_equal(memcmp(out.body, in.body, in.body_len), 0);
        drop(store, id);
        free(in.body);
}

static void test_full_disk(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        Message message = {.body = xcalloc(1, 1 << 20), .body_len = 1 << 20};
        Error err = ERROR_NONE;

        push(store, QUEUE, "1");
        run_sql(store, "PRAGMA max_page_count = 40");
        assert_int_equal(store_queue_push(store, QUEUE, &message, &err), -ENOSPC);
        assert_contains(err.text, "builds.db: cannot write a message body");
        assert_int_equal(count(store, QUEUE), 1);
        drop(store, take(store, QUEUE, "1"));
        free(message.body);
}

static void test_another_process_holds_the_lock(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_store_ Store *other = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const Message message = {0};
        Message out = {0};
        Error err = ERROR_NONE;
        int64_t id = 7;

        push(store, QUEUE, "1");
        assert_int_equal(sqlite3_busy_timeout(store->db, 1), SQLITE_OK);
        assert_ok(store_begin(other, &err), err);
        assert_int_equal(store_queue_push(store, QUEUE, &message, &err), -EBUSY);
        assert_int_equal(store_queue_take(store, QUEUE, &id, &out, &err), -EBUSY);
        assert_contains(err.text, "cannot take a message");
        assert_null(out.body);
        assert_int_equal(id, 7);
        assert_int_equal(store_queue_remove(store, 1, &err), -EBUSY);
        assert_int_equal(store_queue_release(store, 1, &err), -EBUSY);
        assert_int_equal(count(store, QUEUE), 1);
        // An empty queue is seen without the lock.
        take(store, "empty", NULL);
        store_rollback(other);
        (void)take(store, QUEUE, "1");
}

static void test_every_function_reports_a_failure(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        const Message message = {0};
        Message out = {0};
        Error err = ERROR_NONE;
        int64_t id;

        push(store, QUEUE, "1");
        run_sql(store, "PRAGMA foreign_keys = OFF; DELETE FROM body");
        assert_true(store_queue_take(store, QUEUE, &id, &out, &err) < 0);
        assert_contains(err.text, "cannot read a message body");
        assert_int_equal(count(store, QUEUE), 1);
        run_sql(store, "DROP TABLE message");
        assert_true(store_queue_push(store, QUEUE, &message, &err) < 0);
        assert_contains(err.text, "builds.db: cannot queue a message");
        assert_true(store_queue_take(store, QUEUE, &id, &out, &err) < 0);
        assert_true(store_queue_remove(store, 1, &err) < 0);
        assert_true(store_queue_release(store, 1, &err) < 0);
        assert_true(store_queue_release_all(store, QUEUE, &err) < 0);
        assert_true(store_queue_count(store, QUEUE, &id, &err) < 0);
        assert_contains(err.text, "cannot count the queue");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_whole_message_comes_back),
                unit_test_in_folder(test_bare_message),
                unit_test_in_folder(test_order_release_and_remove),
                unit_test_in_folder(test_queues_are_apart),
                unit_test_in_folder(test_taken_outlives_the_taker_until_released),
                unit_test_in_folder(test_two_connections_take_different_messages),
                unit_test_in_folder(test_message_is_taken_once),
                unit_test_in_folder(test_body_is_shared_with_builds),
                unit_test_in_folder(test_rolled_back_take_did_not_happen),
                unit_test_in_folder(test_large_message),
                unit_test_in_folder(test_full_disk),
                unit_test_in_folder(test_another_process_holds_the_lock),
                unit_test_in_folder(test_every_function_reports_a_failure),
        };

        return cmocka_run_group_tests_name("store-queue", tests, NULL, NULL);
}
