#include "builder/image_locks.h"

#include <string.h>
#include <sys/random.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/strutil.h"

#define ALONE ".alone"
#define TOGETHER ".together"
#define EVERYBODY "*" // holder of TOGETHER; no worker's id

#define TARGET_MAX 128    // bytes in a queue's name; longer ones are told by their digest
#define ASK_AGAIN_MS 2000 // another's lock, and up to as much more: others ask, too
#define LOOK_AGAIN_MS 500 // for who is there
#define KNOCKS_UNTOLD 4
#define AGAIN_PARTS 10 // neither waits for more than such a part of the lease
#define RENEW_PARTS 3  // a lock is renewed when such a part of it is over
#define USEC_PER_MS 1000ULL

typedef struct ImageLock {
        struct ImageLock *next;
        char *target;
        char *suffix;
        bool ours;      // as far as we know: a broken connection keeps it
        bool asked;     // not answered
        bool leaving;   // given back, not answered
        bool wanted;    // else it is given back as soon as it can be
        bool waited;    // on_answer is to be called
        bool told;      // that another builds the same
        int64_t ask_ms; // monotonic: another's is not asked for before
} ImageLock;

// Who else is there. In the order in which it is found out; what is asked is in brackets.
typedef enum Company {
        COMPANY_UNKNOWN,  // no connection
        COMPANY_LOCKING,  // [ALONE in our name]: are we the only one who wants to be alone?
        COMPANY_CHECKING, // [TOGETHER in our name]: is nobody together? It is given back at once
        COMPANY_NONE,     // we have ALONE
        COMPANY_JOINING,  // [TOGETHER in everybody's name]
        COMPANY_WAITING,  // [ALONE in our name]: is nobody alone? It is given back at once
        COMPANY_ARRIVING, // somebody is there: we take the locks of what we build, …
        COMPANY_ADMITTED, // … [TOGETHER in everybody's name], and give ALONE back
        COMPANY_MANY,     // we have TOGETHER
        COMPANY_IGNORED,  // the broker refuses locks: builds go on without
} Company;

struct ImageLocks {
        char *worker_id;
        int64_t lease_ms;
        ImageLocksCallbacks callbacks;
        void *userdata;
        Consumer *consumer;
        Company company;
        unsigned n_knocks;
        bool told_many, told_refused;
        ImageLock *first;
        int64_t renew_ms; // monotonic: all that is ours
        int64_t look_ms;  // monotonic: the question of `company` once more; 0: it is under way
        sd_event_source *timer;
};

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

static void ask_broker(const ImageLocks *locks, const char *suffix, const char *holder,
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
        ask_broker(locks, lock->suffix, locks->worker_id, false);
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
        int64_t wait = MIN(ASK_AGAIN_MS, locks->lease_ms / AGAIN_PARTS);
        uint32_t chance = 0;

        if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
                chance = 0;
        return clock_mono_ms() + wait + (int64_t)((uint64_t)wait * chance >> 32);
}

static void arm(ImageLocks *locks)
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

// ---- who else is there ---------------------------------------------------------------------

static void ask_for_wanted(ImageLocks *locks)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->wanted && !lock->ours)
                        ask(locks, lock);
        }
}

static void settle(ImageLocks *locks, Company company)
{
        locks->company = company;
        locks->look_ms = 0;
        locks->n_knocks = 0;
        if (company == COMPANY_MANY && !locks->told_many)
                log_info("other workers share this queue: each image is locked while it is built");
        locks->told_many = company == COMPANY_MANY;
        locks->told_refused = company == COMPANY_IGNORED;
        if (company == COMPANY_MANY)
                ask_for_wanted(locks);
        arm(locks);
        locks->callbacks.on_change(locks->userdata);
}

// Asks what `company` is about.
static void look(ImageLocks *locks, Company company)
{
        locks->company = company;
        locks->look_ms = 0;
        switch (company) {
        case COMPANY_LOCKING:
                ask_broker(locks, ALONE, locks->worker_id, true);
                break;
        case COMPANY_WAITING:
                ask_broker(locks, ALONE, locks->worker_id, false);
                break;
        case COMPANY_CHECKING:
                ask_broker(locks, TOGETHER, locks->worker_id, false);
                break;
        default:
                ask_broker(locks, TOGETHER, EVERYBODY, false);
        }
        arm(locks);
}

static void look_later(ImageLocks *locks, int64_t wait_ms)
{
        locks->look_ms = clock_mono_ms() + wait_ms;
        arm(locks);
}

static void look_soon(ImageLocks *locks)
{
        look_later(locks, MIN(LOOK_AGAIN_MS, locks->lease_ms / AGAIN_PARTS));
}

static void arrive_if_all_answered(ImageLocks *locks)
{
        if (locks->company != COMPANY_ARRIVING)
                return;
        for (const ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->asked)
                        return;
        }
        look(locks, COMPANY_ADMITTED);
}

static void arrive(ImageLocks *locks)
{
        locks->company = COMPANY_ARRIVING;
        ask_for_wanted(locks);
        arrive_if_all_answered(locks);
}

// Another is alone. One that is there opens at once; else its lock must run out.
static void knock(ImageLocks *locks)
{
        if (locks->n_knocks++ == KNOCKS_UNTOLD)
                log_notice("the worker that was alone on this queue does not answer: builds begin "
                           "here when it does, or when it has been away for its LEASE");
        consumer_knock(locks->consumer, ALONE);
        look_soon(locks);
}

