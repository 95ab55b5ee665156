// What the worker does for its locks of images.
#include <inttypes.h>
#include <string.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/log.h"

static char *target_of(const Build *build)
{
        return predecessor_target(build->image, build->template);
}

static bool needs_lock(const Job *job)
{
        return job->worker->image_locks && job->build.image && job->build.template;
}

bool job_may_lock(const Job *job)
{
        _cleanup_free_ char *target = needs_lock(job) ? target_of(&job->build) : NULL;

        return !target || image_locks_may_want(job->worker->image_locks, target);
}

void job_unlock(const Job *job)
{
        _cleanup_free_ char *target = needs_lock(job) ? target_of(&job->build) : NULL;

        if (target)
                image_locks_leave(job->worker->image_locks, target);
}

static void let_wait(Job *job)
{
        job->stage = JOB_WAITING;
        job->worker->n_asking--;
}

// Its image is ours to build.
static void begin(Job *job, const BuildPlan *plan)
{
        Worker *worker = job->worker;
        _cleanup_free_ char *target = target_of(&job->build);
        int64_t id = job->build.id;

        job_begin(job, plan);
        for (job = worker->jobs; job && job->build.id != id; job = job->next)
                ;
        if (!job || !job->run)
                image_locks_leave(worker->image_locks, target);
}

void job_start(Job *job, const BuildPlan *plan)
{
        _cleanup_free_ char *target = NULL;

        if (!needs_lock(job)) {
                job_begin(job, plan);
                return;
        }
        target = target_of(&job->build);
        switch (image_locks_want(job->worker->image_locks, target)) {
        case IMAGE_LOCK_OURS:
                begin(job, plan);
                break;
        case IMAGE_LOCK_ASKED:
                job->stage = JOB_ASKING;
                job->worker->n_asking++;
                break;
        case IMAGE_LOCK_NOT_NOW:
                break;
        }
}

void worker_locks_disconnected(Worker *worker)
{
        if (!worker->image_locks)
                return;
        image_locks_disconnected(worker->image_locks);
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->stage == JOB_ASKING)
                        let_wait(job);
        }
}

static Job *find_asking(const Worker *worker, const char *target)
{
        for (Job *job = worker->jobs; job; job = job->next) {
                _cleanup_free_ char *of_job =
                        job->stage == JOB_ASKING ? target_of(&job->build) : NULL;

                if (of_job && strcmp(of_job, target) == 0)
                        return job;
        }
        return NULL;
}

// Another host builds it. Meanwhile a newer message may have come for the same.
static void wait_for_other(const Job *job)
{
        log_debug("build %" PRId64 " (%s) waits: another host builds that image", job->build.id,
                  job_name(job));
        for (const Job *other = job->worker->jobs; other; other = other->next) {
                if (other->stage == JOB_WAITING && other->build.id > job->build.id &&
                    other->build.not_before_ms <= clock_wall_ms() &&
                    build_same_target(&other->build, &job->build)) {
                        job_supersede_waiting(other);
                        return;
                }
        }
}

static void on_answer(const char *target, bool ours, void *userdata)
{
        Worker *worker = userdata;
        Job *job = find_asking(worker, target);

        if (job)
                let_wait(job);
        if (ours && (!job || worker->draining || worker_is_blocked(worker)))
                image_locks_leave(worker->image_locks, target); // its build is gone, or must wait
        else if (ours)
                begin(job, NULL);
        else if (job)
                wait_for_other(job);
        worker_schedule(worker);
}

static void on_change(void *userdata)
{
        worker_schedule(userdata);
}

static void keep(const char *target, void *userdata)
{
        image_locks_keep(userdata, target);
}

int worker_open_locks(Worker *worker, Error *err)
{
        static const ImageLocksCallbacks callbacks = {on_answer, on_change};
        _cleanup_free_ char *id = NULL;
        int r = store_worker_id(worker->store, &id, err);

        if (r == 0)
                r = image_locks_new(id, worker->config->build.lease_seconds * 1000, worker->event,
                                    &callbacks, worker, &worker->image_locks, err);
        if (r == 0)
                predecessors_each(worker->predecessors, keep, worker->image_locks);
        return r;
}
