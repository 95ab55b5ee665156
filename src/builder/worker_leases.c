// What the worker does for its leases.
#include "builder/worker_internal.h"

static int on_lease_writes(void *userdata, Error *err)
{
        return worker_write(userdata, err);
}

static void on_leases_proven(void *userdata)
{
        worker_schedule(userdata);
}

static void on_lease_lost(Lease *lease, void *userdata)
{
        Worker *worker = userdata;

        for (const Job *job = worker->jobs; job; job = job->next) {
                if (job->lease == lease && job->stage != JOB_WAITING && job->stage != JOB_ASKING)
                        return; // what runs goes on, and the others of the message with it
        }
        for (Job *job = worker->jobs, *next; job; job = next) {
                next = job->next;
                if (job->lease == lease)
                        job_end(job, BUILD_EVENT_INTERRUPT,
                                "its lease ran out while this host was away: whoever has its "
                                "message now builds it");
        }
}

int worker_open_leases(Worker *worker, Error *err)
{
        static const LeasesCallbacks callbacks = {on_lease_writes, on_leases_proven, on_lease_lost};

        return leases_new(worker->store, worker->event, &callbacks, worker, &worker->leases, err);
}
