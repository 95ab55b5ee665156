// The content id: SHA-256 over a canonical form in which every value is written with its type and
// length, so that no two different documents share a form.
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "core/profile_paths.h"
#include "util/hash.h"

#define BUFFER_BYTES 4096

enum Tag {
        TAG_DICT = 'd',
        TAG_KEY = 'k',
        TAG_LIST = 'l',
        TAG_END = 'e',
        TAG_STRING = 's',
        TAG_NUMBER = 'n',
        TAG_BOOL = 'b',
        TAG_NULL = 'z',
};

typedef struct Hasher {
        EVP_MD_CTX *evp;
        const ProfilePaths *ignore;
        size_t used;
        char buffer[BUFFER_BYTES];
} Hasher;

// libcrypto fails here only when memory is short.
static void must(int ok)
{
        if (ok != 1)
                abort();
}

static void flush(Hasher *hasher)
{
        must(EVP_DigestUpdate(hasher->evp, hasher->buffer, hasher->used));
        hasher->used = 0;
}

static void put(Hasher *hasher, const void *data, size_t len)
{
        if (len > sizeof hasher->buffer - hasher->used)
                flush(hasher);
        if (len > sizeof hasher->buffer) {
                must(EVP_DigestUpdate(hasher->evp, data, len));
                return;
        }
        memcpy(hasher->buffer + hasher->used, data, len);
        hasher->used += len;
}

static void put_tag(Hasher *hasher, enum Tag tag)
{
        char byte = (char)tag;

        put(hasher, &byte, 1);
}

static void put_text(Hasher *hasher, enum Tag tag, const char *text, uint32_t len)
{
        // The same on every machine: the id is compared between hosts.
        char head[] = {(char)tag, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8),
                       (char)len};

        put(hasher, head, sizeof head);
        put(hasher, text, len);
}

static void put_node(Hasher *hasher, const ProfileNode *node, const PathState *here);

static void put_children(Hasher *hasher, const ProfileNode *node, const PathState *here)
{
        size_t index = 0;
        PathState state;

        for (const ProfileNode *child = node->child; child; child = child->next, index++) {
                if (path_state_enter(hasher->ignore, here, node, child, index, &state))
                        continue;
                if (node->type == PROFILE_DICT)
                        put_text(hasher, TAG_KEY, child->key, child->key_len);
                put_node(hasher, child, &state);
        }
        put_tag(hasher, TAG_END);
}

static void put_node(Hasher *hasher, const ProfileNode *node, const PathState *here)
{
        switch (node->type) {
        case PROFILE_DICT:
                put_tag(hasher, TAG_DICT);
                put_children(hasher, node, here);
                break;
        case PROFILE_LIST:
                put_tag(hasher, TAG_LIST);
                put_children(hasher, node, here);
                break;
        case PROFILE_STRING:
                put_text(hasher, TAG_STRING, node->text, node->text_len);
                break;
        case PROFILE_NUMBER:
                put_text(hasher, TAG_NUMBER, node->text, node->text_len);
                break;
        case PROFILE_BOOL:
                put_text(hasher, TAG_BOOL, node->text, node->text_len);
                break;
        case PROFILE_NULL:
                put_tag(hasher, TAG_NULL);
                break;
        }
}

void profile_digest(const Profile *profile, const ProfilePaths *ignore, Digest *ret)
{
        Hasher hasher = {.evp = EVP_MD_CTX_new(), .ignore = ignore, .used = 0};
        PathState start = path_state_start(ignore);

        must(hasher.evp != NULL);
        must(EVP_DigestInit_ex(hasher.evp, EVP_sha256(), NULL));
        put_node(&hasher, profile_root(profile), &start);
        flush(&hasher);
        must(EVP_DigestFinal_ex(hasher.evp, ret->bytes, NULL));
        EVP_MD_CTX_free(hasher.evp);
}
