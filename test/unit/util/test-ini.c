#include "../unit.h"

#include <errno.h>

#include "util/buf.h"
#include "util/ini.h"
#include "util/macro.h"

static void parse(const char *text, Ini *ret)
{
        Error err = ERROR_NONE;

        assert_ok(ini_parse("x.ini", text, strlen(text), ret, &err), err);
}

static const char *value_of(const Ini *ini, const char *section, const char *key)
{
        for (size_t i = 0; i < ini->n_entries; i++) {
                if (strcmp(ini->entries[i].section, section) == 0 &&
                    strcmp(ini->entries[i].key, key) == 0)
                        return ini->entries[i].value;
        }
        return NULL;
}

// The text has one section [a] with the key k.
static void assert_value(const char *text, const char *expected)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};

        parse(text, &ini);
        assert_non_null(value_of(&ini, "a", "k"));
        assert_string_equal(value_of(&ini, "a", "k"), expected);
}

static void assert_fails(const char *text, int code, const char *expected)
{
        Ini ini = {.n_entries = 0};
        Error err = ERROR_NONE;

        assert_int_equal(ini_parse("x.ini", text, strlen(text), &ini, &err), -code);
        assert_string_equal(err.text, expected);
        assert_int_equal(ini.n_entries, 0);
        assert_null(ini.entries);
}

static void test_entries_in_order_with_lines(void **state)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};

        (void)state;
        parse("# comment\n\n[Global]\nQUEUE = build-queue\n  ; comment\nRabbit_Host: host\n[b]\n"
              "k=v",
              &ini);
        assert_int_equal(ini.n_entries, 3);
        assert_string_equal(ini.entries[0].section, "Global");
        assert_string_equal(ini.entries[0].key, "queue");
        assert_string_equal(ini.entries[0].value, "build-queue");
        assert_int_equal(ini.entries[0].line, 4);
        assert_string_equal(ini.entries[1].key, "rabbit_host");
        assert_string_equal(ini.entries[1].value, "host");
        assert_int_equal(ini.entries[1].line, 6);
        assert_string_equal(ini.entries[2].section, "b");
        assert_int_equal(ini.entries[2].line, 8);
        assert_false(ini.entries[2].from_default);
}

static void test_empty_text(void **state)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};

        (void)state;
        parse("", &ini);
        parse("\xEF\xBB\xBF", &ini);
        parse("\n# nothing\n[a]\n", &ini);
        assert_int_equal(ini.n_entries, 0);
}

static void test_values(void **state)
{
        (void)state;
        assert_value("[a]\nk = v", "v");
        assert_value("[a]\nK=v=w:x", "v=w:x");
        assert_value("[a]\nk : v = w", "v = w");
        assert_value("[a]\nk =", "");
        assert_value("[a]\nk = v # not a comment", "v # not a comment");
        assert_value("[a]\n\tk = \t v \t\n", "v");
        assert_value("\xEF\xBB\xBF[a]\r\nk = v\r\n", "v");
        assert_value("[a] trailing words\nk = v", "v");
        assert_value("[a]\nk = caf\xC3\xA9", "caf\xC3\xA9");
}

static void test_continuation(void **state)
{
        (void)state;
        assert_value("[a]\nk = v\n  w\n  x\n", "v\nw\nx");
        assert_value("[a]\nk =\n  v\n", "v");
        assert_value("[a]\nk = v\n# comment\n  w\n", "v\nw");
        assert_value("[a]\nk = v\n\n  w\n\n\nl = x\n", "v\n\nw");
        assert_value("[a]\n  k = v\n  l = w\n", "v");
        assert_value("[a]\n  k = v\n    w = x\n", "v\nw = x");
        assert_value("[a]\nk = v\n  [b]\n", "v\n[b]");
        assert_value("[a]\n\n  k = v\n", "v");
}

static void test_default_section(void **state)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};

        (void)state;
        parse("[a]\nk = own\n[DEFAULT]\nk = given\nbase = /srv\n[b]\nl = w\n[c]\n", &ini);
        assert_string_equal(value_of(&ini, "a", "k"), "own");
        assert_string_equal(value_of(&ini, "a", "base"), "/srv");
        assert_string_equal(value_of(&ini, "b", "k"), "given");
        assert_string_equal(value_of(&ini, "c", "k"), "given");
        assert_null(value_of(&ini, "DEFAULT", "k"));
        assert_int_equal(ini.n_entries, 7);
        assert_false(ini.entries[0].from_default);
        assert_true(ini.entries[1].from_default);
        assert_int_equal(ini.entries[1].line, 5);
}

