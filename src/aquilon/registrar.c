#include "aquilon/registrar.h"

#include <errno.h>
#include <search.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "aquilon/nova_queue.h"
#include "aquilon/registrar_internal.h"
#include "core/host_name.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define PREFETCH 256 // journalled and acknowledged many at a time
#define COUNT_MS (10 * 1000)
#define PRUNE_MS (60 * 60 * 1000)
#define IDLE_CHECK_MS 100
#define IDLE_CHECKS 2 // a delivery may be on its way at the first
#define EXIT_WAIT_MS (10 * 1000)
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)

// ---- the turn's transaction ---------------------------------------------------------------

void registrar_broken(Registrar *registrar, const Error *err)
{
        log_error("cannot go on without the journal: %s", err->text);
        registrar->stopping = true;
        (void)sd_event_exit(registrar->event, 1);
}

void registrar_write(Registrar *registrar)
{
        Error err = ERROR_NONE;

        if (store_in_transaction(registrar->store))
                return;
        if (store_begin(registrar->store, &err) < 0)
                registrar_broken(registrar, &err);
        else
                (void)sd_event_source_set_enabled(registrar->commit, SD_EVENT_ONESHOT);
}

void registrar_save(Task *task, const char *what, const char *detail)
{
        Error err = ERROR_NONE;

        registrar_write(task->registrar);
        if (store_registration_save(task->registrar->store, &task->row, what, detail,
                                    clock_wall_ms(), &err) < 0)
                registrar_broken(task->registrar, &err);
}

void registrar_transition(Task *task, RegistrationEvent event)
{
        Error err = ERROR_NONE;

        registrar_write(task->registrar);
        if (store_registration_transition(task->registrar->store, &task->row, event,
                                          clock_wall_ms(), &err) < 0)
                registrar_broken(task->registrar, &err);
}

static int write_counts(Registrar *registrar, Error *err)
{
        int r = 0;

        for (size_t at = 0; at <= TYPES_MAX && r == 0; at++) {
                TypeCount *count = &registrar->counts[at];

                if (!count->n)
                        continue;
                r = store_notifications_count(registrar->store, count->type, count->n, err);
                count->n = 0;
        }
        registrar->counted = false;
        return r;
}

static void say_status(const Registrar *registrar)
{
        (void)sd_notifyf(0, "STATUS=%s%zu registrations at work, %zu to do",
                         registrar->stopping ? "stopping: " : "", registrar->n_running,
                         registrar->n_tasks - registrar->n_running);
}

static void settle(Registrar *registrar)
{
        for (size_t at = 0; at < registrar->n_unacked; at++)
                consumer_ack(registrar->consumer, registrar->unacked[at]);
        registrar->n_unacked = 0;
        if (registrar->paused && registrar->n_tasks <= TASKS_MAX / 2 && !registrar->stopping) {
                registrar->paused = false;
                consumer_resume(registrar->consumer);
        }
        say_status(registrar);
}

static int on_commit(sd_event_source *source, void *userdata)
{
        Registrar *registrar = userdata;
        Error err = ERROR_NONE;
        int r = write_counts(registrar, &err);

        (void)source;
        if (r == 0)
                r = store_commit(registrar->store, &err);
        if (r < 0)
                registrar_broken(registrar, &err);
        else
                settle(registrar);
        return 0;
}

// ---- tasks ---------------------------------------------------------------------------------

static int compare_tasks(const void *a, const void *b)
{
        return strcmp(((const Task *)a)->row.server, ((const Task *)b)->row.server);
}

Task *registrar_find(const Registrar *registrar, const char *server)
{
        char *key = xstrdup(server);
        const Task wanted = {.row.server = key};
        Task *const *found = tfind(&wanted, &registrar->tasks, compare_tasks);

        free(key);
        return found ? *found : NULL;
}

static TaskList *list_of(Registrar *registrar, TaskPlace place)
{
        TaskList *lists[] = {[TASK_READY] = &registrar->ready,
                             [TASK_RUNNING] = &registrar->running,
                             [TASK_DELAYED] = &registrar->delayed,
                             [TASK_TELLING] = &registrar->telling};

        return lists[place];
}

