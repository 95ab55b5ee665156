// A growable byte buffer that takes its maximum at the start: a size from outside can grow it no
// further, and the append that would cross the limit fails and leaves the buffer as it was.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/macro.h"

typedef struct Buf {
        char *data; // always followed by a NUL that does not count, once something was appended
        size_t len;
        size_t cap;
        size_t max; // largest len
} Buf;

// BUF_INIT is valid without a call: nothing is allocated until the first append.
#define BUF_INIT(limit) ((Buf){.max = (limit)})

// 0, or -EFBIG when the result would be longer than max.
int buf_append(Buf *buf, const void *data, size_t len) must_check;
int buf_append_str(Buf *buf, const char *text) must_check;
int buf_printf(Buf *buf, const char *fmt, ...) printf_like(2, 3) must_check;

// Makes room so that `extra` more bytes fit without another allocation; same limit.
int buf_reserve(Buf *buf, size_t extra) must_check;

// Removes `len` bytes from the front.
void buf_consume(Buf *buf, size_t len);

// Forgets the content, keeps the memory.
void buf_clear(Buf *buf);

// Gives the NUL-terminated content to the caller, who frees it; the buffer is empty afterwards.
char *buf_take(Buf *buf, size_t *ret_len);

// The content as a string; "" when nothing was appended.
const char *buf_str(const Buf *buf);

void buf_done(Buf *buf);

#define _cleanup_buf_ _cleanup_(buf_done)
