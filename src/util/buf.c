#include "util/buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"

int buf_reserve(Buf *buf, size_t extra)
{
        size_t need, cap;

        if (buf->len > buf->max || extra > buf->max - buf->len)
                return -EFBIG;
        need = buf->len + extra + 1;
        if (need <= buf->cap)
                return 0;
        cap = buf->cap ? buf->cap : 64;
        while (cap < need)
                cap = cap > (size_t)-1 / 2 ? need : cap * 2;
        buf->data = xreallocarray(buf->data, cap, 1);
        buf->cap = cap;
        return 0;
}

int buf_append(Buf *buf, const void *data, size_t len)
{
        int r = buf_reserve(buf, len);

        if (r < 0)
                return r;
        if (len)
                memcpy(buf->data + buf->len, data, len);
        buf->len += len;
        buf->data[buf->len] = '\0';
        return 0;
}

int buf_append_str(Buf *buf, const char *text)
{
        return buf_append(buf, text, strlen(text));
}

int buf_printf(Buf *buf, const char *fmt, ...)
{
        va_list args;
        int len, r;

        va_start(args, fmt);
        len = vsnprintf(NULL, 0, fmt, args);
        va_end(args);
        if (len < 0)
                return -EINVAL;
        r = buf_reserve(buf, (size_t)len);
        if (r < 0)
                return r;
        va_start(args, fmt);
        (void)vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, args);
        va_end(args);
        buf->len += (size_t)len;
        return 0;
}

void buf_consume(Buf *buf, size_t len)
{
        if (len >= buf->len) {
                buf_clear(buf);
                return;
        }
        memmove(buf->data, buf->data + len, buf->len - len + 1);
        buf->len -= len;
}

void buf_clear(Buf *buf)
{
        buf->len = 0;
        if (buf->data)
                buf->data[0] = '\0';
}

char *buf_take(Buf *buf, size_t *ret_len)
{
        char *data = buf->data ? buf->data : xstrndup("", 0);

        if (ret_len)
                *ret_len = buf->len;
        buf->data = NULL;
        buf->len = buf->cap = 0;
        return data;
}

const char *buf_str(const Buf *buf)
{
        return buf->data ? buf->data : "";
}

void buf_done(Buf *buf)
{
        free(buf->data);
        buf->data = NULL;
        buf->len = buf->cap = 0;
}
