// The journal against what is known here: builds that an earlier worker left, and what became of
// the jobs when writing failed.
#include <inttypes.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

typedef struct Found {
        int64_t *ids;
        size_t n;
} Found;

static int collect(const Build *build, void *userdata)
{
        Found *found = userdata;

        found->ids = xreallocarray(found->ids, found->n + 1, sizeof *found->ids);
        found->ids[found->n++] = build->id;
        return 0;
}

static Job *find_job(const Worker *worker, int64_t id)
{
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->build.id == id)
                        return job;
        }
        return NULL;
}

// It ran, and nobody knows to what end. 1: an operator had asked for that end.
static int end_cancelled(Worker *worker, Build *build, Error *err)
{
        _cleanup_free_ char *by = NULL, *reason = NULL;
        int64_t asked = 0;
        int r = store_cancel_next(worker->store, build->id - 1, &asked, &by, err);

        if (r != 0 || asked != build->id)
                return r < 0 ? r : 0;
        reason = xasprintf("cancelled by %s; rabbit2packer ended before it had", by);
        r = store_build_transition(worker->store, build, BUILD_EVENT_CANCEL, reason,
                                   clock_wall_ms(), err);
        if (r == 0)
                r = store_cancel_drop(worker->store, build->id, err);
        return r < 0 ? r : 1;
}

// A row that has no job: it waits again, or it ran and nobody knows to what end.
static int take_up(Worker *worker, int64_t id, Error *err)
{
        static const Again interrupted = {.event = BUILD_EVENT_INTERRUPT,
                                          .reason = "rabbit2packer ended while it ran"};
        _cleanup_(build_done) Build build = {0};
        Job *job;
        int r = store_build_get(worker->store, id, &build, err);

        if (r != 0)
                return r < 0 ? r : 0;
        if (build.state != BUILD_BUILDING) {
                job = job_new(worker);
                job->build = build;
                job_take_lease(job);
                job->journalled = true;
                build = (Build){0};
                return 0;
        }
        r = end_cancelled(worker, &build, err);
        if (r > 0)
                return 0;
        if (r == 0)
                r = worker_build_again(worker, &build, &interrupted, &job, err);
        if (r < 0)
                return error_prefix(err, "build %" PRId64, id);
        log_notice("build %" PRId64 " (%s) was interrupted; it is built again as build %" PRId64,
                   id, build.image, job->build.id);
        return 0;
}

static int reconcile(Worker *worker, int64_t id, Error *err)
{
        Job *job = find_job(worker, id);

        if (!job)
                return take_up(worker, id, err);
        if (job->stage == JOB_ENDED) {
                job->build.state = BUILD_BUILDING; // as the journal has it
                job_write_end(job);
        }
        return 0;
}

int worker_resync(Worker *worker, Error *err)
{
        static const BuildFilter unfinished = {.only_unfinished = true, .oldest_first = true};
        Found found = {0};
        int r = store_builds_each(worker->store, &unfinished, collect, &found, err);

        worker->out_of_step = false;
        if (r >= 0 && found.n)
                r = worker_write(worker, err);
        for (size_t at = 0; at < found.n && r >= 0; at++)
                r = reconcile(worker, found.ids[at], err);
        free(found.ids);
        if (r < 0)
                worker->out_of_step = true;
        return r < 0 ? r : 0;
}

int worker_recover(Worker *worker, Error *err)
{
        int r = worker_resync(worker, err);

        return r < 0 ? error_prefix(err, "cannot take up what an earlier worker left") : 0;
}
