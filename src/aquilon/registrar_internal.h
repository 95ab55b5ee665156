// What the files of the registrar share: registrar.c (life, journal), schedule.c (steps of many
// tasks at once), intake.c (messages), tell.c (Nova, <QUEUE>.failed).
#pragma once

#include "aquilon/registrar.h"
#include "aquilon/task.h"
#include "cloud/nova.h"
#include "net/queue.h"
#include "net/resolver.h"

#define TASKS_MAX ((size_t)10000) // then no more are taken until half of them are over
#define TYPES_MAX 100             // counted by name; then it is somebody's nonsense

typedef struct TypeCount {
        char *type;
        int64_t n;
} TypeCount;

struct Registrar {
        const Config *config;
        const AquilonConfig *aquilon; // of config
        RegistrarOptions options;
        sd_event *event;
        int lock_fd;
        Store *store;
        Config nova_config; // config with Nova's RabbitMQ and queue; borrows all
        QueueBinding binding;
        Consumer *consumer;
        bool connected, paused;
        Broker *broker;
        Resolver *resolver;
        Nova *nova; // NULL: it is not told

        void *tasks; // tsearch(3), by server
        size_t n_tasks;
        TaskList ready, running, delayed, telling;
        size_t n_running;
        bool scheduling; // registrar_schedule is at it

        Delivery **unacked; // in the journal when the turn is committed
        size_t n_unacked;
        TypeCount counts[TYPES_MAX + 1]; // the last is of all other types
        bool counted;

        int64_t started_ms;
        bool stopping;
        unsigned idle_checks;
        sd_event_source *sigterm, *sigint, *commit, *wake, *count_timer, *prune_timer, *idle_timer,
                *exit_timer;
};

// ---- registrar.c --------------------------------------------------------------------------

// Opens the turn's transaction. When the journal fails the loop is ended, and what is written is
// nothing: callers need not look.
void registrar_write(Registrar *registrar);
void registrar_broken(Registrar *registrar, const Error *err);
void registrar_save(Task *task, const char *what, const char *detail);
void registrar_transition(Task *task, RegistrationEvent event);

Task *registrar_find(const Registrar *registrar, const char *server);
// Takes the row's content; the task is in list `place`, and counted if that is TASK_RUNNING.
Task *task_new(Registrar *registrar, Registration *take_row, TaskPlace place);
void task_move(Task *task, TaskPlace place);
// Decodes its notice.
void task_read_notice(Task *task);
void task_free(Task *task);

void registrar_arm(sd_event_source *timer, int64_t ms);
void registrar_exit_if_done(Registrar *registrar);

// ---- schedule.c ---------------------------------------------------------------------------

void registrar_schedule(Registrar *registrar);
void registrar_on_answer(const BrokerAnswer *answer, void *userdata);
int registrar_on_wake(sd_event_source *source, uint64_t usec, void *userdata);
// The steps are over: the event, its reason, and whom to tell.
void registrar_finish(Task *task, RegistrationEvent event, const Error *err);
// Waits until not_before_ms.
void registrar_delay(Task *task, int64_t ms);
int64_t registrar_backoff_ms(const Task *task);
// RETRY_FOR has passed since then.
bool registrar_is_late(const Registrar *registrar, int64_t since_ms);

// ---- intake.c -----------------------------------------------------------------------------

extern const ConsumerCallbacks registrar_consumer_callbacks;
void registrar_count(Registrar *registrar, const char *type);

// ---- tell.c -------------------------------------------------------------------------------

// Pays the task's debts, as far as that can be done now; frees it when none is left.
void registrar_tell(Task *task);
void registrar_on_sent(Consumer *consumer, uint64_t token, const Error *err, void *userdata);
// Again what was sent on an earlier connection.
void registrar_tell_again(Registrar *registrar);
