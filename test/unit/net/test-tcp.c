#include "../unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "net/tcp.h"

// A socket bound to a free port of 127.0.0.1, listening or not.
static int bind_port(bool listening, uint16_t *ret_port)
{
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
        if (listening)
                assert_int_equal(listen(fd, 1), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

static int option_of(int fd, int level, int name)
{
        int value = 0;
        socklen_t len = sizeof value;

        assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
        return value;
}

static void test_connects_and_tunes(void **state)
{
        uint16_t port;
        _cleanup_close_ int server = bind_port(true, &port);
        _cleanup_close_ int fd = -1;
        Error err = ERROR_NONE;

        (void)state;
        (void)server;
        assert_ok(tcp_connect("localhost", port, 5000, &fd, &err), err);
        assert_true(option_of(fd, IPPROTO_TCP, TCP_NODELAY));
        assert_true(option_of(fd, SOL_SOCKET, SO_KEEPALIVE));
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), TCP_DEAD_SECONDS * 1000);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void test_nobody_listens(void **state)
{
        uint16_t port;
        _cleanup_close_ int taken = bind_port(false, &port);
        Error err = ERROR_NONE;
        int fd = -1;

        (void)state;
        (void)taken;
        assert_int_equal(tcp_connect("127.0.0.1", port, 5000, &fd, &err), -ECONNREFUSED);
        assert_contains(err.text, "127.0.0.1:");
        assert_contains(err.text, "Connection refused");
        assert_int_equal(fd, -1);
}

static void test_unknown_host(void **state)
{
        Error err = ERROR_NONE;
        int fd = -1;

        (void)state;
        assert_true(tcp_connect("no-such-host.invalid", 1, 5000, &fd, &err) < 0);
        assert_contains(err.text, "no-such-host.invalid");
}

// A full backlog drops what comes, as a firewall does.
static void test_silence_ends_in_time(void **state)
{
        uint16_t port;
        _cleanup_close_ int server = bind_port(true, &port);
        Error err = ERROR_NONE;
        int fds[8];
        size_t n = 0;
        int r = 0;

        (void)state;
        (void)server;
        while (r == 0 && n < ELEMENTSOF(fds)) {
                r = tcp_connect("127.0.0.1", port, 100, &fds[n], &err);
                n += r == 0;
        }
        while (n)
                (void)close(fds[--n]);
        assert_int_equal(r, -ETIMEDOUT);
        assert_contains(err.text, "timed out");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_connects_and_tunes),
                cmocka_unit_test(test_nobody_listens),
                cmocka_unit_test(test_unknown_host),
                cmocka_unit_test(test_silence_ends_in_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
