#include "builder/leases.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "builder/delivery_list.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define MS_PER_SECOND 1000
#define USEC_PER_MS 1000ULL
#define RETRY_MS (10 * MS_PER_SECOND) // after the broker refused something
#define WRITE_LATER_MS MS_PER_SECOND  // what is worth noting, but not a sync of its own
#define SENT_MAX 64                   // copies on their way at a time
#define SLOT_MAX 1000000              // of a damaged journal

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
        int64_t retry_ms; // not before
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

// ---- slots ---------------------------------------------------------------------------------

static void note_change(Leases *leases, size_t slot)
{
        leases->slots[slot].changed = true;
        leases->changed = true;
        if (!leases->write_ms)
                leases->write_ms = clock_mono_ms() + WRITE_LATER_MS;
}

static void need_slots(Leases *leases, size_t n)
{
        if (n <= leases->n_slots)
                return;
        leases->slots = xreallocarray(leases->slots, n, sizeof *leases->slots);
        memset(leases->slots + leases->n_slots, 0, (n - leases->n_slots) * sizeof *leases->slots);
        leases->n_slots = n;
}

static size_t lowest_free(Leases *leases)
{
        size_t slot = 0;

        while (slot < leases->n_slots && leases->slots[slot].copy)
                slot++;
        need_slots(leases, slot + 1);
        return slot;
}

static Copy *add_copy(Lease *lease, size_t slot)
{
        Copy *copy = xcalloc(1, sizeof *copy);

        *copy = (Copy){.lease = lease, .slot = slot, .next = lease->newest};
        lease->newest = copy;
        lease->leases->slots[slot].copy = copy;
        return copy;
}

static void free_copy(Copy *copy)
{
        Leases *leases = copy->lease->leases;
        Copy **at = &copy->lease->newest;

        while (*at != copy)
                at = &(*at)->next;
        *at = copy->next;
        leases->slots[copy->slot].copy = NULL;
        note_change(leases, copy->slot);
        free(copy);
}

static Copy *copy_in(const Leases *leases, uint64_t token)
{
        return token < leases->n_slots ? leases->slots[token].copy : NULL;
}

static char *slot_suffix(const Leases *leases, size_t slot)
{
        return xasprintf(".lease.%s.%zu", leases->worker_id, slot);
}

// ---- leases --------------------------------------------------------------------------------

static Lease *find(const Leases *leases, const char *message_id)
{
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                if (strcmp(lease->message_id, message_id) == 0)
                        return lease;
        }
        return NULL;
}

