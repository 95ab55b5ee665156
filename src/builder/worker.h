// The worker: takes messages from the queue, journals the builds they ask for, runs Packer in
// slots, and keeps the history. This is rabbit2packer without its command line.
//
// A delivery is acknowledged when its builds are on disk in the journal, not before; all that one
// turn of the event loop wrote is one transaction. A delivery that must wait for a slot is not
// journalled but held, and after HOLD_SECONDS given back, so that another host can have it and
// RabbitMQ's limit on unacknowledged deliveries is never near.
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "core/config.h"
#include "util/error.h"

typedef struct Worker Worker;

typedef struct WorkerOptions {
        bool until_idle; // end when the queue is empty and no build runs
} WorkerOptions;

// Takes the lock on STATE_DIR, opens the journal, takes up what an earlier worker left, and starts
// to consume. `config` is borrowed. SIGCHLD, SIGTERM, SIGINT and SIGHUP must be blocked. The first
// TERM or INT drains (running builds end, no more are taken), the second stops the builds too. HUP
// reads the configuration again.
int worker_new(const Config *config, const WorkerOptions *options, sd_event *event, Worker **ret,
               Error *err) must_check;

void worker_free(Worker *worker);
DEFINE_CLEANUP(Worker, worker_free)
