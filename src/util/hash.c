#include "util/hash.h"

#include <openssl/sha.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(Digest) == SHA256_DIGEST_LENGTH, "Digest holds one SHA-256");
_Static_assert(sizeof(XXH128_canonical_t) == CHECKSUM_XXH3_BYTES, "a checksum holds one XXH3");
_Static_assert(DIGEST_HEX_SIZE == 2 * SHA256_DIGEST_LENGTH + 1, "two digits a byte and NUL");

void digest_sha256(const void *data, size_t len, Digest *ret)
{
        (void)SHA256(data, len, ret->bytes);
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
                (void)SHA256(data, len, found.bytes);
        else
                checksum_of(data, len, &found);
        return checksum->len == found.len && memcmp(checksum->bytes, found.bytes, found.len) == 0;
}
