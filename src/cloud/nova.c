#include "cloud/nova.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "cloud/keystone.h"
#include "core/clouds_yaml.h"
#include "net/http.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/strutil.h"

#define PARALLEL 4
#define TIMEOUT_SECONDS 30
#define ANSWER_MAX_BYTES ((size_t)4 * 1024 * 1024) // a large cloud's catalog
#define RENEW_BEFORE_MS (60 * 1000)
#define REASON_MAX 300
#define JSON_TYPE "application/json"

typedef struct NovaRequest {
        TAILQ_ENTRY(NovaRequest) link;
        const char *method; // NULL: only the login
        char *path, *body;
        bool again;      // after a 401
        NovaDoneFn done; // NULL: forgotten
        void *userdata;
} NovaRequest;

typedef TAILQ_HEAD(NovaRequestList, NovaRequest) NovaRequestList;

struct Nova {
        char *auth_file;
        HttpClient *http;
        sd_event_source *soon; // to tell of failures from the loop
        AuthEnv env;
        bool env_loaded;
        char *token; // NULL: none
        KeystoneGrant grant;
        bool asking;
        NovaRequestList waiting; // for a token
        NovaRequestList sent;
};

// ---- requests -----------------------------------------------------------------------------

static void request_free(NovaRequest *request)
{
        free(request->path);
        free(request->body);
        free(request);
}

// The request is in no list any more.
static void finish_with(NovaRequest *request, const NovaAnswer *answer)
{
        if (request->done)
                request->done(answer, request->userdata);
        request_free(request);
}

static void finish(NovaRequest *request, NovaOutcome outcome, const json_t *document,
                   const Error *err)
{
        const NovaAnswer answer = {.outcome = outcome, .document = document, .err = err};

        finish_with(request, &answer);
}

static void fail_waiting(Nova *nova, const Error *err)
{
        const NovaAnswer answer = {.outcome = NOVA_TRY_LATER, .err = err, .no_login = true};
        NovaRequestList failed = TAILQ_HEAD_INITIALIZER(failed);
        NovaRequest *request;

        TAILQ_CONCAT(&failed, &nova->waiting, link);
        while ((request = TAILQ_FIRST(&failed))) {
                TAILQ_REMOVE(&failed, request, link);
                finish_with(request, &answer);
        }
}

static void send_request(Nova *nova, NovaRequest *request)
{
        _cleanup_free_ char *url = xasprintf("%s%s", nova->grant.compute_url, request->path);
        _cleanup_free_ char *token = xasprintf("X-Auth-Token: %s", nova->token);
        const char *const headers[] = {token, "Accept: " JSON_TYPE, NULL};
        const HttpCall call = {.method = request->method,
                               .body = request->body,
                               .content_type = request->body ? JSON_TYPE : NULL,
                               .headers = headers,
                               .ca_file = auth_env_get(&nova->env, "OS_CACERT")};
        const HttpRequest http = {
                .url = url, .max_bytes = ANSWER_MAX_BYTES, .call = &call, .userdata = request};
        Error err = ERROR_NONE;

        if (http_client_add(nova->http, &http, &err) < 0)
                finish(request, NOVA_REFUSED, NULL, &err);
        else
                TAILQ_INSERT_TAIL(&nova->sent, request, link);
        explicit_bzero(token, strlen(token));
}

static void send_waiting(Nova *nova)
{
        NovaRequest *request;

        while (nova->token && (request = TAILQ_FIRST(&nova->waiting))) {
                TAILQ_REMOVE(&nova->waiting, request, link);
                if (request->method)
                        send_request(nova, request);
                else
                        finish(request, NOVA_OK, NULL, NULL);
        }
}

// ---- the token ----------------------------------------------------------------------------

static void drop_token(Nova *nova)
{
        if (nova->token)
                explicit_bzero(nova->token, strlen(nova->token));
        free(TAKE_PTR(nova->token));
        keystone_grant_done(&nova->grant);
}

