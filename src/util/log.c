#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"

#define LOG_LINE_MAX 4096

static LogLevel max_level = LOG_LEVEL_INFO;
static const char *program = "packuilon";

void log_set_level(LogLevel level)
{
        max_level = level;
}

void log_set_program(const char *name)
{
        program = name;
}

static int append_cut(Buf *line, const char *text, size_t len)
{
        size_t room = line->max - line->len;
        int r = buf_append(line, text, MIN(len, room));

        return len > room ? -EFBIG : r;
}

static int append_visible(Buf *line, const char *text)
{
        const char *at = text;

        for (;;) {
                const char *plain = at;
                int r;

                while ((unsigned char)*at >= 0x20 && *at != 0x7F)
                        at++;
                r = append_cut(line, plain, (size_t)(at - plain));
                if (r < 0 || !*at)
                        return r;
                r = buf_printf(line, "\\x%02x", (unsigned char)*at++);
                if (r < 0)
                        return r;
        }
}

void log_write(LogLevel level, const char *fmt, ...)
{
        _cleanup_buf_ Buf line = BUF_INIT(LOG_LINE_MAX);
        _cleanup_free_ char *text = NULL;
        va_list args;
        int r;

        if (level > max_level)
                return;
        va_start(args, fmt);
        text = xvasprintf(fmt, args);
        va_end(args);

        r = getenv("JOURNAL_STREAM") ? buf_printf(&line, "<%d>", (int)level)
                                     : buf_printf(&line, "%s: ", program);
        if (r == 0)
                r = append_visible(&line, text); // a line over the limit is cut, not lost
        (void)r;
        (void)fprintf(stderr, "%s\n", buf_str(&line));
}
