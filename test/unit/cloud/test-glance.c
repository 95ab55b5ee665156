// Glance's API against a server with a script, which is Keystone and Glance in one.
#include "../unit_server.h"

#include <errno.h>

#include "cloud/glance.h"

#define TURN_USEC (UINT64_C(20) * 1000000)
#define ID "6488693d-96fa-47d4-ba80-59f18bf0136e"
#define LOGIN "POST /v3/auth/tokens HTTP/1.1 \n"
#define BY_ID "GET /v2/images/" ID " HTTP/1.1 t\n"
#define BY_NAME "GET /v2/images?limit=2&status=active&name=a%20%26%20b HTTP/1.1 t\n"

#define TOKEN(url)                                                                                 \
        "201 Created", "X-Subject-Token: t\r\n",                                                   \
                "{\"token\": {\"catalog\": [{\"type\": \"image\", \"endpoints\": [{\"interface\":" \
                " \"public\", \"url\": \"http://127.0.0.1:PORT" url "\"}]}]}}"
#define ACTIVE "{\"id\": \"" ID "\", \"status\": \"active\"}"

typedef struct Rig {
        UnitServer server;
        sd_event *event;
        Session *session;
        GlanceImage image;
        unsigned n_done;
} Rig;

static void on_done(GlanceImage *image)
{
        Rig *rig = image->userdata;

        rig->n_done++;
}

static void rig_init(Rig *rig, const char *folder, const UnitAnswer *answers)
{
        static const HttpLimits limits = {.parallel = 1, .timeout_seconds = 20};
        _cleanup_free_ char *path = fs_join(folder, "openrc"), *openrc = NULL;
        Error err = ERROR_NONE;

        *rig = (Rig){0};
        unit_server_open(&rig->server);
        openrc = xasprintf("export OS_AUTH_URL=http://127.0.0.1:%d OS_USERNAME=u OS_PASSWORD=p "
                           "OS_PROJECT_NAME=j\n",
                           rig->server.port);
        assert_ok(fs_write_atomic(path, openrc, strlen(openrc), 0600, FS_NO_SYNC, &err), err);
        assert_true(sd_event_new(&rig->event) >= 0);
        assert_ok(session_new(path, SESSION_PROJECT, &limits, rig->event, &rig->session, &err),
                  err);
        unit_script_start(&rig->server, answers);
}

static void rig_done(Rig *rig, const char *expected)
{
        session_free(rig->session);
        (void)sd_event_unref(rig->event);
        unit_script_end(&rig->server, expected);
}

static void look_up(Rig *rig, const char *wanted)
{
        rig->image = (GlanceImage){.wanted = wanted, .done = on_done, .userdata = rig};
        rig->n_done = 0;
        glance_look_up(rig->session, &rig->image);
        assert_int_equal(rig->n_done, 0); // from the loop only
        while (!rig->n_done)
                assert_true(sd_event_run(rig->event, TURN_USEC) > 0);
}

// ---- the tests -----------------------------------------------------------------------------

static void test_ids(void **state)
{
        static const char *const others[] = {"",
                                             "rocky",
                                             "6488693d-96fa-47d4-ba80-59f18bf0136",
                                             ID "0",
                                             "6488693d096fa-47d4-ba80-59f18bf0136e",
                                             "6488693g-96fa-47d4-ba80-59f18bf0136e"};

        (void)state;
        assert_true(glance_is_id(ID));
        assert_true(glance_is_id("6488693D-96FA-47D4-BA80-59F18BF0136E"));
        for (size_t at = 0; at < ELEMENTSOF(others); at++)
                assert_false(glance_is_id(others[at]));
}

static void test_an_image_that_is_there(void **state)
{
        // The catalog's URL comes with the version and without.
        const UnitAnswer scripts[][3] = {{{TOKEN("")}, {"200 OK", "", ACTIVE}},
                                         {{TOKEN("/v2/")}, {"200 OK", "", ACTIVE}}};

        for (size_t at = 0; at < ELEMENTSOF(scripts); at++) {
                Rig rig;

                rig_init(&rig, *state, scripts[at]);
                look_up(&rig, ID);
                assert_int_equal(rig.image.outcome, GLANCE_OK);
                assert_string_equal(rig.image.id, ID);
                assert_string_equal(rig.image.status, "active");
                rig_done(&rig, LOGIN BY_ID);
        }
}

