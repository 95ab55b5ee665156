#include "util/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// What the analyser is shown is for callers.
#undef error_set
#undef error_sys
#undef error_prefix

// A text that was cut may end inside a UTF-8 sequence: take the broken rest away.
static void trim_partial_utf8(char *text)
{
        size_t len = strlen(text), back = 0;

        if (len + 1 < ERROR_TEXT_MAX)
                return;
        while (back < 4 && back < len && ((unsigned char)text[len - 1 - back] & 0xC0U) == 0x80U)
                back++;
        if (back < len && (unsigned char)text[len - 1 - back] >= 0xC0U)
                text[len - 1 - back] = '\0';
}

int error_set(Error *err, int code, const char *fmt, ...)
{
        va_list args;

        if (err) {
                err->code = code;
                va_start(args, fmt);
                (void)vsnprintf(err->text, sizeof err->text, fmt, args);
                va_end(args);
                trim_partial_utf8(err->text);
        }
        return -code;
}

int error_sys(Error *err, const char *fmt, ...)
{
        int code = errno ? errno : EIO;
        va_list args;
        size_t len;

        if (!err)
                return -code;
        err->code = code;
        va_start(args, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        len = strlen(err->text);
        (void)snprintf(err->text + len, sizeof err->text - len, ": %s", strerror(code));
        trim_partial_utf8(err->text);
        return -code;
}

int error_prefix(Error *err, const char *fmt, ...)
{
        char old[ERROR_TEXT_MAX];
        va_list args;
        size_t len;

        if (!err)
                return -EIO;
        memcpy(old, err->text, sizeof old);
        va_start(args, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        len = strlen(err->text);
        if (len + 2 < sizeof err->text) {
                // memccpy, since a nested snprintf trips -Wformat-truncation.
                (void)memcpy(err->text + len, ": ", 2);
                len += 2;
                if (!memccpy(err->text + len, old, '\0', sizeof err->text - len))
                        err->text[sizeof err->text - 1] = '\0';
        }
        trim_partial_utf8(err->text);
        return err->code ? -err->code : -EIO;
}
