// Nova's unversioned notifications, as oslo.messaging sends them: JSON whose "oslo.message" is a
// string of JSON again (format 2.0), or that inner document alone (1.0).
//
// Only what we need of a notification is kept; what else is in it (older ones have a token) is
// never stored, logged or sent.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define NOTIFICATION_MAX_BYTES ((size_t)1024 * 1024)

typedef enum NotificationKind {
        NOTIFICATION_CREATED, // compute.instance.create.end
        NOTIFICATION_DELETED, // compute.instance.delete.start
} NotificationKind;

typedef struct NotificationPair {
        char *key, *value; // value may be NULL
} NotificationPair;

typedef struct NotificationPairs {
        NotificationPair *items;
        size_t n;
} NotificationPairs;

typedef struct NotificationAddress {
        char *address; // IPv4 or IPv6
        char *mac;     // NULL: not told
        char *label;   // of the network; NULL: not told
} NotificationAddress;

typedef struct Notification {
        char *type; // as it was sent
        NotificationKind kind;
        char *server; // Nova's id of it
        // NULL when they are null or not there: a server that was never scheduled has no host, …
        char *name, *hostname, *vmhost, *project;
        int64_t vcpus, memory_mb;          // 0: not told
        NotificationPairs metadata, image; // of these only AQ_… and PACKUILON_BUILD_ID
        NotificationAddress *addresses;    // none in a "deleted"
        size_t n_addresses;
} Notification;

// NOTIFICATION_OTHER: it is of another type, which is all that *ret holds. Errors say what is wrong
// and show nothing of the text.
#define NOTIFICATION_OTHER 1
int notification_decode(const char *text, size_t len, Notification *ret, Error *err) must_check;

// A notification of the same meaning, in format 2.0. The caller frees.
char *notification_encode(const Notification *notification);

// The value of a key; NULL when it is not there. In upper case first, then in lower case.
const char *notification_value(const NotificationPairs *pairs, const char *key);

void notification_done(Notification *notification);
