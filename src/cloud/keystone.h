// Logging in to OpenStack: what Keystone is asked, by an openrc's variables, and what it answers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/auth_file.h"
#include "util/error.h"

// The URL that tokens are asked from. The caller frees.
int keystone_token_url(const AuthEnv *env, char **ret, Error *err) must_check;

// The body of that request: by application credential or by password. It holds a secret; the caller
// frees. Errors name the variable that is missing.
int keystone_token_request(const AuthEnv *env, char **ret, Error *err) must_check;

typedef struct KeystoneGrant {
        int64_t expires_ms; // since the epoch
        char *compute_url;  // without trailing slash
} KeystoneGrant;

// The answer's body: takes the compute service's URL of OS_REGION_NAME and OS_INTERFACE out of the
// catalog.
int keystone_read_grant(const AuthEnv *env, const char *text, size_t len, KeystoneGrant *ret,
                        Error *err) must_check;
void keystone_grant_done(KeystoneGrant *grant);
