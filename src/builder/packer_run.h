// One run of Packer: its folder, build file and log, the process and its whole life.
//
// Packer leads a session of its own, so that TERM can go to it alone (it cancels and cleans up its
// server and keypair) and KILL to everything it started. Should this process die, the kernel sends
// it TERM. It has a TMPDIR of its own, removed with all it left there.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "builder/redact.h"
#include "core/auth_file.h"
#include "core/config.h"
#include "core/template.h"
#include "util/error.h"

typedef struct PackerRun PackerRun;

typedef struct PackerRunSpec {
        const Config *config;
        const AuthEnv *auth;      // NULL: none; all borrowed
        const Redactor *redactor; // borrowed until the end of the run
        unsigned folder;          // number of its TMPDIR, which no other run has at this time
        const char *template_path;
        const TemplateValues *values;
} PackerRunSpec;

typedef struct PackerResult {
        bool succeeded;       // exit 0 and an artifact
        bool cancelled;       // by packer_run_stop, or by a TERM from outside
        int exit_code;        // as a shell gives it
        const char *artifact; // NULL: none; redacted
        const char *reason;   // in words, redacted; NULL when it succeeded
} PackerResult;

typedef struct PackerRunCallbacks {
        void (*on_phase)(PackerRun *run, const char *phase, void *userdata);
        // The run is over, its files are closed and its folder is gone; the callee frees the run.
        void (*on_end)(PackerRun *run, const PackerResult *result, void *userdata);
} PackerRunCallbacks;

// Renders the template, writes BUILD_FILE_DIR/<image>.<template>.json (for HCL2 the var-file
// beside it, and the template is used in place), opens the log and starts Packer. SIGCHLD must be
// blocked. PACKER_RUN_REFUSED: the template cannot be used for this build (missing, not JSON, a
// value that may not stand there), err says why. < 0: something is wrong here and not with the
// build (disk full, Packer not installed, …). on_end is never called before this returns.
#define PACKER_RUN_REFUSED 1
int packer_run_start(sd_event *event, const PackerRunSpec *spec,
                     const PackerRunCallbacks *callbacks, void *userdata, PackerRun **ret,
                     Error *err) must_check;

// TERM to Packer, which cleans up and ends; after STOP_GRACE KILL to all it started. `reason`
// (copied) becomes the result's. Again: nothing.
void packer_run_stop(PackerRun *run, const char *reason);

// The same for a build that cannot succeed: it has failed, it was not cancelled.
void packer_run_fail(PackerRun *run, const char *reason);

pid_t packer_run_pid(const PackerRun *run);

// Nova's id of the server that it builds in, as Packer has said it; NULL: not yet.
const char *packer_run_server(const PackerRun *run);
const char *packer_run_log_path(const PackerRun *run);

// A run that has not ended is killed, group and all.
void packer_run_free(PackerRun *run);
DEFINE_CLEANUP(PackerRun, packer_run_free)
