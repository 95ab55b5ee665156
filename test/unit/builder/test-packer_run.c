// Runs of a Packer that is a shell script here: what the supervisor makes of its ends.
#include "../unit.h"

#include <errno.h>
#include <signal.h>

#include "builder/packer_run.h"
#include "util/alloc.h"
#include "util/fs.h"

#define DEADLINE_SECONDS 30

typedef struct Fixture {
        char dir[64];
        Config config;
        Identity identity;
        TemplateValues values;
        Redactor *redactor;
        sd_event *event;
        char *template_path;
        char *phases;
        PackerResult result;
        char *reason, *artifact, *log;
} Fixture;

static char *in_dir(const Fixture *fixture, const char *name)
{
        return fs_join(fixture->dir, name);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), mode, FS_NO_SYNC, &err), err);
}

static int setup(void **state)
{
        Fixture *fixture = xcalloc(1, sizeof *fixture);
        const char *tmp = getenv("TMPDIR");
        Error err = ERROR_NONE;
        sigset_t child;

        (void)snprintf(fixture->dir, sizeof fixture->dir, "%s/packer_run.XXXXXX",
                       tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(fixture->dir));
        fixture->config.global.state_dir = in_dir(fixture, "state");
        fixture->config.build = (BuildConfig){.log_dir = in_dir(fixture, "log"),
                                              .build_file_dir = in_dir(fixture, "files"),
                                              .packer_path = in_dir(fixture, "packer"),
                                              .build_timeout_seconds = DEADLINE_SECONDS,
                                              .stop_grace_seconds = DEADLINE_SECONDS,
                                              .max_log_bytes = 100000};
        assert_ok(fs_make_dirs(fixture->config.build.log_dir, 0700, &err), err);
        assert_ok(fs_make_dirs(fixture->config.build.build_file_dir, 0700, &err), err);
        fixture->template_path = in_dir(fixture, "managed.json");
        write_file(fixture->template_path,
                   "{\"builders\": [{\"type\": \"file\", \"target\": \"$NAME\"}]}", 0600);
        fixture->identity.personality = xstrdup("web");
        fixture->values = (TemplateValues){.name = "web-sl7x",
                                           .image = "id",
                                           .os = "sl7x",
                                           .build_id = "4f5c9ad0-0000-4000-8000-000000000001",
                                           .identity = &fixture->identity};
        fixture->redactor = redactor_new();
        redactor_add(fixture->redactor, "hunter22");
        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &child, NULL);
        assert_true(sd_event_new(&fixture->event) >= 0);
        fixture->phases = xstrdup("");
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        Fixture *fixture = *state;

        (void)fs_remove_tree(fixture->dir, NULL);
        (void)sd_event_unref(fixture->event);
        redactor_free(fixture->redactor);
        free(fixture->config.global.state_dir);
        free(fixture->config.build.log_dir);
        free(fixture->config.build.build_file_dir);
        free(fixture->config.build.packer_path);
        free(fixture->template_path);
        free(fixture->identity.personality);
        free(fixture->phases);
        free(fixture->reason);
        free(fixture->artifact);
        free(fixture->log);
        free(fixture);
        return 0;
}

static void on_phase(PackerRun *run, const char *phase, void *userdata)
{
        Fixture *fixture = userdata;
        char *longer = xasprintf("%s%s;", fixture->phases, phase);

        (void)run;
        free(fixture->phases);
        fixture->phases = longer;
}

static void on_end(PackerRun *run, const PackerResult *result, void *userdata)
{
        Fixture *fixture = userdata;
        Buf log = BUF_INIT(1000000);
        Error err = ERROR_NONE;

        fixture->result = *result;
        fixture->reason = xstrdup(result->reason);
        fixture->artifact = xstrdup(result->artifact);
        assert_ok(fs_read_file(packer_run_log_path(run), &log, &err), err);
        fixture->log = buf_take(&log, NULL);
        packer_run_free(run);
        assert_true(sd_event_exit(fixture->event, 0) >= 0);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)usec;
        (void)userdata;
        (void)sd_event_exit(sd_event_source_get_event(source), ETIMEDOUT);
        return 0;
}

