// From a delivery to builds in the journal.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strutil.h"

// How far the clocks of the host that sends and of this one may differ.
#define CLOCKS_DIFFER_MS 60000

static void fill_build(Build *build, const Message *message, const BuildPlan *plan,
                       const char *template)
{
        build->build_id = message_new_id();
        build->image = xstrdup(plan->image);
        build->template = xstrdup(template);
        build->personality = xstrdup(plan->identity.personality);
        build->os = xstrdup(plan->os);
        build->source_image = xstrdup(plan->source_image);
        build->entry = xstrdup(message->entry);
        build->content_id = xstrdup(message->content_id);
        build->message_id = xstrdup(message->message_id);
        build->changes = xstrdup(message->changes);
        build->attempt = 1;
        build->queued_ms = clock_wall_ms();
}

static int journal_build(Worker *worker, const Message *message, const BuildPlan *plan,
                         const char *template, Job **ret, Error *err)
{
        Job *job = job_new(worker);
        int r;

        fill_build(&job->build, message, plan, template);
        job_take_lease(job);
        r = store_build_insert(worker->store, &job->build, message->body, message->body_len, err);
        if (r < 0) {
                job_free(job);
                return r;
        }
        *ret = job;
        return 0;
}

static int journal_skipped(Worker *worker, const Message *message, const BuildPlan *plan,
                           Error *err)
{
        Job *job;
        int r = journal_build(worker, message, plan, NULL, &job, err);

        if (r < 0)
                return r;
        job_end(job, BUILD_EVENT_SKIP, plan->reason);
        worker_proved(worker);
        return 0;
}

// A build that was started after the message was sent has fetched what the message is about.
// 0: not covered; 1: it is, by build *ret_id.
static int is_covered(Worker *worker, const Message *message, const Build *build, int64_t *ret_id,
                      Error *err)
{
        int64_t started_ms = 0;
        int r;

        if (!message->timestamp)
                return 0;
        r = store_build_last_started(worker->store, build->image, build->template, &started_ms,
                                     ret_id, err);
        if (r != 0)
                return r < 0 ? r : 0;
        // A start that is yet to come was before the clock was set back: it says nothing.
        return started_ms > message->timestamp * 1000 + CLOCKS_DIFFER_MS &&
               started_ms <= clock_wall_ms();
}

// A breaker that has opened stays so until the profile is another. 0: build it; 1: not.
static int is_paused(Worker *worker, const Message *message, const Build *build, Error *err)
{
        _cleanup_(build_done) Build last = {0};
        int64_t n = 0;
        int r;

        if (!message->content_id || !message->app_id ||
            strcmp(message->app_id, MESSAGE_APP_SCANNER) != 0)
                return 0;
        r = store_build_last_failed(worker->store, build->image, build->template, &last, err);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!last.failure || !last.content_id || strcmp(last.content_id, message->content_id) != 0)
                return 0;
        r = store_build_count_failures(worker->store, build->image, build->template, last.failure,
                                       &n, err);
        return r < 0 ? r : n >= worker->config->build.breaker_failures;
}

// Ends a job that need not be built. 0: it must be; 1: it was ended.
static int dismiss(Worker *worker, Job *job, const Message *message, Error *err)
{
        _cleanup_free_ char *reason = NULL;
        int64_t covering = 0;
        int r = is_covered(worker, message, &job->build, &covering, err);

        if (r > 0) {
                reason = xasprintf("covered by build %" PRId64 ", which started after the message "
                                   "was sent",
                                   covering);
                job_end(job, BUILD_EVENT_SUPERSEDE, reason);
                return 1;
        }
        if (r == 0)
                r = is_paused(worker, message, &job->build, err);
        if (r > 0)
                job_end(job, BUILD_EVENT_SKIP,
                        "the last builds of this image failed all the same way and its profile is "
                        "still the same (BREAKER_FAILURES); `packuilon retry` builds it");
        return r;
}

