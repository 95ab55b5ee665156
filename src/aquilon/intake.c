// Messages from Nova's queue: what is none goes to <QUEUE>.rejected, what does not concern us is
// acknowledged, the rest into the journal first.
#include <errno.h>
#include <string.h>

#include "aquilon/registrar_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define REJECTED_SUFFIX ".rejected"
#define REJECTED_TYPE "(rejected)"
#define OTHER_TYPES "(others)"

void registrar_count(Registrar *registrar, const char *type)
{
        TypeCount *count = registrar->counts;

        while (count < &registrar->counts[TYPES_MAX] && count->type &&
               strcmp(count->type, type) != 0)
                count++;
        if (!count->type)
                count->type = xstrdup(count < &registrar->counts[TYPES_MAX] ? type : OTHER_TYPES);
        count->n++;
        registrar->counted = true;
}

// To be acknowledged when the turn is committed.
static void ack_later(Registrar *registrar, Delivery *delivery)
{
        registrar->unacked = xreallocarray(registrar->unacked, registrar->n_unacked + 1,
                                           sizeof *registrar->unacked);
        registrar->unacked[registrar->n_unacked++] = delivery;
        registrar_write(registrar);
}

// ---- a new server -------------------------------------------------------------------------

// What is missing will not come: the registration has failed before its first step.
static void start(Task *task, const Error *refusal)
{
        task->row.begun_ms = clock_wall_ms();
        task->row.attempt = 0;
        task->row.not_before_ms = 0;
        steps_restart(task);
        if (refusal) {
                registrar_finish(task, REGISTRATION_EVENT_GIVE_UP, refusal);
                return;
        }
        registrar_save(task, NULL, NULL);
        task_move(task, TASK_READY);
}

static void fill_row(Task *task)
{
        Registration *row = &task->row;

        replace_string(&row->name, task->notification.name);
        replace_string(&row->build_id, task->request.build_id);
        replace_string(&row->personality, task->request.personality);
        replace_string(&row->address, task->request.address);
        replace_string(&row->host, NULL);
}

// The task with this notification in the place of an earlier one.
static void take_notification(Task *task, Notification *notification)
{
        char *notice = notification_encode(notification);

        free(task->row.notice);
        task->row.notice = notice;
        notification_done(&task->notification);
        request_done(&task->request);
        task->notification = *notification;
        *notification = (Notification){0};
}

static void insert(Task *task)
{
        Error err = ERROR_NONE;

        registrar_write(task->registrar);
        task->row.begun_ms = clock_wall_ms();
        if (store_registration_insert(task->registrar->store, &task->row, task->row.begun_ms,
                                      &err) < 0)
                registrar_broken(task->registrar, &err);
}

static Task *task_of(Registrar *registrar, const char *server, int *ret_found)
{
        Registration row = {0};
        Error err = ERROR_NONE;
        Task *task = registrar_find(registrar, server);

        *ret_found = 0;
        if (task)
                return task;
        *ret_found = store_registration_find(registrar->store, server, &row, &err);
        if (*ret_found < 0)
                registrar_broken(registrar, &err);
        return *ret_found == 0 ? task_new(registrar, &row, TASK_TELLING) : NULL;
}

static Task *insert_new(Registrar *registrar, Notification *notification, RegistrationState state)
{
        Registration row = {.server = xstrdup(notification->server), .state = state};
        Task *task = task_new(registrar, &row, TASK_TELLING);

        take_notification(task, notification);
        return task;
}

// A task of a registration that is over and stays so.
static void let_go(Task *task)
{
        if (task->place == TASK_TELLING)
                registrar_tell(task);
}

static void on_created(Registrar *registrar, Notification *notification)
{
        Error err = ERROR_NONE;
        RegistrationState next;
        int found, r;
        Task *task = task_of(registrar, notification->server, &found);

        if (found < 0)
                return;
        if (task && !registration_state_next(task->row.state, REGISTRATION_EVENT_CREATED, &next)) {
                log_debug("server %s is %s already", task->row.server,
                          registration_state_name(task->row.state));
                let_go(task);
                return;
        }
        if (!task) {
                task = insert_new(registrar, notification, REGISTRATION_REGISTERING);
                r = request_from_notification(&task->notification, registrar->aquilon,
                                              &task->request, &err);
                fill_row(task);
                insert(task);
        } else {
                take_notification(task, notification);
                r = request_from_notification(&task->notification, registrar->aquilon,
                                              &task->request, &err);
                fill_row(task);
                task->row.debts = 0;
                registrar_transition(task, REGISTRATION_EVENT_CREATED);
        }
        start(task, r < 0 ? &err : NULL);
}

