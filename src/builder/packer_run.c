#include "builder/packer_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "builder/build_log.h"
#include "builder/packer_output.h"
#include "builder/packer_workspace.h"
#include "util/alloc.h"
#include "util/child.h"
#include "util/child_watch.h"
#include "util/clock.h"
#include "util/log.h"

#define READ_BYTES 65536
#define PIPE_BYTES (1024 * 1024) // room for what Packer still says when nobody reads
// Below all else, the worker's commits and the queue's turns included, which wait until the loop is
// idle: there is always more to read from a Packer that floods.
#define OUTPUT_PRIORITY (SD_EVENT_PRIORITY_IDLE + 2)
#define LINGER_SECONDS 2 // that the output may stay open after Packer's end

struct PackerRun {
        const Config *config;
        const Redactor *redactor;
        PackerRunCallbacks callbacks;
        void *userdata;
        PackerWorkspace workspace;
        BuildLog log;
        PackerOutput output;
        pid_t pid;
        bool exited; // the leader was seen dead; its group is gone then too
        int exit_code;
        bool given_up;     // by us: it has failed
        char *stop_reason; // NULL: nobody asked it to stop
        int out_fd;
        sd_event_source *child, *io, *timeout, *kill_timer, *linger_timer;
};

static void drop_source(sd_event_source **source)
{
        if (!*source)
                return;
        (void)sd_event_source_set_enabled(*source, SD_EVENT_OFF);
        *source = sd_event_source_unref(*source);
}

static void pass_phase_on(const char *phase, void *userdata)
{
        PackerRun *run = userdata;

        run->callbacks.on_phase(run, phase, run->userdata);
}

// The words for what happened. The caller frees; NULL when it succeeded.
static char *result_reason(const PackerRun *run)
{
        const PackerOutput *output = &run->output;
        char *reason;

        // Whoever told it to stop came too late.
        if (run->exit_code == 0 && output->artifact && !output->cancelled)
                return NULL;
        if (run->stop_reason)
                reason = xstrdup(run->stop_reason);
        else if (output->cancelled)
                reason = xstrdup("Packer was told from outside to stop");
        else if (run->exit_code != 0)
                reason = output->error
                                 ? xstrdup(output->error)
                                 : xasprintf("Packer ended with exit code %d", run->exit_code);
        else
                reason = xstrdup("Packer ended with exit code 0 but made no artifact");
        if (output->saving_image && !output->artifact) {
                char *longer = xasprintf("%s (image %s was being saved and may be left)", reason,
                                         output->saving_image);

                free(reason);
                reason = longer;
        }
        return reason;
}

static void finish(PackerRun *run)
{
        _cleanup_free_ char *reason = NULL, *safe = NULL, *artifact = NULL;
        PackerResult result = {.exit_code = run->exit_code};

        drop_source(&run->io);
        drop_source(&run->timeout);
        drop_source(&run->kill_timer);
        drop_source(&run->linger_timer);
        (void)close(TAKE_FD(run->out_fd));
        packer_output_end(&run->output, pass_phase_on, run);
        reason = result_reason(run);
        if (reason)
                safe = redactor_text(run->redactor, reason);
        result.reason = safe;
        if (run->output.artifact)
                artifact = redactor_text(run->redactor, run->output.artifact);
        result.artifact = artifact;
        result.succeeded = !reason;
        result.cancelled =
                !result.succeeded && !run->given_up && (run->stop_reason || run->output.cancelled);
        if (reason && run->exit_code == 0)
                build_log_note(&run->log, reason);
        build_log_finish(&run->log, clock_wall_ms() / 1000, run->exit_code);
        if (run->log.error)
                log_warning("log file %s is not complete: %s", run->log.path,
                            strerror(run->log.error));
        packer_workspace_done(&run->workspace);
        run->callbacks.on_end(run, &result, run->userdata);
}

