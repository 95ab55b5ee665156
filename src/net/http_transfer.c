// One transfer: a request turned into libcurl's options, and libcurl's result into an answer.
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "net/http_internal.h"
#include "util/alloc.h"
#include "util/gzip.h"
#include "util/strutil.h"

#define USER_AGENT "packuilon/" PACKUILON_VERSION
#define REDIRECTS_MAX 5L
#define CONNECT_TIMEOUT_SECONDS 10L
#define RECEIVE_BUFFER_BYTES 131072L
#define EXPECTED_MAX_BYTES (1024 * 1024) // that are believed before they come
#define HEADER_VALUE_MAX ((size_t)16384) // Keystone's tokens can be long

// ---- life ---------------------------------------------------------------------------------

static char **copy_list(const char *const *list)
{
        size_t n = 0;
        char **copy;

        while (list && list[n])
                n++;
        copy = xcalloc(n + 1, sizeof *copy);
        for (size_t at = 0; at < n; at++)
                copy[at] = xstrdup(list[at]);
        return copy;
}

static TransferCall *call_copy(const HttpCall *call)
{
        TransferCall *copy = xcalloc(1, sizeof *copy);

        *copy = (TransferCall){.method = xstrdup(call->method),
                               .body = xstrdup(call->body ? call->body : ""),
                               .content_type = xstrdup(call->content_type),
                               .ca_file = xstrdup(call->ca_file),
                               .wanted_header = xstrdup(call->wanted_header),
                               .headers = copy_list(call->headers),
                               .auth = call->auth.kind,
                               .user = xstrdup(call->auth.user),
                               .secret = xstrdup(call->auth.secret),
                               .once = call->once};
        return copy;
}

static void wipe(char *text)
{
        if (text)
                explicit_bzero(text, strlen(text));
        free(text);
}

// Bodies and headers of calls hold passwords and tokens.
static void call_free(TransferCall *call)
{
        if (!call)
                return;
        STRV_FOREACH (header, call->headers)
                explicit_bzero(*header, strlen(*header));
        strv_free(call->headers);
        wipe(call->body);
        wipe(call->secret);
        free(call->user);
        free(call->wanted_header);
        free(call->ca_file);
        free(call->content_type);
        free(call->method);
        free(call);
}

void transfer_set(Transfer *transfer, const HttpRequest *request)
{
        transfer->url = xstrdup(request->url);
        transfer->body = BUF_INIT(request->max_bytes);
        transfer->asked_etag = xstrdup(request->etag);
        transfer->asked_last_modified = xstrdup(request->last_modified);
        transfer->call = request->call ? call_copy(request->call) : NULL;
        transfer->userdata = request->userdata;
}

void transfer_clear(Transfer *transfer)
{
        buf_done(&transfer->body);
        curl_slist_free_all(transfer->headers);
        transfer->headers = NULL;
        if (transfer->call && transfer->easy) {
                curl_easy_reset(transfer->easy); // keeps connections
                transfer->is_bare = true;
        }
        call_free(TAKE_PTR(transfer->call));
        replace_string(&transfer->url, NULL);
        replace_string(&transfer->asked_etag, NULL);
        replace_string(&transfer->asked_last_modified, NULL);
        replace_string(&transfer->etag, NULL);
        replace_string(&transfer->last_modified, NULL);
        wipe(TAKE_PTR(transfer->header));
        transfer->too_big = false;
        transfer->reason[0] = '\0';
}

void transfer_free(Transfer *transfer)
{
        transfer_clear(transfer);
        if (transfer->easy)
                curl_easy_cleanup(transfer->easy);
        free(transfer);
}

// ---- what arrives -------------------------------------------------------------------------

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

        // The answer after a redirect, or after a first one that asked for a login, whose body
        // libcurl may have given us.
        if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
                replace_string(&transfer->etag, NULL);
                replace_string(&transfer->last_modified, NULL);
                buf_clear(&transfer->body);
        }
        take_header(data, len, "ETag", &transfer->etag);
        take_header(data, len, "Last-Modified", &transfer->last_modified);
        if (transfer->call && transfer->call->wanted_header)
                take_header(data, len, transfer->call->wanted_header, &transfer->header);
        return len;
}

// ---- the request --------------------------------------------------------------------------

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

