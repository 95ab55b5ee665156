#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/lines.h"

#define LINE_MAX_BYTES 8 // with its newline

typedef struct Fixture {
        int read_fd, write_fd;
        Buf held;
        Buf seen; // lines, each with a | behind it
        int answer;
} Fixture;

static int setup(void **state)
{
        Fixture *fixture = calloc(1, sizeof *fixture);
        int fds[2];

        if (!fixture || pipe2(fds, O_NONBLOCK) < 0)
                return -1;
        *fixture = (Fixture){.read_fd = fds[0],
                             .write_fd = fds[1],
                             .held = BUF_INIT(LINE_MAX_BYTES),
                             .seen = BUF_INIT(1000)};
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        Fixture *fixture = *state;

        close_p(&fixture->read_fd);
        close_p(&fixture->write_fd);
        buf_done(&fixture->held);
        buf_done(&fixture->seen);
        free(fixture);
        return 0;
}

static int take(char *line, void *userdata)
{
        Fixture *fixture = userdata;

        assert_int_equal(buf_printf(&fixture->seen, "%s|", line), 0);
        return fixture->answer;
}

static int read_after(Fixture *fixture, const char *text)
{
        assert_int_equal(write(fixture->write_fd, text, strlen(text)), strlen(text));
        return lines_read(fixture->read_fd, &fixture->held, take, fixture);
}

static void test_lines_come_whole(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(read_after(fixture, "one\n\ntw"), 0);
        assert_string_equal(buf_str(&fixture->seen), "one||");
        assert_int_equal(read_after(fixture, "o\nthree"), 0);
        assert_string_equal(buf_str(&fixture->seen), "one||two|");
        // Nothing there now is no end, and what has no newline is no line.
        assert_int_equal(lines_read(fixture->read_fd, &fixture->held, take, fixture), 0);
        close_p(&fixture->write_fd);
        fixture->write_fd = -1;
        assert_int_equal(lines_read(fixture->read_fd, &fixture->held, take, fixture), LINES_END);
        assert_string_equal(buf_str(&fixture->seen), "one||two|");
}

static void test_many_lines_at_once(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(read_after(fixture, "1234567\n1\n1234567\n123456\n1"), 0);
        assert_string_equal(buf_str(&fixture->seen), "1234567|1|1234567|123456|");
}

static void test_a_line_has_a_limit(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(read_after(fixture, "a\n12345678\n"), -EFBIG);
        assert_string_equal(buf_str(&fixture->seen), "a|");
}

static void test_a_line_without_end_has_it_too(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(read_after(fixture, "1234567"), 0); // its newline may come
        assert_int_equal(read_after(fixture, "89"), -EFBIG);
}

static void test_whoever_takes_them_may_stop(void **state)
{
        Fixture *fixture = *state;

        fixture->answer = -EBADMSG;
        assert_int_equal(read_after(fixture, "a\nb\n"), -EBADMSG);
        assert_string_equal(buf_str(&fixture->seen), "a|");
}

static void test_what_cannot_be_read(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(lines_read(fixture->write_fd, &fixture->held, take, fixture), -EBADF);
}

#define with_pipe(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                with_pipe(test_lines_come_whole),
                with_pipe(test_many_lines_at_once),
                with_pipe(test_a_line_has_a_limit),
                with_pipe(test_a_line_without_end_has_it_too),
                with_pipe(test_whoever_takes_them_may_stop),
                with_pipe(test_what_cannot_be_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
