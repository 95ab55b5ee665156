#include "util/strutil.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "util/alloc.h"

#define SAFE_PATH_MAX 512
#define NUMBER_SHOWN_MAX 40
#define ESCAPE_LEN 4 // of "\\xNN"

typedef struct Unit {
        const char *suffix;
        int64_t factor;
} Unit;

typedef struct Quantity {
        const char *what; // for "X is not WHAT"
        const char *base; // for "not between 1 and 9 BASE"
        Unit units[6];    // ended by a NULL suffix
} Quantity;

static const Quantity plain_number = {
        .what = "a whole number",
        .base = "",
        .units = {{"", 1}},
};

static const Quantity duration = {
        .what = "a time (such as 90, 90s, 15m, 2h or 7d)",
        .base = " seconds",
        .units = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 60 * 60}, {"d", 24 * 60 * 60}},
};

static const Quantity byte_count = {
        .what = "a size (such as 4096, 64k, 100M or 2G)",
        .base = " bytes",
        .units = {{"", 1}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}},
};

// Decimal digits only: no blanks, no plus sign, no hexadecimal, which strtoll would take.
// Saturates, so that a number too big is reported as out of range. *ret_rest is what follows.
static bool scan_decimal(const char *text, int64_t *ret, const char **ret_rest)
{
        bool negative = *text == '-';
        const char *at = text + (negative ? 1 : 0);
        int64_t value = 0;

        if (*at < '0' || *at > '9')
                return false;
        for (; *at >= '0' && *at <= '9'; at++) {
                int digit = negative ? -(*at - '0') : *at - '0';

                if (__builtin_mul_overflow(value, INT64_C(10), &value) ||
                    __builtin_add_overflow(value, (int64_t)digit, &value))
                        value = negative ? INT64_MIN : INT64_MAX;
        }
        *ret = value;
        *ret_rest = at;
        return true;
}

static int parse_quantity(const char *text, const Quantity *quantity, int64_t min, int64_t max,
                          int64_t *ret, Error *err)
{
        _cleanup_free_ char *shown = str_visible(text, strlen(text), NUMBER_SHOWN_MAX);
        const Unit *unit = quantity->units;
        const char *suffix;
        int64_t value;

        if (!scan_decimal(text, &value, &suffix))
                return error_set(err, EINVAL, "\"%s\" is not %s", shown, quantity->what);
        while (unit->suffix && strcasecmp(unit->suffix, suffix) != 0)
                unit++;
        if (!unit->suffix)
                return error_set(err, EINVAL, "\"%s\" is not %s", shown, quantity->what);
        if (__builtin_mul_overflow(value, unit->factor, &value))
                value = value < 0 ? INT64_MIN : INT64_MAX;
        if (value < min || value > max)
                return error_set(err, ERANGE, "%s is not between %lld and %lld%s", shown,
                                 (long long)min, (long long)max, quantity->base);
        *ret = value;
        return 0;
}

int str_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret, Error *err)
{
        return parse_quantity(text, &plain_number, min, max, ret, err);
}

int str_parse_seconds(const char *text, int64_t min, int64_t max, int64_t *ret, Error *err)
{
        return parse_quantity(text, &duration, min, max, ret, err);
}

int str_parse_size(const char *text, int64_t min, int64_t max, int64_t *ret, Error *err)
{
        return parse_quantity(text, &byte_count, min, max, ret, err);
}

int str_parse_bool(const char *text, bool *ret, Error *err)
{
        static const struct {
                const char *word;
                bool value;
        } words[] = {
                {"yes", true}, {"true", true},   {"on", true},   {"1", true},
                {"no", false}, {"false", false}, {"off", false}, {"0", false},
        };
        _cleanup_free_ char *shown = NULL;

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                if (strcasecmp(text, words[i].word) == 0) {
                        *ret = words[i].value;
                        return 0;
                }
        }
        shown = str_visible(text, strlen(text), NUMBER_SHOWN_MAX);
        return error_set(err, EINVAL, "\"%s\" is neither yes nor no", shown);
}