static void test_interpolation(void **state)
{
        (void)state;
        assert_value("[a]\nk = 100%%", "100%");
        assert_value("[a]\nk = 100% of p%w%", "100% of p%w%");
        assert_value("[a]\nk = %%(l)s", "%(l)s");
        assert_value("[a]\nk = %%%", "%%");
        assert_value("[a]\nk = %(l)s/%(L)s\nl = v", "v/v");
        assert_value("[DEFAULT]\nbase = /srv\n[a]\nk = %(base)s/log", "/srv/log");
        assert_value("[a]\nk = %(l)s\nl = <%(m)s>\nm = v", "<v>");
        assert_value("[DEFAULT]\nk = %(m)s\n[a]\nm = own", "own");
        assert_value("[a]\nk = %(l)s\nl = 5%%", "5%");
        // What only looks like a reference is kept.
        assert_value("[a]\nk = %()s %(l %(l)d %(l", "%()s %(l %(l)d %(l");
}

static void test_interpolation_errors(void **state)
{
        (void)state;
        assert_fails("[a]\nk = v\nl = %(M)s", EINVAL,
                     "x.ini:3: [a] l refers by %(…)s to a key that is neither in this section nor "
                     "in [DEFAULT]; write %% for a percent sign");
        assert_fails("[a]\nk = %(k)s", ELOOP,
                     "x.ini:2: [a] k has more than 10 levels of %(…)s, or refers to itself");
        assert_fails("[a]\nk = %(l)s\nl = %(k)s", ELOOP,
                     "x.ini:3: [a] l has more than 10 levels of %(…)s, or refers to itself");
}

// k10 refers to k9 and so on, in both orders: the limit does not depend on it.
static void test_levels(void **state)
{
        (void)state;
        for (int levels = 10; levels <= 11; levels++) {
                _cleanup_buf_ Buf up = BUF_INIT(1000), down = BUF_INIT(1000);
                _cleanup_(ini_done) Ini ini = {.n_entries = 0};

                assert_int_equal(buf_append_str(&up, "[a]\nk0 = v\n"), 0);
                assert_int_equal(buf_append_str(&down, "[a]\n"), 0);
                for (int i = 1; i <= levels; i++) {
                        assert_int_equal(buf_printf(&up, "k%d = %%(k%d)s\n", i, i - 1), 0);
                        assert_int_equal(
                                buf_printf(&down, "k%d = %%(k%d)s\n", levels + 1 - i, levels - i),
                                0);
                }
                assert_int_equal(buf_append_str(&down, "k0 = v\n"), 0);
                if (levels == 10) {
                        parse(buf_str(&up), &ini);
                        assert_string_equal(value_of(&ini, "a", "k10"), "v");
                        ini_done(&ini);
                        parse(buf_str(&down), &ini);
                        assert_string_equal(value_of(&ini, "a", "k10"), "v");
                } else {
                        assert_int_equal(ini_parse("x", up.data, up.len, &ini, NULL), -ELOOP);
                        assert_int_equal(ini_parse("x", down.data, down.len, &ini, NULL), -ELOOP);
                }
        }
}

static void test_errors_name_the_line(void **state)
{
        (void)state;
        assert_fails("k = v", EINVAL, "x.ini:1: a [section] must come before this");
        assert_fails("[a]\n= v", EINVAL, "x.ini:2: no key before the \"=\"");
        assert_fails("[a]\nk", EINVAL,
                     "x.ini:2: neither a [section] nor KEY = VALUE nor a comment");
        assert_fails("[a]\n\n[b\n", EINVAL,
                     "x.ini:3: neither a [section] nor KEY = VALUE nor a comment");
        assert_fails("[]", EINVAL, "x.ini:1: a [section] must come before this");
        assert_fails("[a]\nKey = v\n\nkEY = w", EINVAL,
                     "x.ini:4: [a] kEY is set already, in line 2");
        assert_fails("[a]\n[b]\n[a]\n", EINVAL,
                     "x.ini:3: the section [a] is there already, in line 1");
        assert_fails("[a]\nk = caf\xE9\n", EILSEQ, "x.ini:2: this line is not UTF-8");
}

