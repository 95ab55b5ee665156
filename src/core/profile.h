// A compiled Quattor profile: the document as a tree, its content id, and how two of them differ.
//
// The text is JSON as the pan compiler writes it (sorted keys, numbers kept as text); any other
// strict JSON object is accepted. Parsing is on the scanner's hot path, hence yajl's callbacks into
// an arena: strings without escapes point into the text.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/content_id.h"
#include "util/error.h"
#include "util/hash.h"

#define PROFILE_MAX_DEPTH 64
#define PROFILE_MAX_NODES (8U * 1024 * 1024)

typedef enum ProfileType {
        PROFILE_DICT,
        PROFILE_LIST,
        PROFILE_STRING,
        PROFILE_NUMBER, // text as in the document: longs go beyond 2^53
        PROFILE_BOOL,
        PROFILE_NULL,
} ProfileType;

typedef struct ProfileNode {
        const char *key;           // in a dict; not NUL-terminated
        const char *text;          // of a scalar; not NUL-terminated
        struct ProfileNode *child; // first element; those of a dict are sorted by key (memcmp)
        struct ProfileNode *next;
        uint32_t key_len;
        uint32_t text_len;
        uint32_t n_children;
        ProfileType type;
} ProfileNode;

typedef struct Profile Profile;

// Parses a document; `text` is borrowed and must outlive the profile. The root must be an object; a
// key twice in one dict, invalid UTF-8, more than PROFILE_MAX_DEPTH levels or anything after the
// object is -EBADMSG, with "line L: …" in the text.
int profile_parse(const char *text, size_t len, Profile **ret, Error *err) must_check;
void profile_free(Profile *profile);
DEFINE_CLEANUP(Profile, profile_free)
#define _cleanup_profile_ _cleanup_(profile_free_p)

const ProfileNode *profile_root(const Profile *profile);

// Whether the keys of each dict came in their order and without escapes, as the pan compiler writes
// them.
bool profile_in_order(const Profile *profile);

// The node at "/a/b/0/c" (list elements by index, path elements as they are escaped in the
// document), or NULL.
const ProfileNode *profile_get(const Profile *profile, const char *path);

// Paths whose content means nothing for an image (IGNORE_PATHS). An element "*" stands for any one
// element; a path covers everything below it.
typedef struct ProfilePaths ProfilePaths;

// Each path starts with "/", at most 256 of them.
int profile_paths_new(char *const *paths, ProfilePaths **ret, Error *err) must_check;
void profile_paths_free(ProfilePaths *paths);
DEFINE_CLEANUP(ProfilePaths, profile_paths_free)
#define _cleanup_profile_paths_ _cleanup_(profile_paths_free_p)

// Identifies the set: two sets that cover the same paths have the same digest.
void profile_paths_digest(const ProfilePaths *paths, Digest *ret);

// The built-in default of IGNORE_PATHS, NULL-terminated: what the broker changes without a change
// of templates (branch, serial number, MACs, addresses, lifecycle state, …).
extern const char *const profile_default_ignore_paths[];

// Of everything outside `ignore`: equal for two documents that differ only in formatting, order of
// keys, or ignored parts.
void profile_content_id(const Profile *profile, const ProfilePaths *ignore, ContentId *ret);

typedef enum ProfileChange {
        PROFILE_ADDED,
        PROFILE_REMOVED,
        PROFILE_CHANGED,   // other value or type
        PROFILE_REORDERED, // a list with the same elements in another order
} ProfileChange;

typedef struct ProfileDiff {
        ProfileChange change;
        char *path;   // "/system/os/version/name"
        char *before; // short visible form of the value; NULL when added
        char *after;  // NULL when removed
} ProfileDiff;

typedef struct ProfileDiffs {
        ProfileDiff *items; // in document order; at most the asked-for number
        size_t n_items;
        size_t n_total; // all there were
} ProfileDiffs;

// Compares outside `ignore`. n_total == 0 exactly when the content ids are equal.
void profile_diff(const Profile *before, const Profile *after, const ProfilePaths *ignore,
                  size_t max_items, ProfileDiffs *ret);
void profile_diffs_done(ProfileDiffs *diffs);

// "changed /system/os/version/name: 8 -> 9", "added /software/packages/nginx", …; caller frees.
char *profile_diff_describe(const ProfileDiff *diff);
