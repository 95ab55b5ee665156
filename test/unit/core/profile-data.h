// Profiles for the tests: the sample files, and documents written in place.
#pragma once

#include "../unit.h"

#include "core/profile.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/fs.h"

#define SAMPLE_MAX_BYTES (1024U * 1024)
#define ROCKY "compiled-aquilon/rocky-8-aq.cloud.template.json"

// The text of a file in test/data/profiles; the caller frees.
static inline char *sample_text(const char *name, size_t *ret_len)
{
        _cleanup_free_ char *path = xasprintf("%s/profiles/%s", getenv("TEST_DATA"), name);
        _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX_BYTES);
        Error err = ERROR_NONE;
        int r = fs_read_file(path, &text, &err);

        assert_ok(r, err);
        return buf_take(&text, ret_len);
}

// A document that must parse.
static inline Profile *parse_ok(const char *text, size_t len)
{
        Profile *profile = NULL;
        Error err = ERROR_NONE;
        int r = profile_parse(text, len, &profile, &err);

        assert_ok(r, err);
        return profile;
}

static inline Profile *parse_str(const char *text)
{
        return parse_ok(text, strlen(text));
}

static inline ProfilePaths *paths_of(const char *const *list)
{
        char *copy[300] = {0};
        ProfilePaths *paths = NULL;
        Error err = ERROR_NONE;
        int r;

        for (size_t at = 0; list[at]; at++)
                copy[at] = xstrdup(list[at]);
        r = profile_paths_new(copy, &paths, &err);
        assert_ok(r, err);
        for (size_t at = 0; copy[at]; at++)
                free(copy[at]);
        return paths;
}

#define PATHS(...) paths_of((const char *const[]){__VA_ARGS__, NULL})
