// A login and calls with it, against a server with a script; test-nova.c has the renewing of
// tokens.
#include "../unit_server.h"

#include <errno.h>

#include "cloud/session.h"

#define TURN_USEC (UINT64_C(20) * 1000000)
#define LOGIN "POST /v3/auth/tokens HTTP/1.1 \n"
#define TOKEN                                                                                      \
        "201 Created", "X-Subject-Token: t\r\n",                                                   \
                "{\"token\": {\"user\": {\"name\": \"u\"}, \"catalog\": [{\"type\": \"volume\", "  \
                "\"endpoints\": [{\"interface\": \"public\", \"url\": \"http://127.0.0.1:PORT/"    \
                "v1\"}]}]}}"

typedef struct Rig {
        UnitServer server;
        char *auth_file;
        sd_event *event;
        Session *session;
        unsigned n_done;
        SessionLogin login;
        long status;
        Error err;
} Rig;

static void on_done(const SessionAnswer *answer, void *userdata)
{
        Rig *rig = userdata;

        rig->n_done++;
        rig->login = answer->login;
        rig->status = answer->response ? answer->response->status : 0;
        rig->err = answer->err ? *answer->err : ERROR_NONE;
}

static void rig_init(Rig *rig, const char *folder, const char *login, SessionScope scope,
                     const UnitAnswer *answers)
{
        static const HttpLimits limits = {.parallel = 1, .timeout_seconds = 20};
        _cleanup_free_ char *openrc = NULL;
        Error err = ERROR_NONE;

        *rig = (Rig){.auth_file = fs_join(folder, "openrc")};
        unit_server_open(&rig->server);
        openrc = xasprintf("export OS_AUTH_URL=http://127.0.0.1:%d %s\n", rig->server.port, login);
        assert_ok(fs_write_atomic(rig->auth_file, openrc, strlen(openrc), 0600, FS_NO_SYNC, &err),
                  err);
        assert_true(sd_event_new(&rig->event) >= 0);
        assert_ok(session_new(rig->auth_file, scope, &limits, rig->event, &rig->session, &err),
                  err);
        if (answers)
                unit_script_start(&rig->server, answers);
}

static void rig_done(Rig *rig, const char *expected)
{
        session_free(rig->session);
        (void)sd_event_unref(rig->event);
        unit_script_end(&rig->server, expected);
        free(rig->auth_file);
}

static void call(Rig *rig, const SessionCall *what)
{
        unsigned before = rig->n_done;

        session_call(rig->session, what, on_done, rig);
        assert_int_equal(rig->n_done, before); // from the loop only
        while (rig->n_done == before)
                assert_true(sd_event_run(rig->event, TURN_USEC) > 0);
}

// ---- the tests -----------------------------------------------------------------------------

#define PASSWORD "OS_USERNAME=u OS_PASSWORD=p OS_PROJECT_NAME=j"

static void test_services_share_a_login(void **state)
{
        static const UnitAnswer answers[] = {
                {TOKEN}, {"404 Not Found", "", ""}, {"200 OK", "", ""}, {0}};
        Rig rig;

        rig_init(&rig, *state, PASSWORD, SESSION_PROJECT, answers);
        call(&rig, &(SessionCall){.service = "volume"}); // is it there?
        assert_int_equal(rig.login, SESSION_LOGGED_IN);
        assert_int_equal(rig.err.code, 0);
        assert_string_equal(keystone_user(session_grant(rig.session)), "u");
        assert_string_equal(auth_env_get(session_env(rig.session), "OS_PROJECT_NAME"), "j");
        call(&rig, &(SessionCall){.service = "image", .method = "GET", .path = "/a"});
        assert_int_equal(rig.login, SESSION_NO_SERVICE);
        assert_contains(rig.err.text, "no image service");
        call(&rig,
             &(SessionCall){.service = "volume", .method = "GET", .path = "/a", .max_bytes = 9});
        assert_int_equal(rig.login, SESSION_LOGGED_IN);
        assert_int_equal(rig.status, 404);
        call(&rig, &(SessionCall){.service = "volume",
                                  .method = "PUT",
                                  .version = "/v3",
                                  .path = "/b",
                                  .body = "{}",
                                  .max_bytes = 9});
        assert_int_equal(rig.status, 200);
        rig_done(&rig, LOGIN "GET /v1/a HTTP/1.1 t\nPUT /v1/v3/b HTTP/1.1 t\n");
}

static void test_a_refusal_has_keystones_words(void **state)
{
        static const UnitAnswer answers[] = {
                {"401 Unauthorized", "", "{\"error\": {\"message\": \"It has expired.\"}}"},
                {"400 Bad Request", "", "{\"error\": {\"message\": \"Expecting more.\"}}"},
                {0}};
        Rig rig;

        rig_init(&rig, *state, PASSWORD, SESSION_PROJECT, answers);
        call(&rig, &(SessionCall){.service = "image"});
        assert_int_equal(rig.login, SESSION_REFUSED);
        assert_contains(rig.err.text, "refuses the login (401: It has expired.): check");
        assert_contains(rig.err.text, rig.auth_file);
        call(&rig, &(SessionCall){.service = "image"});
        assert_int_equal(rig.login, SESSION_NO_ANSWER);
        assert_contains(rig.err.text, "Keystone answered 400: Expecting more.");
        rig_done(&rig, LOGIN LOGIN);
}

static void test_without_a_scope(void **state)
{
        static const UnitAnswer answers[] = {
                {"201 Created", "X-Subject-Token: t\r\n", "{\"token\": {}}"}, {0}};
        Rig rig;

        rig_init(&rig, *state, "OS_USERNAME=u OS_PASSWORD=p", SESSION_UNSCOPED, answers);
        call(&rig, &(SessionCall){0});
        assert_int_equal(rig.login, SESSION_LOGGED_IN);
        rig_done(&rig, LOGIN);
        rig_init(&rig, *state, "OS_APPLICATION_CREDENTIAL_ID=i OS_APPLICATION_CREDENTIAL_SECRET=s",
                 SESSION_UNSCOPED, NULL);
        call(&rig, &(SessionCall){0});
        assert_int_equal(rig.login, SESSION_NO_CREDENTIALS);
        rig_done(&rig, "");
}

static void test_nobody_is_asked_without_credentials(void **state)
{
        Rig rig;

        rig_init(&rig, *state, "OS_USERNAME=u", SESSION_PROJECT, NULL);
        call(&rig, &(SessionCall){.service = "image"});
        assert_int_equal(rig.login, SESSION_NO_CREDENTIALS);
        assert_contains(rig.err.text, "OS_PASSWORD");
        rig_done(&rig, "");
}

static void test_what_has_no_answer_gets_none(void **state)
{
        Rig rig;

        rig_init(&rig, *state, PASSWORD, SESSION_PROJECT, NULL);
        session_call(rig.session, &(SessionCall){.service = "image"}, on_done, &rig);
        (void)sd_event_run(rig.event, TURN_USEC);
        rig_done(&rig, "");
        assert_int_equal(rig.n_done, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_services_share_a_login),
                unit_test_in_folder(test_a_refusal_has_keystones_words),
                unit_test_in_folder(test_without_a_scope),
                unit_test_in_folder(test_nobody_is_asked_without_credentials),
                unit_test_in_folder(test_what_has_no_answer_gets_none),
        };

        return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
