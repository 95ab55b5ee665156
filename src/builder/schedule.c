// A job's way from waiting to its end.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "builder/failure.h"
#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

// A time further off than any delay of ours was written before the clock was set back.
#define NOT_BEFORE_MAX_MS (2 * FAILURE_MAX_DELAY_SECONDS * 1000LL)

Job *job_new(Worker *worker)
{
        Job *job = xcalloc(1, sizeof *job), **end = &worker->jobs;

        job->worker = worker;
        job->build.exit_code = -1;
        while (*end)
                end = &(*end)->next;
        *end = job;
        return job;
}

void job_take_lease(Job *job)
{
        if (job->worker->leases)
                job->lease = leases_take_build(job->worker->leases, &job->build);
}

void job_free(Job *job)
{
        Job **at = &job->worker->jobs;

        while (*at && *at != job)
                at = &(*at)->next;
        if (*at)
                *at = job->next;
        if (job->run) {
                job->worker->n_running--;
                packer_run_free(job->run);
                job_forget_registration(job);
        }
        if (job->stage == JOB_ASKING)
                job->worker->n_asking--;
        if (job->lease)
                lease_unref(job->lease);
        build_done(&job->build);
        free(job->result_artifact);
        free(job->result_reason);
        free(job);
}

const char *job_name(const Job *job)
{
        return job->build.image ? job->build.image : job->build.personality;
}

bool build_same_target(const Build *a, const Build *b)
{
        return a->image && b->image && a->template && b->template &&
               strcmp(a->image, b->image) == 0 && strcmp(a->template, b->template) == 0;
}

// Also true of two images whose names differ in what a file name cannot hold: "a.b" and "a_b".
static bool share_build_file(const Build *a, const Build *b)
{
        _cleanup_free_ char *of_a = NULL, *of_b = NULL;

        if (!a->image || !b->image || !a->template || !b->template)
                return false;
        of_a = predecessor_target(a->image, a->template);
        of_b = predecessor_target(b->image, b->template);
        return strcmp(of_a, of_b) == 0;
}

static bool is_due(const Build *build)
{
        int64_t wait = build->not_before_ms - clock_wall_ms();

        return wait <= 0 || wait > NOT_BEFORE_MAX_MS;
}

bool job_can_start(const Job *job)
{
        const Worker *worker = job->worker;

        if (job->stage != JOB_WAITING || worker->draining || worker_is_blocked(worker) ||
            !worker_has_slot(worker) || !is_due(&job->build) ||
            (job->lease && !lease_is_proven(job->lease)) || !job_may_lock(job) ||
            predecessors_hold(worker->predecessors, job->build.image, job->build.template))
                return false;
        for (const Job *other = worker->jobs; other; other = other->next) {
                if ((other->run || other->stage == JOB_ASKING) &&
                    share_build_file(&job->build, &other->build))
                        return false;
        }
        return true;
}

// Writes a change of state of a job that does not run.
static bool transition(Job *job, BuildEvent event, const char *reason)
{
        Worker *worker = job->worker;
        Error err = ERROR_NONE;
        int r = worker_write(worker, &err);

        if (r == 0)
                r = store_build_transition(worker->store, &job->build, event, reason,
                                           clock_wall_ms(), &err);
        if (r == 0)
                return true;
        worker->out_of_step = true;
        (void)error_prefix(&err, "build %" PRId64, job->build.id);
        worker_block(worker, err.text);
        return false;
}

void job_end(Job *job, BuildEvent event, const char *reason)
{
        if (transition(job, event, reason))
                job_log_end(job);
        job_free(job);
}

void job_supersede_waiting(const Job *newer)
{
        for (Job *job = newer->worker->jobs, *next; job; job = next) {
                _cleanup_free_ char *reason = NULL;

                next = job->next;
                if (job == newer || job->stage != JOB_WAITING ||
                    !build_same_target(&job->build, &newer->build))
                        continue;
                reason = xasprintf("covered by build %" PRId64 ", which starts later",
                                   newer->build.id);
                job_end(job, BUILD_EVENT_SUPERSEDE, reason);
        }
}

// ---- while Packer runs ---------------------------------------------------------------------

