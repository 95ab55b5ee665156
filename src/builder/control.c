// What operators ask of a worker that runs: `packuilon cancel`, by a row in the journal and a touch
// of STATE_DIR/worker.wake; and SIGHUP, which reads the configuration again.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <systemd/sd-daemon.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/strutil.h"

// ---- cancel --------------------------------------------------------------------------------

// True if the request is dealt with. What runs keeps it until its end: see Job.cancelled.
static bool cancel(Worker *worker, int64_t id, const char *by)
{
        _cleanup_free_ char *reason = xasprintf("cancelled by %s", by);

        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->build.id != id)
                        continue;
                if (job->stage == JOB_RUNNING) {
                        job->cancelled = true;
                        packer_run_stop(job->run, reason);
                        return false;
                }
                if (job->stage == JOB_WAITING || job->stage == JOB_ASKING)
                        job_end(job, BUILD_EVENT_CANCEL, reason);
                return true;
        }
        log_info("build %" PRId64 " is over: there is nothing to cancel", id);
        return true;
}

static int cancel_all(Worker *worker, Error *err)
{
        int64_t id = 0;
        int r;

        for (;;) {
                _cleanup_free_ char *by = NULL;

                r = store_cancel_next(worker->store, id, &id, &by, err);
                if (r != 0)
                        return r < 0 ? r : 0;
                if (!cancel(worker, id, by))
                        continue;
                r = worker_write(worker, err);
                if (r == 0)
                        r = store_cancel_drop(worker->store, id, err);
                if (r < 0)
                        return r;
        }
}

void worker_take_requests(Worker *worker)
{
        Error err = ERROR_NONE;

        if (cancel_all(worker, &err) < 0)
                worker_block(worker, err.text); // they are looked for again when it is over
        worker_schedule(worker);
}

static int on_wake(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
        (void)source;
        (void)event;
        worker_take_requests(userdata);
        return 0;
}

// ---- reload --------------------------------------------------------------------------------

static void adopt(Worker *worker, Config *take_config)
{
        ConfigList *list = &worker->reloaded;

        list->items = xreallocarray(list->items, list->n + 1, sizeof(Config *));
        list->items[list->n++] = take_config;
        worker->config = take_config;
        worker->auth_loaded = false;
}

static int reload(Worker *worker, Error *err)
{
        _cleanup_config_ Config *config = NULL;
        int r = config_load(worker->config->path, &config, err);

        if (r == 0)
                r = config_require_build(config, err);
        if (r < 0)
                return r;
        if (strcmp(config->global.state_dir, worker->config->global.state_dir) != 0)
                return error_set(err, EINVAL, "%s: another STATE_DIR needs a restart",
                                 config->path);
        STRV_FOREACH (warning, config->warnings)
                log_warning("%s", *warning);
        r = fs_make_dirs(config->build.log_dir, 0750, err);
        if (r == 0)
                r = fs_make_dirs(config->build.build_file_dir, 0750, err);
        if (r < 0)
                return r;
        adopt(worker, TAKE_PTR(config));
        return worker_connect(worker, err);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        Worker *worker = userdata;
        Error err = ERROR_NONE;

        (void)source;
        (void)info;
        (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_ms() * 1000);
        if (reload(worker, &err) < 0)
                log_error("the configuration stays as it was: %s", err.text);
        else
                log_notice("the configuration was read again; running builds keep the old one");
        (void)sd_notify(0, "READY=1");
        if (!worker->consumer)
                return sd_event_exit(worker->event, 1);
        worker_schedule(worker);
        return 0;
}

int worker_listen(Worker *worker, Error *err)
{
        _cleanup_free_ char *path = fs_join(worker->config->global.state_dir, "worker.wake");
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
        int r;

        if (fd < 0)
                return error_sys(err, "cannot make %s", path);
        r = sd_event_add_inotify(worker->event, &worker->control, path, IN_CLOSE_WRITE, on_wake,
                                 worker);
        if (r >= 0)
                r = sd_event_add_signal(worker->event, &worker->sighup, SIGHUP, on_hangup, worker);
        return r < 0 ? error_set(err, -r, "cannot watch %s: %s", path, strerror(-r)) : 0;
}
