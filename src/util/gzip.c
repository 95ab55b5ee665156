#include "util/gzip.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#define ZLIB_CONST // next_in is not written to
#include <zlib.h>

#define WINDOW_BITS_GZIP (MAX_WBITS + 16) // inflateInit2: a gzip header and trailer, nothing else
#define INFLATE_CHUNK 65536

bool gzip_is(const void *data, size_t len)
{
        static const uint8_t magic[] = {0x1F, 0x8B};

        return len >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

static int over_limit(const Buf *out, Error *err)
{
        return error_set(err, EFBIG, "inflates to more than %zu bytes", out->max);
}

// One round: as much output as there is for the input at hand. Z_OK and Z_STREAM_END as inflate().
static int inflate_chunk(z_stream *stream, Buf *out, Error *err)
{
        unsigned char chunk[INFLATE_CHUNK];
        int state;

        stream->next_out = chunk;
        stream->avail_out = sizeof chunk;
        state = inflate(stream, Z_NO_FLUSH);
        if (buf_append(out, chunk, sizeof chunk - stream->avail_out) < 0)
                return over_limit(out, err);
        switch (state) {
        case Z_OK:
        case Z_STREAM_END:
                return state;
        case Z_BUF_ERROR: // no progress: the input is over before the stream
                return error_set(err, EBADMSG, "the gzip data is truncated");
        default:
                return error_set(err, EBADMSG, "the gzip data is damaged: %s",
                                 stream->msg ? stream->msg : zError(state));
        }
}

static int inflate_all(z_stream *stream, Buf *out, Error *err)
{
        for (;;) {
                int r = inflate_chunk(stream, out, err);

                if (r < 0)
                        return r;
                if (r != Z_STREAM_END)
                        continue;
                if (stream->avail_in == 0)
                        return 0;
                // RFC 1952 §2.2: members follow one another.
                if (inflateReset(stream) != Z_OK)
                        return error_set(err, EBADMSG, "the gzip data is damaged");
        }
}

int gzip_inflate(const void *data, size_t len, Buf *out, Error *err)
{
        z_stream stream = {.next_in = data};
        int r;

        if (len > UINT32_MAX)
                return error_set(err, EFBIG, "more than 4 GiB of gzip data");
        stream.avail_in = (uInt)len;
        if (inflateInit2(&stream, WINDOW_BITS_GZIP) != Z_OK)
                return error_set(err, ENOMEM, "cannot start zlib");
        r = inflate_all(&stream, out, err);
        (void)inflateEnd(&stream);
        return r;
}
