// What a publishing channel waits for: which messages the broker has not answered yet. Knows
// nothing of the wire; publishes are counted as the broker counts them, from 1.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/queue.h"
#include "util/error.h"

typedef struct Confirm {
        uint64_t token;
        char *message_id;
        char *refusal; // why it came back (basic.return); NULL: it did not
        bool waiting;
} Confirm;

typedef struct Confirms {
        Confirm entries[PUBLISH_WINDOW]; // publish n is at n % PUBLISH_WINDOW
        uint64_t oldest;                 // publish that has waited longest, == next when none
        uint64_t next;                   // number of the next publish
        size_t n_waiting;
        PublishDoneFn done;
        void *userdata;
} Confirms;

void confirms_init(Confirms *confirms, PublishDoneFn done, void *userdata);

// Forgets what waits, without a callback.
void confirms_done(Confirms *confirms);

bool confirms_full(const Confirms *confirms);

// Counts a publish; only when not full.
void confirms_add(Confirms *confirms, uint64_t token, const char *message_id);

// The message with this id came back; its confirm, which follows, will be a failure.
void confirms_returned(Confirms *confirms, const char *message_id, const char *refusal);

// The broker's answer for publish `tag`, or for all up to it. err NULL: it has them. A tag that is
// not waited for is ignored.
void confirms_settle(Confirms *confirms, uint64_t tag, bool multiple, const Error *err);

// The channel is gone: all that wait have failed, and counting starts anew.
void confirms_fail_all(Confirms *confirms, const Error *err);