bool str_starts_with(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_ends_with(const char *text, const char *suffix)
{
        size_t text_len = strlen(text), suffix_len = strlen(suffix);

        return text_len >= suffix_len && strcmp(text + text_len - suffix_len, suffix) == 0;
}

// The length of the valid UTF-8 sequence at the start, 0 if there is none. The table of RFC 3629
// §4: the first byte decides the length and what the second may be.
static size_t utf8_sequence(const unsigned char *at, size_t left)
{
        unsigned char low = 0x80, high = 0xBF;
        size_t len;

        if (at[0] < 0x80)
                return 1;
        if (at[0] >= 0xC2 && at[0] <= 0xDF)
                len = 2;
        else if (at[0] >= 0xE0 && at[0] <= 0xEF)
                len = 3;
        else if (at[0] >= 0xF0 && at[0] <= 0xF4)
                len = 4;
        else
                return 0;
        if (at[0] == 0xE0)
                low = 0xA0; // below: overlong
        else if (at[0] == 0xED)
                high = 0x9F; // above: surrogates
        else if (at[0] == 0xF0)
                low = 0x90; // below: overlong
        else if (at[0] == 0xF4)
                high = 0x8F; // above: over U+10FFFF
        if (left < len || at[1] < low || at[1] > high)
                return 0;
        for (size_t i = 2; i < len; i++) {
                if ((at[i] & 0xC0U) != 0x80U)
                        return 0;
        }
        return len;
}

// The length of the ASCII at the start, in whole words: nearly all of every text that we check.
static size_t ascii_words(const unsigned char *at, size_t left)
{
        const uint64_t high_bits = UINT64_C(0x8080808080808080);
        uint64_t word;
        size_t len = 0;

        for (; left - len >= sizeof word; len += sizeof word) {
                memcpy(&word, at + len, sizeof word);
                if (word & high_bits)
                        break;
        }
        return len;
}

// memcmp of a block is many times as fast as a loop over its bytes: large ones, then small ones.
#define LARGE_BLOCK ((size_t)2048)
#define SMALL_BLOCK ((size_t)64)

size_t mem_common_start(const char *a, const char *b, size_t max)
{
        size_t len = 0;

        while (max - len >= LARGE_BLOCK && memcmp(a + len, b + len, LARGE_BLOCK) == 0)
                len += LARGE_BLOCK;
        while (max - len >= SMALL_BLOCK && memcmp(a + len, b + len, SMALL_BLOCK) == 0)
                len += SMALL_BLOCK;
        while (len < max && a[len] == b[len])
                len++;
        return len;
}

static bool same_before(const char *a_end, const char *b_end, size_t len)
{
        return memcmp(a_end - len, b_end - len, len) == 0;
}

size_t mem_common_end(const char *a_end, const char *b_end, size_t max)
{
        size_t len = 0;

        while (max - len >= LARGE_BLOCK && same_before(a_end - len, b_end - len, LARGE_BLOCK))
                len += LARGE_BLOCK;
        while (max - len >= SMALL_BLOCK && same_before(a_end - len, b_end - len, SMALL_BLOCK))
                len += SMALL_BLOCK;
        while (len < max && same_before(a_end - len, b_end - len, 1))
                len++;
        return len;
}

bool str_is_utf8(const char *text, size_t len)
{
        const unsigned char *bytes = (const unsigned char *)text;

        for (size_t at = 0; at < len;) {
                size_t step = ascii_words(bytes + at, len - at);

                if (step == 0)
                        step = utf8_sequence(bytes + at, len - at);
                if (step == 0)
                        return false;
                at += step;
        }
        return true;
}

static bool is_control(char c)
{
        return (unsigned char)c < 0x20 || c == 0x7F;
}

bool str_has_control(const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (is_control(text[i]))
                        return true;
        }
        return false;
}

static bool is_dots(const char *element, size_t len)
{
        return (len == 1 && element[0] == '.') ||
               (len == 2 && element[0] == '.' && element[1] == '.');
}

bool str_is_safe_relative_path(const char *text, size_t len)
{
        size_t start = 0;

        if (len == 0 || len > SAFE_PATH_MAX || !str_is_utf8(text, len) ||
            str_has_control(text, len) || memchr(text, '\\', len))
                return false;
        while (start <= len) {
                const char *slash = memchr(text + start, '/', len - start);
                size_t end = slash ? (size_t)(slash - text) : len;

                if (end == start || is_dots(text + start, end - start))
                        return false;
                start = end + 1;
        }
        return true;
}

char *str_visible(const char *text, size_t len, size_t max)
{
        static const char digits[] = "0123456789abcdef", ellipsis[] = "…";
        const unsigned char *bytes = (const unsigned char *)text;
        size_t room = len > max / ESCAPE_LEN ? max : len * ESCAPE_LEN, used = 0;
        char *out = xmalloc(room + sizeof ellipsis);

        for (size_t at = 0; at < len;) {
                size_t step = utf8_sequence(bytes + at, len - at);
                bool plain = step > 0 && !is_control(text[at]);

                if ((plain ? step : ESCAPE_LEN) > room - used) {
                        memcpy(out + used, ellipsis, sizeof ellipsis);
                        return out;
                }
                if (plain) {
                        memcpy(out + used, text + at, step);
                        used += step;
                        at += step;
                } else {
                        const char escape[ESCAPE_LEN] = {'\\', 'x', digits[bytes[at] >> 4],
                                                         digits[bytes[at] & 0x0FU]};

                        memcpy(out + used, escape, ESCAPE_LEN);
                        used += ESCAPE_LEN;
                        at++;
                }
        }
        out[used] = '\0';
        return out;
}

char **strv_split(const char *text, const char *separators)
{
        size_t count = 0;
        char **list = xcalloc(1, sizeof *list);

        for (const char *at = text + strspn(text, separators); *at; at += strspn(at, separators)) {
                size_t len = strcspn(at, separators);

                list = xreallocarray(list, count + 2, sizeof *list);
                list[count++] = xstrndup(at, len);
                list[count] = NULL;
                at += len;
        }
        return list;
}

void strv_free(char **list)
{
        STRV_FOREACH (item, list) {
                free(*item);
        }
        free(list);
}

size_t strv_count(char *const *list)
{
        size_t count = 0;

        while (list && list[count])
                count++;
        return count;
}
