#include "../unit.h"

#include <errno.h>

#include "util/macro.h"
#include "util/strutil.h"

static void test_parse_int(void **state)
{
        static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "1x", "0x10", "1.0", "ten"};
        Error err = ERROR_NONE;
        int64_t value = 7;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(str_parse_int(bad[i], INT64_MIN, INT64_MAX, &value, &err),
                                 -EINVAL);
        assert_string_equal(err.text, "\"ten\" is not a whole number");
        assert_int_equal(str_parse_int("257", 1, 256, &value, &err), -ERANGE);
        assert_string_equal(err.text, "257 is not between 1 and 256");
        assert_int_equal(str_parse_int("0", 1, 256, &value, &err), -ERANGE);
        assert_int_equal(str_parse_int("99999999999999999999", 0, 9, &value, &err), -ERANGE);
        assert_int_equal(str_parse_int("-99999999999999999999", 0, 9, &value, &err), -ERANGE);
        assert_int_equal(value, 7);

        assert_int_equal(str_parse_int("256", 1, 256, &value, &err), 0);
        assert_int_equal(value, 256);
        assert_int_equal(str_parse_int("-42", -100, 100, &value, NULL), 0);
        assert_int_equal(value, -42);
        assert_int_equal(str_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &value, &err),
                         0);
        assert_true(value == INT64_MAX);
        assert_int_equal(str_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &value, &err),
                         0);
        assert_true(value == INT64_MIN);
}

static void test_parse_seconds(void **state)
{
        static const struct {
                const char *text;
                int64_t seconds;
        } good[] = {{"90", 90}, {"90s", 90}, {"15m", 900}, {"2h", 7200}, {"7d", 604800}};
        Error err = ERROR_NONE;
        int64_t value = 0;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(str_parse_seconds(good[i].text, 0, 1000000, &value, &err), 0);
                assert_int_equal(value, good[i].seconds);
        }
        assert_int_equal(str_parse_seconds("2w", 0, 1000000, &value, &err), -EINVAL);
        assert_contains(err.text, "\"2w\" is not a time");
        assert_int_equal(str_parse_seconds("1h30m", 0, 1000000, &value, &err), -EINVAL);
        assert_int_equal(str_parse_seconds("2h", 1, 60, &value, &err), -ERANGE);
        assert_string_equal(err.text, "2h is not between 1 and 60 seconds");
        assert_int_equal(str_parse_seconds("9000000000000000000d", 0, 60, &value, &err), -ERANGE);
        assert_int_equal(str_parse_seconds("-9000000000000000000d", 0, 60, &value, &err), -ERANGE);
}

static void test_parse_size(void **state)
{
        static const struct {
                const char *text;
                int64_t bytes;
        } good[] = {{"4096", 4096},
                    {"64k", 65536},
                    {"64K", 65536},
                    {"100M", 104857600},
                    {"2G", INT64_C(2147483648)}};
        Error err = ERROR_NONE;
        int64_t value = 0;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(str_parse_size(good[i].text, 0, INT64_MAX, &value, &err), 0);
                assert_true(value == good[i].bytes);
        }
        assert_int_equal(str_parse_size("1MB", 0, INT64_MAX, &value, &err), -EINVAL);
        assert_contains(err.text, "\"1MB\" is not a size");
        assert_int_equal(str_parse_size("1k", 0, 1000, &value, &err), -ERANGE);
        assert_string_equal(err.text, "1k is not between 0 and 1000 bytes");
}

static void test_parse_bool(void **state)
{
        static const char *const yes[] = {"yes", "True", "ON", "1"};
        static const char *const no[] = {"no", "False", "OFF", "0"};
        Error err = ERROR_NONE;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                bool value = false;

                assert_int_equal(str_parse_bool(yes[i], &value, &err), 0);
                assert_true(value);
                assert_int_equal(str_parse_bool(no[i], &value, &err), 0);
                assert_false(value);
        }
        assert_int_equal(str_parse_bool("maybe", &(bool){false}, &err), -EINVAL);
        assert_string_equal(err.text, "\"maybe\" is neither yes nor no");
}

static void test_prefix_and_suffix(void **state)
{
        (void)state;
        assert_true(str_starts_with("profile", "pro"));
        assert_true(str_starts_with("profile", ""));
        assert_false(str_starts_with("pro", "profile"));
        assert_false(str_starts_with("profile", "file"));
        assert_true(str_ends_with("x.json", ".json"));
        assert_true(str_ends_with("x", ""));
        assert_false(str_ends_with("json", ".json"));
        assert_false(str_ends_with("x.json.gz", ".json"));
}

