#include "core/template_json.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define VISIBLE_MAX 80
#define METADATA "METADATA"

// Stands where $METADATA stood outside a string: a character that Unicode reserves for internal
// use, so no template has it.
#define MARKER "\xEF\xBF\xBF"
#define MARKER_STRING "\"" MARKER "\""
#define MARKER_MEMBER MARKER_STRING ":0"
#define MARKER_CHARS(marker) (sizeof(marker) - 1 - 2) // three bytes, one character

typedef struct Renderer {
        const char *path;
        const TemplateTokens *tokens;
        size_t max_bytes; // of the result
        Error *err;
} Renderer;

// Where a string of the template stands.
typedef struct Place {
        const char *member; // the nearest member's name, for messages
        bool shell;         // a shell will read it
} Place;

static bool is_name_start(char c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_name_part(char c)
{
        return is_name_start(c) || (c >= '0' && c <= '9');
}

// The whole token at `at` ($NAME or ${NAME}, the longest name that fits): its length, and the
// name. 0 when none starts here.
static size_t token_at(const char *at, const char *end, const char **ret_name, size_t *ret_len)
{
        const char *name = at + 1, *behind;
        bool braces = name < end && *name == '{';

        if (*at != '$')
                return 0;
        name += braces;
        if (name >= end || !is_name_start(*name))
                return 0;
        for (behind = name; behind < end && is_name_part(*behind); behind++)
                ;
        if (braces && (behind == end || *behind != '}'))
                return 0;
        *ret_name = name;
        *ret_len = (size_t)(behind - name);
        return (size_t)(behind - at) + braces;
}

static bool is_metadata(const char *name, size_t len)
{
        return len == strlen(METADATA) && memcmp(name, METADATA, len) == 0;
}

static const TemplateToken *find_token(const TemplateTokens *tokens, const char *name, size_t len)
{
        for (size_t at = 0; at < tokens->n_items; at++) {
                const TemplateToken *token = &tokens->items[at];

                if (strlen(token->name) == len && memcmp(token->name, name, len) == 0)
                        return token;
        }
        return NULL;
}

// Brackets and strings of a text that is not JSON yet.
typedef struct Outline {
        Buf open; // the brackets that are open, one byte each
        bool in_string;
        bool value_next; // behind ":"
} Outline;

static bool expects_member(const Outline *outline)
{
        return outline->open.len > 0 && outline->open.data[outline->open.len - 1] == '{' &&
               !outline->value_next;
}

// Takes the next byte in; returns how many bytes it took (two for an escape).
static size_t follow(Outline *outline, const char *at, const char *end)
{
        if (outline->in_string) {
                if (*at == '\\' && at + 1 < end)
                        return 2;
                outline->in_string = *at != '"';
                return 1;
        }
        switch (*at) {
        case '"':
                outline->in_string = true;
                break;
        case '{':
        case '[':
                // Fits: the limit is the length of the whole text.
                (void)!buf_append(&outline->open, at, 1);
                outline->value_next = false;
                break;
        case '}':
        case ']':
                outline->open.len -= outline->open.len > 0;
                outline->value_next = false;
                break;
        case ':':
                outline->value_next = true;
                break;
        case ',':
                outline->value_next = false;
                break;
        default:
                break;
        }
        return 1;
}

// A marker, filled up with spaces to as many characters as the token had, so that the parser's
// columns are the template's.
static int append_marker(Buf *out, bool member, size_t width)
{
        size_t chars = member ? MARKER_CHARS(MARKER_MEMBER) : MARKER_CHARS(MARKER_STRING);
        int r = buf_append_str(out, member ? MARKER_MEMBER : MARKER_STRING);

        if (r < 0)
                return r;
        return buf_printf(out, "%*s", (int)(width - chars), "");
}

// Upstream's templates are not JSON before $METADATA is replaced: { $METADATA }. Gives the text
// with markers there.
static int mark_metadata(const char *text, size_t len, Buf *out)
{
        const char *at = text, *end = text + len;
        Outline outline = {.open = BUF_INIT(len)};
        int r = 0;

        while (at < end && r == 0) {
                const char *name;
                size_t name_len, step = token_at(at, end, &name, &name_len);

                if (!outline.in_string && step > 0 && is_metadata(name, name_len)) {
                        r = append_marker(out, expects_member(&outline), step);
                } else {
                        step = follow(&outline, at, end);
                        r = buf_append(out, at, step);
                }
                at += step;
        }
        buf_done(&outline.open);
        return r;
}

static bool is_shell_safe(const char *value)
{
        static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789_.,:/@%+=-";

        // A word that starts with "-" would be an option.
        return value[strspn(value, safe)] == '\0' && value[0] != '-';
}

// Members whose text a shell reads, in any builder, provisioner or post-processor. Not
// environment_vars: Packer quotes those.
static bool is_shell_member(const char *name)
{
        static const char *const parts[] = {"inline", "command", "shebang", "argument", "_args"};

        for (size_t at = 0; at < ELEMENTSOF(parts); at++) {
                if (strstr(name, parts[at]))
                        return true;
        }
        return strcmp(name, "user_data") == 0;
}

// Whether a position of a string is in the code of a "{{ … }}", followed from left to right.
typedef struct Action {
        const char *at;
        bool inside;
} Action;

static bool inside_action(Action *action, const char *at)
{
        while (action->at + 1 < at) {
                bool opens = action->at[0] == '{' && action->at[1] == '{';
                bool closes = action->at[0] == '}' && action->at[1] == '}';

                if (opens || closes)
                        action->inside = opens;
                action->at += opens || closes ? 2 : 1;
        }
        return action->inside;
}

static int refuse_value(const Renderer *renderer, const Place *place, const TemplateToken *token)
{
        _cleanup_free_ char *shown = str_visible(token->value, strlen(token->value), VISIBLE_MAX);

        return error_set(renderer->err, EBADMSG,
                         "%s: \"%s\": $%s is \"%s\", which is not safe in text that %s reads%s",
                         renderer->path, place->member, token->name, shown,
                         place->shell ? "a shell" : "Packer's {{ }}",
                         place->shell ? "; pass it by environment_vars" : "");
}

static int expand_string(const Renderer *renderer, const Place *place, const char *text, Buf *out)
{
        const char *at = text, *end = text + strlen(text);
        Action action = {.at = text};

        while (at < end) {
                const char *name, *value = at;
                size_t name_len = 0, step = token_at(at, end, &name, &name_len), value_len;
                const TemplateToken *token =
                        step > 0 ? find_token(renderer->tokens, name, name_len) : NULL;

                if (step > 0 && is_metadata(name, name_len))
                        return error_set(renderer->err, EINVAL,
                                         "%s: \"%s\": $METADATA is an object and cannot stand "
                                         "inside a text",
                                         renderer->path, place->member);
                if (token) {
                        if ((inside_action(&action, at) || place->shell) &&
                            !is_shell_safe(token->value))
                                return refuse_value(renderer, place, token);
                        value = token->value;
                        value_len = strlen(value);
                } else {
                        step = value_len = 1 + strcspn(at + 1, "$");
                }
                if (buf_append(out, value, value_len) < 0)
                        return error_set(renderer->err, EFBIG, "%s: \"%s\" becomes too long",
                                         renderer->path, place->member);
                at += step;
        }
        return 0;
}

static int expand_value(const Renderer *renderer, const Place *place, json_t *value, json_t **ret);

static bool is_all_metadata(const char *text)
{
        const char *name;
        size_t len, step;

        if (strcmp(text, MARKER) == 0)
                return true;
        step = *text ? token_at(text, text + strlen(text), &name, &len) : 0;
        return step > 0 && text[step] == '\0' && is_metadata(name, len);
}

static int expand_text(const Renderer *renderer, const Place *place, const char *text, json_t **ret)
{
        _cleanup_buf_ Buf out = BUF_INIT(renderer->max_bytes);
        int r;

        if (is_all_metadata(text)) {
                *ret = json_incref(renderer->tokens->metadata);
                return 0;
        }
        r = expand_string(renderer, place, text, &out);
        if (r < 0)
                return r;
        *ret = json_stringn(buf_str(&out), out.len);
        return 0;
}

// jansson's setters fail only when memory is short.
static int check_json(int r, Error *err)
{
        return r < 0 ? error_set(err, ENOMEM, "no memory for the template") : 0;
}

static int expand_member(const Renderer *renderer, const Place *place, const char *key,
                         json_t *value, json_t *object)
{
        Place inner = {.member = key, .shell = place->shell || is_shell_member(key)};
        _cleanup_buf_ Buf name = BUF_INIT(renderer->max_bytes);
        json_t *expanded = NULL;
        int r;

        // Of members with one name the last counts, as in Packer's own reading.
        if (strcmp(key, MARKER) == 0)
                return check_json(json_object_update(object, renderer->tokens->metadata),
                                  renderer->err);
        r = expand_string(renderer, &inner, key, &name);
        if (r < 0)
                return r;
        r = expand_value(renderer, &inner, value, &expanded);
        if (r < 0)
                return r;
        return check_json(json_object_set_new(object, buf_str(&name), expanded), renderer->err);
}

static int expand_object(const Renderer *renderer, const Place *place, json_t *value, json_t **ret)
{
        json_auto_t *object = json_object();
        const char *key;
        json_t *member;
        int r;

        json_object_foreach(value, key, member)
        {
                r = expand_member(renderer, place, key, member, object);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(object);
        return 0;
}

static int expand_array(const Renderer *renderer, const Place *place, json_t *value, json_t **ret)
{
        json_auto_t *array = json_array();
        size_t index;
        json_t *element;

        json_array_foreach(value, index, element)
        {
                json_t *expanded = NULL;
                int r = expand_value(renderer, place, element, &expanded);

                if (r < 0)
                        return r;
                r = check_json(json_array_append_new(array, expanded), renderer->err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(array);
        return 0;
}

static int expand_value(const Renderer *renderer, const Place *place, json_t *value, json_t **ret)
{
        if (json_is_string(value))
                return expand_text(renderer, place, json_string_value(value), ret);
        if (json_is_object(value))
                return expand_object(renderer, place, value, ret);
        if (json_is_array(value))
                return expand_array(renderer, place, value, ret);
        *ret = json_incref(value);
        return 0;
}

int template_json_render(const char *path, const char *text, size_t len,
                         const TemplateTokens *tokens, Buf *out, Error *err)
{
        // A marker is at most as long as the token and the two bytes that U+FFFF has more.
        _cleanup_buf_ Buf marked = BUF_INIT(2 * len);
        Renderer renderer = {path, tokens, out->max, err};
        Place root = {.member = "template"};
        json_auto_t *template = NULL, *rendered = NULL;
        json_error_t why;
        int r = mark_metadata(text, len, &marked);

        if (r < 0)
                return error_set(err, EFBIG, "%s: too many $METADATA", path);
        template = json_loadb(buf_str(&marked), marked.len, 0, &why);
        if (!template)
                return error_set(err, EINVAL, "%s: line %d, column %d: %s", path, why.line,
                                 why.column, why.text);
        if (!json_is_object(template))
                return error_set(err, EINVAL, "%s: line 1: a template must be a JSON object", path);
        r = expand_object(&renderer, &root, template, &rendered);
        if (r < 0)
                return r;
        r = template_json_write(rendered, out, err);
        return r < 0 ? error_prefix(err, "%s", path) : 0;
}

static int append_dump(const char *data, size_t len, void *out)
{
        return buf_append(out, data, len) < 0 ? -1 : 0;
}

int template_json_write(const json_t *value, Buf *out, Error *err)
{
        if (json_dump_callback(value, append_dump, out, JSON_INDENT(2)) < 0 ||
            buf_append_str(out, "\n") < 0)
                return error_set(err, EFBIG, "the result is over %zu bytes", out->max);
        return 0;
}
