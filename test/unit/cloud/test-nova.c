// Nova's API against a server with a script, which is Keystone and Nova in one.
#include "../unit_server.h"

#include <errno.h>

#include "cloud/nova.h"

#define TURN_USEC (UINT64_C(20) * 1000000)

#define TOKEN(name)                                                                                \
        "201 Created", "X-Subject-Token: " name "\r\n",                                            \
                "{\"token\": {\"expires_at\": \"2099-01-01T00:00:00.000000Z\", \"catalog\": ["     \
                "{\"type\": \"compute\", \"endpoints\": [{\"interface\": \"public\", \"region\": " \
                "\"r\", \"url\": \"http://127.0.0.1:PORT/v2.1\"}]}]}}"
#define METADATA "200 OK", "", "{\"metadata\": {\"AQ_STATUS\": \"SUCCESS\"}}"

typedef struct Rig {
        UnitServer server;
        char *auth_file;
        sd_event *event;
        Nova *nova;
        unsigned n_done;
        NovaOutcome outcome;
        bool no_login;
        char *status; // AQ_STATUS
        Error err;
} Rig;

// ---- the caller ----------------------------------------------------------------------------

static void rig_init(Rig *rig, const char *folder)
{
        _cleanup_free_ char *openrc = NULL;
        Error err = ERROR_NONE;

        *rig = (Rig){0};
        unit_server_open(&rig->server);
        openrc = xasprintf("export OS_AUTH_URL=http://127.0.0.1:%d/v3 OS_USERNAME=u OS_PASSWORD=p "
                           "OS_PROJECT_NAME=j OS_REGION_NAME=r\n",
                           rig->server.port);
        rig->auth_file = fs_join(folder, "openrc");
        assert_ok(fs_write_atomic(rig->auth_file, openrc, strlen(openrc), 0600, FS_NO_SYNC, &err),
                  err);
        assert_true(sd_event_new(&rig->event) >= 0);
        assert_ok(nova_new(rig->auth_file, rig->event, &rig->nova, &err), err);
}

// `expected` is what the server was asked.
static void rig_done(Rig *rig, const char *expected)
{
        nova_free(rig->nova);
        (void)sd_event_unref(rig->event);
        unit_script_end(&rig->server, expected);
        free(rig->auth_file);
        free(rig->status);
}

static void on_done(const NovaAnswer *answer, void *userdata)
{
        Rig *rig = userdata;
        const json_t *metadata = json_object_get(answer->document, "metadata");

        rig->n_done++;
        rig->outcome = answer->outcome;
        rig->no_login = answer->no_login;
        replace_string(&rig->status, json_string_value(json_object_get(metadata, "AQ_STATUS")));
        rig->err = answer->err ? *answer->err : ERROR_NONE;
        assert_int_equal(answer->outcome == NOVA_OK, !answer->err);
}

static void wait_done(Rig *rig, unsigned n)
{
        while (rig->n_done < n) {
                int r = sd_event_run(rig->event, TURN_USEC);

                assert_true(r > 0); // else nothing came in time
        }
        assert_int_equal(rig->n_done, n);
}

static void get(Rig *rig)
{
        unsigned before = rig->n_done;

        nova_get_metadata(rig->nova, "a server", on_done, rig);
        assert_int_equal(rig->n_done, before); // from the loop only
        wait_done(rig, before + 1);
}

// ---- the tests -----------------------------------------------------------------------------

static void test_one_login_for_many_calls(void **state)
{
        static const UnitAnswer answers[] = {{TOKEN("t1")}, {METADATA}, {"200 OK", "", "{}"}, {0}};
        json_t *pairs = json_pack("{s:s}", "AQ_STATUS", "FAILED");
        Rig rig;

        rig_init(&rig, *state);
        unit_script_start(&rig.server, answers);
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_OK);
        assert_string_equal(rig.status, "SUCCESS");
        nova_set_metadata(rig.nova, "s", pairs, on_done, &rig);
        wait_done(&rig, 2);
        assert_int_equal(rig.outcome, NOVA_OK);
        json_decref(pairs);
        rig_done(&rig, "POST /v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t1\n"
                       "POST /v2.1/servers/s/metadata HTTP/1.1 t1\n");
}

static void test_a_token_that_has_ended_is_renewed_once(void **state)
{
        static const UnitAnswer answers[] = {{TOKEN("t1")},
                                             {"401 Unauthorized", "", "no"},
                                             {TOKEN("t2")},
                                             {METADATA},
                                             {"401 Unauthorized", "", "no"},
                                             {TOKEN("t3")},
                                             {"401 Unauthorized", "", "no"},
                                             {0}};
        Rig rig;

        rig_init(&rig, *state);
        unit_script_start(&rig.server, answers);
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_OK);
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_TRY_LATER);
        assert_contains(rig.err.text, "401");
        rig_done(&rig, "POST /v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t1\n"
                       "POST /v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t2\n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t2\n"
                       "POST /v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t3\n");
}

