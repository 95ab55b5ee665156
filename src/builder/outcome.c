// What follows from the end of a run: the build's end in the journal, and whether it is tried
// again, given up, or everything stops because every build would fail so.
#include <inttypes.h>
#include <string.h>

#include "builder/failure.h"
#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/backoff.h"
#include "util/clock.h"
#include "util/log.h"

void job_log_end(const Job *job)
{
        const Build *build = &job->build;
        LogLevel level = build->state == BUILD_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO;

        log_write(level, "build %" PRId64 " (%s): %s%s%s%s%s", build->id, job_name(job),
                  build_state_name(build->state), build->artifact ? ", artifact " : "",
                  build->artifact ? build->artifact : "", build->reason ? ": " : "",
                  build->reason ? build->reason : "");
}

static int write_again(Job *job, const Again *again, Error *err)
{
        Job *next;
        int r = worker_build_again(job->worker, &job->build, again, &next, err);

        if (r == 0)
                job_log_end(job);
        return r;
}

// Builds that are given up wait in <QUEUE>.failed for `packuilon retry`.
static int keep_failed(Job *job, const char *reason, Error *err)
{
        Worker *worker = job->worker;
        const Build *build = &job->build;
        _cleanup_free_ char *queue = xasprintf("%s" FAILED_SUFFIX, worker->config->global.queue);
        _cleanup_free_ char *body = NULL;
        Message message = {.message_id = build->message_id,
                           .entry = build->entry,
                           .content_id = build->content_id,
                           .changes = build->changes,
                           .timestamp = clock_wall_ms() / 1000};
        _cleanup_free_ char *why = xstrdup(reason);
        int r = store_build_body(worker->store, build->id, &body, &message.body_len, err);

        if (r == STORE_NOT_FOUND)
                return 0;
        if (r < 0)
                return r;
        message.body = body;
        message.reason = why;
        worker->outbox_waiting = worker->config->global.transport == TRANSPORT_AMQP;
        return store_queue_push(worker->store, queue, &message, err);
}

static int give_up(Job *job, const char *reason, Error *err)
{
        int r = keep_failed(job, reason, err);

        if (r == 0)
                r = store_build_transition(job->worker->store, &job->build, BUILD_EVENT_FAIL,
                                           reason, clock_wall_ms(), err);
        if (r == 0)
                job_log_end(job);
        return r;
}

static bool is_broken_record(Job *job, Error *err)
{
        const Build *build = &job->build;
        int64_t n = 0;

        if (store_build_count_failures(job->worker->store, build->image, build->template,
                                       build->failure, &n, err) < 0)
                return false;
        return n + 1 >= job->worker->config->build.breaker_failures;
}

static int end_failed(Job *job, FailureClass class, const char *reason, Error *err)
{
        const BuildConfig *config = &job->worker->config->build;
        int64_t attempt = job->build.attempt;
        _cleanup_free_ char *text = NULL;
        Again again = {.event = BUILD_EVENT_FAIL, .spends_attempt = true};

        free(job->build.failure);
        job->build.failure = failure_signature(class, reason);
        if (!failure_may_retry(class, attempt, config))
                return give_up(job, reason, err);
        if (is_broken_record(job, err)) {
                text = xasprintf("%s; the last %" PRId64 " builds of this image failed the same "
                                 "way, so it is left until its profile changes or `packuilon "
                                 "retry` (BREAKER_FAILURES)",
                                 reason, config->breaker_failures);
                return give_up(job, text, err);
        }
        again.delay_ms = failure_retry_delay_ms(class, attempt, config,
                                                (uint32_t)backoff_chance(INT64_C(1) << 32));
        text = xasprintf("%s; attempt %" PRId64 " follows in %" PRId64 " s", reason, attempt + 1,
                         again.delay_ms / 1000);
        again.reason = text;
        return write_again(job, &again, err);
}

// Nothing is wrong with the build: it waits, and so does everything else.
static int end_refused_login(Job *job, const char *reason, Error *err)
{
        Worker *worker = job->worker;
        int r = store_build_transition(worker->store, &job->build, BUILD_EVENT_POSTPONE, reason,
                                       clock_wall_ms(), err);

        if (r < 0)
                return r;
        job->stage = JOB_WAITING;
        worker->probing = true;
        worker_block(worker, reason);
        return 0;
}

static int end_unsuccessful(Job *job, const PackerResult *result, Error *err)
{
        FailureClass class = failure_classify(result->reason);
        const Again later = {.event = BUILD_EVENT_INTERRUPT, .reason = result->reason};
        bool cancelled = result->cancelled || job->cancelled;
        int r;

        if (cancelled && !job->cancelled && job->worker->stopping)
                return write_again(job, &later, err);
        if (!cancelled && class == FAILURE_AUTH)
                return end_refused_login(job, result->reason, err);
        job->worker->probing = false;
        worker_proved(job->worker);
        if (!cancelled)
                return end_failed(job, class, result->reason, err);
        r = store_build_transition(job->worker->store, &job->build, BUILD_EVENT_CANCEL,
                                   result->reason, clock_wall_ms(), err);
        if (r == 0)
                job_log_end(job);
        return r;
}

static int end_successful(Job *job, Error *err)
{
        int r = store_build_transition(job->worker->store, &job->build, BUILD_EVENT_SUCCEED, NULL,
                                       clock_wall_ms(), err);

        job->worker->probing = false;
        worker_proved(job->worker);
        if (r == 0)
                job_log_end(job);
        return r;
}

void job_write_end(Job *job)
{
        Worker *worker = job->worker;
        Error err = ERROR_NONE;
        int r = worker_write(worker, &err);

        job->build.exit_code = job->result.exit_code;
        replace_string(&job->build.artifact, job->result.artifact);
        if (r == 0)
                r = job->result.succeeded ? end_successful(job, &err)
                                          : end_unsuccessful(job, &job->result, &err);
        if (r == 0 && job->cancelled)
                r = store_cancel_drop(worker->store, job->build.id, &err);
        if (r == 0) {
                if (job->stage == JOB_ENDED)
                        job->stage = JOB_WRITTEN;
                return;
        }
        worker->out_of_step = true;
        (void)error_prefix(&err, "the end of build %" PRId64 " is not in the journal",
                           job->build.id);
        worker_block(worker, err.text);
}

void job_refuse(Job *job, const char *reason)
{
        Worker *worker = job->worker;
        Error err = ERROR_NONE;
        int r = worker_write(worker, &err);

        free(job->build.failure);
        job->build.failure = failure_signature(FAILURE_TEMPLATE, reason);
        if (r == 0)
                r = give_up(job, reason, &err);
        if (r < 0) {
                worker->out_of_step = true;
                (void)error_prefix(&err, "build %" PRId64, job->build.id);
                worker_block(worker, err.text);
        }
        job_free(job);
}
