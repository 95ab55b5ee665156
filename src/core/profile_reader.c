// What yajl lets pass and we do not (lone surrogates, NUL, sloppy UTF-8, text after the object) is
// checked here.
#include "core/profile_reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/strutil.h"

static size_t line_at(const char *text, const char *where)
{
        size_t line = 1;

        for (const char *at = text; (at = memchr(at, '\n', (size_t)(where - at))); at++)
                line++;
        return line;
}

int reader_fail(const ProfileReader *reader, const char *where, const char *fmt, ...)
{
        char what[ERROR_TEXT_MAX];
        va_list args;

        va_start(args, fmt);
        (void)vsnprintf(what, sizeof what, fmt, args);
        va_end(args);
        return error_set(reader->err, EBADMSG, "line %zu: %.*s", line_at(reader->text, where),
                         (int)sizeof what, what);
}

const char *reader_position(const ProfileReader *reader)
{
        size_t consumed = yajl_get_bytes_consumed(reader->yajl);

        return reader->text + MIN(consumed, (size_t)(reader->end - reader->text));
}

bool reader_in_text(const ProfileReader *reader, const char *string)
{
        return string >= reader->text && string < reader->end;
}

bool reader_value(ProfileReader *reader, ProfileType type)
{
        if (reader->depth == 0 && type != PROFILE_DICT) {
                (void)reader_fail(reader, reader_position(reader), "the document is not an object");
                return false;
        }
        if (++reader->n_nodes > PROFILE_MAX_NODES) {
                (void)reader_fail(reader, reader_position(reader), "more than %u values",
                                  PROFILE_MAX_NODES);
                return false;
        }
        return true;
}

bool reader_open(ProfileReader *reader, ProfileType type)
{
        if (reader->depth == PROFILE_MAX_DEPTH) {
                (void)reader_fail(reader, reader_position(reader), "more than %d levels deep",
                                  PROFILE_MAX_DEPTH);
                return false;
        }
        if (!reader_value(reader, type))
                return false;
        reader->depth++;
        return true;
}

void reader_close(ProfileReader *reader)
{
        if (--reader->depth == 0)
                reader->root_end = reader_position(reader);
}

// yajl only looks at the shape of lead and continuation bytes.
static int check_utf8(const ProfileReader *reader)
{
        const char *line = reader->text, *line_end;

        if (str_is_utf8(reader->text, (size_t)(reader->end - reader->text)))
                return 0;
        // A sequence never spans a newline: the first line that is not valid holds the mistake.
        for (;; line = line_end + 1) {
                line_end = memchr(line, '\n', (size_t)(reader->end - line));
                if (!line_end || !str_is_utf8(line, (size_t)(line_end - line)))
                        return reader_fail(reader, line, "invalid UTF-8");
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
static int check_escapes(const ProfileReader *reader)
{
        const char *at = reader->text;

        while ((at = memchr(at, '\\', (size_t)(reader->end - at)))) {
                int value = unicode_escape(at, reader->end), low;

                if (value == 0)
                        return reader_fail(reader, at, "\\u0000 in a string");
                if (value >= 0xD800 && value <= 0xDFFF) {
                        low = unicode_escape(at + 6, reader->end);
                        if (value >= 0xDC00 || low < 0xDC00 || low > 0xDFFF)
                                return reader_fail(reader, at, "half a surrogate pair in a string");
                        at += 6;
                }
                at += MIN(value < 0 ? 2 : 6, reader->end - at);
        }
        return 0;
}

static int fail_yajl(const ProfileReader *reader, const char *where)
{
        unsigned char *words = yajl_get_error(reader->yajl, 0, NULL, 0);
        int len = (int)strcspn((const char *)words, "\n"), r;

        r = reader_fail(reader, where, "%.*s", len, (const char *)words);
        yajl_free_error(reader->yajl, words);
        return r;
}

static int run_yajl(ProfileReader *reader)
{
        yajl_status status = yajl_parse(reader->yajl, (const unsigned char *)reader->text,
                                        (size_t)(reader->end - reader->text));

        if (status == yajl_status_error)
                return fail_yajl(reader, reader_position(reader));
        if (status == yajl_status_ok)
                status = yajl_complete_parse(reader->yajl);
        if (status == yajl_status_client_canceled)
                return -EBADMSG; // fail_at has been called
        if (status == yajl_status_error)
                return fail_yajl(reader, reader->end);
        // yajl takes the beginning of another token at the very end for whitespace.
        for (const char *at = reader->root_end; at < reader->end; at++) {
                if (!memchr(" \t\r\n", *at, 4))
                        return reader_fail(reader, at, "text after the object");
        }
        return 0;
}

static int read_text(ProfileReader *reader)
{
        static const char bom[] = "\xEF\xBB\xBF";
        size_t len = (size_t)(reader->end - reader->text);
        int r;

        // Nodes keep lengths in 32 bits.
        if (len > UINT32_MAX)
                return reader_fail(reader, reader->text, "the document is over 4 GiB");
        if (len >= strlen(bom) && memcmp(reader->text, bom, strlen(bom)) == 0)
                return reader_fail(reader, reader->text, "starts with a byte order mark");
        r = check_utf8(reader);
        if (r < 0)
                return r;
        r = check_escapes(reader);
        if (r < 0)
                return r;
        return run_yajl(reader);
}

int profile_read(ProfileReader *reader, const char *text, size_t len,
                 const yajl_callbacks *callbacks, void *userdata, Error *err)
{
        int r;

        if (len == 0)
                return error_set(err, EBADMSG, "the document is empty");
        *reader = (ProfileReader){
                .yajl = yajl_alloc(callbacks, NULL, userdata),
                .text = text,
                .end = text + len,
                .err = err,
        };
        if (!reader->yajl)
                return error_set(err, ENOMEM, "cannot make a JSON parser");
        (void)yajl_config(reader->yajl, yajl_dont_validate_strings, 1); // check_utf8 does it
        r = read_text(reader);
        yajl_free(reader->yajl);
        return r;
}
