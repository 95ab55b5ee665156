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

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known_digests),
                cmocka_unit_test(test_equal_looks_at_every_byte),
        };

        return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
