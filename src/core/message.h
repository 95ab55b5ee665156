// One message of the work queue: a profile, as upstream sends it, and what we add in properties.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define MESSAGE_MAX_BYTES (256U * 1024 * 1024)
#define MESSAGE_CHANGES_MAX 8192

#define MESSAGE_APP_SCANNER "cdb2rabbit" // app_id of messages that a changed profile caused

// All but the body may be NULL (upstream's programs send a bare body). Strings are owned.
typedef struct Message {
        char *body; // NUL-terminated behind body_len
        size_t body_len;
        char *message_id;
        char *app_id;
        char *entry;       // header x-packuilon-entry: name in the index
        char *content_id;  // header x-packuilon-content-id: content_id_hex
        char *changes;     // header x-packuilon-changes: differing paths, one a line, cut at
                           // MESSAGE_CHANGES_MAX bytes
        char *reason;      // header x-packuilon-reason: why it was rejected or failed
        int64_t timestamp; // seconds since the epoch, 0: none
} Message;

void message_done(Message *message);
void message_free(Message *message);

// A copy of all of it, with a new message_id if it has none; *to is overwritten.
void message_copy(const Message *from, Message *to);

DEFINE_CLEANUP(Message, message_free)
#define _cleanup_message_ _cleanup_(message_free_p)

// A new random id (UUID form). The caller frees.
char *message_new_id(void);

typedef struct SkeletonValues {
        const char *personality, *archetype, *os, *os_version, *arch;
        const char *domain;  // or
        const char *sandbox; // "owner/name"
} SkeletonValues;

// The manual trigger's skeleton profile, as upstream's packuilon.py sends it. The caller frees.
int message_skeleton(const SkeletonValues *values, char **ret_body, Error *err) must_check;
