// SHA256() looks its algorithm up at each call, which takes several times as long as the digest of
// a small text, and the EVP functions ask for state to keep it in.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "util/hash.h"

#include <openssl/sha.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(Digest) == SHA256_DIGEST_LENGTH, "Digest holds one SHA-256");
_Static_assert(sizeof(XXH128_canonical_t) == CHECKSUM_XXH3_BYTES, "a checksum holds one XXH3");
_Static_assert(DIGEST_HEX_SIZE == 2 * SHA256_DIGEST_LENGTH + 1, "two digits a byte and NUL");

static void sha256(const void *data, size_t len, uint8_t *ret)
{
        SHA256_CTX context;

        // They do not fail.
        (void)SHA256_Init(&context);
        (void)SHA256_Update(&context, data, len);
        (void)SHA256_Final(ret, &context);
}

void digest_sha256(const void *data, size_t len, Digest *ret)
{
        sha256(data, len, ret->bytes);
}

bool digest_equal(const Digest *a, const Digest *b)
{
        return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void digest_hex(const Digest *digest, char ret_hex[DIGEST_HEX_SIZE])
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < sizeof digest->bytes; i++) {
                ret_hex[2 * i] = digits[digest->bytes[i] >> 4];
                ret_hex[2 * i + 1] = digits[digest->bytes[i] & 0x0FU];
        }
        ret_hex[DIGEST_HEX_SIZE - 1] = '\0';
}

void checksum_of(const void *data, size_t len, Checksum *ret)
{
        XXH128_canonical_t canonical; // the same on every machine

        XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, len));
        *ret = (Checksum){.len = CHECKSUM_XXH3_BYTES};
        memcpy(ret->bytes, canonical.digest, sizeof canonical.digest);
}

bool checksum_matches(const Checksum *checksum, const void *data, size_t len)
{
        Checksum found = {.len = CHECKSUM_SHA256_BYTES};

        if (checksum->len == CHECKSUM_SHA256_BYTES)
                sha256(data, len, found.bytes);
        else
                checksum_of(data, len, &found);
        return checksum->len == found.len && memcmp(checksum->bytes, found.bytes, found.len) == 0;
}
