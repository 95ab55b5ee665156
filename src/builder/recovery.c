// What a worker that died left in the journal: its queued builds wait again, those that ran are
// marked interrupted and queued anew. A Packer of it may still be cleaning up (the kernel sent it
// TERM): the new build of that image waits until it is gone.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define ENVIRON_MAX ((size_t)1024 * 1024)

static void copy_build(const Build *from, Build *to)
{
        to->state = BUILD_QUEUED;
        to->image = xstrdup(from->image);
        to->template = xstrdup(from->template);
        to->personality = xstrdup(from->personality);
        to->os = xstrdup(from->os);
        to->source_image = xstrdup(from->source_image);
        to->entry = xstrdup(from->entry);
        to->content_id = xstrdup(from->content_id);
        to->message_id = xstrdup(from->message_id);
        to->changes = xstrdup(from->changes);
        to->attempt = from->attempt + 1;
        to->exit_code = -1;
}

int worker_interrupt(Worker *worker, Build *build, const char *reason, Job **ret_again, Error *err)
{
        _cleanup_free_ char *body = NULL;
        size_t body_len;
        Job *again;
        int r = store_build_body(worker->store, build->id, &body, &body_len, err);

        if (r < 0)
                return r;
        if (r == STORE_NOT_FOUND)
                return error_set(err, ENOENT, "its message is no longer in the journal");
        again = job_new(worker);
        copy_build(build, &again->build);
        again->build.build_id = message_new_id();
        again->build.queued_ms = clock_wall_ms();
        r = store_build_insert(worker->store, &again->build, body, body_len, err);
        if (r == 0)
                r = store_build_transition(worker->store, build, BUILD_EVENT_INTERRUPT, reason,
                                           clock_wall_ms(), err);
        if (r < 0) {
                job_free(again);
                return r;
        }
        *ret_again = again;
        return 0;
}

// True if process `pid` is the Packer of this build and not another that got its number.
static bool is_packer_of(const Build *build)
{
        _cleanup_free_ char *path = xasprintf("/proc/%lld/environ", (long long)build->pid);
        _cleanup_free_ char *mark = xasprintf("PACKUILON_BUILD_ID=%s", build->build_id);
        _cleanup_buf_ Buf text = BUF_INIT(ENVIRON_MAX);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char data[4096];
        ssize_t n;

        if (fd < 0)
                return false;
        while ((n = read(fd, data, sizeof data)) > 0) {
                if (buf_append(&text, data, (size_t)n) < 0)
                        return false;
        }
        return text.len && memmem(text.data, text.len, mark, strlen(mark) + 1);
}

static int on_predecessor_gone(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Job *job = userdata;

        (void)source;
        (void)fd;
        (void)events;
        log_info("build %lld (%s): the Packer of the interrupted build is gone",
                 (long long)job->build.id, job->build.image);
        (void)sd_event_source_set_enabled(job->predecessor, SD_EVENT_OFF);
        job->predecessor = sd_event_source_unref(job->predecessor);
        (void)close(TAKE_FD(job->predecessor_fd));
        worker_schedule(job->worker);
        return 0;
}

static void wait_for_predecessor(Job *job, const Build *interrupted)
{
        if (interrupted->pid <= 0 || !is_packer_of(interrupted))
                return;
        job->predecessor_fd = (int)syscall(SYS_pidfd_open, (pid_t)interrupted->pid, 0);
        if (job->predecessor_fd < 0)
                return; // gone in the meantime
        (void)kill((pid_t)interrupted->pid, SIGTERM);
        if (sd_event_add_io(job->worker->event, &job->predecessor, job->predecessor_fd, EPOLLIN,
                            on_predecessor_gone, job) < 0)
                (void)close(TAKE_FD(job->predecessor_fd));
        else
                log_notice("build %lld (%s) waits for Packer %lld of the interrupted build to "
                           "clean up",
                           (long long)job->build.id, job->build.image, (long long)interrupted->pid);
}

typedef struct Found {
        Build *builds;
        size_t n;
} Found;

static int collect(const Build *build, void *userdata)
{
        Found *found = userdata;
        Build *copy;

        found->builds = xreallocarray(found->builds, found->n + 1, sizeof *found->builds);
        copy = &found->builds[found->n++];
        *copy = (Build){0};
        copy_build(build, copy);
        copy->id = build->id;
        copy->build_id = xstrdup(build->build_id);
        copy->state = build->state;
        copy->attempt = build->attempt;
        copy->queued_ms = build->queued_ms;
        copy->started_ms = build->started_ms;
        copy->pid = build->pid;
        copy->phase = xstrdup(build->phase);
        copy->log_path = xstrdup(build->log_path);
        return 0;
}

static int take_up(Worker *worker, Build *build, Error *err)
{
        Job *job;
        int r;

        if (build->state != BUILD_BUILDING) {
                job = job_new(worker);
                job->build = *build;
                *build = (Build){0};
                return 0;
        }
        r = worker_interrupt(worker, build, "rabbit2packer ended while it ran", &job, err);
        if (r < 0)
                return error_prefix(err, "build %lld", (long long)build->id);
        log_notice("build %lld (%s) was interrupted; it is built again as build %lld",
                   (long long)build->id, build->image, (long long)job->build.id);
        wait_for_predecessor(job, build);
        return 0;
}

int worker_recover(Worker *worker, Error *err)
{
        static const BuildFilter unfinished = {.only_unfinished = true, .oldest_first = true};
        Found found = {0};
        int r = store_builds_each(worker->store, &unfinished, collect, &found, err);

        if (r >= 0 && found.n)
                r = worker_write(worker, err);
        for (size_t at = 0; at < found.n; at++) {
                if (r >= 0)
                        r = take_up(worker, &found.builds[at], err);
                build_done(&found.builds[at]);
        }
        free(found.builds);
        if (r < 0)
                return error_prefix(err, "cannot take up what an earlier worker left");
        return 0;
}
