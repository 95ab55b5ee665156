// Where the members of a profile's dicts are in its text, so that two texts that are alike but for
// a few members can be compared by those alone.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/profile.h"

typedef struct ProfileMember {
        uint32_t at;    // of its key's quote
        uint32_t depth; // 1 in the root
} ProfileMember;

// In the order of the text; those within a list are left out. Empty when the keys are not in the
// order that the pan compiler writes: then nothing is known. {0} is valid, and can be used again.
typedef struct ProfileOutline {
        ProfileMember *members;
        size_t n_members, room;
        size_t end; // of the root: its closing brace
} ProfileOutline;

void profile_outline_done(ProfileOutline *outline);
#define _cleanup_outline_ _cleanup_(profile_outline_done)

// What profile_parse and profile_digest do, in one pass, and without a tree if the keys are in
// order.
int profile_digest_text(const char *text, size_t len, const ProfilePaths *ignore, Digest *ret,
                        ProfileOutline *outline, Error *err) must_check;

typedef struct ProfileText {
        const char *text;
        size_t len;
} ProfileText;

// What profile_diff says of two profiles, given as texts; `outline` is that of the second. Parses
// only the members around what differs, where that is enough. < 0: one is no profile after all.
int profile_diff_texts(ProfileText before, ProfileText after, const ProfileOutline *outline,
                       const ProfilePaths *ignore, size_t max_items, ProfileDiffs *ret,
                       Error *err) must_check;
