// A Packer for tests: behaves towards its caller as Packer 1.6.6 does, and does what a script says.
//
// Like the real one it is two processes, a wrapper and the build: the wrapper passes TERM on, the
// build then cleans up, says so and ends with exit code 1. INT to the process alone is ignored.
//
// The script: key "fake" of a JSON build file (an array of strings), lines "# fake: STEP" of an
// HCL2 one, else the lines of the file "<argv[0]>.script", else "succeed". Steps:
//
//   say TEXT         a line of output             cat FILE          that file's bytes as output
//   builder TEXT     a line of the builder        err TEXT          a line on stderr
//   launch           what a build says until it provisions
//   wait FILE        until the file is there      hang              for ever
//   work MS          takes that long
//   flood BYTES      that much output             flood-until FILE  output until the file is there
//   env NAME         the variable's value, raw
//   env-json NAME    … escaped as JSON            tmp NAME          leaves a file in TMPDIR
//   ignore-term      from here on TERM is ignored, as a hanging server delete does
//   orphan FILE      leaves a process in the session that ignores TERM until the file is there
//   daemon FILE      … in a session of its own
//   save ID          what is said while the image is being saved
//   succeed [ID]     ends as a good build         fail TEXT         ends as a failed one
//   exit N           ends with that code          signal N          ends by that signal
//
// If the folder "<argv[0]>.record" exists, each run leaves a folder in it: argv, env (both with
// NULs as in /proc), cwd, build-file, var-file, started and ended (CLOCK_REALTIME, nanoseconds) and
// exit.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VERSION "1.6.6"
#define POLL_MS 5
#define STEP_MAX 4096
#define SERVER_ID "6488693d-96fa-47d4-ba80-59f18bf0136e"
#define KEYPAIR "packer_6b03eba3-42e7-3fe2-02af-31954b7200b1"
#define DEFAULT_IMAGE_ID "2561d107-7585-4ed4-a269-1aedfb136bb6"

extern char **environ;

static volatile sig_atomic_t terminated;

static struct {
        char *record; // this run's folder; NULL: none
        bool launched;
} run;

static void fatal(const char *what)
{
        fprintf(stderr, "fakepacker: %s: %s\n", what, strerror(errno));
        exit(99);
}

__attribute__((format(printf, 1, 2))) static char *format(const char *text, ...)
{
        char *made = NULL;
        va_list args;

        va_start(args, text);
        if (vasprintf(&made, text, args) < 0)
                fatal("memory");
        va_end(args);
        return made;
}

static char *read_file(const char *path, size_t *ret_len)
{
        FILE *file = fopen(path, "re");
        char *data = NULL;
        size_t len = 0;

        if (!file)
                return NULL;
        for (;;) {
                char *longer = realloc(data, len + 65537);

                if (!longer)
                        fatal("memory");
                data = longer;
                size_t n = fread(data + len, 1, 65536, file);
                len += n;
                if (n == 0)
                        break;
        }
        (void)fclose(file);
        data[len] = '\0';
        if (ret_len)
                *ret_len = len;
        return data;
}

// ---- the record ------------------------------------------------------------------------------

static void record(const char *name, const void *data, size_t len)
{
        char *path;
        FILE *file;

        if (!run.record)
                return;
        path = format("%s/%s", run.record, name);
        file = fopen(path, "we");
        if (!file || fwrite(data, 1, len, file) != len || fclose(file) != 0)
                fatal(path);
        free(path);
}

static void record_text(const char *name, const char *text)
{
        record(name, text, strlen(text));
}

static void record_copy(const char *name, const char *path)
{
        size_t len;
        char *data = path ? read_file(path, &len) : NULL;

        if (data)
                record(name, data, len);
        free(data);
}

static void record_strings(const char *name, char *const *strings)
{
        char *data = NULL;
        size_t len = 0;
        FILE *file = open_memstream(&data, &len);

        if (!file)
                fatal("memory");
        for (; *strings; strings++)
                (void)fwrite(*strings, 1, strlen(*strings) + 1, file);
        (void)fclose(file);
        record(name, data, len);
        free(data);
}

