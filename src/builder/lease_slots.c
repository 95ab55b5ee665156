#include "builder/leases_internal.h"

#include <string.h>

#include "util/alloc.h"
#include "util/clock.h"

#define WRITE_LATER_MS MS_PER_SECOND // what is worth noting, but not a sync of its own

void slot_note(Leases *leases, size_t slot)
{
        leases->slots[slot].changed = true;
        leases->changed = true;
        if (!leases->write_ms)
                leases->write_ms = clock_mono_ms() + WRITE_LATER_MS;
}

void slots_need(Leases *leases, size_t n)
{
        if (n <= leases->n_slots)
                return;
        leases->slots = xreallocarray(leases->slots, n, sizeof *leases->slots);
        memset(leases->slots + leases->n_slots, 0, (n - leases->n_slots) * sizeof *leases->slots);
        leases->n_slots = n;
}

Copy *copy_new_in(Lease *lease, size_t slot)
{
        Copy *copy = xcalloc(1, sizeof *copy);

        *copy = (Copy){.lease = lease, .slot = slot, .next = lease->newest};
        lease->newest = copy;
        lease->leases->slots[slot].copy = copy;
        return copy;
}

static size_t lowest_free(Leases *leases)
{
        size_t slot = 0;

        while (slot < leases->n_slots && leases->slots[slot].copy)
                slot++;
        slots_need(leases, slot + 1);
        return slot;
}

Copy *copy_new(Lease *lease)
{
        Copy *copy = copy_new_in(lease, lowest_free(lease->leases));

        slot_note(lease->leases, copy->slot);
        return copy;
}

void copy_free(Copy *copy)
{
        Leases *leases = copy->lease->leases;
        Copy **at = &copy->lease->newest;

        while (*at != copy)
                at = &(*at)->next;
        *at = copy->next;
        leases->slots[copy->slot].copy = NULL;
        slot_note(leases, copy->slot);
        free(copy);
}

Copy *copy_in(const Leases *leases, uint64_t slot)
{
        return slot < leases->n_slots ? leases->slots[slot].copy : NULL;
}

// ---- what the journal notes ----------------------------------------------------------------

static int write_slot(const Leases *leases, size_t slot, Error *err)
{
        const Copy *copy = leases->slots[slot].copy;
        const LeaseRecord record = {.slot = (int64_t)slot,
                                    .message_id = copy ? copy->lease->message_id : NULL,
                                    .app_id = copy ? copy->lease->app_id : NULL,
                                    .timestamp = copy ? copy->lease->timestamp : 0,
                                    .ends_ms = copy ? copy->ends_ms : 0};

        if (copy)
                return store_lease_put(leases->store, &record, err);
        return leases->slots[slot].on_disk ? store_lease_delete(leases->store, record.slot, err)
                                           : 0;
}

static bool is_unsent(const Copy *copy)
{
        return !copy->lease->n_refs && copy->state == COPY_NEW && !copy->was_sent && !copy->written;
}

// Those whose builds were over before anything was sent leave no trace.
static void forget_unsent(Leases *leases)
{
        for (const Lease *lease = leases->first; lease; lease = lease->next) {
                for (Copy *copy = lease->newest, *next; copy && is_unsent(copy); copy = next) {
                        next = copy->next;
                        copy_free(copy);
                }
        }
}

int leases_write(Leases *leases, Error *err)
{
        int r = 0;

        if (!leases->changed)
                return 0;
        forget_unsent(leases);
        for (size_t slot = 0; slot < leases->n_slots && r == 0; slot++) {
                if (leases->slots[slot].changed)
                        r = write_slot(leases, slot, err);
        }
        return r;
}

void slots_committed(Leases *leases)
{
        for (size_t slot = 0; slot < leases->n_slots && leases->changed; slot++) {
                Slot *at = &leases->slots[slot];

                if (!at->changed)
                        continue;
                at->changed = false;
                at->on_disk = at->copy;
                if (at->copy)
                        at->copy->written = true;
        }
        leases->changed = false;
        leases->write_ms = 0;
}
