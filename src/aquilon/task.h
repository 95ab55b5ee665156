// One registration at work, as the files of the registrar share it.
#pragma once

#include <sys/queue.h>

#include "aquilon/broker.h"
#include "aquilon/notification.h"
#include "aquilon/request.h"
#include "core/store_registrations.h"

typedef enum TaskPlace {
        TASK_READY,   // for its next step
        TASK_RUNNING, // its steps are being made; at most PARALLEL
        TASK_DELAYED, // until not_before_ms
        TASK_TELLING, // its steps are over
} TaskPlace;

typedef struct Task {
        TAILQ_ENTRY(Task) link; // in the list of its place
        struct Registrar *registrar;
        TaskPlace place;
        Registration row;
        Notification notification;
        AquilonRequest request;

        // What is known of row.old_machine; looked for again after a restart.
        char *old_host, *old_address;
        bool old_interface;
        bool verifying;   // that it is gone, for its deletion was refused
        bool searched;    // a search was refused, and is made once more
        unsigned rounds;  // of deleting
        unsigned n_calls; // since it runs

        int64_t over_ms;              // when the steps were; 0: before we started
        bool unsure;                  // the step may have been made already
        bool looked;                  // no: the step before has just looked
        bool deleted;                 // Nova said so while a request was on its way
        bool telling;                 // Nova is being told
        bool sending;                 // to <QUEUE>.failed
        char refusal[ERROR_TEXT_MAX]; // the broker's last one
        char cpus[24], memory[24];    // as text
} Task;

typedef TAILQ_HEAD(TaskList, Task) TaskList;

// ---- steps.c ------------------------------------------------------------------------------

typedef enum StepResult {
        STEP_NEXT,      // row.step is the next one
        STEP_LAST,      // all were made
        STEP_TRY_LATER, // err says why
        STEP_GIVE_UP,   // likewise, and that it would be the same later
} StepResult;

// Begins the steps (anew) for the state that the row is in.
void steps_restart(Task *task);

// Goes back to where it can be seen whether the step was made.
void steps_resume(Task *task);

// The call of a step, but of STEP_NAME_HOST, which is none.
BrokerCall steps_call(RegistrationStep step);
void steps_values(Task *task, const AquilonConfig *config, BrokerValues *ret);

// Takes the broker's answer.
StepResult steps_answer(Task *task, const AquilonConfig *config, const BrokerAnswer *answer,
                        Error *err);