static void test_utf8(void **state)
{
        // First and last of each length, and around the surrogates.
        static const char good[] = "\x7F|\xC2\x80|\xDF\xBF|\xE0\xA0\x80|\xED\x9F\xBF|\xEE\x80\x80|"
                                   "\xEF\xBF\xBF|\xF0\x90\x80\x80|\xF4\x8F\xBF\xBF|\0|";
        static const char *const bad[] = {
                "\x80",             // continuation without a start
                "\xC1\xBF",         // overlong, two bytes
                "\xE0\x9F\xBF",     // overlong, three bytes
                "\xF0\x8F\xBF\xBF", // overlong, four bytes
                "\xED\xA0\x80",     // surrogate
                "\xF4\x90\x80\x80", // above U+10FFFF
                "\xF5\x80\x80\x80", // no such start
                "\xC3",             // cut
                "\xE2\x82",         // cut
                "\xE2\x82x",        // third byte
                "\xF0\x9F\x98\xC0", // fourth byte
                "caf\xE9",          // latin1
        };

        (void)state;
        assert_true(str_is_utf8(good, sizeof good - 1));
        assert_true(str_is_utf8(NULL, 0));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                if (str_is_utf8(bad[i], strlen(bad[i])))
                        fail_msg("case %zu passed", i);
        }
}

static void test_control(void **state)
{
        (void)state;
        assert_false(str_has_control("caf\xC3\xA9 ~", 7));
        assert_true(str_has_control("a\nb", 3));
        assert_true(str_has_control("a\0b", 3));
        assert_true(str_has_control("\x7F", 1));
        assert_false(str_has_control("ab\n", 2));
}

static void test_safe_relative_path(void **state)
{
        static const char *const good[] = {
                "a", "a/b.json", "...", ".hidden", "a..b/c.", "caf\xC3\xA9", "clusters/x y.json"};
        static const char *const bad[] = {"",     "/",      "/a",   "a/",   "a//b",
                                          ".",    "..",     "./a",  "a/.",  "../a",
                                          "a/..", "a/../b", "a\\b", "a\nb", "a\xFF"};
        char text[514];

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                if (!str_is_safe_relative_path(good[i], strlen(good[i])))
                        fail_msg("\"%s\" is refused", good[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                if (str_is_safe_relative_path(bad[i], strlen(bad[i])))
                        fail_msg("\"%s\" is accepted", bad[i]);
        }
        assert_false(str_is_safe_relative_path("a\0b", 3));
        memset(text, 'a', sizeof text);
        assert_true(str_is_safe_relative_path(text, 512));
        assert_false(str_is_safe_relative_path(text, 513));
}

static void assert_visible(const char *text, size_t len, size_t max, const char *expected)
{
        _cleanup_free_ char *shown = str_visible(text, len, max);

        assert_string_equal(shown, expected);
}

static void test_visible(void **state)
{
        (void)state;
        assert_visible("", 0, 10, "");
        assert_visible("caf\xC3\xA9", 5, 10, "caf\xC3\xA9");
        assert_visible("a\nb\0\xFF\x7F", 6, 40, "a\\x0ab\\x00\\xff\\x7f");
        assert_visible("abcdef", 6, 6, "abcdef");
        assert_visible("abcdefg", 7, 6, "abcdef…");
        // Neither a character nor an escape is cut in the middle.
        assert_visible("ab\xC3\xA9", 4, 3, "ab…");
        assert_visible("ab\n", 3, 5, "ab…");
        assert_visible("ab", 2, 0, "…");
        assert_visible("ab", 2, SIZE_MAX, "ab");
}

static void test_split(void **state)
{
        char **none = strv_split(" ,\n", " ,\n"), **empty = strv_split("", ",");
        char **list = strv_split(",one, two\n\nthree", " ,\n");
        size_t seen = 0;

        (void)state;
        assert_int_equal(strv_count(NULL), 0);
        assert_int_equal(strv_count(none), 0);
        assert_int_equal(strv_count(empty), 0);
        assert_int_equal(strv_count(list), 3);
        STRV_FOREACH (item, list) {
                static const char *const expected[] = {"one", "two", "three"};

                assert_string_equal(*item, expected[seen]);
                seen++;
        }
        assert_int_equal(seen, 3);
        strv_free(none);
        strv_free(empty);
        strv_free(list);
        strv_free(NULL);
}

// Texts with one byte that differs, or none, at every distance from the end that counts.
static void test_common(void **state)
{
        enum { LEN = 5000 };
        char a[LEN], b[LEN];

        (void)state;
        memset(a, 'x', sizeof a);
        memset(b, 'x', sizeof b);
        for (size_t max = 0; max <= LEN; max += 1 + max / 7) {
                assert_int_equal(mem_common_start(a, b, max), max);
                assert_int_equal(mem_common_end(a + LEN, b + LEN, max), max);
                for (size_t at = 0; at < max; at += 1 + at / 50) {
                        b[at] = 'y';
                        assert_int_equal(mem_common_start(a, b, max), at);
                        assert_int_equal(mem_common_start(a, b, at), at);
                        b[at] = 'x';
                        b[LEN - 1 - at] = 'y';
                        assert_int_equal(mem_common_end(a + LEN, b + LEN, max), at);
                        b[LEN - 1 - at] = 'x';
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_int),
                cmocka_unit_test(test_parse_seconds),
                cmocka_unit_test(test_parse_size),
                cmocka_unit_test(test_parse_bool),
                cmocka_unit_test(test_prefix_and_suffix),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_control),
                cmocka_unit_test(test_safe_relative_path),
                cmocka_unit_test(test_visible),
                cmocka_unit_test(test_split),
                cmocka_unit_test(test_common),
        };

        return cmocka_run_group_tests_name("strutil", tests, NULL, NULL);
}