// One piece of the output. 1: there was one; 0: there is none now; < 0: its end, or an error that
// will not go away.
static int take_output(PackerRun *run)
{
        char data[READ_BYTES];
        ssize_t n = read(run->out_fd, data, sizeof data);

        if (n <= 0)
                return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
        build_log_write(&run->log, data, (size_t)n);
        packer_output_feed(&run->output, data, (size_t)n, pass_phase_on, run);
        return 1;
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        PackerRun *run = userdata;

        (void)source;
        (void)fd;
        (void)events;
        if (take_output(run) >= 0)
                return 0;
        drop_source(&run->io);
        if (run->exited)
                finish(run);
        return 0;
}

// As much as the pipe can hold. False at its end.
static bool take_rest(PackerRun *run)
{
        size_t n = 0;
        int r = 1;

        for (; n < PIPE_BYTES / READ_BYTES && r > 0; n++)
                r = take_output(run);
        return r >= 0;
}

// A daemon that a script of the build started, in a session of its own, has the output open.
static int on_linger_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        PackerRun *run = userdata;

        (void)source;
        (void)usec;
        (void)take_rest(run);
        build_log_note(&run->log, "Packer has ended, but a process that this build started runs on "
                                  "and keeps its output open; what it says is not waited for");
        finish(run);
        return 0;
}

static int add_timer(sd_event *event, int64_t seconds, sd_event_time_handler_t handler,
                     PackerRun *run, sd_event_source **ret)
{
        uint64_t now = 0;
        int r = sd_event_now(event, CLOCK_MONOTONIC, &now);

        if (r < 0)
                return r;
        return sd_event_add_time(event, ret, CLOCK_MONOTONIC,
                                 now + (uint64_t)seconds * USEC_PER_SECOND, 0, handler, run);
}

static int on_exit_seen(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        PackerRun *run = userdata;

        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        run->exited = true;
        run->exit_code = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
        // What Packer left running (a shell-local script outlives a cancelled Packer) would hold
        // the log open for ever. The leader is not reaped yet, so the group is still this one.
        (void)kill(-run->pid, SIGKILL);
        if (!run->io || !take_rest(run))
                finish(run); // otherwise the end of its output does, or the timer
        else
                (void)add_timer(sd_event_source_get_event(run->child), LINGER_SECONDS,
                                on_linger_over, run, &run->linger_timer);
        return 0;
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        PackerRun *run = userdata;

        (void)source;
        (void)usec;
        if (!run->exited) {
                build_log_note(&run->log, "Packer did not end within STOP_GRACE; killing it and "
                                          "all it started: its server and keypair may be left");
                (void)kill(-run->pid, SIGKILL);
        }
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        PackerRun *run = userdata;
        _cleanup_free_ char *reason = NULL;

        (void)source;
        (void)usec;
        if (run->exited || run->stop_reason)
                return 0;
        run->given_up = true;
        reason = xasprintf("not done after BUILD_TIMEOUT (%lld s)%s%s",
                           (long long)run->config->build.build_timeout_seconds,
                           run->output.phase ? ", while in phase " : "",
                           run->output.phase ? run->output.phase : "");
        packer_run_stop(run, reason);
        return 0;
}

void packer_run_stop(PackerRun *run, const char *reason)
{
        if (run->exited || run->stop_reason)
                return;
        run->stop_reason = xstrdup(reason);
        build_log_note(&run->log, reason);
        (void)kill(run->pid, SIGTERM);
        // Without the timer Packer still ends by itself, only without a limit.
        (void)add_timer(sd_event_source_get_event(run->child),
                        run->config->build.stop_grace_seconds, on_grace_over, run,
                        &run->kill_timer);
}

void packer_run_fail(PackerRun *run, const char *reason)
{
        if (run->exited || run->stop_reason)
                return;
        run->given_up = true;
        packer_run_stop(run, reason);
}

