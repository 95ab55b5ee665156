#include "builder/redact.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

typedef struct Pattern {
        char *text;
        size_t len;
} Pattern;

struct Redactor {
        Pattern *patterns;
        size_t n_patterns;
        size_t longest;
};

Redactor *redactor_new(void)
{
        return xcalloc(1, sizeof(Redactor));
}

void redactor_free(Redactor *redactor)
{
        for (size_t at = 0; at < redactor->n_patterns; at++)
                free(redactor->patterns[at].text);
        free(redactor->patterns);
        free(redactor);
}

// Takes the text over. Longer patterns come first, so that a secret that contains another is
// hidden whole.
static void add_pattern(Redactor *redactor, char *take_text)
{
        size_t len = strlen(take_text), at = 0;

        while (at < redactor->n_patterns && redactor->patterns[at].len >= len) {
                if (strcmp(redactor->patterns[at].text, take_text) == 0) {
                        free(take_text);
                        return;
                }
                at++;
        }
        redactor->patterns = xreallocarray(redactor->patterns, redactor->n_patterns + 1,
                                           sizeof *redactor->patterns);
        memmove(redactor->patterns + at + 1, redactor->patterns + at,
                (redactor->n_patterns - at) * sizeof *redactor->patterns);
        redactor->patterns[at] = (Pattern){.text = take_text, .len = len};
        redactor->n_patterns++;
        redactor->longest = MAX(redactor->longest, len);
}

// The text as it stands inside a JSON string; NULL if it is not UTF-8.
static char *json_escaped(const char *text, size_t flags)
{
        json_t *string = json_string(text);
        char *quoted, *inner;

        if (!string)
                return NULL;
        quoted = json_dumps(string, JSON_ENCODE_ANY | flags);
        json_decref(string);
        if (!quoted)
                return NULL;
        inner = xstrndup(quoted + 1, strlen(quoted) - 2);
        free(quoted);
        return inner;
}

// Go's encoder also escapes <, > and &.
static char *go_escaped(const char *json)
{
        Buf out = BUF_INIT(8 * strlen(json) + 1);

        for (const char *at = json; *at; at++) {
                int r = strchr("<>&", *at) ? buf_printf(&out, "\\u%04x", (unsigned)*at)
                                           : buf_append(&out, at, 1);

                (void)r; // the limit above fits the longest result
        }
        return buf_take(&out, NULL);
}

// jansson writes \u00E4, most others \u00e4.
static char *with_small_hex(const char *json)
{
        char *copy = xstrdup(json);

        for (char *at = copy; *at; at++) {
                if (*at != '\\')
                        continue;
                at++; // what is escaped; there always is something
                for (int digit = 1; *at == 'u' && digit <= 4; digit++)
                        at[digit] = (char)tolower((unsigned char)at[digit]);
        }
        return copy;
}

static char *percent_encoded(const char *text, bool small_hex)
{
        Buf out = BUF_INIT(4 * strlen(text) + 1);

        for (const char *at = text; *at; at++) {
                unsigned char byte = (unsigned char)*at;
                int r = isalnum(byte) || strchr("-._~", byte)
                                ? buf_append(&out, at, 1)
                                : buf_printf(&out, small_hex ? "%%%02x" : "%%%02X", byte);

                (void)r;
        }
        return buf_take(&out, NULL);
}

static void add_line(Redactor *redactor, const char *line)
{
        size_t len = strlen(line);
        char *json;

        if (len < REDACT_MIN_SECRET || len > REDACT_MAX_SECRET)
                return;
        add_pattern(redactor, xstrdup(line));
        add_pattern(redactor, percent_encoded(line, false));
        add_pattern(redactor, percent_encoded(line, true));
        json = json_escaped(line, 0);
        if (json) {
                add_pattern(redactor, go_escaped(json));
                add_pattern(redactor, json);
        }
        json = json_escaped(line, JSON_ENSURE_ASCII);
        if (json) {
                add_pattern(redactor, with_small_hex(json));
                add_pattern(redactor, json);
        }
}

