// An HTTP server for unit tests: in a child process, on a port of its own, one request a
// connection. Either a function answers, or a script: answers in their order, and a note of what
// was asked.
#pragma once

#include "unit.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "util/alloc.h"

#define UNIT_REQUEST_MAX 4096
#define UNIT_SERVER_SECONDS 60 // then a caller that has not come will not come

typedef struct UnitServer {
        pid_t pid; // 0: not started
        int listening, port;
        int asked_fd; // of a script: the first lines of all requests, with their tokens
} UnitServer;

// Writes the whole answer to a request, in the child.
typedef void (*UnitAnswerFn)(FILE *out, const char *request, void *userdata);

// An element of a script. "PORT" in the body is the server's own.
typedef struct UnitAnswer {
        const char *status, *header, *body;
} UnitAnswer;

// Whoever calls already finds it there, and waits until it is started.
static inline void unit_server_open(UnitServer *server)
{
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;

        *server = (UnitServer){.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                               .asked_fd = -1};
        assert_int_equal(bind(server->listening, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(server->listening, 64), 0);
        assert_int_equal(getsockname(server->listening, (struct sockaddr *)&address, &len), 0);
        server->port = ntohs(address.sin_port);
}

// Nobody listens any more.
static inline void unit_server_close(UnitServer *server)
{
        if (server->listening >= 0)
                (void)close(server->listening);
        server->listening = -1;
}

static inline bool unit_request_is_whole(const char *request)
{
        const char *end = strstr(request, "\r\n\r\n"),
                   *length = strstr(request, "Content-Length: ");

        return end && strlen(end + 4) >= (length ? strtoul(length + 16, NULL, 10) : 0);
}

static inline void unit_answer_one(int fd, UnitAnswerFn answer, void *userdata)
{
        char request[UNIT_REQUEST_MAX + 1] = "";
        size_t len = 0;
        ssize_t got = 1;
        FILE *out;

        while (!unit_request_is_whole(request) && len < UNIT_REQUEST_MAX && got > 0) {
                got = read(fd, request + len, UNIT_REQUEST_MAX - len);
                len += got > 0 ? (size_t)got : 0;
                request[len] = '\0';
        }
        if (!unit_request_is_whole(request)) { // the client has gone
                (void)close(fd);
                return;
        }
        out = fdopen(fd, "w");
        answer(out, request, userdata);
        (void)fclose(out);
}

static inline void unit_server_start(UnitServer *server, UnitAnswerFn answer, void *userdata)
{
        server->pid = fork();
        assert_true(server->pid >= 0);
        if (server->pid > 0) {
                unit_server_close(server);
                return;
        }
        (void)alarm(UNIT_SERVER_SECONDS);
        for (;;) {
                int fd = accept(server->listening, NULL, NULL);

                if (fd < 0)
                        _exit(1);
                unit_answer_one(fd, answer, userdata);
        }
}

static inline void unit_server_stop(UnitServer *server)
{
        unit_server_close(server);
        if (server->pid <= 0)
                return;
        (void)kill(server->pid, SIGKILL);
        (void)waitpid(server->pid, NULL, 0);
}

// ---- a script --------------------------------------------------------------------------------

typedef struct UnitScript {
        const UnitAnswer *next;
        int port, asked_fd;
} UnitScript;

static inline void unit_script_answer(FILE *out, const char *request, void *userdata)
{
        UnitScript *script = userdata;
        const UnitAnswer *answer = script->next++;
        const char *token = strstr(request, "X-Auth-Token: ");
        const char *port = strstr(answer->body, "PORT");
        _cleanup_free_ char *body = port ? xasprintf("%.*s%d%s", (int)(port - answer->body),
                                                     answer->body, script->port, port + 4)
                                         : xstrdup(answer->body);

        dprintf(script->asked_fd, "%.*s %.*s\n", (int)strcspn(request, "\r"), request,
                token ? (int)strcspn(token + 14, "\r") : 0, token ? token + 14 : "");
        fprintf(out, "HTTP/1.1 %s\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
                answer->status, answer->header, strlen(body), body);
        if (script->next->status)
                return;
        (void)fclose(out);
        _exit(0);
}

// `answers` ends with an empty one.
static inline void unit_script_start(UnitServer *server, const UnitAnswer *answers)
{
        UnitScript script = {.next = answers, .port = server->port};
        int ends[2];

        assert_int_equal(pipe(ends), 0);
        script.asked_fd = ends[1];
        unit_server_start(server, unit_script_answer, &script);
        (void)close(ends[1]);
        server->asked_fd = ends[0];
}

// The server must have given all its answers, to these requests: "GET /path HTTP/1.1 token\n" each.
static inline void unit_script_end(UnitServer *server, const char *expected)
{
        char asked[UNIT_REQUEST_MAX] = "";
        size_t len = 0;
        ssize_t got;

        unit_server_close(server);
        while (server->asked_fd >= 0 &&
               (got = read(server->asked_fd, asked + len, sizeof asked - 1 - len)) > 0)
                len += (size_t)got;
        assert_string_equal(asked, expected);
        if (server->asked_fd >= 0)
                (void)close(server->asked_fd);
        if (server->pid > 0)
                assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
}
