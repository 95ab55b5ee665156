// cdb2rabbit: queues a message for each profile that really changed. Once, or with --listen
// whenever the broker says so.
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>

#include "bin/daemon.h"
#include "bin/program.h"
#include "scan/listener.h"
#include "scan/scanner.h"

#define OWN_PROGRAM "/proc/self/exe" // the same one, even while its file is being replaced
#define KEPT_BYTES (32 * 1024 * 1024)
#define KEPT_BLOCK_BYTES (1024 * 1024) // larger ones do go back

typedef struct Options {
        bool dry_run;
        bool listen;
} Options;

// Profiles come and go by the thousand: their memory serves the next ones, instead of going back to
// the kernel and being cleared by it each time.
static void keep_memory(void)
{
        (void)mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES);
        (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

static int scan_once(const Config *config, bool dry_run, Error *err)
{
        const ScanOptions options = {.dry_run = dry_run, .out = stdout};
        ScanSummary summary = {.n_failed = 0};
        int r;

        keep_memory();
        r = scanner_run(config, &options, &summary, err);
        if (r < 0)
                return r;
        return summary.n_failed > 0 ? PROGRAM_FAILED : PROGRAM_DONE;
}

static int listen_for_changes(const Config *config, Error *err)
{
        const char *const scan_argv[] = {OWN_PROGRAM, "--config", config->path, NULL};
        _cleanup_event_ sd_event *event = NULL;
        _cleanup_(listener_free_p) Listener *listener = NULL;
        int r = daemon_prepare(false, &event, err);

        if (r == 0)
                r = listener_new(config, scan_argv, event, &listener, err);
        return r < 0 ? r : daemon_run(event, err);
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;

        if (options->listen && options->dry_run) {
                (void)error_set(err, EINVAL, "--listen and --dry-run exclude each other");
                return PROGRAM_USAGE;
        }
        return options->listen ? listen_for_changes(invocation->config, err)
                               : scan_once(invocation->config, options->dry_run, err);
}

int main(int argc, char **argv)
{
        static const ProgramOption options[] = {
                {"dry-run", 'n', NULL, "say what would be queued and why; change nothing",
                 offsetof(Options, dry_run)},
                {"listen", 'l', NULL, "stay, and scan at CDP packets and every POLL_SECONDS",
                 offsetof(Options, listen)},
        };
        static const Program program = {
                .name = "cdb2rabbit",
                .summary = "Queue a message for each Quattor profile that really changed.",
                .details = "The first scan records the profiles there are (FIRST_RUN); later ones "
                           "queue what\ndiffers outside IGNORE_PATHS, and what is new.\n",
                .options = options,
                .n_options = ELEMENTSOF(options),
                .options_size = sizeof(Options),
                .require = config_require_scan,
                .run = run,
        };

        return program_main(&program, argc, argv);
}
