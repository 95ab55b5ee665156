// gzip, by zlib.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/buf.h"
#include "util/error.h"

// True if the bytes start as a gzip member does (RFC 1952: 1f 8b).
bool gzip_is(const void *data, size_t len);

// Appends the inflated bytes to out, whose max is the limit on a gz bomb (-EFBIG). Several members
// in a row are one stream; a truncated or damaged one is -EBADMSG.
int gzip_inflate(const void *data, size_t len, Buf *out, Error *err) must_check;
