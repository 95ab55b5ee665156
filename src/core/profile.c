// The tree: what the reader finds, as nodes in an arena.
#include "core/profile.h"

#include <errno.h>
#include <string.h>

#include "core/profile_order.h"
#include "core/profile_reader.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define ARENA_CHUNK_MIN (32U * 1024)
#define ARENA_CHUNK_MAX (1024U * 1024)
#define VISIBLE_KEY_MAX 80

typedef struct ArenaChunk {
        struct ArenaChunk *next;
        size_t size, used;
        char data[] __attribute__((aligned(16)));
} ArenaChunk;

struct Profile {
        ArenaChunk *chunks; // the newest first
        ProfileNode *root;
        bool in_order;
};

// A dict or list that is still open.
typedef struct Frame {
        ProfileNode *node;
        ProfileNode *last;
        bool unsorted; // keys came in another order than theirs
} Frame;

typedef struct Parser {
        ProfileReader reader; // first, for profile_read
        Profile *profile;
        Frame stack[PROFILE_MAX_DEPTH];
        const char *key; // of the member whose value comes next
        uint32_t key_len;
} Parser;

static void *arena_alloc(Profile *profile, size_t size, size_t align)
{
        ArenaChunk *chunk = profile->chunks;
        size_t at = chunk ? (chunk->used + align - 1) & ~(align - 1) : 0, room;

        if (!chunk || at > chunk->size || size > chunk->size - at) {
                room = chunk ? MIN(chunk->size * 2, ARENA_CHUNK_MAX) : ARENA_CHUNK_MIN;
                room = MAX(room, size);
                chunk = xmalloc(sizeof *chunk + room);
                *chunk = (ArenaChunk){.next = profile->chunks, .size = room};
                profile->chunks = chunk;
                at = 0;
        }
        chunk->used = at + size;
        return chunk->data + at;
}

// A string that is not in the text does not outlive the callback.
static const char *keep_string(const Parser *parser, const unsigned char *string, size_t len)
{
        const char *text = (const char *)string;
        char *copy;

        if (reader_in_text(&parser->reader, text))
                return text;
        copy = arena_alloc(parser->profile, MAX(len, 1U), 1);
        memcpy(copy, text, len);
        return copy;
}

static int fail_duplicate(const Parser *parser, const ProfileNode *node)
{
        const ProfileReader *reader = &parser->reader;
        _cleanup_free_ char *key = str_visible(node->key, node->key_len, VISIBLE_KEY_MAX);

        return reader_fail(reader,
                           reader_in_text(reader, node->key) ? node->key : reader_position(reader),
                           "key \"%s\" appears twice in one object", key);
}

// Puts a node behind the last one of the open dict or list.
static int link_node(Parser *parser, Frame *frame, ProfileNode *node)
{
        int order;

        if (frame->node->type == PROFILE_DICT) {
                node->key = parser->key;
                node->key_len = parser->key_len;
                order = frame->last ? profile_compare_keys(frame->last, node) : -1;
                if (order == 0)
                        return fail_duplicate(parser, node);
                frame->unsorted = frame->unsorted || order > 0;
                if (order > 0 || !reader_in_text(&parser->reader, node->key))
                        parser->profile->in_order = false;
        }
        if (frame->last)
                frame->last->next = node;
        else
                frame->node->child = node;
        frame->last = node;
        frame->node->n_children++;
        return 0;
}

// `frame` is the open dict or list that gets the node; NULL: it is the root.
static ProfileNode *add_node(Parser *parser, Frame *frame, ProfileType type, const char *text,
                             size_t len)
{
        ProfileNode *node = arena_alloc(parser->profile, sizeof *node, _Alignof(ProfileNode));

        *node = (ProfileNode){.text = text, .text_len = (uint32_t)len, .type = type};
        if (!frame)
                parser->profile->root = node;
        else if (link_node(parser, frame, node) < 0)
                return NULL;
        return node;
}

static int add_scalar(Parser *parser, ProfileType type, const char *text, size_t len)
{
        return reader_value(&parser->reader, type) &&
               add_node(parser, &parser->stack[parser->reader.depth - 1], type, text, len) != NULL;
}

static int open_container(Parser *parser, ProfileType type)
{
        ProfileNode *node;
        Frame *frame;

        if (!reader_open(&parser->reader, type))
                return 0;
        frame = &parser->stack[parser->reader.depth - 1];
        node = add_node(parser, parser->reader.depth > 1 ? frame - 1 : NULL, type, NULL, 0);
        *frame = (Frame){.node = node};
        return node != NULL;
}

