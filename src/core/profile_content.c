// The content id, of a tree and of a text. What is added for a value is in content_id.h; here is
// which values there are.
#include <string.h>

#include "core/profile_order.h"
#include "core/profile_paths.h"
#include "core/profile_reader.h"
#include "core/profile_texts.h"

// In the order of ProfileType.
static const char letters[] = {'d', 'l', 's', 'n', 'b', 'z'};

static ContentValue value_of(ProfileType type, const char *text, size_t len)
{
        return (ContentValue){.type = letters[type], .text = text, .len = len};
}

static ContentId id_of_root(void)
{
        const ContentValue root = value_of(PROFILE_DICT, NULL, 0);

        return content_id_of_member(&(ContentId){{0}}, "", 0, &root);
}

// ---- of a tree -----------------------------------------------------------------------------

// A dict or list that is visible.
typedef struct Place {
        const ProfileNode *node;
        ContentId id;
        PathState state;
} Place;

static void add_children(const ProfilePaths *ignore, const Place *here, ContentId *sum)
{
        size_t index = 0;
        Place place;

        for (const ProfileNode *child = here->node->child; child; child = child->next, index++) {
                const ContentValue value = value_of(child->type, child->text, child->text_len);

                if (path_state_enter(ignore, &here->state, here->node, child, index, &place.state))
                        continue;
                place.node = child;
                place.id = here->node->type == PROFILE_DICT
                                   ? content_id_of_member(&here->id, child->key, child->key_len,
                                                          &value)
                                   : content_id_of_element(&here->id, index, &value);
                content_id_add(sum, &place.id);
                add_children(ignore, &place, sum);
        }
}

void profile_content_id(const Profile *profile, const ProfilePaths *ignore, ContentId *ret)
{
        const Place root = {
                .node = profile_root(profile),
                .id = id_of_root(),
                .state = path_state_start(ignore),
        };

        *ret = root.id;
        add_children(ignore, &root, ret);
}

// ---- of a text -----------------------------------------------------------------------------

// A dict or list that is open.
typedef struct Level {
        PathState state;
        ContentId id;
        const char *key; // of its last member, in the text; NULL: none yet
        size_t key_len;
        size_t n_elements; // so far, of a list
        ProfileType type;
} Level;

typedef struct Pass {
        ProfileReader reader; // first, for profile_read
        const ProfilePaths *ignore;
        ContentId sum;
        Level levels[PROFILE_MAX_DEPTH];
        size_t ignored_below; // a value at this depth is ignored, with all in it; 0: none
        PathState state;      // of the value that comes next
        bool ignored;         //
        bool needs_tree;      // stopped for it
} Pass;

// A key that had to be unescaped is gone with the callback, and keys in another order than theirs
// must be sorted and looked through for one that comes twice.
static bool is_in_order(const Pass *pass, const Level *level, const char *key, size_t len)
{
        return reader_in_text(&pass->reader, key) &&
               (!level->key || profile_compare_texts(level->key, level->key_len, key, len) < 0);
}

static int on_map_key(void *ctx, const unsigned char *string, size_t len)
{
        Pass *pass = ctx;
        Level *level = &pass->levels[pass->reader.depth - 1];
        const char *key = (const char *)string;

        if (!is_in_order(pass, level, key, len)) {
                pass->needs_tree = true;
                return 0;
        }
        level->key = key;
        level->key_len = len;
        if (!pass->ignored_below)
                pass->ignored =
                        path_state_enter_key(pass->ignore, &level->state, key, len, &pass->state);
        return 1;
}

// Takes the value that comes at `depth`. True when it is visible; its hash is *ret then.
static bool add_value(Pass *pass, size_t depth, const ContentValue *value, ContentId *ret)
{
        Level *level = depth > 0 ? &pass->levels[depth - 1] : NULL;

        if (pass->ignored_below)
                return false;
        if (!level) {
                *ret = id_of_root();
        } else if (level->type == PROFILE_LIST) {
                size_t index = level->n_elements++;

                pass->ignored =
                        path_state_enter_index(pass->ignore, &level->state, index, &pass->state);
                if (!pass->ignored)
                        *ret = content_id_of_element(&level->id, index, value);
        } else if (!pass->ignored) {
                *ret = content_id_of_member(&level->id, level->key, level->key_len, value);
        }
        if (!pass->ignored)
                content_id_add(&pass->sum, ret);
        return !pass->ignored;
}

static int take_scalar(Pass *pass, ProfileType type, const char *text, size_t len)
{
        const ContentValue value = value_of(type, text, len);
        ContentId id;

        if (!reader_value(&pass->reader, type))
                return 0;
        (void)add_value(pass, pass->reader.depth, &value, &id);
        return 1;
}

static int open_level(Pass *pass, ProfileType type)
{
        const ContentValue value = value_of(type, NULL, 0);
        size_t depth = pass->reader.depth;
        Level *level = &pass->levels[depth];

        if (!reader_open(&pass->reader, type))
                return 0;
        *level = (Level){.type = type};
        if (add_value(pass, depth, &value, &level->id))
                level->state = pass->state;
        else if (!pass->ignored_below)
                pass->ignored_below = depth + 1;
        return 1;
}

static int on_end(void *ctx)
{
        Pass *pass = ctx;

        if (pass->ignored_below == pass->reader.depth)
                pass->ignored_below = 0;
        reader_close(&pass->reader);
        return 1;
}

static int on_null(void *ctx)
{
        return take_scalar(ctx, PROFILE_NULL, "null", strlen("null"));
}

static int on_boolean(void *ctx, int value)
{
        const char *text = value ? "true" : "false";

        return take_scalar(ctx, PROFILE_BOOL, text, strlen(text));
}

static int on_number(void *ctx, const char *text, size_t len)
{
        return take_scalar(ctx, PROFILE_NUMBER, text, len);
}

static int on_string(void *ctx, const unsigned char *string, size_t len)
{
        return take_scalar(ctx, PROFILE_STRING, (const char *)string, len);
}

static int on_start_map(void *ctx)
{
        return open_level(ctx, PROFILE_DICT);
}

static int on_start_array(void *ctx)
{
        return open_level(ctx, PROFILE_LIST);
}

static const yajl_callbacks callbacks = {
        .yajl_null = on_null,
        .yajl_boolean = on_boolean,
        .yajl_number = on_number,
        .yajl_string = on_string,
        .yajl_start_map = on_start_map,
        .yajl_map_key = on_map_key,
        .yajl_end_map = on_end,
        .yajl_start_array = on_start_array,
        .yajl_end_array = on_end,
};

static int content_by_tree(ProfileText text, const ProfilePaths *ignore, ContentId *ret,
                           bool *ret_in_order, Error *err)
{
        _cleanup_profile_ Profile *profile = NULL;
        int r = profile_parse(text.text, text.len, &profile, err);

        if (r < 0)
                return r;
        profile_content_id(profile, ignore, ret);
        *ret_in_order = profile_in_order(profile);
        return 0;
}

int profile_content_of_text(ProfileText text, const ProfilePaths *ignore, ContentId *ret,
                            bool *ret_in_order, Error *err)
{
        Pass pass = {.ignore = ignore, .state = path_state_start(ignore)};
        int r = profile_read(&pass.reader, text.text, text.len, &callbacks, &pass, err);

        if (pass.needs_tree)
                return content_by_tree(text, ignore, ret, ret_in_order, err);
        if (r < 0)
                return r;
        *ret = pass.sum;
        *ret_in_order = true;
        return 0;
}