static void on_alone(ImageLocks *locks, bool ours)
{
        switch (locks->company) {
        case COMPANY_LOCKING:
                look(locks, ours ? COMPANY_CHECKING : COMPANY_JOINING);
                break;
        case COMPANY_WAITING:
                if (!ours) {
                        knock(locks);
                        break;
                }
                consumer_unlock(locks->consumer, ALONE);
                settle(locks, COMPANY_MANY);
                break;
        case COMPANY_IGNORED:
                if (ours)
                        consumer_unlock(locks->consumer, ALONE);
                break;
        default:
                if (!ours) // it ran out before it was renewed
                        look(locks, COMPANY_JOINING);
        }
}

static void on_together(ImageLocks *locks, bool ours)
{
        switch (locks->company) {
        case COMPANY_CHECKING:
                if (!ours) {
                        arrive(locks);
                        break;
                }
                consumer_unlock(locks->consumer, TOGETHER);
                settle(locks, COMPANY_NONE);
                break;
        case COMPANY_ADMITTED:
                if (!ours) {
                        look_soon(locks);
                        break;
                }
                consumer_unlock(locks->consumer, ALONE);
                settle(locks, COMPANY_MANY);
                break;
        case COMPANY_JOINING:
                if (ours)
                        look(locks, COMPANY_WAITING);
                else // somebody is just CHECKING
                        look_soon(locks);
                break;
        case COMPANY_IGNORED:
                break;
        default:
                if (!ours)
                        look(locks, COMPANY_JOINING);
        }
}

void image_locks_on_knock(ImageLocks *locks)
{
        if (locks->company == COMPANY_NONE) // else it was heard, or will be
                arrive(locks);
}

static ImageLock *find_waited(const ImageLocks *locks)
{
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->waited)
                        return lock;
        }
        return NULL;
}

// For now: what the broker refuses today, as when a node of its cluster is down, it may allow soon.
static void ignore(ImageLocks *locks, const Error *why)
{
        ImageLock *lock;

        if (locks->company == COMPANY_NONE || locks->company == COMPANY_ARRIVING ||
            locks->company == COMPANY_ADMITTED)
                consumer_unlock(locks->consumer, ALONE);
        if (!locks->told_refused)
                log_warning("two hosts may build one image at once, for the broker refuses the "
                            "locks of images: %s",
                            why->text);
        for (lock = locks->first; lock; lock = lock->next)
                lock->asked = false;
        settle(locks, COMPANY_IGNORED);
        // What is called may free any of them.
        while ((lock = find_waited(locks))) {
                _cleanup_free_ char *target = xstrdup(lock->target);

                lock->waited = false;
                locks->callbacks.on_answer(target, true, locks->userdata);
        }
        look_later(locks, locks->lease_ms / RENEW_PARTS);
}

// ---- answers -------------------------------------------------------------------------------

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
        arrive_if_all_answered(locks);
        arm(locks);
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
                locks->renew_ms = MIN(locks->renew_ms, clock_mono_ms() + lease_ms / RENEW_PARTS);
        }
        if (err)
                ignore(locks, err);
        else if (strcmp(suffix, ALONE) == 0)
                on_alone(locks, ours);
        else if (strcmp(suffix, TOGETHER) == 0)
                on_together(locks, ours);
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

static bool needs_none(const ImageLocks *locks)
{
        return locks->company == COMPANY_NONE || locks->company == COMPANY_IGNORED;
}

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
        return needs_none(locks) || locks->company == COMPANY_MANY;
}

bool image_locks_may_want(const ImageLocks *locks, const char *target)
{
        const ImageLock *lock = find(locks, target);

        if (needs_none(locks))
                return true;
        return locks->company == COMPANY_MANY && (!lock || lock->ask_ms <= clock_mono_ms());
}

ImageLockState image_locks_want(ImageLocks *locks, const char *target)
{
        ImageLock *lock;

        if (!image_locks_may_want(locks, target))
                return IMAGE_LOCK_NOT_NOW;
        lock = find_or_make(locks, target);
        if (needs_none(locks) || lock->ours)
                return IMAGE_LOCK_OURS;
        lock->waited = true;
        ask(locks, lock);
        return IMAGE_LOCK_ASKED;
}

void image_locks_keep(ImageLocks *locks, const char *target)
{
        const ImageLock *lock = find_or_make(locks, target);

        if (locks->company == COMPANY_MANY && !lock->ours)
                ask_for_wanted(locks);
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
        if (locks->company == COMPANY_NONE || locks->company == COMPANY_ADMITTED)
                consumer_unlock(locks->consumer, ALONE);
}

// ---- connections and time ------------------------------------------------------------------

void image_locks_connected(ImageLocks *locks, Consumer *consumer)
{
        locks->consumer = consumer;
        locks->renew_ms = clock_mono_ms() + locks->lease_ms / RENEW_PARTS;
        look(locks, COMPANY_LOCKING);
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
        arm(locks);
}

static void renew(ImageLocks *locks)
{
        locks->renew_ms = clock_mono_ms() + locks->lease_ms / RENEW_PARTS;
        for (ImageLock *lock = locks->first; lock; lock = lock->next) {
                if (lock->ours)
                        ask(locks, lock);
        }
        switch (locks->company) {
        case COMPANY_NONE:
        case COMPANY_ARRIVING:
        case COMPANY_ADMITTED:
                ask_broker(locks, ALONE, locks->worker_id, true);
                break;
        case COMPANY_MANY:
                // Had it run out, somebody could be alone meanwhile, and would hear this.
                consumer_knock(locks->consumer, ALONE);
                ask_broker(locks, TOGETHER, EVERYBODY, false);
                break;
        case COMPANY_WAITING:
                ask_broker(locks, TOGETHER, EVERYBODY, false);
                break;
        default:
                break;
        }
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
        if (locks->look_ms && locks->look_ms <= now)
                look(locks, locks->company == COMPANY_IGNORED ? COMPANY_LOCKING : locks->company);
        arm(locks);
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
