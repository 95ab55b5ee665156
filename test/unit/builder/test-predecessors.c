// What an earlier worker left: shells here, known by the variables that Packer gets.
#include "../unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "builder/predecessors.h"
#include "util/alloc.h"
#include "util/child.h"
#include "util/strutil.h"

#define DEADLINE_SECONDS 30
#define IMAGE "web-sl7x"
#define TEMPLATE "/etc/packer/managed.json"
// The shell itself waits, so that it is there, with its environment, once it has said a line.
#define OBEYS                                                                                      \
        "mkfifo \"$PACKUILON_STATE_DIR/never\"; echo; read line <\"$PACKUILON_STATE_DIR/never\""
#define IGNORES_TERM "trap '' TERM; " OBEYS

typedef struct Left {
        pid_t pid;
        int out_fd;
} Left;

static char **make_environment(const char *state_dir, unsigned folder)
{
        _cleanup_free_ char *target = predecessor_target(IMAGE, TEMPLATE);
        char **vars = xcalloc(6, sizeof *vars);

        vars[0] = xstrdup("PATH=/usr/bin:/bin");
        vars[1] = xasprintf(PREDECESSOR_STATE_DIR "=%s", state_dir);
        vars[2] = xasprintf(PREDECESSOR_TARGET "=%s", target);
        vars[3] = xstrdup(PREDECESSOR_BUILD_ID "=some-id");
        vars[4] = xasprintf(PREDECESSOR_FOLDER "=%u", folder);
        return vars;
}

static Left leave(const char *state_dir, unsigned folder, const char *script)
{
        _cleanup_strv_ char **envp = make_environment(state_dir, folder);
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        Left left = {.pid = -1};
        char byte;
        int ends[2];
        Error err = ERROR_NONE;

        assert_int_equal(pipe(ends), 0);
        assert_ok(child_spawn(&(ChildSpec){.argv = argv,
                                           .envp = (const char *const *)envp,
                                           .out_fd = ends[1],
                                           .new_session = true},
                              &left.pid, &err),
                  err);
        (void)close(ends[1]);
        left.out_fd = ends[0];
        assert_int_equal(read(left.out_fd, &byte, 1), 1);
        return left;
}

