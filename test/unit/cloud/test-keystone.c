#include "../unit.h"

#include <errno.h>

#include "cloud/keystone.h"
#include "util/alloc.h"

static char *vars[16];

static AuthEnv env_of(const char *const *list, size_t n)
{
        AuthEnv env = {.vars = vars};

        for (size_t at = 0; at < n; at++)
                vars[at] = (char *)(uintptr_t)list[at];
        vars[n] = NULL;
        return env;
}
#define ENV(...)                                                                                   \
        env_of((const char *const[]){__VA_ARGS__},                                                 \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void assert_request(AuthEnv env, const char *expected)
{
        _cleanup_free_ char *body = NULL;
        Error err = ERROR_NONE;

        assert_ok(keystone_token_request(&env, &body, &err), err);
        assert_string_equal(body, expected);
}

static void test_url(void **state)
{
        static const char *const given[] = {
                "OS_AUTH_URL=http://k:5000", "OS_AUTH_URL=http://k:5000/",
                "OS_AUTH_URL=http://k:5000/v3", "OS_AUTH_URL=http://k:5000/v3/"};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(given); at++) {
                AuthEnv env = env_of(&given[at], 1);
                _cleanup_free_ char *url = NULL;
                Error err = ERROR_NONE;

                assert_ok(keystone_token_url(&env, &url, &err), err);
                assert_string_equal(url, "http://k:5000/v3/auth/tokens");
        }
}

static void test_url_that_is_missing(void **state)
{
        AuthEnv none = ENV("OS_USERNAME=u");
        char *url = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(keystone_token_url(&none, &url, &err), -EINVAL);
        assert_contains(err.text, "OS_AUTH_URL");
}

static void test_password(void **state)
{
        (void)state;
        assert_request(
                ENV("OS_USERNAME=u", "OS_PASSWORD=p\"w", "OS_PROJECT_NAME=proj"),
                "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":"
                "{\"name\":\"u\",\"domain\":{\"id\":\"default\"},\"password\":\"p\\\"w\"}}},"
                "\"scope\":{\"project\":{\"name\":\"proj\",\"domain\":{\"id\":\"default\"}}}}}");
        assert_request(
                ENV("OS_USERNAME=u", "OS_PASSWORD=p", "OS_PROJECT_ID=1", "OS_USER_DOMAIN_NAME=d"),
                "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":"
                "{\"name\":\"u\",\"domain\":{\"name\":\"d\"},\"password\":\"p\"}}},"
                "\"scope\":{\"project\":{\"id\":\"1\"}}}}");
}

static void test_application_credential(void **state)
{
        (void)state;
        assert_request(ENV("OS_APPLICATION_CREDENTIAL_ID=i", "OS_APPLICATION_CREDENTIAL_SECRET=s",
                           "OS_PROJECT_NAME=ignored"),
                       "{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
                       "\"application_credential\":{\"id\":\"i\",\"secret\":\"s\"}}}}");
        assert_request(ENV("OS_APPLICATION_CREDENTIAL_NAME=n", "OS_APPLICATION_CREDENTIAL_SECRET=s",
                           "OS_USERNAME=u"),
                       "{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
                       "\"application_credential\":{\"name\":\"n\",\"user\":{\"name\":\"u\","
                       "\"domain\":{\"id\":\"default\"}},\"secret\":\"s\"}}}}");
}

static void test_what_is_missing_is_named(void **state)
{
        static const struct {
                const char *vars[4];
                size_t n;
                const char *words;
        } cases[] = {
                {{"OS_USERNAME=u"}, 1, "OS_PASSWORD"},
                {{"OS_PASSWORD=p"}, 1, "OS_USERNAME"},
                {{"OS_PASSWORD=p", "OS_USERNAME=u"}, 2, "OS_PROJECT_NAME"},
                {{"OS_AUTH_TYPE=v3applicationcredential"}, 1, "OS_APPLICATION_CREDENTIAL_SECRET"},
                {{"OS_APPLICATION_CREDENTIAL_SECRET=s", "OS_AUTH_TYPE=v3applicationcredential"},
                 2,
                 "OS_APPLICATION_CREDENTIAL_ID"},
                {{"OS_AUTH_TYPE=v3oidcpassword"}, 1, "OS_AUTH_TYPE"},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                AuthEnv env = env_of(cases[at].vars, cases[at].n);
                char *body = NULL;
                Error err = ERROR_NONE;

                assert_true(keystone_token_request(&env, &body, &err) < 0);
                assert_contains(err.text, cases[at].words);
        }
}

// ---- the answer ----------------------------------------------------------------------------

