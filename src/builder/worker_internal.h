// What the parts of the worker share: worker.c (life, flow, signals), worker_queue.c (its queue),
// worker_leases.c, worker_locks.c and worker_registration.c (what it does for its leases, for its
// locks of images, and for its servers in Aquilon),
// intake.c (delivery to builds), schedule.c (which build runs next), outcome.c (what follows from
// its end), again.c (one more attempt), recovery.c (the journal against what is known here),
// control.c (what operators ask for while it runs), outbox.c (<QUEUE>.failed). leases.c and
// image_locks.c stand on their own.
#pragma once

#include "builder/build_plan.h"
#include "builder/delivery_list.h"
#include "builder/image_locks.h"
#include "builder/leases.h"
#include "builder/packer_run.h"
#include "builder/predecessors.h"
#include "builder/worker.h"
#include "core/auth_file.h"
#include "core/store.h"
#include "net/queue.h"
#include "util/clock.h"

#define HOLD_SECONDS 2        // how long a delivery may wait here unacknowledged
#define BLOCK_MAX_SECONDS 600 // longest time to leave off when something here is broken

typedef enum JobStage {
        JOB_WAITING,
        JOB_ASKING, // for the lock of its image
        JOB_RUNNING,
        JOB_ENDED,   // its end is to be written
        JOB_WRITTEN, // its end is written, but not yet on disk
} JobStage;

// A build that is not over.
typedef struct Job {
        struct Job *next;
        Worker *worker;
        Build build;
        Lease *lease; // of its message; NULL: none
        JobStage stage;
        PackerRun *run;      // while JOB_RUNNING
        unsigned folder;     // number of its TMPDIR, while JOB_RUNNING
        bool journalled;     // its row is on disk
        bool abandoned;      // what comes of its run counts for nothing
        bool cancelled;      // by an operator, whose request stays in the journal until it ended
        PackerResult result; // from JOB_ENDED on; its strings are the two below
        char *result_artifact, *result_reason;
} Job;

// Configurations that running builds still use, after reloads.
typedef struct ConfigList {
        Config **items;
        size_t n;
} ConfigList;

struct Worker {
        const Config *config;
        ConfigList reloaded; // config is the last of them, if any
        WorkerOptions options;
        sd_event *event;
        int lock_fd;
        Store *store;
        Consumer *consumer;
        Predecessors *predecessors;
        bool connected;
        Leases *leases; // NULL without a broker, as the next
        ImageLocks *image_locks;
        struct RegistrationWatch *registrations; // NULL: none was watched yet
        bool outbox_waiting;
        unsigned outbox_unconfirmed;

        AuthEnv auth;
        Redactor *redactor;
        bool auth_loaded;

        Job *jobs; // in the order they were taken
        unsigned n_running, n_asking;
        DeliveryList held;    // arrived, waiting for a slot, not journalled
        DeliveryList journal; // journalled in the open transaction: acked when it is on disk
        bool out_of_step;     // a write failed: journal and jobs differ (worker_resync)
        bool resynced;        // … and they agree again, once this turn is on disk

        bool draining, stopping;
        bool probing;          // the cloud refused our login: one build at a time until one gets in
        char *block_reason;    // what is broken here; NULL: nothing
        int64_t block_seconds; // how long the last block was
        unsigned idle_checks;
        int exit_code;   // of the loop, when it has drained
        int64_t exit_ms; // monotonic: when a worker that ends waits no longer; 0: it does not end
        sd_event_source *sigterm, *sigint, *sighup, *commit, *hold_timer, *block_timer,
                *retry_timer, *idle_timer, *keep_timer, *outbox_timer, *exit_timer, *control,
                *status_timer;
        char *status;         // as told
        uint64_t status_usec; // when
};

// Opens the turn's transaction unless it is open; it is committed at the end of the turn.
int worker_write(Worker *worker, Error *err) must_check;

// Ends the turn's transaction, if it is open, and does what waited for it.
void worker_commit(Worker *worker);

// The journal could not be written. What this turn wrote did not happen: its messages come again,
// the builds begun for them end, and all else is put right when writing works again.
void worker_undo_turn(Worker *worker, const Error *why);

// One shot, `usec` from now.
void timer_arm(sd_event_source *timer, uint64_t usec);

// Tells the service manager what we are at; not at once, when it was told just before.
void worker_say_status(const Worker *worker);

