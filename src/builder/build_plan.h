// What one message asks for: which image, from which source, by which templates. Nothing is
// started and nothing written, so `packuilon plan` shows exactly what the worker would do.
#pragma once

#include <stddef.h>

#include "core/config.h"
#include "core/identity.h"
#include "util/error.h"

// Outcomes of build_plan_make that are answers, not failures.
#define BUILD_PLAN_REJECTED 1 // poison: no map or template can help. `reason` says why
#define BUILD_PLAN_SKIPPED 2  // no source image or no template for it. `reason` says which

typedef struct BuildPlan {
        Identity identity;
        char *os;           // key of the source-image map; NULL when skipped for want of one
        char *image;        // image name; NULL when rejected before it was known
        char *source_image; // Glance id
        char **templates;   // files, in the map's order
        char *reason;
} BuildPlan;

// 0: build every template. < 0: a map could not be read; nothing is wrong with the message, which
// should wait until the map is mended.
int build_plan_make(const Config *config, const char *body, size_t body_len, BuildPlan *ret,
                    Error *err) must_check;
void build_plan_done(BuildPlan *plan);
