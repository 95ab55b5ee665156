#include "scan/listener.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "scan/cdp_socket.h"
#include "util/alloc.h"
#include "util/child.h"
#include "util/child_watch.h"
#include "util/clock.h"
#include "util/log.h"

#define SCAN_TIMEOUT_SECONDS (4 * 60 * 60) // longer than any first scan
#define STOP_GRACE_SECONDS 10              // between TERM and KILL
#define RETRY_SECONDS 300                  // after a scan that failed, unless polling is faster
#define PACKETS_PER_TURN 1024
#define IGNORED_LOG_MS (60 * 1000) // at most one message about ignored packets in this time

struct Listener {
        const Config *config;
        const char *const *scan_argv;
        sd_event *event;
        int fd;
        CdpSenders allowed;
        sd_event_source *on_packet, *on_term, *on_int;
        sd_event_source *next_scan;  // timer of the next poll; NULL or off: none
        sd_event_source *scan_limit; // timer against a scan that hangs
        sd_event_source *on_child;
        pid_t scan;    // 0: none runs
        bool again;    // notified while one runs
        bool stopping; // TERM has come
        uint64_t n_ignored;
        int64_t ignored_logged_ms; // 0: never
};

static void start_scan(Listener *listener);

// ---- timers -------------------------------------------------------------------------------

// Sets (or makes) a one-shot timer.
static void set_timer(Listener *listener, sd_event_source **timer, int64_t seconds,
                      sd_event_time_handler_t handler)
{
        uint64_t delay = (uint64_t)seconds * USEC_PER_SECOND;
        int r;

        *timer = sd_event_source_unref(*timer);
        r = sd_event_add_time_relative(listener->event, timer, CLOCK_BOOTTIME, delay, 0, handler,
                                       listener);
        if (r < 0)
                log_error("cannot set a timer: %s", strerror(-r));
}

static int on_next_scan(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        start_scan(userdata);
        return 0;
}

static int on_kill_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        const Listener *listener = userdata;

        (void)source;
        (void)usec;
        log_warning("the scan does not end: killed");
        (void)kill(-listener->scan, SIGKILL);
        return 0;
}

static void stop_scan(Listener *listener)
{
        (void)kill(-listener->scan, SIGTERM);
        set_timer(listener, &listener->scan_limit, STOP_GRACE_SECONDS, on_kill_time);
}

static int on_scan_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source;
        (void)usec;
        log_error("the scan runs for more than %d minutes: stopped", SCAN_TIMEOUT_SECONDS / 60);
        stop_scan(userdata);
        return 0;
}

static void plan_next_scan(Listener *listener, bool failed)
{
        int64_t seconds = listener->config->scan.poll_seconds;

        if (failed && (seconds == 0 || seconds > RETRY_SECONDS))
                seconds = RETRY_SECONDS;
        if (seconds > 0)
                set_timer(listener, &listener->next_scan, seconds, on_next_scan);
}

// ---- scans --------------------------------------------------------------------------------

static int on_scan_end(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        Listener *listener = userdata;
        bool failed = info->si_code != CLD_EXITED || info->si_status != 0;

        (void)source;
        listener->scan = 0;
        listener->on_child = sd_event_source_unref(listener->on_child);
        listener->scan_limit = sd_event_source_unref(listener->scan_limit);
        if (listener->stopping)
                return sd_event_exit(listener->event, 0);
        if (info->si_code != CLD_EXITED)
                log_error("the scan was ended by signal %d", info->si_status);
        if (listener->again)
                start_scan(listener);
        else
                plan_next_scan(listener, failed);
        return 0;
}

static int spawn_scan(Listener *listener, Error *err)
{
        const ChildSpec spec = {
                .argv = listener->scan_argv,
                .out_fd = STDERR_FILENO,
                .new_session = true,
                .death_signal = SIGTERM,
        };
        int r = child_spawn(&spec, &listener->scan, err);

        if (r < 0)
                return r;
        r = child_watch(listener->event, listener->scan, on_scan_end, listener,
                        &listener->on_child);
        if (r < 0) {
                (void)kill(-listener->scan, SIGKILL);
                (void)waitpid(listener->scan, NULL, 0);
                return error_set(err, -r, "cannot watch the scan: %s", strerror(-r));
        }
        return 0;
}

