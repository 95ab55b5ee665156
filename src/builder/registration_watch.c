#include "builder/registration_watch.h"

#include <string.h>
#include <sys/queue.h>

#include "builder/registration_asker.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strutil.h"

#define WAIT_MAX_SECONDS INT64_C(600) // after logins that failed, which may lock the account

typedef struct Watched {
        TAILQ_ENTRY(Watched) link;
        RegistrationWatch *watch;
        char *server;
        bool asked; // the answer is on its way
        bool told;  // nothing more is to be asked
        void *userdata;
} Watched;

struct RegistrationWatch {
        sd_event *event;
        char *program;
        RegistrationWatchFn done;
        char *auth_file;
        RegistrationAsker *asker; // NULL: nothing is to be asked, or it is yet to be started
        int64_t seconds;          // between two questions
        int64_t wait;             // the same, while none can be asked; 0: it can
        bool trouble;             // nothing could be asked, since the last question
        sd_event_source *timer;
        TAILQ_HEAD(, Watched) watched;
        size_t n_open; // of them
};

static void arm(RegistrationWatch *watch, int64_t seconds)
{
        (void)sd_event_source_set_time_relative(watch->timer, (uint64_t)seconds * USEC_PER_SECOND);
        (void)sd_event_source_set_enabled(watch->timer, SD_EVENT_ONESHOT);
}

// Nothing more is to be asked.
static void close_watched(Watched *watched)
{
        watched->watch->n_open -= !watched->told;
        watched->told = true;
}

static void stop_asker(RegistrationWatch *watch)
{
        if (watch->asker)
                registration_asker_free(TAKE_PTR(watch->asker));
}

// ---- what Nova says -----------------------------------------------------------------------

static char *text_of(const RegistrationAnswer *answer, bool failed)
{
        const char *host = answer->host;

        if (failed)
                return xasprintf("the registration with Aquilon of server %s has failed: %s",
                                 answer->server,
                                 answer->reason ? answer->reason : "no reason is given");
        return xasprintf("server %s is registered with Aquilon%s%s", answer->server,
                         host ? " as " : "", host ? host : "");
}

static void tell(Watched *watched, const RegistrationAnswer *answer)
{
        _cleanup_free_ char *text = NULL;
        bool failed = answer->status && strcmp(answer->status, "FAILED") == 0;

        if (!answer->status || (!failed && strcmp(answer->status, "SUCCESS") != 0))
                return;
        close_watched(watched);
        text = text_of(answer, failed);
        watched->watch->done(failed, text, watched->userdata);
}

// Many questions may have waited for one login.
static void note_trouble(RegistrationWatch *watch, const char *why)
{
        if (!watch->trouble && !watch->wait)
                log_info("registrations are not known: %s; it is tried again, more and more rarely",
                         why);
        watch->trouble = true;
}

static void take_answer(Watched *watched, const RegistrationAnswer *answer)
{
        watched->asked = false;
        if (answer->gone)
                close_watched(watched); // the build is at its end
        else if (answer->error)
                log_debug("server %s: its registration is not known: %s", watched->server,
                          answer->error);
        else
                tell(watched, answer);
}

static void on_answer(const RegistrationAnswer *answer, void *userdata)
{
        RegistrationWatch *watch = userdata;
        Watched *watched, *next;

        if (answer->no_login) {
                note_trouble(watch, answer->error ? answer->error : "no login");
        } else {
                watch->trouble = false;
                watch->wait = 0;
        }
        for (watched = TAILQ_FIRST(&watch->watched); watched; watched = next) {
                next = TAILQ_NEXT(watched, link);
                if (watched->asked && strcmp(watched->server, answer->server) == 0)
                        take_answer(watched, answer);
        }
        if (!watch->n_open)
                stop_asker(watch);
}

// ---- asking -------------------------------------------------------------------------------

static void asker_failed(RegistrationWatch *watch, const Error *why)
{
        Watched *watched;

        stop_asker(watch);
        TAILQ_FOREACH(watched, &watch->watched, link)
        watched->asked = false;
        note_trouble(watch, why->text);
}

static void on_asker_end(const Error *why, void *userdata)
{
        asker_failed(userdata, why);
}

