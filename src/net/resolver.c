#include "net/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include "util/alloc.h"
#include "util/clock.h"

#define QUERY_TIMEOUT_MS 2000
#define QUERY_TRIES 3

struct Resolver {
        sd_event *event;
        ares_channel channel; // NULL: not made
        sd_event_source *timer;
        sd_event_source *sources[ARES_GETSOCK_MAXNUM]; // of sockets that are watched
        bool closing;
};

typedef struct Question {
        Resolver *resolver;
        char *address;
        ResolverDoneFn done;
        void *userdata;
} Question;

// ---- the event loop -----------------------------------------------------------------------

static void arm_timer(Resolver *resolver)
{
        struct timeval left;

        if (!ares_timeout(resolver->channel, NULL, &left)) {
                (void)sd_event_source_set_enabled(resolver->timer, SD_EVENT_OFF);
                return;
        }
        (void)sd_event_source_set_time_relative(
                resolver->timer, (uint64_t)left.tv_sec * USEC_PER_SECOND + (uint64_t)left.tv_usec);
        (void)sd_event_source_set_enabled(resolver->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        Resolver *resolver = userdata;

        (void)source;
        ares_process_fd(resolver->channel, revents & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
                        revents & EPOLLOUT ? fd : ARES_SOCKET_BAD);
        arm_timer(resolver);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Resolver *resolver = userdata;

        (void)source;
        (void)usec;
        ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        arm_timer(resolver);
        return 0;
}

static sd_event_source **find_source(Resolver *resolver, int fd)
{
        sd_event_source **unused = NULL;

        for (size_t at = 0; at < ELEMENTSOF(resolver->sources); at++) {
                sd_event_source **slot = &resolver->sources[at];

                if (*slot && sd_event_source_get_io_fd(*slot) == fd)
                        return slot;
                if (!*slot && !unused)
                        unused = slot;
        }
        return unused;
}

// c-ares' wishes for a socket of its own. One that cannot be watched times out.
static void on_socket_state(void *userdata, ares_socket_t fd, int readable, int writable)
{
        Resolver *resolver = userdata;
        sd_event_source **slot = find_source(resolver, fd);
        uint32_t events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);

        if (!slot || resolver->closing)
                return;
        if (!events)
                *slot = sd_event_source_disable_unref(*slot);
        else if (*slot)
                (void)sd_event_source_set_io_events(*slot, events);
        else
                (void)sd_event_add_io(resolver->event, slot, fd, events, on_io, resolver);
}

// ---- questions ----------------------------------------------------------------------------

static void on_answer(void *userdata, int status, int timeouts, struct hostent *host)
{
        Question *question = userdata;
        Error err = ERROR_NONE;

        (void)timeouts;
        if (status != ARES_SUCCESS || !host->h_name || !*host->h_name)
                (void)error_set(&err, ENOENT, "%s has no name in the DNS (%s)", question->address,
                                status == ARES_SUCCESS ? "an empty answer" : ares_strerror(status));
        if (!question->resolver->closing)
                question->done(err.code ? NULL : host->h_name, err.code ? &err : NULL,
                               question->userdata);
        free(question->address);
        free(question);
}

void resolver_name_of(Resolver *resolver, const char *address, ResolverDoneFn done, void *userdata)
{
        unsigned char binary[sizeof(struct in6_addr)];
        int family = strchr(address, ':') ? AF_INET6 : AF_INET;
        Question *question;
        Error err = ERROR_NONE;

        if (inet_pton(family, address, binary) != 1) {
                (void)error_set(&err, EINVAL, "\"%s\" is not an IP address", address);
                done(NULL, &err, userdata);
                return;
        }
        question = xcalloc(1, sizeof *question);
        *question = (Question){resolver, xstrdup(address), done, userdata};
        ares_gethostbyaddr(resolver->channel, binary,
                           family == AF_INET6 ? (int)sizeof(struct in6_addr)
                                              : (int)sizeof(struct in_addr),
                           family, on_answer, question);
        arm_timer(resolver);
}

// ---- life ---------------------------------------------------------------------------------

static int open_channel(Resolver *resolver, const char *servers, Error *err)
{
        struct ares_options options = {.timeout = QUERY_TIMEOUT_MS,
                                       .tries = QUERY_TRIES,
                                       .sock_state_cb = on_socket_state,
                                       .sock_state_cb_data = resolver};
        int status = ares_library_init(ARES_LIB_INIT_ALL);

        if (status != ARES_SUCCESS)
                return error_set(err, EIO, "cannot start c-ares: %s", ares_strerror(status));
        status = ares_init_options(&resolver->channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
        if (status != ARES_SUCCESS) {
                ares_library_cleanup();
                return error_set(err, EIO, "cannot start c-ares: %s", ares_strerror(status));
        }
        if (servers)
                status = ares_set_servers_ports_csv(resolver->channel, servers);
        return status == ARES_SUCCESS ? 0
                                      : error_set(err, EINVAL, "cannot use the name servers %s: %s",
                                                  servers, ares_strerror(status));
}

int resolver_new(sd_event *event, const char *servers, Resolver **ret, Error *err)
{
        _cleanup_(resolver_free_p) Resolver *resolver = xcalloc(1, sizeof *resolver);
        int r;

        resolver->event = sd_event_ref(event);
        r = open_channel(resolver, servers, err);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(event, &resolver->timer, CLOCK_MONOTONIC, 0, 1000, on_time,
                                       resolver);
        if (r >= 0)
                r = sd_event_source_set_enabled(resolver->timer, SD_EVENT_OFF);
        if (r < 0)
                return error_set(err, -r, "cannot set a timer: %s", strerror(-r));
        *ret = TAKE_PTR(resolver);
        return 0;
}

void resolver_free(Resolver *resolver)
{
        resolver->closing = true;
        for (size_t at = 0; at < ELEMENTSOF(resolver->sources); at++)
                (void)sd_event_source_disable_unref(resolver->sources[at]);
        (void)sd_event_source_disable_unref(resolver->timer);
        if (resolver->channel) {
                ares_destroy(resolver->channel);
                ares_library_cleanup();
        }
        (void)sd_event_unref(resolver->event);
        free(resolver);
}