static Lease *add_lease(Leases *leases, const char *message_id, const char *app_id,
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

static void free_lease(Lease *lease)
{
        Lease **at = &lease->leases->first;

        while (*at != lease)
                at = &(*at)->next;
        *at = lease->next;
        while (lease->newest)
                free_copy(lease->newest);
        delivery_list_done(&lease->acks);
        free(lease->message_id);
        free(lease->app_id);
        free(lease);
}

static void ack_all(Lease *lease)
{
        Delivery *delivery;

        while ((delivery = delivery_list_pop(&lease->acks)))
                consumer_ack(lease->leases->consumer, delivery);
}

static bool is_being_renewed(const Lease *lease)
{
        const Copy *newest = lease->newest;

        return newest && (newest->state == COPY_NEW || newest->state == COPY_SENT);
}

// Needs an open transaction, which notes the slot.
static void renew(Lease *lease)
{
        Copy *copy;

        if (is_being_renewed(lease))
                return;
        for (copy = lease->newest; copy; copy = copy->next) {
                if (copy->state == COPY_HELD)
                        copy->state = COPY_OLD;
        }
        lease->still_ours = false;
        copy = add_copy(lease, lowest_free(lease->leases));
        note_change(lease->leases, copy->slot);
}

static void warn(Leases *leases, const Error *why)
{
        if (!leases->warning || strcmp(leases->warning, why->text) != 0)
                log_warning("a lease of the queue (tried again): %s", why->text);
        replace_string(&leases->warning, why->text);
}

static void retry_later(Copy *copy, const Error *why)
{
        Leases *leases = copy->lease->leases;

        copy->retry_ms = clock_mono_ms() + MIN(RETRY_MS, leases->lease_ms / 3);
        warn(leases, why);
}

// ---- what the broker is asked --------------------------------------------------------------

static int get_message(const Lease *lease, Message *ret, Error *err)
{
        int r = store_message_get(lease->leases->store, lease->message_id, ret, err);

        if (r == 0) {
                ret->app_id = xstrdup(lease->app_id);
                ret->timestamp = lease->timestamp;
        }
        return r;
}

static void send_copy(Copy *copy)
{
        Leases *leases = copy->lease->leases;
        const DeliveryList *acks = &copy->lease->acks;
        _cleanup_free_ char *suffix = slot_suffix(leases, copy->slot);
        const SendSpec spec = {.suffix = suffix, .return_after_ms = leases->lease_ms};
        _cleanup_(message_done) Message stored = {0};
        const Message *message = &stored;
        Error err = ERROR_NONE;
        int r = 0;

        if (acks->n)
                message = &acks->items[0]->message; // spares reading it
        else
                r = get_message(copy->lease, &stored, &err);
        if (r == STORE_NOT_FOUND)
                (void)error_set(&err, ENOENT, "message %s is no longer in the journal",
                                copy->lease->message_id);
        if (r != 0) {
                retry_later(copy, &err);
                return;
        }
        copy->state = COPY_SENT;
        copy->was_sent = true;
        copy->sent_ms = clock_wall_ms();
        consumer_send(leases->consumer, message, &spec, copy->slot); // may call leases_on_sent
}

static void drop_copy(Copy *copy)
{
        Leases *leases = copy->lease->leases;
        _cleanup_free_ char *suffix = slot_suffix(leases, copy->slot);

        copy->state = COPY_DROPPED;
        consumer_drop(leases->consumer, suffix, copy->slot);
}

static size_t count_sent(const Leases *leases)
{
        size_t n = 0;

        for (size_t slot = 0; slot < leases->n_slots; slot++)
                n += leases->slots[slot].copy && leases->slots[slot].copy->state == COPY_SENT;
        return n;
}

static bool may_drop(const Copy *copy)
{
        const Lease *lease = copy->lease;

        if (lease->over)
                return copy->state == COPY_HELD || copy->state == COPY_OLD ||
                       (copy->state == COPY_NEW && copy->was_sent);
        return copy->state == COPY_OLD && lease->newest->state == COPY_HELD;
}

// One thing that is due for a copy.
static void advance_copy(Copy *copy)
{
        Leases *leases = copy->lease->leases;

        if (copy->lease->over && copy->state == COPY_NEW && !copy->was_sent) {
                free_copy(copy);
                return;
        }
        if (!leases->connected || copy->retry_ms > clock_mono_ms())
                return;
        if (may_drop(copy))
                drop_copy(copy);
        else if (copy->state == COPY_NEW && !copy->lease->over && copy->written &&
                 count_sent(leases) < SENT_MAX)
                send_copy(copy);
}

static void advance(Lease *lease)
{
        for (Copy *copy = lease->newest, *next; copy; copy = next) {
                next = copy->next;
                advance_copy(copy);
        }
        if (lease->over)
                ack_all(lease);
        if (lease->over && !lease->newest && !lease->n_refs)
                free_lease(lease);
}

static void arm(Leases *leases)
{
        int64_t now = clock_mono_ms(), first = leases->write_ms ? leases->write_ms : INT64_MAX;

        for (const Lease *lease = leases->first; leases->connected && lease; lease = lease->next) {
                for (const Copy *copy = lease->newest; copy; copy = copy->next) {
                        if (copy->retry_ms > now)
                                first = MIN(first, copy->retry_ms);
                        else if (copy->state == COPY_HELD && !lease->over)
                                first = MIN(first, copy->renew_ms);
                }
        }
        (void)sd_event_source_set_time(
                leases->timer, (uint64_t)MAX(MIN(first, INT64_MAX / 1000), 0) * USEC_PER_MS);
        (void)sd_event_source_set_enabled(leases->timer,
                                          first == INT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static void advance_all(Leases *leases)
{
        for (Lease *lease = leases->first, *next; lease; lease = next) {
                next = lease->next;
                advance(lease);
        }
        arm(leases);
}

// ---- what the broker answers ---------------------------------------------------------------

void leases_on_sent(Leases *leases, uint64_t token, const Error *err)
{
        Copy *copy = copy_in(leases, token);

        if (!copy || copy->state != COPY_SENT)
                return;
        if (err) {
                copy->state = COPY_NEW;
                retry_later(copy, err);
                arm(leases);
                return;
        }
        copy->state = COPY_HELD;
        copy->ends_ms = copy->sent_ms + leases->lease_ms;
        copy->renew_ms = clock_mono_ms() + leases->lease_ms / 3;
        note_change(leases, copy->slot);
        ack_all(copy->lease);
        advance_all(leases);
}

// The last of the old copies is gone: what they said.
static void conclude(Lease *lease)
{
        Leases *leases = lease->leases;

        if (!lease->still_ours) {
                log_notice("message %s: its lease had run out", lease->message_id);
                leases->callbacks.on_lost(lease, leases->userdata);
        } else if (!lease->proven) {
                lease->proven = true;
                leases->callbacks.on_proven(leases->userdata);
        }
}

void leases_on_dropped(Leases *leases, uint64_t token, int64_t n, const Error *err)
{
        Copy *copy = copy_in(leases, token);
        Lease *lease;

        if (!copy || copy->state != COPY_DROPPED)
                return;
        lease = copy->lease;
        if (err) {
                copy->state = COPY_OLD;
                retry_later(copy, err);
                arm(leases);
                return;
        }
        // One that cannot have run out yet and is not there was lost by the broker.
        if (n > 0 || clock_wall_ms() < copy->ends_ms)
                lease->still_ours = true;
        free_copy(copy);
        if (!lease->over && lease->newest && !lease->newest->next &&
            lease->newest->state == COPY_HELD)
                conclude(lease);
        advance_all(leases);
}

void leases_connected(Leases *leases, Consumer *consumer, int64_t lease_seconds)
{
        Error err = ERROR_NONE;

        leases->consumer = consumer;
        leases->connected = true;
        leases->lease_ms = lease_seconds * MS_PER_SECOND;
        if (leases->first && leases->callbacks.begin(leases->userdata, &err) < 0)
                warn(leases, &err); // later, then
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                if (!lease->over)
                        renew(lease);
                for (Copy *copy = lease->newest; copy; copy = copy->next)
                        copy->retry_ms = 0;
        }
        advance_all(leases);
}

void leases_disconnected(Leases *leases)
{
        leases->connected = false;
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                // They are the broker's again.
                delivery_list_done(&lease->acks);
                for (Copy *copy = lease->newest; copy; copy = copy->next) {
                        if (copy->state == COPY_SENT)
                                copy->state = COPY_NEW;
                        if (copy->state == COPY_DROPPED)
                                copy->state = COPY_OLD;
                }
        }
        arm(leases);
}

static bool is_due(const Lease *lease, int64_t now)
{
        const Copy *newest = lease->newest;

        return lease->leases->connected && !lease->over && newest && newest->state == COPY_HELD &&
               newest->renew_ms <= now;
}

static void renew_due(Leases *leases)
{
        int64_t now = clock_mono_ms();
        bool due = leases->write_ms && leases->write_ms <= now;
        Error err = ERROR_NONE;

        for (const Lease *lease = leases->first; lease && !due; lease = lease->next)
                due = is_due(lease, now);
        if (!due)
                return;
        leases->write_ms = now + RETRY_MS; // unless it is written, now
        if (leases->callbacks.begin(leases->userdata, &err) < 0)
                warn(leases, &err);
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                if (is_due(lease, now))
                        renew(lease);
        }
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        renew_due(userdata);
        advance_all(userdata);
        return 0;
}

