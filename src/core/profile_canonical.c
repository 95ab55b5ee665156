#include "core/profile_canonical.h"

#include <stdlib.h>
#include <string.h>

// In the order of ProfileType.
static const char tags[] = {'d', 'l', 's', 'n', 'b', 'z'};
#define TAG_KEY 'k'
#define TAG_END 'e'

// libcrypto fails here only when memory is short.
static void must(int ok)
{
        if (ok != 1)
                abort();
}

static void flush(Canonical *canonical)
{
        must(EVP_DigestUpdate(canonical->evp, canonical->buffer, canonical->used));
        canonical->used = 0;
}

static void put(Canonical *canonical, const void *data, size_t len)
{
        if (len > sizeof canonical->buffer - canonical->used)
                flush(canonical);
        if (len > sizeof canonical->buffer) {
                must(EVP_DigestUpdate(canonical->evp, data, len));
                return;
        }
        memcpy(canonical->buffer + canonical->used, data, len);
        canonical->used += len;
}

// On the scanner's hottest path, so head and text find room at once.
static void put_text(Canonical *canonical, char tag, const char *text, size_t len)
{
        // The same on every machine: the id is compared between hosts.
        const char head[] = {tag, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8),
                             (char)len};
        char *at = canonical->buffer + canonical->used;

        if (len + sizeof head > sizeof canonical->buffer - canonical->used) {
                put(canonical, head, sizeof head);
                put(canonical, text, len);
                return;
        }
        memcpy(at, head, sizeof head);
        memcpy(at + sizeof head, text, len);
        canonical->used += sizeof head + len;
}

void canonical_begin(Canonical *canonical)
{
        canonical->evp = EVP_MD_CTX_new();
        canonical->used = 0;
        must(canonical->evp != NULL);
        must(EVP_DigestInit_ex(canonical->evp, EVP_sha256(), NULL));
}

void canonical_key(Canonical *canonical, const char *key, size_t len)
{
        put_text(canonical, TAG_KEY, key, len);
}

void canonical_open(Canonical *canonical, ProfileType type)
{
        put(canonical, &tags[type], 1);
}

void canonical_close(Canonical *canonical)
{
        const char end = TAG_END;

        put(canonical, &end, 1);
}

void canonical_scalar(Canonical *canonical, ProfileType type, const char *text, size_t len)
{
        if (type == PROFILE_NULL)
                put(canonical, &tags[type], 1);
        else
                put_text(canonical, tags[type], text, len);
}

void canonical_end(Canonical *canonical, Digest *ret)
{
        if (ret) {
                flush(canonical);
                must(EVP_DigestFinal_ex(canonical->evp, ret->bytes, NULL));
        }
        EVP_MD_CTX_free(canonical->evp);
}
