// The steps of many registrations at once: PARALLEL tasks run, each with one call on its way.
//
// Task that have one host name do not run at the same time: an address goes from a server that is
// being deleted to a new one, and then the deletion of the old record must not take the new one.
#include <errno.h>
#include <string.h>

#include "aquilon/registrar_internal.h"
#include "core/host_name.h"
#include "util/alloc.h"
#include "util/backoff.h"
#include "util/clock.h"
#include "util/log.h"

#define BACKOFF_MAX_MS (60 * 1000)
#define HOST_BUSY_MS 200
#define CALLS_MAX 64 // in one go: then the broker contradicts itself

static void start_step(Task *task);

// ---- waiting ------------------------------------------------------------------------------

int64_t registrar_backoff_ms(const Task *task)
{
        return backoff_ms(task->registrar->aquilon->retry_seconds * 1000, BACKOFF_MAX_MS,
                          task->row.attempt);
}

// While we did not run nothing was tried.
bool registrar_is_late(const Registrar *registrar, int64_t since_ms)
{
        int64_t since = MAX(since_ms, registrar->started_ms);

        return clock_wall_ms() - since >= registrar->aquilon->retry_for_seconds * 1000;
}

static void arm_wake(Registrar *registrar)
{
        int64_t first = INT64_MAX;
        Task *task;

        TAILQ_FOREACH(task, &registrar->delayed, link)
        first = MIN(first, task->row.not_before_ms);
        if (first != INT64_MAX)
                registrar_arm(registrar->wake, MAX(first - clock_wall_ms(), 1));
}

void registrar_delay(Task *task, int64_t ms)
{
        task->row.not_before_ms = clock_wall_ms() + ms;
        task_move(task, TASK_DELAYED);
        arm_wake(task->registrar);
}

int registrar_on_wake(sd_event_source *source, uint64_t usec, void *userdata)
{
        Registrar *registrar = userdata;
        int64_t now_ms = clock_wall_ms();
        Task *task, *next;

        (void)source;
        (void)usec;
        for (task = TAILQ_FIRST(&registrar->delayed); task; task = next) {
                next = TAILQ_NEXT(task, link);
                if (task->row.not_before_ms > now_ms)
                        continue;
                if (registration_state_is_busy(task->row.state)) {
                        task_move(task, TASK_READY);
                } else {
                        task_move(task, TASK_TELLING);
                        registrar_tell(task);
                }
        }
        arm_wake(registrar);
        registrar_schedule(registrar);
        return 0;
}

// ---- the end of a task's run ---------------------------------------------------------------

static const char *shown_name(const Task *task)
{
        return task->row.name ? task->row.name : "no name";
}

static void log_end(const Task *task)
{
        const Registration *row = &task->row;

        switch (row->state) {
        case REGISTRATION_REGISTERED:
                log_info("server %s (%s) is registered: host %s, machine %s, personality %s",
                         row->server, shown_name(task), row->host, row->machine, row->personality);
                break;
        case REGISTRATION_REMOVED:
                log_info("server %s (%s) is removed", row->server, shown_name(task));
                break;
        case REGISTRATION_FAILED:
                log_error("server %s (%s) could not be registered: %s", row->server,
                          shown_name(task), row->reason);
                break;
        case REGISTRATION_STUCK:
                log_error("server %s (%s) could not be removed: %s", row->server, shown_name(task),
                          row->reason);
                break;
        default:
                break;
        }
}

void registrar_finish(Task *task, RegistrationEvent event, const Error *err)
{
        Registration *row = &task->row;
        bool registering = row->state == REGISTRATION_REGISTERING;

        // The reason of a try that was in vain stays as one that came before this end.
        if (err)
                replace_string(&row->reason, err->text);
        row->debts = (registering ? DEBT_NOVA : 0U) |
                     (event == REGISTRATION_EVENT_GIVE_UP ? DEBT_FAILED : 0U);
        row->attempt = 0;
        row->not_before_ms = 0;
        task->over_ms = clock_wall_ms();
        if (event == REGISTRATION_EVENT_DONE && !err && !registering)
                replace_string(&row->reason, NULL);
        registrar_transition(task, event);
        task_move(task, TASK_TELLING);
        log_end(task);
        registrar_tell(task);
}

static void try_later(Task *task, const Error *err)
{
        replace_string(&task->row.reason, err->text);
        if (registrar_is_late(task->registrar, task->row.begun_ms)) {
                registrar_finish(task, REGISTRATION_EVENT_GIVE_UP, err);
                return;
        }
        if (task->row.attempt++ == 0)
                log_warning("server %s (%s): %s: %s; it is tried again", task->row.server,
                            shown_name(task), registration_step_name(task->row.step), err->text);
        task->unsure = true;
        registrar_delay(task, registrar_backoff_ms(task));
        registrar_save(task, "try again", err->text);
}

// ---- running ------------------------------------------------------------------------------

static bool is_same(const char *a, const char *b)
{
        return a && b && strcmp(a, b) == 0;
}

static bool host_is_busy(const Task *task)
{
        const Task *other;

        TAILQ_FOREACH(other, &task->registrar->running, link)
        {
                if (other != task && (is_same(other->row.host, task->row.host) ||
                                      is_same(other->old_host, task->row.host) ||
                                      is_same(other->row.host, task->old_host) ||
                                      is_same(other->old_host, task->old_host)))
                        return true;
        }
        return false;
}

// What was made, for the history.
static const char *detail_of(const Task *task, RegistrationStep step)
{
        switch (step) {
        case STEP_NAME_HOST:
        case STEP_ADD_HOST:
                return task->row.host;
        case STEP_LOOK_FOR_MACHINE:
        case STEP_ADD_MACHINE:
                return task->row.machine;
        case STEP_FIND_MACHINE:
        case STEP_DELETE_MACHINE:
                return task->row.old_machine;
        case STEP_FIND_HOST:
        case STEP_DELETE_HOST:
                return task->old_host;
        default:
                return NULL;
        }
}