static int load_env(Nova *nova, Error *err)
{
        int r;

        if (nova->env_loaded && !auth_env_is_stale(&nova->env, nova->auth_file))
                return 0;
        auth_env_done(&nova->env);
        nova->env_loaded = false;
        r = auth_file_read(nova->auth_file, &nova->env, err);
        if (r == 0)
                r = clouds_yaml_apply(&nova->env, err);
        nova->env_loaded = r == 0;
        return r;
}

static int ask_token(Nova *nova, Error *err)
{
        _cleanup_free_ char *url = NULL, *body = NULL;
        HttpCall call = {
                .method = "POST", .content_type = JSON_TYPE, .wanted_header = "X-Subject-Token"};
        HttpRequest request = {.max_bytes = ANSWER_MAX_BYTES, .call = &call};
        int r = load_env(nova, err);

        if (r == 0)
                r = keystone_token_url(&nova->env, &url, err);
        if (r == 0)
                r = keystone_token_request(&nova->env, &body, err);
        if (r < 0)
                return r;
        call.body = body;
        call.ca_file = auth_env_get(&nova->env, "OS_CACERT");
        request.url = url;
        r = http_client_add(nova->http, &request, err);
        if (body)
                explicit_bzero(body, strlen(body));
        nova->asking = r == 0;
        return r;
}

static int read_token(Nova *nova, const HttpResponse *response, Error *err)
{
        int r;

        if (response->error) {
                *err = *response->error;
                return error_prefix(err, "Keystone");
        }
        if (response->status == 401) {
                // A clouds.yaml that it names may have changed, which its own date does not show.
                nova->env_loaded = false;
                return error_set(err, EACCES, "Keystone refuses the login (401): check %s",
                                 nova->auth_file);
        }
        if (response->status != 201 && response->status != 200)
                return error_set(err, EREMOTEIO, "Keystone answered %ld", response->status);
        if (!response->header)
                return error_set(err, EBADMSG, "Keystone's answer has no X-Subject-Token");
        r = keystone_read_grant(&nova->env, buf_str(response->body), response->body->len,
                                &nova->grant, err);
        if (r == 0)
                nova->token = xstrdup(response->header);
        return r;
}

static void on_token(Nova *nova, const HttpResponse *response)
{
        Error err = ERROR_NONE;

        nova->asking = false;
        drop_token(nova);
        if (read_token(nova, response, &err) < 0)
                fail_waiting(nova, &err);
        else
                send_waiting(nova);
}

static bool token_is_good(const Nova *nova)
{
        return nova->token && (!nova->grant.expires_ms ||
                               clock_wall_ms() + RENEW_BEFORE_MS < nova->grant.expires_ms);
}

// ---- answers ------------------------------------------------------------------------------

static NovaOutcome judge(const HttpResponse *response, Error *err)
{
        long status = response->status;
        _cleanup_free_ char *shown = NULL;

        if (response->error) {
                *err = *response->error;
                (void)error_prefix(err, "Nova");
                return NOVA_TRY_LATER;
        }
        if (status >= 200 && status < 300)
                return NOVA_OK;
        shown = str_visible(buf_str(response->body), response->body->len, REASON_MAX);
        (void)error_set(err, EREMOTEIO, "Nova answered %ld%s%s", status, *shown ? ": " : "", shown);
        if (status == 404)
                return NOVA_NO_SERVER;
        // 409: the server is being changed just now.
        return status == 401 || status == 409 || status == 429 || status >= 500 ? NOVA_TRY_LATER
                                                                                : NOVA_REFUSED;
}

