#include "net/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "net/http_internal.h"
#include "util/alloc.h"
#include "util/gzip.h"
#include "util/strutil.h"

#define USER_AGENT "packuilon/" PACKUILON_VERSION
#define REDIRECTS_MAX 5L
#define CONNECT_TIMEOUT_SECONDS 10L
#define RECEIVE_BUFFER_BYTES 131072L
#define EXPECTED_MAX_BYTES (1024 * 1024) // that are believed before they come
#define HEADER_VALUE_MAX ((size_t)1024)
#define BLOCKING_TURN_MS 1000

#define HTTP_OK 200L
#define HTTP_NOT_MODIFIED 304L

// One request on its way. Finished ones keep their libcurl handle for the next request.
typedef struct Transfer {
        TAILQ_ENTRY(Transfer) link;
        CURL *easy; // NULL until first used for http
        char *url;
        struct curl_slist *headers;
        Buf body;
        char *asked_etag;
        char *asked_last_modified;
        char *etag;
        char *last_modified;
        bool too_big;
        char reason[CURL_ERROR_SIZE]; // libcurl's words for a failure
        void *userdata;
} Transfer;

typedef TAILQ_HEAD(TransferList, Transfer) TransferList;

struct HttpClient {
        HttpLimits limits;
        HttpDoneFn done;
        void *userdata;
        CURLM *multi; // NULL until the first http request: a file needs no libcurl
        TransferList waiting, active, spare;
        size_t n_waiting, n_active;
};

// ---- a transfer ---------------------------------------------------------------------------

// Makes the transfer ready for another request; the handle stays.
static void transfer_clear(Transfer *transfer)
{
        buf_done(&transfer->body);
        curl_slist_free_all(transfer->headers);
        transfer->headers = NULL;
        replace_string(&transfer->url, NULL);
        replace_string(&transfer->asked_etag, NULL);
        replace_string(&transfer->asked_last_modified, NULL);
        replace_string(&transfer->etag, NULL);
        replace_string(&transfer->last_modified, NULL);
        transfer->too_big = false;
        transfer->reason[0] = '\0';
}

static void transfer_free(Transfer *transfer)
{
        transfer_clear(transfer);
        if (transfer->easy)
                curl_easy_cleanup(transfer->easy);
        free(transfer);
}

static void transfer_list_free(TransferList *list)
{
        Transfer *transfer;

        while ((transfer = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, transfer, link);
                transfer_free(transfer);
        }
}

// Room for what the server says it will send, so that the body need not move while it grows.
static int expect_body(Transfer *transfer)
{
        curl_off_t len = 0;

        (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len);
        if (len <= 0 || len > EXPECTED_MAX_BYTES)
                return 0;
        return buf_reserve(&transfer->body, MIN((size_t)len, transfer->body.max));
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata)
{
        Transfer *transfer = userdata;

        if ((transfer->body.len == 0 && expect_body(transfer) < 0) ||
            buf_append(&transfer->body, data, size * count) < 0) {
                transfer->too_big = true;
                return 0; // any other number than was given ends the transfer
        }
        return size * count;
}

// If the line is the header `name`, replaces *slot by its value.
static void take_header(const char *line, size_t len, const char *name, char **slot)
{
        size_t name_len = strlen(name);

        if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
                return;
        line += name_len + 1;
        len -= name_len + 1;
        for (; len > 0 && (*line == ' ' || *line == '\t'); len--)
                line++;
        while (len > 0 && strchr("\r\n \t", line[len - 1]))
                len--;
        free(TAKE_PTR(*slot));
        // It goes back to the server one day: nothing in it may end a header line.
        if (len > 0 && len <= HEADER_VALUE_MAX && !str_has_control(line, len))
                *slot = xstrndup(line, len);
}

static size_t on_header(char *data, size_t size, size_t count, void *userdata)
{
        Transfer *transfer = userdata;
        size_t len = size * count;

        if (len > 5 && memcmp(data, "HTTP/", 5) == 0) { // the answer after a redirect
                replace_string(&transfer->etag, NULL);
                replace_string(&transfer->last_modified, NULL);
        }
        take_header(data, len, "ETag", &transfer->etag);
        take_header(data, len, "Last-Modified", &transfer->last_modified);
        return len;
}

// Only http and https, from the first request to the last redirect.
static CURLcode allow_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
        CURLcode code = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");

        return code ? code : curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
        long protocols = CURLPROTO_HTTP | CURLPROTO_HTTPS;
        CURLcode code = curl_easy_setopt(easy, CURLOPT_PROTOCOLS, protocols);

        return code ? code : curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, protocols);
#endif
}

