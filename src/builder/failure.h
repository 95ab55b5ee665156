// Why a build failed, as a class with a policy: what may be tried again, how often and when.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"

typedef enum FailureClass {
        FAILURE_TEMPLATE,     // Packer cannot read what it was given
        FAILURE_MISSING,      // image, flavor, network, … that the template names is not there
        FAILURE_PROVISION,    // the guest's own script failed
        FAILURE_AUTH,         // the cloud refuses the credentials: every build would fail so
        FAILURE_QUOTA,        // the project has no room now
        FAILURE_CAPACITY,     // the cloud could not start the server
        FAILURE_API,          // unreachable, 5xx, too many requests
        FAILURE_CONNECT,      // the server did not answer to SSH
        FAILURE_TIMEOUT,      // BUILD_TIMEOUT
        FAILURE_REGISTRATION, // Aquilon does not know the server
        FAILURE_OTHER,
        N_FAILURE_CLASSES,
} FailureClass;

#define FAILURE_MAX_DELAY_SECONDS 3600

// Reads Packer's words (openstack builder, Packer 1.6 to 1.16; NULL: none).
FailureClass failure_classify(const char *text);

// "quota", "provision", …
const char *failure_class_name(FailureClass class);

// True if a build that failed so on attempt number `attempt` (from 1) is worth another.
bool failure_may_retry(FailureClass class, int64_t attempt, const BuildConfig *config);

// How long to wait before the next attempt, in milliseconds: RETRY_SECONDS doubled with each
// attempt, longer for classes that do not pass quickly, at most FAILURE_MAX_DELAY_SECONDS, times
// 0.5 to 1.5 by `random` (any 32 bits), so that builds that failed together do not come back
// together.
int64_t failure_retry_delay_ms(FailureClass class, int64_t attempt, const BuildConfig *config,
                               uint32_t random);

// What is alike in failures that are alike: class and text, with numbers and ids taken out. The
// caller frees.
char *failure_signature(FailureClass class, const char *text);
