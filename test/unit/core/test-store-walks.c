// Walks over builds, and the indexes that keep them short.
#include "unit_store.h"

#include <errno.h>

#include "util/buf.h"

static int append_build(const Build *build, void *userdata)
{
        return buf_printf(userdata, "%s ", build->build_id);
}

static void assert_walk(Store *store, const BuildFilter *filter, const char *expected)
{
        _cleanup_buf_ Buf text = BUF_INIT(4096);
        Error err = ERROR_NONE;

        assert_ok(store_builds_each(store, filter, append_build, &text, &err), err);
        assert_string_equal(buf_str(&text), expected);
}

static void test_filters(void **state)
{
        static const BuildEvent ends[] = {BUILD_EVENT_FAIL, BUILD_EVENT_SKIP, BUILD_EVENT_FAIL};
        const BuildState failed = BUILD_FAILED, queued = BUILD_QUEUED;
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        for (int at = 0; at < 6; at++) {
                _cleanup_free_ char *id = xasprintf("u%d", at);
                _cleanup_build_ Build build = make_build(id, at % 2 ? "odd" : "even");

                (void)insert(store, &build, BODY);
                if (at < 3)
                        go(store, &build, ends[at], NULL, 1);
                else if (at == 3)
                        go(store, &build, BUILD_EVENT_START, NULL, 1);
        }
        assert_walk(store, &(BuildFilter){0}, "u5 u4 u3 u2 u1 u0 ");
        assert_walk(store, &(BuildFilter){.oldest_first = true}, "u0 u1 u2 u3 u4 u5 ");
        assert_walk(store, &(BuildFilter){.limit = 2}, "u5 u4 ");
        assert_walk(store, &(BuildFilter){.only_unfinished = true, .oldest_first = true},
                    "u3 u4 u5 ");
        assert_walk(store, &(BuildFilter){.state = &failed}, "u2 u0 ");
        assert_walk(store, &(BuildFilter){.state = &queued, .limit = 1}, "u5 ");
        assert_walk(store, &(BuildFilter){.image = "odd"}, "u5 u3 u1 ");
        assert_walk(store, &(BuildFilter){.image = "odd' OR 1=1 --"}, "");
        assert_walk(store,
                    &(BuildFilter){.image = "even",
                                   .state = &failed,
                                   .only_unfinished = false,
                                   .oldest_first = true,
                                   .limit = 1},
                    "u0 ");
        assert_walk(store, &(BuildFilter){.state = &failed, .only_unfinished = true}, "");
}

static int stop_at_once(const Build *build, void *userdata)
{
        (void)build;
        ++*(int *)userdata;
        return -ECANCELED;
}

static int stop_events(const BuildEventRecord *event, void *userdata)
{
        (void)event;
        ++*(int *)userdata;
        return -ECANCELED;
}

static void test_walks_can_stop(void **state)
{
        static const BuildFilter all = {0};
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build a = make_build("u1", "i"), b = make_build("u2", "i");
        Error err = ERROR_NONE;
        int n = 0;

        (void)insert(store, &a, BODY);
        (void)insert(store, &b, BODY);
        go(store, &b, BUILD_EVENT_START, NULL, 1);
        assert_int_equal(store_builds_each(store, &all, stop_at_once, &n, &err), -ECANCELED);
        assert_int_equal(store_build_events_each(store, b.id, stop_events, &n, &err), -ECANCELED);
        assert_int_equal(n, 2);
}

// The plans must not change with the number of rows: what `status` asks for is found by an index.
static void assert_uses(Store *store, const char *where, const char *index)
{
        _cleanup_free_ char *sql = xasprintf("EXPLAIN QUERY PLAN SELECT * FROM build %s", where);
        _cleanup_query_ Query query = query_new(store, sql);
        _cleanup_buf_ Buf plan = BUF_INIT(4096);
        Error err = ERROR_NONE;

        while (query_step(&query, "explain", &err) == QUERY_ROW) {
                _cleanup_free_ char *line = query_column_text(&query, 3);

                assert_int_equal(buf_printf(&plan, "%s\n", line), 0);
        }
        assert_contains(buf_str(&plan), index);
        assert_null(strstr(buf_str(&plan), "TEMP B-TREE"));
}

static void test_indexes_are_used(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        assert_uses(store, "WHERE ended_ms IS NULL ORDER BY id", "build_unfinished");
        assert_uses(store, "WHERE image = 'x' ORDER BY id DESC LIMIT 5", "build_image");
        assert_uses(store, "WHERE state = 'x' ORDER BY id DESC LIMIT 5", "build_state");
        assert_uses(store, "WHERE message_id = 'x' ORDER BY id DESC LIMIT 1", "build_message");
        assert_uses(store, "WHERE body = 1", "build_body");
}

static void test_unknown_state_in_the_file(void **state)
{
        static const BuildFilter all = {0};
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);
        _cleanup_build_ Build build = make_build("u1", "i"), seen = {0};
        Error err = ERROR_NONE;
        int n = 0;

        (void)insert(store, &build, BODY);
        run_sql(store, "UPDATE build SET state = 'promoted'");
        assert_int_equal(store_build_get(store, build.id, &seen, &err), -EUCLEAN);
        assert_contains(err.text, "build 1 has the unknown state \"promoted\"");
        assert_int_equal(store_builds_each(store, &all, stop_at_once, &n, &err), -EUCLEAN);
        assert_int_equal(n, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_filters),
                unit_test_in_folder(test_walks_can_stop),
                unit_test_in_folder(test_indexes_are_used),
                unit_test_in_folder(test_unknown_state_in_the_file),
        };

        return cmocka_run_group_tests_name("store-walks", tests, NULL, NULL);
}
