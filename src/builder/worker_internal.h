// What the parts of the worker share: worker.c (life, signals), intake.c (delivery to builds),
// schedule.c (which build runs next), recovery.c (what an earlier worker left).
#pragma once

#include "builder/auth_file.h"
#include "builder/build_plan.h"
#include "builder/packer_run.h"
#include "builder/worker.h"
#include "core/store.h"
#include "net/queue.h"

#define HOLD_SECONDS 10  // how long a delivery may wait here unacknowledged
#define BLOCK_SECONDS 30 // how long to leave off when something here is broken

// A build that is not over: waiting (run == NULL) or running.
typedef struct Job {
        struct Job *next;
        Worker *worker;
        Build build;
        PackerRun *run;
        bool journalled; // its row was committed
        bool discarded;  // its row was lost: its delivery comes again, this run counts for nothing
        int predecessor_fd; // pidfd of a dead worker's Packer that is still cleaning up; -1: none
        sd_event_source *predecessor;
} Job;

typedef struct DeliveryList {
        Delivery **items;
        size_t n;
} DeliveryList;

struct Worker {
        const Config *config;
        WorkerOptions options;
        sd_event *event;
        int lock_fd;
        Store *store;
        Consumer *consumer;
        bool connected;

        AuthEnv auth;
        Redactor *redactor;
        bool auth_loaded;

        Job *jobs; // in the order they were taken
        unsigned n_running;
        DeliveryList held;    // arrived, waiting for a slot, not journalled
        DeliveryList journal; // journalled in the open transaction: acked when it is on disk

        bool draining, stopping;
        char *block_reason; // what is broken here; NULL: nothing
        unsigned idle_checks;
        sd_event_source *sigterm, *sigint, *commit, *hold_timer, *block_timer, *idle_timer,
                *keep_timer;
};

void delivery_list_add(DeliveryList *list, Delivery *take_delivery);
Delivery *delivery_list_pop(DeliveryList *list);

// Opens the turn's transaction unless it is open; it is committed at the end of the turn.
int worker_write(Worker *worker, Error *err) must_check;

// Rolls the turn's transaction back: what was not written did not happen, so the messages come
// again and the builds begun for them end.
void worker_undo_turn(Worker *worker, const Error *why);

// Leaves off for BLOCK_SECONDS because something here (not a message, not a template) is broken;
// held deliveries go back. Logged once for each new reason.
void worker_block(Worker *worker, const char *reason);
bool worker_is_blocked(const Worker *worker);

// intake.c: plans a delivery and journals its builds. The delivery is consumed. Newly made jobs
// that can start do.
void worker_take_delivery(Worker *worker, Delivery *delivery);

// schedule.c
Job *job_new(Worker *worker); // appended to worker->jobs
void job_free(Job *job);      // taken out of worker->jobs
// True when it could start now: a slot is free and no build of its image and template runs.
bool job_can_start(const Job *job);
// Starts a job. `plan` is what its message asks for, or NULL when it has waited: then the plan is
// made anew, from the maps as they are now. The job may be over when this returns.
void job_start(Job *job, const BuildPlan *plan);
// Ends a job that has not started.
void job_end(Job *job, BuildEvent event, const char *reason);
// Starts what can be started: waiting jobs first, then held deliveries.
void worker_schedule(Worker *worker);

// recovery.c: builds that an earlier worker left behind.
int worker_recover(Worker *worker, Error *err) must_check;
// Journals that a running build did not come to its end and queues it again.
int worker_interrupt(Worker *worker, Build *build, const char *reason, Job **ret_again,
                     Error *err) must_check;