static char *now_text(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        return format("%lld%09ld", (long long)now.tv_sec, now.tv_nsec);
}

static void record_now(const char *name)
{
        char *now = now_text();

        record_text(name, now);
        free(now);
}

static void open_record(char **argv, const char *build_file, const char *var_file)
{
        char *root = format("%s.record", argv[0]), *now = now_text();
        char cwd[4096];

        if (access(root, W_OK) == 0) {
                run.record = format("%s/%s-%d", root, now, (int)getpid());
                if (mkdir(run.record, 0700) < 0)
                        fatal(run.record);
                record_text("cwd", getcwd(cwd, sizeof cwd) ? cwd : "?");
                record_strings("argv", argv);
                record_strings("env", environ);
                record_copy("build-file", build_file);
                record_copy("var-file", var_file);
                record_text("started", now); // last: a test may wait for it
        }
        free(root);
        free(now);
}

// ---- how it ends -----------------------------------------------------------------------------

__attribute__((noreturn)) static void end(int code)
{
        char *text = format("%d", code);

        (void)fflush(NULL);
        record_text("exit", text);
        record_now("ended");
        free(text);
        _exit(code); // what was allocated is the system's
}

static void say_cleanup(void)
{
        if (!run.launched)
                return;
        printf("==> openstack: Terminating the source server: %s ...\n"
               "==> openstack: Deleting temporary keypair: %s ...\n",
               SERVER_ID, KEYPAIR);
}

__attribute__((noreturn)) static void cancelled(void)
{
        printf("Cancelling build after receiving terminated\n");
        say_cleanup();
        printf("Build 'openstack' finished after 26 seconds 220 milliseconds.\n\n"
               "==> Wait completed after 26 seconds 221 milliseconds\n"
               "Cleanly cancelled builds after being interrupted.\n");
        end(1);
}

static void check_term(void)
{
        if (terminated)
                cancelled();
}

static void pause_ms(int ms)
{
        const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

        (void)nanosleep(&pause, NULL);
        check_term();
}

static void succeed(const char *image_id)
{
        if (!*image_id)
                image_id = DEFAULT_IMAGE_ID;
        say_cleanup();
        printf("Build 'openstack' finished after 20 seconds 221 milliseconds.\n\n"
               "==> Wait completed after 20 seconds 221 milliseconds\n\n"
               "==> Builds finished. The artifacts of successful builds are:\n"
               "--> openstack: An image was created: %s\n",
               image_id);
        end(0);
}

static void fail(const char *why)
{
        say_cleanup();
        printf("Build 'openstack' errored after 15 seconds 625 milliseconds: %s\n\n"
               "==> Wait completed after 15 seconds 625 milliseconds\n\n"
               "==> Some builds didn't complete successfully and had errors:\n"
               "--> openstack: %s\n\n"
               "==> Builds finished but no artifacts were created.\n",
               why, why);
        end(1);
}

// ---- steps -----------------------------------------------------------------------------------

static void say(const char *text)
{
        printf("%s\n", text);
}

static void builder(const char *text)
{
        printf("    openstack: %s\n", text);
}

static void say_error(const char *text)
{
        (void)fflush(stdout);
        fprintf(stderr, "%s\n", text);
}

static void cat(const char *path)
{
        size_t len;
        char *data = read_file(path, &len);

        if (!data)
                fatal(path);
        (void)fwrite(data, 1, len, stdout);
        free(data);
}

static void launch(const char *unused)
{
        (void)unused;
        run.launched = true;
        printf("==> openstack: Loading flavor: m1.tiny\n"
               "    openstack: Verified flavor. ID: 1\n"
               "==> openstack: Creating temporary keypair: " KEYPAIR " ...\n"
               "==> openstack: Created temporary keypair: " KEYPAIR "\n"
               "==> openstack: Launching server...\n"
               "    openstack: Server ID: " SERVER_ID "\n"
               "==> openstack: Waiting for server to become ready...\n"
               "==> openstack: Using ssh communicator to connect: 10.77.0.128\n"
               "==> openstack: Waiting for SSH to become available...\n"
               "==> openstack: Connected to SSH!\n"
               "==> openstack: Provisioning with shell script: /tmp/packer-shell3545514090\n");
}