static void test_what_the_answers_mean(void **state)
{
        static const struct {
                const char *status;
                NovaOutcome outcome;
        } cases[] = {{"404 Not Found", NOVA_NO_SERVER},
                     {"409 Conflict", NOVA_TRY_LATER},
                     {"429 Too Many Requests", NOVA_TRY_LATER},
                     {"503 Service Unavailable", NOVA_TRY_LATER},
                     {"400 Bad Request", NOVA_REFUSED}};

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const UnitAnswer answers[] = {
                        {TOKEN("t")}, {cases[at].status, "", "its words"}, {0}};
                Rig rig;

                rig_init(&rig, *state);
                unit_script_start(&rig.server, answers);
                get(&rig);
                assert_int_equal(rig.outcome, cases[at].outcome);
                assert_contains(rig.err.text, "its words");
                assert_false(rig.no_login);
                rig_done(&rig, "POST /v3/auth/tokens HTTP/1.1 \n"
                               "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t\n");
        }
}

static void test_logins_that_fail(void **state)
{
        static const struct {
                UnitAnswer answer;
                const char *words;
        } cases[] = {{{"401 Unauthorized", "", "no"}, "refuses the login"},
                     {{"500 Internal Server Error", "", "no"}, "Keystone answered 500"},
                     {{"201 Created", "", "{}"}, "no X-Subject-Token"},
                     {{"201 Created", "X-Subject-Token: t\r\n", "{}"}, ""}};

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const UnitAnswer answers[] = {cases[at].answer, {0}};
                Rig rig;

                rig_init(&rig, *state);
                unit_script_start(&rig.server, answers);
                get(&rig);
                assert_int_equal(rig.outcome, NOVA_TRY_LATER);
                assert_contains(rig.err.text, cases[at].words);
                assert_true(rig.no_login);
                rig_done(&rig, "POST /v3/auth/tokens HTTP/1.1 \n");
        }
}

static void write_file(const char *path, const char *text)
{
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err), err);
}

// The login of a clouds.yaml, whose path shows in what the server is asked.
static void write_clouds(const char *path, int port, const char *where)
{
        _cleanup_free_ char *text =
                xasprintf("clouds: {c: {region_name: r, auth: {username: u, password: p, "
                          "project_name: j, auth_url: 'http://127.0.0.1:%d/%s/v3'}}}\n",
                          port, where);

        write_file(path, text);
}

static void test_after_a_refusal_the_login_is_read_anew(void **state)
{
        static const UnitAnswer answers[] = {
                {"401 Unauthorized", "", "no"}, {TOKEN("t")}, {METADATA}, {0}};
        _cleanup_free_ char *clouds = fs_join(*state, "clouds.yaml"), *openrc = NULL;
        Rig rig;

        rig_init(&rig, *state);
        openrc = xasprintf("export OS_CLOUD=c OS_CLIENT_CONFIG_FILE=%s\n", clouds);
        write_file(rig.auth_file, openrc);
        unit_script_start(&rig.server, answers);
        write_clouds(clouds, rig.server.port, "old");
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_TRY_LATER);
        write_clouds(clouds, rig.server.port, "new");
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_OK);
        rig_done(&rig, "POST /old/v3/auth/tokens HTTP/1.1 \n"
                       "POST /new/v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t\n");
}

static void test_nobody_answers_or_no_login_is_known(void **state)
{
        Rig rig;

        rig_init(&rig, *state);
        unit_server_close(&rig.server);
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_TRY_LATER);
        assert_contains(rig.err.text, "Keystone");
        assert_int_equal(unlink(rig.auth_file), 0);
        get(&rig);
        assert_int_equal(rig.outcome, NOVA_TRY_LATER);
        assert_contains(rig.err.text, "openrc");
        rig_done(&rig, "");
}

static void test_forgotten_requests_are_not_answered(void **state)
{
        static const UnitAnswer answers[] = {{TOKEN("t")}, {METADATA}, {METADATA}, {0}};
        Rig rig, other;

        rig_init(&rig, *state);
        unit_script_start(&rig.server, answers);
        nova_get_metadata(rig.nova, "a", on_done, &other); // never touched
        nova_forget(rig.nova, &other);
        get(&rig);
        rig_done(&rig, "POST /v3/auth/tokens HTTP/1.1 \n"
                       "GET /v2.1/servers/a/metadata HTTP/1.1 t\n"
                       "GET /v2.1/servers/a%20server/metadata HTTP/1.1 t\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_one_login_for_many_calls),
                unit_test_in_folder(test_a_token_that_has_ended_is_renewed_once),
                unit_test_in_folder(test_what_the_answers_mean),
                unit_test_in_folder(test_logins_that_fail),
                unit_test_in_folder(test_after_a_refusal_the_login_is_read_anew),
                unit_test_in_folder(test_nobody_answers_or_no_login_is_known),
                unit_test_in_folder(test_forgotten_requests_are_not_answered),
        };

        return cmocka_run_group_tests_name("nova", tests, NULL, NULL);
}
