// The parts of `packuilon check`: check.c (how lines are said), check_packer.c (Packer, maps,
// templates), check_cloud.c (Keystone, Glance), check_aquilon.c (nova2aquilon's neighbours), and
// above them packuilon_check.c, which has the rest.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/auth_file.h"
#include "core/config.h"
#include "util/macro.h"

#define SAMPLE_WORDS "REPLACE-WITH-" // in our samples, where the site's own values belong

typedef struct CloudCheck CloudCheck;

typedef struct Check {
        const Config *config;
        size_t n_failed;
        CloudCheck *cloud; // check_cloud.c's; NULL: no login was tried
} Check;

// One line each: "ok", "warn" or "FAIL", what was looked at, and what is so or how to mend it.
void check_ok(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);
void check_warn(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);
void check_fail(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);

typedef enum CheckedLogin {
        LOGIN_UNKNOWN, // with what the auth file holds, only Packer might log in
        LOGIN_WORKS,
        LOGIN_FAILS, // as was said
} CheckedLogin;

// check_packer.c. `auth` is NULL without a PACKER_AUTH_FILE that can be read. What `login` leaves
// open is found out with Packer, and whether Packer takes what works.
void check_source_images(Check *check);
void check_packer(Check *check, const AuthEnv *auth, CheckedLogin login);

// Whether the word stands in any of the templates; `if_none` when there is none to be read.
bool templates_have(const Check *check, const char *word, bool if_none);

// check_cloud.c: logs in with PACKER_AUTH_FILE, which has been read into `auth`, and asks Glance
// for the source images.
CheckedLogin check_cloud(Check *check, const AuthEnv *auth);
// Logs in with NOVA_AUTH_FILE; not again, if it is the same file.
void check_nova(Check *check);
void check_cloud_done(Check *check);

// check_aquilon.c. Says nothing at a site that has no AQ_URL.
void check_aquilon(Check *check);
