#include "../unit.h"

#include <errno.h>

#include "util/buf.h"

static void test_limit_holds(void **state)
{
        _cleanup_buf_ Buf buf = BUF_INIT(5);

        (void)state;
        assert_string_equal(buf_str(&buf), "");
        assert_int_equal(buf_append_str(&buf, "abc"), 0);
        assert_int_equal(buf_append_str(&buf, "def"), -EFBIG);
        assert_int_equal(buf_printf(&buf, "%d", 100), -EFBIG);
        assert_string_equal(buf_str(&buf), "abc");
        assert_int_equal(buf_printf(&buf, "%d", 42), 0);
        assert_string_equal(buf_str(&buf), "abc42");
        assert_int_equal(buf_reserve(&buf, SIZE_MAX), -EFBIG);
}

static void test_consume_and_take(void **state)
{
        _cleanup_buf_ Buf buf = BUF_INIT(100);
        size_t len;
        char *text;

        (void)state;
        assert_int_equal(buf_append_str(&buf, "hello"), 0);
        buf_consume(&buf, 2);
        assert_string_equal(buf_str(&buf), "llo");
        text = buf_take(&buf, &len);
        assert_int_equal(len, 3);
        assert_string_equal(text, "llo");
        free(text);
        assert_int_equal(buf.len, 0);
        buf_consume(&buf, 9);
        text = buf_take(&buf, NULL);
        assert_string_equal(text, "");
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit_holds),
                cmocka_unit_test(test_consume_and_take),
        };

        return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
