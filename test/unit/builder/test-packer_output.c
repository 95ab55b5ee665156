// Against what Packer 1.6.6 printed on a real OpenStack (test/data/packer-logs).
#include "../unit.h"

#include "builder/packer_output.h"
#include "util/alloc.h"

#define LOG_MAX 65536

typedef struct Reading {
        PackerOutput output;
        Buf phases;
} Reading;

static void note_phase(const char *phase, void *userdata)
{
        assert_int_equal(buf_printf(userdata, "%s;", phase), 0);
}

static void reading_done(Reading *reading)
{
        packer_output_done(&reading->output);
        buf_done(&reading->phases);
}

#define _cleanup_reading_ _cleanup_(reading_done)

// `piece`: how many bytes come at a time.
static Reading read_text(const char *text, size_t len, size_t piece)
{
        Reading reading = {.output = PACKER_OUTPUT_INIT, .phases = BUF_INIT(1024)};

        for (size_t at = 0; at < len; at += piece)
                packer_output_feed(&reading.output, text + at, MIN(piece, len - at), note_phase,
                                   &reading.phases);
        packer_output_end(&reading.output, note_phase, &reading.phases);
        return reading;
}

static Reading read_string(const char *text)
{
        return read_text(text, strlen(text), strlen(text));
}

static void read_log(const char *name, Buf *out)
{
        _cleanup_free_ char *path =
                xasprintf("%s/packer-logs/openstack-zed/%s.log", getenv("TEST_DATA"), name);
        Error err = ERROR_NONE;

        assert_ok(fs_read_file(path, out, &err), err);
}

static void assert_same(const char *a, const char *b)
{
        if (a && b)
                assert_string_equal(a, b);
        else
                assert_ptr_equal(a, b);
}

typedef struct Expected {
        const char *log, *phases, *artifact, *error, *saving_image;
        bool cancelled;
} Expected;

static const Expected logs[] = {
        {.log = "success",
         .phases = "launch;boot;connect;provision;stop;save;clean up;",
         .artifact = "2561d107-7585-4ed4-a269-1aedfb136bb6",
         .saving_image = "2561d107-7585-4ed4-a269-1aedfb136bb6"},
        {.log = "provisioner-failed",
         .phases = "launch;boot;connect;provision;clean up;",
         .error = "Script exited with non-zero exit status: 3.Allowed exit codes are: [0]"},
        {.log = "ssh-timeout",
         .phases = "launch;boot;connect;clean up;",
         .error = "Timeout waiting for SSH."},
        {.log = "source-image-missing",
         .phases = "launch;clean up;",
         .error = "Error launching source server: Bad request with: [POST "
                  "http://127.0.0.1:8774/v2.1/servers], error message: {\"badRequest\": {\"code\": "
                  "400, \"message\": \"Can not find requested image\"}}"},
        {.log = "flavor-missing",
         .phases = "launch;",
         .error = "Unable to find specified flavor by ID or name!"},
        {.log = "no-valid-host",
         .phases = "launch;boot;clean up;",
         .error = "Error waiting for server (4ae2454b-661b-4689-861b-2580a403b558) to become "
                  "ready: unexpected state 'ERROR', wanted target '[ACTIVE]'"},
        {.log = "quota-instances",
         .phases = "launch;clean up;",
         .error = "Error launching source server: Request forbidden: [POST "
                  "http://127.0.0.1:8774/v2.1/servers], error message: {\"forbidden\": {\"code\": "
                  "403, \"message\": \"Quota exceeded for instances: Requested 1, but already used "
                  "0 of 0 instances\"}}"},
        {.log = "auth-failed",
         .phases = "",
         .error = "Failed to prepare build: \"openstack\": Authentication failed"},
        {.log = "keystone-unreachable",
         .phases = "",
         .error = "Failed to prepare build: \"openstack\": Post "
                  "\"http://127.0.0.1:5999/v3/auth/tokens\": dial tcp 127.0.0.1:5999: connect: "
                  "connection refused"},
        {.log = "template-invalid",
         .phases = "",
         .error = "Failed to parse template: Error parsing JSON: invalid character '\"' after "
                  "object key:value pair"},
        {.log = "cancelled-term",
         .phases = "launch;boot;connect;provision;clean up;",
         .cancelled = true},
};

