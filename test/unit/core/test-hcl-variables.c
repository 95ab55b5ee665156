#include "../unit.h"

#include "core/hcl_variables.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

static void assert_declares(const char *text, const char *want)
{
        _cleanup_strv_ char **names = hcl_declared_variables(text, strlen(text));
        _cleanup_buf_ Buf all = BUF_INIT(10000);

        STRV_FOREACH (name, names)
                assert_int_equal(buf_printf(&all, "%s%s", all.len ? " " : "", *name), 0);
        if (strcmp(buf_str(&all), want) != 0)
                fail_msg("%s\ndeclares \"%s\", not \"%s\"", text, buf_str(&all), want);
}

static void test_blocks(void **state)
{
        (void)state;
        assert_declares("", "");
        assert_declares("variable \"a\" {}\nvariable \"b\" {\n  type = string\n}\n", "a b");
        assert_declares("variable a {}", "a");
        assert_declares("variable  \"a\"{default=\"x\"}variable \"b\" {}", "a b");
        assert_declares("source \"file\" \"x\" {}\nvariable \"a\" {}", "a");
        assert_declares("build {\n  variable \"no\" {}\n}\nvariable \"a\" {}", "a");
        assert_declares("variable \"a\" {\n  default = { variable = { b = [1] } }\n}\n"
                        "variable \"c\" {}",
                        "a c");
        assert_declares("variable {}\nvariable = 1\nvariable\n\"x\" {}\n", "");
        assert_declares("locals { x = 1 }\nx = y\nvariable \"a\" {}", "a");
}

static void test_comments_and_strings(void **state)
{
        (void)state;
        assert_declares("# variable \"a\" {}\n// variable \"b\" {}\n/* variable \"c\" {}\n"
                        "variable \"d\" {} */ variable \"e\" {}",
                        "e");
        assert_declares("source \"a\" \"b\" {\n  x = \"} variable \\\"n\\\" {\"\n}\n"
                        "variable \"a\" {}",
                        "a");
        assert_declares(
                "locals {\n  x = \"${f(\"}\", \"{\")} $${ %%{ %{ if true }x%{ endif }\"\n}\n"
                "variable \"a\" {}",
                "a");
        assert_declares("locals { x = \"\xC3\xA9 # no comment\" }\nvariable \"a\" {}", "a");
}

static void test_heredocs(void **state)
{
        (void)state;
        assert_declares("locals {\n  x = <<EOF\n}\nvariable \"n\" {}\n  EOF\n}\nvariable \"a\" {}",
                        "a");
        assert_declares("locals {\n  x = <<-END\n }\" \n EOF\n  END\r\n}\nvariable \"a\" {}", "a");
        assert_declares("locals {\n  x = 1 << 2\n}\nvariable \"a\" {}", "a");
        assert_declares("locals {\n  x = <<EOF\nvariable \"n\" {}\n", "");
}

static void test_attributes_of_variables_blocks(void **state)
{
        (void)state;
        assert_declares("variables {\n  a = \"x\"\n\n  # c\n  b = {\n    n = 1\n  }\n  c = 1 }\n"
                        "variable \"d\" {}",
                        "a b c d");
        assert_declares("variables {}", "");
        assert_declares("variables \"x\" {\n  a = 1\n}", "");
        assert_declares("variables { a = [1,\n2] }", "a");
        assert_declares("variables {\n 1 = 2\n", "");
}

// Not HCL: nothing to say, but no way to run away either.
static void test_broken_text(void **state)
{
        enum { DEEP = 100000 };
        _cleanup_free_ char *text = xmalloc(3 * DEEP + 1);

        (void)state;
        assert_declares("variable \"a", "");
        assert_declares("variable \"a\" {", "a");
        assert_declares("variable \"a\" { x = \"\\", "a");
        assert_declares("}}]) variable \"a\" {}", "a");
        assert_declares("/* variable", "");
        assert_declares("<<", "");
        assert_declares("<<-", "");
        for (size_t at = 0; at < DEEP; at++)
                memcpy(text + 3 * at, "\"${", 3);
        text[3 * DEEP] = '\0';
        assert_declares(text, "");
}

static void test_limit(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(100000);
        _cleanup_strv_ char **names = NULL;

        (void)state;
        for (int at = 0; at < 300; at++)
                assert_int_equal(buf_printf(&text, "variable \"v%d\" {}\n", at), 0);
        names = hcl_declared_variables(buf_str(&text), text.len);
        assert_int_equal(strv_count(names), HCL_VARIABLES_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_blocks),
                cmocka_unit_test(test_comments_and_strings),
                cmocka_unit_test(test_heredocs),
                cmocka_unit_test(test_attributes_of_variables_blocks),
                cmocka_unit_test(test_broken_text),
                cmocka_unit_test(test_limit),
        };

        return cmocka_run_group_tests_name("hcl-variables", tests, NULL, NULL);
}
