#include "../unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <zlib.h>

#include "net/http.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/strutil.h"

#define BODY_MAX ((size_t)1000)
#define REQUEST_MAX 4096
#define DEADLINE_MS 20000

static const HttpLimits limits = {.parallel = 4, .timeout_seconds = 10};

// ---- a server in a child process, one request a connection ----------------------------------

typedef struct Server {
        pid_t pid;
        char *url;
} Server;

static void say(FILE *out, const char *head, const char *body)
{
        fprintf(out, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", head,
                strlen(body), body);
}

static void say_gzip(FILE *out, bool header)
{
        static const char text[] = "{\"was\": \"zipped\"}";
        unsigned char packed[200];
        z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)text,
                           .avail_in = sizeof text - 1,
                           .next_out = packed,
                           .avail_out = sizeof packed};

        (void)deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
        (void)deflate(&stream, Z_FINISH);
        fprintf(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                header ? "Content-Encoding: x-gzip\r\n" : "", (size_t)stream.total_out);
        (void)fwrite(packed, 1, stream.total_out, out);
        (void)deflateEnd(&stream);
}

static void answer(FILE *out, const char *request)
{
        const char *path = request + strlen("GET ");
        bool conditional = strstr(request, "If-None-Match: \"v1\"") ||
                           strstr(request, "If-Modified-Since: Thu, 01 Jan 1970 00:00:07 GMT");

        if (str_starts_with(path, "/version ") && conditional)
                fputs("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", out);
        else if (str_starts_with(path, "/version "))
                say(out,
                    "200 OK\r\nETag: \"v1\" \r\n"
                    "last-modified:Thu, 01 Jan 1970 00:00:07 GMT",
                    "content");
        else if (str_starts_with(path, "/echo/"))
                say(out, "200 OK", path);
        else if (str_starts_with(path, "/304 "))
                fputs("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", out);
        else if (str_starts_with(path, "/redirect "))
                say(out, "302 Found\r\nETag: \"other\"\r\nLocation: /version", "");
        else if (str_starts_with(path, "/to-file "))
                say(out, "302 Found\r\nLocation: file:///etc/hostname", "");
        else if (str_starts_with(path, "/loop "))
                say(out, "302 Found\r\nLocation: /loop", "");
        else if (str_starts_with(path, "/big "))
                fprintf(out, "HTTP/1.0 200 OK\r\n\r\n%*s", (int)BODY_MAX + 1, "");
        else if (str_starts_with(path, "/just-fits "))
                fprintf(out, "HTTP/1.0 200 OK\r\n\r\n%*s", (int)BODY_MAX, "");
        else if (str_starts_with(path, "/cut "))
                fputs("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", out);
        else if (str_starts_with(path, "/gzip "))
                say_gzip(out, true);
        else if (str_starts_with(path, "/opaque-gzip "))
                say_gzip(out, false);
        else if (str_starts_with(path, "/broken-gzip "))
                say(out, "200 OK", "\x1f\x8b\x08rubbish");
        else if (str_starts_with(path, "/hang "))
                (void)pause();
        else if (str_starts_with(path, "/503 "))
                say(out, "503 Service Unavailable", "<html>busy</html>");
        else
                say(out, "404 Not Found", "<html>no</html>");
}

_Noreturn static void serve(int listening)
{
        for (;;) {
                int fd = accept(listening, NULL, NULL);
                char request[REQUEST_MAX + 1];
                size_t len = 0;
                ssize_t got = 1;
                FILE *out;

                if (fd < 0)
                        _exit(1);
                if (fork() > 0) {
                        (void)close(fd);
                        continue;
                }
                request[0] = '\0';
                while (!strstr(request, "\r\n\r\n") && len < REQUEST_MAX && got > 0) {
                        got = read(fd, request + len, REQUEST_MAX - len);
                        len += got > 0 ? (size_t)got : 0;
                        request[len] = '\0';
                }
                out = fdopen(fd, "w");
                answer(out, request);
                (void)fclose(out);
                _exit(0);
        }
}

static int start_server(void **state)
{
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;
        int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        Server *server = xcalloc(1, sizeof *server);

        if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) < 0 ||
            listen(listening, 64) < 0 ||
            getsockname(listening, (struct sockaddr *)&address, &len) < 0)
                return -1;
        server->url = xasprintf("http://127.0.0.1:%d", ntohs(address.sin_port));
        server->pid = fork();
        if (server->pid == 0) {
                (void)setpgid(0, 0);
                (void)signal(SIGCHLD, SIG_IGN);
                serve(listening);
        }
        (void)setpgid(server->pid, server->pid);
        (void)close(listening);
        *state = server;
        return server->pid < 0 ? -1 : 0;
}

static int stop_server(void **state)
{
        Server *server = *state;

        (void)kill(-server->pid, SIGKILL);
        (void)waitpid(server->pid, NULL, 0);
        free(server->url);
        free(server);
        return 0;
}

// ---- one GET ------------------------------------------------------------------------------

