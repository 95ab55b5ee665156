// ask-registration: asks Nova for rabbit2packer, which would otherwise have libcurl in its memory
// and all that it loads. builder/registration_asker.h says what is read and written.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "bin/program.h"
#include "cloud/nova.h"
#include "util/alloc.h"
#include "util/lines.h"
#include "util/log.h"
#include "util/strutil.h"

#define NAME "ask-registration"
#define SERVER_MAX 256 // bytes of a server's id
#define VALUE_MAX 256

typedef struct Asker Asker;

typedef struct Question {
        TAILQ_ENTRY(Question) link;
        Asker *asker;
        char *server;
} Question;

struct Asker {
        sd_event *event;
        Nova *nova;
        Buf held;
        TAILQ_HEAD(, Question) questions; // that have no answer yet
};

static void question_free(Question *question)
{
        free(question->server);
        free(question);
}

static void asker_done(Asker *asker)
{
        Question *question;

        if (asker->nova)
                nova_free(asker->nova);
        while ((question = TAILQ_FIRST(&asker->questions))) {
                TAILQ_REMOVE(&asker->questions, question, link);
                question_free(question);
        }
        buf_done(&asker->held);
        (void)sd_event_unref(asker->event);
}

// A value of the metadata, safe to show; none when it is not there.
static void add_value(json_t *answer, const char *name, const json_t *document, const char *key)
{
        const json_t *value = json_object_get(json_object_get(document, "metadata"), key);
        _cleanup_free_ char *shown = NULL;

        if (!json_is_string(value) || json_string_length(value) == 0)
                return;
        shown = str_visible(json_string_value(value), json_string_length(value), VALUE_MAX);
        (void)json_object_set_new(answer, name, json_string(shown));
}

static void add_outcome(json_t *answer, const NovaAnswer *given)
{
        _cleanup_free_ char *error = NULL;

        switch (given->outcome) {
        case NOVA_OK:
                add_value(answer, "status", given->document, "AQ_STATUS");
                add_value(answer, "reason", given->document, "AQ_STATUS_REASON");
                add_value(answer, "host", given->document, "HOSTNAMES");
                return;
        case NOVA_NO_SERVER:
                (void)json_object_set_new(answer, "gone", json_true());
                return;
        case NOVA_REFUSED:
        case NOVA_TRY_LATER:
                error = str_visible(given->err->text, strlen(given->err->text), ERROR_TEXT_MAX);
                (void)json_object_set_new(answer, "error", json_string(error));
                (void)json_object_set_new(answer, "no_login", json_boolean(given->no_login));
                return;
        }
}

static void on_answer(const NovaAnswer *given, void *userdata)
{
        Question *question = userdata;
        json_t *answer = json_object();

        (void)json_object_set_new(answer, "server", json_string(question->server));
        add_outcome(answer, given);
        if (json_dumpf(answer, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) < 0 ||
            putchar('\n') == EOF || fflush(stdout) != 0)
                (void)sd_event_exit(question->asker->event, PROGRAM_FAILED);
        json_decref(answer);
        TAILQ_REMOVE(&question->asker->questions, question, link);
        question_free(question);
}

static int take_server(char *line, void *userdata)
{
        Asker *asker = userdata;
        Question *question = xcalloc(1, sizeof *question);

        *question = (Question){.asker = asker, .server = xstrdup(line)};
        TAILQ_INSERT_TAIL(&asker->questions, question, link);
        nova_get_metadata(asker->nova, line, on_answer, question);
        return 0;
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Asker *asker = userdata;
        int r = lines_read(fd, &asker->held, take_server, asker);

        (void)source;
        (void)events;
        if (r == 0)
                return 0;
        if (r == LINES_END)
                return sd_event_exit(asker->event, PROGRAM_DONE); // nobody waits for an answer
        log_error("cannot read what is asked: %s", strerror(-r));
        return sd_event_exit(asker->event, PROGRAM_FAILED);
}

static int run(const char *auth_file, Error *err)
{
        _cleanup_(asker_done) Asker asker = {.held = BUF_INIT(SERVER_MAX)};
        int r;

        TAILQ_INIT(&asker.questions);
        r = sd_event_new(&asker.event);
        if (r >= 0)
                r = sd_event_add_io(asker.event, NULL, STDIN_FILENO, EPOLLIN, on_input, &asker);
        if (r < 0)
                return error_set(err, -r, "cannot set up the event loop: %s", strerror(-r));
        r = nova_new(auth_file, asker.event, &asker.nova, err);
        if (r < 0)
                return r;
        r = sd_event_loop(asker.event);
        return r < 0 ? error_set(err, -r, "the event loop failed: %s", strerror(-r)) : r;
}

int main(int argc, char **argv)
{
        Error err = ERROR_NONE;
        int r;

        program_protect_secrets();
        log_set_program(NAME);
        if (argc != 2) {
                log_error("rabbit2packer starts this program; it takes the name of an openrc, and "
                          "ids of servers on its standard input");
                return PROGRAM_USAGE;
        }
        (void)signal(SIGPIPE, SIG_IGN); // an error of write(2)
        r = run(argv[1], &err);
        if (r < 0)
                log_error("%s", err.text);
        return r == 0 ? PROGRAM_DONE : PROGRAM_FAILED;
}
