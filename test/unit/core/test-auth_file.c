#include "../unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builder/redact.h"
#include "core/auth_file.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define _cleanup_auth_ _cleanup_(auth_env_done)

static char *write_openrc(const char *folder, const char *name, const char *text)
{
        char *path = fs_join(folder, name);
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err), err);
        return path;
}

static AuthEnv read_openrc(const char *folder, const char *text)
{
        _cleanup_free_ char *path = write_openrc(folder, "openrc", text);
        AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_ok(auth_file_read(path, &env, &err), err);
        return env;
}

static void assert_refused(const char *folder, const char *text, const char *words)
{
        _cleanup_free_ char *path = write_openrc(folder, "openrc", text);
        _cleanup_auth_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_true(auth_file_read(path, &env, &err) < 0);
        assert_contains(err.text, path);
        assert_contains(err.text, words);
        assert_null(strstr(err.text, "hunter22")); // no value is ever in an error
        assert_null(env.vars);
}

static void assert_var(const AuthEnv *env, const char *name, const char *expected)
{
        const char *value = auth_env_get(env, name);

        if (expected && value)
                assert_string_equal(value, expected);
        else
                assert_ptr_equal(value, expected);
}

// As Horizon writes it, with the question answered.
static const char openrc[] =
        "#!/usr/bin/env bash\n"
        "# comment\n"
        "export OS_AUTH_URL=https://keystone.example.org:5000/v3\n"
        "export OS_PROJECT_ID=0123abcd\n"
        "export OS_PROJECT_NAME=\"image builds\"\n"
        "export OS_USER_DOMAIN_NAME=\"Default\"\n"
        "if [ -z \"$OS_USER_DOMAIN_NAME\" ]; then unset OS_USER_DOMAIN_NAME; fi\n"
        "unset OS_TENANT_ID\n"
        "export OS_USERNAME='packuilon'\n"
        "echo \"Please enter your OpenStack Password: \"\n"
        "export OS_PASSWORD='hunter22 $HOME `id` \"'\n"
        "NOT_EXPORTED=1\n"
        "echo complaint >&2\n";

static void test_openrc_is_sourced(void **state)
{
        _cleanup_auth_ AuthEnv env = read_openrc(*state, openrc);

        assert_var(&env, "OS_AUTH_URL", "https://keystone.example.org:5000/v3");
        assert_var(&env, "OS_PROJECT_NAME", "image builds");
        assert_var(&env, "OS_PASSWORD", "hunter22 $HOME `id` \"");
        assert_var(&env, "NOT_EXPORTED", NULL);
        assert_var(&env, "OS_AUTH", NULL); // not by the start of a name
        // As upstream added them.
        assert_var(&env, "OS_TENANT_ID", "0123abcd");
        assert_var(&env, "OS_DOMAIN_NAME", "Default");
        // Nothing of bash's own.
        assert_var(&env, "SHLVL", NULL);
        assert_var(&env, "PWD", NULL);
        assert_var(&env, "PATH", NULL);
}

static void test_our_environment_stays_out(void **state)
{
        _cleanup_auth_ AuthEnv env = {0};

        assert_int_equal(setenv("OS_REGION_NAME", "ours", 1), 0);
        env = read_openrc(*state, "export OS_CLOUD=site\n");
        assert_int_equal(unsetenv("OS_REGION_NAME"), 0);
        assert_var(&env, "OS_REGION_NAME", NULL);
        assert_var(&env, "OS_CLOUD", "site");
        assert_int_equal(strv_count(env.vars), 1);
}

static void test_old_names_are_not_overwritten(void **state)
{
        _cleanup_auth_ AuthEnv env = read_openrc(*state, "export OS_PROJECT_ID=new\n"
                                                         "export OS_TENANT_ID=old\n"
                                                         "export OS_USER_DOMAIN_NAME=\n"
                                                         "export PATH=/opt/bin:$PATH\n");

        assert_var(&env, "OS_TENANT_ID", "old");
        assert_var(&env, "OS_DOMAIN_NAME", NULL);
        // A path that the file changed is wanted.
        assert_contains(auth_env_get(&env, "PATH"), "/opt/bin:");
}

static void test_application_credentials_name_no_scope(void **state)
{
        static const char *const marks[] = {
                "OS_APPLICATION_CREDENTIAL_ID=1", "OS_APPLICATION_CREDENTIAL_NAME=x",
                "OS_AUTH_TYPE=v3applicationcredential", "OS_AUTH_TYPE=password"};

        for (size_t at = 0; at < ELEMENTSOF(marks); at++) {
                _cleanup_free_ char *text =
                        xasprintf("export %s OS_PROJECT_ID=p OS_USER_DOMAIN_NAME=d\n", marks[at]);
                _cleanup_auth_ AuthEnv env = read_openrc(*state, text);
                bool by_password = at == ELEMENTSOF(marks) - 1;

                assert_var(&env, "OS_TENANT_ID", by_password ? "p" : NULL);
                assert_var(&env, "OS_DOMAIN_NAME", by_password ? "d" : NULL);
        }
}

