#include "builder/image_locks_internal.h"
#include "util/clock.h"
#include "util/log.h"

#define EVERYBODY "*"     // holder of LOCK_TOGETHER; no worker's id
#define LOOK_AGAIN_MS 500 // for who is there
#define LOOKS_UNTOLD 4

static bool has_alone(const ImageLocks *locks)
{
        return locks->company == COMPANY_NONE || locks->company == COMPANY_ARRIVING ||
               locks->company == COMPANY_ADMITTED;
}

static void settle(ImageLocks *locks, Company company)
{
        locks->company = company;
        locks->look_ms = 0;
        locks->n_looks = 0;
        if (company == COMPANY_MANY && !locks->told_many)
                log_info("other workers share this queue: each image is locked while it is built");
        locks->told_many = company == COMPANY_MANY;
        locks->told_refused = company == COMPANY_IGNORED;
        if (company == COMPANY_MANY)
                image_locks_ask_for_wanted(locks);
        image_locks_arm(locks);
        locks->callbacks.on_change(locks->userdata);
}

// Asks what `company` is about.
static void look(ImageLocks *locks, Company company)
{
        locks->company = company;
        locks->look_ms = 0;
        switch (company) {
        case COMPANY_LOCKING:
                image_locks_ask_broker(locks, LOCK_ALONE, locks->worker_id, true);
                break;
        case COMPANY_WAITING:
                image_locks_ask_broker(locks, LOCK_ALONE, locks->worker_id, false);
                break;
        case COMPANY_CHECKING:
                image_locks_ask_broker(locks, LOCK_TOGETHER, locks->worker_id, false);
                break;
        default:
                image_locks_ask_broker(locks, LOCK_TOGETHER, EVERYBODY, false);
        }
        image_locks_arm(locks);
}

static void look_later(ImageLocks *locks, int64_t wait_ms)
{
        locks->look_ms = clock_mono_ms() + wait_ms;
        image_locks_arm(locks);
}

// The others are not there yet, or gone without a word.
static void look_soon(ImageLocks *locks)
{
        if (locks->n_looks++ == LOOKS_UNTOLD)
                log_notice("the other workers on this queue do not answer: builds begin here when "
                           "they do, or when they have been away for their LEASE");
        look_later(locks, MIN(LOOK_AGAIN_MS, locks->lease_ms / LOCK_AGAIN_PARTS));
}

void company_on_image(ImageLocks *locks)
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
        image_locks_ask_for_wanted(locks);
        company_on_image(locks);
}

// Another is alone. One that is there opens at once; else its lock must run out.
static void knock(ImageLocks *locks)
{
        consumer_knock(locks->consumer, LOCK_ALONE);
        look_soon(locks);
}

void company_on_alone(ImageLocks *locks, bool ours)
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
                consumer_unlock(locks->consumer, LOCK_ALONE);
                settle(locks, COMPANY_MANY);
                break;
        case COMPANY_IGNORED:
                if (ours)
                        consumer_unlock(locks->consumer, LOCK_ALONE);
                break;
        default:
                if (!ours) // it ran out before it was renewed
                        look(locks, COMPANY_JOINING);
        }
}

void company_on_together(ImageLocks *locks, bool ours)
{
        switch (locks->company) {
        case COMPANY_CHECKING:
                if (!ours) {
                        arrive(locks);
                        break;
                }
                consumer_unlock(locks->consumer, LOCK_TOGETHER);
                settle(locks, COMPANY_NONE);
                break;
        case COMPANY_ADMITTED:
                if (!ours) {
                        look_soon(locks);
                        break;
                }
                consumer_unlock(locks->consumer, LOCK_ALONE);
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

// For now: what the broker refuses today, as when a node of its cluster is down, it may allow soon.
void company_on_refused(ImageLocks *locks, const Error *why)
{
        if (has_alone(locks))
                consumer_unlock(locks->consumer, LOCK_ALONE);
        if (!locks->told_refused)
                log_warning("two hosts may build one image at once, for the broker refuses the "
                            "locks of images: %s",
                            why->text);
        image_locks_forget_asked(locks);
        settle(locks, COMPANY_IGNORED);
        image_locks_answer_waiting(locks);
        look_later(locks, locks->lease_ms / LOCK_RENEW_PARTS);
}

void company_find_out(ImageLocks *locks)
{
        look(locks, COMPANY_LOCKING);
}

void company_look_if_due(ImageLocks *locks, int64_t now)
{
        if (locks->look_ms && locks->look_ms <= now)
                look(locks, locks->company == COMPANY_IGNORED ? COMPANY_LOCKING : locks->company);
}

void company_renew(ImageLocks *locks)
{
        if (has_alone(locks))
                image_locks_ask_broker(locks, LOCK_ALONE, locks->worker_id, true);
        // Had it run out, somebody could be alone meanwhile, and would hear this.
        if (locks->company == COMPANY_MANY)
                consumer_knock(locks->consumer, LOCK_ALONE);
        if (locks->company == COMPANY_MANY || locks->company == COMPANY_WAITING)
                image_locks_ask_broker(locks, LOCK_TOGETHER, EVERYBODY, false);
}

void company_give_up(ImageLocks *locks)
{
        if (has_alone(locks) && locks->company != COMPANY_ARRIVING)
                consumer_unlock(locks->consumer, LOCK_ALONE);
}

bool company_needs_none(const ImageLocks *locks)
{
        return locks->company == COMPANY_NONE || locks->company == COMPANY_IGNORED;
}
