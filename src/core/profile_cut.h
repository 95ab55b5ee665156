// Where a profile's text can be cut so that what differs from another text is between the cuts:
// some members of one dict, found without parsing.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/profile.h"

typedef struct ProfileSpan {
        size_t from, to; // offsets in the text
} ProfileSpan;

typedef struct ProfileCut {
        ProfileSpan way[PROFILE_MAX_DEPTH]; // from the root: each a member up to its dict's brace
        size_t n_way;                       // 0: the members are the root's
        ProfileSpan members;                // none, or whole ones with what is around them
        size_t previous;                    // where the member before them begins; 0: there is none
        bool to_the_end;                    // of the dict, up to its brace; else behind a comma
} ProfileCut;

// `text` must be a profile. Finds the smallest members that hold all between `differs` and
// `same_again`; false if there are none outside of lists.
bool profile_find_cut(const char *text, size_t len, size_t differs, size_t same_again,
                      ProfileCut *ret);