static int compare_slots(const void *a, const void *b)
{
        return profile_compare_keys(*(ProfileNode *const *)a, *(ProfileNode *const *)b);
}

static int sort_dict(const Parser *parser, ProfileNode *dict)
{
        _cleanup_free_ ProfileNode **slots = xreallocarray(NULL, dict->n_children, sizeof *slots);
        ProfileNode **tail = &dict->child;
        size_t n = 0;

        for (ProfileNode *child = dict->child; child; child = child->next)
                slots[n++] = child;
        qsort(slots, n, sizeof *slots, compare_slots);
        for (size_t at = 0; at < n; at++) {
                if (at > 0 && profile_compare_keys(slots[at - 1], slots[at]) == 0)
                        return fail_duplicate(parser, slots[at]);
                *tail = slots[at];
                tail = &slots[at]->next;
        }
        *tail = NULL;
        return 0;
}

static int on_null(void *ctx)
{
        return add_scalar(ctx, PROFILE_NULL, "null", strlen("null"));
}

static int on_boolean(void *ctx, int value)
{
        const char *text = value ? "true" : "false";

        return add_scalar(ctx, PROFILE_BOOL, text, strlen(text));
}

static int on_number(void *ctx, const char *text, size_t len)
{
        return add_scalar(ctx, PROFILE_NUMBER, text, len);
}

static int on_string(void *ctx, const unsigned char *string, size_t len)
{
        return add_scalar(ctx, PROFILE_STRING, keep_string(ctx, string, len), len);
}

static int on_map_key(void *ctx, const unsigned char *string, size_t len)
{
        Parser *parser = ctx;

        parser->key = keep_string(parser, string, len);
        parser->key_len = (uint32_t)len;
        return 1;
}

static int on_start_map(void *ctx)
{
        return open_container(ctx, PROFILE_DICT);
}

static int on_end_map(void *ctx)
{
        Parser *parser = ctx;
        const Frame *frame;

        reader_close(&parser->reader);
        frame = &parser->stack[parser->reader.depth];
        return !frame->unsorted || sort_dict(parser, frame->node) == 0;
}

static int on_start_array(void *ctx)
{
        return open_container(ctx, PROFILE_LIST);
}

static int on_end_array(void *ctx)
{
        Parser *parser = ctx;

        reader_close(&parser->reader);
        return 1;
}

static const yajl_callbacks callbacks = {
        .yajl_null = on_null,
        .yajl_boolean = on_boolean,
        .yajl_number = on_number,
        .yajl_string = on_string,
        .yajl_start_map = on_start_map,
        .yajl_map_key = on_map_key,
        .yajl_end_map = on_end_map,
        .yajl_start_array = on_start_array,
        .yajl_end_array = on_end_array,
};

int profile_parse(const char *text, size_t len, Profile **ret, Error *err)
{
        _cleanup_profile_ Profile *profile = xcalloc(1, sizeof *profile);
        Parser parser = {.profile = profile};
        int r;

        profile->in_order = true;
        r = profile_read(&parser.reader, text, len, &callbacks, &parser, err);

        if (r < 0)
                return r;
        *ret = TAKE_PTR(profile);
        return 0;
}

void profile_free(Profile *profile)
{
        ArenaChunk *next;

        if (!profile)
                return;
        for (ArenaChunk *chunk = profile->chunks; chunk; chunk = next) {
                next = chunk->next;
                free(chunk);
        }
        free(profile);
}

const ProfileNode *profile_root(const Profile *profile)
{
        return profile->root;
}

bool profile_in_order(const Profile *profile)
{
        return profile->in_order;
}

static const ProfileNode *find_child(const ProfileNode *node, const char *name, size_t len)
{
        char *end;
        unsigned long index;

        if (node->type == PROFILE_DICT) {
                for (const ProfileNode *child = node->child; child; child = child->next) {
                        if (child->key_len == len && memcmp(child->key, name, len) == 0)
                                return child;
                }
                return NULL;
        }
        // Only the plain decimal form names an element.
        if (node->type != PROFILE_LIST || *name < '0' || *name > '9' || (*name == '0' && len > 1))
                return NULL;
        errno = 0;
        index = strtoul(name, &end, 10);
        if (errno != 0 || end != name + len || index >= node->n_children)
                return NULL;
        node = node->child;
        while (index--)
                node = node->next;
        return node;
}

const ProfileNode *profile_get(const Profile *profile, const char *path)
{
        const ProfileNode *node = profile->root;

        while (node && *path == '/') {
                size_t len = strcspn(++path, "/");

                node = find_child(node, path, len);
                path += len;
        }
        return *path ? NULL : node;
}