static void on_answer(Nova *nova, NovaRequest *request, const HttpResponse *response)
{
        Error err = ERROR_NONE;
        NovaOutcome outcome = judge(response, &err);
        json_t *document = NULL;

        TAILQ_REMOVE(&nova->sent, request, link);
        if (!response->error && response->status == 401 && !request->again) {
                request->again = true;
                drop_token(nova);
                TAILQ_INSERT_TAIL(&nova->waiting, request, link);
                (void)sd_event_source_set_enabled(nova->soon, SD_EVENT_ONESHOT);
                return;
        }
        if (outcome == NOVA_OK)
                document = json_loadb(buf_str(response->body), response->body->len, 0, NULL);
        finish(request, outcome, document, outcome == NOVA_OK ? NULL : &err);
        json_decref(document);
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
        Nova *nova = userdata;
        Error err = ERROR_NONE;

        (void)source;
        if (nova->asking || TAILQ_EMPTY(&nova->waiting))
                return 0;
        if (token_is_good(nova))
                send_waiting(nova);
        else if (ask_token(nova, &err) < 0)
                fail_waiting(nova, &err);
        return 0;
}

// ---- the calls ----------------------------------------------------------------------------

static void enqueue(Nova *nova, const char *method, char *take_path, char *take_body,
                    NovaDoneFn done, void *userdata)
{
        NovaRequest *request = xcalloc(1, sizeof *request);

        *request = (NovaRequest){.method = method,
                                 .path = take_path,
                                 .body = take_body,
                                 .done = done,
                                 .userdata = userdata};
        TAILQ_INSERT_TAIL(&nova->waiting, request, link);
        (void)sd_event_source_set_enabled(nova->soon, SD_EVENT_ONESHOT);
}

static char *metadata_path(const char *server)
{
        _cleanup_free_ char *escaped = http_escape(server);

        return xasprintf("/servers/%s/metadata", escaped);
}

void nova_set_metadata(Nova *nova, const char *server, const json_t *pairs, NovaDoneFn done,
                       void *userdata)
{
        json_t *document = json_object();

        (void)json_object_set_new(document, "metadata", json_deep_copy(pairs));
        enqueue(nova, "POST", metadata_path(server), json_dumps(document, JSON_COMPACT), done,
                userdata);
        json_decref(document);
}

void nova_get_metadata(Nova *nova, const char *server, NovaDoneFn done, void *userdata)
{
        enqueue(nova, "GET", metadata_path(server), NULL, done, userdata);
}

void nova_log_in(Nova *nova, NovaDoneFn done, void *userdata)
{
        enqueue(nova, NULL, NULL, NULL, done, userdata);
}

void nova_forget(Nova *nova, const void *userdata)
{
        NovaRequest *request;

        TAILQ_FOREACH(request, &nova->waiting, link)
        request->done = request->userdata == userdata ? NULL : request->done;
        TAILQ_FOREACH(request, &nova->sent, link)
        request->done = request->userdata == userdata ? NULL : request->done;
}

// ---- life ---------------------------------------------------------------------------------

static void free_list(NovaRequestList *list)
{
        NovaRequest *request;

        while ((request = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, request, link);
                request_free(request);
        }
}

int nova_new(const char *auth_file, sd_event *event, Nova **ret, Error *err)
{
        static const HttpLimits limits = {.parallel = PARALLEL, .timeout_seconds = TIMEOUT_SECONDS};
        _cleanup_(nova_free_p) Nova *nova = xcalloc(1, sizeof *nova);
        int r;

        nova->auth_file = xstrdup(auth_file);
        TAILQ_INIT(&nova->waiting);
        TAILQ_INIT(&nova->sent);
        r = http_client_new(&limits, on_done, nova, &nova->http, err);
        if (r == 0)
                r = http_client_attach(nova->http, event, err);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &nova->soon, on_soon, nova);
        if (r >= 0)
                r = sd_event_source_set_enabled(nova->soon, SD_EVENT_OFF);
        if (r < 0)
                return error_set(err, -r, "cannot set up the event loop: %s", strerror(-r));
        *ret = TAKE_PTR(nova);
        return 0;
}

void nova_free(Nova *nova)
{
        if (nova->http)
                http_client_free(nova->http);
        (void)sd_event_source_disable_unref(nova->soon);
        free_list(&nova->waiting);
        free_list(&nova->sent);
        drop_token(nova);
        auth_env_done(&nova->env);
        free(nova->auth_file);
        free(nova);
}
