#include "../unit.h"

#include <errno.h>

#include "builder/redact.h"
#include "util/alloc.h"

#define MARK REDACT_MARK

static Redactor *redactor_with(const char *const *secrets)
{
        Redactor *redactor = redactor_new();

        for (; *secrets; secrets++)
                redactor_add(redactor, *secrets);
        return redactor;
}

// The text in two pieces, cut at `cut`, and then the end.
static void assert_cut(const Redactor *redactor, const char *text, size_t cut, const char *expected)
{
        _cleanup_buf_ Buf held = BUF_INIT(65536), out = BUF_INIT(65536);

        assert_int_equal(redactor_feed(redactor, &held, text, cut, false, &out), 0);
        assert_int_equal(
                redactor_feed(redactor, &held, text + cut, strlen(text) - cut, false, &out), 0);
        assert_int_equal(redactor_feed(redactor, &held, "", 0, true, &out), 0);
        assert_int_equal(held.len, 0);
        if (strcmp(buf_str(&out), expected) != 0)
                fail_msg("cut at %zu: \"%s\" instead of \"%s\"", cut, buf_str(&out), expected);
}

static void assert_bytewise(const Redactor *redactor, const char *text, const char *expected)
{
        _cleanup_buf_ Buf held = BUF_INIT(65536), out = BUF_INIT(65536);

        for (const char *at = text; *at; at++)
                assert_int_equal(redactor_feed(redactor, &held, at, 1, false, &out), 0);
        assert_int_equal(redactor_feed(redactor, &held, "", 0, true, &out), 0);
        assert_string_equal(buf_str(&out), expected);
}

// Whatever pieces it comes in.
static void assert_redacted(const Redactor *redactor, const char *text, const char *expected)
{
        _cleanup_free_ char *whole = redactor_text(redactor, text);

        assert_string_equal(whole, expected);
        for (size_t cut = 0; cut <= strlen(text); cut++)
                assert_cut(redactor, text, cut, expected);
        assert_bytewise(redactor, text, expected);
}

static void test_nothing_to_hide(void **state)
{
        _cleanup_redactor_ Redactor *redactor = redactor_new();

        (void)state;
        assert_redacted(redactor, "==> openstack: hello\n", "==> openstack: hello\n");
        assert_redacted(redactor, "", "");
}

static void test_secret_is_hidden_everywhere(void **state)
{
        static const char *const secrets[] = {"hunter22", NULL};
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);

        (void)state;
        assert_redacted(redactor, "a hunter22 b", "a " MARK " b");
        assert_redacted(redactor, "hunter22", MARK);
        assert_redacted(redactor, "hunter22hunter22\n", MARK MARK "\n");
        assert_redacted(redactor, "hunter2 hunter 2hunter22", "hunter2 hunter 2" MARK);
        assert_redacted(redactor, "hunthunter22", "hunt" MARK);
        assert_redacted(redactor, "ends with hunter2", "ends with hunter2");
}

static void test_forms_of_a_secret(void **state)
{
        static const char *const secrets[] = {"a\"b\\c<&é/ d", NULL};
        static const char *const forms[] = {
                "a\"b\\c<&é/ d",                 // raw
                "a\\\"b\\\\c<&é/ d",             // JSON
                "a\\\"b\\\\c\\u003c\\u0026é/ d", // JSON by Go
                "a\\\"b\\\\c<&\\u00E9/ d",       // JSON, ASCII only
                "a\\\"b\\\\c<&\\u00e9/ d",       // … by most others
                "a%22b%5Cc%3C%26%C3%A9%2F%20d",  // percent
                "a%22b%5cc%3c%26%c3%a9%2f%20d",
        };
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(forms); at++) {
                _cleanup_free_ char *text = xasprintf("<%s>", forms[at]);

                assert_redacted(redactor, text, "<" MARK ">");
        }
}

static void test_each_line_of_a_key(void **state)
{
        static const char *const secrets[] = {
                "-----BEGIN KEY-----\r\nMIIabcdef\n\nx\nQWERTY==\n-----END KEY-----\n", NULL};
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);

        (void)state;
        assert_redacted(redactor, "MIIabcdef\\nQWERTY==", MARK "\\n" MARK);
        assert_redacted(redactor, "x is too short", "x is too short");
}

