#include "profile-data.h"

#include <errno.h>

#include "core/identity.h"
#include "util/strutil.h"

static void identity_of(const char *text, Identity *ret)
{
        _cleanup_profile_ Profile *profile = parse_str(text);
        Error err = ERROR_NONE;
        int r = identity_from_profile(profile, ret, &err);

        assert_ok(r, err);
}

static void test_domain_sample(void **state)
{
        size_t len;
        _cleanup_free_ char *text = sample_text(ROCKY, &len);
        _cleanup_(identity_done) Identity identity = {0};
        _cleanup_strv_ char **keys = NULL;

        (void)state;
        identity_of(text, &identity);
        assert_string_equal(identity.personality, "nubesvms");
        assert_string_equal(identity.archetype, "core-services");
        assert_string_equal(identity.os_name, "rocky");
        assert_string_equal(identity.os_version, "8x");
        assert_string_equal(identity.os_arch, "x86_64");
        assert_string_equal(identity.broker_os, "rocky");
        assert_string_equal(identity.broker_os_version, "8x-x86_64");
        assert_string_equal(identity.pxe_os, "images");
        assert_string_equal(identity.hostname, "rocky-8-aq");
        assert_string_equal(identity.domain, "prod");
        assert_null(identity.sandbox);
        // The first two are the same.
        keys = identity_os_keys(&identity);
        assert_int_equal(strv_count(keys), 2);
        assert_string_equal(keys[0], "rocky8x-x86_64");
        assert_string_equal(keys[1], "images");
}

static void test_sandbox_sample(void **state)
{
        size_t len;
        _cleanup_free_ char *text =
                sample_text("compiled-aquilon/centos-7-aq.cloud.template.json", &len);
        _cleanup_(identity_done) Identity identity = {0};

        (void)state;
        identity_of(text, &identity);
        assert_string_equal(identity.personality, "image-factory");
        assert_string_equal(identity.sandbox, "jbloggs/image-test");
        assert_null(identity.domain);
}

static void test_all_but_personality_may_miss(void **state)
{
        _cleanup_(identity_done) Identity identity = {0};
        _cleanup_strv_ char **keys = NULL;

        (void)state;
        identity_of("{\"system\":{\"personality\":{\"name\":\"p\"}}}", &identity);
        assert_string_equal(identity.personality, "p");
        assert_null(identity.archetype);
        assert_null(identity.os_name);
        assert_null(identity.pxe_os);
        assert_null(identity.hostname);
        assert_null(identity.domain);
        assert_null(identity.sandbox);
        keys = identity_os_keys(&identity);
        assert_null(keys[0]);
}

#define PXE(kernel)                                                                                \
        "{\"system\":{\"personality\":{\"name\":\"p\"},\"aii\":{\"nbp\":{\"pxelinux\":{"           \
        "\"kernel\":" kernel "}}}}}"

static void test_pxe_os(void **state)
{
        static const struct {
                const char *text, *os;
        } cases[] = {
                {PXE("\"sl7x-x86_64/vmlinuz\""), "sl7x-x86_64"},
                {PXE("\"//images/x/vmlinuz\""), "images"},
                {PXE("\"vmlinuz\""), "vmlinuz"},
                {PXE("\"/\""), NULL},
                {PXE("\"\""), NULL},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_(identity_done) Identity identity = {0};

                identity_of(cases[at].text, &identity);
                if (cases[at].os)
                        assert_string_equal(identity.pxe_os, cases[at].os);
                else
                        assert_null(identity.pxe_os);
        }
}

static void test_order_of_os_keys(void **state)
{
        char sl[] = "sl", v7x[] = "7x", arch[] = "x86_64", rocky[] = "rocky", v8x[] = "8x";
        char pxe[] = "pxe";
        Identity identity = {.os_name = sl,
                             .os_version = v7x,
                             .os_arch = arch,
                             .broker_os = rocky,
                             .broker_os_version = v8x,
                             .pxe_os = pxe};
        _cleanup_strv_ char **keys = identity_os_keys(&identity), **fewer = NULL;

        (void)state;
        assert_int_equal(strv_count(keys), 3);
        assert_string_equal(keys[0], "sl7x-x86_64");
        assert_string_equal(keys[1], "rocky8x");
        assert_string_equal(keys[2], "pxe");
        identity.os_arch = NULL;
        fewer = identity_os_keys(&identity);
        assert_int_equal(strv_count(fewer), 2);
        assert_string_equal(fewer[0], "rocky8x");
}

#define PERSONALITY(value) "{\"system\":{\"personality\":{\"name\":" value "}}}"
#define BRANCH(branch)                                                                             \
        "{\"system\":{\"personality\":{\"name\":\"p\"}},\"metadata\":{\"template\":{\"branch\":"   \
        "{" branch "}}}}"

