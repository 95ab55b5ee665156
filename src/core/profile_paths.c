// IGNORE_PATHS, compiled: for each level the keys that some pattern has there, each with the set
// of patterns that accept it.
#include "core/profile_paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/profile_order.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define PATTERN_MAX_BYTES 1024

typedef struct PathBits {
        uint64_t words[PROFILE_PATHS_WORDS];
} PathBits;

typedef struct LevelKey {
        const char *text; // in a pattern's copy
        size_t len;
        PathBits patterns;
} LevelKey;

typedef struct Level {
        LevelKey *keys; // in the order of profile_compare_texts
        size_t n_keys;
        PathBits wildcards; // patterns with "*" here
        PathBits ends;      // patterns whose last element is here
} Level;

struct ProfilePaths {
        char **patterns; // sorted, none covers another
        size_t n_patterns;
        Level levels[PROFILE_MAX_DEPTH];
};

// What the Aquilon broker writes from its own records and not from templates. What templates make
// of it (a time server's address in a component, say) counts as a change.
const char *const profile_default_ignore_paths[] = {
        "/hardware/cards/nic/*/hwaddr",
        "/hardware/nodename",
        "/hardware/serialnumber",
        "/metadata/template/branch",
        "/system/advertise_status",
        "/system/build",
        "/system/network/interfaces/*/aliases/*/ip",
        "/system/network/interfaces/*/hwaddr",
        "/system/network/interfaces/*/ip",
        "/system/network/primary_ip",
        "/system/owner_eon_id",
        "/system/personality/owner_eon_id",
        "/system/resources",
        "/system/services",
        "/system/siterelease",
        NULL,
};

static void bits_set(PathBits *bits, size_t n)
{
        bits->words[n / 64] |= UINT64_C(1) << (n % 64);
}

static int check_pattern(const char *pattern, Error *err)
{
        size_t len = strlen(pattern), levels = 0;
        _cleanup_free_ char *shown = str_visible(pattern, len, 200);

        if (pattern[0] != '/')
                return error_set(err, EINVAL, "path \"%s\" does not start with \"/\"", shown);
        if (len == 1)
                return error_set(err, EINVAL, "path \"/\" would ignore everything");
        if (len > PATTERN_MAX_BYTES)
                return error_set(err, EINVAL, "path \"%s\" is longer than %d bytes", shown,
                                 PATTERN_MAX_BYTES);
        for (const char *at = pattern; *at; levels++) {
                size_t element = strcspn(++at, "/");

                if (element == 0)
                        return error_set(err, EINVAL, "path \"%s\" has an empty element", shown);
                at += element;
        }
        if (levels > PROFILE_MAX_DEPTH)
                return error_set(err, EINVAL, "path \"%s\" has more than %d elements", shown,
                                 PROFILE_MAX_DEPTH);
        return 0;
}

// True when everything that `narrow` ignores is ignored by `wide` too. As there is no end to
// possible keys, no union of others covers a pattern that no single one covers.
static bool covers(const char *wide, const char *narrow)
{
        while (*wide) {
                size_t wide_len, narrow_len;

                if (!*narrow)
                        return false;
                wide_len = strcspn(++wide, "/");
                narrow_len = strcspn(++narrow, "/");
                if (!(wide_len == 1 && *wide == '*') &&
                    profile_compare_texts(wide, wide_len, narrow, narrow_len) != 0)
                        return false;
                wide += wide_len;
                narrow += narrow_len;
        }
        return true;
}

