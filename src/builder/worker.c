#include "builder/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "builder/log_keeper.h"
#include "builder/packer_workspace.h"
#include "builder/registration_watch.h"
#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define IDLE_CHECK_USEC 100000ULL
#define OUTBOX_CHECK_USEC USEC_PER_SECOND
#define EXIT_CHECK_USEC 10000ULL
#define STATUS_EVERY_USEC (USEC_PER_SECOND / 5) // at most: it is for people
#define STATUS_ACCURACY_USEC 1000
#define IDLE_CHECKS 2 // a delivery may be on its way at the first
#define LOCK_WAIT_MS 2000
#define LOCK_RETRY_USEC 20000
#define KEEP_SECONDS (6 * 3600ULL)

static void requeue_all(Worker *worker, DeliveryList *list)
{
        for (size_t at = 0; at < list->n; at++)
                consumer_requeue(worker->consumer, list->items[at]);
        list->n = 0;
}

void timer_arm(sd_event_source *timer, uint64_t usec)
{
        uint64_t now = 0;

        (void)sd_event_now(sd_event_source_get_event(timer), CLOCK_MONOTONIC, &now);
        (void)sd_event_source_set_time(timer, now + usec);
        (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

// ---- the turn's transaction ---------------------------------------------------------------

int worker_write(Worker *worker, Error *err)
{
        int r;

        if (store_in_transaction(worker->store))
                return 0;
        r = store_begin(worker->store, err);
        if (r == 0)
                (void)sd_event_source_set_enabled(worker->commit, SD_EVENT_ONESHOT);
        return r;
}

void worker_undo_turn(Worker *worker, const Error *why)
{
        store_rollback(worker->store);
        requeue_all(worker, &worker->journal);
        for (Job *job = worker->jobs, *next; job; job = next) {
                next = job->next;
                if (job->stage == JOB_WRITTEN)
                        job->stage = JOB_ENDED;
                if (job->journalled)
                        continue;
                if (job->run) {
                        job->abandoned = true;
                        job->build.id = 0; // another row's, from now on
                        packer_run_stop(job->run, "the journal could not be written");
                } else {
                        job_free(job);
                }
        }
        worker->out_of_step = true;
        worker_block(worker, why->text);
}

// The turn's writes are on disk.
static void settle(Worker *worker)
{
        Delivery *delivery;

        for (Job *job = worker->jobs, *next; job; job = next) {
                next = job->next;
                if (!job->abandoned) // its row was undone, or was there before
                        job->journalled = true;
                if (job->stage == JOB_WRITTEN)
                        job_free(job);
        }
        while ((delivery = delivery_list_pop(&worker->journal))) {
                if (worker->leases)
                        leases_ack(worker->leases, delivery);
                else
                        consumer_ack(worker->consumer, delivery);
        }
        // Else some jobs are not there, and their leases would be taken for done with.
        if (worker->leases && !worker->out_of_step)
                leases_committed(worker->leases);
        outbox_send(worker);
        if (worker->resynced && !worker->out_of_step) {
                worker->resynced = false;
                worker_proved(worker);
        }
}

static int commit(Worker *worker, Error *err)
{
        int r = worker->leases ? leases_write(worker->leases, err) : 0;

        return r < 0 ? r : store_commit(worker->store, err);
}

void worker_commit(Worker *worker)
{
        Error err = ERROR_NONE;

        if (!store_in_transaction(worker->store))
                return;
        if (commit(worker, &err) < 0) {
                (void)error_prefix(&err, "cannot write the journal");
                worker_undo_turn(worker, &err);
        } else {
                settle(worker);
        }
        if (worker->draining)
                worker_schedule(worker);
}

static int on_commit(sd_event_source *source, void *userdata)
{
        (void)source;
        worker_commit(userdata);
        return 0;
}

// ---- flow ---------------------------------------------------------------------------------

static int on_status_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;
        bool blocked = worker_is_blocked(worker);
        _cleanup_free_ char *status = NULL;
        size_t waiting = 0;

        (void)source;
        (void)usec; // what it was set for, which may be long ago
        for (const Job *job = worker->jobs; job; job = job->next)
                waiting += job->stage == JOB_WAITING;
        status = xasprintf("STATUS=%s%u of %u slots building, %zu waiting%s%s",
                           worker->draining ? "draining: " : "", worker->n_running,
                           worker->config->build.slots, waiting, blocked ? "; stopped: " : "",
                           blocked ? worker->block_reason : "");
        (void)sd_event_now(worker->event, CLOCK_MONOTONIC, &worker->status_usec);
        if (worker->status && strcmp(worker->status, status) == 0)
                return 0;
        (void)sd_notify(0, status);
        free(worker->status);
        worker->status = TAKE_PTR(status);
        return 0;
}

void worker_say_status(const Worker *worker)
{
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(worker->status_timer, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;
        (void)sd_event_source_set_time(worker->status_timer,
                                       worker->status_usec + STATUS_EVERY_USEC);
        (void)sd_event_source_set_enabled(worker->status_timer, SD_EVENT_ONESHOT);
}

void worker_block(Worker *worker, const char *reason)
{
        if (!worker_is_blocked(worker))
                worker->block_seconds =
                        MIN(worker->block_seconds ? 2 * worker->block_seconds
                                                  : worker->config->build.retry_seconds,
                            BLOCK_MAX_SECONDS);
        if (!worker->block_reason || strcmp(worker->block_reason, reason) != 0)
                log_error("taking no builds until this is mended (next try in %lld s): %s",
                          (long long)worker->block_seconds, reason);
        replace_string(&worker->block_reason, reason);
        requeue_all(worker, &worker->held);
        if (worker->consumer) // not yet, at the start
                consumer_pause(worker->consumer);
        timer_arm(worker->block_timer, (uint64_t)worker->block_seconds * USEC_PER_SECOND);
        worker_say_status(worker);
        if (!worker->options.until_idle)
                return;
        // It would never be idle.
        worker->exit_code = 1;
        worker->draining = true;
        if (!worker->n_running && !worker->n_asking)
                worker_exit(worker);
}

void worker_proved(Worker *worker)
{
        if (!worker->block_reason || worker->probing)
                return;
        log_notice("taking builds again");
        free(TAKE_PTR(worker->block_reason));
        worker->block_seconds = 0;
}

static int on_block_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;
        Error err = ERROR_NONE;

        (void)source;
        (void)usec;
        if (worker->out_of_step) {
                worker->resynced = worker_resync(worker, &err) == 0;
                if (!worker->resynced)
                        worker_block(worker, err.text);
        }
        worker_take_requests(worker);
        return 0;
}

static int on_hold_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;

        (void)source;
        (void)usec;
        log_debug("all slots are busy: %zu deliveries go back to the queue", worker->held.n);
        requeue_all(worker, &worker->held);
        consumer_pause(worker->consumer);
        return 0;
}

