// The canonical form of a profile, and its SHA-256: every value is written with its type and
// length, so that no two different documents share a form. Keys are put in their order.
#pragma once

#include <openssl/evp.h>
#include <stddef.h>

#include "core/profile.h"

#define CANONICAL_BUFFER_BYTES 4096

typedef struct Canonical {
        EVP_MD_CTX *evp;
        size_t used;
        char buffer[CANONICAL_BUFFER_BYTES];
} Canonical;

void canonical_begin(Canonical *canonical);
void canonical_key(Canonical *canonical, const char *key, size_t len);
void canonical_open(Canonical *canonical, ProfileType type);
void canonical_close(Canonical *canonical);
void canonical_scalar(Canonical *canonical, ProfileType type, const char *text, size_t len);

// Frees what the form holds; the digest of what was put, unless `ret` is NULL.
void canonical_end(Canonical *canonical, Digest *ret);