static void test_poison(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                {"{}", "/system/personality/name is missing"},
                {PERSONALITY("1"), "/system/personality/name is not a string"},
                {PERSONALITY("{}"), "/system/personality/name is not a string"},
                {PERSONALITY("null"), "/system/personality/name is not a string"},
                {PERSONALITY("\"\""), "/system/personality/name is empty"},
                {PERSONALITY("\"a\\nb\""), "has control characters: \"a\\x0ab\""},
                {PERSONALITY("\"a{{env `X`}}\""), "holds \"{{\""},
                {PERSONALITY("\"../../x\""), "/system/personality/name holds \"..\""},
                {PERSONALITY("\"a/..\""), "holds \"..\""},
                {PERSONALITY("\"..\""), "holds \"..\""},
                {PXE("7"), "/system/aii/nbp/pxelinux/kernel is not a string"},
                {PXE("\"a{{b/vmlinuz\""), "/system/aii/nbp/pxelinux/kernel holds"},
                {BRANCH("\"type\":7"), "/metadata/template/branch/type is not a string"},
                {BRANCH("\"type\":\"sandbox\",\"name\":[]"), "branch/name is not a string"},
                {BRANCH("\"type\":\"sandbox\",\"name\":\"x\",\"author\":\"\""),
                 "branch/author is empty"},
                {BRANCH("\"type\":\"sandbox\",\"name\":\"x\""), "branch/author is missing"},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_profile_ Profile *profile = parse_str(cases[at].text);
                Identity identity = {0};
                Error err = ERROR_NONE;

                assert_int_equal(identity_from_profile(profile, &identity, &err), -EBADMSG);
                assert_contains(err.text, cases[at].words);
                assert_null(identity.personality);
        }
}

static int parse_personality(size_t len, size_t author_len, Error *err)
{
        char name[300], author[300];
        _cleanup_free_ char *text = NULL;
        _cleanup_profile_ Profile *profile = NULL;
        _cleanup_(identity_done) Identity identity = {0};

        memset(name, 'n', sizeof name);
        memset(author, 'a', sizeof author);
        text = xasprintf("{\"system\":{\"personality\":{\"name\":\"%.*s\"}},"
                         "\"metadata\":{\"template\":{\"branch\":{\"type\":\"sandbox\","
                         "\"name\":\"x\",\"author\":\"%.*s\"}}}}",
                         (int)len, name, (int)author_len, author);
        profile = parse_str(text);
        return identity_from_profile(profile, &identity, err);
}

static void test_length_limit(void **state)
{
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(parse_personality(255, 253, &err), 0);
        assert_int_equal(parse_personality(256, 1, &err), -EBADMSG);
        assert_contains(err.text, "/system/personality/name is 256 bytes long");
        assert_int_equal(parse_personality(1, 254, &err), -EBADMSG);
        assert_contains(err.text, "/metadata/template/branch is 256 bytes long");
}

static void test_branches(void **state)
{
        _cleanup_(identity_done) Identity none = {0}, other = {0};

        (void)state;
        identity_of(BRANCH("\"type\":\"domain\""), &none);
        assert_null(none.domain);
        identity_of(BRANCH("\"type\":\"tag\",\"name\":\"x\""), &other);
        assert_null(other.domain);
        assert_null(other.sandbox);
}

static void test_image_name(void **state)
{
        char pers[] = "pers", arch[] = "arch", host[] = "$NAME";
        Identity identity = {.personality = pers, .archetype = arch, .hostname = host};
        static const struct {
                const char *pattern, *name;
        } cases[] = {
                {"${personality}-${os}", "pers-sl7x"}, {"${hostname}", "$NAME"},
                {"$x ${archetype}$", "$x arch$"},      {"fixed", "fixed"},
                {"..a/.../b..", "..a/.../b.."},
        };
        static const struct {
                const char *pattern, *words;
        } wrong[] = {
                {"${domain}", "no value for ${domain}"},
                {"${sandbox}", "no value for ${sandbox}"},
                {"${Personality}", "${Personality} is unknown"},
                {"${}", "${} is unknown"},
                {"a${os", "without \"}\""},
                {"", "is empty"},
                {"{${os}}{{", "holds \"{{\""},
        };
        Error err = ERROR_NONE;

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *name = NULL;
                int r = identity_image_name(&identity, cases[at].pattern, "sl7x", &name, &err);

                assert_ok(r, err);
                assert_string_equal(name, cases[at].name);
        }
        for (size_t at = 0; at < ELEMENTSOF(wrong); at++) {
                char *name = NULL;

                assert_int_equal(
                        identity_image_name(&identity, wrong[at].pattern, "sl7x", &name, &err),
                        -EBADMSG);
                assert_contains(err.text, wrong[at].words);
                assert_null(name);
        }
}

static void test_image_name_is_limited(void **state)
{
        char personality[200];
        Identity identity = {.personality = personality};
        char *name = NULL;
        Error err = ERROR_NONE;

        (void)state;
        memset(personality, 'p', sizeof personality - 1);
        personality[sizeof personality - 1] = '\0';
        assert_int_equal(identity_image_name(&identity, "${personality}-x", "", &name, &err),
                         -EBADMSG);
        assert_contains(err.text, "longer than 200 bytes");
}

static void test_file_name(void **state)
{
        static const struct {
                const char *image, *file;
        } cases[] = {
                {"pers-sl7x_X86+@=9", "pers-sl7x_X86+@=9"},
                {"../a b.c", "___a_b_c"},
                {"\xC3\xA9$;'\"", "______"},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *file = identity_file_name(cases[at].image);

                assert_string_equal(file, cases[at].file);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_domain_sample),
                cmocka_unit_test(test_sandbox_sample),
                cmocka_unit_test(test_all_but_personality_may_miss),
                cmocka_unit_test(test_pxe_os),
                cmocka_unit_test(test_order_of_os_keys),
                cmocka_unit_test(test_poison),
                cmocka_unit_test(test_length_limit),
                cmocka_unit_test(test_branches),
                cmocka_unit_test(test_image_name),
                cmocka_unit_test(test_image_name_is_limited),
                cmocka_unit_test(test_file_name),
        };

        return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
