// What a profile is known by: the sum of one hash for each value outside IGNORE_PATHS. As it is a
// sum, the id of a changed profile follows from the earlier one and what came and went.
//
// A value's hash is of its way from the root, its type and its text together, so that no two values
// can trade places. Dicts and lists have one, too: an empty one is not the same as none. 128 bits
// of XXH3, for nobody gains by making two profiles that look alike.
//
// What this gives is stored and sent, and compared between hosts: if it ever has to change, so must
// the number of bytes (store_profiles.c tells versions by it; the first one had 32).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_ID_BYTES 16U
#define CONTENT_ID_HEX_SIZE 33U // with the NUL

typedef struct ContentId {
        uint64_t lanes[2]; // each modulo 2^64
} ContentId;

bool content_id_equal(const ContentId *a, const ContentId *b);
void content_id_add(ContentId *sum, const ContentId *more);
void content_id_subtract(ContentId *sum, const ContentId *less);

// The same bytes on every machine.
void content_id_to_bytes(const ContentId *id, uint8_t ret_bytes[CONTENT_ID_BYTES]);
void content_id_from_bytes(const uint8_t bytes[CONTENT_ID_BYTES], ContentId *ret);
void content_id_hex(const ContentId *id, char ret_hex[CONTENT_ID_HEX_SIZE]);

// The hash of one value, which stands for the way to what is in it, too. `parent` is that of the
// dict or list it is in, {0} for the root, whose key is "".
typedef struct ContentValue {
        char type;        // a letter
        const char *text; // of a scalar
        size_t len;
} ContentValue;

ContentId content_id_of_member(const ContentId *parent, const char *key, size_t key_len,
                               const ContentValue *value);
ContentId content_id_of_element(const ContentId *parent, size_t index, const ContentValue *value);