static int start(Fixture *fixture, PackerRun **ret, Error *err)
{
        static const PackerRunCallbacks callbacks = {on_phase, on_end};
        const PackerRunSpec spec = {.config = &fixture->config,
                                    .redactor = fixture->redactor,
                                    .template_path = fixture->template_path,
                                    .values = &fixture->values};

        return packer_run_start(fixture->event, &spec, &callbacks, fixture, ret, err);
}

static void loop(Fixture *fixture)
{
        sd_event_source *deadline = NULL;

        assert_true(sd_event_add_time_relative(fixture->event, &deadline, CLOCK_MONOTONIC,
                                               2 * DEADLINE_SECONDS * 1000000ULL, 0, on_deadline,
                                               NULL) >= 0);
        assert_int_equal(sd_event_loop(fixture->event), 0);
        (void)sd_event_source_unref(deadline);
}

static void run_script(Fixture *fixture, const char *script)
{
        Error err = ERROR_NONE;
        PackerRun *run;

        write_file(fixture->config.build.packer_path, script, 0700);
        assert_int_equal(start(fixture, &run, &err), 0);
        loop(fixture);
}

#define ARTIFACT                                                                                   \
        "echo '==> Builds finished. The artifacts of successful builds are:'\n"                    \
        "echo '--> openstack: An image was created: 1d3062cd-89af-4e34-a0b8-c0e0d8ab0ce6'\n"

static void test_success(void **state)
{
        Fixture *fixture = *state;

        run_script(fixture, "#!/bin/sh\n"
                            "echo \"args $*\"; echo \"id $PACKUILON_BUILD_ID tmp $TMPDIR\"\n"
                            "touch $TMPDIR/left; cat $3\n"
                            "echo 'the password is hunter22'\n"
                            "echo '==> openstack: Launching server...'\n"
                            "echo '==> openstack: Provisioning with shell script'\n" ARTIFACT);
        assert_true(fixture->result.succeeded);
        assert_null(fixture->reason);
        assert_string_equal(fixture->artifact, "1d3062cd-89af-4e34-a0b8-c0e0d8ab0ce6");
        assert_string_equal(fixture->phases, "launch;provision;");
        assert_contains(fixture->log, "args build -color=false ");
        assert_contains(fixture->log, "id 4f5c9ad0-0000-4000-8000-000000000001 tmp ");
        assert_contains(fixture->log, "\"target\": \"web-sl7x\"");
        assert_contains(fixture->log, "the password is <redacted>");
        assert_null(strstr(fixture->log, "hunter22"));
        assert_contains(fixture->log, "(epoch) with exit code 0\n");
        {
                _cleanup_free_ char *left = in_dir(fixture, "state/tmp/0/left");

                assert_int_equal(access(left, F_OK), -1);
        }
}

static void test_exit_0_without_artifact_is_a_failure(void **state)
{
        Fixture *fixture = *state;

        run_script(fixture, "#!/bin/sh\necho nothing\n");
        assert_false(fixture->result.succeeded);
        assert_false(fixture->result.cancelled);
        assert_contains(fixture->reason, "made no artifact");
}

static void test_failure_in_packers_words(void **state)
{
        Fixture *fixture = *state;

        run_script(fixture, "#!/bin/sh\n"
                            "echo \"Build 'openstack' errored after 3 seconds: quota hunter22\"\n"
                            "exit 1\n");
        assert_false(fixture->result.succeeded);
        assert_string_equal(fixture->reason, "quota <redacted>");
        assert_int_equal(fixture->result.exit_code, 1);
        assert_contains(fixture->log, "with exit code 1\n");
}

