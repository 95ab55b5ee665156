// What the files of the leases share: leases.c (the worker's side), lease_slots.c (copies, their
// slots, and what the journal notes of them), lease_copies.c (what the broker is asked and
// answers).
#pragma once

#include "builder/delivery_list.h"
#include "builder/leases.h"

#define MS_PER_SECOND 1000
#define RETRY_MS (10 * MS_PER_SECOND) // after the broker or the journal refused something

typedef enum CopyState {
        COPY_NEW,     // to be sent, once its slot is noted on disk
        COPY_SENT,    // not answered
        COPY_HELD,    // the broker has it
        COPY_OLD,     // the broker may have it; to be dropped when a newer one is held
        COPY_DROPPED, // not answered
} CopyState;

typedef struct Copy {
        struct Copy *next; // of the same lease, an older one
        Lease *lease;
        size_t slot;
        CopyState state;
        bool was_sent;    // at least once: the broker may have it
        bool written;     // its slot is noted on disk
        int64_t sent_ms;  // since the epoch
        int64_t ends_ms;  // the same; 0: the broker never confirmed it
        int64_t renew_ms; // monotonic, as the next
        int64_t retry_ms; // nothing is done before
} Copy;

struct Lease {
        Lease *next;
        Leases *leases;
        char *message_id, *app_id;
        int64_t timestamp;
        unsigned n_refs;
        bool over;         // no build needs it, and that is on disk
        bool proven;       // the message is ours
        bool still_ours;   // … as was found while the old copies are dropped
        Copy *newest;      // and by `next` those that it replaces
        DeliveryList acks; // wait for the newest copy
};

// What is noted of a slot on disk, and what is to be.
typedef struct Slot {
        Copy *copy; // NULL: free
        bool on_disk;
        bool changed;
} Slot;

struct Leases {
        Store *store;
        LeasesCallbacks callbacks;
        void *userdata;
        char *worker_id;
        Consumer *consumer;
        bool connected;
        int64_t lease_ms;
        Lease *first;
        Slot *slots;
        size_t n_slots;
        bool changed;     // some slot
        int64_t write_ms; // monotonic: when the changes are written if nothing else is; 0: none
        char *warning;    // the last one, so that it is said once
        sd_event_source *timer;
};

// ---- lease_slots.c -------------------------------------------------------------------------

// A copy in this slot, which is free, or in the lowest free one. It is the lease's newest.
Copy *copy_new_in(Lease *lease, size_t slot);
Copy *copy_new(Lease *lease);
void copy_free(Copy *copy);
Copy *copy_in(const Leases *leases, uint64_t slot); // NULL: none
// What is to be noted of a slot has changed.
void slot_note(Leases *leases, size_t slot);
void slots_need(Leases *leases, size_t n);
// What leases_write has written is on disk.
void slots_committed(Leases *leases);

// ---- lease_copies.c ------------------------------------------------------------------------

// Begins to replace the lease's copies by one in another slot, unless that is under way.
void lease_renew(Lease *lease);
bool lease_is_being_renewed(const Lease *lease);
void lease_ack_all(Lease *lease);
// Does with the copies what is due, as far as what it needs is on disk.
void leases_advance(Leases *leases);
int leases_on_time(sd_event_source *source, uint64_t usec, void *userdata);

// ---- leases.c ------------------------------------------------------------------------------

void lease_free(Lease *lease);
