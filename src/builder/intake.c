// From a delivery to builds in the journal.
#include <errno.h>
#include <string.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strutil.h"

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

static bool same_target(const Build *a, const Build *b)
{
        return a->image && b->image && a->template && b->template &&
               strcmp(a->image, b->image) == 0 && strcmp(a->template, b->template) == 0;
}

// The guest fetches the profile that is current when it builds, so the build to come covers those
// of the same image that still wait.
static void supersede_waiting(Worker *worker, const Job *newer)
{
        for (Job *job = worker->jobs, *next; job; job = next) {
                _cleanup_free_ char *reason = NULL;

                next = job->next;
                if (job == newer || job->run || job->predecessor ||
                    !same_target(&job->build, &newer->build))
                        continue;
                reason = xasprintf("covered by build %lld, which starts later",
                                   (long long)newer->build.id);
                job_end(job, BUILD_EVENT_SUPERSEDE, reason);
        }
}

static int journal_build(Worker *worker, const Message *message, const BuildPlan *plan,
                         const char *template, Job **ret, Error *err)
{
        Job *job = job_new(worker);
        int r;

        fill_build(&job->build, message, plan, template);
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
        return 0;
}

static int journal_builds(Worker *worker, const Message *message, const BuildPlan *plan, Error *err)
{
        STRV_FOREACH (template, plan->templates) {
                Job *job;
                int r = journal_build(worker, message, plan, *template, &job, err);

                if (r < 0)
                        return r;
                supersede_waiting(worker, job);
                if (job_can_start(job))
                        job_start(job, plan);
        }
        return 0;
}

// True if the delivery's builds are in the journal already: its ack was lost on the way.
static int is_known(Worker *worker, const Message *message, Error *err)
{
        int64_t id;
        int r;

        if (!message->message_id)
                return 0;
        r = store_build_find_message(worker->store, message->message_id, &id, err);
        if (r < 0)
                return r;
        if (r == STORE_NOT_FOUND)
                return 0;
        log_info("message %s came again; it is build %lld already", message->message_id,
                 (long long)id);
        return 1;
}

static const char *message_name(const Message *message)
{
        if (message->entry)
                return message->entry;
        return message->message_id ? message->message_id : "a message without id";
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
        // It is acked, or given back, when the turn's transaction has ended.
        delivery_list_add(&worker->journal, delivery);
        if (journal(worker, message, &plan, r == BUILD_PLAN_SKIPPED, &err) < 0)
                worker_undo_turn(worker, &err);
}
