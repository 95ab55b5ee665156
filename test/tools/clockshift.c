// LD_PRELOAD library that sets a program's wall clock (and that of what it starts) off by the
// number of seconds in the file CLOCKSHIFT_FILE, read at each call; without the file it is right.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
        const char *path = getenv("CLOCKSHIFT_FILE");
        char text[32];
        ssize_t n = -1;
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

        if (fd >= 0) {
                n = read(fd, text, sizeof text - 1);
                (void)close(fd);
        }
        text[n > 0 ? n : 0] = '\0';
        return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
        int r = (int)syscall(SYS_clock_gettime, clock, ret);

        if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                ret->tv_sec += offset();
        return r;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
        struct timespec now;
        int r = clock_gettime(CLOCK_REALTIME, &now);

        (void)zone;
        ret->tv_sec = now.tv_sec;
        ret->tv_usec = now.tv_nsec / 1000;
        return r;
}

time_t time(time_t *ret)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}
