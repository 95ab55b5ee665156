#include "util/hash.h"

#include <openssl/sha.h>
#include <string.h>

_Static_assert(sizeof(Digest) == SHA256_DIGEST_LENGTH, "Digest holds one SHA-256");
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
