#include "builder/predecessors.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/identity.h"
#include "core/template.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define ENVIRON_MAX ((size_t)1024 * 1024)

typedef struct Predecessor {
        struct Predecessor *next;
        Predecessors *all;
        pid_t pid;
        int pidfd;
        char *target;
        char *folder;
        sd_event_source *gone;
} Predecessor;

struct Predecessors {
        Predecessor *first;
        char *state_dir;
        PredecessorFn on_gone;
        void *userdata;
        sd_event_source *limit;
};

char *predecessor_target(const char *image, const char *template_path)
{
        _cleanup_free_ char *file = identity_file_name(image);
        _cleanup_free_ char *template = template_name(template_path);

        return xasprintf("%s.%s", file, template);
}

// ---- finding -------------------------------------------------------------------------------

static int read_environ(pid_t pid, Buf *environment)
{
        _cleanup_free_ char *path = xasprintf("/proc/%d/environ", (int)pid);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char data[4096];
        ssize_t n;

        if (fd < 0)
                return -errno;
        while ((n = read(fd, data, sizeof data)) > 0) {
                int r = buf_append(environment, data, (size_t)n);

                if (r < 0)
                        return r;
        }
        return n < 0 ? -errno : 0;
}

// The value of a variable in NUL-separated text, or NULL.
static const char *find_variable(const Buf *environment, const char *name)
{
        const char *at = buf_str(environment), *end = at + environment->len;
        size_t len = strlen(name);

        for (; at < end; at += strlen(at) + 1) {
                if (strncmp(at, name, len) == 0 && at[len] == '=')
                        return at + len + 1;
        }
        return NULL;
}

static void predecessor_free(Predecessor *one)
{
        if (one->gone)
                (void)sd_event_source_set_enabled(one->gone, SD_EVENT_OFF);
        (void)sd_event_source_unref(one->gone);
        if (one->pidfd >= 0)
                (void)close(one->pidfd);
        free(one->target);
        free(one->folder);
        free(one);
}
DEFINE_CLEANUP(Predecessor, predecessor_free)

static bool has_process(const Predecessors *all, const char *folder)
{
        for (const Predecessor *one = all->first; one; one = one->next) {
                if (strcmp(one->folder, folder) == 0)
                        return true;
        }
        return false;
}

static void remove_folder(const Predecessors *all, const char *folder)
{
        _cleanup_free_ char *root = fs_join(all->state_dir, "tmp");
        _cleanup_free_ char *path = fs_join(root, folder);
        Error err = ERROR_NONE;

        if (fs_remove_tree(path, &err) < 0)
                log_warning("%s", err.text);
}

static void send_signal(const Predecessor *one, int signal_number)
{
        (void)syscall(SYS_pidfd_send_signal, one->pidfd, signal_number, NULL, 0);
}

// A session without its leader is what a Packer that has ended left running. A leader that nobody
// has reaped has ended, too: its pidfd is readable.
static bool has_leader(pid_t pid)
{
        pid_t session = getsid(pid);
        _cleanup_close_ int pidfd = session > 0 ? (int)syscall(SYS_pidfd_open, session, 0) : -1;
        struct pollfd ended = {.fd = pidfd, .events = POLLIN};

        return pidfd >= 0 && poll(&ended, 1, 0) == 0;
}

// TERM is for Packer alone: what it runs to delete its server has the same environment.
static void ask_to_end(const Predecessor *one)
{
        if (!has_leader(one->pid))
                send_signal(one, SIGKILL);
        else if (getsid(one->pid) == one->pid)
                send_signal(one, SIGTERM);
}

static void kill_leaderless(const Predecessors *all, const char *folder)
{
        for (const Predecessor *one = all->first; one; one = one->next) {
                if (strcmp(one->folder, folder) == 0 && !has_leader(one->pid))
                        send_signal(one, SIGKILL);
        }
}

static int on_process_gone(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        _cleanup_(predecessor_free_p) Predecessor *one = userdata;
        Predecessors *all = one->all;
        Predecessor **at;

        (void)source;
        (void)fd;
        (void)events;
        for (at = &all->first; *at != one; at = &(*at)->next)
                ;
        *at = one->next;
        if (!has_process(all, one->folder)) {
                log_info("what was left of the build of %s is gone", one->target);
                remove_folder(all, one->folder);
        } else {
                kill_leaderless(all, one->folder);
        }
        all->on_gone(one->target, all->userdata);
        return 0;
}

