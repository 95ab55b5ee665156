// The least that counts as a Packer: notes when it was started, names an artifact, ends.
//
// Appends "<CLOCK_MONOTONIC ns at the start> <… at the end> <last argument>" to the file
// "<argv[0]>.starts". With "--alone LOG" in front of the rest it also writes what rabbit2packer
// writes for each build (build file and log), so that both ways of starting it write the same
// files.
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char output[] =
        "==> Builds finished. The artifacts of successful builds are:\n"
        "--> openstack: An image was created: 2561d107-7585-4ed4-a269-1aedfb136bb6\n";

__attribute__((format(printf, 1, 2))) static char *format(const char *text, ...)
{
        char *made;
        va_list args;

        va_start(args, text);
        if (vasprintf(&made, text, args) < 0)
                abort();
        va_end(args);
        return made; // the process ends before it matters who frees it
}

static long long now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void write_file(const char *path, const char *data, size_t len)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

        if (fd < 0 || write(fd, data, len) != (ssize_t)len || close(fd) != 0) {
                perror(path);
                exit(1);
        }
}

// As rabbit2packer does: the template's text under a new name, renamed into its place, and a log.
static void write_files(const char *template, const char *build_file, const char *log)
{
        static char text[65536];
        const char *part = format("%s.part", build_file);
        int fd = open(template, O_RDONLY | O_CLOEXEC);
        ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);

        if (len < 0 || close(fd) != 0) {
                perror(template);
                exit(1);
        }
        write_file(part, text, (size_t)len);
        if (rename(part, build_file) < 0) {
                perror(build_file);
                exit(1);
        }
        write_file(log, output, sizeof output - 1);
}

int main(int argc, char **argv)
{
        long long started = now_ns();
        const char *line;
        int fd;

        if (argc < 2)
                return 127;
        if (strcmp(argv[1], "version") == 0)
                return puts("Packer v1.6.6") < 0;
        if (strcmp(argv[1], "--alone") == 0) {
                // --alone TEMPLATE LOG-FOLDER BUILD-FILE-FOLDER NAME
                if (argc != 6)
                        return 127;
                write_files(argv[2], format("%s/%s.json", argv[4], argv[5]),
                            format("%s/%s.log", argv[3], argv[5]));
        } else if (write(STDOUT_FILENO, output, sizeof output - 1) < 0) {
                return 1;
        }
        line = format("%lld %lld %s\n", started, now_ns(), argv[argc - 1]);
        fd = open(format("%s.starts", argv[0]), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        return fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line);
}
