// What the parts of `packuilon check` share: packuilon_check.c (configuration, index, queue,
// folders), check_packer.c (Packer, maps, templates) and check_aquilon.c (nova2aquilon's
// neighbours).
#pragma once

#include <stddef.h>

#include "core/auth_file.h"
#include "core/config.h"
#include "util/macro.h"

typedef struct Check {
        const Config *config;
        size_t n_failed;
} Check;

// One line each: "ok", "warn" or "FAIL", what was looked at, and what is so or how to mend it.
void check_ok(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);
void check_warn(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);
void check_fail(Check *check, const char *what, const char *fmt, ...) printf_like(3, 4);

// check_packer.c. `auth` is NULL without a PACKER_AUTH_FILE that can be read.
void check_source_images(Check *check);
void check_packer(Check *check, const AuthEnv *auth);

// check_aquilon.c. Says nothing at a site that has no AQ_URL.
void check_aquilon(Check *check);