bool worker_is_blocked(const Worker *worker)
{
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(worker->block_timer, &enabled);
        return enabled != SD_EVENT_OFF;
}

bool worker_has_slot(const Worker *worker)
{
        if (worker->image_locks && !image_locks_are_settled(worker->image_locks))
                return false;
        return worker->n_running + worker->n_asking <
               (worker->probing ? 1 : worker->config->build.slots);
}

// ---- signals and timers -------------------------------------------------------------------

static void stop_builds(Worker *worker)
{
        worker->stopping = true;
        log_notice("stopping %u builds", worker->n_running);
        for (Job *job = worker->jobs; job; job = job->next) {
                if (job->run)
                        packer_run_stop(job->run, "rabbit2packer was stopped");
        }
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
        Worker *worker = userdata;

        (void)source;
        (void)info;
        if (worker->draining) {
                stop_builds(worker);
                worker_schedule(worker);
                return 0;
        }
        worker->draining = true;
        log_notice("draining: %u builds run to their end, no more are taken (a second signal "
                   "stops them)",
                   worker->n_running);
        (void)sd_notify(0, "STOPPING=1");
        consumer_pause(worker->consumer);
        requeue_all(worker, &worker->held);
        worker_schedule(worker);
        return 0;
}

static int on_retry_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        worker_schedule(userdata);
        return 0;
}

static bool queue_is_empty(Worker *worker)
{
        Error err = ERROR_NONE;
        int64_t ready = -1;
        int r = worker->config->global.transport == TRANSPORT_LOCAL
                        ? store_queue_count(worker->store, worker->config->global.queue, &ready,
                                            &err)
                        : queue_probe(worker->config, &ready, &err);

        return r >= 0 && ready <= 0;
}

static bool is_busy_with_broker(const Worker *worker)
{
        return worker->connected &&
               ((worker->leases && leases_busy(worker->leases)) ||
                (worker->image_locks && image_locks_busy(worker->image_locks)) ||
                worker->outbox_waiting || worker->outbox_unconfirmed);
}

