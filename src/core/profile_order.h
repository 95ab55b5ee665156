// The order of keys and texts in a profile: by bytes, the shorter first.
#pragma once

#include <string.h>

#include "core/profile.h"

static inline int profile_compare_texts(const char *a, size_t a_len, const char *b, size_t b_len)
{
        int r = memcmp(a, b, MIN(a_len, b_len));

        return r != 0 ? r : (a_len > b_len) - (a_len < b_len);
}

static inline int profile_compare_keys(const ProfileNode *a, const ProfileNode *b)
{
        return profile_compare_texts(a->key, a->key_len, b->key, b->key_len);
}
