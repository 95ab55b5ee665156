// Consumes from the queue of a configuration file, for the integration tests.
//
//     queue-consume CONFIG PREFETCH [auto]
//
// Each line of stdout is a JSON object: {"event": "connected"}, {"event": "lost", "error": text},
// {"event": "delivery", "number": n, "body": text, "size": bytes, …}. Lines of stdin are orders:
// "ack N", "requeue N", "move N SUFFIX REASON", "pause", "resume", "quit". N is a delivery's
// number. With "auto" every delivery is acked at once and its body is not shown.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/queue.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define SHOWN_BODY_MAX 4096
#define ORDER_MAX 4096

typedef struct Watcher {
        sd_event *event;
        Consumer *consumer;
        Delivery **deliveries; // by number; NULL: decided
        size_t n;
        Buf input;
        bool automatic;
} Watcher;

static int64_t now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void print(json_t *take_event)
{
        (void)json_dumpf(take_event, stdout, JSON_COMPACT);
        (void)putchar('\n');
        (void)fflush(stdout);
        json_decref(take_event);
}

static void on_delivery(Consumer *consumer, Delivery *delivery, void *userdata)
{
        Watcher *watcher = userdata;
        const Message *message = &delivery->message;
        bool shown = !watcher->automatic && message->body_len <= SHOWN_BODY_MAX;
        json_int_t at = now_ns();

        print(json_pack("{s:s, s:I, s:I, s:s?, s:I, s:b, s:s?, s:s?, s:s?, s:s?, s:s?, s:s?, s:I}",
                        "event", "delivery", "number", (json_int_t)watcher->n, "at", at, "body",
                        shown ? message->body : NULL, "size", (json_int_t)message->body_len,
                        "redelivered", delivery->redelivered, "message_id", message->message_id,
                        "app_id", message->app_id, "entry", message->entry, "content_id",
                        message->content_id, "changes", message->changes, "reason", message->reason,
                        "timestamp", (json_int_t)message->timestamp));
        if (watcher->automatic) {
                watcher->n++;
                consumer_ack(consumer, delivery);
                return;
        }
        watcher->deliveries =
                xreallocarray(watcher->deliveries, watcher->n + 1, sizeof(Delivery *));
        watcher->deliveries[watcher->n++] = delivery;
}

static void on_connection(Consumer *consumer, const Error *err, void *userdata)
{
        (void)consumer;
        (void)userdata;
        if (err)
                print(json_pack("{s:s, s:s}", "event", "lost", "error", err->text));
        else
                print(json_pack("{s:s}", "event", "connected"));
}

static Delivery *take_delivery(Watcher *watcher, const char *number)
{
        int64_t at;
        Delivery *delivery;

        if (!number || watcher->n == 0 ||
            str_parse_int(number, 0, (int64_t)watcher->n - 1, &at, NULL) < 0)
                return NULL;
        delivery = watcher->deliveries[at];
        watcher->deliveries[at] = NULL;
        return delivery;
}

static void obey(Watcher *watcher, char *order)
{
        char *rest = order;
        const char *verb = strsep(&rest, " ");
        Delivery *delivery = take_delivery(watcher, rest ? strsep(&rest, " ") : NULL);

        if (strcmp(verb, "pause") == 0)
                consumer_pause(watcher->consumer);
        else if (strcmp(verb, "resume") == 0)
                consumer_resume(watcher->consumer);
        else if (strcmp(verb, "quit") == 0)
                (void)sd_event_exit(watcher->event, 0);
        else if (delivery && strcmp(verb, "ack") == 0)
                consumer_ack(watcher->consumer, delivery);
        else if (delivery && strcmp(verb, "requeue") == 0)
                consumer_requeue(watcher->consumer, delivery);
        else if (delivery && strcmp(verb, "move") == 0) {
                const char *suffix = strsep(&rest, " ");

                consumer_move(watcher->consumer, delivery, suffix, rest ? rest : "");
        }
}

static int on_input(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        Watcher *watcher = userdata;
        char data[ORDER_MAX];
        char *end;
        ssize_t n = read(fd, data, sizeof data);

        (void)source;
        (void)revents;
        if (n <= 0 || buf_append(&watcher->input, data, (size_t)n) < 0)
                return sd_event_exit(watcher->event, 0);
        while ((end = memchr(watcher->input.data, '\n', watcher->input.len))) {
                size_t len = (size_t)(end - watcher->input.data);

                *end = '\0';
                obey(watcher, watcher->input.data);
                buf_consume(&watcher->input, len + 1);
        }
        return 0;
}

static int watch(Watcher *watcher, const Config *config, unsigned prefetch, Store *store,
                 Error *err)
{
        static const ConsumerCallbacks callbacks = {.on_delivery = on_delivery,
                                                    .on_connection = on_connection};
        int r = consumer_new(config, store, watcher->event, prefetch, &callbacks, watcher,
                             &watcher->consumer, err);

        if (r < 0)
                return r;
        if (sd_event_add_io(watcher->event, NULL, STDIN_FILENO, EPOLLIN, on_input, watcher) < 0 ||
            sd_event_loop(watcher->event) < 0)
                return error_set(err, EIO, "the event loop failed");
        for (size_t at = 0; at < watcher->n && !watcher->automatic; at++) {
                if (watcher->deliveries[at])
                        delivery_free(watcher->deliveries[at]);
        }
        consumer_free(watcher->consumer);
        return 0;
}

static int run(const char *path, unsigned prefetch, bool automatic, Error *err)
{
        _cleanup_config_ Config *config = NULL;
        _cleanup_store_ Store *store = NULL;
        Watcher watcher = {.input = BUF_INIT(ORDER_MAX * 16), .automatic = automatic};
        int r = config_load(path, &config, err);

        if (r == 0)
                r = store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_WRITE, &store,
                               err);
        if (r == 0 && sd_event_new(&watcher.event) < 0)
                r = error_set(err, EIO, "no event loop");
        if (r == 0)
                r = watch(&watcher, config, prefetch, store, err);
        (void)sd_event_unref(watcher.event);
        free(watcher.deliveries);
        buf_done(&watcher.input);
        return r;
}

int main(int argc, char **argv)
{
        Error err = ERROR_NONE;
        int64_t prefetch;

        if (argc < 3 || str_parse_int(argv[2], 1, 65535, &prefetch, NULL) < 0)
                return 2;
        if (run(argv[1], (unsigned)prefetch, argc > 3, &err) < 0) {
                print(json_pack("{s:s, s:s}", "event", "failed", "error", err.text));
                return 1;
        }
        return 0;
}