Task *task_new(Registrar *registrar, Registration *row, TaskPlace place)
{
        Task *task = xcalloc(1, sizeof *task);

        task->registrar = registrar;
        task->row = *row;
        *row = (Registration){0};
        task->place = place;
        TAILQ_INSERT_TAIL(list_of(registrar, place), task, link);
        if (!tsearch(task, &registrar->tasks, compare_tasks))
                log_error("out of memory");
        registrar->n_tasks++;
        return task;
}

void task_move(Task *task, TaskPlace place)
{
        Registrar *registrar = task->registrar;

        TAILQ_REMOVE(list_of(registrar, task->place), task, link);
        registrar->n_running -= task->place == TASK_RUNNING;
        registrar->n_running += place == TASK_RUNNING;
        task->place = place;
        TAILQ_INSERT_TAIL(list_of(registrar, place), task, link);
}

void task_read_notice(Task *task)
{
        Error err = ERROR_NONE;

        if (!task->notification.server &&
            notification_decode(task->row.notice, strlen(task->row.notice), &task->notification,
                                &err) != 0)
                return;
        // What may be missing is said when a registration begins.
        if (request_from_notification(&task->notification, task->registrar->aquilon, &task->request,
                                      &err) < 0)
                return;
}

void task_free(Task *task)
{
        Registrar *registrar = task->registrar;

        if (registrar->nova)
                nova_forget(registrar->nova, task);
        (void)tdelete(task, &registrar->tasks, compare_tasks);
        TAILQ_REMOVE(list_of(registrar, task->place), task, link);
        registrar->n_running -= task->place == TASK_RUNNING;
        registrar->n_tasks--;
        notification_done(&task->notification);
        request_done(&task->request);
        registration_done(&task->row);
        free(task->old_host);
        free(task->old_address);
        free(task);
}

// What an earlier run left.
static int on_open_row(const Registration *row, void *userdata)
{
        Registrar *registrar = userdata;
        bool busy = registration_state_is_busy(row->state);
        Registration copy = *row;
        Task *task;

        copy.server = xstrdup(row->server);
        copy.name = xstrdup(row->name);
        copy.build_id = xstrdup(row->build_id);
        copy.personality = xstrdup(row->personality);
        copy.address = xstrdup(row->address);
        copy.host = xstrdup(row->host);
        copy.machine = xstrdup(row->machine);
        copy.old_machine = xstrdup(row->old_machine);
        copy.reason = xstrdup(row->reason);
        copy.notice = xstrdup(row->notice ? row->notice : "");
        task = task_new(registrar, &copy, busy ? TASK_READY : TASK_TELLING);
        task_read_notice(task);
        task->unsure = true;
        return 0;
}

static int resume(Registrar *registrar, Error *err)
{
        static const RegistrationFilter open_ones = {.only_open = true};
        Task *task, *next;
        int r = store_registrations_each(registrar->store, &open_ones, on_open_row, registrar, err);

        if (r < 0)
                return r;
        if (registrar->n_tasks)
                log_notice("going on with %zu registrations", registrar->n_tasks);
        for (task = TAILQ_FIRST(&registrar->telling); task; task = next) {
                next = TAILQ_NEXT(task, link);
                registrar_tell(task);
        }
        registrar_schedule(registrar);
        return 0;
}

// ---- signals and timers -------------------------------------------------------------------

