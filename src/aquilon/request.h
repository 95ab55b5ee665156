// Whom it concerns: what a server's metadata and image ask to be registered as.
#pragma once

#include "aquilon/notification.h"
#include "core/config.h"

typedef struct AquilonRequest {
        char *archetype, *personality, *os, *os_version;
        char *domain;  // or, if that is not NULL,
        char *sandbox; // "author/name"
        char *build_id;
        char *address; // the one that counts
        char *mac;
} AquilonRequest;

// True if it has one of the keys that ask for a registration.
bool request_is_there(const Notification *notification, AquilonSource source);

// Takes each key from where AQ_SOURCE says, the server's metadata before the image's properties.
// What is there is in *ret in any case. -EINVAL lists the keys that are missing; or says that the
// server has no address, in none of NETWORKS.
int request_from_notification(const Notification *notification, const AquilonConfig *config,
                              AquilonRequest *ret, Error *err) must_check;

void request_done(AquilonRequest *request);