static void test_what_it_leaves_running_does_not_hold_the_build(void **state)
{
        Fixture *fixture = *state;

        run_script(fixture, "#!/bin/sh\nsleep 1000 &\n" ARTIFACT);
        assert_true(fixture->result.succeeded);
}

static void test_timeout_ends_politely(void **state)
{
        Fixture *fixture = *state;

        fixture->config.build.build_timeout_seconds = 1;
        run_script(fixture, "#!/bin/sh\n"
                            "trap 'echo Cleanly cancelled builds after being interrupted.; exit 1' "
                            "TERM\n"
                            "echo '==> openstack: Waiting for server to become ready'\n"
                            "sleep 1000 & wait\n");
        assert_false(fixture->result.succeeded);
        assert_false(fixture->result.cancelled);
        assert_contains(fixture->reason, "BUILD_TIMEOUT (1 s), while in phase boot");
}

static void test_grace_ends_in_kill(void **state)
{
        Fixture *fixture = *state;

        fixture->config.build.build_timeout_seconds = 1;
        fixture->config.build.stop_grace_seconds = 1;
        run_script(fixture, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1000; done\n");
        assert_int_equal(fixture->result.exit_code, 128 + SIGKILL);
        assert_contains(fixture->log, "STOP_GRACE");
        assert_contains(fixture->log, "with exit code 137\n");
}

static void stop_it(PackerRun *run)
{
        packer_run_stop(run, "an operator wanted it");
        packer_run_stop(run, "again");
}

static void test_stop_is_a_cancellation(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;
        PackerRun *run;

        write_file(fixture->config.build.packer_path, "#!/bin/sh\nsleep 1000\n", 0700);
        assert_int_equal(start(fixture, &run, &err), 0);
        stop_it(run);
        loop(fixture);
        assert_true(fixture->result.cancelled);
        assert_string_equal(fixture->reason, "an operator wanted it");
}

static void test_flood_is_cut(void **state)
{
        Fixture *fixture = *state;

        run_script(fixture, "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\necho\n" ARTIFACT);
        assert_true(fixture->result.succeeded);
        assert_in_range(strlen(fixture->log), 100000, 101000);
        assert_contains(fixture->log, "MAX_LOG_BYTES");
        assert_contains(fixture->log, "with exit code 0\n");
}

static void test_bad_template_refuses_the_build(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;
        PackerRun *run = NULL;

        write_file(fixture->template_path, "{\"builders\": ", 0600);
        assert_int_equal(start(fixture, &run, &err), PACKER_RUN_REFUSED);
        assert_contains(err.text, "managed.json");
        assert_null(run);
}

static void test_missing_packer_is_not_the_builds_fault(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;
        PackerRun *run = NULL;

        assert_true(start(fixture, &run, &err) < 0);
        assert_contains(err.text, "PACKER_PATH");
        assert_null(run);
}

static void test_free_kills(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;
        PackerRun *run;
        pid_t pid;

        write_file(fixture->config.build.packer_path, "#!/bin/sh\ntrap '' TERM\nsleep 1000\n",
                   0700);
        assert_int_equal(start(fixture, &run, &err), 0);
        pid = packer_run_pid(run);
        packer_run_free(run);
        assert_int_equal(kill(pid, 0), -1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_success),
                TEST(test_exit_0_without_artifact_is_a_failure),
                TEST(test_failure_in_packers_words),
                TEST(test_what_it_leaves_running_does_not_hold_the_build),
                TEST(test_timeout_ends_politely),
                TEST(test_grace_ends_in_kill),
                TEST(test_stop_is_a_cancellation),
                TEST(test_flood_is_cut),
                TEST(test_bad_template_refuses_the_build),
                TEST(test_missing_packer_is_not_the_builds_fault),
                TEST(test_free_kills),
        };

        return cmocka_run_group_tests_name("packer_run", tests, NULL, NULL);
}
