#include "builder/image_locks_internal.h"

#include <string.h>

#include "util/alloc.h"
#include "util/backoff.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/strutil.h"

#define TARGET_MAX 128    // bytes in a queue's name; longer ones are told by their digest
#define ASK_AGAIN_MS 2000 // another's lock, and up to as much more: others ask, too

// ---- locks ---------------------------------------------------------------------------------

static ImageLock *find(const ImageLocks *locks, const char *target)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (strcmp(lock->target, target) == 0)
                        return lock;
        }
        return NULL;
}

static char *suffix_of(const char *target)
{
        char hex[DIGEST_HEX_SIZE];
        Digest digest;

        if (strlen(target) <= TARGET_MAX)
                return xasprintf(".building.%s", target);
        digest_sha256(target, strlen(target), &digest);
        digest_hex(&digest, hex);
        return xasprintf(".building.%s", hex);
}

static ImageLock *lock_new(ImageLocks *locks, const char *target)
{
        ImageLock *lock = xcalloc(1, sizeof *lock);

        *lock = (ImageLock){
                .next = locks->first, .target = xstrdup(target), .suffix = suffix_of(target)};
        locks->first = lock;
        return lock;
}

static void lock_free(ImageLocks *locks, ImageLock *lock)
{
        ImageLock **at = &locks->first;

        while (*at != lock)
                at = &(*at)->next;
        *at = lock->next;
        free(lock->target);
        free(lock->suffix);
        free(lock);
}

static bool is_connected(const ImageLocks *locks)
{
        return locks->company != COMPANY_UNKNOWN;
}

void image_locks_ask_broker(const ImageLocks *locks, const char *suffix, const char *holder,
                            bool hear_knocks)
{
        const LockSpec spec = {.suffix = suffix,
                               .holder = holder,
                               .lease_ms = locks->lease_ms,
                               .hear_knocks = hear_knocks};

        consumer_lock(locks->consumer, &spec);
}

static void ask(const ImageLocks *locks, ImageLock *lock)
{
        if (lock->asked)
                return;
        lock->asked = true;
        image_locks_ask_broker(locks, lock->suffix, locks->worker_id, false);
}

void image_locks_ask_for_wanted(ImageLocks *locks)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->wanted && !lock->ours)
                        ask(locks, lock);
        }
}

// Gives back what nobody here wants; without a connection later, when it was asked for again.
static void release(ImageLocks *locks, ImageLock *lock)
{
        if (lock->asked || lock->leaving || (lock->ours && !is_connected(locks)))
                return;
        if (!lock->ours) {
                lock_free(locks, lock);
                return;
        }
        lock->ours = false;
        lock->leaving = true;
        consumer_unlock(locks->consumer, lock->suffix);
}

static int64_t ask_again_ms(const ImageLocks *locks)
{
        int64_t wait = MIN(ASK_AGAIN_MS, locks->lease_ms / LOCK_AGAIN_PARTS);

        return clock_mono_ms() + wait + backoff_chance(wait);
}

void image_locks_arm(ImageLocks *locks)
{
        int64_t now = clock_mono_ms(), first = locks->renew_ms;

        if (!is_connected(locks)) {
                (void)sd_event_source_set_enabled(locks->timer, SD_EVENT_OFF);
                return;
        }
        if (locks->look_ms)
                first = MIN(first, locks->look_ms);
        for (const ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (!lock->ours && !lock->asked && lock->ask_ms)
                        first = MIN(first, lock->ask_ms);
        }
        (void)sd_event_source_set_time(locks->timer, (uint64_t)MAX(first, now) * USEC_PER_MS);
        (void)sd_event_source_set_enabled(locks->timer, SD_EVENT_ONESHOT);
}

// ---- answers -------------------------------------------------------------------------------

void image_locks_forget_asked(ImageLocks *locks)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next)
                lock->asked = false;
}

static ImageLock *find_waited(const ImageLocks *locks)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->waited)
                        return lock;
        }
        return NULL;
}

