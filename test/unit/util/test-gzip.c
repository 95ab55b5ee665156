#include "../unit.h"

#include <errno.h>
#include <zlib.h>

#include "util/buf.h"
#include "util/gzip.h"
#include "util/macro.h"

#define WINDOW_BITS_GZIP (MAX_WBITS + 16)

static void deflate_to(Buf *out, char *data, size_t len)
{
        unsigned char packed[4096];
        z_stream stream = {.next_in = (Bytef *)data, .avail_in = (uInt)len};

        assert_int_equal(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, WINDOW_BITS_GZIP, 8,
                                      Z_DEFAULT_STRATEGY),
                         Z_OK);
        stream.next_out = packed;
        stream.avail_out = sizeof packed;
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        assert_int_equal(buf_append(out, packed, sizeof packed - stream.avail_out), 0);
        assert_int_equal(deflateEnd(&stream), Z_OK);
}

static void deflate_text(Buf *out, const char *text)
{
        _cleanup_free_ char *copy = strdup(text);

        deflate_to(out, copy, strlen(copy));
}

static void test_magic(void **state)
{
        (void)state;
        assert_true(gzip_is("\x1F\x8B", 2));
        assert_true(gzip_is("\x1F\x8B\x08", 3));
        assert_false(gzip_is("\x1F", 1));
        assert_false(gzip_is("", 0));
        assert_false(gzip_is("{}", 2));
}

static void test_members_are_one_stream(void **state)
{
        _cleanup_buf_ Buf packed = BUF_INIT(1000), out = BUF_INIT(100);
        Error err = ERROR_NONE;

        (void)state;
        deflate_text(&packed, "first ");
        deflate_text(&packed, "");
        deflate_text(&packed, "second");
        assert_int_equal(buf_append_str(&out, "> "), 0);
        assert_ok(gzip_inflate(packed.data, packed.len, &out, &err), err);
        assert_string_equal(buf_str(&out), "> first second");
}

static void test_bomb_meets_the_limit(void **state)
{
        const size_t size = 1000 * 1000;
        _cleanup_buf_ Buf packed = BUF_INIT(4096), small = BUF_INIT(size - 1), out = BUF_INIT(size);
        _cleanup_free_ char *zeros = calloc(1, size);
        Error err = ERROR_NONE;

        (void)state;
        deflate_to(&packed, zeros, size);
        assert_int_equal(gzip_inflate(packed.data, packed.len, &small, &err), -EFBIG);
        assert_string_equal(err.text, "inflates to more than 999999 bytes");
        assert_ok(gzip_inflate(packed.data, packed.len, &out, &err), err);
        assert_int_equal(out.len, size);
        assert_memory_equal(out.data, zeros, size);
}

static void test_every_cut_is_noticed(void **state)
{
        _cleanup_buf_ Buf packed = BUF_INIT(1000);
        Error err = ERROR_NONE;

        (void)state;
        deflate_text(&packed, "some text that is long enough to be cut anywhere");
        for (size_t len = 0; len < packed.len; len++) {
                _cleanup_buf_ Buf out = BUF_INIT(1000);

                if (gzip_inflate(packed.data, len, &out, &err) != -EBADMSG)
                        fail_msg("cut at %zu of %zu: no error", len, packed.len);
                assert_contains(err.text, "truncated");
        }
}

static void test_damage_is_noticed(void **state)
{
        _cleanup_buf_ Buf packed = BUF_INIT(1000), out = BUF_INIT(1000);
        Error err = ERROR_NONE;

        (void)state;
        deflate_text(&packed, "text");
        packed.data[packed.len - 8] ^= 1; // its CRC
        assert_int_equal(gzip_inflate(packed.data, packed.len, &out, &err), -EBADMSG);
        assert_contains(err.text, "damaged");
        packed.data[packed.len - 8] ^= 1;
        assert_int_equal(buf_append_str(&packed, "trailing garbage"), 0);
        assert_int_equal(gzip_inflate(packed.data, packed.len, &out, &err), -EBADMSG);
        assert_int_equal(gzip_inflate("plain text", 10, &out, &err), -EBADMSG);
}

static void test_more_than_zlib_counts(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(10);

        (void)state;
        assert_int_equal(gzip_inflate("", (size_t)UINT32_MAX + 1, &out, NULL), -EFBIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_magic),
                cmocka_unit_test(test_members_are_one_stream),
                cmocka_unit_test(test_bomb_meets_the_limit),
                cmocka_unit_test(test_every_cut_is_noticed),
                cmocka_unit_test(test_damage_is_noticed),
                cmocka_unit_test(test_more_than_zlib_counts),
        };

        return cmocka_run_group_tests_name("gzip", tests, NULL, NULL);
}
