#include "cloud/nova.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "cloud/session.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define PARALLEL 4
#define TIMEOUT_SECONDS 30
#define ANSWER_MAX_BYTES ((size_t)1024 * 1024)
#define REASON_MAX 300

typedef struct NovaRequest {
        TAILQ_ENTRY(NovaRequest) link;
        Nova *nova;
        NovaDoneFn done; // NULL: forgotten
        void *userdata;
} NovaRequest;

struct Nova {
        Session *session;
        TAILQ_HEAD(, NovaRequest) requests;
};

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

static void on_answer(const SessionAnswer *answer, void *userdata)
{
        NovaRequest *request = userdata;
        NovaAnswer told = {.outcome = NOVA_OK, .err = answer->err};
        Error err = ERROR_NONE;
        json_t *document = NULL;

        TAILQ_REMOVE(&request->nova->requests, request, link);
        if (answer->login != SESSION_LOGGED_IN) {
                told.outcome = NOVA_TRY_LATER;
                told.no_login = true;
        } else if (answer->err) {
                told.outcome = NOVA_REFUSED;
        } else {
                told.outcome = judge(answer->response, &err);
                told.err = told.outcome == NOVA_OK ? NULL : &err;
        }
        if (told.outcome == NOVA_OK)
                document = json_loadb(buf_str(answer->response->body), answer->response->body->len,
                                      0, NULL);
        told.document = document;
        if (request->done)
                request->done(&told, request->userdata);
        free(request);
        json_decref(document);
}

// ---- the calls ----------------------------------------------------------------------------

static void call_metadata(Nova *nova, const char *method, const char *server, const char *body,
                          NovaDoneFn done, void *userdata)
{
        _cleanup_free_ char *escaped = http_escape(server);
        _cleanup_free_ char *path = xasprintf("/servers/%s/metadata", escaped);
        const SessionCall call = {.service = "compute",
                                  .method = method,
                                  .path = path,
                                  .body = body,
                                  .max_bytes = ANSWER_MAX_BYTES};
        NovaRequest *request = xcalloc(1, sizeof *request);

        *request = (NovaRequest){.nova = nova, .done = done, .userdata = userdata};
        TAILQ_INSERT_TAIL(&nova->requests, request, link);
        session_call(nova->session, &call, on_answer, request);
}

void nova_set_metadata(Nova *nova, const char *server, const json_t *pairs, NovaDoneFn done,
                       void *userdata)
{
        json_t *document = json_object();
        _cleanup_free_ char *body = NULL;

        (void)json_object_set_new(document, "metadata", json_deep_copy(pairs));
        body = json_dumps(document, JSON_COMPACT);
        call_metadata(nova, "POST", server, body, done, userdata);
        json_decref(document);
}

void nova_get_metadata(Nova *nova, const char *server, NovaDoneFn done, void *userdata)
{
        call_metadata(nova, "GET", server, NULL, done, userdata);
}

void nova_forget(Nova *nova, const void *userdata)
{
        NovaRequest *request;

        TAILQ_FOREACH(request, &nova->requests, link)
        request->done = request->userdata == userdata ? NULL : request->done;
}

// ---- life ---------------------------------------------------------------------------------

int nova_new(const char *auth_file, sd_event *event, Nova **ret, Error *err)
{
        static const HttpLimits limits = {.parallel = PARALLEL, .timeout_seconds = TIMEOUT_SECONDS};
        Nova *nova = xcalloc(1, sizeof *nova);
        int r = session_new(auth_file, SESSION_PROJECT, &limits, event, &nova->session, err);

        TAILQ_INIT(&nova->requests);
        if (r < 0) {
                free(nova);
                return r;
        }
        *ret = nova;
        return 0;
}

void nova_free(Nova *nova)
{
        NovaRequest *request;

        session_free(nova->session);
        while ((request = TAILQ_FIRST(&nova->requests))) {
                TAILQ_REMOVE(&nova->requests, request, link);
                free(request);
        }
        free(nova);
}
