#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "util/buf.h"
#include "util/child.h"
#include "util/child_watch.h"
#include "util/clock.h"
#include "util/macro.h"

#define GENEROUS_MS (60 * 1000)
#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SH(script) ARGV("/bin/sh", "-c", script)

static void capture(const ChildSpec *spec, Buf *out, int expected_code)
{
        Error err = ERROR_NONE;
        int status = -1;

        assert_ok(child_capture(spec, GENEROUS_MS, out, &status, &err), err);
        assert_int_equal(child_exit_code(status), expected_code);
}

static void test_collects_both_streams(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(100);

        (void)state;
        capture(&(ChildSpec){.argv = SH("echo out; echo err >&2; exit 3")}, &out, 3);
        assert_string_equal(buf_str(&out), "out\nerr\n");
}

static void test_output_over_the_limit_is_dropped(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(5);

        (void)state;
        // More than a pipe holds, so it must be read for the program to end.
        capture(&(ChildSpec){.argv = ARGV("head", "-c", "300000", "/dev/zero")}, &out, 0);
        assert_int_equal(out.len, 5);
}

static void test_large_output_comes_whole(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(400000);

        (void)state;
        capture(&(ChildSpec){.argv = ARGV("head", "-c", "300000", "/dev/zero")}, &out, 0);
        assert_int_equal(out.len, 300000);
}

static void test_environment_cwd_and_stdin(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(1000), ours = BUF_INIT(1000);

        (void)state;
        capture(&(ChildSpec){.argv = SH("pwd; echo $WORD-$HOME; cat; readlink /proc/self/fd/0"),
                             .envp = ARGV("WORD=said"),
                             .cwd = "/usr"},
                &out, 0);
        assert_string_equal(buf_str(&out), "/usr\nsaid-\n/dev/null\n");

        assert_int_equal(setenv("PACKUILON_TEST", "inherited", 1), 0);
        capture(&(ChildSpec){.argv = SH("echo $PACKUILON_TEST")}, &ours, 0);
        assert_string_equal(buf_str(&ours), "inherited\n");
}

static void test_no_output_wanted(void **state)
{
        Error err = ERROR_NONE;
        int status = -1;
        pid_t pid = -1;

        (void)state;
        assert_ok(child_spawn(&(ChildSpec){.argv = SH("test \"$(readlink /proc/self/fd/1)\" = x"
                                                      " || test /dev/null -ef /proc/self/fd/1"),
                                           .out_fd = -1},
                              &pid, &err),
                  err);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(child_exit_code(status), 0);
}

static void test_no_descriptor_is_inherited(void **state)
{
        _cleanup_close_ int leak = open("/dev/null", O_RDONLY); // without O_CLOEXEC on purpose
        _cleanup_buf_ Buf out = BUF_INIT(1000);

        (void)state;
        assert_true(leak >= 0);
        // ls has the three and the folder it reads.
        capture(&(ChildSpec){.argv = ARGV("ls", "/proc/self/fd")}, &out, 0);
        assert_string_equal(buf_str(&out), "0\n1\n2\n3\n");
}

static void test_one_descriptor_may_be_kept(void **state)
{
        _cleanup_close_ int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
        _cleanup_buf_ Buf out = BUF_INIT(1000), without = BUF_INIT(1000);
        char script[64];

        (void)state;
        assert_true(kept >= 3);
        (void)snprintf(script, sizeof script, "readlink /proc/self/fd/%d", kept);
        capture(&(ChildSpec){.argv = SH(script), .kept_fd = kept}, &out, 0);
        assert_string_equal(buf_str(&out), "/dev/null\n");
        assert_int_equal(fcntl(kept, F_GETFD), FD_CLOEXEC); // here it is as it was
        capture(&(ChildSpec){.argv = SH(script)}, &without, 1);
}

static void test_stdin_may_be_given_and_stderr_kept(void **state)
{
        _cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int read_end = -1, write_end = -1;
        char said[100] = "", link[100], our_stderr[PATH_MAX] = "";
        Error err = ERROR_NONE;
        int fds[2], status = -1;
        pid_t pid = -1;

        (void)state;
        assert_true(zero >= 3 && pipe2(fds, O_CLOEXEC) == 0);
        read_end = fds[0];
        write_end = fds[1];
        assert_ok(child_spawn(&(ChildSpec){.argv = SH("readlink /proc/self/fd/0 /proc/$PPID/fd/2;"
                                                      "test /proc/$PPID/fd/2 -ef /proc/self/fd/2"),
                                           .in_fd = zero,
                                           .out_fd = write_end,
                                           .keep_stderr = true},
                              &pid, &err),
                  err);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(child_exit_code(status), 0);
        assert_true(read(read_end, said, sizeof said - 1) > 0);
        assert_true(readlink("/proc/self/fd/2", our_stderr, sizeof our_stderr - 1) > 0);
        (void)snprintf(link, sizeof link, "/dev/zero\n%s\n", our_stderr);
        assert_string_equal(said, link);
}