// After one of these a new kind of failure may come; after a look the last one may come again.
static bool is_progress(RegistrationStep made)
{
        return made == STEP_ADD_MACHINE || made == STEP_ADD_INTERFACE ||
               made == STEP_SET_INTERFACE || made == STEP_ADD_HOST;
}

static void go_on(Task *task, RegistrationStep made)
{
        Error err = ERROR_NONE;

        if (is_progress(made))
                task->row.attempt = 0;
        registrar_save(task, registration_step_name(made), detail_of(task, made));
        if (task->registrar->stopping) {
                task_move(task, TASK_READY);
        } else if (host_is_busy(task)) {
                task->unsure = true;
                task->rounds = 0;
                registrar_delay(task, HOST_BUSY_MS);
        } else if (++task->n_calls > CALLS_MAX) {
                (void)error_set(&err, ELOOP, "the broker's answers contradict each other");
                try_later(task, &err);
        } else {
                start_step(task);
        }
}

static void take_result(Task *task, StepResult result, RegistrationStep made, const Error *err)
{
        switch (result) {
        case STEP_NEXT:
                go_on(task, made);
                return;
        case STEP_LAST:
                registrar_save(task, registration_step_name(made), NULL);
                registrar_finish(task, REGISTRATION_EVENT_DONE, err->code ? err : NULL);
                return;
        case STEP_TRY_LATER:
                try_later(task, err);
                return;
        case STEP_GIVE_UP:
                registrar_finish(task, REGISTRATION_EVENT_GIVE_UP, err);
                return;
        }
}

// Nova has said meanwhile that the server is being deleted. Whatever the answer was, what is there
// will be found.
static bool was_deleted(Task *task)
{
        if (!task->deleted)
                return false;
        task->deleted = false;
        steps_restart(task);
        if (task->registrar->stopping)
                task_move(task, TASK_READY);
        else
                start_step(task);
        return true;
}

void registrar_on_answer(const BrokerAnswer *answer, void *userdata)
{
        Registrar *registrar = userdata;
        Task *task = answer->userdata;
        RegistrationStep made = task->row.step;
        Error err = ERROR_NONE;

        if (!was_deleted(task)) {
                StepResult result = steps_answer(task, registrar->aquilon, answer, &err);

                take_result(task, result, made, &err);
        }
        registrar_schedule(registrar);
        registrar_exit_if_done(registrar);
}

// ---- the host's name ----------------------------------------------------------------------

static void take_name(Task *task, int r, char *take_name, const Error *err)
{
        if (r < 0) {
                // The DNS may learn it soon, a pattern will not.
                bool may_pass =
                        strcmp(task->registrar->aquilon->host_name, HOST_NAME_FROM_DNS) == 0;

                take_result(task, may_pass ? STEP_TRY_LATER : STEP_GIVE_UP, STEP_NAME_HOST, err);
                return;
        }
        free(task->row.host);
        task->row.host = take_name;
        task->row.step = STEP_FIND_MACHINE;
        take_result(task, STEP_NEXT, STEP_NAME_HOST, err);
}

static void on_name(const char *name, const Error *why, void *userdata)
{
        Task *task = userdata;
        Registrar *registrar = task->registrar;
        char *host = NULL;
        Error err = why ? *why : ERROR_NONE;

        if (!was_deleted(task)) {
                int r = why ? -why->code : host_name_normalize(name, &host, &err);

                take_name(task, r, host, &err);
        }
        registrar_schedule(registrar);
        registrar_exit_if_done(registrar);
}

static void name_host(Task *task)
{
        const AquilonConfig *config = task->registrar->aquilon;
        const HostNameValues values = {.address = task->row.address,
                                       .name = task->notification.hostname,
                                       .server = task->row.server};
        char *host = NULL;
        Error err = ERROR_NONE;
        int r;

        if (strcmp(config->host_name, HOST_NAME_FROM_DNS) == 0) {
                resolver_name_of(task->registrar->resolver, task->row.address, on_name, task);
                return;
        }
        r = host_name_expand(config->host_name, &values, &host, &err);
        if (r < 0)
                (void)error_prefix(&err, "HOST_NAME");
        take_name(task, r, host, &err);
}

static void start_step(Task *task)
{
        Registrar *registrar = task->registrar;
        BrokerValues values;
        Error err = ERROR_NONE;

        if (task->row.step == STEP_NAME_HOST) {
                name_host(task);
                return;
        }
        steps_values(task, registrar->aquilon, &values);
        if (broker_call(registrar->broker, steps_call(task->row.step), &values, task, &err) < 0)
                registrar_finish(task, REGISTRATION_EVENT_GIVE_UP, &err);
}

// Called from within itself, when a name is answered at once: the outer one goes on with the next.
void registrar_schedule(Registrar *registrar)
{
        Task *task;

        if (registrar->scheduling)
                return;
        registrar->scheduling = true;
        while (!registrar->stopping && registrar->n_running < registrar->aquilon->parallel &&
               (task = TAILQ_FIRST(&registrar->ready))) {
                if (task->unsure)
                        steps_resume(task);
                replace_string(&task->old_host, NULL);
                if (host_is_busy(task)) {
                        registrar_delay(task, HOST_BUSY_MS);
                        continue;
                }
                task->unsure = false;
                task->n_calls = 0;
                task_move(task, TASK_RUNNING);
                start_step(task);
        }
        registrar->scheduling = false;
}
