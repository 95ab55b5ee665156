// The helper is a shell script here: what is made of its answers, and of its misdeeds.
#include "../unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "builder/registration_asker.h"
#include "util/alloc.h"

#define DEADLINE_SECONDS 60

typedef struct Fixture {
        char *dir, *helper;
        sd_event *event;
        RegistrationAsker *asker;
        char *seen;         // of the answers
        unsigned n_wanted;  // answers, and then the loop ends
        bool free_at_first; // the asker, from its callback
        Error why;          // of its end
} Fixture;

static int setup(void **state)
{
        Fixture *fixture = xcalloc(1, sizeof *fixture);
        void *dir = NULL;
        sigset_t child;

        if (unit_make_folder(&dir) < 0)
                return -1;
        fixture->dir = dir;
        fixture->helper = fs_join(fixture->dir, "helper");
        fixture->seen = xstrdup("");
        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &child, NULL);
        *state = fixture;
        return sd_event_new(&fixture->event) < 0;
}

static int teardown(void **state)
{
        Fixture *fixture = *state;
        void *dir = fixture->dir;

        if (fixture->asker)
                registration_asker_free(fixture->asker);
        (void)sd_event_unref(fixture->event);
        // Whatever became of the helper, it is reaped.
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        free(fixture->helper);
        free(fixture->seen);
        free(fixture);
        return unit_remove_folder(&dir);
}

static const char *or_none(const char *text)
{
        return text ? text : "-";
}

static void on_answer(const RegistrationAnswer *answer, void *userdata)
{
        Fixture *fixture = userdata;
        char *longer = xasprintf("%s%s%s%s %s %s %s %s\n", fixture->seen, answer->server,
                                 answer->gone ? " gone" : "", answer->no_login ? " no login" : "",
                                 or_none(answer->error), or_none(answer->status),
                                 or_none(answer->reason), or_none(answer->host));

        free(fixture->seen);
        fixture->seen = longer;
        if (fixture->free_at_first)
                registration_asker_free(TAKE_PTR(fixture->asker));
        if (fixture->n_wanted && --fixture->n_wanted == 0)
                (void)sd_event_exit(fixture->event, 0);
}

static void on_end(const Error *why, void *userdata)
{
        Fixture *fixture = userdata;

        fixture->why = *why;
        registration_asker_free(TAKE_PTR(fixture->asker));
        (void)sd_event_exit(fixture->event, 0);
}

static int start(Fixture *fixture, const char *script, Error *err)
{
        static const RegistrationAskerCallbacks callbacks = {on_answer, on_end};
        _cleanup_free_ char *text = xasprintf("#!/bin/sh\n%s\n", script);

        if (fs_write_atomic(fixture->helper, text, strlen(text), 0700, FS_NO_SYNC, err) < 0)
                return -EIO;
        return registration_asker_start(fixture->event, fixture->helper, "the-openrc", &callbacks,
                                        fixture, &fixture->asker, err);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)usec;
        (void)userdata;
        return sd_event_exit(sd_event_source_get_event(source), ETIMEDOUT);
}

static void loop(Fixture *fixture)
{
        sd_event_source *deadline = NULL;

        assert_true(sd_event_add_time_relative(fixture->event, &deadline, CLOCK_MONOTONIC,
                                               DEADLINE_SECONDS * 1000000ULL, 0, on_deadline,
                                               NULL) >= 0);
        assert_int_equal(sd_event_loop(fixture->event), 0);
        (void)sd_event_source_unref(deadline);
}

static void run(Fixture *fixture, const char *script)
{
        Error err = ERROR_NONE;

        assert_ok(start(fixture, script, &err), err);
        loop(fixture);
}

static void test_asks_and_hears(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;

        fixture->n_wanted = 3;
        assert_ok(
                start(fixture,
                      "read a; read b\n"
                      "echo '{\"server\": \"'$b'\", \"status\": \"FAILED\", \"reason\": "
                      "\"'$1'\"}'\n"
                      "echo '{\"server\": \"'$a'\", \"gone\": true}'\n"
                      "echo '{\"server\": \"c\", \"error\": \"it is down\", \"no_login\": true}'\n"
                      "read for_ever",
                      &err),
                err);
        assert_ok(registration_asker_ask(fixture->asker, "s1", &err), err);
        assert_ok(registration_asker_ask(fixture->asker, "s2", &err), err);
        loop(fixture);
        assert_string_equal(fixture->seen, "s2 - FAILED the-openrc -\n"
                                           "s1 gone - - - -\n"
                                           "c no login it is down - - -\n");
}

static void test_what_it_said_before_its_end_counts(void **state)
{
        Fixture *fixture = *state;

        run(fixture,
            "echo '{\"server\": \"s\", \"status\": \"SUCCESS\", \"host\": \"h\"}'; exit 3");
        assert_string_equal(fixture->seen, "s - SUCCESS - h\n");
        assert_contains(fixture->why.text, "ask-registration has ended");
}

static void test_an_answer_that_is_none(void **state)
{
        static const char *const answers[] = {"nonsense", "[]", "{\\\"status\\\": \\\"SUCCESS\\\"}",
                                              ""};

        for (size_t at = 0; at < ELEMENTSOF(answers); at++) {
                Fixture *fixture = *state;
                _cleanup_free_ char *script = xasprintf("echo \"%s\"; read for_ever", answers[at]);

                fixture->why = ERROR_NONE;
                run(fixture, script);
                assert_string_equal(fixture->seen, "");
                assert_int_equal(fixture->why.code, EBADMSG);
                assert_true(teardown(state) == 0 && setup(state) == 0);
        }
}

static void test_an_answer_without_end(void **state)
{
        Fixture *fixture = *state;

        run(fixture, "yes | tr -d '\\n'");
        assert_int_equal(fixture->why.code, EFBIG);
}

static void test_freed_from_its_callback(void **state)
{
        Fixture *fixture = *state;

        fixture->n_wanted = 1;
        fixture->free_at_first = true;
        run(fixture, "echo '{\"server\": \"s\"}\n{\"server\": \"not told\"}'; read for_ever");
        assert_string_equal(fixture->seen, "s - - - -\n");
}

static void test_it_cannot_be_asked_after_its_end(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;
        struct sigaction ignore = {.sa_handler = SIG_IGN}, before;

        assert_int_equal(sigaction(SIGPIPE, &ignore, &before), 0);
        assert_ok(start(fixture, "exec <&-; echo '{\"server\": \"s\"}'; exec sleep 600", &err),
                  err);
        fixture->n_wanted = 1;
        loop(fixture);
        assert_int_equal(registration_asker_ask(fixture->asker, "s", &err), -EPIPE);
        assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
}

static void test_no_such_helper(void **state)
{
        Fixture *fixture = *state;
        Error err = ERROR_NONE;

        free(fixture->helper);
        fixture->helper = xstrdup("/no/such/helper");
        assert_int_equal(registration_asker_start(fixture->event, fixture->helper, "o",
                                                  &(RegistrationAskerCallbacks){0}, NULL,
                                                  &fixture->asker, &err),
                         -ENOENT);
        assert_contains(err.text, "cannot run /no/such/helper");
}

#define with_helper(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                with_helper(test_asks_and_hears),
                with_helper(test_what_it_said_before_its_end_counts),
                with_helper(test_an_answer_that_is_none),
                with_helper(test_an_answer_without_end),
                with_helper(test_freed_from_its_callback),
                with_helper(test_it_cannot_be_asked_after_its_end),
                with_helper(test_no_such_helper),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
