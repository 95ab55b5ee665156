#include "scan/index.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define ROOT_OPEN "<profiles"
#define ROOT_CLOSE "</profiles>"
#define ENTRY_OPEN "<profile"
#define ENTRY_CLOSE "</profile>"
#define SHOWN_MAX 100 // bytes of a bad line in a message
#define FIRST_ALLOCATION 1024

#define LITERAL_LEN(literal) (sizeof(literal) - 1)

typedef struct Cursor {
        const char *at, *end;
} Cursor;

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(Cursor *cursor)
{
        while (cursor->at < cursor->end && is_blank(*cursor->at))
                cursor->at++;
}

static bool looking_at(const Cursor *cursor, const char *literal, size_t len)
{
        return (size_t)(cursor->end - cursor->at) >= len && memcmp(cursor->at, literal, len) == 0;
}

static bool take_literal(Cursor *cursor, const char *literal, size_t len)
{
        if (!looking_at(cursor, literal, len))
                return false;
        cursor->at += len;
        return true;
}

// ---- the frame: what makes the text an index, and a whole one -------------------------------

static int not_an_index(const char *text, size_t len, Error *err)
{
        _cleanup_free_ char *shown = str_visible(text, len, SHOWN_MAX);

        return error_set(err, EBADMSG, "not a profile index: <profiles> is missing; it begins: %s",
                         shown);
}

// Skips a byte order mark, the XML declaration and comments up to behind <profiles …>.
static int take_root(Cursor *cursor, Error *err)
{
        const char *text = cursor->at;
        size_t len = (size_t)(cursor->end - cursor->at);
        const char *close;

        (void)take_literal(cursor, "\xEF\xBB\xBF", 3);
        for (;;) {
                const char *mark;

                skip_blanks(cursor);
                if (take_literal(cursor, ROOT_OPEN, LITERAL_LEN(ROOT_OPEN)))
                        break;
                mark = looking_at(cursor, "<?", 2)     ? "?>"
                       : looking_at(cursor, "<!--", 4) ? "-->"
                                                       : NULL;
                if (mark)
                        mark = memmem(cursor->at, (size_t)(cursor->end - cursor->at), mark,
                                      strlen(mark));
                if (!mark)
                        return not_an_index(text, len, err);
                cursor->at = (const char *)memchr(mark, '>', (size_t)(cursor->end - mark)) + 1;
        }
        close = memchr(cursor->at, '>', (size_t)(cursor->end - cursor->at));
        if (!close || (*cursor->at != '>' && !is_blank(*cursor->at)))
                return not_an_index(text, len, err);
        cursor->at = close + 1;
        return 0;
}

// Takes </profiles> and blanks off the end.
static int take_root_close(Cursor *cursor, Error *err)
{
        while (cursor->end > cursor->at && is_blank(cursor->end[-1]))
                cursor->end--;
        if ((size_t)(cursor->end - cursor->at) < LITERAL_LEN(ROOT_CLOSE) ||
            memcmp(cursor->end - LITERAL_LEN(ROOT_CLOSE), ROOT_CLOSE, LITERAL_LEN(ROOT_CLOSE)) != 0)
                return error_set(err, EBADMSG,
                                 "the profile index is cut short: </profiles> is missing at its "
                                 "end");
        cursor->end -= LITERAL_LEN(ROOT_CLOSE);
        return 0;
}

// ---- entries ------------------------------------------------------------------------------

// A line's content: `at` is behind "<profile", `end` at the end of the line.
static const char *parse_mtime(Cursor *line, int64_t *ret)
{
        static const char name[] = "mtime";
        int64_t value = 0;
        char quote;

        skip_blanks(line);
        if (!take_literal(line, name, LITERAL_LEN(name)))
                return "it has no mtime";
        skip_blanks(line);
        if (!take_literal(line, "=", 1))
                return "it has no mtime";
        skip_blanks(line);
        if (line->at == line->end || (*line->at != '\'' && *line->at != '"'))
                return "its mtime is not quoted";
        quote = *line->at++;
        if (line->at == line->end || *line->at == quote)
                return "its mtime is empty";
        for (; line->at < line->end && *line->at != quote; line->at++) {
                if (*line->at < '0' || *line->at > '9')
                        return "its mtime is not a whole number";
                if (__builtin_mul_overflow(value, INT64_C(10), &value) ||
                    __builtin_add_overflow(value, (int64_t)(*line->at - '0'), &value))
                        return "its mtime is out of range";
        }
        if (line->at == line->end)
                return "its mtime does not end";
        line->at++;
        skip_blanks(line);
        if (!take_literal(line, ">", 1))
                return "something unexpected stands behind its mtime";
        *ret = value;
        return NULL;
}

