// Parsing: yajl's callbacks build the tree in an arena. What yajl lets pass and we do not (lone
// surrogates, NUL, sloppy UTF-8, text after the object) is checked here.
#include "core/profile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "core/profile_order.h"
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
};

// A dict or list that is still open.
typedef struct Frame {
        ProfileNode *node;
        ProfileNode *last;
        bool unsorted; // keys came in another order than theirs
} Frame;

typedef struct Parser {
        yajl_handle yajl;
        const char *text, *end;
        Profile *profile;
        Frame stack[PROFILE_MAX_DEPTH];
        size_t depth;
        size_t n_nodes;
        const char *key; // of the member whose value comes next
        uint32_t key_len;
        const char *root_end; // just behind the root's closing brace
        Error *err;
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

static size_t line_at(const char *text, const char *where)
{
        size_t line = 1;

        for (const char *at = text; (at = memchr(at, '\n', (size_t)(where - at))); at++)
                line++;
        return line;
}

static int fail_at(const Parser *parser, const char *where, const char *fmt, ...) printf_like(3, 4);
static int fail_at(const Parser *parser, const char *where, const char *fmt, ...)
{
        char what[ERROR_TEXT_MAX];
        va_list args;

        va_start(args, fmt);
        (void)vsnprintf(what, sizeof what, fmt, args);
        va_end(args);
        return error_set(parser->err, EBADMSG, "line %zu: %.*s", line_at(parser->text, where),
                         (int)sizeof what, what);
}

// Where yajl is now: behind the token of the running callback.
static const char *position(const Parser *parser)
{
        size_t consumed = yajl_get_bytes_consumed(parser->yajl);

        return parser->text + MIN(consumed, (size_t)(parser->end - parser->text));
}

static bool in_text(const Parser *parser, const char *p)
{
        return p >= parser->text && p < parser->end;
}

// yajl hands out a pointer into the text, or into a buffer of its own when it had to unescape.
static const char *keep_string(const Parser *parser, const unsigned char *string, size_t len)
{
        const char *text = (const char *)string;
        char *copy;

        if (in_text(parser, text))
                return text;
        copy = arena_alloc(parser->profile, MAX(len, 1U), 1);
        memcpy(copy, text, len);
        return copy;
}

static int fail_duplicate(const Parser *parser, const ProfileNode *node)
{
        _cleanup_free_ char *key = str_visible(node->key, node->key_len, VISIBLE_KEY_MAX);

        return fail_at(parser, in_text(parser, node->key) ? node->key : position(parser),
                       "key \"%s\" appears twice in one object", key);
}

// Puts a node behind the last one of the open dict or list.
static int link_node(Parser *parser, ProfileNode *node)
{
        Frame *frame = &parser->stack[parser->depth - 1];
        int order;

        if (frame->node->type == PROFILE_DICT) {
                node->key = parser->key;
                node->key_len = parser->key_len;
                order = frame->last ? profile_compare_keys(frame->last, node) : -1;
                if (order == 0)
                        return fail_duplicate(parser, node);
                frame->unsorted = frame->unsorted || order > 0;
        }
        if (frame->last)
                frame->last->next = node;
        else
                frame->node->child = node;
        frame->last = node;
        frame->node->n_children++;
        return 0;
}

static ProfileNode *add_node(Parser *parser, ProfileType type, const char *text, size_t len)
{
        ProfileNode *node;

        if (parser->depth == 0 && type != PROFILE_DICT) {
                (void)fail_at(parser, position(parser), "the document is not an object");
                return NULL;
        }
        if (++parser->n_nodes > PROFILE_MAX_NODES) {
                (void)fail_at(parser, position(parser), "more than %u values", PROFILE_MAX_NODES);
                return NULL;
        }
        node = arena_alloc(parser->profile, sizeof *node, _Alignof(ProfileNode));
        *node = (ProfileNode){.text = text, .text_len = (uint32_t)len, .type = type};
        if (parser->depth == 0)
                parser->profile->root = node;
        else if (link_node(parser, node) < 0)
                return NULL;
        return node;
}

static int open_container(Parser *parser, ProfileType type)
{
        ProfileNode *node;

        if (parser->depth == PROFILE_MAX_DEPTH) {
                (void)fail_at(parser, position(parser), "more than %d levels deep",
                              PROFILE_MAX_DEPTH);
                return 0;
        }
        node = add_node(parser, type, NULL, 0);
        if (!node)
                return 0;
        parser->stack[parser->depth++] = (Frame){.node = node};
        return 1;
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
        return add_node(ctx, PROFILE_NULL, "null", strlen("null")) != NULL;
}

static int on_boolean(void *ctx, int value)
{
        const char *text = value ? "true" : "false";

        return add_node(ctx, PROFILE_BOOL, text, strlen(text)) != NULL;
}

static int on_number(void *ctx, const char *text, size_t len)
{
        return add_node(ctx, PROFILE_NUMBER, text, len) != NULL;
}

static int on_string(void *ctx, const unsigned char *string, size_t len)
{
        return add_node(ctx, PROFILE_STRING, keep_string(ctx, string, len), len) != NULL;
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
        Frame *frame = &parser->stack[--parser->depth];

        if (parser->depth == 0)
                parser->root_end = position(parser);
        return !frame->unsorted || sort_dict(parser, frame->node) == 0;
}

static int on_start_array(void *ctx)
{
        return open_container(ctx, PROFILE_LIST);
}

static int on_end_array(void *ctx)
{
        Parser *parser = ctx;

        parser->depth--;
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

// yajl only looks at the shape of lead and continuation bytes.
static int check_utf8(const Parser *parser)
{
        const char *line = parser->text, *line_end;

        if (str_is_utf8(parser->text, (size_t)(parser->end - parser->text)))
                return 0;
        // A sequence never spans a newline: the first line that is not valid holds the mistake.
        for (;; line = line_end + 1) {
                line_end = memchr(line, '\n', (size_t)(parser->end - line));
                if (!line_end || !str_is_utf8(line, (size_t)(line_end - line)))
                        return fail_at(parser, line, "invalid UTF-8");
        }
}

// The value of "\uXXXX" at `at`, or -1.
static int unicode_escape(const char *at, const char *end)
{
        int value = 0;

        if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
                return -1;
        for (int i = 2; i < 6; i++) {
                char c = at[i];
                int digit = c >= '0' && c <= '9'   ? c - '0'
                            : c >= 'a' && c <= 'f' ? c - 'a' + 10
                            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                   : -1;

                if (digit < 0)
                        return -1;
                value = value * 16 + digit;
        }
        return value;
}

// yajl turns a lone surrogate into "?" or into bytes that are not UTF-8. A backslash cannot stand
// outside a string in JSON, so all of them can be visited without parsing.
static int check_escapes(const Parser *parser)
{
        const char *at = parser->text;

        while ((at = memchr(at, '\\', (size_t)(parser->end - at)))) {
                int value = unicode_escape(at, parser->end), low;

                if (value == 0)
                        return fail_at(parser, at, "\\u0000 in a string");
                if (value >= 0xD800 && value <= 0xDFFF) {
                        low = unicode_escape(at + 6, parser->end);
                        if (value >= 0xDC00 || low < 0xDC00 || low > 0xDFFF)
                                return fail_at(parser, at, "half a surrogate pair in a string");
                        at += 6;
                }
                at += MIN(value < 0 ? 2 : 6, parser->end - at);
        }
        return 0;
}

static int fail_yajl(const Parser *parser, const char *where)
{
        unsigned char *words = yajl_get_error(parser->yajl, 0, NULL, 0);
        int len = (int)strcspn((const char *)words, "\n"), r;

        r = fail_at(parser, where, "%.*s", len, (const char *)words);
        yajl_free_error(parser->yajl, words);
        return r;
}

static int run_yajl(Parser *parser)
{
        yajl_status status = yajl_parse(parser->yajl, (const unsigned char *)parser->text,
                                        (size_t)(parser->end - parser->text));

        if (status == yajl_status_error)
                return fail_yajl(parser, position(parser));
        if (status == yajl_status_ok)
                status = yajl_complete_parse(parser->yajl);
        if (status == yajl_status_client_canceled)
                return -EBADMSG; // fail_at has been called
        if (status == yajl_status_error)
                return fail_yajl(parser, parser->end);
        // yajl takes the beginning of another token at the very end for whitespace.
        for (const char *at = parser->root_end; at < parser->end; at++) {
                if (!memchr(" \t\r\n", *at, 4))
                        return fail_at(parser, at, "text after the object");
        }
        return 0;
}

static int parse(Parser *parser)
{
        static const char bom[] = "\xEF\xBB\xBF";
        size_t len = (size_t)(parser->end - parser->text);
        int r;

        // Nodes keep lengths in 32 bits.
        if (len > UINT32_MAX)
                return fail_at(parser, parser->text, "the document is over 4 GiB");
        if (len >= strlen(bom) && memcmp(parser->text, bom, strlen(bom)) == 0)
                return fail_at(parser, parser->text, "starts with a byte order mark");
        r = check_utf8(parser);
        if (r < 0)
                return r;
        r = check_escapes(parser);
        if (r < 0)
                return r;
        return run_yajl(parser);
}

int profile_parse(const char *text, size_t len, Profile **ret, Error *err)
{
        _cleanup_profile_ Profile *profile = xcalloc(1, sizeof *profile);
        Parser parser = {.text = text, .end = text + len, .profile = profile, .err = err};
        int r;

        if (len == 0)
                return error_set(err, EBADMSG, "the document is empty");
        parser.yajl = yajl_alloc(&callbacks, NULL, &parser);
        if (!parser.yajl)
                return error_set(err, ENOMEM, "cannot make a JSON parser");
        (void)yajl_config(parser.yajl, yajl_dont_validate_strings, 1); // check_utf8 has done it
        r = parse(&parser);
        yajl_free(parser.yajl);
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
