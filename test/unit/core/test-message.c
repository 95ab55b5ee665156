#include "profile-data.h"

#include <errno.h>

#include "core/identity.h"
#include "core/message.h"

static void test_ids(void **state)
{
        _cleanup_free_ char *one = message_new_id(), *two = message_new_id();

        (void)state;
        assert_int_equal(strlen(one), 36);
        assert_string_not_equal(one, two);
        for (size_t at = 0; at < 36; at++) {
                bool dash = at == 8 || at == 13 || at == 18 || at == 23;

                assert_true(dash ? one[at] == '-' : strchr("0123456789abcdef", one[at]) != NULL);
        }
        assert_int_equal(one[14], '4');
        assert_non_null(strchr("89ab", one[19]));
}

static void test_message_free(void **state)
{
        _cleanup_message_ Message *message = xcalloc(1, sizeof *message);

        (void)state;
        message->body = xstrdup("{}");
        message->reason = xstrdup("why");
        message_done(message);
        assert_null(message->body);
        assert_null(message->reason);
        message_done(message);
        message_free(NULL);
}

static void skeleton_identity(const SkeletonValues *values, Identity *ret)
{
        _cleanup_free_ char *body = NULL;
        _cleanup_profile_ Profile *profile = NULL;
        Error err = ERROR_NONE;
        int r = message_skeleton(values, &body, &err);

        assert_ok(r, err);
        profile = parse_str(body);
        r = identity_from_profile(profile, ret, &err);
        assert_ok(r, err);
}

static void test_skeleton_of_a_sandbox(void **state)
{
        SkeletonValues values = {.personality = "p\"$;é",
                                 .archetype = "ral-tier1",
                                 .os = "sl",
                                 .os_version = "7x",
                                 .arch = "x86_64",
                                 .sandbox = "owner/name"};
        _cleanup_(identity_done) Identity identity = {0};

        (void)state;
        skeleton_identity(&values, &identity);
        assert_string_equal(identity.personality, "p\"$;é");
        assert_string_equal(identity.archetype, "ral-tier1");
        assert_string_equal(identity.os_name, "sl");
        assert_string_equal(identity.os_version, "7x");
        assert_string_equal(identity.os_arch, "x86_64");
        assert_string_equal(identity.sandbox, "owner/name");
        assert_null(identity.domain);
}

// As upstream's worker reads it: the very members, and no others.
static void test_skeleton_text(void **state)
{
        SkeletonValues values = {.personality = "p",
                                 .archetype = "a",
                                 .os = "sl",
                                 .os_version = "7x",
                                 .arch = "x86_64",
                                 .domain = "prod"};
        _cleanup_free_ char *body = NULL;
        Error err = ERROR_NONE;
        int r = message_skeleton(&values, &body, &err);

        (void)state;
        assert_ok(r, err);
        assert_string_equal(
                body, "{\"metadata\":{\"template\":{\"branch\":{\"name\":\"prod\",\"type\":"
                      "\"domain\"}}},\"system\":{\"personality\":{\"name\":\"p\"},\"archetype\":{"
                      "\"name\":\"a\"},\"os\":{\"architecture\":\"x86_64\",\"distribution\":{"
                      "\"name\":\"sl\"},\"version\":{\"name\":\"7x\"}}}}");
}

static void test_skeleton_with_the_least(void **state)
{
        SkeletonValues values = {.personality = "p"};
        _cleanup_(identity_done) Identity identity = {0};

        (void)state;
        skeleton_identity(&values, &identity);
        assert_string_equal(identity.personality, "p");
        assert_null(identity.os_name);
        assert_null(identity.domain);
}

static void test_refused(void **state)
{
        static const struct {
                SkeletonValues values;
                int code;
                const char *words;
        } cases[] = {
                {{.personality = "p", .domain = "d", .sandbox = "o/n"}, -EINVAL, "exclude"},
                {{.personality = "p", .sandbox = "name"}, -EINVAL, "is not OWNER/NAME"},
                {{.personality = "p", .sandbox = "/name"}, -EINVAL, "is not OWNER/NAME"},
                {{.personality = "p", .sandbox = "o/"}, -EINVAL, "is not OWNER/NAME"},
                {{.personality = "p", .sandbox = "o/n/x"}, -EINVAL, "is not OWNER/NAME"},
                {{.personality = "\xFF"}, -EINVAL, "UTF-8"},
                {{.personality = "p", .domain = "\xFF"}, -EINVAL, "UTF-8"},
                {{.personality = ""}, -EBADMSG, "/system/personality/name is empty"},
                {{.personality = NULL}, -EBADMSG, "/system/personality/name is missing"},
                {{.personality = "{{x}}"}, -EBADMSG, "{{"},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                char *body = NULL;
                Error err = ERROR_NONE;

                assert_int_equal(message_skeleton(&cases[at].values, &body, &err), cases[at].code);
                assert_contains(err.text, cases[at].words);
                assert_null(body);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ids),
                cmocka_unit_test(test_message_free),
                cmocka_unit_test(test_skeleton_of_a_sandbox),
                cmocka_unit_test(test_skeleton_text),
                cmocka_unit_test(test_skeleton_with_the_least),
                cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
