#include "../unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "scan/cache.h"
#include "util/alloc.h"

#define BODY_MAX ((size_t)100)

static void write_body(const char *folder, const char *name, const char *body)
{
        Error err = ERROR_NONE;
        int r = cache_write(folder, name, body, strlen(body), &err);

        assert_ok(r, err);
}

static void test_round_trip(void **state)
{
        _cleanup_free_ char *folder = fs_join(*state, "not/made/yet");
        static const char *const names[] = {"a.json", "clusters/x.json", "a/b/c/d.json"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
                _cleanup_free_ char *path = fs_join(folder, names[i]);
                Error err = ERROR_NONE;
                struct stat st;
                int r;

                write_body(folder, names[i], "first, and longer than the second");
                write_body(folder, names[i], names[i]);
                r = cache_read(folder, names[i], &body, &err);
                assert_ok(r, err);
                assert_string_equal(buf_str(&body), names[i]);
                // As the Python script has it: the body, under its name.
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_size, strlen(names[i]));
        }
}

// Only what is said to be new is written: what is the same is wrong in what is given here.
static void test_update(void **state)
{
        static const struct {
                const char *was, *body;
                size_t from, to;
                const char *is;
        } cases[] = {
                {"{\"a\":1}", "??b?????", 2, 3, "{\"b\":1}"},
                {"{\"a\":1}", "?????22}", 5, 8, "{\"a\":22}"},
                {"{\"a\":11,\"b\":2}", "?????1}", 6, 7, "{\"a\":1}"},
                {"{\"a\":1}", "????????", 8, 8, "{\"a\":1}"},
                {NULL, "{}", 1, 2, "{}"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
                Error err = ERROR_NONE;
                int r = cache_remove(*state, "a.json", &err);

                assert_ok(r, err);
                if (cases[i].was)
                        write_body(*state, "a.json", cases[i].was);
                r = cache_update(*state, "a.json", cases[i].body, strlen(cases[i].body),
                                 cases[i].from, cases[i].to, &err);
                assert_ok(r, err);
                r = cache_read(*state, "a.json", &body, &err);
                assert_ok(r, err);
                assert_string_equal(buf_str(&body), cases[i].is);
        }
}

static void test_not_found(void **state)
{
        _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
        Error err = ERROR_NONE;

        assert_int_equal(cache_read(*state, "a.json", &body, &err), CACHE_NOT_FOUND);
        write_body(*state, "a.json", "{}");
        assert_int_equal(cache_read(*state, "a.json/b.json", &body, &err), CACHE_NOT_FOUND);
        assert_int_equal(cache_read("/nowhere/at/all", "a.json", &body, &err), CACHE_NOT_FOUND);
}

static void test_exact(void **state)
{
        _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
        Error err = ERROR_NONE;
        Checksum right, wrong;
        int r;

        checksum_of("{}", 2, &right);
        checksum_of("{ }", 3, &wrong);
        assert_int_equal(cache_read_exact(*state, "a.json", &right, &body, &err), CACHE_NOT_FOUND);
        write_body(*state, "a.json", "{}");
        assert_int_equal(cache_read_exact(*state, "a.json", &wrong, &body, &err), CACHE_NOT_FOUND);
        assert_int_equal(body.len, 0);
        r = cache_read_exact(*state, "a.json", &right, &body, &err);
        assert_ok(r, err);
        assert_string_equal(buf_str(&body), "{}");
}

static void test_limit(void **state)
{
        _cleanup_buf_ Buf body = BUF_INIT(3);
        Error err = ERROR_NONE;

        write_body(*state, "a.json", "{  }");
        assert_int_equal(cache_read(*state, "a.json", &body, &err), -EFBIG);
}

static void test_file_in_the_way_of_a_folder(void **state)
{
        Error err = ERROR_NONE;

        write_body(*state, "a.json", "{}");
        assert_true(cache_write(*state, "a.json/b.json", "{}", 2, &err) < 0);
        assert_contains(err.text, "a.json");
}

static void test_no_link_is_followed(void **state)
{
        _cleanup_free_ char *link = fs_join(*state, "a.json"), *target = fs_join(*state, "target");
        Error err = ERROR_NONE;
        struct stat st;

        assert_int_equal(symlink(target, link), 0);
        assert_true(cache_write(*state, "a.json", "{}", 2, &err) < 0);
        assert_contains(err.text, "a.json");
        assert_true(cache_update(*state, "a.json", "{}", 2, 0, 1, &err) < 0);
        assert_true(stat(target, &st) < 0);
}

static void test_index(void **state)
{
        _cleanup_free_ char *folder = fs_join(*state, "not/made/yet");
        _cleanup_buf_ Buf text = BUF_INIT(BODY_MAX);
        Error err = ERROR_NONE;
        int r = cache_write_index(folder, "<profiles/>", 11, &err);

        assert_ok(r, err);
        r = cache_read(folder, CACHE_INDEX_NAME, &text, &err);
        assert_ok(r, err);
        assert_string_equal(buf_str(&text), "<profiles/>");
}

static void test_remove(void **state)
{
        _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
        Error err = ERROR_NONE;
        int r;

        write_body(*state, "x/a.json", "{}");
        for (int i = 0; i < 2; i++) {
                r = cache_remove(*state, "x/a.json", &err);
                assert_ok(r, err);
        }
        assert_int_equal(cache_read(*state, "x/a.json", &body, &err), CACHE_NOT_FOUND);
        r = cache_remove(*state, "no/such/folder.json", &err);
        assert_ok(r, err);
        assert_true(cache_remove(*state, "x", &err) < 0); // a folder is not ours to remove
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_round_trip),
                unit_test_in_folder(test_update),
                unit_test_in_folder(test_not_found),
                unit_test_in_folder(test_exact),
                unit_test_in_folder(test_limit),
                unit_test_in_folder(test_file_in_the_way_of_a_folder),
                unit_test_in_folder(test_no_link_is_followed),
                unit_test_in_folder(test_index),
                unit_test_in_folder(test_remove),
        };

        return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
