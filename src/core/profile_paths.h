// Matching of ignored paths while a tree is walked: a PathState says which patterns still fit the
// way from the root to here, so that a step costs a few words of bit operations and no path is
// ever written out.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/profile.h"

#define PROFILE_PATHS_MAX 256
#define PROFILE_PATHS_WORDS (PROFILE_PATHS_MAX / 64)

typedef struct PathState {
        uint64_t fits[PROFILE_PATHS_WORDS]; // one bit a pattern
        uint32_t depth;
        bool any; // false: nothing below here can be ignored
} PathState;

// At the root. `paths` may be NULL: nothing is ignored.
PathState path_state_start(const ProfilePaths *paths);

// One step down, to a child of a dict, or to the element `index` of a list. True when the child
// is ignored; *ret is its state otherwise.
bool path_state_enter_key(const ProfilePaths *paths, const PathState *here, const char *key,
                          size_t len, PathState *ret);
bool path_state_enter_index(const ProfilePaths *paths, const PathState *here, size_t index,
                            PathState *ret);

// The same for a node of a tree.
bool path_state_enter(const ProfilePaths *paths, const PathState *here, const ProfileNode *parent,
                      const ProfileNode *child, size_t index, PathState *ret);
