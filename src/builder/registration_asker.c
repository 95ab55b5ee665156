#include "builder/registration_asker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <jansson.h>

#include "util/alloc.h"
#include "util/child.h"
#include "util/child_watch.h"
#include "util/lines.h"

#define ANSWER_MAX 16384 // of five short texts, each byte of which may be escaped

struct RegistrationAsker {
        RegistrationAskerCallbacks callbacks;
        void *userdata;
        pid_t pid;
        bool exited;
        int to_helper, from_helper;
        Buf held;
        bool telling; // a callback is under way
        bool freed;   // … and has freed this
        sd_event_source *child, *io;
};

static void drop_source(sd_event_source **source)
{
        *source = sd_event_source_disable_unref(*source);
}

// ---- answers ------------------------------------------------------------------------------

static const char *text_of(const json_t *answer, const char *key)
{
        return json_string_value(json_object_get(answer, key));
}

static int take_line(char *line, void *userdata)
{
        RegistrationAsker *asker = userdata;
        json_t *document = json_loads(line, 0, NULL);
        const RegistrationAnswer answer = {
                .server = text_of(document, "server"),
                .gone = json_is_true(json_object_get(document, "gone")),
                .no_login = json_is_true(json_object_get(document, "no_login")),
                .error = text_of(document, "error"),
                .status = text_of(document, "status"),
                .reason = text_of(document, "reason"),
                .host = text_of(document, "host"),
        };
        int r = answer.server ? 0 : -EBADMSG;

        if (r == 0)
                asker->callbacks.on_answer(&answer, asker->userdata);
        json_decref(document);
        return asker->freed ? -ECANCELED : r;
}

static void take_output(RegistrationAsker *asker)
{
        Error why = ERROR_NONE;
        int r = lines_read(asker->from_helper, &asker->held, take_line, asker);

        if (asker->freed || r == 0)
                return;
        if (r == LINES_END)
                (void)error_set(&why, EPIPE, REGISTRATION_HELPER " has ended");
        else
                (void)error_set(&why, -r, "the answer of " REGISTRATION_HELPER ": %s",
                                strerror(-r));
        drop_source(&asker->io);
        asker->callbacks.on_end(&why, asker->userdata);
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        RegistrationAsker *asker = userdata;

        (void)source;
        (void)fd;
        (void)events;
        asker->telling = true;
        take_output(asker);
        asker->telling = false;
        if (asker->freed)
                registration_asker_free(asker);
        return 0;
}

// The end of its output follows, if it has not come yet.
static int on_exit_seen(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        RegistrationAsker *asker = userdata;

        (void)info;
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        asker->exited = true;
        return 0;
}

int registration_asker_ask(RegistrationAsker *asker, const char *server, Error *err)
{
        _cleanup_free_ char *line = xasprintf("%s\n", server);
        size_t len = strlen(line);

        // Short lines are written whole or not at all, and a helper that has not read thousands of
        // them is of no use.
        if (write(asker->to_helper, line, len) == (ssize_t)len)
                return 0;
        return error_sys(err, "cannot ask " REGISTRATION_HELPER);
}

// ---- life ---------------------------------------------------------------------------------

static int spawn(RegistrationAsker *asker, const char *program, const char *auth_file, Error *err)
{
        const char *const argv[] = {program, auth_file, NULL};
        _cleanup_close_ int its_stdin = -1, its_stdout = -1;
        ChildSpec spec = {
                .argv = argv, .keep_stderr = true, .new_session = true, .death_signal = SIGKILL};
        int in[2], out[2];

        if (pipe2(in, O_CLOEXEC) < 0)
                return error_sys(err, "cannot make a pipe for " REGISTRATION_HELPER);
        spec.in_fd = its_stdin = in[0];
        asker->to_helper = in[1];
        if (pipe2(out, O_CLOEXEC) < 0)
                return error_sys(err, "cannot make a pipe for " REGISTRATION_HELPER);
        asker->from_helper = out[0];
        spec.out_fd = its_stdout = out[1];
        if (fcntl(asker->to_helper, F_SETFL, O_NONBLOCK) < 0 ||
            fcntl(asker->from_helper, F_SETFL, O_NONBLOCK) < 0)
                return error_sys(err, "cannot set up the pipes for " REGISTRATION_HELPER);
        return child_spawn(&spec, &asker->pid, err);
}

int registration_asker_start(sd_event *event, const char *program, const char *auth_file,
                             const RegistrationAskerCallbacks *callbacks, void *userdata,
                             RegistrationAsker **ret, Error *err)
{
        _cleanup_(registration_asker_free_p) RegistrationAsker *asker = xcalloc(1, sizeof *asker);
        int r;

        *asker = (RegistrationAsker){.callbacks = *callbacks,
                                     .userdata = userdata,
                                     .pid = -1,
                                     .to_helper = -1,
                                     .from_helper = -1,
                                     .held = BUF_INIT(ANSWER_MAX)};
        r = spawn(asker, program, auth_file, err);
        if (r < 0)
                return r;
        r = child_watch(event, asker->pid, on_exit_seen, asker, &asker->child);
        if (r >= 0)
                r = sd_event_add_io(event, &asker->io, asker->from_helper, EPOLLIN, on_output,
                                    asker);
        if (r < 0)
                return error_set(err, -r, "cannot watch " REGISTRATION_HELPER ": %s", strerror(-r));
        *ret = TAKE_PTR(asker);
        return 0;
}

void registration_asker_free(RegistrationAsker *asker)
{
        if (asker->telling) {
                asker->freed = true;
                return;
        }
        drop_source(&asker->io);
        drop_source(&asker->child);
        if (asker->pid > 0 && !asker->exited) {
                (void)kill(asker->pid, SIGKILL); // it has nothing that it could lose
                (void)waitpid(asker->pid, NULL, 0);
        }
        if (asker->to_helper >= 0)
                (void)close(asker->to_helper);
        if (asker->from_helper >= 0)
                (void)close(asker->from_helper);
        buf_done(&asker->held);
        free(asker);
}
