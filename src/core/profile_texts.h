// What is known of profiles by their texts, without a tree of the whole.
#pragma once

#include <stddef.h>

#include "core/profile.h"

typedef struct ProfileText {
        const char *text;
        size_t len;
} ProfileText;

// What is found in one pass: what profile_parse refuses, profile_content_id and profile_in_order
// say. Makes a tree only if the keys are not in order.
int profile_content_of_text(ProfileText text, const ProfilePaths *ignore, ContentId *ret,
                            bool *ret_in_order, Error *err) must_check;

// What profile_diff says of two texts, each of which is a profile. Parses only the members around
// what differs, where that is enough.
int profile_diff_texts(ProfileText before, ProfileText after, const ProfilePaths *ignore,
                       size_t max_items, ProfileDiffs *ret, Error *err) must_check;

// The same of a text that need not be a profile, and its content id, for the price of reading what
// differs. `before` is a profile whose keys are in order, and *id its content id. True: so is
// `after`, *id is its content id now, and *ret says how they differ. False: nothing is known of
// `after`, and nothing was changed.
bool profile_follow_texts(ProfileText before, ProfileText after, const ProfilePaths *ignore,
                          size_t max_items, ContentId *id, ProfileDiffs *ret) must_check;