void registrar_arm(sd_event_source *timer, int64_t ms)
{
        (void)sd_event_source_set_time_relative(timer, (uint64_t)ms * 1000);
        (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

void registrar_exit_if_done(Registrar *registrar)
{
        // The turn's commit comes first: exit is an event of its own.
        if (registrar->stopping && !registrar->n_running)
                registrar_arm(registrar->exit_timer, 0);
}

static int on_exit_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Registrar *registrar = userdata;

        (void)source;
        (void)usec;
        if (store_in_transaction(registrar->store))
                (void)on_commit(registrar->commit, registrar);
        return sd_event_exit(registrar->event, 0);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
        Registrar *registrar = userdata;

        (void)source;
        (void)info;
        if (registrar->stopping) {
                registrar_arm(registrar->exit_timer, 0);
                return 0;
        }
        registrar->stopping = true;
        log_notice("stopping when %zu requests have their answers; the rest goes on at the next "
                   "start",
                   registrar->n_running);
        (void)sd_notify(0, "STOPPING=1");
        consumer_pause(registrar->consumer);
        registrar_arm(registrar->exit_timer, EXIT_WAIT_MS);
        registrar_exit_if_done(registrar);
        return 0;
}

static int on_count_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Registrar *registrar = userdata;

        (void)usec;
        if (registrar->counted)
                registrar_write(registrar);
        registrar_arm(source, COUNT_MS);
        return 0;
}

static int on_prune_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Registrar *registrar = userdata;
        int64_t keep_ms = registrar->aquilon->keep_days * DAY_MS;
        Error err = ERROR_NONE;

        (void)usec;
        registrar_write(registrar);
        if (keep_ms > 0 &&
            store_registrations_prune(registrar->store, clock_wall_ms() - keep_ms, &err) < 0)
                registrar_broken(registrar, &err);
        registrar_arm(source, PRUNE_MS);
        return 0;
}

static bool queue_is_empty(const Registrar *registrar)
{
        Error err = ERROR_NONE;
        int64_t ready = -1;

        return queue_probe(&registrar->nova_config, &ready, &err) >= 0 && ready <= 0;
}

static int on_idle_check(sd_event_source *source, uint64_t usec, void *userdata)
{
        Registrar *registrar = userdata;

        (void)usec;
        if (registrar->n_tasks || registrar->n_unacked || !registrar->connected ||
            store_in_transaction(registrar->store) || !queue_is_empty(registrar)) {
                registrar->idle_checks = 0;
        } else if (++registrar->idle_checks >= IDLE_CHECKS) {
                registrar->stopping = true;
                registrar_write(registrar); // the counts
                registrar_exit_if_done(registrar);
                return 0;
        }
        registrar_arm(source, IDLE_CHECK_MS);
        return 0;
}

// ---- life ---------------------------------------------------------------------------------

