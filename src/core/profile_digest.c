// The content id, from a tree.
#include "core/profile_canonical.h"
#include "core/profile_paths.h"

typedef struct Hasher {
        Canonical canonical;
        const ProfilePaths *ignore;
} Hasher;

static void put_node(Hasher *hasher, const ProfileNode *node, const PathState *here)
{
        size_t index = 0;
        PathState state;

        if (node->type != PROFILE_DICT && node->type != PROFILE_LIST) {
                canonical_scalar(&hasher->canonical, node->type, node->text, node->text_len);
                return;
        }
        canonical_open(&hasher->canonical, node->type);
        for (const ProfileNode *child = node->child; child; child = child->next, index++) {
                if (path_state_enter(hasher->ignore, here, node, child, index, &state))
                        continue;
                if (node->type == PROFILE_DICT)
                        canonical_key(&hasher->canonical, child->key, child->key_len);
                put_node(hasher, child, &state);
        }
        canonical_close(&hasher->canonical);
}

void profile_digest(const Profile *profile, const ProfilePaths *ignore, Digest *ret)
{
        Hasher hasher = {.ignore = ignore};
        PathState start = path_state_start(ignore);

        canonical_begin(&hasher.canonical);
        put_node(&hasher, profile_root(profile), &start);
        canonical_end(&hasher.canonical, ret);
}
