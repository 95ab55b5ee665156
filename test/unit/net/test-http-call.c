// Calls of REST interfaces, in an event loop: what is sent, and what of the answers is told.
#include "../unit_server.h"

#include <errno.h>

#include "net/http.h"
#include "util/strutil.h"

#define BODY_MAX ((size_t)4096)
#define DEADLINE_USEC (UINT64_C(20) * 1000000)

static const HttpLimits limits = {.parallel = 2, .timeout_seconds = 10};

// ---- a server that answers with the request --------------------------------------------------

typedef struct Server {
        UnitServer unit;
        char *url;
} Server;

static void answer(FILE *out, const char *request, void *userdata)
{
        const char *path = strchr(request, ' ') + 1;
        const char *status = str_starts_with(path, "/404 ")        ? "404 Not Found"
                             : str_starts_with(path, "/503 ")      ? "503 Service Unavailable"
                             : str_starts_with(path, "/redirect ") ? "302 Found\r\nLocation: /x"
                                                                   : "200 OK";

        (void)userdata;
        if (str_starts_with(path, "/hang "))
                (void)pause();
        fprintf(out,
                "HTTP/1.1 %s\r\nConnection: close\r\nX-Subject-Token:  t0ken \r\n"
                "Content-Length: %zu\r\n\r\n%s",
                status, strlen(request), request);
}

static int start_server(void **state)
{
        Server *server = xcalloc(1, sizeof *server);

        unit_server_open(&server->unit);
        server->url = xasprintf("http://127.0.0.1:%d", server->unit.port);
        unit_server_start(&server->unit, answer, NULL);
        *state = server;
        return 0;
}

static int stop_server(void **state)
{
        Server *server = *state;

        unit_server_stop(&server->unit);
        free(server->url);
        free(server);
        return 0;
}

// ---- calls, one after the other, in a loop ---------------------------------------------------

typedef struct Caller {
        sd_event *event;
        HttpClient *client;
        unsigned n_done;
        long status;
        char *text, *header;
        Error err;
} Caller;

static void on_done(HttpClient *client, const HttpResponse *response, void *userdata)
{
        Caller *caller = userdata;

        (void)client;
        assert_ptr_equal(response->userdata, caller);
        caller->n_done++;
        caller->status = response->status;
        replace_string(&caller->text, buf_str(response->body));
        replace_string(&caller->header, response->header);
        caller->err = response->error ? *response->error : ERROR_NONE;
}

static Caller *caller_new(void)
{
        Caller *caller = xcalloc(1, sizeof *caller);
        Error err = ERROR_NONE;

        assert_true(sd_event_new(&caller->event) >= 0);
        assert_ok(http_client_new(&limits, on_done, caller, &caller->client, &err), err);
        assert_ok(http_client_attach(caller->client, caller->event, &err), err);
        return caller;
}

static void caller_free(Caller *caller)
{
        http_client_free(caller->client);
        (void)sd_event_unref(caller->event);
        free(caller->text);
        free(caller->header);
        free(caller);
}
DEFINE_CLEANUP(Caller, caller_free)
#define _cleanup_caller_ _cleanup_(caller_free_p)

static void add(Caller *caller, const char *base, const char *path, const HttpCall *call)
{
        _cleanup_free_ char *url = xasprintf("%s%s", base, path);
        const HttpRequest request = {
                .url = url, .max_bytes = BODY_MAX, .call = call, .userdata = caller};
        Error err = ERROR_NONE;

        assert_ok(http_client_add(caller->client, &request, &err), err);
}

static void run(Caller *caller, const char *base, const char *path, const HttpCall *call)
{
        unsigned before = caller->n_done;

        add(caller, base, path, call);
        assert_int_equal(caller->n_done, before); // from the loop only
        while (caller->n_done == before)
                assert_true(sd_event_run(caller->event, DEADLINE_USEC) > 0);
        assert_int_equal(http_client_pending(caller->client), 0);
}

// ---- what is sent --------------------------------------------------------------------------

static void test_methods(void **state)
{
        static const char *const methods[] = {"GET", "PUT", "POST", "DELETE"};
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        for (size_t at = 0; at < ELEMENTSOF(methods); at++) {
                _cleanup_free_ char *line = xasprintf("%s /a?b=c HTTP/1.1\r\n", methods[at]);

                run(caller, server->url, "/a?b=c", &(HttpCall){.method = methods[at]});
                assert_int_equal(caller->status, 200);
                assert_true(str_starts_with(caller->text, line));
                assert_null(strstr(caller->text, "Content-Type:"));
                assert_null(strstr(caller->text, "Expect:"));
                assert_null(strstr(caller->text, "Authorization:"));
                if (at > 0)
                        assert_contains(caller->text, "Content-Length: 0\r\n");
        }
}

