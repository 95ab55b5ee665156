// One pass over a text: its content id, and where its members are.
#include "core/profile_outline.h"

#include "core/profile_canonical.h"
#include "core/profile_order.h"
#include "core/profile_paths.h"
#include "core/profile_reader.h"
#include "util/alloc.h"

#define MEMBERS_MIN ((size_t)1024)

// A dict or list that is open.
typedef struct Level {
        PathState state;
        const char *key; // of its last member, in the text; NULL: none yet
        size_t key_len;
        size_t index; // of its next element
        ProfileType type;
} Level;

typedef struct Pass {
        ProfileReader reader; // first, for profile_read
        const ProfilePaths *ignore;
        Canonical canonical;
        ProfileOutline *outline;
        Level levels[PROFILE_MAX_DEPTH];
        size_t ignored_below; // a value at this depth is ignored, with all in it; 0: none
        size_t n_lists;       // that are open
        PathState state;      // of the value that comes next
        bool ignored;         //
        bool needs_tree;      // stopped for it
} Pass;

static void add_member(Pass *pass, const char *key)
{
        ProfileOutline *outline = pass->outline;

        if (outline->n_members == outline->room) {
                outline->room = MAX(outline->room * 2, MEMBERS_MIN);
                outline->members =
                        xreallocarray(outline->members, outline->room, sizeof *outline->members);
        }
        outline->members[outline->n_members++] = (ProfileMember){
                .at = (uint32_t)(key - 1 - pass->reader.text), // its quote
                .depth = (uint32_t)pass->reader.depth,
        };
}

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
        if (pass->n_lists == 0)
                add_member(pass, key);
        if (pass->ignored_below)
                return 1;
        pass->ignored = path_state_enter_key(pass->ignore, &level->state, key, len, &pass->state);
        if (!pass->ignored)
                canonical_key(&pass->canonical, key, len);
        return 1;
}

// True when the value that comes is seen.
static bool is_visible(Pass *pass, size_t depth)
{
        Level *level = depth > 0 ? &pass->levels[depth - 1] : NULL;

        if (pass->ignored_below)
                return false;
        if (level && level->type == PROFILE_LIST)
                pass->ignored = path_state_enter_index(pass->ignore, &level->state, level->index++,
                                                       &pass->state);
        return !pass->ignored;
}

static int take_scalar(Pass *pass, ProfileType type, const void *text, size_t len)
{
        if (!reader_value(&pass->reader, type))
                return 0;
        if (is_visible(pass, pass->reader.depth))
                canonical_scalar(&pass->canonical, type, text, len);
        return 1;
}

static int open_level(Pass *pass, ProfileType type)
{
        size_t depth = pass->reader.depth;

        if (!reader_open(&pass->reader, type))
                return 0;
        pass->n_lists += type == PROFILE_LIST;
        if (is_visible(pass, depth))
                canonical_open(&pass->canonical, type);
        else if (!pass->ignored_below)
                pass->ignored_below = depth + 1;
        pass->levels[depth] = (Level){.state = pass->state, .type = type};
        return 1;
}

static int close_level(Pass *pass)
{
        size_t depth = pass->reader.depth;

        pass->n_lists -= pass->levels[depth - 1].type == PROFILE_LIST;
        if (!pass->ignored_below)
                canonical_close(&pass->canonical);
        else if (pass->ignored_below == depth)
                pass->ignored_below = 0;
        reader_close(&pass->reader);
        return 1;
}

static int on_null(void *ctx)
{
        return take_scalar(ctx, PROFILE_NULL, NULL, 0);
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
        return take_scalar(ctx, PROFILE_STRING, string, len);
}

static int on_start_map(void *ctx)
{
        return open_level(ctx, PROFILE_DICT);
}

static int on_start_array(void *ctx)
{
        return open_level(ctx, PROFILE_LIST);
}

static int on_end(void *ctx)
{
        return close_level(ctx);
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

static int digest_by_tree(const char *text, size_t len, const ProfilePaths *ignore, Digest *ret,
                          Error *err)
{
        _cleanup_profile_ Profile *profile = NULL;
        int r = profile_parse(text, len, &profile, err);

        if (r == 0)
                profile_digest(profile, ignore, ret);
        return r;
}

int profile_digest_text(const char *text, size_t len, const ProfilePaths *ignore, Digest *ret,
                        ProfileOutline *outline, Error *err)
{
        Pass pass = {.ignore = ignore, .outline = outline, .state = path_state_start(ignore)};
        int r;

        outline->n_members = 0;
        canonical_begin(&pass.canonical);
        r = profile_read(&pass.reader, text, len, &callbacks, &pass, err);
        canonical_end(&pass.canonical, r == 0 ? ret : NULL);
        if (r == 0)
                outline->end = (size_t)(pass.reader.root_end - 1 - text);
        else
                outline->n_members = 0;
        return pass.needs_tree ? digest_by_tree(text, len, ignore, ret, err) : r;
}

void profile_outline_done(ProfileOutline *outline)
{
        free(outline->members);
        *outline = (ProfileOutline){0};
}
