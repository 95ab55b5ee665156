// Rendering of a JSON template: parsed first, then every string of it expanded, then written. So a
// value lands in a string that is already known as such: it cannot end it, and what has been put
// in is never looked at again.
#pragma once

#include <stddef.h>

#include <jansson.h>

#include "util/buf.h"
#include "util/error.h"

typedef struct TemplateToken {
        const char *name;     // "BUILD_ID" for $BUILD_ID
        const char *variable; // "build_id", in HCL2
        const char *value;    // "" when the profile does not have it
} TemplateToken;

typedef struct TemplateTokens {
        const TemplateToken *items;
        size_t n_items;
        json_t *metadata; // object, for $METADATA
} TemplateTokens;

// Appends to out; `path` is for messages.
int template_json_render(const char *path, const char *text, size_t len,
                         const TemplateTokens *tokens, Buf *out, Error *err) must_check;

// JSON with line breaks; -EFBIG, with words, when it does not fit.
int template_json_write(const json_t *value, Buf *out, Error *err) must_check;