static int add_timer(Registrar *registrar, sd_event_time_handler_t handler, sd_event_source **ret)
{
        int r = sd_event_add_time(registrar->event, ret, CLOCK_MONOTONIC, 0, 1000, handler,
                                  registrar);

        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_sources(Registrar *registrar, Error *err)
{
        int r = sd_event_add_signal(registrar->event, &registrar->sigterm, SIGTERM, on_stop_signal,
                                    registrar);

        if (r >= 0)
                r = sd_event_add_signal(registrar->event, &registrar->sigint, SIGINT,
                                        on_stop_signal, registrar);
        if (r >= 0)
                r = sd_event_add_defer(registrar->event, &registrar->commit, on_commit, registrar);
        // Whatever else is ready goes first, so that one commit serves it all.
        if (r >= 0)
                r = sd_event_source_set_priority(registrar->commit, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_source_set_enabled(registrar->commit, SD_EVENT_OFF);
        if (r >= 0)
                r = add_timer(registrar, registrar_on_wake, &registrar->wake);
        if (r >= 0)
                r = add_timer(registrar, on_count_time, &registrar->count_timer);
        if (r >= 0)
                r = add_timer(registrar, on_prune_time, &registrar->prune_timer);
        if (r >= 0)
                r = add_timer(registrar, on_idle_check, &registrar->idle_timer);
        if (r >= 0)
                r = add_timer(registrar, on_exit_time, &registrar->exit_timer);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

static int open_state(Registrar *registrar, Error *err)
{
        const char *state_dir = registrar->config->global.state_dir;
        _cleanup_free_ char *lock_path = fs_join(state_dir, "registrar.lock");
        int r = fs_make_dirs(state_dir, 0750, err);

        if (r == 0)
                r = fs_lock(lock_path, &registrar->lock_fd, err);
        if (r == FS_LOCKED)
                return error_set(err, EBUSY, "another nova2aquilon works on %s (it holds %s)",
                                 state_dir, lock_path);
        return r < 0 ? r
                     : store_open(state_dir, STORE_REGISTRATIONS, STORE_READ_WRITE,
                                  &registrar->store, err);
}

static int open_neighbours(Registrar *registrar, Error *err)
{
        const AquilonConfig *aquilon = registrar->aquilon;
        int r = broker_new(aquilon, registrar->event, registrar_on_answer, registrar,
                           &registrar->broker, err);

        if (r == 0 && strcmp(aquilon->host_name, HOST_NAME_FROM_DNS) == 0)
                r = resolver_new(registrar->event, aquilon->dns_servers, &registrar->resolver, err);
        if (r == 0 && aquilon->auth_file)
                r = nova_new(aquilon->auth_file, registrar->event, &registrar->nova, err);
        if (r == 0)
                r = consumer_new_bound(&registrar->nova_config, registrar->event, PREFETCH,
                                       &registrar->binding, &registrar_consumer_callbacks,
                                       registrar, &registrar->consumer, err);
        return r;
}

int registrar_new(const Config *config, const RegistrarOptions *options, sd_event *event,
                  Registrar **ret, Error *err)
{
        _cleanup_(registrar_free_p) Registrar *registrar = xcalloc(1, sizeof *registrar);
        int r;

        *registrar = (Registrar){.config = config,
                                 .aquilon = &config->aquilon,
                                 .options = *options,
                                 .event = sd_event_ref(event),
                                 .lock_fd = -1,
                                 .nova_config = nova_queue_config(config),
                                 .binding = {.exchange = config->aquilon.exchange,
                                             .routing_key = config->aquilon.routing_key,
                                             .durable = config->aquilon.durable},
                                 .started_ms = clock_wall_ms()};
        TAILQ_INIT(&registrar->ready);
        TAILQ_INIT(&registrar->running);
        TAILQ_INIT(&registrar->delayed);
        TAILQ_INIT(&registrar->telling);
        r = open_state(registrar, err);
        if (r == 0)
                r = add_sources(registrar, err);
        if (r == 0)
                r = open_neighbours(registrar, err);
        if (r == 0)
                r = resume(registrar, err);
        if (r < 0)
                return r;
        registrar_arm(registrar->count_timer, COUNT_MS);
        registrar_arm(registrar->prune_timer, 0);
        if (options->until_idle)
                registrar_arm(registrar->idle_timer, IDLE_CHECK_MS);
        *ret = TAKE_PTR(registrar);
        return 0;
}

static void free_tasks(TaskList *list)
{
        Task *task, *next;

        for (task = TAILQ_FIRST(list); task; task = next) {
                next = TAILQ_NEXT(task, link);
                task_free(task);
        }
}

void registrar_free(Registrar *registrar)
{
        sd_event_source **sources[] = {&registrar->sigterm,     &registrar->sigint,
                                       &registrar->commit,      &registrar->wake,
                                       &registrar->count_timer, &registrar->prune_timer,
                                       &registrar->idle_timer,  &registrar->exit_timer};

        // Their callbacks know the tasks.
        if (registrar->broker)
                broker_free(registrar->broker);
        if (registrar->resolver)
                resolver_free(registrar->resolver);
        free_tasks(&registrar->ready);
        free_tasks(&registrar->running);
        free_tasks(&registrar->delayed);
        free_tasks(&registrar->telling);
        if (registrar->nova)
                nova_free(registrar->nova);
        for (size_t at = 0; at < registrar->n_unacked; at++)
                delivery_free(registrar->unacked[at]);
        free(registrar->unacked);
        if (registrar->consumer)
                consumer_free(registrar->consumer);
        for (size_t at = 0; at <= TYPES_MAX; at++)
                free(registrar->counts[at].type);
        for (size_t at = 0; at < ELEMENTSOF(sources); at++)
                (void)sd_event_source_disable_unref(*sources[at]);
        if (registrar->store)
                store_close(registrar->store);
        if (registrar->lock_fd >= 0)
                (void)close(registrar->lock_fd);
        (void)sd_event_unref(registrar->event);
        free(registrar);
}