// Starts a scan, or notes that one is due when the running one has ended.
static void start_scan(Listener *listener)
{
        Error err = ERROR_NONE;

        if (listener->stopping)
                return;
        if (listener->scan) {
                listener->again = true;
                return;
        }
        listener->again = false;
        listener->next_scan = sd_event_source_unref(listener->next_scan);
        if (spawn_scan(listener, &err) < 0) {
                log_error("cannot start a scan: %s", err.text);
                listener->scan = 0;
                plan_next_scan(listener, true);
                return;
        }
        set_timer(listener, &listener->scan_limit, SCAN_TIMEOUT_SECONDS, on_scan_limit);
}

// ---- packets ------------------------------------------------------------------------------

static void packet_ignored(Listener *listener, const char *sender, const char *reason)
{
        int64_t now_ms = clock_mono_ms();

        listener->n_ignored++;
        if (listener->ignored_logged_ms && now_ms - listener->ignored_logged_ms < IGNORED_LOG_MS)
                return;
        log_warning("packet from %s ignored: %s (%llu ignored since the last message)", sender,
                    reason, (unsigned long long)listener->n_ignored);
        listener->n_ignored = 0;
        listener->ignored_logged_ms = now_ms;
}

// Takes what has piled up before the scan is started: all of it is worth one.
static int on_packets(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        Listener *listener = userdata;
        char sender[CDP_SENDER_SIZE] = "";
        bool notified = false;
        CdpPacket packet;

        (void)source;
        (void)revents;
        for (int i = 0; i < PACKETS_PER_TURN; i++) {
                CdpReceived received = cdp_socket_receive(fd, &listener->allowed, &packet, sender);

                if (received == CDP_NOTHING)
                        break;
                if (received == CDP_MALFORMED)
                        packet_ignored(listener, sender, "not a CDP notification");
                if (received == CDP_NOT_ALLOWED)
                        packet_ignored(listener, sender, "CDP_ALLOW does not list its sender");
                if (received != CDP_ACCEPTED)
                        continue;
                log_write(notified ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "%s packet from %s (%lld)",
                          packet.type, sender, (long long)packet.time);
                notified = true;
        }
        if (notified)
                start_scan(listener);
        return 0;
}

// ---- life ---------------------------------------------------------------------------------

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        Listener *listener = userdata;

        (void)source;
        (void)info;
        (void)sd_notify(0, "STOPPING=1");
        listener->stopping = true;
        if (!listener->scan)
                return sd_event_exit(listener->event, 0);
        stop_scan(listener);
        return 0;
}

static int attach(Listener *listener, Error *err)
{
        sd_event *event = listener->event;
        int r = sd_event_add_io(event, &listener->on_packet, listener->fd, EPOLLIN, on_packets,
                                listener);

        if (r >= 0)
                r = sd_event_add_signal(event, &listener->on_term, SIGTERM, on_stop, listener);
        if (r >= 0)
                r = sd_event_add_signal(event, &listener->on_int, SIGINT, on_stop, listener);
        return r < 0 ? error_set(err, -r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

int listener_new(const Config *config, const char *const *scan_argv, sd_event *event,
                 Listener **ret, Error *err)
{
        _cleanup_(listener_free_p) Listener *listener = xcalloc(1, sizeof *listener);
        unsigned port = 0;
        int r;

        listener->config = config;
        listener->scan_argv = scan_argv;
        listener->event = event;
        listener->fd = -1;
        r = cdp_senders_init(&listener->allowed, config->scan.cdp_allow, err);
        if (r == 0)
                r = cdp_socket_open(config->scan.cdp_listen, &listener->fd, &port, err);
        if (r == 0)
                r = attach(listener, err);
        if (r < 0)
                return r;
        log_notice("listening for CDP packets on %s (port %u)", config->scan.cdp_listen, port);
        start_scan(listener);
        *ret = TAKE_PTR(listener);
        return 0;
}

void listener_free(Listener *listener)
{
        if (!listener)
                return;
        (void)sd_event_source_unref(listener->on_packet);
        (void)sd_event_source_unref(listener->on_term);
        (void)sd_event_source_unref(listener->on_int);
        (void)sd_event_source_unref(listener->next_scan);
        (void)sd_event_source_unref(listener->scan_limit);
        (void)sd_event_source_unref(listener->on_child);
        cdp_senders_done(&listener->allowed);
        close_p(&listener->fd);
        free(listener);
}
