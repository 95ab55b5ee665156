// Leases: while a message's builds are not over, the broker keeps a copy of it that comes back to
// the work queue by itself unless this worker renews it. So a worker whose host is gone, with its
// journal, loses nothing: others build it when the lease has run out. Only with a broker.
//
// A copy lies alone in a slot: a queue "<QUEUE>.lease.<worker id>.<slot>" with a time to live and a
// way back. The journal notes a slot before a copy is sent to it, and forgets it after it was
// emptied. Every third of the lease, and after each new connection, a copy goes to another slot and
// then the old one is emptied. What is found there tells whether the lease had run out meanwhile.
//
// The caller's turn: what it does here in a transaction of the store is written by leases_write
// just before the commit and takes effect with leases_committed. A turn that fails needs no call.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/store.h"
#include "net/queue.h"
#include "util/error.h"

typedef struct Leases Leases;
typedef struct Lease Lease; // of one message; counted by the builds that are not over

typedef struct LeasesCallbacks {
        // Opens the turn's transaction unless it is open.
        int (*begin)(void *userdata, Error *err);
        // Builds whose leases were not proven may be now.
        void (*on_proven)(void *userdata);
        // It had run out: whoever has the message now builds it. Builds that run may as well go on.
        void (*on_lost)(Lease *lease, void *userdata);
} LeasesCallbacks;

// Reads what an earlier process noted: these leases are not proven until the broker was asked.
int leases_new(Store *store, sd_event *event, const LeasesCallbacks *callbacks, void *userdata,
               Leases **ret, Error *err) must_check;
void leases_free(Leases *leases);

// The consumer whose connection was made. Deliveries are acked to it.
void leases_connected(Leases *leases, Consumer *consumer, int64_t lease_seconds);
// … was lost, or is about to be made anew.
void leases_disconnected(Leases *leases);
// The consumer's answers; `token` is the slot.
void leases_on_sent(Leases *leases, uint64_t token, const Error *err);
void leases_on_dropped(Leases *leases, uint64_t token, int64_t n, const Error *err);

// The lease of a message, made if there is none, counted once more; the message has an id.
Lease *leases_take(Leases *leases, const Message *message);
// The same for a build of the journal; NULL if its message has no id.
Lease *leases_take_build(Leases *leases, const Build *build);
bool leases_know(const Leases *leases, const char *message_id);
void lease_unref(Lease *lease); // when none is left and this is committed, the copies are dropped
bool lease_is_proven(const Lease *lease);

// The message came again though its builds are not over: it gets a fresh copy.
void leases_refresh(Leases *leases, const char *message_id);

// Acks a delivery whose builds are on disk: when the broker has its copy, or when they are over.
void leases_ack(Leases *leases, Delivery *take_delivery);

int leases_write(Leases *leases, Error *err) must_check;
void leases_committed(Leases *leases);

// True while answers are awaited that a worker that ends had better wait for.
bool leases_busy(const Leases *leases);
