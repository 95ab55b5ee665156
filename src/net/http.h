// HTTP requests, many at once, by libcurl: GET of http, https and file, and calls of REST
// interfaces; size, time and redirect limits; gzip.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/buf.h"
#include "util/error.h"

typedef struct HttpClient HttpClient;

typedef struct HttpLimits {
        unsigned parallel;       // transfers at once, over kept-alive connections
        int64_t timeout_seconds; // of one transfer, whole
} HttpLimits;

typedef enum HttpAuthKind {
        HTTP_AUTH_NONE,
        HTTP_AUTH_BASIC,
        HTTP_AUTH_BEARER,
        HTTP_AUTH_NEGOTIATE, // Kerberos, with the credentials of net/kerberos.h
} HttpAuthKind;

typedef struct HttpAuth {
        HttpAuthKind kind;
        const char *user;   // of HTTP_AUTH_BASIC
        const char *secret; // its password, or the token of HTTP_AUTH_BEARER
} HttpAuth;

// What a request has beyond a plain GET. Redirects are not followed, for the login is for the
// server that was named. All of it is copied.
typedef struct HttpCall {
        const char *method;         // "PUT", …
        const char *body;           // NULL: an empty one
        const char *content_type;   // of the body
        const char *const *headers; // more of them, "Name: value"; NULL-terminated, or NULL
        HttpAuth auth;
        const char *ca_file;       // whose certificates alone are trusted; NULL: the system's
        const char *wanted_header; // name of a header of the answer; NULL: none
        bool once; // never sent twice: on a connection of its own, for libcurl repeats by itself
                   // what was sent on a kept-alive one that the server closes
} HttpCall;

typedef struct HttpRequest {
        const char *url;           // copied
        size_t max_bytes;          // of the decoded body
        const char *etag;          // If-None-Match; NULL: none. Copied
        const char *last_modified; // If-Modified-Since, as the server wrote it; NULL: none. Copied
        const HttpCall *call;      // NULL: a plain GET
        void *userdata;
} HttpRequest;

typedef struct HttpResponse {
        long status; // 200, 304, 404, …; file: 200, or 304 when mtime and size are last time's
        Buf *body;   // decoded; the callback may take the content (buf_take)
        const char *etag; // NULL: none
        const char *last_modified;
        const char *header; // the call's wanted_header; NULL: none
        const Error
                *error; // NULL, or why there is no usable answer (status is then 0 or the bad one)
        void *userdata; // the request's
} HttpResponse;

// Called once for each request. Of a plain GET error is set for anything but 200 and 304, of a call
// only when no whole answer came, whatever its status; with URL and reason in its text, and
// EKEYREJECTED as its code when the server's certificate is not trusted. May add requests.
typedef void (*HttpDoneFn)(HttpClient *client, const HttpResponse *response, void *userdata);

int http_client_new(const HttpLimits *limits, HttpDoneFn done, void *userdata, HttpClient **ret,
                    Error *err) must_check;
// What has not ended ends without a callback.
void http_client_free(HttpClient *client);
DEFINE_CLEANUP(HttpClient, http_client_free)

// Queues a request; it starts when fewer than `parallel` run. Opaque gzip bodies (no
// Content-Encoding, 1f 8b at the start) of a plain GET are inflated too, under the same limit.
int http_client_add(HttpClient *client, const HttpRequest *request, Error *err) must_check;
size_t http_client_pending(const HttpClient *client);

// Moves transfers on, waiting up to timeout_ms for something to happen on them or on extra_fd
// (-1: none) becoming readable. Calls `done` for the finished ones.
int http_client_run_once(HttpClient *client, int extra_fd, int timeout_ms, Error *err) must_check;

// Instead of http_client_run_once: from now on the loop moves the transfers on. `done` is called
// from the loop, never by http_client_add. Before the first request.
int http_client_attach(HttpClient *client, sd_event *event, Error *err) must_check;

// One blocking GET. The response's strings and body are the caller's via the out parameters
// (any may be NULL). 0 also for 304.
int http_get(const HttpRequest *request, const HttpLimits *limits, long *ret_status, Buf *ret_body,
             char **ret_etag, char **ret_last_modified, Error *err) must_check;

// 0 for an absolute http, https or file URL without control characters.
int http_check_url(const char *url, Error *err) must_check;

// dir_url + "/" + path with every byte that needs it percent-encoded. The caller frees.
char *http_join_url(const char *dir_url, const char *path);

// Percent-encodes text for one element of a path or one value of a query. The caller frees.
char *http_escape(const char *text);