void redactor_add(Redactor *redactor, const char *secret)
{
        const char *at = secret;

        while (*at) {
                size_t len = strcspn(at, "\r\n");
                _cleanup_free_ char *line = xstrndup(at, len);

                add_line(redactor, line);
                at += len;
                at += strspn(at, "\r\n");
        }
}

// The earliest pattern in data[from..len), or NULL.
static const Pattern *find_next(const Redactor *redactor, const char *data, size_t len, size_t from,
                                size_t *ret_at)
{
        const Pattern *best = NULL;
        size_t best_at = len;

        for (size_t n = 0; n < redactor->n_patterns; n++) {
                const Pattern *pattern = &redactor->patterns[n];
                // A later start cannot win; the length keeps equal starts to the longest.
                size_t window = MIN(len, best_at + pattern->len) - from;
                const char *hit = memmem(data + from, window, pattern->text, pattern->len);

                if (hit && (size_t)(hit - data) < best_at) {
                        best = pattern;
                        best_at = (size_t)(hit - data);
                }
        }
        *ret_at = best_at;
        return best;
}

// True if data[at..len) is the beginning of a secret and may go on in the next piece.
static bool may_begin_secret(const Redactor *redactor, const char *data, size_t len, size_t at)
{
        for (size_t n = 0; n < redactor->n_patterns; n++) {
                const Pattern *pattern = &redactor->patterns[n];

                if (pattern->len > len - at && memcmp(data + at, pattern->text, len - at) == 0)
                        return true;
        }
        return false;
}

// Where the tail begins that may be an unfinished secret; len if there is none.
static size_t find_unfinished(const Redactor *redactor, const char *data, size_t len, size_t from)
{
        size_t at = from;

        if (!redactor->longest)
                return len;
        if (len - from >= redactor->longest)
                at = len - redactor->longest + 1;
        while (at < len && !may_begin_secret(redactor, data, len, at))
                at++;
        return at;
}

int redactor_feed(const Redactor *redactor, Buf *held, const char *data, size_t len, bool end,
                  Buf *out)
{
        _cleanup_buf_ Buf joined = BUF_INIT(held->len + len);
        size_t from = 0, keep, r_at;
        const Pattern *hit;
        int r;

        if (held->len) {
                r = buf_append(&joined, held->data, held->len);
                if (r == 0)
                        r = buf_append(&joined, data, len);
                if (r < 0)
                        return r;
                data = joined.data;
                len = joined.len;
        }
        keep = end ? len : find_unfinished(redactor, data, len, from);
        // A secret found within the tail waits: it may be part of a longer one.
        while ((hit = find_next(redactor, data, len, from, &r_at)) && r_at < keep) {
                r = buf_append(out, data + from, r_at - from);
                if (r == 0)
                        r = buf_append_str(out, REDACT_MARK);
                if (r < 0)
                        return r;
                from = r_at + hit->len;
                if (from > keep)
                        keep = end ? len : find_unfinished(redactor, data, len, from);
        }
        r = buf_append(out, data + from, keep - from);
        if (r < 0)
                return r;
        if (joined.data)
                buf_clear(held);
        return buf_append(held, data + keep, len - keep);
}

char *redactor_text(const Redactor *redactor, const char *text)
{
        size_t len = strlen(text);
        _cleanup_buf_ Buf held = BUF_INIT(0), out = BUF_INIT((len + 1) * sizeof REDACT_MARK);
        int r = redactor_feed(redactor, &held, text, len, true, &out);

        (void)r; // `out` fits a mark in place of every byte
        return buf_take(&out, NULL);
}

// ---- of the auth file ---------------------------------------------------------------------

static const char *const secret_words[] = {"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL_SECRET"};

void auth_env_redact(const AuthEnv *env, Redactor *redactor)
{
        STRV_FOREACH (var, env->vars) {
                const char *equals = strchr(*var, '=');
                _cleanup_free_ char *name = xstrndup(*var, (size_t)(equals - *var));

                for (size_t at = 0; at < ELEMENTSOF(secret_words); at++) {
                        if (strstr(name, secret_words[at])) {
                                redactor_add(redactor, equals + 1);
                                break;
                        }
                }
        }
}
