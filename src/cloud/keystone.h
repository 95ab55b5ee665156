// Logging in to OpenStack: what Keystone is asked, by an openrc's variables, and what it answers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "core/auth_file.h"
#include "util/error.h"

// The URL that tokens are asked from. The caller frees.
int keystone_token_url(const AuthEnv *env, char **ret, Error *err) must_check;

// The body of that request: by application credential or by password. It holds a secret; the caller
// frees. Errors name the variable that is missing.
int keystone_token_request(const AuthEnv *env, char **ret, Error *err) must_check;

// The same without a project, which only tells whether user and password are right. 0 with *ret
// NULL for an application credential, whose project is its own.
int keystone_unscoped_request(const AuthEnv *env, char **ret, Error *err) must_check;

typedef struct KeystoneGrant {
        int64_t expires_ms; // since the epoch
        json_t *token;      // the answer's, with the catalog
} KeystoneGrant;

// The answer's body.
int keystone_read_grant(const char *text, size_t len, KeystoneGrant *ret, Error *err) must_check;
void keystone_grant_done(KeystoneGrant *grant);

// The URL of a service ("compute", "image", …) by OS_REGION_NAME and OS_INTERFACE, without trailing
// slash. The caller frees.
int keystone_service_url(const KeystoneGrant *grant, const AuthEnv *env, const char *type,
                         char **ret, Error *err) must_check;

// Whom the token is for; NULL if the answer does not say. Borrowed.
const char *keystone_user(const KeystoneGrant *grant);
const char *keystone_project(const KeystoneGrant *grant);

// What Keystone says in the body of an error: {"error": {"message": …}}, as one line; "" if it is
// not one. The caller frees.
char *keystone_words(const char *text, size_t len);
