// What the worker does for the registration of its builds' servers with Aquilon: it goes into the
// history, and one that has failed ends the build.
#include "builder/registration_asker.h"
#include "builder/registration_watch.h"
#include "builder/worker_internal.h"
#include "util/child.h"
#include "util/log.h"

static void on_registration(bool failed, const char *text, void *userdata)
{
        Job *job = userdata;
        Worker *worker = job->worker;
        Error err = ERROR_NONE;

        if (job->abandoned || worker->out_of_step || !job->run)
                return;
        if (worker_write(worker, &err) < 0) {
                worker->out_of_step = true;
                worker_block(worker, err.text);
        } else if (store_build_note(worker->store, &job->build, "registration", text,
                                    clock_wall_ms(), &err) < 0) {
                log_warning("build %lld: not in the history: %s: %s", (long long)job->build.id,
                            text, err.text);
        }
        if (failed)
                packer_run_fail(job->run, text);
}

void job_watch_registration(Job *job)
{
        Worker *worker = job->worker;
        const BuildConfig *config = &worker->config->build;
        const char *server = job->run ? packer_run_server(job->run) : NULL;

        if (!server || !config->auth_file || !config->status_seconds)
                return;
        if (!worker->registrations) {
                _cleanup_free_ char *helper = child_own_program(REGISTRATION_HELPER);

                worker->registrations =
                        registration_watch_new(worker->event, helper, on_registration);
        }
        if (!registration_watch_has(worker->registrations, job))
                registration_watch_begin(worker->registrations, config->auth_file,
                                         config->status_seconds, server, job);
}

void job_forget_registration(const Job *job)
{
        if (job->worker->registrations)
                registration_watch_end(job->worker->registrations, job);
}
