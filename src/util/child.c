// vfork and not posix_spawn, which cannot set the signal for the parent's death; and not fork,
// which copies our page tables and makes us fault on each page afterwards. Until the child is
// another program it runs in our memory while we wait: it only makes system calls, and changes
// nothing but its own variables and errno.
#include "util/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/strutil.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define FIRST_FREE_FD 3
#define READ_CHUNK 16384
#define EXIT_NOT_STARTED 127 // as a shell says it
#define EXIT_SIGNAL_BASE 128

// gcov writes its counters before an exec and takes them for written then; in a child that shares
// our memory those would be ours.
#ifdef COVERAGE
#define START_CHILD fork
#else
#define START_CHILD vfork
#endif

// What the child was doing when it failed.
typedef enum Step {
        STEP_STDIO,
        STEP_DESCRIPTORS,
        STEP_SESSION,
        STEP_DEATH_SIGNAL,
        STEP_CWD,
        STEP_EXEC,
} Step;

typedef struct Failure {
        Step step;
        int code; // errno
} Failure;

// execve does not write to its vectors, but its prototype predates const.
typedef union Vector {
        const char *const *strings;
        char *const *for_exec;
} Vector;

static bool is_program(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

// Relative folders in PATH, the empty one too, would depend on where we are: they do not count.
static int find_program(const char *name, char **ret_path, Error *err)
{
        const char *path = getenv("PATH");
        _cleanup_strv_ char **folders = strv_split(path ? path : DEFAULT_PATH, ":");

        if (strchr(name, '/')) {
                *ret_path = xstrdup(name);
                return 0;
        }
        STRV_FOREACH (folder, folders) {
                _cleanup_free_ char *candidate = fs_join(*folder, name);

                if (**folder == '/' && is_program(candidate)) {
                        *ret_path = TAKE_PTR(candidate);
                        return 0;
                }
        }
        return error_set(err, ENOENT, "cannot run %s: there is no such program in PATH (%s)", name,
                         path ? path : DEFAULT_PATH);
}

char *child_own_program(const char *name)
{
        char own[PATH_MAX];
        ssize_t len = readlink("/proc/self/exe", own, sizeof own);

        if (len > 0 && len < (ssize_t)sizeof own) {
                _cleanup_free_ char *running = xstrndup(own, (size_t)len);
                _cleanup_free_ char *folder = fs_folder_of(running);
                char *path = fs_join(folder, name);

                if (is_program(path))
                        return path;
                free(path);
        }
        return fs_join(PACKUILON_LIBEXEC_DIR, name);
}

static int set_stdio(const ChildSpec *spec)
{
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        int in, out;

        if (null_fd < 0)
                return -errno;
        // Both out of the way of 0, 1 and 2 first: any of them may be one of these, or closed.
        in = fcntl(spec->in_fd ? spec->in_fd : null_fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        out = fcntl(spec->out_fd < 0 ? null_fd : spec->out_fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
                return -errno;
        if (!spec->keep_stderr && dup2(out, STDERR_FILENO) < 0)
                return -errno;
        return 0;
}

static int set_death_signal(int death_signal, pid_t parent)
{
        if (prctl(PR_SET_PDEATHSIG, (unsigned long)death_signal) < 0)
                return -errno;
        // Whoever died before that call left no signal behind.
        return getppid() == parent ? 0 : -ESRCH;
}

static void reset_signals(void)
{
        const struct sigaction by_default = {.sa_handler = SIG_DFL};
        sigset_t none;

        // Fails for those that nobody can change. What is handled is by default after an exec; to
        // be ignored is what may be inherited, and nobody does that to the real-time signals.
        for (int number = 1; number <= SIGSYS; number++)
                (void)sigaction(number, &by_default, NULL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int prepare_child(const ChildSpec *spec, pid_t parent, Step *ret_step)
{
        int r;

        *ret_step = STEP_STDIO;
        r = set_stdio(spec);
        if (r < 0)
                return r;
        *ret_step = STEP_DESCRIPTORS;
        if (close_range(FIRST_FREE_FD, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                return -errno;
        if (spec->kept_fd && fcntl(spec->kept_fd, F_SETFD, 0) < 0)
                return -errno;
        *ret_step = STEP_SESSION;
        if (spec->new_session && setsid() < 0)
                return -errno;
        *ret_step = STEP_DEATH_SIGNAL;
        if (spec->death_signal != 0) {
                r = set_death_signal(spec->death_signal, parent);
                if (r < 0)
                        return r;
        }
        *ret_step = STEP_CWD;
        if (spec->cwd && chdir(spec->cwd) < 0)
                return -errno;
        reset_signals();
        return 0;
}

static void run_child(const ChildSpec *spec, const char *program, pid_t parent, int failure_fd)
        __attribute__((noreturn));

static void run_child(const ChildSpec *spec, const char *program, pid_t parent, int failure_fd)
{
        const Vector argv = {.strings = spec->argv}, envp = {.strings = spec->envp};
        Failure failure;
        ssize_t ignored;

        failure.code = -prepare_child(spec, parent, &failure.step);
        if (failure.code == 0) {
                failure.step = STEP_EXEC;
                // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): not through the union
                (void)execve(program, argv.for_exec, spec->envp ? envp.for_exec : environ);
                failure.code = errno;
        }
        ignored = write(failure_fd, &failure, sizeof failure);
        (void)ignored; // the parent reads the end of file as success, but then reaps a 127
        _exit(EXIT_NOT_STARTED);
}

static int explain(const ChildSpec *spec, const char *program, const Failure *failure, Error *err)
{
        errno = failure->code;
        switch (failure->step) {
        case STEP_STDIO:
                return error_sys(err, "cannot run %s: its standard streams", program);
        case STEP_DESCRIPTORS:
                return error_sys(err, "cannot run %s: closing our files", program);
        case STEP_SESSION:
                return error_sys(err, "cannot run %s: a session of its own", program);
        case STEP_DEATH_SIGNAL:
                return error_sys(err, "cannot run %s: its signal for our death", program);
        case STEP_CWD:
                return error_sys(err, "cannot run %s in the folder %s", program, spec->cwd);
        case STEP_EXEC:
                break;
        }
        return error_sys(err, "cannot run %s", program);
}

static ssize_t read_retrying(int fd, void *data, size_t len)
{
        ssize_t got;

        do
                got = read(fd, data, len);
        while (got < 0 && errno == EINTR);
        return got;
}

static void reap(pid_t pid, int *ret_status)
{
        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
                ;
}

// Both ends above the standard streams, which the child replaces.
static int failure_pipe(int ret_fds[2], Error *err)
{
        int raw[2];

        if (pipe2(raw, O_CLOEXEC) < 0)
                return error_sys(err, "cannot create a pipe");
        for (int i = 0; i < 2; i++) {
                ret_fds[i] = raw[i];
                if (raw[i] >= FIRST_FREE_FD)
                        continue;
                ret_fds[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
                (void)close(raw[i]);
        }
        if (ret_fds[0] < 0 || ret_fds[1] < 0)
                return error_sys(err, "cannot create a pipe");
        return 0;
}

// A function of its own, so that nothing else lives in the frame that the child returns to.
static pid_t start_child(const ChildSpec *spec, const char *program, pid_t parent, int failure_fd)
        __attribute__((noinline));

static pid_t start_child(const ChildSpec *spec, const char *program, pid_t parent, int failure_fd)
{
        pid_t pid = START_CHILD(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): see above

        if (pid == 0)
                // NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it keeps to what is said above
                run_child(spec, program, parent, failure_fd);
        return pid;
}

int child_spawn(const ChildSpec *spec, pid_t *ret_pid, Error *err)
{
        _cleanup_free_ char *program = NULL;
        int fds[2] = {-1, -1}, r = find_program(spec->argv[0], &program, err);
        _cleanup_close_ int from_child = -1, to_parent = -1;
        sigset_t all, before;
        Failure failure;
        pid_t parent = getpid(), pid;
        ssize_t got;

        if (r < 0)
                return r;
        r = failure_pipe(fds, err);
        from_child = fds[0];
        to_parent = fds[1];
        if (r < 0)
                return r;

        // No handler of ours may run in the child.
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &before);
        pid = start_child(spec, program, parent, to_parent);
        r = pid < 0 ? error_sys(err, "cannot make a process for %s", program) : 0;
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (r < 0)
                return r;

        (void)close(TAKE_FD(to_parent));
        got = read_retrying(from_child, &failure, sizeof failure);
        if (got == (ssize_t)sizeof failure) {
                reap(pid, NULL);
                return explain(spec, program, &failure, err);
        }
        *ret_pid = pid;
        return 0;
}

// Takes what is there; false at the end of the stream. What is over the limit is dropped.
static bool collect(int fd, Buf *out)
{
        char chunk[READ_CHUNK];
        ssize_t got = read_retrying(fd, chunk, sizeof chunk);
        size_t room = out->max - MIN(out->len, out->max);

        if (got <= 0)
                return got < 0 && errno == EAGAIN;
        return buf_append(out, chunk, MIN((size_t)got, room)) == 0;
}

static bool is_readable(int fd)
{
        struct pollfd one = {.fd = fd, .events = POLLIN};

        return poll(&one, 1, 0) > 0;
}

// Until the process ends; what it left in the pipe is read too, but nobody who inherited the other
// end is waited for. A process that runs on at the deadline is an error.
static int collect_until_exit(int pidfd, int fd, int64_t deadline, Buf *out)
{
        struct pollfd polled[] = {{.fd = pidfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

        for (;;) {
                int64_t left = deadline - clock_mono_ms();
                int ready;

                if (left <= 0)
                        return -ETIMEDOUT;
                ready = poll(polled, ELEMENTSOF(polled), (int)MIN(left, INT32_MAX));
                if (ready < 0 && errno != EINTR)
                        return -errno;
                if (ready <= 0)
                        continue;
                if (polled[1].revents != 0 && !collect(fd, out))
                        polled[1].fd = -1;
                if (polled[0].revents != 0)
                        break;
        }
        while (polled[1].fd >= 0 && clock_mono_ms() < deadline && is_readable(fd)) {
                if (!collect(fd, out))
                        break;
        }
        return 0;
}

int child_capture(const ChildSpec *spec, int64_t timeout_ms, Buf *out, int *ret_status, Error *err)
{
        int64_t deadline = clock_mono_ms() + timeout_ms;
        _cleanup_close_ int read_fd = -1, write_fd = -1, pidfd = -1;
        ChildSpec own = *spec;
        int fds[2], r;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_sys(err, "cannot create a pipe");
        read_fd = fds[0];
        write_fd = fds[1];
        own.out_fd = write_fd;
        own.new_session = true;
        r = child_spawn(&own, &pid, err);
        if (r < 0)
                return r;
        (void)close(TAKE_FD(write_fd));

        pidfd = (int)syscall(SYS_pidfd_open, pid, 0); // glibc has it from 2.36 on
        r = pidfd < 0 ? -errno : collect_until_exit(pidfd, read_fd, deadline, out);
        if (r < 0)
                (void)kill(-pid, SIGKILL);
        reap(pid, ret_status);
        if (r == -ETIMEDOUT)
                return error_set(err, ETIMEDOUT, "%s did not end within %lld ms", spec->argv[0],
                                 (long long)timeout_ms);
        if (r < 0) {
                errno = -r;
                return error_sys(err, "cannot wait for %s", spec->argv[0]);
        }
        return 0;
}

int child_exit_code(int status)
{
        return WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}
