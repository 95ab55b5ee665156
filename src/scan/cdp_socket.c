#include "scan/cdp_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "util/alloc.h"

// Splits at the last colon; brackets around an IPv6 address are taken off, "*" and "" are any.
static int split_address(const char *address, char **ret_host, char **ret_port, Error *err)
{
        const char *colon = strrchr(address, ':'), *host = address;
        size_t len;

        if (!colon || !colon[1])
                return error_set(err, EINVAL, "CDP_LISTEN: \"%s\" is not ADDRESS:PORT", address);
        len = (size_t)(colon - host);
        if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
                host++;
                len -= 2;
        }
        *ret_host = len == 0 || (len == 1 && *host == '*') ? NULL : xstrndup(host, len);
        *ret_port = xstrdup(colon + 1);
        return 0;
}

static unsigned port_of(const struct sockaddr_storage *address)
{
        // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): getsockname() has filled it
        in_port_t port = address->ss_family == AF_INET6
                                 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                 : ((const struct sockaddr_in *)address)->sin_port;

        return ntohs(port);
}

static int bind_address(const char *address, const struct addrinfo *info, int *ret_fd,
                        unsigned *ret_port, Error *err)
{
        _cleanup_close_ int fd =
                socket(info->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof bound;

        if (fd < 0 || bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
            getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
                return error_sys(err, "CDP_LISTEN: cannot listen on %s (is cdp-listend running?)",
                                 address);
        *ret_port = port_of(&bound);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int cdp_socket_open(const char *address, int *ret_fd, unsigned *ret_port, Error *err)
{
        const struct addrinfo hints = {
                .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                .ai_socktype = SOCK_DGRAM,
        };
        _cleanup_free_ char *host = NULL, *port = NULL;
        struct addrinfo *info;
        int r = split_address(address, &host, &port, err);

        if (r < 0)
                return r;
        r = getaddrinfo(host, port, &hints, &info);
        if (r != 0)
                return error_set(err, EINVAL, "CDP_LISTEN: %s: %s", address, gai_strerror(r));
        r = bind_address(address, info, ret_fd, ret_port, err);
        freeaddrinfo(info);
        return r;
}

// ---- senders ------------------------------------------------------------------------------

static struct in6_addr map_ipv4(const struct in_addr *address)
{
        struct in6_addr mapped = {.s6_addr = {[10] = 0xFF, [11] = 0xFF}};

        memcpy(&mapped.s6_addr[12], address, sizeof *address);
        return mapped;
}

static bool parse_address(const char *text, struct in6_addr *ret)
{
        struct in_addr ipv4;

        if (inet_pton(AF_INET, text, &ipv4) == 1) {
                *ret = map_ipv4(&ipv4);
                return true;
        }
        return inet_pton(AF_INET6, text, ret) == 1;
}

int cdp_senders_init(CdpSenders *senders, char *const *addresses, Error *err)
{
        size_t count = 0;

        while (addresses && addresses[count])
                count++;
        *senders = (CdpSenders){.addresses = xcalloc(count + 1, sizeof *senders->addresses)};
        for (; senders->n < count; senders->n++) {
                if (!parse_address(addresses[senders->n], &senders->addresses[senders->n])) {
                        int r = error_set(err, EINVAL, "CDP_ALLOW: \"%s\" is not an IP address",
                                          addresses[senders->n]);

                        cdp_senders_done(senders);
                        return r;
                }
        }
        return 0;
}

void cdp_senders_done(CdpSenders *senders)
{
        free(senders->addresses);
        *senders = (CdpSenders){.n = 0};
}

static bool is_allowed(const CdpSenders *allowed, const struct in6_addr *address)
{
        if (allowed->n == 0)
                return true;
        for (size_t i = 0; i < allowed->n; i++) {
                if (memcmp(&allowed->addresses[i], address, sizeof *address) == 0)
                        return true;
        }
        return false;
}

CdpReceived cdp_socket_receive(int fd, const CdpSenders *allowed, CdpPacket *ret_packet,
                               char sender[CDP_SENDER_SIZE])
{
        char data[CDP_PACKET_MAX + 1]; // one more, to see that a packet is too long
        struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
        socklen_t from_len = sizeof from;
        struct in6_addr address = IN6ADDR_ANY_INIT;
        ssize_t len;

        do {
                len = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &from_len);
        } while (len < 0 && errno == EINTR);
        if (len < 0)
                return CDP_NOTHING;
        if (from.ss_family == AF_INET6)
                address = ((const struct sockaddr_in6 *)&from)->sin6_addr;
        else if (from.ss_family == AF_INET)
                address = map_ipv4(&((const struct sockaddr_in *)&from)->sin_addr);
        if (IN6_IS_ADDR_V4MAPPED(&address))
                (void)inet_ntop(AF_INET, &address.s6_addr[12], sender, CDP_SENDER_SIZE);
        else
                (void)inet_ntop(AF_INET6, &address, sender, CDP_SENDER_SIZE);
        if (!is_allowed(allowed, &address))
                return CDP_NOT_ALLOWED;
        return cdp_parse(data, (size_t)len, ret_packet) ? CDP_ACCEPTED : CDP_MALFORMED;
}
