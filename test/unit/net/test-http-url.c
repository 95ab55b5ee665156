#include "../unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "net/http_internal.h"
#include "util/alloc.h"
#include "util/fs.h"

#define BODY_MAX ((size_t)100)

static void test_check(void **state)
{
        static const char *const good[] = {"http://a/", "https://a.example/b?c", "file:///a/b",
                                           "HTTP://A:8080"};
        static const char *const bad[] = {"",         "/a/b",         "a.example/b",
                                          "ftp://a/", "http://a b",   "http://a\n",
                                          "http://",  "file://host/a"};
        _cleanup_free_ char *tail = xmalloc(HTTP_URL_MAX + 1), *too_long = NULL;

        (void)state;
        memset(tail, 'x', HTTP_URL_MAX);
        tail[HTTP_URL_MAX] = '\0';
        too_long = xasprintf("http://a/%s", tail);
        assert_true(http_check_url(too_long, NULL) < 0);
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                Error err = ERROR_NONE;
                int r = http_check_url(good[i], &err);

                assert_ok(r, err);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                Error err = ERROR_NONE;

                if (http_check_url(bad[i], &err) >= 0)
                        fail_msg("accepted: %s", bad[i]);
                assert_int_not_equal(err.text[0], '\0');
        }
}

static void test_join(void **state)
{
        static const struct {
                const char *dir, *path, *url;
        } cases[] = {
                {"http://a/p", "x.json", "http://a/p/x.json"},
                {"http://a/p/", "c/x.json", "http://a/p/c/x.json"},
                {"http://a", "a b&c?d#e%f'.json", "http://a/a%20b%26c%3Fd%23e%25f%27.json"},
                {"file:///d", "\xC3\xA9~-_.json", "file:///d/%C3%A9~-_.json"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *url = http_join_url(cases[i].dir, cases[i].path);

                assert_string_equal(url, cases[i].url);
        }
}

static void test_visible(void **state)
{
        static const struct {
                const char *url, *shown;
        } cases[] = {
                {"http://user:pw@a/b", "http://a/b"}, {"http://user:p@w@a/b@c", "http://a/b@c"},
                {"http://a/b@c", "http://a/b@c"},     {"file:///a", "file:///a"},
                {"rubbish\n", "rubbish\\x0a"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *shown = http_visible_url(cases[i].url);

                assert_string_equal(shown, cases[i].shown);
        }
}

static int get_file(const char *folder, const char *name, const char *etag, Buf *body,
                    char **ret_etag, Error *err)
{
        _cleanup_free_ char *dir_url = xasprintf("file://%s", folder);
        _cleanup_free_ char *url = http_join_url(dir_url, name);

        return http_file_get(url, etag, body, ret_etag, err);
}

static void write_file(const char *folder, const char *name, const char *text)
{
        _cleanup_free_ char *path = fs_join(folder, name);
        Error err = ERROR_NONE;
        int r = fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err);

        assert_ok(r, err);
}

static void test_file(void **state)
{
        _cleanup_free_ char *first = NULL, *second = NULL;
        _cleanup_buf_ Buf body = BUF_INIT(BODY_MAX);
        Error err = ERROR_NONE;
        int r;

        write_file(*state, "a b.json", "one");
        r = get_file(*state, "a b.json", NULL, &body, &first, &err);
        assert_ok(r, err);
        assert_int_equal(r, 0);
        assert_string_equal(buf_str(&body), "one");
        assert_int_equal(get_file(*state, "a b.json", first, &body, &second, &err), HTTP_FILE_SAME);
        assert_null(second);
        write_file(*state, "a b.json", "two!"); // other size, other inode
        buf_clear(&body);
        r = get_file(*state, "a b.json", first, &body, &second, &err);
        assert_ok(r, err);
        assert_string_equal(buf_str(&body), "two!");
        assert_string_not_equal(first, second);
}

static void test_file_failures(void **state)
{
        _cleanup_free_ char *etag = NULL, *folder = fs_join(*state, "folder");
        _cleanup_buf_ Buf small = BUF_INIT(2);
        Error err = ERROR_NONE;

        assert_int_equal(mkdir(folder, 0700), 0);
        write_file(*state, "three", "123");
        assert_int_equal(get_file(*state, "missing", NULL, &small, &etag, &err), -ENOENT);
        assert_true(get_file(*state, "folder", NULL, &small, &etag, &err) < 0);
        assert_int_equal(get_file(*state, "three", NULL, &small, &etag, &err), -EFBIG);
        assert_true(http_file_get("file:///etc/host%00name", NULL, &small, &etag, &err) < 0);
        assert_true(http_file_get("file://elsewhere/x", NULL, &small, &etag, &err) < 0);
        assert_null(etag);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_join),
                cmocka_unit_test(test_visible),
                unit_test_in_folder(test_file),
                unit_test_in_folder(test_file_failures),
        };

        return cmocka_run_group_tests_name("http-url", tests, NULL, NULL);
}