static int ask(RegistrationWatch *watch, Watched *watched, Error *err)
{
        static const RegistrationAskerCallbacks callbacks = {on_answer, on_asker_end};
        int r = 0;

        if (!watch->asker)
                r = registration_asker_start(watch->event, watch->program, watch->auth_file,
                                             &callbacks, watch, &watch->asker, err);
        if (r == 0)
                r = registration_asker_ask(watch->asker, watched->server, err);
        watched->asked = r == 0;
        return r;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        RegistrationWatch *watch = userdata;
        Watched *watched;
        Error err = ERROR_NONE;
        int r = 0;

        (void)source;
        (void)usec;
        if (watch->trouble)
                watch->wait = MIN(2 * MAX(watch->wait, watch->seconds), WAIT_MAX_SECONDS);
        watch->trouble = false;
        for (watched = TAILQ_FIRST(&watch->watched); watched && r == 0;
             watched = TAILQ_NEXT(watched, link)) {
                if (!watched->asked && !watched->told)
                        r = ask(watch, watched, &err);
        }
        if (r < 0)
                asker_failed(watch, &err);
        if (!TAILQ_EMPTY(&watch->watched))
                arm(watch, MAX(watch->wait, watch->seconds));
        return 0;
}

// ---- servers ------------------------------------------------------------------------------

void registration_watch_begin(RegistrationWatch *watch, const char *auth_file, int64_t seconds,
                              const char *server, void *userdata)
{
        bool first = TAILQ_EMPTY(&watch->watched);
        Watched *watched;

        if (!watch->timer)
                return;
        // Another one counts when those that were watched by the old one are over.
        if (first)
                replace_string(&watch->auth_file, auth_file);
        watched = xcalloc(1, sizeof *watched);
        watched->watch = watch;
        watched->server = xstrdup(server);
        watched->userdata = userdata;
        TAILQ_INSERT_TAIL(&watch->watched, watched, link);
        watch->n_open++;
        watch->seconds = seconds;
        // It may still be set, by earlier builds, to wait after a login that failed.
        if (first && sd_event_source_get_enabled(watch->timer, NULL) == SD_EVENT_OFF)
                arm(watch, seconds);
}

static void forget(RegistrationWatch *watch, Watched *watched)
{
        close_watched(watched);
        TAILQ_REMOVE(&watch->watched, watched, link);
        free(watched->server);
        free(watched);
}

void registration_watch_end(RegistrationWatch *watch, const void *userdata)
{
        Watched *watched, *next;

        for (watched = TAILQ_FIRST(&watch->watched); watched; watched = next) {
                next = TAILQ_NEXT(watched, link);
                if (watched->userdata == userdata)
                        forget(watch, watched);
        }
        if (!watch->n_open)
                stop_asker(watch);
}

bool registration_watch_has(const RegistrationWatch *watch, const void *userdata)
{
        const Watched *watched;

        TAILQ_FOREACH(watched, &watch->watched, link)
        {
                if (watched->userdata == userdata)
                        return true;
        }
        return false;
}

// ---- life ---------------------------------------------------------------------------------

RegistrationWatch *registration_watch_new(sd_event *event, const char *program,
                                          RegistrationWatchFn done)
{
        RegistrationWatch *watch = xcalloc(1, sizeof *watch);

        watch->event = sd_event_ref(event);
        watch->program = xstrdup(program);
        watch->done = done;
        TAILQ_INIT(&watch->watched);
        if (sd_event_add_time(event, &watch->timer, CLOCK_MONOTONIC, 0, USEC_PER_SECOND / 10,
                              on_time, watch) < 0)
                log_debug("registrations are not watched: no timer");
        else
                (void)sd_event_source_set_enabled(watch->timer, SD_EVENT_OFF);
        return watch;
}

void registration_watch_free(RegistrationWatch *watch)
{
        Watched *watched, *next;

        for (watched = TAILQ_FIRST(&watch->watched); watched; watched = next) {
                next = TAILQ_NEXT(watched, link);
                forget(watch, watched);
        }
        stop_asker(watch);
        (void)sd_event_source_disable_unref(watch->timer);
        (void)sd_event_unref(watch->event);
        free(watch->program);
        free(watch->auth_file);
        free(watch);
}
