// rabbit2packer: the worker as a daemon.
#include <stdbool.h>

#include "bin/daemon.h"
#include "bin/program.h"
#include "builder/worker.h"

typedef struct Options {
        bool until_idle;
} Options;

static const ProgramOption options[] = {
        {"until-idle", 0, NULL, "end when the queue is empty and nothing builds",
         offsetof(Options, until_idle)},
};

static const char details[] =
        "Runs in the foreground. SIGTERM or SIGINT drains: running builds end, no more are\n"
        "taken. A second one stops the builds; they are built again at the next start.\n"
        "SIGHUP reads the configuration again.\n";

static int run(const Invocation *invocation, Error *err)
{
        const Options *given = invocation->options;
        const WorkerOptions worker_options = {.until_idle = given->until_idle};
        _cleanup_event_ sd_event *event = NULL;
        _cleanup_(worker_free_p) Worker *worker = NULL;
        int r = daemon_prepare(true, &event, err);

        if (r == 0)
                r = worker_new(invocation->config, &worker_options, event, &worker, err);
        return r < 0 ? r : daemon_run(event, err);
}

static const Program program = {
        .name = "rabbit2packer",
        .summary = "Take messages from the queue and build their images with Packer.",
        .details = details,
        .options = options,
        .n_options = ELEMENTSOF(options),
        .options_size = sizeof(Options),
        .require = config_require_build,
        .run = run,
};

int main(int argc, char **argv)
{
        return program_main(&program, argc, argv);
}