static int examine(Predecessors *all, sd_event *event, pid_t pid, Error *err)
{
        _cleanup_(predecessor_free_p) Predecessor *one = xcalloc(1, sizeof *one);
        _cleanup_buf_ Buf environment = BUF_INIT(ENVIRON_MAX);
        const char *state_dir, *target, *folder;
        int r;

        one->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); // before we look: it is this one then
        if (one->pidfd < 0 || read_environ(pid, &environment) < 0)
                return 0; // gone, or not ours to see
        state_dir = find_variable(&environment, PREDECESSOR_STATE_DIR);
        target = find_variable(&environment, PREDECESSOR_TARGET);
        folder = find_variable(&environment, PREDECESSOR_FOLDER);
        if (!state_dir || strcmp(state_dir, all->state_dir) != 0 || !target || !folder ||
            !isdigit((unsigned char)*folder) || strchr(folder, '/'))
                return 0;
        one->all = all;
        one->pid = pid;
        one->target = xstrdup(target);
        one->folder = xstrdup(folder);
        r = sd_event_add_io(event, &one->gone, one->pidfd, EPOLLIN, on_process_gone, one);
        if (r < 0)
                return error_set(err, -r, "cannot watch process %d: %s", (int)pid, strerror(-r));
        ask_to_end(one);
        one->next = all->first;
        all->first = TAKE_PTR(one);
        return 0;
}

static int examine_all(Predecessors *all, sd_event *event, Error *err)
{
        const struct dirent *entry;
        DIR *proc = opendir("/proc");
        int r = 0;

        if (!proc)
                return error_sys(err, "cannot read /proc");
        while (r == 0 && (entry = readdir(proc))) {
                if (isdigit((unsigned char)entry->d_name[0]))
                        r = examine(all, event, (pid_t)strtol(entry->d_name, NULL, 10), err);
        }
        (void)closedir(proc);
        return r;
}

// ---- waiting -------------------------------------------------------------------------------

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        const Predecessors *all = userdata;

        (void)source;
        (void)usec;
        for (const Predecessor *one = all->first; one; one = one->next) {
                log_warning("process %d of an interrupted build of %s did not end within "
                            "STOP_GRACE and is killed: its server and keypair may be left",
                            (int)one->pid, one->target);
                send_signal(one, SIGKILL);
        }
        return 0;
}

static void sweep_folders(const Predecessors *all)
{
        _cleanup_free_ char *root = fs_join(all->state_dir, "tmp");
        const struct dirent *entry;
        DIR *dir = opendir(root);

        if (!dir)
                return; // no build was ever run
        while ((entry = readdir(dir))) {
                if (entry->d_name[0] != '.' && !has_process(all, entry->d_name))
                        remove_folder(all, entry->d_name);
        }
        (void)closedir(dir);
}

int predecessors_find(sd_event *event, const char *state_dir, int64_t grace_seconds,
                      PredecessorFn on_gone, void *userdata, Predecessors **ret, Error *err)
{
        _cleanup_(predecessors_free_p) Predecessors *all = xcalloc(1, sizeof *all);
        int r;

        all->state_dir = xstrdup(state_dir);
        all->on_gone = on_gone;
        all->userdata = userdata;
        r = examine_all(all, event, err);
        if (r < 0)
                return r;
        sweep_folders(all);
        if (all->first) {
                r = sd_event_add_time_relative(event, &all->limit, CLOCK_MONOTONIC,
                                               (uint64_t)grace_seconds * USEC_PER_SECOND, 0,
                                               on_grace_over, all);
                if (r < 0)
                        return error_set(err, -r, "cannot set a timer: %s", strerror(-r));
                log_notice("an earlier rabbit2packer left processes behind: their images wait "
                           "until they have cleaned up");
        }
        *ret = TAKE_PTR(all);
        return 0;
}

bool predecessors_hold(const Predecessors *predecessors, const char *image,
                       const char *template_path)
{
        _cleanup_free_ char *target = NULL;

        if (!predecessors->first || !image || !template_path)
                return false;
        target = predecessor_target(image, template_path);
        return predecessors_hold_target(predecessors, target);
}

bool predecessors_hold_target(const Predecessors *predecessors, const char *target)
{
        for (const Predecessor *one = predecessors->first; one; one = one->next) {
                if (strcmp(one->target, target) == 0)
                        return true;
        }
        return false;
}

void predecessors_each(const Predecessors *predecessors, PredecessorFn fn, void *userdata)
{
        for (const Predecessor *one = predecessors->first; one; one = one->next)
                fn(one->target, userdata);
}

bool predecessors_use_folder(const Predecessors *predecessors, unsigned folder)
{
        _cleanup_free_ char *name = xasprintf("%u", folder);

        return has_process(predecessors, name);
}

void predecessors_free(Predecessors *predecessors)
{
        while (predecessors->first) {
                Predecessor *one = predecessors->first;

                predecessors->first = one->next;
                predecessor_free(one);
        }
        if (predecessors->limit)
                (void)sd_event_source_set_enabled(predecessors->limit, SD_EVENT_OFF);
        (void)sd_event_source_unref(predecessors->limit);
        free(predecessors->state_dir);
        free(predecessors);
}
