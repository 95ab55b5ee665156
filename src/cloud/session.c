#include "cloud/session.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "core/clouds_yaml.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/strutil.h"

#define TOKEN_MAX_BYTES ((size_t)4 * 1024 * 1024) // a large cloud's catalog
#define RENEW_BEFORE_MS (60 * 1000)
#define JSON_TYPE "application/json"

typedef struct Request {
        TAILQ_ENTRY(Request) link;
        const char *service, *method, *version; // as in SessionCall
        char *path, *body;
        size_t max_bytes;
        bool again;         // after a 401
        SessionDoneFn done; // NULL: forgotten
        void *userdata;
} Request;

typedef TAILQ_HEAD(RequestList, Request) RequestList;

struct Session {
        char *auth_file;
        SessionScope scope;
        HttpClient *http;
        sd_event_source *soon; // to tell of failures from the loop
        AuthEnv env;
        bool env_loaded;
        char *token; // NULL: none
        KeystoneGrant grant;
        bool asking;
        RequestList waiting; // for a token
        RequestList sent;
};

// ---- requests -----------------------------------------------------------------------------

static void request_free(Request *request)
{
        free(request->path);
        free(request->body);
        free(request);
}

// The request is in no list any more.
static void finish(Request *request, SessionLogin login, const HttpResponse *response,
                   const Error *err)
{
        const SessionAnswer answer = {.login = login, .response = response, .err = err};

        if (request->done)
                request->done(&answer, request->userdata);
        request_free(request);
}

static void fail_waiting(Session *session, SessionLogin login, const Error *err)
{
        RequestList failed = TAILQ_HEAD_INITIALIZER(failed);
        Request *request;

        TAILQ_CONCAT(&failed, &session->waiting, link);
        while ((request = TAILQ_FIRST(&failed))) {
                TAILQ_REMOVE(&failed, request, link);
                finish(request, login, NULL, err);
        }
}

static int send_call(Session *session, Request *request, const char *service_url, Error *err)
{
        bool has_version = !request->version || str_ends_with(service_url, request->version);
        _cleanup_free_ char *url = xasprintf("%s%s%s", service_url,
                                             has_version ? "" : request->version, request->path);
        _cleanup_free_ char *token = xasprintf("X-Auth-Token: %s", session->token);
        const char *const headers[] = {token, "Accept: " JSON_TYPE, NULL};
        const HttpCall call = {.method = request->method,
                               .body = request->body,
                               .content_type = request->body ? JSON_TYPE : NULL,
                               .headers = headers,
                               .ca_file = auth_env_get(&session->env, "OS_CACERT")};
        const HttpRequest http = {
                .url = url, .max_bytes = request->max_bytes, .call = &call, .userdata = request};
        int r = http_client_add(session->http, &http, err);

        explicit_bzero(token, strlen(token));
        return r;
}

static void start(Session *session, Request *request)
{
        _cleanup_free_ char *url = NULL;
        Error err = ERROR_NONE;

        if (request->service &&
            keystone_service_url(&session->grant, &session->env, request->service, &url, &err) < 0)
                finish(request, SESSION_NO_SERVICE, NULL, &err);
        else if (!request->method)
                finish(request, SESSION_LOGGED_IN, NULL, NULL);
        else if (send_call(session, request, url, &err) < 0)
                finish(request, SESSION_LOGGED_IN, NULL, &err);
        else
                TAILQ_INSERT_TAIL(&session->sent, request, link);
}

static void send_waiting(Session *session)
{
        Request *request;

        while (session->token && (request = TAILQ_FIRST(&session->waiting))) {
                TAILQ_REMOVE(&session->waiting, request, link);
                start(session, request);
        }
}

// ---- the token ----------------------------------------------------------------------------

static void drop_token(Session *session)
{
        if (session->token)
                explicit_bzero(session->token, strlen(session->token));
        free(TAKE_PTR(session->token));
        keystone_grant_done(&session->grant);
}

static int load_env(Session *session, Error *err)
{
        int r;

        if (session->env_loaded && !auth_env_is_stale(&session->env, session->auth_file))
                return 0;
        auth_env_done(&session->env);
        session->env_loaded = false;
        r = auth_file_read(session->auth_file, &session->env, err);
        if (r == 0)
                r = clouds_yaml_apply(&session->env, err);
        session->env_loaded = r == 0;
        return r;
}

static int write_login(const Session *session, char **ret, Error *err)
{
        int r = session->scope == SESSION_PROJECT
                        ? keystone_token_request(&session->env, ret, err)
                        : keystone_unscoped_request(&session->env, ret, err);

        if (r == 0 && !*ret)
                return error_set(err, ENOTSUP, "an application credential has its project");
        return r;
}

static int ask_token(Session *session, Error *err)
{
        _cleanup_free_ char *url = NULL, *body = NULL;
        HttpCall call = {
                .method = "POST", .content_type = JSON_TYPE, .wanted_header = "X-Subject-Token"};
        HttpRequest request = {.max_bytes = TOKEN_MAX_BYTES, .call = &call};
        int r = load_env(session, err);

        if (r == 0)
                r = keystone_token_url(&session->env, &url, err);
        if (r == 0)
                r = write_login(session, &body, err);
        if (r < 0)
                return r;
        call.body = body;
        call.ca_file = auth_env_get(&session->env, "OS_CACERT");
        request.url = url;
        r = http_client_add(session->http, &request, err);
        if (body)
                explicit_bzero(body, strlen(body));
        session->asking = r == 0;
        return r;
}

