#include "core/content_id.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "util/alloc.h"

#define SHORT_BYTES ((size_t)256)

_Static_assert(CONTENT_ID_BYTES == sizeof(XXH128_canonical_t), "an id is one XXH3");

bool content_id_equal(const ContentId *a, const ContentId *b)
{
        return a->lanes[0] == b->lanes[0] && a->lanes[1] == b->lanes[1];
}

void content_id_add(ContentId *sum, const ContentId *more)
{
        sum->lanes[0] += more->lanes[0];
        sum->lanes[1] += more->lanes[1];
}

void content_id_subtract(ContentId *sum, const ContentId *less)
{
        sum->lanes[0] -= less->lanes[0];
        sum->lanes[1] -= less->lanes[1];
}

void content_id_to_bytes(const ContentId *id, uint8_t ret_bytes[CONTENT_ID_BYTES])
{
        const uint64_t words[] = {htobe64(id->lanes[0]), htobe64(id->lanes[1])};

        memcpy(ret_bytes, words, sizeof words);
}

void content_id_from_bytes(const uint8_t bytes[CONTENT_ID_BYTES], ContentId *ret)
{
        uint64_t words[2];

        memcpy(words, bytes, sizeof words);
        *ret = (ContentId){{be64toh(words[0]), be64toh(words[1])}};
}

void content_id_hex(const ContentId *id, char ret_hex[CONTENT_ID_HEX_SIZE])
{
        static const char digits[] = "0123456789abcdef";
        uint8_t bytes[CONTENT_ID_BYTES];

        content_id_to_bytes(id, bytes);
        for (size_t i = 0; i < sizeof bytes; i++) {
                ret_hex[2 * i] = digits[bytes[i] >> 4];
                ret_hex[2 * i + 1] = digits[bytes[i] & 0x0FU];
        }
        ret_hex[CONTENT_ID_HEX_SIZE - 1] = '\0';
}

// What is hashed: this, the key, and the text.
typedef struct Head {
        uint64_t parent[2];
        uint32_t key_len;
        uint32_t type;
} Head;

_Static_assert(sizeof(Head) == 24, "no padding");

ContentId content_id_of_member(const ContentId *parent, const char *key, size_t key_len,
                               const ContentValue *value)
{
        const Head head = {
                .parent = {htole64(parent->lanes[0]), htole64(parent->lanes[1])},
                .key_len = htole32((uint32_t)key_len),
                .type = htole32((uint8_t)value->type),
        };
        size_t len = sizeof head + key_len + value->len;
        char on_stack[SHORT_BYTES], *input = len <= sizeof on_stack ? on_stack : xmalloc(len);
        XXH128_hash_t hash;

        memcpy(input, &head, sizeof head);
        memcpy(input + sizeof head, key, key_len);
        if (value->len > 0)
                memcpy(input + sizeof head + key_len, value->text, value->len);
        hash = XXH3_128bits(input, len);
        if (input != on_stack)
                free(input);
        return (ContentId){{hash.high64, hash.low64}};
}

ContentId content_id_of_element(const ContentId *parent, size_t index, const ContentValue *value)
{
        const uint64_t word = htole64(index);
        char key[sizeof word];

        memcpy(key, &word, sizeof word);
        return content_id_of_member(parent, key, sizeof key, value);
}
