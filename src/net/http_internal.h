// What the files of the HTTP client share.
#pragma once

#include <curl/curl.h>
#include <sys/queue.h>

#include "net/http.h"

#define HTTP_URL_MAX ((size_t)4096)

#define HTTP_OK 200L
#define HTTP_NOT_MODIFIED 304L

// The URL as messages show it: without user name and password. The caller frees.
char *http_visible_url(const char *url);

bool http_is_file_url(const char *url);

// Reads a file:// URL. HTTP_FILE_SAME when `etag` is that of the file as it is now; *ret_etag (the
// caller frees) identifies this state of the file by time, size and inode.
#define HTTP_FILE_SAME 1
int http_file_get(const char *url, const char *etag, Buf *body, char **ret_etag,
                  Error *err) must_check;

// ---- http_transfer.c ----------------------------------------------------------------------

// A copy of a request's HttpCall.
typedef struct TransferCall {
        char *method, *body, *content_type, *ca_file, *wanted_header;
        char **headers;
        HttpAuthKind auth;
        char *user, *secret;
        bool once;
} TransferCall;

// One request on its way. Finished ones keep their libcurl handle for the next request.
typedef struct Transfer {
        TAILQ_ENTRY(Transfer) link;
        CURL *easy;   // NULL until first used for http
        bool is_bare; // the handle has none of our options
        char *url;
        TransferCall *call; // NULL: a plain GET
        struct curl_slist *headers;
        Buf body;
        char *asked_etag;
        char *asked_last_modified;
        char *etag;
        char *last_modified;
        char *header; // the call's wanted one
        bool too_big;
        char reason[CURL_ERROR_SIZE]; // libcurl's words for a failure
        void *userdata;
} Transfer;

typedef TAILQ_HEAD(TransferList, Transfer) TransferList;

// Copies the request into a transfer that is new or cleared.
void transfer_set(Transfer *transfer, const HttpRequest *request);
// Makes it ready for another request; the handle stays.
void transfer_clear(Transfer *transfer);
void transfer_free(Transfer *transfer);

// Makes the libcurl handle ready for the request.
int transfer_prepare(Transfer *transfer, const HttpLimits *limits, Error *err) must_check;
// What came of it. A failure's words do not name the URL.
int transfer_check(const Transfer *transfer, CURLcode result, long status, Error *err);
// A body that is a gzip file, without a Content-Encoding that libcurl had undone.
int transfer_inflate(Transfer *transfer, Error *err);

// ---- http.c -------------------------------------------------------------------------------

struct HttpClient {
        HttpLimits limits;
        HttpDoneFn done;
        void *userdata;
        CURLM *multi; // NULL until the first http request: a file needs no libcurl
        TransferList waiting, active, spare;
        size_t n_waiting, n_active;

        sd_event *event; // NULL: not attached
        sd_event_source *timer, *kick;
};

int client_need_multi(HttpClient *client, Error *err) must_check;
// Starts what may start; files are read on the spot, `parallel` of them at most in one turn. True
// if a request was finished by that.
bool client_start_waiting(HttpClient *client);
// Calls `done` for what libcurl has finished. True if there was any.
bool client_finish_done(HttpClient *client);

// ---- http_event.c -------------------------------------------------------------------------

void client_kick(HttpClient *client);
void client_detach(HttpClient *client);