// A phase is not worth waiting for a journal that cannot be written: others wait meanwhile.
static void on_phase(PackerRun *run, const char *phase, void *userdata)
{
        Job *job = userdata;
        Worker *worker = job->worker;
        Error err = ERROR_NONE;

        (void)run;
        job_watch_registration(job);
        if (job->abandoned || worker->out_of_step)
                return;
        if (worker_write(worker, &err) < 0) {
                worker->out_of_step = true;
                worker_block(worker, err.text);
        } else if (store_build_phase(worker->store, &job->build, phase, clock_wall_ms(), &err) <
                   0) {
                log_warning("build %" PRId64 ": phase %s is not in the history: %s", job->build.id,
                            phase, err.text);
        }
}

static void keep_result(Job *job, const PackerResult *result)
{
        replace_string(&job->result_artifact, result->artifact);
        replace_string(&job->result_reason, result->reason);
        job->result = *result;
        job->result.artifact = job->result_artifact;
        job->result.reason = job->result_reason;
}

static void on_end(PackerRun *run, const PackerResult *result, void *userdata)
{
        Job *job = userdata;
        Worker *worker = job->worker;

        if (!job->abandoned)
                keep_result(job, result);
        packer_run_free(run);
        job->run = NULL;
        job_forget_registration(job);
        worker->n_running--;
        job_unlock(job);
        if (!job->abandoned) {
                job->stage = JOB_ENDED;
                job_write_end(job);
        } else if (job->journalled) {
                job->abandoned = false;
                job->stage = JOB_WAITING;
        } else {
                job_free(job);
        }
        worker_schedule(worker);
}

// ---- starting ------------------------------------------------------------------------------

// Not the broker's own default, which is no secret but a word that any log may hold.
static void redact_queue_password(Worker *worker)
{
        const GlobalConfig *global = &worker->config->global;

        if (global->transport == TRANSPORT_AMQP &&
            strcmp(global->rabbit_pw, CONFIG_DEFAULT_PASSWORD) != 0)
                redactor_add(worker->redactor, global->rabbit_pw);
}

static int load_auth(Worker *worker, Error *err)
{
        const char *path = worker->config->build.auth_file;
        AuthEnv fresh;
        int r;

        if (!worker->auth_loaded)
                redact_queue_password(worker);
        if (!path || (worker->auth_loaded && !auth_env_is_stale(&worker->auth, path))) {
                worker->auth_loaded = true;
                return 0;
        }
        r = auth_file_read(path, &fresh, err);
        if (r < 0)
                return r;
        auth_env_done(&worker->auth);
        worker->auth = fresh;
        // Old secrets stay hidden: builds that know them may still run.
        auth_env_redact(&worker->auth, worker->redactor);
        worker->auth_loaded = true;
        return 0;
}

// What one build's journal row keeps of a plan that was made anew.
static void take_plan(Build *build, const BuildPlan *plan)
{
        replace_string(&build->os, plan->os);
        replace_string(&build->source_image, plan->source_image);
}

static bool uses_folder(const Worker *worker, unsigned folder)
{
        for (const Job *job = worker->jobs; job; job = job->next) {
                if (job->run && job->folder == folder)
                        return true;
        }
        return predecessors_use_folder(worker->predecessors, folder);
}

static unsigned free_folder(const Worker *worker)
{
        unsigned folder = 0;

        while (uses_folder(worker, folder))
                folder++;
        return folder;
}

static int run_packer(Job *job, const BuildPlan *plan, Error *err)
{
        static const PackerRunCallbacks callbacks = {on_phase, on_end};
        Worker *worker = job->worker;
        // The name by which it was queued, whatever IMAGE_NAME says by now: two builds of one image
        // are told by it.
        const TemplateValues values = {.name = job->build.image,
                                       .image = plan->source_image,
                                       .os = plan->os,
                                       .build_id = job->build.build_id,
                                       .identity = &plan->identity};
        const PackerRunSpec spec = {.config = worker->config,
                                    .auth = worker->config->build.auth_file ? &worker->auth : NULL,
                                    .redactor = worker->redactor,
                                    .folder = free_folder(worker),
                                    .template_path = job->build.template,
                                    .values = &values};
        int r = load_auth(worker, err);

        if (r < 0)
                return r;
        r = packer_run_start(worker->event, &spec, &callbacks, job, &job->run, err);
        if (r != 0)
                return r;
        worker->n_running++;
        job->stage = JOB_RUNNING;
        job->folder = spec.folder;
        job->build.pid = packer_run_pid(job->run);
        replace_string(&job->build.log_path, packer_run_log_path(job->run));
        return 0;
}

