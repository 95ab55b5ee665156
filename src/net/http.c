#include "net/http.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "net/http_internal.h"
#include "util/alloc.h"

#define BLOCKING_TURN_MS 1000

static void transfer_list_free(TransferList *list)
{
        Transfer *transfer;

        while ((transfer = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, transfer, link);
                transfer_free(transfer);
        }
}

// ---- the end of a transfer ----------------------------------------------------------------

// Tells the caller; the transfer is free for the next request afterwards. `err` is empty or holds
// the reason of a failure.
static void report(HttpClient *client, Transfer *transfer, long status, Error *err)
{
        _cleanup_free_ char *shown = NULL;

        if (!err->code && status == HTTP_OK && !transfer->call)
                (void)transfer_inflate(transfer, err);
        if (err->code) {
                shown = http_visible_url(transfer->url);
                (void)error_prefix(err, "%s", shown);
                if (status == HTTP_OK || status == HTTP_NOT_MODIFIED)
                        status = 0;
        }
        client->done(client,
                     &(HttpResponse){
                             .status = status,
                             .body = &transfer->body,
                             .etag = transfer->etag,
                             .last_modified = transfer->last_modified,
                             .header = transfer->header,
                             .error = err->code ? err : NULL,
                             .userdata = transfer->userdata,
                     },
                     client->userdata);
        transfer_clear(transfer);
        TAILQ_INSERT_HEAD(&client->spare, transfer, link);
}

static void finish(HttpClient *client, CURL *easy, CURLcode result)
{
        Transfer *transfer = NULL;
        Error err = ERROR_NONE;
        long status = 0;

        (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
        (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_multi_remove_handle(client->multi, easy);
        TAILQ_REMOVE(&client->active, transfer, link);
        client->n_active--;
        (void)transfer_check(transfer, result, status, &err);
        report(client, transfer, status, &err);
}

bool client_finish_done(HttpClient *client)
{
        const CURLMsg *message;
        bool any = false;
        int left;

        while ((message = curl_multi_info_read(client->multi, &left))) {
                if (message->msg == CURLMSG_DONE) {
                        finish(client, message->easy_handle, message->data.result);
                        any = true;
                }
        }
        return any;
}

// ---- the start of a transfer --------------------------------------------------------------

int client_need_multi(HttpClient *client, Error *err)
{
        CURLcode code;

        if (client->multi)
                return 0;
        code = curl_global_init(CURL_GLOBAL_DEFAULT);
        if (code)
                return error_set(err, EIO, "cannot start libcurl: %s", curl_easy_strerror(code));
        client->multi = curl_multi_init();
        if (!client->multi) {
                curl_global_cleanup();
                return error_set(err, ENOMEM, "cannot start libcurl: out of memory");
        }
        (void)curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)client->limits.parallel);
        return 0;
}

static int start_http(HttpClient *client, Transfer *transfer, Error *err)
{
        int r = client_need_multi(client, err);

        if (r == 0)
                r = transfer_prepare(transfer, &client->limits, err);
        if (r < 0)
                return r;
        if (curl_multi_add_handle(client->multi, transfer->easy) != CURLM_OK)
                return error_set(err, EIO, "libcurl does not take the request");
        TAILQ_INSERT_TAIL(&client->active, transfer, link);
        client->n_active++;
        return 0;
}

static long read_file_url(Transfer *transfer, Error *err)
{
        int r = http_file_get(transfer->url, transfer->asked_etag, &transfer->body, &transfer->etag,
                              err);

        return r == HTTP_FILE_SAME ? HTTP_NOT_MODIFIED : r < 0 ? 0 : HTTP_OK;
}

bool client_start_waiting(HttpClient *client)
{
        unsigned n_finished = 0;

        while (client->n_waiting > 0 && client->n_active + n_finished < client->limits.parallel) {
                Transfer *transfer = TAILQ_FIRST(&client->waiting);
                Error err = ERROR_NONE;
                long status = 0;

                TAILQ_REMOVE(&client->waiting, transfer, link);
                client->n_waiting--;
                if (http_is_file_url(transfer->url))
                        status = read_file_url(transfer, &err);
                else if (start_http(client, transfer, &err) == 0)
                        continue;
                report(client, transfer, status, &err);
                n_finished++;
        }
        return n_finished > 0;
}

// ---- the client ---------------------------------------------------------------------------

