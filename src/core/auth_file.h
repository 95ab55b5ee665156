// OpenStack credentials as an environment: a site's openrc, sourced.
//
// An openrc is a bash script (Horizon writes it so), hence bash runs it; its path is an argument,
// never part of a shell line, and no other value meets that shell.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "util/error.h"

typedef struct AuthEnv {
        char **vars; // "NAME=value", NULL-terminated; what the file set beyond a bare environment
        struct stat seen; // of the file when it was read
} AuthEnv;

#define AUTH_FILE_TIMEOUT_MS 10000

// Sources the file. Adds OS_TENANT_ID and OS_DOMAIN_NAME as upstream did where OS_PROJECT_ID and
// OS_USER_DOMAIN_NAME are set and they are not (not for application credentials, which may name no
// scope). Errors: no such file, a file that sets no OS_ variable, one that asks for a password
// (Horizon's form), over 10 s. No value is ever in an error text.
int auth_file_read(const char *path, AuthEnv *ret, Error *err) must_check;

// True if the file has changed since it was read.
bool auth_env_is_stale(const AuthEnv *env, const char *path);

// The value of a variable, or NULL. Borrowed.
const char *auth_env_get(const AuthEnv *env, const char *name);

// Adds a variable that is not there.
void auth_env_set(AuthEnv *env, const char *name, const char *value);

void auth_env_done(AuthEnv *env);
