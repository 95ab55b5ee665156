#include "builder/registration_watch.h"

#include <string.h>
#include <sys/queue.h>

#include "cloud/nova.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strutil.h"

#define VALUE_MAX 256
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
        RegistrationWatchFn done;
        char *auth_file; // of `nova`
        Nova *nova;      // NULL: not needed yet
        int64_t seconds; // between two questions
        int64_t wait;    // the same, while the login fails; 0: it does not
        bool no_login;   // since the last question
        sd_event_source *timer;
        TAILQ_HEAD(, Watched) watched;
};

static void arm(RegistrationWatch *watch, int64_t seconds)
{
        (void)sd_event_source_set_time_relative(watch->timer, (uint64_t)seconds * USEC_PER_SECOND);
        (void)sd_event_source_set_enabled(watch->timer, SD_EVENT_ONESHOT);
}

// ---- what Nova says -----------------------------------------------------------------------

// A value of the metadata, safe to show; NULL when it is not there. The caller frees.
static char *value_of(const json_t *document, const char *key)
{
        const json_t *value = json_object_get(json_object_get(document, "metadata"), key);

        if (!json_is_string(value) || json_string_length(value) == 0)
                return NULL;
        return str_visible(json_string_value(value), json_string_length(value), VALUE_MAX);
}

static char *text_of(const Watched *watched, const json_t *document, bool failed)
{
        _cleanup_free_ char *reason = value_of(document, "AQ_STATUS_REASON");
        _cleanup_free_ char *host = value_of(document, "HOSTNAMES");

        if (failed)
                return xasprintf("the registration with Aquilon of server %s has failed: %s",
                                 watched->server, reason ? reason : "no reason is given");
        return xasprintf("server %s is registered with Aquilon%s%s", watched->server,
                         host ? " as " : "", host ? host : "");
}

static void tell(Watched *watched, const json_t *document)
{
        _cleanup_free_ char *status = value_of(document, "AQ_STATUS"), *text = NULL;
        bool failed = status && strcmp(status, "FAILED") == 0;

        if (!status || (!failed && strcmp(status, "SUCCESS") != 0))
                return;
        watched->told = true;
        text = text_of(watched, document, failed);
        watched->watch->done(failed, text, watched->userdata);
}

// Many questions may have waited for one login.
static void note_login(RegistrationWatch *watch, const NovaAnswer *answer)
{
        if (answer->no_login && !watch->no_login && !watch->wait)
                log_info("registrations are not known: %s; the login is tried again, more and more "
                         "rarely",
                         answer->err->text);
        watch->no_login = answer->no_login;
        if (!answer->no_login)
                watch->wait = 0;
}

static void on_answer(const NovaAnswer *answer, void *userdata)
{
        Watched *watched = userdata;

        watched->asked = false;
        note_login(watched->watch, answer);
        if (answer->outcome == NOVA_OK)
                tell(watched, answer->document);
        else if (answer->outcome == NOVA_NO_SERVER)
                watched->told = true; // the build is at its end
        else
                log_debug("server %s: its registration is not known: %s", watched->server,
                          answer->err->text);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        RegistrationWatch *watch = userdata;
        Watched *watched;

        (void)source;
        (void)usec;
        if (watch->no_login)
                watch->wait = MIN(2 * MAX(watch->wait, watch->seconds), WAIT_MAX_SECONDS);
        watch->no_login = false;
        TAILQ_FOREACH(watched, &watch->watched, link)
        {
                if (watched->asked || watched->told)
                        continue;
                watched->asked = true;
                nova_get_metadata(watch->nova, watched->server, on_answer, watched);
        }
        if (!TAILQ_EMPTY(&watch->watched))
                arm(watch, MAX(watch->wait, watch->seconds));
        return 0;
}

// ---- servers ------------------------------------------------------------------------------

// An auth file of another name counts when those that were watched by the old one are over.
static bool need_nova(RegistrationWatch *watch, const char *auth_file)
{
        Error err = ERROR_NONE;
        bool is_same = watch->nova && strcmp(watch->auth_file, auth_file) == 0;

        if (is_same || (watch->nova && !TAILQ_EMPTY(&watch->watched)))
                return true;
        if (watch->nova)
                nova_free(TAKE_PTR(watch->nova));
        replace_string(&watch->auth_file, auth_file);
        if (nova_new(auth_file, watch->event, &watch->nova, &err) < 0) {
                log_debug("registrations are not known: %s", err.text);
                return false;
        }
        return true;
}

void registration_watch_begin(RegistrationWatch *watch, const char *auth_file, int64_t seconds,
                              const char *server, void *userdata)
{
        bool first = TAILQ_EMPTY(&watch->watched);
        Watched *watched;

        if (!watch->timer || !need_nova(watch, auth_file))
                return;
        watched = xcalloc(1, sizeof *watched);
        watched->watch = watch;
        watched->server = xstrdup(server);
        watched->userdata = userdata;
        TAILQ_INSERT_TAIL(&watch->watched, watched, link);
        watch->seconds = seconds;
        // It may still be set, by earlier builds, to wait after a login that failed.
        if (first && sd_event_source_get_enabled(watch->timer, NULL) == SD_EVENT_OFF)
                arm(watch, seconds);
}

static void forget(RegistrationWatch *watch, Watched *watched)
{
        TAILQ_REMOVE(&watch->watched, watched, link);
        if (watch->nova)
                nova_forget(watch->nova, watched);
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

RegistrationWatch *registration_watch_new(sd_event *event, RegistrationWatchFn done)
{
        RegistrationWatch *watch = xcalloc(1, sizeof *watch);

        watch->event = sd_event_ref(event);
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
        if (watch->nova)
                nova_free(watch->nova);
        (void)sd_event_source_disable_unref(watch->timer);
        (void)sd_event_unref(watch->event);
        free(watch->auth_file);
        free(watch);
}