static void wait_for_file(const char *path)
{
        (void)fflush(stdout);
        while (access(path, F_OK) < 0)
                pause_ms(POLL_MS);
}

static void hang(const char *unused)
{
        (void)unused;
        (void)fflush(stdout);
        for (;;)
                pause_ms(1000);
}

static void work(const char *milliseconds)
{
        (void)fflush(stdout);
        for (int left = atoi(milliseconds); left > 0; left -= POLL_MS)
                pause_ms(POLL_MS);
}

static void flood(const char *bytes)
{
        static const char line[] = "    openstack: the quick brown fox jumps over the lazy dog\n";

        for (long long left = atoll(bytes); left > 0; left -= (long long)sizeof line - 1) {
                check_term();
                (void)fwrite(line, 1, sizeof line - 1, stdout);
        }
}

static void flood_until(const char *path)
{
        while (access(path, F_OK) < 0)
                flood("1000000");
}

static void say_variable(const char *name)
{
        const char *value = getenv(name);

        printf("    openstack: value is %s here\n", value ? value : "(unset)");
}

static void say_variable_as_json(const char *name)
{
        const char *value = getenv(name);
        json_t *text = json_string(value ? value : "");
        char *escaped = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

        printf("    openstack: {\"adminPass\": %s}\n", escaped ? escaped : "(not UTF-8)");
        free(escaped);
        json_decref(text);
}

static void leave_in_tmp(const char *name)
{
        const char *tmp = getenv("TMPDIR");
        char *path = format("%s/%s", tmp ? tmp : "/tmp", name);
        FILE *file = fopen(path, "we");

        if (!file || fclose(file) != 0)
                fatal(path);
        free(path);
}

static void ignore_term(const char *unused)
{
        (void)unused;
        (void)signal(SIGTERM, SIG_IGN);
        terminated = 0;
}

static void leave_process(const char *path, bool own_session)
{
        (void)fflush(NULL);
        if (fork() != 0)
                return;
        if (own_session)
                (void)setsid();
        (void)signal(SIGTERM, SIG_IGN);
        while (access(path, F_OK) < 0)
                (void)usleep(POLL_MS * 1000);
        _exit(0);
}

static void leave_orphan(const char *path)
{
        leave_process(path, false);
}

static void leave_daemon(const char *path)
{
        leave_process(path, true);
}

static void save(const char *image_id)
{
        printf("==> openstack: Stopping server: %s ...\n"
               "==> openstack: Creating the image: test\n"
               "    openstack: Image: %s\n"
               "==> openstack: Waiting for image test (image id: %s) to become ready...\n",
               SERVER_ID, image_id, image_id);
}

static void exit_with(const char *code)
{
        end(atoi(code));
}

static void die(const char *number)
{
        (void)fflush(NULL);
        (void)signal(atoi(number), SIG_DFL); // not a sanitizer's
        (void)raise(atoi(number));
}

static void do_step(const char *step)
{
        static const struct {
                const char *name;
                void (*run)(const char *argument);
        } steps[] = {
                {"say", say},
                {"builder", builder},
                {"err", say_error},
                {"cat", cat},
                {"launch", launch},
                {"wait", wait_for_file},
                {"hang", hang},
                {"work", work},
                {"flood", flood},
                {"flood-until", flood_until},
                {"env", say_variable},
                {"env-json", say_variable_as_json},
                {"tmp", leave_in_tmp},
                {"ignore-term", ignore_term},
                {"orphan", leave_orphan},
                {"daemon", leave_daemon},
                {"save", save},
                {"succeed", succeed},
                {"fail", fail},
                {"exit", exit_with},
                {"signal", die},
        };
        size_t len = strcspn(step, " \r\n");
        char *argument = strndup(step[len] == ' ' ? step + len + 1 : "", STEP_MAX);

        if (!argument)
                fatal("memory");
        argument[strcspn(argument, "\r\n")] = '\0';
        for (size_t at = 0; at < sizeof steps / sizeof *steps; at++) {
                if (strlen(steps[at].name) != len || strncmp(steps[at].name, step, len) != 0)
                        continue;
                steps[at].run(argument);
                (void)fflush(stdout);
                free(argument);
                return;
        }
        fprintf(stderr, "fakepacker: unknown step: %s\n", step);
        end(98);
}

