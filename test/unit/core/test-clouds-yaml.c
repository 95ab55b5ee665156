#include "../unit.h"

#include <errno.h>

#include "core/clouds_yaml.h"
#include "util/alloc.h"

#define _cleanup_env_ _cleanup_(auth_env_done)

static const char clouds[] = "clouds:\n"
                             "  other: {auth: {auth_url: http://other}}\n"
                             "  site:\n"
                             "    auth: &login\n"
                             "      auth_url: https://k:5000/v3\n"
                             "      username: image\n"
                             "      project_name: 'a \"b\"'\n"
                             "      user_domain_name: Default\n"
                             "    region_name: RegionOne\n"
                             "    cacert: /etc/ca.pem\n"
                             "    volume_api_version: 3\n";

static char *write_file(const char *folder, const char *name, const char *text)
{
        char *path = fs_join(folder, name);
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err), err);
        return path;
}

static void assert_var(const AuthEnv *env, const char *name, const char *value)
{
        const char *found = auth_env_get(env, name);

        if (!value)
                assert_null(found);
        else if (!found)
                fail_msg("%s is not set", name);
        else
                assert_string_equal(found, value);
}

static void test_a_cloud(void **state)
{
        _cleanup_free_ char *path = write_file(*state, "clouds.yaml", clouds);
        _cleanup_env_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_ok(clouds_yaml_read(path, "site", &env, &err), err);
        assert_var(&env, "OS_AUTH_URL", "https://k:5000/v3");
        assert_var(&env, "OS_USERNAME", "image");
        assert_var(&env, "OS_PROJECT_NAME", "a \"b\"");
        assert_var(&env, "OS_REGION_NAME", "RegionOne");
        assert_var(&env, "OS_CACERT", "/etc/ca.pem");
        assert_var(&env, "OS_PASSWORD", NULL);
}

static void test_with_secure_beside_it(void **state)
{
        _cleanup_free_ char *path = write_file(*state, "clouds.yaml", clouds);
        _cleanup_free_ char *secure = write_file(
                *state, "secure.yaml", "clouds: {site: {auth: {password: s3cret, username: no}}}");
        _cleanup_env_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        (void)secure;
        auth_env_set(&env, "OS_CLOUD", "site");
        auth_env_set(&env, "OS_CLIENT_CONFIG_FILE", path);
        auth_env_set(&env, "OS_REGION_NAME", "Mine");
        assert_ok(clouds_yaml_apply(&env, &err), err);
        assert_var(&env, "OS_PASSWORD", "s3cret");
        assert_var(&env, "OS_USERNAME", "image");
        assert_var(&env, "OS_REGION_NAME", "Mine");
}

static void test_secure_may_be_of_other_clouds_only(void **state)
{
        static const struct {
                const char *text;
                int r;
        } cases[] = {{"clouds: {other: {auth: {password: s3cret}}}", 0},
                     {"clouds: {site: {auth: {password: s3cret", -EBADMSG}};
        _cleanup_free_ char *path = write_file(*state, "clouds.yaml", clouds);

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *secure = write_file(*state, "secure.yaml", cases[at].text);
                _cleanup_env_ AuthEnv env = {0};
                Error err = ERROR_NONE;

                (void)secure;
                auth_env_set(&env, "OS_CLOUD", "site");
                auth_env_set(&env, "OS_CLIENT_CONFIG_FILE", path);
                assert_int_equal(clouds_yaml_apply(&env, &err), cases[at].r);
                assert_int_equal(err.code, -cases[at].r);
                assert_var(&env, "OS_USERNAME", "image");
                assert_var(&env, "OS_PASSWORD", NULL);
        }
}

static void test_an_openrc_needs_none(void **state)
{
        _cleanup_env_ AuthEnv env = {0}, none = {0};
        Error err = ERROR_NONE;

        (void)state;
        auth_env_set(&env, "OS_CLOUD", "site");
        auth_env_set(&env, "OS_AUTH_URL", "http://k");
        auth_env_set(&env, "OS_CLIENT_CONFIG_FILE", "/nowhere/clouds.yaml");
        assert_ok(clouds_yaml_apply(&env, &err), err);
        assert_ok(clouds_yaml_apply(&none, &err), err);
}

static void test_what_is_wrong(void **state)
{
        static const struct {
                const char *text, *words;
                int code;
        } cases[] = {
                {"", "has no cloud \"site\"", ENOENT},
                {"clouds: [site]", "has no cloud", ENOENT},
                {"clouds: {other: {}}", "has no cloud", ENOENT},
                {"clouds:\n  site: {auth: {password: s3cret\n", "clouds.yaml:", EBADMSG},
                {"a: b: s3cret", "clouds.yaml:1: ", EBADMSG},
        };

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *path = write_file(*state, "clouds.yaml", cases[at].text);
                _cleanup_env_ AuthEnv env = {0};
                Error err = ERROR_NONE;

                assert_int_equal(clouds_yaml_read(path, "site", &env, &err), -cases[at].code);
                assert_contains(err.text, cases[at].words);
                assert_null(strstr(err.text, "s3cret"));
        }
}

static void test_no_file(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "clouds.yaml");
        _cleanup_env_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_int_equal(clouds_yaml_read(path, "site", &env, &err), -ENOENT);
        assert_contains(err.text, path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_a_cloud),
                unit_test_in_folder(test_with_secure_beside_it),
                unit_test_in_folder(test_secure_may_be_of_other_clouds_only),
                cmocka_unit_test(test_an_openrc_needs_none),
                unit_test_in_folder(test_what_is_wrong),
                unit_test_in_folder(test_no_file),
        };

        return cmocka_run_group_tests_name("clouds-yaml", tests, NULL, NULL);
}