static void test_nul(void **state)
{
        static const char text[] = "[a]\nk = v\0w\n";
        Error err = ERROR_NONE;
        Ini ini;

        (void)state;
        assert_int_equal(ini_parse("x.ini", text, sizeof text - 1, &ini, &err), -EINVAL);
        assert_string_equal(err.text, "x.ini:2: a NUL byte");
}

// A text of `count` times the line (with the count as its %zu), after a start.
static char *repeat(const char *start, const char *before, const char *after, size_t count)
{
        Buf text = BUF_INIT((size_t)4 * 1024 * 1024);

        assert_int_equal(buf_append_str(&text, start), 0);
        for (size_t i = 0; i < count; i++)
                assert_int_equal(buf_printf(&text, "%s%zu%s", before, i, after), 0);
        return buf_take(&text, NULL);
}

static void assert_too_much(char *take_text, const char *expected)
{
        _cleanup_free_ char *text = take_text;
        Error err = ERROR_NONE;
        Ini ini;

        assert_int_equal(ini_parse("x.ini", text, strlen(text), &ini, &err), -EFBIG);
        assert_contains(err.text, expected);
}

static void test_limits(void **state)
{
        _cleanup_free_ char *most = repeat("[a]\n", "k", " = v\n", 4096);
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};
        _cleanup_free_ char *long_line = calloc(1, 65540);
        _cleanup_buf_ Buf text = BUF_INIT(200000);

        (void)state;
        parse(most, &ini);
        assert_int_equal(ini.n_entries, 4096);
        assert_too_much(repeat("[a]\n", "k", " = v\n", 4097), "x.ini:4098: more than 4096 keys");
        assert_too_much(repeat("", "[s", "]\n", 257), "x.ini:257: more than 256 sections");
        assert_too_much(repeat("[DEFAULT]\na=1\nb=2\nc=3\nd=4\ne=5\nf=6\ng=7\nh=8\ni=9\nj=10\n"
                               "k=11\nl=12\nm=13\nn=14\no=15\np=16\nq=17\n",
                               "[s", "]\n", 250),
                        "[DEFAULT] in every section");
        assert_too_much(repeat("[a]\n", "#", "\n", 200000), "x.ini: more than 1048576 bytes");
        assert_too_much(repeat("[a]\nk =\n", "  ", "\n", 20000), "the value is over 65536 bytes");

        memset(long_line, 'v', 65537);
        assert_int_equal(buf_printf(&text, "[a]\nk = %s", long_line), 0);
        assert_int_equal(ini_parse("x.ini", text.data, text.len, &ini, NULL), -EFBIG);
        buf_clear(&text);
        long_line[40000] = '\0';
        assert_int_equal(buf_printf(&text, "[a]\nk = %s\nl = %%(k)s%%(k)s", long_line), 0);
        assert_int_equal(ini_parse("x.ini", text.data, text.len, &ini, NULL), -EFBIG);
        buf_clear(&text);
        assert_int_equal(buf_printf(&text, "[a]\nm = %%(k)s%s\nk = %s", long_line, long_line), 0);
        assert_int_equal(ini_parse("x.ini", text.data, text.len, &ini, NULL), -EFBIG);
        buf_clear(&text);
        assert_int_equal(buf_printf(&text, "[a]\nk = %s\n", long_line), 0);
        for (int i = 0; i < 110; i++)
                assert_int_equal(buf_printf(&text, "k%d = %%(k)s\n", i), 0);
        assert_int_equal(ini_parse("x.ini", text.data, text.len, &(Ini){.n_entries = 0}, NULL),
                         -EFBIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_entries_in_order_with_lines),
                cmocka_unit_test(test_empty_text),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_continuation),
                cmocka_unit_test(test_default_section),
                cmocka_unit_test(test_interpolation),
                cmocka_unit_test(test_interpolation_errors),
                cmocka_unit_test(test_levels),
                cmocka_unit_test(test_errors_name_the_line),
                cmocka_unit_test(test_nul),
                cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests_name("ini", tests, NULL, NULL);
}
