#include "bin/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bin/table.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define LINE_MAX_BYTES 2048
#define WORD_WIDTH 6

static void say(Colour colour, const char *word, const char *what, const char *fmt, va_list args)
        printf_like(4, 0);

static void say(Colour colour, const char *word, const char *what, const char *fmt, va_list args)
{
        _cleanup_free_ char *text = xvasprintf(fmt, args);
        _cleanup_free_ char *visible = str_visible(text, strlen(text), LINE_MAX_BYTES);

        print_coloured(stdout, colour, word);
        printf("%*s%s: %s\n", WORD_WIDTH - (int)strlen(word), "", what, visible);
        (void)fflush(stdout); // the next check may take its time
}

void check_ok(Check *check, const char *what, const char *fmt, ...)
{
        va_list args;

        (void)check;
        va_start(args, fmt);
        say(COLOUR_GREEN, "ok", what, fmt, args);
        va_end(args);
}

void check_warn(Check *check, const char *what, const char *fmt, ...)
{
        va_list args;

        (void)check;
        va_start(args, fmt);
        say(COLOUR_YELLOW, "warn", what, fmt, args);
        va_end(args);
}

void check_fail(Check *check, const char *what, const char *fmt, ...)
{
        va_list args;

        check->n_failed++;
        va_start(args, fmt);
        say(COLOUR_RED, "FAIL", what, fmt, args);
        va_end(args);
}