// ---- a server that goes -------------------------------------------------------------------

// From now on it is the notification of the deletion that is told of, and can be sent again.
static void remove_known(Task *task, Notification *notification)
{
        RegistrationState next;

        if (!registration_state_next(task->row.state, REGISTRATION_EVENT_DELETED, &next)) {
                let_go(task);
                return;
        }
        take_notification(task, notification);
        task_read_notice(task);
        task->row.debts &= ~(unsigned)DEBT_NOVA;
        task->row.step = STEP_FIND_MACHINE;
        task->row.begun_ms = clock_wall_ms();
        task->row.attempt = 0;
        task->row.not_before_ms = 0;
        registrar_transition(task, REGISTRATION_EVENT_DELETED);
        if (task->place == TASK_RUNNING) {
                task->deleted = true; // the answer that is on its way comes first
                return;
        }
        task->unsure = false;
        steps_restart(task);
        task_move(task, TASK_READY);
}

// Of one that we did not see come there may be records all the same.
static void on_deleted(Registrar *registrar, Notification *notification, bool asks)
{
        int found;
        Task *task = task_of(registrar, notification->server, &found);

        if (found < 0)
                return;
        if (task) {
                remove_known(task, notification);
                return;
        }
        if (!asks)
                return;
        task = insert_new(registrar, notification, REGISTRATION_REMOVING);
        task_read_notice(task);
        fill_row(task);
        task->row.step = STEP_FIND_MACHINE;
        insert(task);
        steps_restart(task);
        task_move(task, TASK_READY);
}

// ---- deliveries ---------------------------------------------------------------------------

static void take(Registrar *registrar, Delivery *delivery, Notification *notification)
{
        bool asks = request_is_there(notification, registrar->aquilon->source);

        if (notification->kind == NOTIFICATION_CREATED && !asks) {
                consumer_ack(registrar->consumer, delivery);
                return;
        }
        if (notification->kind == NOTIFICATION_CREATED)
                on_created(registrar, notification);
        else
                on_deleted(registrar, notification, asks);
        ack_later(registrar, delivery);
        if (registrar->n_tasks >= TASKS_MAX && !registrar->paused) {
                registrar->paused = true;
                consumer_pause(registrar->consumer);
        }
        registrar_schedule(registrar);
}

static void on_delivery(Consumer *consumer, Delivery *delivery, void *userdata)
{
        Registrar *registrar = userdata;
        Notification notification = {0};
        Error err = ERROR_NONE;
        int r;

        if (registrar->stopping) {
                consumer_requeue(consumer, delivery);
                return;
        }
        registrar->idle_checks = 0;
        r = notification_decode(delivery->message.body, delivery->message.body_len, &notification,
                                &err);
        registrar_count(registrar, r < 0 ? REJECTED_TYPE : notification.type);
        if (r < 0) {
                log_warning("a message is moved to %s" REJECTED_SUFFIX ": %s",
                            registrar->aquilon->queue, err.text);
                consumer_move(consumer, delivery, REJECTED_SUFFIX, err.text);
        } else if (r == NOTIFICATION_OTHER) {
                consumer_ack(consumer, delivery);
        } else {
                take(registrar, delivery, &notification);
        }
        notification_done(&notification);
}

static void on_connection(Consumer *consumer, const Error *err, void *userdata)
{
        Registrar *registrar = userdata;

        (void)consumer;
        registrar->connected = !err;
        if (err) {
                log_error("queue: %s", err->text);
                return;
        }
        log_info("connected to the queue %s", registrar->aquilon->queue);
        registrar_tell_again(registrar);
}

const ConsumerCallbacks registrar_consumer_callbacks = {
        .on_delivery = on_delivery, .on_connection = on_connection, .on_sent = registrar_on_sent};