typedef struct Got {
        long status;
        Buf body;
        char *etag, *last_modified;
        Error err;
        int r;
} Got;

static void got_done(Got *got)
{
        buf_done(&got->body);
        free(got->etag);
        free(got->last_modified);
}

#define _cleanup_got_ _cleanup_(got_done)

static Got get_if(const char *base, const char *path, const char *etag, const char *last_modified)
{
        _cleanup_free_ char *url = xasprintf("%s%s", base, path);
        HttpRequest request = {
                .url = url, .max_bytes = BODY_MAX, .etag = etag, .last_modified = last_modified};
        Got got = {.body = BUF_INIT(0)};

        got.r = http_get(&request, &limits, &got.status, &got.body, &got.etag, &got.last_modified,
                         &got.err);
        return got;
}

static Got get(const char *base, const char *path)
{
        return get_if(base, path, NULL, NULL);
}

static void test_get(void **state)
{
        const Server *server = *state;
        _cleanup_got_ Got got = get(server->url, "/version");

        assert_ok(got.r, got.err);
        assert_int_equal(got.status, 200);
        assert_string_equal(buf_str(&got.body), "content");
        assert_string_equal(got.etag, "\"v1\"");
        assert_string_equal(got.last_modified, "Thu, 01 Jan 1970 00:00:07 GMT");
}

static void test_not_modified(void **state)
{
        static const char time[] = "Thu, 01 Jan 1970 00:00:07 GMT";
        const Server *server = *state;
        _cleanup_got_ Got by_tag = get_if(server->url, "/version", "\"v1\"", NULL);
        _cleanup_got_ Got by_time = get_if(server->url, "/version", NULL, time);
        _cleanup_got_ Got other = get_if(server->url, "/version", "\"v2\"", NULL);
        _cleanup_got_ Got unasked = get(server->url, "/304");

        assert_ok(by_tag.r, by_tag.err);
        assert_int_equal(by_tag.status, 304);
        assert_ok(by_time.r, by_time.err);
        assert_int_equal(by_time.status, 304);
        assert_int_equal(other.status, 200);
        assert_true(unasked.r < 0);
        assert_contains(unasked.err.text, "304");
}

static void test_condition_cannot_smuggle_headers(void **state)
{
        const Server *server = *state;
        _cleanup_got_ Got got = get_if(server->url, "/version", "x\r\nIf-None-Match: \"v1\"", NULL);

        assert_int_equal(got.status, 200);
}

static void test_redirects(void **state)
{
        const Server *server = *state;
        _cleanup_got_ Got got = get(server->url, "/redirect");
        _cleanup_got_ Got file = get(server->url, "/to-file");
        _cleanup_got_ Got loop = get(server->url, "/loop");

        assert_ok(got.r, got.err);
        assert_string_equal(buf_str(&got.body), "content");
        assert_string_equal(got.etag, "\"v1\"");
        assert_true(file.r < 0);
        assert_int_equal(file.body.len, 0);
        assert_true(loop.r < 0);
        assert_contains(loop.err.text, "redirects");
}

static void test_limit(void **state)
{
        const Server *server = *state;
        _cleanup_got_ Got fits = get(server->url, "/just-fits");
        _cleanup_got_ Got big = get(server->url, "/big");

        assert_ok(fits.r, fits.err);
        assert_int_equal(fits.body.len, BODY_MAX);
        assert_int_equal(big.r, -EFBIG);
        assert_contains(big.err.text, "more than the limit of 1000 bytes");
}

static void test_gzip(void **state)
{
        static const char *const paths[] = {"/gzip", "/opaque-gzip"};
        const Server *server = *state;
        _cleanup_got_ Got broken = get(server->url, "/broken-gzip");

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                _cleanup_got_ Got got = get(server->url, paths[i]);

                assert_ok(got.r, got.err);
                assert_string_equal(buf_str(&got.body), "{\"was\": \"zipped\"}");
        }
        assert_true(broken.r < 0);
        assert_contains(broken.err.text, "/broken-gzip");
}

static void test_failures(void **state)
{
        static const struct {
                const char *path, *words;
                long status;
        } cases[] = {
                {"/missing", "the server answered 404 (not found)", 404},
                {"/503", "the server answered 503 (trouble at the server)", 503},
                {"/cut", "bytes remaining", 0},
        };
        const Server *server = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_got_ Got got = get(server->url, cases[i].path);

                assert_true(got.r < 0);
                assert_contains(got.err.text, server->url);
                assert_contains(got.err.text, cases[i].words);
                assert_int_equal(got.status, cases[i].status);
        }
}

static void test_timeout(void **state)
{
        const Server *server = *state;
        _cleanup_free_ char *url = xasprintf("%s/hang", server->url);
        const HttpLimits short_ones = {.parallel = 1, .timeout_seconds = 1};
        const HttpRequest request = {.url = url, .max_bytes = BODY_MAX};
        Error err = ERROR_NONE;

        assert_int_equal(http_get(&request, &short_ones, NULL, NULL, NULL, NULL, &err), -ETIMEDOUT);
        assert_contains(err.text, url);
}