static SessionLogin refused(Session *session, const HttpResponse *response, Error *err)
{
        _cleanup_free_ char *words = keystone_words(buf_str(response->body), response->body->len);

        // A clouds.yaml that it names may have changed, which its own date does not show.
        session->env_loaded = false;
        (void)error_set(err, EACCES, "Keystone refuses the login (401%s%s): check %s",
                        *words ? ": " : "", words, session->auth_file);
        return SESSION_REFUSED;
}

static SessionLogin read_token(Session *session, const HttpResponse *response, Error *err)
{
        _cleanup_free_ char *words = NULL;

        if (response->error) {
                *err = *response->error;
                (void)error_prefix(err, "Keystone");
                return SESSION_NO_ANSWER;
        }
        if (response->status == 401)
                return refused(session, response, err);
        if (response->status != 201 && response->status != 200) {
                words = keystone_words(buf_str(response->body), response->body->len);
                (void)error_set(err, EREMOTEIO, "Keystone answered %ld%s%s", response->status,
                                *words ? ": " : "", words);
                return SESSION_NO_ANSWER;
        }
        if (!response->header) {
                (void)error_set(err, EBADMSG, "Keystone's answer has no X-Subject-Token");
                return SESSION_NO_ANSWER;
        }
        if (keystone_read_grant(buf_str(response->body), response->body->len, &session->grant,
                                err) < 0)
                return SESSION_NO_ANSWER;
        session->token = xstrdup(response->header);
        return SESSION_LOGGED_IN;
}

static void on_token(Session *session, const HttpResponse *response)
{
        Error err = ERROR_NONE;
        SessionLogin login;

        session->asking = false;
        drop_token(session);
        login = read_token(session, response, &err);
        if (login == SESSION_LOGGED_IN)
                send_waiting(session);
        else
                fail_waiting(session, login, &err);
}

static bool token_is_good(const Session *session)
{
        return session->token && (!session->grant.expires_ms ||
                                  clock_wall_ms() + RENEW_BEFORE_MS < session->grant.expires_ms);
}

// ---- the loop -----------------------------------------------------------------------------

static void on_answer(Session *session, Request *request, const HttpResponse *response)
{
        TAILQ_REMOVE(&session->sent, request, link);
        if (response->error || response->status != 401 || request->again) {
                finish(request, SESSION_LOGGED_IN, response, NULL);
                return;
        }
        request->again = true;
        drop_token(session);
        TAILQ_INSERT_TAIL(&session->waiting, request, link);
        (void)sd_event_source_set_enabled(session->soon, SD_EVENT_ONESHOT);
}

static void on_done(HttpClient *http, const HttpResponse *response, void *userdata)
{
        (void)http;
        if (response->userdata)
                on_answer(userdata, response->userdata, response);
        else
                on_token(userdata, response);
}

static int on_soon(sd_event_source *source, void *userdata)
{
        Session *session = userdata;
        Error err = ERROR_NONE;

        (void)source;
        if (session->asking || TAILQ_EMPTY(&session->waiting))
                return 0;
        if (token_is_good(session))
                send_waiting(session);
        else if (ask_token(session, &err) < 0)
                fail_waiting(session, SESSION_NO_CREDENTIALS, &err);
        return 0;
}

void session_call(Session *session, const SessionCall *call, SessionDoneFn done, void *userdata)
{
        Request *request = xcalloc(1, sizeof *request);

        *request = (Request){.service = call->service,
                             .method = call->method,
                             .version = call->version,
                             .path = xstrdup(call->path),
                             .body = xstrdup(call->body),
                             .max_bytes = call->max_bytes,
                             .done = done,
                             .userdata = userdata};
        TAILQ_INSERT_TAIL(&session->waiting, request, link);
        (void)sd_event_source_set_enabled(session->soon, SD_EVENT_ONESHOT);
}

void session_forget(Session *session, const void *userdata)
{
        Request *request;

        TAILQ_FOREACH(request, &session->waiting, link)
        request->done = request->userdata == userdata ? NULL : request->done;
        TAILQ_FOREACH(request, &session->sent, link)
        request->done = request->userdata == userdata ? NULL : request->done;
}

// ---- life ---------------------------------------------------------------------------------

static void free_list(RequestList *list)
{
        Request *request;

        while ((request = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, request, link);
                request_free(request);
        }
}

int session_new(const char *auth_file, SessionScope scope, const HttpLimits *limits,
                sd_event *event, Session **ret, Error *err)
{
        _cleanup_(session_free_p) Session *session = xcalloc(1, sizeof *session);
        int r;

        session->auth_file = xstrdup(auth_file);
        session->scope = scope;
        TAILQ_INIT(&session->waiting);
        TAILQ_INIT(&session->sent);
        r = http_client_new(limits, on_done, session, &session->http, err);
        if (r == 0)
                r = http_client_attach(session->http, event, err);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &session->soon, on_soon, session);
        if (r >= 0)
                r = sd_event_source_set_enabled(session->soon, SD_EVENT_OFF);
        if (r < 0)
                return error_set(err, -r, "cannot set up the event loop: %s", strerror(-r));
        *ret = TAKE_PTR(session);
        return 0;
}

void session_free(Session *session)
{
        if (session->http)
                http_client_free(session->http);
        (void)sd_event_source_disable_unref(session->soon);
        free_list(&session->waiting);
        free_list(&session->sent);
        drop_token(session);
        auth_env_done(&session->env);
        free(session->auth_file);
        free(session);
}

const AuthEnv *session_env(const Session *session)
{
        return &session->env;
}

const KeystoneGrant *session_grant(const Session *session)
{
        return &session->grant;
}