static void test_our_own_programs_are_beside_us_or_installed(void **state)
{
        _cleanup_free_ char *beside = child_own_program("unit-util-test-child");
        _cleanup_free_ char *installed = child_own_program("no-such-program");

        (void)state;
        assert_int_equal(access(beside, X_OK), 0);
        assert_string_equal(installed, PACKUILON_LIBEXEC_DIR "/no-such-program");
}

static void test_signals_are_by_default_and_open(void **state)
{
        // glibc keeps 32 and 33 for itself, and lets nobody change them.
        const unsigned long long classic_signals = 0x7FFFFFFF;
        _cleanup_buf_ Buf out = BUF_INIT(1000);
        unsigned long long open_mask = 1, ignored = classic_signals;
        sigset_t blocked, before;

        (void)state;
        (void)sigemptyset(&blocked);
        (void)sigaddset(&blocked, SIGTERM);
        assert_int_equal(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
        assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        capture(&(ChildSpec){.argv = ARGV("grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status")},
                &out, 0);
        assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
        assert_int_equal(sscanf(buf_str(&out), "SigBlk: %llx SigIgn: %llx", &open_mask, &ignored),
                         2);
        assert_int_equal(open_mask, 0);
        assert_int_equal(ignored & classic_signals, 0);
        // Ours is as it was, with what was blocked here.
        assert_int_equal(sigprocmask(SIG_SETMASK, &before, &blocked), 0);
        assert_true(sigismember(&blocked, SIGTERM));
        assert_int_equal(sigismember(&blocked, SIGHUP), sigismember(&before, SIGHUP));
}

static void test_works_with_our_streams_closed(void **state)
{
        pid_t pid = fork();
        int status = -1;

        (void)state;
        assert_true(pid >= 0);
        if (pid == 0) {
                _cleanup_buf_ Buf out = BUF_INIT(100);

                (void)close(STDIN_FILENO);
                (void)close(STDOUT_FILENO);
                (void)close(STDERR_FILENO);
                if (child_capture(&(ChildSpec){.argv = SH("echo a; echo b >&2")}, GENEROUS_MS, &out,
                                  &status, NULL) < 0)
                        _exit(1);
                _exit(strcmp(buf_str(&out), "a\nb\n") == 0 ? 0 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(child_exit_code(status), 0);
}

static void test_session(void **state)
{
        Error err = ERROR_NONE;
        int status = -1;
        pid_t pid = -1;

        (void)state;
        assert_ok(child_spawn(&(ChildSpec){.argv = ARGV("sleep", "60"),
                                           .out_fd = -1,
                                           .new_session = true},
                              &pid, &err),
                  err);
        assert_int_equal(getsid(pid), pid);
        assert_int_equal(kill(-pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(child_exit_code(status), 128 + SIGKILL);

        assert_ok(child_spawn(&(ChildSpec){.argv = ARGV("sleep", "60"), .out_fd = -1}, &pid, &err),
                  err);
        assert_int_equal(getsid(pid), getsid(0));
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(child_exit_code(status), 128 + SIGTERM);
}

// A process between us and the child dies; the child's end of the pipe closes with it.
static void test_dies_with_its_parent(void **state)
{
        char byte;
        pid_t middle;
        int fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        middle = fork();
        assert_true(middle >= 0);
        if (middle == 0) {
                pid_t pid;

                (void)close(fds[0]);
                if (child_spawn(&(ChildSpec){.argv = ARGV("sleep", "600"),
                                             .out_fd = fds[1],
                                             .new_session = true,
                                             .death_signal = SIGTERM},
                                &pid, NULL) < 0)
                        _exit(1);
                (void)raise(SIGKILL);
        }
        (void)close(fds[1]);
        (void)alarm(GENEROUS_MS / 1000); // ends the test if the child does not
        assert_int_equal(read(fds[0], &byte, 1), 0);
        (void)alarm(0);
        (void)close(fds[0]);
        assert_int_equal(waitpid(middle, NULL, 0), middle);
}

static void test_timeout_kills_the_group(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(100);
        int64_t start = clock_mono_ms();
        Error err = ERROR_NONE;
        int status = -1;
        long grandchild;

        (void)state;
        assert_int_equal(child_capture(&(ChildSpec){.argv = SH("sleep 600 & echo $!; wait")}, 300,
                                       &out, &status, &err),
                         -ETIMEDOUT);
        assert_contains(err.text, "/bin/sh did not end within 300 ms");
        assert_int_equal(child_exit_code(status), 128 + SIGKILL);
        assert_true(clock_mono_ms() - start < GENEROUS_MS);
        grandchild = strtol(buf_str(&out), NULL, 10);
        assert_true(grandchild > 1);
        // Gone, or a zombie that init has not seen yet.
        while (kill((pid_t)grandchild, 0) == 0) {
                char path[64], *stat_line;
                _cleanup_buf_ Buf stat_buf = BUF_INIT(4096);

                (void)snprintf(path, sizeof path, "/proc/%ld/stat", grandchild);
                if (fs_read_file(path, &stat_buf, NULL) < 0)
                        break;
                stat_line = strrchr(buf_str(&stat_buf), ')');
                assert_non_null(stat_line);
                if (stat_line[2] == 'Z')
                        break;
                assert_true(clock_mono_ms() - start < GENEROUS_MS);
        }
}

static void test_timeout_holds_without_output(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(100);
        int status = -1;

        (void)state;
        // It closes its streams: the end of the pipe is not the end of the program.
        assert_int_equal(child_capture(&(ChildSpec){.argv = SH("exec sleep 600 >&- 2>&-")}, 300,
                                       &out, &status, NULL),
                         -ETIMEDOUT);
        assert_int_equal(
                child_capture(&(ChildSpec){.argv = ARGV("sleep", "600")}, 0, &out, &status, NULL),
                -ETIMEDOUT);
}

static void test_a_process_left_behind_is_not_waited_for(void **state)
{
        _cleanup_buf_ Buf out = BUF_INIT(100);
        int64_t start = clock_mono_ms();
        pid_t left;

        (void)state;
        capture(&(ChildSpec){.argv = SH("sleep 600 & echo $!")}, &out, 0);
        assert_true(clock_mono_ms() - start < GENEROUS_MS);
        left = (pid_t)strtol(buf_str(&out), NULL, 10);
        assert_true(left > 1);
        assert_int_equal(kill(left, SIGKILL), 0);
}

static int on_watched_end(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        *(int *)userdata = info->si_status;
        return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_watched_too_long(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)usec;
        (void)userdata;
        return sd_event_exit(sd_event_source_get_event(source), 1);
}

// Traces a process until its standard input ends. Never reaps it.
static pid_t start_tracer(pid_t traced, int *ret_hold)
{
        int hold[2], ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                (void)close(hold[1]);
                if (ptrace(PTRACE_SEIZE, traced, NULL, NULL) < 0 || write(ready[1], "", 1) != 1)
                        _exit(1);
                _exit(read(hold[0], &byte, 1) < 0);
        }
        (void)close(hold[0]);
        (void)close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        (void)close(ready[0]);
        *ret_hold = hold[1];
        return pid;
}

static void test_the_end_of_a_traced_child_is_seen(void **state)
{
        static const char *const argv[] = {"sleep", "1000", NULL};
        sd_event_source *watch = NULL, *limit = NULL;
        sd_event *event = NULL;
        sigset_t set, before;
        Error err = ERROR_NONE;
        int hold, status = -1;
        pid_t pid, tracer;

        (void)state;
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGCHLD);
        assert_int_equal(sigprocmask(SIG_BLOCK, &set, &before), 0);
        assert_true(sd_event_new(&event) >= 0);
        assert_ok(child_spawn(&(ChildSpec){.argv = argv, .out_fd = -1}, &pid, &err), err);
        assert_true(child_watch(event, pid, on_watched_end, &status, &watch) >= 0);
        tracer = start_tracer(pid, &hold);
        assert_int_equal(kill(pid, SIGKILL), 0);
        // It has ended for the tracer, which keeps it from us.
        for (int turn = 0; turn < 20; turn++)
                assert_true(sd_event_run(event, 10000) >= 0);
        assert_int_equal(status, -1);
        (void)close(hold);
        assert_true(sd_event_add_time_relative(event, &limit, CLOCK_MONOTONIC, 20 * USEC_PER_SECOND,
                                               0, on_watched_too_long, NULL) >= 0);
        assert_int_equal(sd_event_loop(event), 0);
        assert_int_equal(status, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); // it is reaped
        assert_int_equal(waitpid(tracer, NULL, 0), tracer);
        (void)sd_event_source_disable_unref(watch);
        (void)sd_event_source_disable_unref(limit);
        (void)sd_event_unref(event);
        assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

static void test_what_cannot_run(void **state)
{
        _cleanup_free_ char *script = fs_join(*state, "script");
        Error err = ERROR_NONE;
        pid_t pid = -1;

        assert_int_equal(child_spawn(&(ChildSpec){.argv = ARGV("packuilon-no-such"), .out_fd = -1},
                                     &pid, &err),
                         -ENOENT);
        assert_contains(err.text, "cannot run packuilon-no-such: there is no such program in PATH");
        assert_int_equal(
                child_spawn(&(ChildSpec){.argv = ARGV("/no/such"), .out_fd = -1}, &pid, &err),
                -ENOENT);
        assert_string_equal(err.text, "cannot run /no/such: No such file or directory");
        assert_ok(fs_write_atomic(script, "x", 1, 0600, FS_NO_SYNC, &err), err);
        assert_int_equal(child_spawn(&(ChildSpec){.argv = ARGV(script), .out_fd = -1}, &pid, &err),
                         -EACCES);
        assert_int_equal(
                child_spawn(&(ChildSpec){.argv = ARGV("true"), .cwd = "/no/folder", .out_fd = -1},
                            &pid, &err),
                -ENOENT);
        assert_contains(err.text, "in the folder /no/folder: No such file");
        assert_int_equal(
                child_spawn(&(ChildSpec){.argv = ARGV("true"), .out_fd = 9999}, &pid, &err),
                -EBADF);
        assert_contains(err.text, "standard streams");
        assert_int_equal(
                child_spawn(&(ChildSpec){.argv = ARGV("true"), .out_fd = -1, .death_signal = 9999},
                            &pid, &err),
                -EINVAL);
        assert_contains(err.text, "our death");
        assert_int_equal(pid, -1);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // none was left
        assert_int_equal(child_capture(&(ChildSpec){.argv = ARGV("/no/such")}, 1000,
                                       &(Buf){.max = 9}, &(int){0}, &err),
                         -ENOENT);
}

static void test_path_counts_absolute_folders_only(void **state)
{
        _cleanup_free_ char *program = fs_join(*state, "tool"), *kept = NULL, *path = NULL;
        _cleanup_free_ char *folder = fs_join(*state, "folder/tool");
        _cleanup_close_ int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        static const char script[] = "#!/bin/sh\necho found\n";
        _cleanup_buf_ Buf out = BUF_INIT(100);
        const ChildSpec spec = {.argv = ARGV("tool"), .out_fd = -1};
        Error err = ERROR_NONE;
        pid_t pid;

        kept = strdup(getenv("PATH"));
        assert_ok(fs_write_atomic(program, script, strlen(script), 0700, FS_NO_SYNC, &err), err);
        assert_ok(fs_make_dirs(folder, 0700, &err), err);
        assert_int_equal(chdir(*state), 0);
        assert_int_equal(setenv("PATH", ".:", 1), 0);
        assert_int_equal(child_spawn(&spec, &pid, &err), -ENOENT);
        assert_int_equal(fchdir(home), 0);

        // A folder of that name does not hide the program.
        *strrchr(folder, '/') = '\0';
        assert_true(asprintf(&path, "/no/such:%s:%s", folder, (char *)*state) > 0);
        assert_int_equal(setenv("PATH", path, 1), 0);
        capture(&spec, &out, 0);
        assert_string_equal(buf_str(&out), "found\n");

        assert_int_equal(unsetenv("PATH"), 0);
        capture(&(ChildSpec){.argv = ARGV("true")}, &out, 0);
        assert_int_equal(setenv("PATH", kept, 1), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_collects_both_streams),
                cmocka_unit_test(test_output_over_the_limit_is_dropped),
                cmocka_unit_test(test_large_output_comes_whole),
                cmocka_unit_test(test_environment_cwd_and_stdin),
                cmocka_unit_test(test_no_output_wanted),
                cmocka_unit_test(test_no_descriptor_is_inherited),
                cmocka_unit_test(test_one_descriptor_may_be_kept),
                cmocka_unit_test(test_stdin_may_be_given_and_stderr_kept),
                cmocka_unit_test(test_our_own_programs_are_beside_us_or_installed),
                cmocka_unit_test(test_signals_are_by_default_and_open),
                cmocka_unit_test(test_works_with_our_streams_closed),
                cmocka_unit_test(test_session),
                cmocka_unit_test(test_the_end_of_a_traced_child_is_seen),
                cmocka_unit_test(test_dies_with_its_parent),
                cmocka_unit_test(test_timeout_kills_the_group),
                cmocka_unit_test(test_timeout_holds_without_output),
                cmocka_unit_test(test_a_process_left_behind_is_not_waited_for),
                unit_test_in_folder(test_what_cannot_run),
                unit_test_in_folder(test_path_counts_absolute_folders_only),
        };

        return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