// ---- the script ------------------------------------------------------------------------------

static bool do_json_script(const char *path)
{
        json_error_t error;
        json_t *file = json_load_file(path, 0, &error), *script, *step;
        size_t at;

        if (!file) {
                printf("Failed to parse template: Error parsing JSON: %s\nAt line %d, column %d\n",
                       error.text, error.line, error.column);
                end(1);
        }
        script = json_object_get(file, "fake");
        json_array_foreach(script, at, step) do_step(json_string_value(step));
        json_decref(file);
        return script != NULL;
}

// Lines that start with `prefix`.
static bool do_lines(const char *path, const char *prefix)
{
        char *text = read_file(path, NULL);
        bool any = false;

        for (char *line = text, *next; line && *line; line = next) {
                next = line + strcspn(line, "\n");
                next += *next == '\n';
                if (strncmp(line, prefix, strlen(prefix)) != 0 || *line == '\n')
                        continue;
                any = true;
                do_step(line + strlen(prefix));
        }
        free(text);
        return any;
}

static bool ends_with(const char *text, const char *end_text)
{
        size_t len = strlen(text), end_len = strlen(end_text);

        return len >= end_len && strcmp(text + len - end_len, end_text) == 0;
}

static void do_script(const char *program, const char *build_file)
{
        char *beside = format("%s.script", program);
        bool any = ends_with(build_file, ".hcl") ? do_lines(build_file, "# fake: ")
                                                 : do_json_script(build_file);

        if (!any)
                (void)do_lines(beside, "");
        free(beside);
        launch("");
        succeed("");
}

// ---- the two processes -----------------------------------------------------------------------

static void on_term(int signal_number)
{
        (void)signal_number;
        terminated = 1;
}

static pid_t build_pid;

static void pass_term_on(int signal_number)
{
        (void)kill(build_pid, signal_number);
}

static void on_signal(int signal_number, void (*handler)(int))
{
        struct sigaction action = {.sa_handler = handler};
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, signal_number);
        (void)sigaction(signal_number, &action, NULL);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

__attribute__((noreturn)) static void build(char **argv, const char *build_file,
                                            const char *var_file)
{
        static char buffer[65536];

        (void)setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
        if (access(build_file, R_OK) < 0) {
                printf("\"%s\": stat %s: %s\n", build_file, build_file, strerror(errno));
                end(1);
        }
        open_record(argv, build_file, var_file);
        do_script(argv[0], build_file);
        end(97);
}

static int wrap(void)
{
        int status;

        on_signal(SIGTERM, pass_term_on);
        while (waitpid(build_pid, &status, 0) < 0) {
                if (errno != EINTR)
                        fatal("waitpid");
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
        const char *build_file = NULL, *var_file = NULL;
        sigset_t term, before;

        if (argc < 2)
                return 127;
        if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0 ||
            strcmp(argv[1], "-v") == 0) {
                printf("%s%s\n", strcmp(argv[1], "version") == 0 ? "Packer v" : "", VERSION);
                return 0;
        }
        if (strcmp(argv[1], "build") != 0)
                return 127;
        for (int at = 2; at < argc; at++) {
                if (strncmp(argv[at], "-var-file=", 10) == 0)
                        var_file = argv[at] + 10;
                else if (argv[at][0] != '-')
                        build_file = argv[at];
        }
        if (!build_file)
                return 1;
        (void)signal(SIGINT, SIG_IGN);
        // No TERM is lost between the fork and the handlers.
        (void)sigemptyset(&term);
        (void)sigaddset(&term, SIGTERM);
        (void)sigprocmask(SIG_BLOCK, &term, &before);
        build_pid = fork();
        if (build_pid < 0)
                fatal("fork");
        if (build_pid == 0) {
                on_signal(SIGTERM, on_term);
                build(argv, build_file, var_file);
        }
        return wrap();
}
