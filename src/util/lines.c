#include "util/lines.h"

#include <errno.h>
#include <string.h>

#define READ_BYTES 4096

static int pass_on(Buf *held, LineFn take, void *userdata)
{
        char *end;
        int r = 0;

        while (r == 0 && held->len && (end = memchr(held->data, '\n', held->len))) {
                size_t len = (size_t)(end - held->data) + 1;

                *end = '\0';
                r = take(held->data, userdata);
                buf_consume(held, len);
        }
        return r;
}

int lines_read(int fd, Buf *held, LineFn take, void *userdata)
{
        char chunk[READ_BYTES];
        ssize_t got = read(fd, chunk, sizeof chunk);
        size_t used = 0;

        if (got < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        if (got == 0)
                return LINES_END;
        // In pieces that fit: many short lines may be longer than one may be.
        while (used < (size_t)got) {
                size_t room = held->max - held->len, n = MIN((size_t)got - used, room);
                int r = buf_append(held, chunk + used, n);

                if (r < 0 || !n)
                        return -EFBIG;
                used += n;
                r = pass_on(held, take, userdata);
                if (r != 0)
                        return r;
        }
        return 0;
}