// ---- what the worker says ------------------------------------------------------------------

static Lease *ref(Lease *lease)
{
        const Copy *newest = lease->newest;

        if (lease->proven && !is_being_renewed(lease) && (!newest || newest->state != COPY_HELD))
                renew(lease);
        lease->over = false;
        lease->n_refs++;
        return lease;
}

Lease *leases_take(Leases *leases, const Message *message)
{
        Lease *lease = find(leases, message->message_id);

        if (!lease)
                lease = add_lease(leases, message->message_id, message->app_id, message->timestamp);
        // It is in our hands, whatever became of older copies.
        lease->proven = true;
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
                lease = add_lease(leases, build->message_id, NULL,
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
        renew(lease);
        lease->still_ours = true;
}

void leases_ack(Leases *leases, Delivery *delivery)
{
        const char *id = delivery->message.message_id;
        Lease *lease = id ? find(leases, id) : NULL;

        if (lease && lease->n_refs && is_being_renewed(lease))
                delivery_list_add(&lease->acks, delivery);
        else
                consumer_ack(leases->consumer, delivery);
}

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

// Those whose builds were over before anything was sent leave no trace.
static void forget_unsent(Leases *leases)
{
        for (Lease *lease = leases->first; lease; lease = lease->next) {
                while (!lease->n_refs && lease->newest && lease->newest->state == COPY_NEW &&
                       !lease->newest->was_sent && !lease->newest->written)
                        free_copy(lease->newest);
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

void leases_committed(Leases *leases)
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
        for (Lease *lease = leases->first; lease; lease = lease->next)
                lease->over = !lease->n_refs;
        advance_all(leases);
}

bool leases_busy(const Leases *leases)
{
        if (!leases->connected)
                return false;
        for (const Lease *lease = leases->first; lease; lease = lease->next) {
                if (lease->acks.n || lease->over || is_being_renewed(lease) ||
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
                lease = add_lease(leases, record->message_id, record->app_id, record->timestamp);
        lease->over = true; // unless a build takes it
        need_slots(leases, (size_t)record->slot + 1);
        leases->slots[record->slot].on_disk = true;
        copy = add_copy(lease, (size_t)record->slot);
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
                r = sd_event_add_time(event, &leases->timer, CLOCK_MONOTONIC, 0, 0, on_time,
                                      leases);
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
        while (leases->first)
                free_lease(leases->first);
        (void)sd_event_source_disable_unref(leases->timer);
        free(leases->slots);
        free(leases->worker_id);
        free(leases->warning);
        free(leases);
}