static void test_limits_of_a_secret(void **state)
{
        _cleanup_redactor_ Redactor *redactor = redactor_new();
        _cleanup_free_ char *long_one = xmalloc(REDACT_MAX_SECRET + 2);

        (void)state;
        memset(long_one, 'k', REDACT_MAX_SECRET + 1);
        long_one[REDACT_MAX_SECRET + 1] = '\0';
        redactor_add(redactor, long_one);
        redactor_add(redactor, "abc");
        redactor_add(redactor, "");
        assert_redacted(redactor, "abc kkkkk", "abc kkkkk");
        redactor_add(redactor, long_one + 1);
        {
                _cleanup_free_ char *text = redactor_text(redactor, long_one);

                assert_string_equal(text, MARK "k");
        }
}

static void test_secret_that_is_not_utf8(void **state)
{
        static const char *const secrets[] = {"caf\xE9-au-lait", NULL};
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);

        (void)state;
        assert_redacted(redactor, "x caf\xE9-au-lait y", "x " MARK " y");
        assert_redacted(redactor, "caf%E9-au-lait", MARK);
}

// The longer must not be given away because the shorter was complete first.
static void test_secret_within_another(void **state)
{
        static const char *const start[] = {"abcd", "abcdefgh", NULL};
        static const char *const middle[] = {"cdef", "abcdefgh", NULL};
        static const char *const twice[] = {"abcd", "abcd", NULL};
        _cleanup_redactor_ Redactor *starts = redactor_with(start);
        _cleanup_redactor_ Redactor *middles = redactor_with(middle);
        _cleanup_redactor_ Redactor *twices = redactor_with(twice);

        (void)state;
        assert_redacted(starts, "1 abcdefgh 2", "1 " MARK " 2");
        assert_redacted(starts, "1 abcdef 2", "1 " MARK "ef 2");
        assert_redacted(starts, "abcdabcdefgh", MARK MARK);
        assert_redacted(middles, "1 abcdefgh 2", "1 " MARK " 2");
        assert_redacted(middles, "1 abcdef", "1 ab" MARK);
        assert_redacted(twices, "abcd", MARK);
}

static void test_no_more_is_held_than_needed(void **state)
{
        static const char *const secrets[] = {"hunter22", NULL};
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);
        _cleanup_buf_ Buf held = BUF_INIT(64), out = BUF_INIT(64);

        (void)state;
        // A progress line without newline is shown at once.
        assert_int_equal(redactor_feed(redactor, &held, "working... hu", 13, false, &out), 0);
        assert_string_equal(buf_str(&out), "working... ");
        assert_string_equal(buf_str(&held), "hu");
        assert_int_equal(redactor_feed(redactor, &held, "m", 1, false, &out), 0);
        assert_string_equal(buf_str(&out), "working... hum");
        assert_int_equal(held.len, 0);
}

static void test_output_limit(void **state)
{
        static const char *const secrets[] = {"hunter22", NULL};
        _cleanup_redactor_ Redactor *redactor = redactor_with(secrets);
        _cleanup_buf_ Buf held = BUF_INIT(64), out = BUF_INIT(8);

        (void)state;
        assert_int_equal(redactor_feed(redactor, &held, "123456789", 9, true, &out), -EFBIG);
        assert_int_equal(redactor_feed(redactor, &held, "hunter22", 8, true, &out), -EFBIG);
        assert_int_equal(redactor_feed(redactor, &held, "123456789hunter22", 17, true, &out),
                         -EFBIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_to_hide),
                cmocka_unit_test(test_secret_is_hidden_everywhere),
                cmocka_unit_test(test_forms_of_a_secret),
                cmocka_unit_test(test_each_line_of_a_key),
                cmocka_unit_test(test_limits_of_a_secret),
                cmocka_unit_test(test_secret_that_is_not_utf8),
                cmocka_unit_test(test_secret_within_another),
                cmocka_unit_test(test_no_more_is_held_than_needed),
                cmocka_unit_test(test_output_limit),
        };

        return cmocka_run_group_tests_name("redact", tests, NULL, NULL);
}
