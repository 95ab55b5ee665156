#include "net/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "util/clock.h"

#define KEEPALIVE_IDLE_SECONDS 30
#define KEEPALIVE_INTERVAL_SECONDS 10
#define KEEPALIVE_PROBES 3
#define PORT_TEXT_MAX 8

static void set_option(int fd, int level, int name, int value)
{
        // Not having one of these is no reason to do without the connection.
        (void)setsockopt(fd, level, name, &value, sizeof value);
}

void tcp_tune(int fd)
{
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_DEAD_SECONDS * 1000);
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

// The resolver's default is 5 s twice for each name server; its setting is one of this thread.
void tcp_limit_resolver(void)
{
        if (res_init() < 0)
                return;
        _res.retrans = TCP_RESOLVE_SECONDS;
        _res.retry = 1;
}

static int resolve(const char *host, uint16_t port, struct addrinfo **ret, Error *err)
{
        const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                       .ai_socktype = SOCK_STREAM,
                                       .ai_protocol = IPPROTO_TCP,
                                       .ai_flags = AI_NUMERICSERV};
        char service[PORT_TEXT_MAX];
        int r;

        (void)snprintf(service, sizeof service, "%u", (unsigned)port);
        tcp_limit_resolver();
        r = getaddrinfo(host, service, &hints, ret);
        if (r == EAI_SYSTEM)
                return error_sys(err, "cannot find the host \"%s\"", host);
        if (r != 0)
                return error_set(err, EHOSTUNREACH, "cannot find the host \"%s\": %s", host,
                                 gai_strerror(r));
        return 0;
}

// 0 or the errno of the attempt.
static int wait_connected(int fd, int64_t timeout_ms)
{
        struct pollfd waiting = {.fd = fd, .events = POLLOUT};
        socklen_t len = sizeof(int);
        int result = 0, r;

        do {
                r = poll(&waiting, 1, (int)timeout_ms);
        } while (r < 0 && errno == EINTR);
        if (r == 0)
                return ETIMEDOUT;
        if (r < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &len) < 0)
                return errno;
        return result;
}

// A connected socket, or a negative errno.
static int connect_address(const struct addrinfo *address, int64_t timeout_ms)
{
        _cleanup_close_ int fd =
                socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                       address->ai_protocol);
        int result = 0;

        if (fd < 0)
                return -errno;
        tcp_tune(fd);
        if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
                result = errno == EINPROGRESS ? wait_connected(fd, timeout_ms) : errno;
        return result ? -result : TAKE_FD(fd);
}

static int64_t count_addresses(const struct addrinfo *address)
{
        int64_t n = 0;

        for (; address; address = address->ai_next)
                n++;
        return n;
}

int tcp_connect(const char *host, uint16_t port, int64_t timeout_ms, int *ret_fd, Error *err)
{
        int64_t deadline = clock_mono_ms() + timeout_ms;
        struct addrinfo *addresses = NULL;
        int fd = -EHOSTUNREACH;
        int r = resolve(host, port, &addresses, err);

        if (r < 0)
                return r;
        for (const struct addrinfo *at = addresses; at && fd < 0; at = at->ai_next) {
                int64_t left = MAX(deadline - clock_mono_ms(), 0);

                fd = connect_address(at, left / count_addresses(at));
        }
        freeaddrinfo(addresses);
        if (fd < 0)
                return error_set(err, -fd, "cannot connect to %s:%u: %s", host, (unsigned)port,
                                 strerror(-fd));
        *ret_fd = fd;
        return 0;
}