static void test_body_and_headers(void **state)
{
        static const char *const headers[] = {"X-Auth-Token: abc", "Accept: application/json",
                                              NULL};
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        run(caller, server->url, "/a",
            &(HttpCall){.method = "POST",
                        .body = "{\"a\": 1}",
                        .content_type = "application/json",
                        .headers = headers});
        assert_contains(caller->text, "Content-Type: application/json\r\n");
        assert_contains(caller->text, "X-Auth-Token: abc\r\n");
        assert_contains(caller->text, "Accept: application/json\r\n");
        assert_contains(caller->text, "\r\n\r\n{\"a\": 1}");
}

static void test_logins(void **state)
{
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        run(caller, server->url, "/a",
            &(HttpCall){.method = "GET", .auth = {HTTP_AUTH_BASIC, "user", "pass"}});
        assert_contains(caller->text, "Authorization: Basic dXNlcjpwYXNz\r\n");
        run(caller, server->url, "/a",
            &(HttpCall){.method = "PUT",
                        .auth = {.kind = HTTP_AUTH_BEARER, .secret = "t"},
                        .once = true});
        assert_contains(caller->text, "Authorization: Bearer t\r\n");
}

static void test_nothing_of_a_call_stays_for_the_next_request(void **state)
{
        static const char *const headers[] = {"X-Auth-Token: abc", NULL};
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        run(caller, server->url, "/a",
            &(HttpCall){.method = "POST",
                        .body = "secret",
                        .headers = headers,
                        .auth = {HTTP_AUTH_BASIC, "user", "pass"}});
        run(caller, server->url, "/b", NULL);
        assert_true(str_starts_with(caller->text, "GET /b "));
        assert_null(strstr(caller->text, "secret"));
        assert_null(strstr(caller->text, "Auth"));
        assert_contains(caller->text, "User-Agent: packuilon/");
}

// ---- what is told --------------------------------------------------------------------------

static void test_any_status_is_an_answer(void **state)
{
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();
        static const struct {
                const char *path;
                long status;
        } cases[] = {{"/404", 404}, {"/503", 503}, {"/redirect", 302}};

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                run(caller, server->url, cases[at].path, &(HttpCall){.method = "GET"});
                assert_int_equal(caller->err.code, 0);
                assert_int_equal(caller->status, cases[at].status);
                assert_contains(caller->text, cases[at].path);
        }
        run(caller, server->url, "/404", NULL);
        assert_int_equal(caller->err.code, ENOENT);
}

static void test_wanted_header(void **state)
{
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        run(caller, server->url, "/a",
            &(HttpCall){.method = "POST", .wanted_header = "x-subject-token"});
        assert_string_equal(caller->header, "t0ken");
        run(caller, server->url, "/a", &(HttpCall){.method = "POST"});
        assert_null(caller->header);
}

static void test_no_answer(void **state)
{
        _cleanup_caller_ Caller *caller = caller_new();

        (void)state;
        run(caller, "http://127.0.0.1:1", "/a", &(HttpCall){.method = "PUT"});
        assert_true(caller->err.code > 0);
        assert_int_equal(caller->status, 0);
        assert_contains(caller->err.text, "http://127.0.0.1:1/a");
}

static void test_freed_while_something_is_on_its_way(void **state)
{
        const Server *server = *state;
        _cleanup_caller_ Caller *caller = caller_new();

        for (int n = 0; n < 5; n++)
                add(caller, server->url, "/hang", &(HttpCall){.method = "GET"});
        (void)sd_event_run(caller->event, 0);
        (void)sd_event_run(caller->event, 100000);
        assert_int_equal(http_client_pending(caller->client), 5);
        assert_int_equal(caller->n_done, 0);
}

static void test_escape(void **state)
{
        _cleanup_free_ char *escaped = http_escape("a/b c&d=e?f#g%\xc3\xa4-._~");

        (void)state;
        assert_string_equal(escaped, "a%2Fb%20c%26d%3De%3Ff%23g%25%C3%A4-._~");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_methods, start_server, stop_server),
                cmocka_unit_test_setup_teardown(test_body_and_headers, start_server, stop_server),
                cmocka_unit_test_setup_teardown(test_logins, start_server, stop_server),
                cmocka_unit_test_setup_teardown(test_nothing_of_a_call_stays_for_the_next_request,
                                                start_server, stop_server),
                cmocka_unit_test_setup_teardown(test_any_status_is_an_answer, start_server,
                                                stop_server),
                cmocka_unit_test_setup_teardown(test_wanted_header, start_server, stop_server),
                cmocka_unit_test(test_no_answer),
                cmocka_unit_test_setup_teardown(test_freed_while_something_is_on_its_way,
                                                start_server, stop_server),
                cmocka_unit_test(test_escape),
        };

        return cmocka_run_group_tests_name("http-call", tests, NULL, NULL);
}