void image_locks_answer_waiting(ImageLocks *locks)
{
        ImageLock *lock;

        // What is called may free any of them.
        while ((lock = find_waited(locks))) {
                _cleanup_free_ char *target = xstrdup(lock->target);

                lock->waited = false;
                locks->callbacks.on_answer(target, true, locks->userdata);
        }
}

static void on_image(ImageLocks *locks, ImageLock *lock, bool ours)
{
        _cleanup_free_ char *target = xstrdup(lock->target);
        bool waited = lock->waited;

        lock->asked = lock->waited = false;
        lock->ours = ours;
        lock->ask_ms = ours ? 0 : ask_again_ms(locks);
        if (!ours && lock->wanted && !waited && !lock->told) {
                log_warning("%s is built by another host, too", target);
                lock->told = true;
        }
        if (!lock->wanted)
                release(locks, lock);
        else if (waited && !ours)
                lock->wanted = false; // remembered until ask_ms
        company_on_image(locks);
        image_locks_arm(locks);
        if (waited)
                locks->callbacks.on_answer(target, ours, locks->userdata);
}

static ImageLock *find_suffix(const ImageLocks *locks, const char *suffix)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (strcmp(lock->suffix, suffix) == 0)
                        return lock;
        }
        return NULL;
}

void image_locks_on_locked(ImageLocks *locks, const char *suffix, bool ours, int64_t lease_ms,
                           const Error *err)
{
        ImageLock *lock = find_suffix(locks, suffix);

        // The shortest of all that share the queue counts: by it locks must be renewed.
        if (lease_ms < locks->lease_ms) {
                locks->lease_ms = lease_ms;
                locks->renew_ms =
                        MIN(locks->renew_ms, clock_mono_ms() + lease_ms / LOCK_RENEW_PARTS);
        }
        if (err)
                company_on_refused(locks, err);
        else if (strcmp(suffix, LOCK_ALONE) == 0)
                company_on_alone(locks, ours);
        else if (strcmp(suffix, LOCK_TOGETHER) == 0)
                company_on_together(locks, ours);
        else if (lock)
                on_image(locks, lock, ours);
}

void image_locks_on_unlocked(ImageLocks *locks, const char *suffix)
{
        ImageLock *lock = find_suffix(locks, suffix);

        if (!lock || !lock->leaving)
                return;
        lock->leaving = false;
        if (!lock->wanted)
                release(locks, lock);
}

// ---- what the worker says ------------------------------------------------------------------

static ImageLock *find_or_make(ImageLocks *locks, const char *target)
{
        ImageLock *lock = find(locks, target);

        if (!lock)
                lock = lock_new(locks, target);
        lock->wanted = true;
        return lock;
}

bool image_locks_are_settled(const ImageLocks *locks)
{
        return company_needs_none(locks) || locks->company == COMPANY_MANY;
}

bool image_locks_may_want(const ImageLocks *locks, const char *target)
{
        const ImageLock *lock = find(locks, target);

        if (company_needs_none(locks))
                return true;
        return locks->company == COMPANY_MANY && (!lock || lock->ask_ms <= clock_mono_ms());
}

ImageLockState image_locks_want(ImageLocks *locks, const char *target)
{
        ImageLock *lock;

        if (!image_locks_may_want(locks, target))
                return IMAGE_LOCK_NOT_NOW;
        lock = find_or_make(locks, target);
        if (company_needs_none(locks) || lock->ours)
                return IMAGE_LOCK_OURS;
        lock->waited = true;
        ask(locks, lock);
        return IMAGE_LOCK_ASKED;
}

void image_locks_keep(ImageLocks *locks, const char *target)
{
        const ImageLock *lock = find_or_make(locks, target);

        if (locks->company == COMPANY_MANY && !lock->ours)
                image_locks_ask_for_wanted(locks);
}