// Returns the signal that ended it; 0: none did.
static int reap(const Left *left)
{
        int status = -1;

        assert_int_equal(waitpid(left->pid, &status, 0), left->pid);
        (void)close(left->out_fd);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void count(const char *target, void *userdata)
{
        unsigned *n = userdata;

        assert_non_null(strstr(target, IMAGE));
        (*n)++;
}

static Predecessors *find(sd_event *event, const char *state_dir, int64_t grace, unsigned *n_gone)
{
        Predecessors *found = NULL;
        Error err = ERROR_NONE;

        assert_ok(predecessors_find(event, state_dir, grace, count, n_gone, &found, &err), err);
        return found;
}

static void run_until_gone(sd_event *event, const unsigned *n_gone, unsigned expected)
{
        for (int seconds = 0; *n_gone < expected && seconds < DEADLINE_SECONDS; seconds++)
                assert_true(sd_event_run(event, 1000000) >= 0);
        assert_int_equal(*n_gone, expected);
}

static char *make_folder(const char *state_dir, const char *name)
{
        char *path = xasprintf("%s/tmp/%s/inner", state_dir, name);
        Error err = ERROR_NONE;

        assert_ok(fs_make_dirs(path, 0700, &err), err);
        *strrchr(path, '/') = '\0';
        return path;
}

static void test_target_is_as_in_the_name_of_the_build_file(void **state)
{
        _cleanup_free_ char *json = predecessor_target("a.b", "/t/managed.json");
        _cleanup_free_ char *hcl = predecessor_target("a_b", "managed.pkr.hcl");

        (void)state;
        assert_string_equal(json, hcl);
}

static void test_nothing_was_left(void **state)
{
        _cleanup_free_ char *folder = make_folder(*state, "0");
        sd_event *event = NULL;
        unsigned n_gone = 0;
        Predecessors *found;

        assert_true(sd_event_new(&event) >= 0);
        found = find(event, *state, 60, &n_gone);
        assert_false(predecessors_hold(found, IMAGE, TEMPLATE));
        assert_false(predecessors_use_folder(found, 0));
        assert_int_equal(access(folder, F_OK), -1);
        predecessors_free(found);
        (void)sd_event_unref(event);
}

static void test_term_and_then_its_folder_goes(void **state)
{
        _cleanup_free_ char *folder = make_folder(*state, "3"), *other = make_folder(*state, "4");
        const Left left = leave(*state, 3, OBEYS);
        sd_event *event = NULL;
        unsigned n_gone = 0;
        Predecessors *found;

        assert_true(sd_event_new(&event) >= 0);
        found = find(event, *state, 60, &n_gone);
        assert_true(predecessors_hold(found, IMAGE, TEMPLATE));
        assert_false(predecessors_hold(found, "other", TEMPLATE));
        assert_false(predecessors_hold(found, IMAGE, "other.json"));
        assert_false(predecessors_hold(found, NULL, TEMPLATE));
        assert_true(predecessors_use_folder(found, 3));
        assert_false(predecessors_use_folder(found, 4));
        assert_int_equal(access(folder, F_OK), 0);
        assert_int_equal(access(other, F_OK), -1);
        run_until_gone(event, &n_gone, 1);
        assert_false(predecessors_hold(found, IMAGE, TEMPLATE));
        assert_int_equal(access(folder, F_OK), -1);
        assert_int_equal(reap(&left), SIGTERM);
        predecessors_free(found);
        (void)sd_event_unref(event);
}

static void test_kill_when_the_grace_is_over(void **state)
{
        const Left left = leave(*state, 1, IGNORES_TERM);
        sd_event *event = NULL;
        unsigned n_gone = 0;
        Predecessors *found;

        assert_true(sd_event_new(&event) >= 0);
        found = find(event, *state, 0, &n_gone);
        run_until_gone(event, &n_gone, 1);
        assert_int_equal(reap(&left), SIGKILL);
        predecessors_free(found);
        (void)sd_event_unref(event);
}

static void test_processes_of_others_are_left_alone(void **state)
{
        _cleanup_free_ char *other = make_folder(*state, "../other");
        const Left left = leave(other, 1, OBEYS);
        sd_event *event = NULL;
        unsigned n_gone = 0;
        Predecessors *found;

        assert_true(sd_event_new(&event) >= 0);
        found = find(event, *state, 0, &n_gone);
        assert_false(predecessors_hold(found, IMAGE, TEMPLATE));
        predecessors_free(found);
        assert_int_equal(waitpid(left.pid, NULL, WNOHANG), 0);
        assert_int_equal(kill(left.pid, SIGKILL), 0);
        assert_int_equal(reap(&left), SIGKILL);
        (void)sd_event_unref(event);
}

static void test_free_while_they_live(void **state)
{
        const Left left = leave(*state, 1, IGNORES_TERM);
        sd_event *event = NULL;
        unsigned n_gone = 0;

        assert_true(sd_event_new(&event) >= 0);
        predecessors_free(find(event, *state, 60, &n_gone));
        assert_int_equal(kill(-left.pid, SIGKILL), 0);
        assert_int_equal(reap(&left), SIGKILL);
        (void)sd_event_unref(event);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_target_is_as_in_the_name_of_the_build_file),
                unit_test_in_folder(test_nothing_was_left),
                unit_test_in_folder(test_term_and_then_its_folder_goes),
                unit_test_in_folder(test_kill_when_the_grace_is_over),
                unit_test_in_folder(test_processes_of_others_are_left_alone),
                unit_test_in_folder(test_free_while_they_live),
        };

        return cmocka_run_group_tests_name("predecessors", tests, NULL, NULL);
}