// NULL, or why the entry is refused.
static const char *parse_entry(Cursor line, IndexEntry *entry)
{
        const char *reason = parse_mtime(&line, &entry->mtime);
        size_t len;

        if (reason)
                return reason;
        while (line.end > line.at && is_blank(line.end[-1]))
                line.end--;
        len = (size_t)(line.end - line.at);
        if (len < LITERAL_LEN(ENTRY_CLOSE) ||
            memcmp(line.end - LITERAL_LEN(ENTRY_CLOSE), ENTRY_CLOSE, LITERAL_LEN(ENTRY_CLOSE)) != 0)
                return "</profile> is missing";
        len -= LITERAL_LEN(ENTRY_CLOSE);
        if (len == 0)
                return "it has no name";
        if (!str_is_safe_relative_path(line.at, len))
                return "its name is not a plain path below the profile folder";
        entry->name = line.at;
        entry->name_len = (uint32_t)len; // a safe path is short
        return NULL;
}

static void refuse(Index *index, size_t line_number, const Cursor *line, const char *reason)
{
        _cleanup_free_ char *shown = NULL;

        if (index->n_refused++ >= INDEX_MAX_REFUSALS)
                return;
        shown = str_visible(line->at, (size_t)(line->end - line->at), SHOWN_MAX);
        index->refusals[index->n_refused - 1] = (IndexRefusal){
                .line = line_number,
                .text = xasprintf("%s: %s", reason, shown),
        };
}

static int add_entry(Index *index, size_t *capacity, const IndexEntry *entry, Error *err)
{
        if (index->n_entries == INDEX_MAX_ENTRIES)
                return error_set(err, EFBIG, "the profile index has more than %zu entries",
                                 INDEX_MAX_ENTRIES);
        if (index->n_entries == *capacity) {
                *capacity = MAX(*capacity * 2, (size_t)FIRST_ALLOCATION);
                index->entries = xreallocarray(index->entries, *capacity, sizeof *index->entries);
        }
        index->entries[index->n_entries++] = *entry;
        return 0;
}

// The end of the element that starts at `at`: of its line; or just behind the first </profile>, if
// more elements follow in the same line.
static const char *element_end(const char *at, const char *end)
{
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline ? newline : end;
        const char *close =
                memmem(at, (size_t)(line_end - at), ENTRY_CLOSE "<", LITERAL_LEN(ENTRY_CLOSE "<"));

        return close ? close + LITERAL_LEN(ENTRY_CLOSE) : line_end;
}

static int parse_entries(Cursor cursor, size_t line_number, Index *index, Error *err)
{
        size_t capacity = 0;

        for (;;) {
                Cursor line;
                IndexEntry entry;
                const char *reason;
                int r;

                for (; cursor.at < cursor.end && is_blank(*cursor.at); cursor.at++)
                        line_number += *cursor.at == '\n';
                if (cursor.at == cursor.end)
                        return 0;
                line = (Cursor){cursor.at, element_end(cursor.at, cursor.end)};
                cursor.at = line.end;
                if (looking_at(&line, ENTRY_OPEN " ", LITERAL_LEN(ENTRY_OPEN " "))) {
                        Cursor content = {line.at + LITERAL_LEN(ENTRY_OPEN), line.end};

                        reason = parse_entry(content, &entry);
                } else {
                        reason = "not a <profile> element";
                }
                if (reason) {
                        refuse(index, line_number, &line, reason);
                        continue;
                }
                r = add_entry(index, &capacity, &entry, err);
                if (r < 0)
                        return r;
        }
}

static size_t count_lines(const char *from, const char *to)
{
        size_t n = 0;

        for (; from < to; from++)
                n += *from == '\n';
        return n;
}

int index_parse(const char *text, size_t len, Index *ret, Error *err)
{
        _cleanup_index_ Index index = {.n_entries = 0};
        Cursor cursor = {text, text + len};
        int r = take_root(&cursor, err);

        if (r < 0)
                return r;
        r = take_root_close(&cursor, err);
        if (r < 0)
                return r;
        r = parse_entries(cursor, 1 + count_lines(text, cursor.at), &index, err);
        if (r < 0)
                return r;
        *ret = index;
        index = (Index){.n_entries = 0};
        return 0;
}

void index_done(Index *index)
{
        free(index->entries);
        for (size_t i = 0; i < MIN(index->n_refused, (size_t)INDEX_MAX_REFUSALS); i++)
                free(index->refusals[i].text);
        *index = (Index){.n_entries = 0};
}
