// The HTTP client in an event loop: libcurl tells which sockets and which time it waits for, and is
// told what came.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "net/http_internal.h"
#include "util/clock.h"

// Until nothing more was finished on the spot.
static void start_more(HttpClient *client)
{
        bool any;

        do {
                any = client_start_waiting(client);
                if (client->multi)
                        any = client_finish_done(client) || any;
        } while (any);
}

static void act(HttpClient *client, curl_socket_t fd, int what)
{
        int running;

        // A failure here is one of all transfers; each tells its own.
        (void)curl_multi_socket_action(client->multi, fd, what, &running);
        start_more(client);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        int what = 0;

        (void)source;
        if (revents & (EPOLLIN | EPOLLHUP))
                what |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                what |= CURL_CSELECT_OUT;
        if (revents & EPOLLERR)
                what |= CURL_CSELECT_ERR;
        act(userdata, fd, what);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        act(userdata, CURL_SOCKET_TIMEOUT, 0);
        return 0;
}

static int on_kick(sd_event_source *source, void *userdata)
{
        (void)source;
        start_more(userdata);
        return 0;
}

// ---- what libcurl asks for ----------------------------------------------------------------

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *userdata,
                            void *socket_data)
{
        HttpClient *client = userdata;
        sd_event_source *source = socket_data;
        uint32_t events = 0;

        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                (void)sd_event_source_disable_unref(source);
                (void)curl_multi_assign(client->multi, fd, NULL);
                return 0;
        }
        if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
                events |= EPOLLIN;
        if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
                events |= EPOLLOUT;
        if (source)
                return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
        if (sd_event_add_io(client->event, &source, fd, events, on_io, client) < 0)
                return -1;
        return curl_multi_assign(client->multi, fd, source) == CURLM_OK ? 0 : -1;
}

static int on_time_wanted(CURLM *multi, long timeout_ms, void *userdata)
{
        HttpClient *client = userdata;

        (void)multi;
        if (timeout_ms < 0)
                return sd_event_source_set_enabled(client->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        if (sd_event_source_set_time_relative(client->timer, (uint64_t)timeout_ms * 1000) < 0)
                return -1;
        return sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

// ---- life ---------------------------------------------------------------------------------

void client_kick(HttpClient *client)
{
        if (client->kick)
                (void)sd_event_source_set_enabled(client->kick, SD_EVENT_ONESHOT);
}

void client_detach(HttpClient *client)
{
        client->timer = sd_event_source_disable_unref(client->timer);
        client->kick = sd_event_source_disable_unref(client->kick);
        client->event = sd_event_unref(client->event);
}

static int add_sources(HttpClient *client, Error *err)
{
        int r = sd_event_add_time_relative(client->event, &client->timer, CLOCK_MONOTONIC, 0, 1000,
                                           on_time, client);

        if (r >= 0)
                r = sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(client->event, &client->kick, on_kick, client);
        if (r >= 0)
                r = sd_event_source_set_enabled(client->kick, SD_EVENT_OFF);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

int http_client_attach(HttpClient *client, sd_event *event, Error *err)
{
        int r = client_need_multi(client, err);

        if (r < 0)
                return r;
        client->event = sd_event_ref(event);
        r = add_sources(client, err);
        if (r < 0)
                return r;
        (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
        (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
        (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_time_wanted);
        (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
        return 0;
}