static void test_nobody_listens(void **state)
{
        _cleanup_got_ Got got = get("http://user:secret@127.0.0.1:1", "/x");

        (void)state;
        assert_true(got.r < 0);
        assert_null(strstr(got.err.text, "secret"));
        assert_contains(got.err.text, "http://127.0.0.1:1/x");
}

// ---- many at once -------------------------------------------------------------------------

typedef struct Many {
        const char *base;
        unsigned n_started, n_done, n_failed, n_max;
        bool seen[64];
} Many;

static void add_next(HttpClient *client, Many *many)
{
        _cleanup_free_ char *url = xasprintf("%s/echo/%u.", many->base, many->n_started);
        const HttpRequest request = {
                .url = url,
                .max_bytes = BODY_MAX,
                .userdata = &many->seen[many->n_started],
        };
        Error err = ERROR_NONE;
        int r = http_client_add(client, &request, &err);

        assert_ok(r, err);
        many->n_started++;
}

static void on_one_of_many(HttpClient *client, const HttpResponse *response, void *userdata)
{
        Many *many = userdata;
        bool *seen = response->userdata;
        _cleanup_free_ char *expected = xasprintf("/echo/%td.", seen - many->seen);

        many->n_done++;
        if (response->error || !str_starts_with(buf_str(response->body), expected))
                many->n_failed++;
        assert_false(*seen);
        *seen = true;
        if (many->n_started < many->n_max) // a callback may ask for more
                add_next(client, many);
}

static void test_many(void **state)
{
        const Server *server = *state;
        Many many = {.base = server->url, .n_max = ELEMENTSOF(many.seen)};
        _cleanup_(http_client_free_p) HttpClient *client = NULL;
        int64_t deadline = clock_mono_ms() + DEADLINE_MS;
        Error err = ERROR_NONE;
        int r = http_client_new(&limits, on_one_of_many, &many, &client, &err);

        assert_ok(r, err);
        for (int i = 0; i < 10; i++)
                add_next(client, &many);
        while (http_client_pending(client) > 0 && clock_mono_ms() < deadline) {
                r = http_client_run_once(client, -1, 100, &err);
                assert_ok(r, err);
        }
        assert_int_equal(many.n_done, many.n_max);
        assert_int_equal(many.n_failed, 0);
}

static void count_response(HttpClient *client, const HttpResponse *response, void *userdata)
{
        (void)client;
        (void)response;
        ++*(int *)userdata;
}

static void test_free_while_under_way(void **state)
{
        const Server *server = *state;
        _cleanup_free_ char *url = xasprintf("%s/hang", server->url);
        const HttpRequest request = {.url = url, .max_bytes = BODY_MAX};
        int n_done = 0;
        HttpClient *client = NULL;
        Error err = ERROR_NONE;
        int r = http_client_new(&limits, count_response, &n_done, &client, &err);

        assert_ok(r, err);
        for (int i = 0; i < 6; i++) // two more than may run
                assert_int_equal(http_client_add(client, &request, &err), 0);
        assert_int_equal(http_client_run_once(client, -1, 10, &err), 0);
        assert_int_equal(http_client_pending(client), 6);
        http_client_free(client);
        assert_int_equal(n_done, 0);
}

// While transfers wait, or none is there, the other fd wakes us.
static void test_other_fd(void **state)
{
        const Server *server = *state;
        _cleanup_free_ char *url = xasprintf("%s/hang", server->url);
        const HttpRequest request = {.url = url, .max_bytes = BODY_MAX};
        _cleanup_(http_client_free_p) HttpClient *client = NULL;
        int n_done = 0, fds[2];
        int64_t start = clock_mono_ms();
        Error err = ERROR_NONE;
        int r = http_client_new(&limits, count_response, &n_done, &client, &err);

        assert_ok(r, err);
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_int_equal(http_client_run_once(client, fds[0], DEADLINE_MS, &err), 0);
        assert_int_equal(http_client_add(client, &request, &err), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(http_client_run_once(client, fds[0], DEADLINE_MS, &err), 0);
        assert_true(clock_mono_ms() - start < DEADLINE_MS);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void test_bad_limits(void **state)
{
        const HttpLimits none = {.parallel = 0, .timeout_seconds = 1};
        HttpClient *client = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(http_client_new(&none, count_response, NULL, &client, &err), -EINVAL);
}

int main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start_server, stop_server)
        const struct CMUnitTest tests[] = {
                WITH_SERVER(test_get),
                WITH_SERVER(test_not_modified),
                WITH_SERVER(test_condition_cannot_smuggle_headers),
                WITH_SERVER(test_redirects),
                WITH_SERVER(test_limit),
                WITH_SERVER(test_gzip),
                WITH_SERVER(test_failures),
                WITH_SERVER(test_timeout),
                cmocka_unit_test(test_nobody_listens),
                WITH_SERVER(test_many),
                WITH_SERVER(test_free_while_under_way),
                WITH_SERVER(test_other_fd),
                cmocka_unit_test(test_bad_limits),
        };

        return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