static void start_planned(Job *job, const BuildPlan *plan)
{
        Error err = ERROR_NONE;
        int r;

        take_plan(&job->build, plan);
        r = run_packer(job, plan, &err);
        if (r < 0) {
                worker_block(job->worker, err.text); // the job waits
                return;
        }
        if (r == PACKER_RUN_REFUSED) {
                _cleanup_free_ char *reason = redactor_text(job->worker->redactor, err.text);

                job_refuse(job, reason);
                return;
        }
        if (!transition(job, BUILD_EVENT_START, NULL)) {
                job->abandoned = true;
                packer_run_stop(job->run, "the journal could not be written");
                return;
        }
        log_info("build %" PRId64 " (%s): started, %s", job->build.id, job_name(job),
                 job->build.log_path);
        worker_proved(job->worker);
        job_supersede_waiting(job); // a retry, or what an earlier worker left
}

// A job that has waited, or was found in the journal: its message is read again.
static void start_waiting(Job *job)
{
        _cleanup_(build_plan_done) BuildPlan plan = {0};
        _cleanup_free_ char *body = NULL;
        Error err = ERROR_NONE;
        size_t body_len;
        int r = store_build_body(job->worker->store, job->build.id, &body, &body_len, &err);

        if (r == STORE_NOT_FOUND) {
                job_end(job, BUILD_EVENT_FAIL, "its message is no longer in the journal");
                return;
        }
        if (r == 0)
                r = build_plan_make(job->worker->config, body, body_len, &plan, &err);
        if (r < 0)
                worker_block(job->worker, err.text);
        else if (r == BUILD_PLAN_REJECTED)
                job_refuse(job, plan.reason);
        else if (r == BUILD_PLAN_SKIPPED)
                job_end(job, BUILD_EVENT_SKIP, plan.reason);
        else
                start_planned(job, &plan);
}

void job_begin(Job *job, const BuildPlan *plan)
{
        if (plan)
                start_planned(job, plan);
        else
                start_waiting(job);
}

// ---- what next -----------------------------------------------------------------------------

static Job *next_startable(Worker *worker)
{
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job_can_start(job))
                        return job;
        }
        return NULL;
}

static void start_next(Worker *worker)
{
        while (!worker->draining && !worker_is_blocked(worker) && worker_has_slot(worker)) {
                Job *job = next_startable(worker);

                if (job)
                        job_start(job, NULL);
                else if (worker->held.n)
                        worker_take_delivery(worker, delivery_list_pop(&worker->held));
                else
                        return;
        }
}

// Wakes when the first of the waiting jobs becomes due.
static void arm_retry_timer(Worker *worker)
{
        int64_t now = clock_wall_ms(), first = INT64_MAX;

        for (const Job *job = worker->jobs; job; job = job->next) {
                if (job->stage != JOB_WAITING)
                        continue;
                if (!is_due(&job->build))
                        first = MIN(first, job->build.not_before_ms - now);
        }
        if (first == INT64_MAX)
                (void)sd_event_source_set_enabled(worker->retry_timer, SD_EVENT_OFF);
        else
                timer_arm(worker->retry_timer, (uint64_t)MAX(first, 1) * 1000);
}

static void arm_hold_timer(Worker *worker)
{
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(worker->hold_timer, &enabled);
        if (!worker->held.n)
                (void)sd_event_source_set_enabled(worker->hold_timer, SD_EVENT_OFF);
        else if (enabled == SD_EVENT_OFF)
                timer_arm(worker->hold_timer, HOLD_SECONDS * USEC_PER_SECOND);
}

// Nothing is left to wait for. A build whose end is not on disk would be built once more.
static bool is_drained(const Worker *worker)
{
        if (!worker->draining || worker->n_running || worker->n_asking)
                return false;
        if (worker->stopping || worker->options.until_idle)
                return true;
        return !worker->out_of_step && !store_in_transaction(worker->store);
}

void worker_schedule(Worker *worker)
{
        start_next(worker);
        if (!worker->draining && !worker_is_blocked(worker) && worker_has_slot(worker))
                consumer_resume(worker->consumer);
        arm_hold_timer(worker);
        arm_retry_timer(worker);
        worker_say_status(worker);
        if (is_drained(worker))
                worker_exit(worker);
}
