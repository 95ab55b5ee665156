#include "core/auth_file.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/child.h"
#include "util/strutil.h"

#define AUTH_OUTPUT_MAX ((size_t)1024 * 1024)
#define MARKER "packuilon-environment-follows"

// What stands before the marker is whatever the file itself printed.
static const char script[] =
        ". \"$1\" </dev/null >/dev/null; printf '\\0%s\\0' " MARKER "; exec env -0";

static const char *const bare_environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/",
        "LC_ALL=C.UTF-8",
        NULL,
};

static const char *const shell_variables[] = {"PWD", "OLDPWD", "SHLVL", "_"};

static bool has_name(const char *var, const char *name)
{
        size_t len = strlen(name);

        return strncmp(var, name, len) == 0 && var[len] == '=';
}

static bool is_from_file(const char *var)
{
        for (size_t at = 0; bare_environment[at]; at++) {
                if (strcmp(var, bare_environment[at]) == 0)
                        return false;
        }
        for (size_t at = 0; at < ELEMENTSOF(shell_variables); at++) {
                if (has_name(var, shell_variables[at]))
                        return false;
        }
        return strchr(var, '=') != NULL;
}

static void add_var(AuthEnv *env, char *take_var)
{
        size_t n = strv_count(env->vars);

        env->vars = xreallocarray(env->vars, n + 2, sizeof *env->vars);
        env->vars[n] = take_var;
        env->vars[n + 1] = NULL;
}

const char *auth_env_get(const AuthEnv *env, const char *name)
{
        STRV_FOREACH (var, env->vars) {
                if (has_name(*var, name))
                        return *var + strlen(name) + 1;
        }
        return NULL;
}

void auth_env_set(AuthEnv *env, const char *name, const char *value)
{
        add_var(env, xasprintf("%s=%s", name, value));
}

static void add_old_name(AuthEnv *env, const char *name, const char *old_name)
{
        const char *value = auth_env_get(env, name);

        if (value && *value && !auth_env_get(env, old_name))
                add_var(env, xasprintf("%s=%s", old_name, value));
}

static bool uses_application_credential(const AuthEnv *env)
{
        const char *type = auth_env_get(env, "OS_AUTH_TYPE");

        return auth_env_get(env, "OS_APPLICATION_CREDENTIAL_ID") ||
               auth_env_get(env, "OS_APPLICATION_CREDENTIAL_NAME") ||
               (type && strcmp(type, "v3applicationcredential") == 0);
}

static int check_env(const AuthEnv *env, const char *path, Error *err)
{
        const char *password = auth_env_get(env, "OS_PASSWORD");

        STRV_FOREACH (var, env->vars) {
                if (!str_starts_with(*var, "OS_"))
                        continue;
                if (password && !*password)
                        return error_set(err, EINVAL,
                                         "auth file %s leaves OS_PASSWORD empty, as one that asks "
                                         "for it does: nobody can answer here, so replace the "
                                         "question by export OS_PASSWORD=… (and chmod 0600)",
                                         path);
                return 0;
        }
        return error_set(err, EINVAL,
                         "auth file %s sets no OS_ variable: it should be an openrc (export "
                         "OS_AUTH_URL=…) or set OS_CLOUD",
                         path);
}

static int parse_environment(const char *path, const Buf *output, AuthEnv *env, Error *err)
{
        static const char marker[] = "\0" MARKER;
        const char *end = output->data ? output->data + output->len : NULL;
        const char *at =
                output->data ? memmem(output->data, output->len, marker, sizeof marker) : NULL;

        if (!at)
                return error_set(err, EINVAL,
                                 "auth file %s ended bash before it was done (see: bash -x %s)",
                                 path, path);
        for (at += sizeof marker; at < end; at += strlen(at) + 1) {
                if (is_from_file(at))
                        add_var(env, xstrdup(at));
        }
        return check_env(env, path, err);
}

int auth_file_read(const char *path, AuthEnv *ret, Error *err)
{
        const char *const argv[] = {"bash", "--norc", "-c", script, "packuilon", path, NULL};
        const ChildSpec spec = {.argv = argv, .envp = bare_environment, .out_fd = -1};
        _cleanup_buf_ Buf output = BUF_INIT(AUTH_OUTPUT_MAX);
        _cleanup_(auth_env_done) AuthEnv env = {0};
        int r, status;

        if (stat(path, &env.seen) < 0)
                return error_sys(err, "cannot read auth file %s", path);
        if (access(path, R_OK) < 0)
                return error_sys(err, "cannot read auth file %s", path);
        r = child_capture(&spec, AUTH_FILE_TIMEOUT_MS, &output, &status, err);
        if (r < 0)
                return error_prefix(err, "cannot source auth file %s", path);
        r = parse_environment(path, &output, &env, err);
        if (output.data)
                explicit_bzero(output.data, output.len);
        if (r < 0)
                return r;
        if (!uses_application_credential(&env)) {
                add_old_name(&env, "OS_PROJECT_ID", "OS_TENANT_ID");
                add_old_name(&env, "OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME");
        }
        *ret = env;
        env = (AuthEnv){0};
        return 0;
}

bool auth_env_is_stale(const AuthEnv *env, const char *path)
{
        struct stat now;

        if (stat(path, &now) < 0)
                return true;
        return now.st_ino != env->seen.st_ino || now.st_dev != env->seen.st_dev ||
               now.st_size != env->seen.st_size || now.st_mtim.tv_sec != env->seen.st_mtim.tv_sec ||
               now.st_mtim.tv_nsec != env->seen.st_mtim.tv_nsec ||
               now.st_ctim.tv_sec != env->seen.st_ctim.tv_sec ||
               now.st_ctim.tv_nsec != env->seen.st_ctim.tv_nsec;
}

void auth_env_done(AuthEnv *env)
{
        STRV_FOREACH (var, env->vars)
                explicit_bzero(*var, strlen(*var));
        strv_free(env->vars);
        *env = (AuthEnv){0};
}
