#include "../unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "builder/build_log.h"
#include "util/alloc.h"

#define EPOCH 1732300000
#define LAST_LINE "rabbit2packer: Build finished at 1732300009 (epoch) with exit code 0\n"

typedef struct Fixture {
        BuildLog log;
        Redactor *redactor;
} Fixture;

static void fixture_done(Fixture *fixture)
{
        build_log_done(&fixture->log);
        redactor_free(fixture->redactor);
}

#define _cleanup_fixture_ _cleanup_(fixture_done)

static Fixture open_log(const char *folder, size_t max_bytes)
{
        Fixture fixture = {.redactor = redactor_new()};
        Error err = ERROR_NONE;

        redactor_add(fixture.redactor, "hunter22");
        assert_ok(build_log_open(&fixture.log, folder, "web-sl7x", "managed", EPOCH, max_bytes,
                                 fixture.redactor, &err),
                  err);
        return fixture;
}

static void put(Fixture *fixture, const char *text)
{
        build_log_write(&fixture->log, text, strlen(text));
}

static void assert_content(const Fixture *fixture, const char *expected)
{
        _cleanup_buf_ Buf text = BUF_INIT(65536);
        Error err = ERROR_NONE;

        assert_ok(fs_read_file(fixture->log.path, &text, &err), err);
        assert_string_equal(buf_str(&text), expected);
}

static void test_name_mode_and_last_line(void **state)
{
        _cleanup_fixture_ Fixture fixture = open_log(*state, 1000);
        _cleanup_free_ char *path = fs_join(*state, "web-sl7x.managed.json.1732300000.log");
        struct stat st;

        assert_string_equal(fixture.log.path, path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777 & ~0640U, 0);
        put(&fixture, "==> openstack: hello\n");
        assert_content(&fixture, "==> openstack: hello\n"); // as it comes
        build_log_finish(&fixture.log, EPOCH + 9, 0);
        assert_content(&fixture, "==> openstack: hello\n" LAST_LINE);
        assert_int_equal(fixture.log.fd, -1);
        assert_int_equal(fixture.log.error, 0);
}

static void test_two_builds_of_one_second(void **state)
{
        _cleanup_fixture_ Fixture first = open_log(*state, 1000);
        _cleanup_fixture_ Fixture second = open_log(*state, 1000);

        put(&first, "first\n");
        put(&second, "second\n");
        assert_contains(first.log.path, ".json.1732300000.log");
        assert_contains(second.log.path, ".json.1732300001.log");
        assert_content(&first, "first\n");
        assert_content(&second, "second\n");
}

static void test_folder_that_cannot_be_written(void **state)
{
        _cleanup_free_ char *folder = fs_join(*state, "missing");
        _cleanup_redactor_ Redactor *redactor = redactor_new();
        _cleanup_(build_log_done) BuildLog log = BUILD_LOG_INIT;
        Error err = ERROR_NONE;

        assert_int_equal(build_log_open(&log, folder, "i", "t", EPOCH, 10, redactor, &err),
                         -ENOENT);
        assert_contains(err.text, "missing/i.t.json.1732300000.log");
        assert_int_equal(log.fd, -1);
}

static void test_secrets_in_pieces(void **state)
{
        _cleanup_fixture_ Fixture fixture = open_log(*state, 1000);

        put(&fixture, "password hunt");
        assert_content(&fixture, "password ");
        put(&fixture, "er22 and hun");
        assert_content(&fixture, "password " REDACT_MARK " and ");
        build_log_note(&fixture.log, "the note hides hunter22 too");
        build_log_finish(&fixture.log, EPOCH + 9, 0);
        // What was held comes behind the note; nothing is lost.
        assert_content(&fixture, "password " REDACT_MARK " and \n"
                                 "rabbit2packer: the note hides " REDACT_MARK " too\n"
                                 "hun\n" LAST_LINE);
}

static void test_our_lines_start_a_line(void **state)
{
        _cleanup_fixture_ Fixture fixture = open_log(*state, 1000);

        build_log_note(&fixture.log, "first");
        put(&fixture, "no newline");
        build_log_finish(&fixture.log, EPOCH + 9, 137);
        assert_content(&fixture,
                       "rabbit2packer: first\nno newline\n"
                       "rabbit2packer: Build finished at 1732300009 (epoch) with exit code 137\n");
        build_log_finish(&fixture.log, EPOCH + 10, 0); // closed: nothing more
        put(&fixture, "late");
        build_log_note(&fixture.log, "late");
        assert_contains(fixture.log.path, ".log");
}

static void test_limit(void **state)
{
        static const char limit[] = "rabbit2packer: the log has reached its limit (MAX_LOG_BYTES); "
                                    "the rest of Packer's output is not kept\n";
        _cleanup_free_ char *expected = xasprintf("0123456789\n%s%s", limit, LAST_LINE);
        _cleanup_fixture_ Fixture fixture = open_log(*state, 10);

        put(&fixture, "01234");
        put(&fixture, "56789");
        assert_false(fixture.log.full);
        put(&fixture, "x");
        assert_true(fixture.log.full);
        for (int at = 0; at < 1000; at++)
                put(&fixture, "flood flood flood\n");
        build_log_finish(&fixture.log, EPOCH + 9, 0);
        assert_content(&fixture, expected);
}

static void test_nothing_written(void **state)
{
        _cleanup_fixture_ Fixture fixture = open_log(*state, 10);

        put(&fixture, "");
        build_log_finish(&fixture.log, EPOCH + 9, 0);
        assert_content(&fixture, LAST_LINE);
}

// As on a full disk: the build goes on, the first reason is kept.
static void test_write_that_fails(void **state)
{
        _cleanup_fixture_ Fixture fixture = open_log(*state, 100000);
        struct rlimit old, small;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = old;
        small.rlim_cur = 8;
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        put(&fixture, "0123456789\n");
        put(&fixture, "more\n");
        build_log_finish(&fixture.log, EPOCH + 9, 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(fixture.log.error, EFBIG);
        assert_content(&fixture, "01234567");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_name_mode_and_last_line),
                unit_test_in_folder(test_two_builds_of_one_second),
                unit_test_in_folder(test_folder_that_cannot_be_written),
                unit_test_in_folder(test_secrets_in_pieces),
                unit_test_in_folder(test_our_lines_start_a_line),
                unit_test_in_folder(test_limit),
                unit_test_in_folder(test_nothing_written),
                unit_test_in_folder(test_write_that_fails),
        };

        return cmocka_run_group_tests_name("build_log", tests, NULL, NULL);
}
