// Runs a command and says what it took: measure RESULT-FILE COMMAND…
//
// Writes "<wall ns> <user+system ns> <greatest resident bytes> <exit status>". A small parent of
// its own, because the greatest resident size of a child counts what it shared with its parent
// before exec.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long timeval_ns(struct timeval time)
{
        return (long long)time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
}

int main(int argc, char **argv)
{
        struct rusage usage;
        long long started, ended;
        int status;
        pid_t pid;
        FILE *result;

        if (argc < 3)
                return 2;
        started = now_ns();
        pid = fork();
        if (pid == 0) {
                (void)execvp(argv[2], argv + 2);
                fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
                _exit(127);
        }
        if (pid < 0 || wait4(pid, &status, 0, &usage) < 0)
                return 1;
        ended = now_ns();
        result = fopen(argv[1], "we");
        if (!result)
                return 1;
        fprintf(result, "%lld %lld %lld %d\n", ended - started,
                timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime),
                (long long)usage.ru_maxrss * 1024,
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return fclose(result) != 0;
}
