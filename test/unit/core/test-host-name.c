#include "../unit.h"

#include "core/host_name.h"
#include "util/alloc.h"

static void test_valid_names(void **state)
{
        _cleanup_free_ char *long_label = xcalloc(70, 1);

        (void)state;
        assert_true(host_name_is_valid("a.b"));
        assert_true(host_name_is_valid("host-10-0-0-1.nubes.example.org"));
        assert_true(host_name_is_valid("3com.COM"));
        assert_false(host_name_is_valid(""));
        assert_false(host_name_is_valid("localhost"));
        assert_false(host_name_is_valid("a..b"));
        assert_false(host_name_is_valid(".a.b"));
        assert_false(host_name_is_valid("a.b."));
        assert_false(host_name_is_valid("-a.b"));
        assert_false(host_name_is_valid("a-.b"));
        assert_false(host_name_is_valid("a_b.c"));
        assert_false(host_name_is_valid("a/../b.c"));
        assert_false(host_name_is_valid("ä.c"));
        memset(long_label, 'x', 64);
        strcpy(long_label + 64, ".org");
        assert_false(host_name_is_valid(long_label));
}

static void test_normalize(void **state)
{
        _cleanup_free_ char *name = NULL;
        char *none = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(host_name_normalize("VM5.Example.ORG.", &name, &err), err);
        assert_string_equal(name, "vm5.example.org");
        assert_true(host_name_normalize("two words.org", &none, &err) < 0);
        assert_contains(err.text, "two words.org");
}

static void test_expand(void **state)
{
        static const HostNameValues values = {
                .address = "10.0.0.1", .name = "Build", .server = "299c-44"};
        _cleanup_free_ char *by_address = NULL, *by_both = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(host_name_expand("host-${address}.x.org", &values, &by_address, &err), err);
        assert_string_equal(by_address, "host-10-0-0-1.x.org");
        assert_ok(host_name_expand("${name}.${server}.org", &values, &by_both, &err), err);
        assert_string_equal(by_both, "build.299c-44.org");
}

static void test_expand_refuses(void **state)
{
        static const HostNameValues values = {.address = "10.0.0.1", .name = NULL, .server = "s"};
        static const char *const patterns[][2] = {{"${nope}.org", "${nope} is unknown"},
                                                  {"${address.org", "without"},
                                                  {"${name}.org", "not a host name"},
                                                  {"$(reboot).org", "not a host name"},
                                                  {"${address}", "not a host name"}};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(patterns); at++) {
                char *name = NULL;
                Error err = ERROR_NONE;

                assert_true(host_name_expand(patterns[at][0], &values, &name, &err) < 0);
                assert_contains(err.text, patterns[at][1]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_valid_names),
                cmocka_unit_test(test_normalize),
                cmocka_unit_test(test_expand),
                cmocka_unit_test(test_expand_refuses),
        };

        return cmocka_run_group_tests_name("host-name", tests, NULL, NULL);
}