static int watch(PackerRun *run, sd_event *event, Error *err)
{
        int r = child_watch(event, run->pid, on_exit_seen, run, &run->child);

        if (r == 0)
                r = sd_event_add_io(event, &run->io, run->out_fd, EPOLLIN, on_output, run);
        if (r == 0)
                r = sd_event_source_set_priority(run->io, OUTPUT_PRIORITY);
        if (r == 0)
                r = add_timer(event, run->config->build.build_timeout_seconds, on_timeout, run,
                              &run->timeout);
        if (r < 0)
                return error_set(err, -r, "cannot watch Packer: %s", strerror(-r));
        return 0;
}

static int spawn(PackerRun *run, const PackerRunSpec *spec, Error *err)
{
        _cleanup_close_ int write_end = -1;
        int ends[2];
        ChildSpec child = {
                .argv = (const char *const *)run->workspace.argv,
                .envp = (const char *const *)run->workspace.envp,
                .cwd = run->workspace.cwd,
                .new_session = true,
                .death_signal = SIGTERM,
        };
        int r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_sys(err, "cannot make a pipe for Packer's output");
        run->out_fd = ends[0];
        child.out_fd = write_end = ends[1];
        // Packer holds the reading end of its output too: when this process dies, its writes must
        // not fail. A Go program dies of a broken pipe, and would leave its server and keypair.
        child.kept_fd = run->out_fd;
        (void)fcntl(run->out_fd, F_SETPIPE_SZ, PIPE_BYTES);
        if (fcntl(run->out_fd, F_SETFL, O_NONBLOCK) < 0)
                return error_sys(err, "cannot set up the pipe for Packer's output");
        r = child_spawn(&child, &run->pid, err);
        if (r < 0)
                return error_prefix(err, "cannot start Packer (PACKER_PATH = %s)",
                                    spec->config->build.packer_path);
        return 0;
}

int packer_run_start(sd_event *event, const PackerRunSpec *spec,
                     const PackerRunCallbacks *callbacks, void *userdata, PackerRun **ret,
                     Error *err)
{
        _cleanup_(packer_run_free_p) PackerRun *run = xcalloc(1, sizeof *run);
        int r;

        *run = (PackerRun){.config = spec->config,
                           .redactor = spec->redactor,
                           .callbacks = *callbacks,
                           .userdata = userdata,
                           .log = BUILD_LOG_INIT,
                           .output = PACKER_OUTPUT_INIT,
                           .pid = -1,
                           .out_fd = -1};
        r = packer_workspace_make(spec, &run->workspace, err);
        if (r != 0)
                return r;
        r = build_log_open(&run->log, spec->config->build.log_dir, run->workspace.image_file,
                           run->workspace.template_name, clock_wall_ms() / 1000,
                           spec->config->build.max_log_bytes, spec->redactor, err);
        if (r < 0)
                return r;
        r = spawn(run, spec, err);
        if (r == 0)
                r = watch(run, event, err);
        if (r < 0) {
                build_log_note(&run->log, err ? err->text : "cannot start Packer");
                build_log_finish(&run->log, clock_wall_ms() / 1000, 127);
                return r;
        }
        *ret = TAKE_PTR(run);
        return 0;
}

pid_t packer_run_pid(const PackerRun *run)
{
        return run->pid;
}

const char *packer_run_server(const PackerRun *run)
{
        return run->output.server;
}

const char *packer_run_log_path(const PackerRun *run)
{
        return run->log.path;
}

void packer_run_free(PackerRun *run)
{
        drop_source(&run->child);
        drop_source(&run->io);
        drop_source(&run->timeout);
        drop_source(&run->kill_timer);
        drop_source(&run->linger_timer);
        if (run->pid > 0 && !run->exited) {
                (void)kill(-run->pid, SIGKILL);
                (void)waitpid(run->pid, NULL, 0);
        }
        if (run->out_fd >= 0)
                (void)close(run->out_fd);
        build_log_done(&run->log);
        packer_output_done(&run->output);
        packer_workspace_done(&run->workspace);
        free(run->stop_reason);
        free(run);
}