static void test_names(void **state)
{
        static const struct {
                const char *body;
                GlanceOutcome outcome;
        } cases[] = {{"{\"images\": []}", GLANCE_NO_IMAGE},
                     {"{\"images\": [" ACTIVE "]}", GLANCE_OK},
                     {"{\"images\": [" ACTIVE ", " ACTIVE "]}", GLANCE_SEVERAL},
                     {"{\"images\": [7]}", GLANCE_NO_ANSWER},
                     {ACTIVE, GLANCE_NO_ANSWER}};

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const UnitAnswer answers[] = {{TOKEN("")}, {"200 OK", "", cases[at].body}, {0}};
                Rig rig;

                rig_init(&rig, *state, answers);
                look_up(&rig, "a & b");
                assert_int_equal(rig.image.outcome, cases[at].outcome);
                rig_done(&rig, LOGIN BY_NAME);
        }
}

static void test_what_the_answers_mean(void **state)
{
        static const struct {
                UnitAnswer answer;
                GlanceOutcome outcome;
                const char *words;
        } cases[] = {{{"404 Not Found", "", "<html>"}, GLANCE_NO_IMAGE, ""},
                     {{"403 Forbidden", "", "no"}, GLANCE_REFUSED, ""},
                     {{"503 Service Unavailable", "", "no"}, GLANCE_NO_ANSWER, "answered 503"},
                     {{"302 Found", "Location: /x\r\n", ""}, GLANCE_NO_ANSWER, "answered 302"},
                     {{"200 OK", "", ""}, GLANCE_NO_ANSWER, "is no image"},
                     {{"200 OK", "", "[]"}, GLANCE_NO_ANSWER, "is no image"},
                     {{"200 OK", "", "{\"id\": \"a\"}"}, GLANCE_NO_ANSWER, "is no image"},
                     {{"200 OK", "Content-Encoding: gzip\r\n", "no"}, GLANCE_NO_ANSWER, "Glance"}};

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const UnitAnswer answers[] = {{TOKEN("")}, cases[at].answer, {0}};
                Rig rig;

                rig_init(&rig, *state, answers);
                look_up(&rig, ID);
                assert_int_equal(rig.image.outcome, cases[at].outcome);
                assert_contains(rig.image.err.text, cases[at].words);
                rig_done(&rig, LOGIN BY_ID);
        }
}

static void test_without_a_login_nothing_is_asked(void **state)
{
        static const UnitAnswer answers[] = {{"401 Unauthorized", "", "no"}, {0}};
        Rig rig;

        rig_init(&rig, *state, answers);
        look_up(&rig, ID);
        assert_int_equal(rig.image.outcome, GLANCE_NO_ANSWER);
        assert_contains(rig.image.err.text, "refuses the login");
        rig_done(&rig, LOGIN);
}

static void test_forgotten_questions_are_not_answered(void **state)
{
        static const UnitAnswer answers[] = {
                {TOKEN("")}, {"200 OK", "", ACTIVE}, {"200 OK", "", ACTIVE}, {0}};
        GlanceImage other = {.wanted = ID}; // its `done` would be called
        Rig rig;

        rig_init(&rig, *state, answers);
        glance_look_up(rig.session, &other);
        glance_forget(rig.session, &other);
        look_up(&rig, ID);
        assert_int_equal(rig.image.outcome, GLANCE_OK);
        rig_done(&rig, LOGIN BY_ID BY_ID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ids),
                unit_test_in_folder(test_an_image_that_is_there),
                unit_test_in_folder(test_names),
                unit_test_in_folder(test_what_the_answers_mean),
                unit_test_in_folder(test_without_a_login_nothing_is_asked),
                unit_test_in_folder(test_forgotten_questions_are_not_answered),
        };

        return cmocka_run_group_tests_name("glance", tests, NULL, NULL);
}
