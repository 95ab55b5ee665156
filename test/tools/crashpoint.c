// LD_PRELOAD library that makes a program die (SIGKILL) at a chosen one of its durable steps: each
// call by which something leaves the process, for the disk or for a peer.
//
//     CRASHPOINT_PROGRAM  the program it is for; others (children) are left alone
//     CRASHPOINT_LOG      file that gets a line for each step: its number, call and object
//     CRASHPOINT_AT       number of the step to die at (from 1)
//     CRASHPOINT_TORN     die in the middle of it: half of a write is done. Otherwise before it
//
// A run with CRASHPOINT_LOG alone lists the steps; a test then dies at each of them in turn.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long step;

static bool is_for_us(void)
{
        static int known = -1;

        if (known < 0) {
                const char *program = getenv("CRASHPOINT_PROGRAM");

                known = program && strcmp(program, program_invocation_short_name) == 0;
        }
        return known != 0;
}

static void die(void) __attribute__((noreturn));

static void die(void)
{
        (void)syscall(SYS_kill, getpid(), SIGKILL);
        for (;;)
                (void)pause();
}

// The result of the half of a write that was done.
static void die_after(ssize_t done)
{
        (void)done;
        die();
}

static void note(const char *call, const char *object)
{
        const char *path = getenv("CRASHPOINT_LOG");
        char line[512];
        int n, fd;

        if (!path)
                return;
        n = snprintf(line, sizeof line, "%ld %s %s\n", step, call, object);
        fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                          0600);
        if (fd >= 0 && n > 0)
                (void)syscall(SYS_write, fd, line, (size_t)n);
        if (fd >= 0)
                (void)syscall(SYS_close, fd);
}

// Counts a step; dies unless the caller is to tear it: then true.
static bool at_step(const char *call, const char *object)
{
        const char *at = getenv("CRASHPOINT_AT");
        int saved = errno;

        step++;
        note(call, object);
        errno = saved;
        if (!at || strtol(at, NULL, 10) != step)
                return false;
        if (!getenv("CRASHPOINT_TORN"))
                die();
        return true;
}

// The file or socket behind a descriptor; false for those that nobody relies on (terminals, pipes,
// event descriptors).
static bool is_durable(int fd, char *ret_object, size_t size)
{
        char link[64];
        struct stat info;
        ssize_t n;

        if (!is_for_us() || fd == STDERR_FILENO || fd == STDOUT_FILENO || fstat(fd, &info) < 0 ||
            (!S_ISREG(info.st_mode) && !S_ISSOCK(info.st_mode)))
                return false;
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, ret_object, size - 1);
        ret_object[n > 0 ? n : 0] = '\0';
        return true;
}

#define REAL(name)                                                                                 \
        static __typeof__(name) *real;                                                             \
        if (!real)                                                                                 \
        *(void **)&real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t len)
{
        char object[256];

        REAL(write);
        if (is_durable(fd, object, sizeof object) && at_step("write", object)) {
                die_after(real(fd, data, len / 2));
        }
        return real(fd, data, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
        char object[256];

        REAL(pwrite64);
        if (is_durable(fd, object, sizeof object) && at_step("pwrite", object)) {
                die_after(real(fd, data, len / 2, offset));
        }
        return real(fd, data, len, offset);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
        char object[256];

        REAL(send);
        if (is_durable(fd, object, sizeof object) && at_step("send", object)) {
                die_after(real(fd, data, len / 2, flags));
        }
        return real(fd, data, len, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
        char object[256];

        REAL(writev);
        if (is_durable(fd, object, sizeof object) && at_step("writev", object)) {
                die_after(real(fd, parts, 1));
        }
        return real(fd, parts, n);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
        char object[256];

        REAL(sendmsg);
        if (is_durable(fd, object, sizeof object) && at_step("sendmsg", object))
                die();
        return real(fd, message, flags);
}

int fsync(int fd)
{
        char object[256];

        REAL(fsync);
        if (is_durable(fd, object, sizeof object) && at_step("fsync", object))
                die();
        return real(fd);
}

int fdatasync(int fd)
{
        char object[256];

        REAL(fdatasync);
        if (is_durable(fd, object, sizeof object) && at_step("fdatasync", object))
                die();
        return real(fd);
}

int ftruncate64(int fd, off64_t size)
{
        char object[256];

        REAL(ftruncate64);
        if (is_durable(fd, object, sizeof object) && at_step("ftruncate", object))
                die();
        return real(fd, size);
}

int rename(const char *from, const char *to)
{
        REAL(rename);
        if (is_for_us() && at_step("rename", to))
                die();
        return real(from, to);
}

int unlink(const char *path)
{
        REAL(unlink);
        if (is_for_us() && at_step("unlink", path))
                die();
        return real(path);
}

int unlinkat(int dir, const char *path, int flags)
{
        REAL(unlinkat);
        if (is_for_us() && at_step("unlinkat", path))
                die();
        return real(dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
        REAL(mkdir);
        if (is_for_us() && at_step("mkdir", path))
                die();
        return real(path, mode);
}
