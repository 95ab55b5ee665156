// SHA-256, by libcrypto.
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
