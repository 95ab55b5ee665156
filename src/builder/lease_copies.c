#include "builder/leases_internal.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define SENT_MAX 64 // copies on their way at a time

bool lease_is_being_renewed(const Lease *lease)
{
        const Copy *newest = lease->newest;

        return newest && (newest->state == COPY_NEW || newest->state == COPY_SENT);
}

void lease_renew(Lease *lease)
{
        if (lease_is_being_renewed(lease))
                return;
        for (Copy *copy = lease->newest; copy; copy = copy->next) {
                if (copy->state == COPY_HELD)
                        copy->state = COPY_OLD;
        }
        lease->still_ours = false;
        (void)copy_new(lease);
}

void lease_ack_all(Lease *lease)
{
        Delivery *delivery;

        while ((delivery = delivery_list_pop(&lease->acks)))
                consumer_ack(lease->leases->consumer, delivery);
}

// ---- what the broker is asked --------------------------------------------------------------

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

static char *slot_suffix(const Leases *leases, size_t slot)
{
        return xasprintf(".lease.%s.%zu", leases->worker_id, slot);
}

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
                copy_free(copy);
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
                lease_ack_all(lease);
        if (lease->over && !lease->newest && !lease->n_refs)
                lease_free(lease);
}

// UINT64_MAX: never. One that is set for an earlier time stays so, and is set anew then: leases of
// short builds come and go by the thousand, and each time would be a system call.
static void set_timer(sd_event_source *timer, uint64_t usec)
{
        uint64_t before = 0;
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(timer, &enabled);
        (void)sd_event_source_get_time(timer, &before);
        if (enabled != SD_EVENT_OFF && before <= usec)
                return;
        (void)sd_event_source_set_time(timer, usec);
        (void)sd_event_source_set_enabled(timer,
                                          usec == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
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
        set_timer(leases->timer,
                  first == INT64_MAX ? UINT64_MAX : (uint64_t)MAX(first, 0) * USEC_PER_MS);
}

void leases_advance(Leases *leases)
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
        slot_note(leases, copy->slot);
        lease_ack_all(copy->lease);
        leases_advance(leases);
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
        copy_free(copy);
        if (!lease->over && lease->newest && !lease->newest->next &&
            lease->newest->state == COPY_HELD)
                conclude(lease);
        leases_advance(leases);
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
                        lease_renew(lease);
                for (Copy *copy = lease->newest; copy; copy = copy->next)
                        copy->retry_ms = 0;
        }
        leases_advance(leases);
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
                        lease_renew(lease);
        }
}

int leases_on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        renew_due(userdata);
        leases_advance(userdata);
        return 0;
}