int http_client_new(const HttpLimits *limits, HttpDoneFn done, void *userdata, HttpClient **ret,
                    Error *err)
{
        HttpClient *client;

        if (limits->parallel == 0 || limits->timeout_seconds <= 0)
                return error_set(err, EINVAL, "the HTTP client needs limits above zero");
        client = xcalloc(1, sizeof *client);
        client->limits = *limits;
        client->done = done;
        client->userdata = userdata;
        TAILQ_INIT(&client->waiting);
        TAILQ_INIT(&client->active);
        TAILQ_INIT(&client->spare);
        *ret = client;
        return 0;
}

void http_client_free(HttpClient *client)
{
        Transfer *transfer;

        if (!client)
                return;
        TAILQ_FOREACH(transfer, &client->active, link)
        (void)curl_multi_remove_handle(client->multi, transfer->easy);
        transfer_list_free(&client->active);
        transfer_list_free(&client->waiting);
        transfer_list_free(&client->spare);
        if (client->multi) {
                (void)curl_multi_cleanup(client->multi);
                curl_global_cleanup();
        }
        client_detach(client);
        free(client);
}

int http_client_add(HttpClient *client, const HttpRequest *request, Error *err)
{
        Transfer *transfer;
        int r = http_check_url(request->url, err);

        if (r < 0)
                return r;
        transfer = TAILQ_FIRST(&client->spare);
        if (transfer)
                TAILQ_REMOVE(&client->spare, transfer, link);
        else
                transfer = xcalloc(1, sizeof *transfer);
        transfer_set(transfer, request);
        TAILQ_INSERT_TAIL(&client->waiting, transfer, link);
        client->n_waiting++;
        client_kick(client);
        return 0;
}

size_t http_client_pending(const HttpClient *client)
{
        return client->n_waiting + client->n_active;
}

static int wait_for_event(HttpClient *client, int extra_fd, int timeout_ms, Error *err)
{
        struct curl_waitfd extra = {.fd = extra_fd, .events = CURL_WAIT_POLLIN};
        CURLMcode code = curl_multi_poll(client->multi, extra_fd >= 0 ? &extra : NULL,
                                         extra_fd >= 0 ? 1 : 0, timeout_ms, NULL);

        return code ? error_set(err, EIO, "libcurl: %s", curl_multi_strerror(code)) : 0;
}

static int perform(HttpClient *client, bool *ret_any, Error *err)
{
        int running;
        CURLMcode code = curl_multi_perform(client->multi, &running);

        if (code)
                return error_set(err, EIO, "libcurl: %s", curl_multi_strerror(code));
        *ret_any = client_finish_done(client);
        return 0;
}

int http_client_run_once(HttpClient *client, int extra_fd, int timeout_ms, Error *err)
{
        bool any = client_start_waiting(client);
        int r;

        if (client->n_active == 0) {
                struct pollfd extra = {.fd = extra_fd, .events = POLLIN};

                if (!any && client->n_waiting == 0 && extra_fd >= 0)
                        (void)poll(&extra, 1, timeout_ms);
                return 0;
        }
        r = perform(client, &any, err);
        if (r < 0 || any || client->n_active == 0)
                return r;
        r = wait_for_event(client, extra_fd, timeout_ms, err);
        return r < 0 ? r : perform(client, &any, err);
}

// ---- one blocking GET ---------------------------------------------------------------------

typedef struct SingleGet {
        long status;
        Buf *body;
        char **etag;
        char **last_modified;
        Error error;
        bool done;
} SingleGet;

static void on_single_done(HttpClient *client, const HttpResponse *response, void *userdata)
{
        SingleGet *get = userdata;

        (void)client;
        get->done = true;
        get->status = response->status;
        if (response->error) {
                get->error = *response->error;
                return;
        }
        if (get->body) {
                buf_done(get->body);
                *get->body = *response->body;
                *response->body = BUF_INIT(0);
        }
        if (get->etag)
                *get->etag = xstrdup(response->etag);
        if (get->last_modified)
                *get->last_modified = xstrdup(response->last_modified);
}

int http_get(const HttpRequest *request, const HttpLimits *limits, long *ret_status, Buf *ret_body,
             char **ret_etag, char **ret_last_modified, Error *err)
{
        SingleGet get = {.body = ret_body, .etag = ret_etag, .last_modified = ret_last_modified};
        _cleanup_(http_client_free_p) HttpClient *client = NULL;
        int r = http_client_new(limits, on_single_done, &get, &client, err);

        if (r == 0)
                r = http_client_add(client, request, err);
        while (r == 0 && !get.done)
                r = http_client_run_once(client, -1, BLOCKING_TURN_MS, err);
        if (r < 0)
                return r;
        if (ret_status)
                *ret_status = get.status;
        if (get.error.code)
                return error_set(err, get.error.code, "%s", get.error.text);
        return 0;
}
