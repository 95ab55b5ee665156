// SHA-256, by libcrypto, and XXH3, by libxxhash.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_HEX_SIZE 65 // 64 hex digits and NUL

typedef struct Digest {
        uint8_t bytes[32];
} Digest;

void digest_sha256(const void *data, size_t len, Digest *ret);
bool digest_equal(const Digest *a, const Digest *b);

// Lower-case hex, as sha256sum(1) prints it.
void digest_hex(const Digest *digest, char ret_hex[DIGEST_HEX_SIZE]);

// By what bytes are known again that were seen here before: 128 bits of XXH3, at the speed of
// reading memory. For texts of which nobody gains by making two that look alike. What an earlier
// version of ours stored is a SHA-256.
#define CHECKSUM_XXH3_BYTES 16U
#define CHECKSUM_SHA256_BYTES 32U
typedef struct Checksum {
        uint8_t bytes[CHECKSUM_SHA256_BYTES];
        uint8_t len; // 0: of nothing
} Checksum;

void checksum_of(const void *data, size_t len, Checksum *ret);
bool checksum_matches(const Checksum *checksum, const void *data, size_t len);
