// A job's way from waiting to over.
#include <errno.h>
#include <string.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

Job *job_new(Worker *worker)
{
        Job *job = xcalloc(1, sizeof *job), **end = &worker->jobs;

        job->worker = worker;
        job->build.exit_code = -1;
        job->predecessor_fd = -1;
        while (*end)
                end = &(*end)->next;
        *end = job;
        return job;
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
        }
        (void)sd_event_source_unref(job->predecessor);
        if (job->predecessor_fd >= 0)
                (void)close(job->predecessor_fd);
        build_done(&job->build);
        free(job);
}

static bool is_same_image(const Job *a, const Job *b)
{
        return a->build.image && b->build.image && strcmp(a->build.image, b->build.image) == 0 &&
               strcmp(a->build.template, b->build.template) == 0;
}

bool job_can_start(const Job *job)
{
        const Worker *worker = job->worker;

        if (job->run || job->discarded || job->predecessor || worker->draining ||
            worker_is_blocked(worker) || worker->n_running >= worker->config->build.slots)
                return false;
        for (const Job *other = worker->jobs; other; other = other->next) {
                if (other != job && (other->run || other->predecessor) && is_same_image(job, other))
                        return false;
        }
        return true;
}

static const char *job_name(const Job *job)
{
        return job->build.image ? job->build.image : job->build.personality;
}

// The one line an operator sees for each end.
static void log_end(const Job *job)
{
        const Build *build = &job->build;
        LogLevel level = build->state == BUILD_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO;

        log_write(level, "build %lld (%s): %s%s%s%s%s", (long long)build->id, job_name(job),
                  build_state_name(build->state), build->artifact ? ", artifact " : "",
                  build->artifact ? build->artifact : "", build->reason ? ": " : "",
                  build->reason ? build->reason : "");
}

// Writes a change of state. The journal's failure blocks the worker; what was not written is
// found unfinished at the next start and done again.
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
        (void)error_prefix(&err, "build %lld", (long long)job->build.id);
        worker_block(worker, err.text);
        return false;
}

void job_end(Job *job, BuildEvent event, const char *reason)
{
        if (transition(job, event, reason))
                log_end(job);
        job_free(job);
}

// ---- while Packer runs ---------------------------------------------------------------------

static void on_phase(PackerRun *run, const char *phase, void *userdata)
{
        Job *job = userdata;
        Error err = ERROR_NONE;

        (void)run;
        if (job->discarded)
                return;
        if (worker_write(job->worker, &err) < 0 ||
            store_build_phase(job->worker->store, &job->build, phase, clock_wall_ms(), &err) < 0)
                log_warning("build %lld: phase %s is not in the history: %s",
                            (long long)job->build.id, phase, err.text);
}

static void record_end(Job *job, const PackerResult *result)
{
        Error err = ERROR_NONE;
        Job *again;

        job->build.exit_code = result->exit_code;
        replace_string(&job->build.artifact, result->artifact);
        if (result->cancelled && job->worker->stopping) {
                if (worker_write(job->worker, &err) < 0 ||
                    worker_interrupt(job->worker, &job->build, result->reason, &again, &err) < 0)
                        log_error("build %lld: %s", (long long)job->build.id, err.text);
                else
                        log_end(job);
                return;
        }
        if (transition(job,
                       result->succeeded   ? BUILD_EVENT_SUCCEED
                       : result->cancelled ? BUILD_EVENT_CANCEL
                                           : BUILD_EVENT_FAIL,
                       result->reason))
                log_end(job);
}

static void on_end(PackerRun *run, const PackerResult *result, void *userdata)
{
        Job *job = userdata;
        Worker *worker = job->worker;

        if (!job->discarded)
                record_end(job, result);
        packer_run_free(run);
        job->run = NULL;
        worker->n_running--;
        job_free(job);
        worker_schedule(worker);
}

// ---- starting ------------------------------------------------------------------------------

static int load_auth(Worker *worker, Error *err)
{
        const char *path = worker->config->build.auth_file;
        AuthEnv fresh;
        int r;

        if (!worker->auth_loaded && worker->config->global.rabbit_pw)
                redactor_add(worker->redactor, worker->config->global.rabbit_pw);
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

static int run_packer(Job *job, const BuildPlan *plan, Error *err)
{
        static const PackerRunCallbacks callbacks = {on_phase, on_end};
        Worker *worker = job->worker;
        const TemplateValues values = {.name = plan->image,
                                       .image = plan->source_image,
                                       .os = plan->os,
                                       .build_id = job->build.build_id,
                                       .identity = &plan->identity};
        const PackerRunSpec spec = {.config = worker->config,
                                    .auth = worker->config->build.auth_file ? &worker->auth : NULL,
                                    .redactor = worker->redactor,
                                    .template_path = job->build.template,
                                    .values = &values};
        int r = load_auth(worker, err);

        if (r < 0)
                return r;
        r = packer_run_start(worker->event, &spec, &callbacks, job, &job->run, err);
        if (r != 0)
                return r;
        worker->n_running++;
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

                job_end(job, BUILD_EVENT_FAIL, reason);
                return;
        }
        if (!transition(job, BUILD_EVENT_START, NULL)) {
                packer_run_stop(job->run, "the journal could not be written");
                return;
        }
        log_info("build %lld (%s): started, %s", (long long)job->build.id, job_name(job),
                 job->build.log_path);
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
                job_end(job, BUILD_EVENT_FAIL, plan.reason);
        else if (r == BUILD_PLAN_SKIPPED)
                job_end(job, BUILD_EVENT_SKIP, plan.reason);
        else
                start_planned(job, &plan);
}

void job_start(Job *job, const BuildPlan *plan)
{
        if (plan)
                start_planned(job, plan);
        else
                start_waiting(job);
}