static void assert_reading(Reading *reading, const Expected *expected)
{
        assert_string_equal(buf_str(&reading->phases), expected->phases);
        assert_same(reading->output.artifact, expected->artifact);
        assert_same(reading->output.error, expected->error);
        assert_same(reading->output.saving_image, expected->saving_image);
        assert_int_equal(reading->output.cancelled, expected->cancelled);
}

static void test_real_logs(void **state)
{
        static const size_t pieces[] = {LOG_MAX, 1, 7, 80};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(logs); at++) {
                _cleanup_buf_ Buf text = BUF_INIT(LOG_MAX);

                read_log(logs[at].log, &text);
                for (size_t piece = 0; piece < ELEMENTSOF(pieces); piece++) {
                        _cleanup_reading_ Reading reading =
                                read_text(text.data, text.len, pieces[piece]);

                        assert_reading(&reading, &logs[at]);
                }
        }
}

static void test_before_and_after_1_6(void **state)
{
        _cleanup_reading_ Reading old = read_string("Build 'openstack' errored: no room\n");
        _cleanup_reading_ Reading core = read_string("Error initializing core: no variable x\n");
        _cleanup_reading_ Reading bare = read_string("Build 'openstack' errored\n");

        (void)state;
        assert_same(old.output.error, "no room");
        assert_same(core.output.error, "Error initializing core: no variable x");
        assert_same(bare.output.error, "errored");
}

static void test_first_error_stays(void **state)
{
        _cleanup_reading_ Reading reading = read_string("Build 'a' errored: first\n"
                                                        "* not a detail of it\n"
                                                        "Build 'b' errored: second\n"
                                                        "Error: third\n");
        _cleanup_reading_ Reading none = read_string("Build 'a' errored after 3 seconds: \n");

        (void)state;
        assert_same(reading.output.error, "first");
        assert_null(none.output.error);
}

static void test_failed_post_processor(void **state)
{
        static const char reason[] = "* Post-processor failed: Script exited with non-zero exit "
                                     "status: 1.Allowed exit codes are: [0]\n\n";
        _cleanup_free_ char *text =
                xasprintf("Build 'a' errored after 8 milliseconds: 1 error(s) occurred:\n\n%s"
                          "==> Wait completed after 8 milliseconds\n\n"
                          "==> Some builds didn't complete successfully and had errors:\n"
                          "--> a: 1 error(s) occurred:\n\n%s",
                          reason, reason);
        _cleanup_reading_ Reading reading = read_string(text);

        (void)state;
        assert_same(reading.output.error,
                    "1 error(s) occurred: Post-processor failed: Script exited with non-zero exit "
                    "status: 1.Allowed exit codes are: [0]");
}

static void test_details_are_limited(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(LOG_MAX);
        _cleanup_reading_ Reading reading = {0};

        (void)state;
        assert_int_equal(buf_append_str(&text, "Error: x\n* one\n"), 0);
        for (int at = 0; at < 100; at++)
                assert_int_equal(buf_printf(&text, "* reason number %d of many\n", at), 0);
        reading = read_text(text.data, text.len, text.len);
        assert_contains(reading.output.error, "x: one: reason number 0");
        assert_true(strlen(reading.output.error) < 500);
}

static void test_several_artifacts(void **state)
{
        static const char text[] = "==> Builds finished. The artifacts of successful builds are:\n"
                                   "--> a: An image was created: id-1\n"
                                   "--> a: \n"
                                   "--> b: An image was created: id-12\n"
                                   "--> b: An image was created: id-1\n"
                                   "--> c: An image was created: d-1\n"
                                   "--> d: An image was created: \x1b[1m\n"
                                   "--> nonsense\n"
                                   "something else\n";
        _cleanup_reading_ Reading reading = read_string(text);

        (void)state;
        assert_same(reading.output.artifact, "id-1 id-12 d-1 \\x1b[1m");
}

