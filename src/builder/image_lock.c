// One build of an image and template at a time, among all workers of a broker: who builds has a
// lock there (consumer_lock), and asks for it before Packer starts. It ends with the connection, so
// a host that is gone blocks nobody; after a broken connection workers first give those that build
// the time to take their locks again. A worker that is cut off for longer cannot be told from one
// that is gone: then two may build at once.
#include <inttypes.h>
#include <sys/random.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define ASK_AGAIN_MS 2000 // and up to as much more: others ask, too
#define SETTLE_MS 10000   // longer than the longest pause between two tries to connect

static char *lock_suffix(const Build *build)
{
        _cleanup_free_ char *target = predecessor_target(build->image, build->template);

        return xasprintf(".building.%s", target);
}

static Job *find_job(const Worker *worker, uint64_t token)
{
        for (Job *job = worker->jobs; job; job = job->next) {
                if ((uint64_t)job->build.id == token)
                        return job;
        }
        return NULL;
}

static void ask(Job *job)
{
        _cleanup_free_ char *suffix = lock_suffix(&job->build);

        consumer_lock(job->worker->consumer, suffix, (uint64_t)job->build.id);
}

bool image_lock_may_ask(const Job *job)
{
        int64_t now = clock_mono_ms();

        return !job->worker->leases ||
               (job->worker->connected && now >= job->ask_ms && now >= job->worker->settled_ms);
}

void image_lock_ask(Job *job)
{
        job->stage = JOB_ASKING;
        job->worker->n_asking++;
        ask(job);
}

void image_lock_release(Job *job)
{
        _cleanup_free_ char *suffix = NULL;

        if (!job->locked)
                return;
        job->locked = false;
        suffix = lock_suffix(&job->build);
        consumer_unlock(job->worker->consumer, suffix);
}

static void let_wait(Job *job)
{
        job->stage = JOB_WAITING;
        job->worker->n_asking--;
}

static int64_t jitter_ms(void)
{
        uint32_t chance = 0;

        if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
                chance = 0;
        return (int64_t)((uint64_t)ASK_AGAIN_MS * chance >> 32);
}

// Another host builds it. Meanwhile a newer message may have come for the same.
static void wait_for_other(Job *job)
{
        const Worker *worker = job->worker;

        job->ask_ms = clock_mono_ms() + ASK_AGAIN_MS + jitter_ms();
        log_debug("build %" PRId64 " (%s) waits: another host builds that image", job->build.id,
                  job_name(job));
        for (const Job *other = worker->jobs; other; other = other->next) {
                if (other->stage == JOB_WAITING && other->build.id > job->build.id &&
                    build_same_target(&other->build, &job->build)) {
                        job_supersede_waiting(other);
                        return;
                }
        }
}

// `suffix` is that of the lock; NULL: the broker gives us none, and builds must go on.
static void begin(Job *job, const char *suffix)
{
        Worker *worker = job->worker;
        uint64_t token = (uint64_t)job->build.id;

        job->locked = suffix != NULL;
        if (!worker->draining && !worker_is_blocked(worker))
                job_start_locked(job);
        job = find_job(worker, token); // it may be over already
        if (job && job->stage == JOB_RUNNING)
                return;
        if (job)
                job->locked = false;
        if (suffix)
                consumer_unlock(worker->consumer, suffix);
}

static void warn_once(Worker *worker, const Error *err)
{
        if (worker->told_no_locks)
                return;
        worker->told_no_locks = true;
        log_warning("two hosts may build one image at once, for the broker refuses the locks of "
                    "images (allow this user to configure %s.*): %s",
                    worker->config->global.queue, err->text);
}

void image_lock_on_answer(Worker *worker, uint64_t token, const char *suffix, bool ours,
                          const Error *err)
{
        Job *job = find_job(worker, token);

        if (err)
                warn_once(worker, err);
        if (job && job->stage == JOB_RUNNING) { // asked for once more, after a broken connection
                if (!ours)
                        log_warning("build %" PRId64 " (%s): another host builds that image, too",
                                    job->build.id, job_name(job));
                job->locked = ours;
        } else if (job && job->stage == JOB_ASKING) {
                let_wait(job);
                if (ours || err)
                        begin(job, ours ? suffix : NULL);
                else
                        wait_for_other(job);
        } else if (ours) {
                consumer_unlock(worker->consumer, suffix); // its build is gone
        }
        worker_schedule(worker);
}

void image_locks_disconnected(Worker *worker)
{
        worker->settled_ms = clock_mono_ms() + SETTLE_MS;
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->stage == JOB_ASKING)
                        let_wait(job);
        }
}

void image_locks_connected(Worker *worker)
{
        if (worker->settled_ms)
                worker->settled_ms = clock_mono_ms() + SETTLE_MS;
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->stage == JOB_RUNNING && !job->abandoned)
                        ask(job);
        }
}

int64_t image_lock_wait_ms(const Job *job)
{
        return MAX(job->ask_ms, job->worker->settled_ms) - clock_mono_ms();
}
