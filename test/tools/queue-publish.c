// Publishes to the queue of a configuration file, for the integration tests.
//
//     queue-publish CONFIG [probe]
//
// With "probe" it only looks: {"event": "probed", "ready": n}. Otherwise:
//
// Each line of stdin is a JSON object: {"body": text} or {"size": bytes}, and optionally "repeat",
// "message_id", "app_id", "entry", "content_id", "changes", "timestamp", "flush_ms", and "most",
// which may be left unconfirmed. Each line of stdout is one:
// {"event": "open"}, {"event": "done", "token": n, "error": text or null, "at": ns}, after each
// line of stdin {"event": "flushed", "sent": n, "unconfirmed": n}, and {"event": "failed", "error":
// text}.
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/queue.h"
#include "util/alloc.h"

#define FLUSH_TIMEOUT_MS 20000

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

static void on_done(uint64_t token, const Error *err, void *userdata)
{
        (void)userdata;
        print(json_pack("{s:s, s:I, s:s?, s:I}", "event", "done", "token", (json_int_t)token,
                        "error", err ? err->text : NULL, "at", (json_int_t)now_ns()));
}

static char *text_of(const json_t *line, const char *key)
{
        return xstrdup(json_string_value(json_object_get(line, key)));
}

static void read_message(const json_t *line, Message *ret)
{
        const json_t *body = json_object_get(line, "body");
        json_int_t size = json_integer_value(json_object_get(line, "size"));

        *ret = (Message){.message_id = text_of(line, "message_id"),
                         .app_id = text_of(line, "app_id"),
                         .entry = text_of(line, "entry"),
                         .content_id = text_of(line, "content_id"),
                         .changes = text_of(line, "changes"),
                         .timestamp = json_integer_value(json_object_get(line, "timestamp"))};
        ret->body_len = body ? json_string_length(body) : (size_t)size;
        ret->body = xmalloc(ret->body_len + 1);
        memset(ret->body, 'x', ret->body_len);
        if (body)
                memcpy(ret->body, json_string_value(body), ret->body_len);
        ret->body[ret->body_len] = '\0';
}

static int publish_line(Publisher *publisher, const json_t *line, uint64_t *token, Error *err)
{
        _cleanup_(message_done) Message message = {0};
        json_int_t repeat = json_integer_value(json_object_get(line, "repeat"));
        json_int_t flush_ms = json_integer_value(json_object_get(line, "flush_ms"));
        int r = 0;

        read_message(line, &message);
        for (json_int_t n = 0; r == 0 && n < MAX(repeat, 1); n++)
                r = publisher_send(publisher, &message, (*token)++, err);
        if (r == 0)
                r = publisher_wait(publisher,
                                   (size_t)json_integer_value(json_object_get(line, "most")),
                                   flush_ms ? flush_ms : FLUSH_TIMEOUT_MS, err);
        print(json_pack("{s:s, s:I, s:I}", "event", "flushed", "sent", (json_int_t)*token,
                        "unconfirmed", (json_int_t)publisher_unconfirmed(publisher)));
        return r;
}

static int run(const char *path, Error *err)
{
        _cleanup_config_ Config *config = NULL;
        _cleanup_(publisher_close_p) Publisher *publisher = NULL;
        uint64_t token = 0;
        int r = config_load(path, &config, err);

        if (r == 0)
                r = publisher_open(config, on_done, NULL, &publisher, err);
        if (r < 0)
                return r;
        print(json_pack("{s:s}", "event", "open"));
        while (r == 0) {
                json_t *line = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, NULL);

                if (!line)
                        return 0;
                r = publish_line(publisher, line, &token, err);
                json_decref(line);
        }
        return r;
}

static int probe(const char *path, Error *err)
{
        _cleanup_config_ Config *config = NULL;
        int64_t ready = 0;
        int r = config_load(path, &config, err);

        if (r == 0)
                r = queue_probe(config, &ready, err);
        if (r == 0)
                print(json_pack("{s:s, s:I}", "event", "probed", "ready", (json_int_t)ready));
        return r;
}

int main(int argc, char **argv)
{
        Error err = ERROR_NONE;

        if (argc < 2)
                return 2;
        if ((argc > 2 ? probe(argv[1], &err) : run(argv[1], &err)) < 0) {
                print(json_pack("{s:s, s:s}", "event", "failed", "error", err.text));
                return 1;
        }
        return 0;
}