void image_locks_leave(ImageLocks *locks, const char *target)
{
        ImageLock *lock = find(locks, target);

        if (!lock)
                return;
        lock->wanted = lock->waited = false;
        release(locks, lock);
}

bool image_locks_busy(const ImageLocks *locks)
{
        if (!is_connected(locks))
                return false;
        for (const ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->leaving || lock->waited || (lock->asked && !lock->wanted))
                        return true;
        }
        return !image_locks_are_settled(locks) && !locks->look_ms;
}

void image_locks_give_up(ImageLocks *locks)
{
        if (!is_connected(locks))
                return;
        for (const ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->wanted)
                        return; // something of ours works on after our end
        }
        company_give_up(locks);
}

// ---- connections and time ------------------------------------------------------------------

void image_locks_connected(ImageLocks *locks, Consumer *consumer)
{
        locks->consumer = consumer;
        locks->renew_ms = clock_mono_ms() + locks->lease_ms / LOCK_RENEW_PARTS;
        company_find_out(locks);
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->ours || lock->wanted)
                        ask(locks, lock);
        }
}

void image_locks_disconnected(ImageLocks *locks)
{
        locks->company = COMPANY_UNKNOWN;
        locks->consumer = NULL;
        for (ImageLock *lock = locks->first, *next; lock; lock = next) {
                next = lock->next;
                // It may be ours without our having heard of it.
                lock->ours = lock->ours || lock->asked || lock->leaving;
                lock->asked = lock->leaving = false;
                if (lock->waited)
                        lock->wanted = lock->waited = false;
                if (!lock->wanted)
                        release(locks, lock);
        }
        image_locks_arm(locks);
}

static void renew(ImageLocks *locks)
{
        locks->renew_ms = clock_mono_ms() + locks->lease_ms / LOCK_RENEW_PARTS;
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->ours)
                        ask(locks, lock);
        }
        company_renew(locks);
}

// Locks of others that may be asked for again.
static bool take_due(ImageLocks *locks, int64_t now)
{
        bool changed = false;

        for (ImageLock *lock = locks->first, *next; lock; lock = next) {
                next = lock->next;
                if (!lock->ask_ms || lock->ask_ms > now)
                        continue;
                lock->ask_ms = 0;
                changed = true;
                if (!lock->wanted)
                        release(locks, lock);
                else if (locks->company == COMPANY_MANY)
                        ask(locks, lock);
        }
        return changed;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        ImageLocks *locks = userdata;
        int64_t now = clock_mono_ms();
        bool changed = take_due(locks, now);

        (void)source;
        (void)usec;
        if (locks->renew_ms <= now)
                renew(locks);
        company_look_if_due(locks, now);
        image_locks_arm(locks);
        if (changed)
                locks->callbacks.on_change(locks->userdata);
        return 0;
}

// ---- life ----------------------------------------------------------------------------------

int image_locks_new(const char *worker_id, int64_t lease_ms, sd_event *event,
                    const ImageLocksCallbacks *callbacks, void *userdata, ImageLocks **ret,
                    Error *err)
{
        ImageLocks *locks = xcalloc(1, sizeof *locks);
        int r;

        *locks = (ImageLocks){.worker_id = xstrdup(worker_id),
                              .lease_ms = lease_ms,
                              .callbacks = *callbacks,
                              .userdata = userdata};
        r = sd_event_add_time(event, &locks->timer, CLOCK_MONOTONIC, 0, 0, on_time, locks);
        if (r < 0) {
                image_locks_free(locks);
                return error_set(err, -r, "cannot set up the event loop: %s", strerror(-r));
        }
        (void)sd_event_source_set_enabled(locks->timer, SD_EVENT_OFF);
        *ret = locks;
        return 0;
}

void image_locks_free(ImageLocks *locks)
{
        while (locks->first)
                lock_free(locks, locks->first);
        (void)sd_event_source_disable_unref(locks->timer);
        free(locks->worker_id);
        free(locks);
}