static int on_exit_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;

        (void)usec;
        if (clock_mono_ms() < worker->exit_ms &&
            (store_in_transaction(worker->store) || is_busy_with_broker(worker))) {
                timer_arm(source, EXIT_CHECK_USEC);
                return 0;
        }
        return sd_event_exit(worker->event, worker->exit_code);
}

void worker_exit(Worker *worker)
{
        if (worker->exit_ms)
                return;
        worker->exit_ms = clock_mono_ms() + EXIT_SECONDS * 1000LL;
        timer_arm(worker->exit_timer, 0);
}

static int on_outbox_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;

        (void)usec;
        if (worker->outbox_unconfirmed)
                timer_arm(source, OUTBOX_CHECK_USEC);
        else
                outbox_restart(worker);
        return 0;
}

static int on_idle_check(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;

        (void)usec;
        if (worker->jobs || worker->held.n || worker->journal.n || !worker->connected ||
            is_busy_with_broker(worker) || !queue_is_empty(worker))
                worker->idle_checks = 0;
        else if (++worker->idle_checks >= IDLE_CHECKS)
                return sd_event_exit(worker->event, 0);
        timer_arm(source, IDLE_CHECK_USEC);
        return 0;
}

static int on_keep_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Worker *worker = userdata;
        Error err = ERROR_NONE;
        size_t removed = 0;

        (void)usec;
        if (log_keeper_run(worker->config->build.log_dir, worker->config->build.log_keep_days,
                           &removed, &err) < 0)
                log_warning("%s", err.text);
        else if (removed)
                log_info("removed %zu build logs older than %lld days (LOG_KEEP_DAYS)", removed,
                         (long long)worker->config->build.log_keep_days);
        timer_arm(source, KEEP_SECONDS * USEC_PER_SECOND);
        return 0;
}

// ---- life ---------------------------------------------------------------------------------