static int journal_each(Worker *worker, const Message *message, const BuildPlan *plan, Error *err)
{
        STRV_FOREACH (template, plan->templates) {
                Job *job;
                int r = journal_build(worker, message, plan, *template, &job, err);

                if (r == 0)
                        r = dismiss(worker, job, message, err);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                job_supersede_waiting(job);
                if (job_can_start(job))
                        job_start(job, plan);
        }
        return 0;
}

static int journal_builds(Worker *worker, const Message *message, const BuildPlan *plan, Error *err)
{
        Lease *lease = worker->leases ? leases_take(worker->leases, message) : NULL;
        int r = journal_each(worker, message, plan, err);

        if (lease)
                lease_unref(lease);
        return r;
}

// 0: it is to be built. 1: its builds are in the journal, and it came again: its ack was lost on
// the way, or its lease ran out while they went on.
static int is_known(Worker *worker, const Message *message, Error *err)
{
        MessageFate fate = MESSAGE_NEW;
        int64_t id = 0;
        int r = store_message_fate(worker->store, message->message_id, &fate, &id, err);

        if (r < 0)
                return r;
        if (fate == MESSAGE_NEW || fate == MESSAGE_GIVEN_AWAY)
                return 0;
        log_info("message %s came again; it is build %" PRId64 " already", message->message_id, id);
        if (fate == MESSAGE_UNFINISHED && worker->leases)
                leases_refresh(worker->leases, message->message_id);
        return 1;
}

static const char *message_name(const Message *message)
{
        if (message->entry)
                return message->entry;
        return message->message_id ? message->message_id : "a message without id";
}

// Upstream's messages have neither, and both must stay the same while it is under a lease.
static void complete(Message *message)
{
        if (!message->message_id)
                message->message_id = message_new_id();
        if (!message->timestamp)
                message->timestamp = clock_wall_ms() / 1000;
}

static int journal(Worker *worker, const Message *message, const BuildPlan *plan, bool skipped,
                   Error *err)
{
        int r = worker_write(worker, err);

        if (r == 0)
                r = is_known(worker, message, err);
        if (r != 0)
                return r < 0 ? r : 0;
        return skipped ? journal_skipped(worker, message, plan, err)
                       : journal_builds(worker, message, plan, err);
}

static void reject(Worker *worker, Delivery *delivery, const char *reason)
{
        log_warning("%s is rejected (moved to %s.rejected): %s", message_name(&delivery->message),
                    worker->config->global.queue, reason);
        consumer_move(worker->consumer, delivery, ".rejected", reason);
}

void worker_take_delivery(Worker *worker, Delivery *delivery)
{
        _cleanup_(build_plan_done) BuildPlan plan = {0};
        const Message *message = &delivery->message;
        Error err = ERROR_NONE;
        int r = build_plan_make(worker->config, message->body, message->body_len, &plan, &err);

        if (r < 0) {
                consumer_requeue(worker->consumer, delivery);
                worker_block(worker, err.text);
                return;
        }
        if (r == BUILD_PLAN_REJECTED) {
                reject(worker, delivery, plan.reason);
                return;
        }
        complete(&delivery->message);
        // It is acked, or given back, when the turn's transaction has ended.
        delivery_list_add(&worker->journal, delivery);
        if (journal(worker, message, &plan, r == BUILD_PLAN_SKIPPED, &err) < 0)
                worker_undo_turn(worker, &err);
}

static bool builds_target_of(const Worker *worker, const Delivery *delivery)
{
        _cleanup_(build_plan_done) BuildPlan plan = {0};
        Error err = ERROR_NONE;

        if (build_plan_make(worker->config, delivery->message.body, delivery->message.body_len,
                            &plan, &err) != 0)
                return false; // the turn of its own will tell why
        for (const Job *job = worker->jobs; job; job = job->next) {
                if (!job->run || !job->build.image || strcmp(job->build.image, plan.image) != 0)
                        continue;
                STRV_FOREACH (template, plan.templates) {
                        if (strcmp(job->build.template, *template) == 0)
                                return true;
                }
        }
        return false;
}

bool worker_knows(Worker *worker, const Delivery *delivery)
{
        return (worker->leases && leases_know(worker->leases, delivery->message.message_id)) ||
               builds_target_of(worker, delivery);
}