static void test_artifacts_are_limited(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(LOG_MAX);
        _cleanup_reading_ Reading reading = {0};
        size_t n = 1;

        (void)state;
        assert_int_equal(buf_append_str(&text, "The artifacts of successful builds are:\n"), 0);
        for (int at = 0; at < 100; at++)
                assert_int_equal(buf_printf(&text, "--> b: An image was created: n%03d\n", at), 0);
        reading = read_text(text.data, text.len, text.len);
        for (const char *at = reading.output.artifact; *at; at++)
                n += *at == ' ';
        assert_in_range(n, 2, 17);
}

// What a guest prints carries the builder's name in front and ends nothing.
static void test_guest_cannot_pretend(void **state)
{
        static const char text[] =
                "    openstack: Cleanly cancelled builds after being interrupted.\n"
                "    openstack: Build 'openstack' errored: not true\n"
                "    openstack: Error: not true\n"
                "    openstack: ==> Builds finished. The artifacts of successful builds are:\n"
                "    openstack: --> openstack: An image was created: not-true\n"
                "--> openstack: An image was created: not-true\n";
        _cleanup_reading_ Reading reading = read_string(text);

        (void)state;
        assert_null(reading.output.artifact);
        assert_null(reading.output.error);
        assert_false(reading.output.cancelled);
        assert_false(reading.output.in_artifacts);
}

static void test_control_characters_are_shown(void **state)
{
        _cleanup_reading_ Reading reading = read_string("Build 'a' errored: \x1b[31mred\n");

        (void)state;
        assert_same(reading.output.error, "\\x1b[31mred");
}

static void test_carriage_returns_and_no_last_newline(void **state)
{
        _cleanup_reading_ Reading reading =
                read_string("==> a: Launching server...\r\n\r\nBuild 'a' errored: no room\r");

        (void)state;
        assert_string_equal(buf_str(&reading.phases), "launch;");
        assert_same(reading.output.error, "no room");
}

static void test_lines_without_end(void **state)
{
        enum { LONG = 3 * PACKER_LINE_MAX };
        _cleanup_free_ char *text = xmalloc(LONG + 64);
        size_t len = LONG;

        (void)state;
        for (size_t piece = 1000; piece <= LONG + 64; piece += LONG) {
                _cleanup_reading_ Reading reading = {0};

                memset(text, 'x', LONG);
                memcpy(text, "Build 'a' errored: ", 19);
                memcpy(text + LONG, "\n==> a: Launching server...\n", 28);
                reading = read_text(text, len + 28, piece);
                assert_true(strlen(reading.output.error) > 300);
                assert_true(strlen(reading.output.error) < 500);
                // The next line is a line again.
                assert_string_equal(buf_str(&reading.phases), "launch;");
        }
}

static void test_phase_is_told_when_it_changes(void **state)
{
        _cleanup_reading_ Reading reading =
                read_string("==> a: Provisioning with shell script\n"
                            "==> a: Provisioning with file\n"
                            "==> a: Running local shell script: x\n"
                            "==> a:\n"
                            "==> Some builds had errors\n"
                            "==> a: Stopping server: 1 ...\n"
                            "==> a: Running post-processor: manifest\n");

        (void)state;
        assert_string_equal(buf_str(&reading.phases), "provision;stop;post-process;");
        assert_string_equal(reading.output.phase, "post-process");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_real_logs),
                cmocka_unit_test(test_before_and_after_1_6),
                cmocka_unit_test(test_first_error_stays),
                cmocka_unit_test(test_failed_post_processor),
                cmocka_unit_test(test_details_are_limited),
                cmocka_unit_test(test_several_artifacts),
                cmocka_unit_test(test_artifacts_are_limited),
                cmocka_unit_test(test_guest_cannot_pretend),
                cmocka_unit_test(test_control_characters_are_shown),
                cmocka_unit_test(test_carriage_returns_and_no_last_newline),
                cmocka_unit_test(test_lines_without_end),
                cmocka_unit_test(test_phase_is_told_when_it_changes),
        };

        return cmocka_run_group_tests_name("packer_output", tests, NULL, NULL);
}