static int compare_patterns(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

// Keeps those that no other covers, sorted: the canonical form of the set.
static void take_patterns(ProfilePaths *paths, char *const *given, size_t n)
{
        paths->patterns = xcalloc(n + 1, sizeof *paths->patterns);
        for (size_t i = 0; i < n; i++) {
                bool needed = true;

                for (size_t j = 0; j < n && needed; j++) {
                        // Of two equal ones the first stays.
                        needed = i == j || !covers(given[j], given[i]) ||
                                 (i < j && covers(given[i], given[j]));
                }
                if (needed)
                        paths->patterns[paths->n_patterns++] = xstrdup(given[i]);
        }
        qsort(paths->patterns, paths->n_patterns, sizeof *paths->patterns, compare_patterns);
}

// Where the key stands among the level's keys, or belongs.
static size_t key_place(const Level *level, const char *text, size_t len, bool *ret_found)
{
        size_t low = 0, high = level->n_keys;

        while (low < high) {
                size_t mid = low + (high - low) / 2;
                int order = profile_compare_texts(level->keys[mid].text, level->keys[mid].len, text,
                                                  len);

                if (order == 0) {
                        *ret_found = true;
                        return mid;
                }
                if (order < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        *ret_found = false;
        return low;
}

static void add_key(Level *level, const char *text, size_t len, size_t pattern)
{
        bool found;
        size_t at = key_place(level, text, len, &found);

        if (!found) {
                level->keys = xreallocarray(level->keys, level->n_keys + 1, sizeof *level->keys);
                memmove(level->keys + at + 1, level->keys + at,
                        (level->n_keys - at) * sizeof *level->keys);
                level->keys[at] = (LevelKey){.text = text, .len = len};
                level->n_keys++;
        }
        bits_set(&level->keys[at].patterns, pattern);
}

static void compile_pattern(ProfilePaths *paths, size_t pattern)
{
        Level *level = paths->levels;

        for (const char *at = paths->patterns[pattern]; *at; level++) {
                size_t len = strcspn(++at, "/");

                if (len == 1 && *at == '*')
                        bits_set(&level->wildcards, pattern);
                else
                        add_key(level, at, len, pattern);
                at += len;
                if (!*at)
                        bits_set(&level->ends, pattern);
        }
}

int profile_paths_new(char *const *paths, ProfilePaths **ret, Error *err)
{
        size_t n = strv_count(paths);
        ProfilePaths *compiled;
        int r;

        if (n > PROFILE_PATHS_MAX)
                return error_set(err, EINVAL, "%zu paths; at most %d are possible", n,
                                 PROFILE_PATHS_MAX);
        STRV_FOREACH (path, paths) {
                r = check_pattern(*path, err);
                if (r < 0)
                        return r;
        }
        compiled = xcalloc(1, sizeof *compiled);
        take_patterns(compiled, paths, n);
        for (size_t at = 0; at < compiled->n_patterns; at++)
                compile_pattern(compiled, at);
        *ret = compiled;
        return 0;
}

void profile_paths_free(ProfilePaths *paths)
{
        if (!paths)
                return;
        for (size_t at = 0; at < ELEMENTSOF(paths->levels); at++)
                free(paths->levels[at].keys);
        strv_free(paths->patterns);
        free(paths);
}

void profile_paths_digest(const ProfilePaths *paths, Digest *ret)
{
        _cleanup_buf_ Buf text = BUF_INIT(PROFILE_PATHS_MAX * (PATTERN_MAX_BYTES + 1));

        for (size_t at = 0; at < paths->n_patterns; at++) {
                // Cannot be full: the limit is the largest set there can be. The NUL separates.
                if (buf_append(&text, paths->patterns[at], strlen(paths->patterns[at]) + 1) < 0)
                        abort();
        }
        digest_sha256(buf_str(&text), text.len, ret);
}

PathState path_state_start(const ProfilePaths *paths)
{
        PathState state = {0};

        for (size_t at = 0; paths && at < paths->n_patterns; at++) {
                state.fits[at / 64] |= UINT64_C(1) << (at % 64);
                state.any = true;
        }
        return state;
}

static bool enter(const ProfilePaths *paths, const PathState *here, const char *key, size_t len,
                  PathState *ret)
{
        const Level *level = &paths->levels[here->depth];
        bool found, any = false, covered = false;
        size_t place = key_place(level, key, len, &found);

        for (size_t at = 0; at < PROFILE_PATHS_WORDS; at++) {
                uint64_t accept = level->wildcards.words[at];
                uint64_t fits;

                if (found)
                        accept |= level->keys[place].patterns.words[at];
                fits = here->fits[at] & accept;
                ret->fits[at] = fits;
                any = any || fits;
                covered = covered || (fits & level->ends.words[at]);
        }
        ret->depth = here->depth + 1;
        ret->any = any;
        return covered;
}

// No pattern is deeper than a profile: a state with patterns left has its level.
bool path_state_enter_key(const ProfilePaths *paths, const PathState *here, const char *key,
                          size_t len, PathState *ret)
{
        if (here->any)
                return enter(paths, here, key, len, ret);
        ret->any = false;
        return false;
}

bool path_state_enter_index(const ProfilePaths *paths, const PathState *here, size_t index,
                            PathState *ret)
{
        char digits[24];

        if (here->any)
                return enter(paths, here, digits,
                             (size_t)snprintf(digits, sizeof digits, "%zu", index), ret);
        ret->any = false;
        return false;
}

bool path_state_enter(const ProfilePaths *paths, const PathState *here, const ProfileNode *parent,
                      const ProfileNode *child, size_t index, PathState *ret)
{
        if (parent->type == PROFILE_DICT)
                return path_state_enter_key(paths, here, child->key, child->key_len, ret);
        return path_state_enter_index(paths, here, index, ret);
}