// Leaves off for a while (RETRY_SECONDS, doubled each time) because something here, not a message
// or a template, is broken; held deliveries go back. Logged once for each new reason.
void worker_block(Worker *worker, const char *reason);
bool worker_is_blocked(const Worker *worker);
// Something worked: what it was blocked for is mended.
void worker_proved(Worker *worker);
bool worker_has_slot(const Worker *worker);

// Ends the loop, when the broker has answered what is under way; if it does within EXIT_SECONDS.
#define EXIT_SECONDS 3
void worker_exit(Worker *worker);

// worker_queue.c: connects to the queue, in place of an earlier connection; what is held or open
// goes back.
int worker_connect(Worker *worker, Error *err) must_check;

// worker_leases.c
int worker_open_leases(Worker *worker, Error *err) must_check;

// worker_locks.c
int worker_open_locks(Worker *worker, Error *err) must_check;
// True unless another host is known to build the job's image.
bool job_may_lock(const Job *job);
// worker_registration.c: looks whether the server of a running job is registered with Aquilon, once
// it is known.
void job_watch_registration(Job *job);
void job_forget_registration(const Job *job);

// Starts a job, at once or (it is JOB_ASKING until then) when no other host builds its image.
// `plan` is what its message asks for, or NULL when it has waited: then the plan is made anew, from
// the maps as they are now. The job may be over when this returns.
void job_start(Job *job, const BuildPlan *plan);
// It runs no longer.
void job_unlock(const Job *job);
// The connection is lost: what was asked is not answered.
void worker_locks_disconnected(Worker *worker);

// intake.c: plans a delivery and journals its builds. The delivery is consumed. Newly made jobs
// that can start do.
void worker_take_delivery(Worker *worker, Delivery *delivery);
// True if it need not wait for a slot: its builds are here already, or it asks for an image that is
// building here, and may as well wait in the journal, where those that come after it supersede it.
bool worker_knows(Worker *worker, const Delivery *delivery);

// schedule.c
Job *job_new(Worker *worker); // appended to worker->jobs
// Keeps the message's lease as long as the job; once the build names its message.
void job_take_lease(Job *job);
void job_free(Job *job); // taken out of worker->jobs
const char *job_name(const Job *job);
bool build_same_target(const Build *a, const Build *b); // image and template
// True if it could start now: it is due, a slot is free and no build of its image and template
// runs.
bool job_can_start(const Job *job);
// The part of job_start that no other host has a say in.
void job_begin(Job *job, const BuildPlan *plan);
// Ends those of the same image and template that wait: `newer` starts later, and covers them. The
// guest fetches the profile that is current when it builds.
void job_supersede_waiting(const Job *newer);
// Ends a job that has not started.
void job_end(Job *job, BuildEvent event, const char *reason);
// Starts what can be started: waiting jobs first, then held deliveries.
void worker_schedule(Worker *worker);

// recovery.c: takes up what an earlier worker left behind.
int worker_recover(Worker *worker, Error *err) must_check;
// After writes that failed: makes jobs of rows that have none, and writes ends once more.
int worker_resync(Worker *worker, Error *err) must_check;

// again.c: ends `build` by an event and journals that the same is built once more.
typedef struct Again {
        BuildEvent event;
        const char *reason;
        bool spends_attempt;
        int64_t delay_ms;
} Again;
int worker_build_again(Worker *worker, Build *build, const Again *again, Job **ret,
                       Error *err) must_check;

// outcome.c: writes the end of a job's run (job->result), and what follows from it.
void job_write_end(Job *job);
// Ends a job that Packer cannot be started for, and keeps its message for a retry.
void job_refuse(Job *job, const char *reason);
void job_log_end(const Job *job);

// outbox.c: messages for the broker's "<QUEUE>.failed".
#define FAILED_SUFFIX ".failed"
#define OUTBOX_TOKEN (UINT64_C(1) << 63) // set in tokens of consumer_send
void outbox_restart(Worker *worker);     // connected, or as good as
void outbox_send(Worker *worker);        // what is committed
void outbox_on_sent(Worker *worker, uint64_t token, const Error *why);

// control.c: cancel requests and the reload of the configuration.
int worker_listen(Worker *worker, Error *err) must_check;
void worker_take_requests(Worker *worker); // … and schedules
