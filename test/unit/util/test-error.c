#include "../unit.h"

#include <errno.h>

static void test_set_and_prefix(void **state)
{
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(error_set(&err, EINVAL, "line %d", 7), -EINVAL);
        assert_int_equal(error_prefix(&err, "file %s", "x.ini"), -EINVAL);
        assert_string_equal(err.text, "file x.ini: line 7");
        assert_int_equal(error_set(NULL, ENOENT, "nobody listens"), -ENOENT);
}

static void test_sys_names_errno(void **state)
{
        Error err = ERROR_NONE;

        (void)state;
        errno = EACCES;
        assert_int_equal(error_sys(&err, "cannot open %s", "f"), -EACCES);
        assert_string_equal(err.text, "cannot open f: Permission denied");
}

static void test_long_text_is_cut_between_characters(void **state)
{
        Error err = ERROR_NONE;
        char text[2 * ERROR_TEXT_MAX];

        (void)state;
        for (size_t at = 0; at + 2 < sizeof text; at += 2)
                memcpy(text + at, "\xC3\xA9", 3);
        (void)error_set(&err, EINVAL, "x%s", text);
        assert_true(strlen(err.text) < ERROR_TEXT_MAX);
        assert_int_equal((strlen(err.text) - 1) % 2, 0);
        (void)error_prefix(&err, "yy");
        assert_int_equal((strlen(err.text) - 5) % 2, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set_and_prefix),
                cmocka_unit_test(test_sys_names_errno),
                cmocka_unit_test(test_long_text_is_cut_between_characters),
        };

        return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