static int add_timer(Worker *worker, sd_event_time_handler_t handler, sd_event_source **ret)
{
        int r = sd_event_add_time(worker->event, ret, CLOCK_MONOTONIC, 0, 0, handler, worker);

        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_sources(Worker *worker, Error *err)
{
        int r = sd_event_add_signal(worker->event, &worker->sigterm, SIGTERM, on_stop_signal,
                                    worker);

        if (r >= 0)
                r = sd_event_add_signal(worker->event, &worker->sigint, SIGINT, on_stop_signal,
                                        worker);
        if (r >= 0)
                r = sd_event_add_defer(worker->event, &worker->commit, on_commit, worker);
        // Whatever else is ready goes first, so that one commit serves it all.
        if (r >= 0)
                r = sd_event_source_set_priority(worker->commit, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_source_set_enabled(worker->commit, SD_EVENT_OFF);
        if (r >= 0)
                r = add_timer(worker, on_hold_over, &worker->hold_timer);
        if (r >= 0)
                r = add_timer(worker, on_block_over, &worker->block_timer);
        if (r >= 0)
                r = add_timer(worker, on_retry_time, &worker->retry_timer);
        if (r >= 0)
                r = add_timer(worker, on_idle_check, &worker->idle_timer);
        if (r >= 0)
                r = add_timer(worker, on_keep_time, &worker->keep_timer);
        if (r >= 0)
                r = add_timer(worker, on_outbox_time, &worker->outbox_timer);
        if (r >= 0)
                r = add_timer(worker, on_exit_time, &worker->exit_timer);
        if (r >= 0)
                r = sd_event_add_time(worker->event, &worker->status_timer, CLOCK_MONOTONIC, 0,
                                      STATUS_ACCURACY_USEC, on_status_time, worker);
        if (r >= 0)
                r = sd_event_source_set_enabled(worker->status_timer, SD_EVENT_OFF);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

static int make_dirs(const Config *config, Error *err)
{
        const char *const dirs[] = {config->global.state_dir, config->build.log_dir,
                                    config->build.build_file_dir};

        for (size_t at = 0; at < ELEMENTSOF(dirs); at++) {
                int r = fs_make_dirs(dirs[at], 0750, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int lock_state(Worker *worker, Error *err)
{
        _cleanup_free_ char *path = fs_join(worker->config->global.state_dir, "worker.lock");
        int64_t deadline = clock_mono_ms() + LOCK_WAIT_MS;
        int r = fs_lock(path, &worker->lock_fd, err);

        // A worker that was killed while it started Packer: its child has the lock until it is
        // Packer.
        while (r == FS_LOCKED && clock_mono_ms() < deadline) {
                (void)usleep(LOCK_RETRY_USEC);
                r = fs_lock(path, &worker->lock_fd, err);
        }
        if (r == FS_LOCKED)
                return error_set(err, EBUSY,
                                 "another rabbit2packer works in %s (it holds %s); give this one "
                                 "its own STATE_DIR or stop the other",
                                 worker->config->global.state_dir, path);
        return r;
}

static void on_predecessor_gone(const char *target, void *userdata)
{
        Worker *worker = userdata;

        if (worker->image_locks && !predecessors_hold_target(worker->predecessors, target))
                image_locks_leave(worker->image_locks, target);
        worker_schedule(worker);
}

static int start(Worker *worker, Error *err)
{
        const Config *config = worker->config;
        int r = make_dirs(config, err);

        if (r == 0)
                r = lock_state(worker, err);
        if (r == 0)
                r = store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_WRITE,
                               &worker->store, err);
        if (r == 0)
                r = predecessors_find(worker->event, config->global.state_dir,
                                      config->build.stop_grace_seconds, on_predecessor_gone, worker,
                                      &worker->predecessors, err);
        if (r == 0)
                r = add_sources(worker, err);
        if (r == 0)
                r = worker_listen(worker, err);
        if (r == 0 && config->global.transport == TRANSPORT_AMQP)
                r = worker_open_leases(worker, err);
        if (r == 0 && config->global.transport == TRANSPORT_AMQP)
                r = worker_open_locks(worker, err);
        if (r == 0)
                r = worker_recover(worker, err);
        if (r == 0)
                r = worker_connect(worker, err);
        if (r < 0)
                return r;
        worker_take_requests(worker);
        timer_arm(worker->keep_timer, 0);
        if (worker->options.until_idle)
                timer_arm(worker->idle_timer, IDLE_CHECK_USEC);
        worker_schedule(worker);
        return 0;
}

int worker_new(const Config *config, const WorkerOptions *options, sd_event *event, Worker **ret,
               Error *err)
{
        _cleanup_(worker_free_p) Worker *worker = xcalloc(1, sizeof *worker);
        int r;

        worker->config = config;
        worker->options = *options;
        worker->event = sd_event_ref(event);
        worker->lock_fd = -1;
        worker->redactor = redactor_new();
        r = start(worker, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(worker);
        return 0;
}

void worker_free(Worker *worker)
{
        sd_event_source **sources[] = {
                &worker->sigterm,      &worker->sigint,     &worker->sighup,
                &worker->commit,       &worker->hold_timer, &worker->block_timer,
                &worker->retry_timer,  &worker->idle_timer, &worker->keep_timer,
                &worker->outbox_timer, &worker->exit_timer, &worker->control,
                &worker->status_timer};

        // What the broker has just answered is worth a last commit.
        if (worker->leases && worker->commit && worker_write(worker, NULL) < 0)
                log_debug("the last answers of the broker are not noted");
        if (worker->store && worker->commit)
                worker_commit(worker);
        while (worker->jobs)
                job_free(worker->jobs);
        delivery_list_done(&worker->held);
        delivery_list_done(&worker->journal);
        if (worker->image_locks)
                image_locks_give_up(worker->image_locks);
        if (worker->consumer)
                consumer_free(worker->consumer);
        if (worker->leases)
                leases_free(worker->leases);
        if (worker->image_locks)
                image_locks_free(worker->image_locks);
        for (size_t at = 0; at < ELEMENTSOF(sources); at++)
                (void)sd_event_source_unref(*sources[at]);
        if (worker->registrations)
                registration_watch_free(worker->registrations);
        if (worker->predecessors)
                predecessors_free(worker->predecessors);
        if (worker->store)
                store_close(worker->store);
        if (worker->lock_fd >= 0) {
                packer_workspace_tidy(worker->config->global.state_dir);
                (void)close(worker->lock_fd);
        }
        auth_env_done(&worker->auth);
        redactor_free(worker->redactor);
        free(worker->block_reason);
        free(worker->status);
        for (size_t at = 0; at < worker->reloaded.n; at++)
                config_free(worker->reloaded.items[at]);
        free(worker->reloaded.items);
        (void)sd_event_unref(worker->event);
        free(worker);
}