static const char answer[] =
        "{\"token\": {\"expires_at\": \"2026-11-23T08:29:26.000000Z\", \"user\": {\"name\": "
        "\"u\"}, \"project\": {\"name\": \"p\"}, \"catalog\": ["
        "{\"type\": \"image\", \"endpoints\": [{\"interface\": \"public\", \"url\": "
        "\"http://i\"}]},"
        "{\"type\": \"compute\", \"endpoints\": ["
        " {\"interface\": \"admin\", \"region_id\": \"R\", \"url\": \"http://a/v2.1\"},"
        " {\"interface\": \"public\", \"region_id\": \"Q\", \"url\": \"http://q/v2.1\"},"
        " {\"interface\": \"public\", \"region_id\": \"R\", \"url\": \"http://p/v2.1/\"}]}]}}";

static void assert_url(const KeystoneGrant *grant, AuthEnv env, const char *type,
                       const char *expected)
{
        _cleanup_free_ char *url = NULL;
        Error err = ERROR_NONE;

        assert_ok(keystone_service_url(grant, &env, type, &url, &err), err);
        assert_string_equal(url, expected);
}

static void test_grant(void **state)
{
        KeystoneGrant grant = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(keystone_read_grant(answer, sizeof answer - 1, &grant, &err), err);
        assert_int_equal(grant.expires_ms, INT64_C(1795422566000));
        assert_string_equal(keystone_user(&grant), "u");
        assert_string_equal(keystone_project(&grant), "p");
        assert_url(&grant, ENV("OS_REGION_NAME=R", "OS_INTERFACE=publicURL"), "compute",
                   "http://p/v2.1");
        assert_url(&grant, ENV("OS_INTERFACE=admin"), "compute", "http://a/v2.1");
        assert_url(&grant, ENV("OS_USERNAME=u"), "image", "http://i");
        keystone_grant_done(&grant);
}

static void test_grant_that_is_none(void **state)
{
        static const char *const texts[] = {"", "[]", "{}", "{\"token\": 7}", "{\"token\": "};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(texts); at++) {
                KeystoneGrant grant = {0};
                Error err = ERROR_NONE;

                assert_true(keystone_read_grant(texts[at], strlen(texts[at]), &grant, &err) < 0);
                assert_contains(err.text, "Keystone");
        }
}

static void test_service_that_is_not_there(void **state)
{
        static const char *const texts[] = {"{\"token\": {}}",
                                            "{\"token\": {\"catalog\": 7, \"user\": 7}}",
                                            "{\"token\": {\"catalog\": [{\"type\": \"compute\","
                                            " \"endpoints\": [{\"interface\": \"public\","
                                            " \"url\": \"file:///etc/passwd\\n\"}]}]}}"};
        AuthEnv env = ENV("OS_REGION_NAME=");

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(texts); at++) {
                KeystoneGrant grant = {0};
                Error err = ERROR_NONE;
                char *url = NULL;

                assert_ok(keystone_read_grant(texts[at], strlen(texts[at]), &grant, &err), err);
                assert_true(keystone_service_url(&grant, &env, "compute", &url, &err) < 0);
                assert_contains(err.text, "no compute service (interface public)");
                assert_null(keystone_user(&grant));
                keystone_grant_done(&grant);
        }
}

static void test_unscoped(void **state)
{
        AuthEnv env = ENV("OS_USERNAME=u", "OS_PASSWORD=p");
        _cleanup_free_ char *body = NULL;
        char *none = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(keystone_unscoped_request(&env, &body, &err), err);
        assert_contains(body, "\"scope\":\"unscoped\"");
        env = ENV("OS_APPLICATION_CREDENTIAL_ID=i", "OS_APPLICATION_CREDENTIAL_SECRET=s");
        assert_ok(keystone_unscoped_request(&env, &none, &err), err);
        assert_null(none);
}

static void test_words(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {{"{\"error\": {\"code\": 401, \"message\": \"It is\\nexpired.\"}}",
                      "It is\\x0aexpired."},
                     {"{\"error\": {\"message\": 7}}", ""},
                     {"{\"error\": \"no\"}", ""},
                     {"<html>", ""},
                     {"", ""}};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *words = keystone_words(cases[at].text, strlen(cases[at].text));

                assert_string_equal(words, cases[at].words);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_url),
                cmocka_unit_test(test_url_that_is_missing),
                cmocka_unit_test(test_password),
                cmocka_unit_test(test_application_credential),
                cmocka_unit_test(test_what_is_missing_is_named),
                cmocka_unit_test(test_grant),
                cmocka_unit_test(test_grant_that_is_none),
                cmocka_unit_test(test_service_that_is_not_there),
                cmocka_unit_test(test_unscoped),
                cmocka_unit_test(test_words),
        };

        return cmocka_run_group_tests_name("keystone", tests, NULL, NULL);
}