static void add_header(Transfer *transfer, const char *line)
{
        struct curl_slist *longer = curl_slist_append(transfer->headers, line);

        if (longer) // else out of memory: the server will say what it misses
                transfer->headers = longer;
}

static void add_condition(Transfer *transfer, const char *header, const char *value)
{
        _cleanup_free_ char *line = NULL;

        if (!value || str_has_control(value, strlen(value)))
                return;
        line = xasprintf("%s: %s", header, value);
        add_header(transfer, line);
}

static CURLcode set_auth(CURL *easy, const TransferCall *call)
{
        CURLcode code = CURLE_OK;

        switch (call->auth) {
        case HTTP_AUTH_NONE:
                return CURLE_OK;
        case HTTP_AUTH_BASIC:
                code = curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
                if (!code)
                        code = curl_easy_setopt(easy, CURLOPT_USERNAME,
                                                call->user ? call->user : "");
                if (!code)
                        code = curl_easy_setopt(easy, CURLOPT_PASSWORD,
                                                call->secret ? call->secret : "");
                return code;
        case HTTP_AUTH_BEARER:
                code = curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
                return code ? code
                            : curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER,
                                               call->secret ? call->secret : "");
        case HTTP_AUTH_NEGOTIATE:
                code = curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_NEGOTIATE);
                // Without a name libcurl does not begin; the name itself is the ticket's.
                return code ? code : curl_easy_setopt(easy, CURLOPT_USERPWD, ":");
        }
        return CURLE_BAD_FUNCTION_ARGUMENT;
}

static CURLcode set_call_options(Transfer *transfer)
{
        const TransferCall *call = transfer->call;
        CURL *easy = transfer->easy;
        bool has_body = strcmp(call->method, "GET") != 0;
        CURLcode code = curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);

        if (!code && has_body)
                code = curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
        if (!code)
                code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
        if (!code && call->once)
                code = curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        if (!code && call->ca_file)
                code = curl_easy_setopt(easy, CURLOPT_CAINFO, call->ca_file);
        if (!code && call->ca_file)
                code = curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        if (!code)
                code = set_auth(easy, call);
        if (has_body) {
                _cleanup_free_ char *type =
                        xasprintf("Content-Type:%s%s", call->content_type ? " " : "",
                                  call->content_type ? call->content_type : "");

                add_header(transfer, type);
                add_header(transfer, "Expect:"); // no waiting for a 100 Continue
        }
        STRV_FOREACH (header, call->headers)
                add_header(transfer, *header);
        return code;
}

static CURLcode set_request_options(Transfer *transfer)
{
        CURLcode code = curl_easy_setopt(transfer->easy, CURLOPT_URL, transfer->url);

        add_condition(transfer, "If-None-Match", transfer->asked_etag);
        add_condition(transfer, "If-Modified-Since", transfer->asked_last_modified);
        if (!code && transfer->call)
                code = set_call_options(transfer);
        return code ? code
                    : curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
}

int transfer_prepare(Transfer *transfer, const HttpLimits *limits, Error *err)
{
        CURLcode code = CURLE_OK;

        if (!transfer->easy) {
                transfer->easy = curl_easy_init();
                if (!transfer->easy)
                        return error_set(err, ENOMEM, "out of memory");
                transfer->is_bare = true;
        }
        if (transfer->is_bare)
                code = set_common_options(transfer, limits);
        transfer->is_bare = code != CURLE_OK;
        if (!code)
                code = set_request_options(transfer);
        return code ? error_set(err, EINVAL, "%s", curl_easy_strerror(code)) : 0;
}

// ---- the end ------------------------------------------------------------------------------

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

int transfer_inflate(Transfer *transfer, Error *err)
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

static int error_code(CURLcode result)
{
        switch (result) {
        case CURLE_OPERATION_TIMEDOUT:
                return ETIMEDOUT;
        case CURLE_PEER_FAILED_VERIFICATION:
                return EKEYREJECTED;
        default:
                return EIO;
        }
}

int transfer_check(const Transfer *transfer, CURLcode result, long status, Error *err)
{
        if (transfer->too_big)
                return error_set(err, EFBIG, "more than the limit of %zu bytes",
                                 transfer->body.max);
        if (result != CURLE_OK)
                return error_set(err, error_code(result), "%s",
                                 transfer->reason[0] ? transfer->reason
                                                     : curl_easy_strerror(result));
        return transfer->call ? 0 : check_status(transfer, status, err);
}