static void test_values_of_several_lines(void **state)
{
        _cleanup_auth_ AuthEnv env =
                read_openrc(*state, "export OS_CACERT_TEXT='one\ntwo=2\n'\nexport OS_CLOUD=x\n");

        assert_var(&env, "OS_CACERT_TEXT", "one\ntwo=2\n");
        assert_var(&env, "two", NULL);
}

static void test_files_that_give_no_credentials(void **state)
{
        assert_refused(*state, "", "sets no OS_ variable");
        assert_refused(*state, "OS_PASSWORD=hunter22\n", "sets no OS_ variable");
        assert_refused(*state, "export OS_PASSWORD=hunter22\nexit 3\n", "before it was done");
        assert_refused(*state, "if then hunter22\n", "sets no OS_ variable");
        // Horizon's question: stdin is empty.
        assert_refused(*state, "export OS_USERNAME=u\nread -sr IN\nexport OS_PASSWORD=$IN\n",
                       "leaves OS_PASSWORD empty");
        assert_refused(*state, "export OS_X=1\nprintf 'packuilon-environment-follows\\0'\nexit 1\n",
                       "before it was done");
}

static void test_file_that_cannot_be_read(void **state)
{
        _cleanup_free_ char *missing = fs_join(*state, "missing");
        _cleanup_auth_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_int_equal(auth_file_read(missing, &env, &err), -ENOENT);
        assert_contains(err.text, missing);
        if (geteuid() != 0) { // root may read everything
                _cleanup_free_ char *path = write_openrc(*state, "openrc", openrc);

                assert_int_equal(chmod(path, 0), 0);
                assert_int_equal(auth_file_read(path, &env, &err), -EACCES);
        }
}

// The path is an argument and never part of a shell line.
static void test_hostile_path(void **state)
{
        _cleanup_free_ char *mark = fs_join(*state, "mark");
        _cleanup_free_ char *path =
                write_openrc(*state, "a'\";touch mark;$(touch mark) b", "export OS_CLOUD=x\n");
        _cleanup_auth_ AuthEnv env = {0};
        char *old = getcwd(NULL, 0);
        Error err = ERROR_NONE;

        assert_int_equal(chdir(*state), 0);
        assert_ok(auth_file_read(path, &env, &err), err);
        assert_int_equal(chdir(old), 0);
        free(old);
        assert_var(&env, "OS_CLOUD", "x");
        assert_int_equal(access(mark, F_OK), -1);
}

static void test_stale_when_the_file_changed(void **state)
{
        _cleanup_free_ char *path = write_openrc(*state, "openrc", "export OS_CLOUD=x\n");
        _cleanup_auth_ AuthEnv env = {0};
        Error err = ERROR_NONE;

        assert_ok(auth_file_read(path, &env, &err), err);
        assert_false(auth_env_is_stale(&env, path));
        free(write_openrc(*state, "openrc", "export OS_CLOUD=y\n"));
        assert_true(auth_env_is_stale(&env, path));
        auth_env_done(&env);
        assert_ok(auth_file_read(path, &env, &err), err);
        assert_false(auth_env_is_stale(&env, path));
        assert_int_equal(unlink(path), 0);
        assert_true(auth_env_is_stale(&env, path));
}

static void test_secrets_are_hidden_by_name(void **state)
{
        _cleanup_auth_ AuthEnv env =
                read_openrc(*state, "export OS_PASSWORD=hunter22 OS_TOKEN=token-1 \\\n"
                                    " OS_APPLICATION_CREDENTIAL_SECRET=hush-hush \\\n"
                                    " AWS_SECRET_ACCESS_KEY=aws-key OS_USERNAME=packuilon\n");
        _cleanup_redactor_ Redactor *redactor = redactor_new();
        _cleanup_free_ char *text = NULL;

        auth_env_redact(&env, redactor);
        text = redactor_text(redactor, "hunter22 token-1 hush-hush aws-key packuilon");
        assert_string_equal(text, REDACT_MARK " " REDACT_MARK " " REDACT_MARK " " REDACT_MARK
                                              " packuilon");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_openrc_is_sourced),
                unit_test_in_folder(test_our_environment_stays_out),
                unit_test_in_folder(test_old_names_are_not_overwritten),
                unit_test_in_folder(test_application_credentials_name_no_scope),
                unit_test_in_folder(test_values_of_several_lines),
                unit_test_in_folder(test_files_that_give_no_credentials),
                unit_test_in_folder(test_file_that_cannot_be_read),
                unit_test_in_folder(test_hostile_path),
                unit_test_in_folder(test_stale_when_the_file_changed),
                unit_test_in_folder(test_secrets_are_hidden_by_name),
        };

        return cmocka_run_group_tests_name("auth_file", tests, NULL, NULL);
}
