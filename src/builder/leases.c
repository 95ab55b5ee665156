#include "builder/leases_internal.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/clock.h"

#define SLOT_MAX 1000000 // of a damaged journal
#define TIMER_ACCURACY_USEC 10000
// A delivery may as well wait so long for its ack: many a build is over by then, and needs no
// lease.
#define FIRST_COPY_MS 50

// ---- leases --------------------------------------------------------------------------------

static Lease *find(const Leases *leases, const char *message_id)
{
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                if (strcmp(lease->message_id, message_id) == 0)
                        return lease;
        }
        return NULL;
}

static Lease *lease_new(Leases *leases, const char *message_id, const char *app_id,
                        int64_t timestamp)
{
        Lease *lease = xcalloc(1, sizeof *lease);

        *lease = (Lease){.next = leases->first,
                         .leases = leases,
                         .message_id = xstrdup(message_id),
                         .app_id = xstrdup(app_id),
                         .timestamp = timestamp};
        leases->first = lease;
        return lease;
}

void lease_free(Lease *lease)
{
        Lease **at = &lease->leases->first;

        while (*at != lease)
                at = &(*at)->next;
        *at = lease->next;
        for (Copy *copy = lease->newest, *next; copy; copy = next) {
                next = copy->next;
                copy_free(copy);
        }
        delivery_list_done(&lease->acks);
        free(lease->message_id);
        free(lease->app_id);
        free(lease);
}

// ---- what the worker says ------------------------------------------------------------------

static Lease *ref(Lease *lease)
{
        const Copy *newest = lease->newest;

        if (lease->proven && !lease_is_being_renewed(lease) &&
            (!newest || newest->state != COPY_HELD))
                lease_renew(lease);
        lease->over = false;
        lease->n_refs++;
        return lease;
}

Lease *leases_take(Leases *leases, const Message *message)
{
        Lease *lease = find(leases, message->message_id);

        if (!lease)
                lease = lease_new(leases, message->message_id, message->app_id, message->timestamp);
        // It is in our hands, whatever became of older copies.
        lease->proven = true;
        if (!lease->newest)
                copy_new(lease)->retry_ms = clock_mono_ms() + FIRST_COPY_MS;
        (void)ref(lease);
        lease->still_ours = true;
        return lease;
}

Lease *leases_take_build(Leases *leases, const Build *build)
{
        Lease *lease;

        if (!build->message_id)
                return NULL;
        lease = find(leases, build->message_id);
        if (!lease) {
                // Taken without a lease: from the local queue, or by an older version.
                lease = lease_new(leases, build->message_id, NULL,
                                  build->queued_ms / MS_PER_SECOND);
                lease->proven = true;
        }
        return ref(lease);
}

bool leases_know(const Leases *leases, const char *message_id)
{
        return message_id && find(leases, message_id);
}

void lease_unref(Lease *lease)
{
        lease->n_refs--;
}

bool lease_is_proven(const Lease *lease)
{
        return lease->proven;
}

void leases_refresh(Leases *leases, const char *message_id)
{
        Lease *lease = find(leases, message_id);

        if (!lease)
                return;
        lease_renew(lease);
        lease->still_ours = true;
}

void leases_ack(Leases *leases, Delivery *delivery)
{
        const char *id = delivery->message.message_id;
        Lease *lease = id ? find(leases, id) : NULL;

        if (lease && lease->n_refs && lease_is_being_renewed(lease))
                delivery_list_add(&lease->acks, delivery);
        else
                consumer_ack(leases->consumer, delivery);
}

void leases_committed(Leases *leases)
{
        slots_committed(leases);
        for (Lease *lease = leases->first; lease; lease = lease->next)
                lease->over = !lease->n_refs;
        leases_advance(leases);
}

bool leases_busy(const Leases *leases)
{
        if (!leases->connected)
                return false;
        for (const Lease *lease = leases->first; lease; lease = lease->next) {
                if (lease->acks.n || lease->over || lease_is_being_renewed(lease) ||
                    (lease->newest && lease->newest->next))
                        return true;
        }
        return false;
}

// ---- life ----------------------------------------------------------------------------------

static int take_record(const LeaseRecord *record, void *userdata)
{
        Leases *leases = userdata;
        Lease *lease;
        Copy *copy;

        if (record->slot < 0 || record->slot > SLOT_MAX || !record->message_id)
                return 0;
        lease = find(leases, record->message_id);
        if (!lease)
                lease = lease_new(leases, record->message_id, record->app_id, record->timestamp);
        lease->over = true; // unless a build takes it
        slots_need(leases, (size_t)record->slot + 1);
        leases->slots[record->slot].on_disk = true;
        copy = copy_new_in(lease, (size_t)record->slot);
        copy->state = COPY_OLD;
        copy->was_sent = copy->written = true;
        copy->ends_ms = record->ends_ms;
        return 0;
}

int leases_new(Store *store, sd_event *event, const LeasesCallbacks *callbacks, void *userdata,
               Leases **ret, Error *err)
{
        Leases *leases = xcalloc(1, sizeof *leases);
        int r;

        leases->store = store;
        leases->callbacks = *callbacks;
        leases->userdata = userdata;
        r = store_worker_id(store, &leases->worker_id, err);
        if (r == 0)
                r = store_leases_each(store, take_record, leases, err);
        if (r == 0) {
                r = sd_event_add_time(event, &leases->timer, CLOCK_MONOTONIC, 0,
                                      TIMER_ACCURACY_USEC, leases_on_time, leases);
                if (r < 0)
                        (void)error_set(err, -r, "cannot set up the event loop: %s", strerror(-r));
        }
        if (r < 0) {
                leases_free(leases);
                return r;
        }
        (void)sd_event_source_set_enabled(leases->timer, SD_EVENT_OFF);
        *ret = leases;
        return 0;
}

void leases_free(Leases *leases)
{
        for (Lease *lease = leases->first, *next; lease; lease = next) {
                next = lease->next;
                lease_free(lease);
        }
        (void)sd_event_source_disable_unref(leases->timer);
        free(leases->slots);
        free(leases->worker_id);
        free(leases->warning);
        free(leases);
}