// The options that are the same for every request of a client.
static CURLcode set_common_options(Transfer *transfer, const HttpLimits *limits)
{
        CURL *easy = transfer->easy;
        long timeout = (long)limits->timeout_seconds;
        CURLcode code = allow_protocols(easy);

        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_TIMEOUT, timeout);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT,
                                        MIN(timeout, CONNECT_TIMEOUT_SECONDS));
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_USERAGENT, USER_AGENT);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->reason);
        return code;
}

static void add_condition(Transfer *transfer, const char *header, const char *value)
{
        _cleanup_free_ char *line = NULL;
        struct curl_slist *longer;

        if (!value || str_has_control(value, strlen(value)))
                return;
        line = xasprintf("%s: %s", header, value);
        longer = curl_slist_append(transfer->headers, line);
        if (longer) // else out of memory: an unconditional request is right, too
                transfer->headers = longer;
}

static CURLcode set_request_options(Transfer *transfer)
{
        CURLcode code = curl_easy_setopt(transfer->easy, CURLOPT_URL, transfer->url);

        add_condition(transfer, "If-None-Match", transfer->asked_etag);
        add_condition(transfer, "If-Modified-Since", transfer->asked_last_modified);
        return code ? code
                    : curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
}

// ---- the end of a transfer ----------------------------------------------------------------

static const char *status_words(long status)
{
        switch (status) {
        case 401:
        case 403:
                return " (not allowed)";
        case 404:
        case 410:
                return " (not found)";
        case 500:
        case 502:
        case 503:
        case 504:
                return " (trouble at the server)";
        default:
                return "";
        }
}

static int check_status(const Transfer *transfer, long status, Error *err)
{
        bool conditional = transfer->asked_etag || transfer->asked_last_modified;

        if (status == HTTP_OK || (status == HTTP_NOT_MODIFIED && conditional))
                return 0;
        return error_set(err, status == 404 || status == 410 ? ENOENT : EIO,
                         "the server answered %ld%s", status, status_words(status));
}

static int check_result(const Transfer *transfer, CURLcode result, long status, Error *err)
{
        if (transfer->too_big)
                return error_set(err, EFBIG, "more than the limit of %zu bytes",
                                 transfer->body.max);
        if (result != CURLE_OK)
                return error_set(err, result == CURLE_OPERATION_TIMEDOUT ? ETIMEDOUT : EIO, "%s",
                                 transfer->reason[0] ? transfer->reason
                                                     : curl_easy_strerror(result));
        return check_status(transfer, status, err);
}

// A body that was sent as a gzip file, without a Content-Encoding that libcurl had undone.
static int inflate_body(Transfer *transfer, Error *err)
{
        Buf plain = BUF_INIT(transfer->body.max);
        int r;

        if (!gzip_is(transfer->body.data, transfer->body.len))
                return 0;
        r = gzip_inflate(transfer->body.data, transfer->body.len, &plain, err);
        if (r < 0) {
                buf_done(&plain);
                return r;
        }
        buf_done(&transfer->body);
        transfer->body = plain;
        return 0;
}

// Tells the caller; the transfer is free for the next request afterwards. `err` is empty or holds
// the reason of a failure.
static void report(HttpClient *client, Transfer *transfer, long status, Error *err)
{
        _cleanup_free_ char *shown = NULL;

        if (!err->code && status == HTTP_OK)
                (void)inflate_body(transfer, err);
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
        (void)check_result(transfer, result, status, &err);
        report(client, transfer, status, &err);
}

static bool finish_done(HttpClient *client)
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

static int need_multi(HttpClient *client, Error *err)
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
        CURLcode code = CURLE_OK;
        int r = need_multi(client, err);

        if (r < 0)
                return r;
        if (!transfer->easy) {
                transfer->easy = curl_easy_init();
                if (!transfer->easy)
                        return error_set(err, ENOMEM, "out of memory");
                code = set_common_options(transfer, &client->limits);
        }
        if (!code)
                code = set_request_options(transfer);
        if (code)
                return error_set(err, EINVAL, "%s", curl_easy_strerror(code));
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

// Starts what may start; files are read on the spot, `parallel` of them at most in one turn. True
// if a request was finished by that.
static bool start_waiting(HttpClient *client)
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
        transfer->url = xstrdup(request->url);
        transfer->body = BUF_INIT(request->max_bytes);
        transfer->asked_etag = xstrdup(request->etag);
        transfer->asked_last_modified = xstrdup(request->last_modified);
        transfer->userdata = request->userdata;
        TAILQ_INSERT_TAIL(&client->waiting, transfer, link);
        client->n_waiting++;
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
        *ret_any = finish_done(client);
        return 0;
}

int http_client_run_once(HttpClient *client, int extra_fd, int timeout_ms, Error *err)
{
        bool any = start_waiting(client);
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
