#include "../unit.h"

#include "util/hash.h"

// The examples of FIPS 180-2, appendix B.
static const struct {
        const char *text, *hex;
} examples[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void test_known_digests(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
                char hex[DIGEST_HEX_SIZE];
                Digest digest;

                digest_sha256(examples[i].text, strlen(examples[i].text), &digest);
                digest_hex(&digest, hex);
                assert_string_equal(hex, examples[i].hex);
        }
}

static void test_equal_looks_at_every_byte(void **state)
{
        Digest a, b;

        (void)state;
        digest_sha256("abc", 3, &a);
        b = a;
        assert_true(digest_equal(&a, &b));
        for (size_t i = 0; i < sizeof a.bytes; i++) {
                b = a;
                b.bytes[i] ^= 1;
                assert_false(digest_equal(&a, &b));
        }
}

// Test vectors of xxHash, and what a version before that stored.
static void test_checksums(void **state)
{
        static const uint8_t of_nothing[] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                             0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
        Checksum checksum, earlier = {.len = CHECKSUM_SHA256_BYTES}, none = {.len = 0};
        Digest digest;

        (void)state;
        checksum_of("", 0, &checksum);
        assert_int_equal(checksum.len, CHECKSUM_XXH3_BYTES);
        assert_memory_equal(checksum.bytes, of_nothing, sizeof of_nothing);
        checksum_of("abc", 3, &checksum);
        digest_sha256("abc", 3, &digest);
        memcpy(earlier.bytes, digest.bytes, sizeof digest.bytes);
        assert_true(checksum_matches(&checksum, "abc", 3));
        assert_true(checksum_matches(&earlier, "abc", 3));
        assert_false(checksum_matches(&none, "abc", 3));
        for (size_t i = 0; i < CHECKSUM_SHA256_BYTES; i++) {
                Checksum other = earlier;

                other.bytes[i] ^= 1;
                assert_false(checksum_matches(&other, "abc", 3));
                other = checksum;
                other.bytes[i] ^= 1;
                assert_int_equal(checksum_matches(&other, "abc", 3), i >= CHECKSUM_XXH3_BYTES);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known_digests),
                cmocka_unit_test(test_equal_looks_at_every_byte),
                cmocka_unit_test(test_checksums),
        };

        return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
