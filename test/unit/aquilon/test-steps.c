// The order of the steps, with answers from a list.
#include "../unit.h"

#include <errno.h>

#include "aquilon/task.h"
#include "util/alloc.h"

static const AquilonConfig config = {.make_must_succeed = true};

typedef struct Given {
        RegistrationStep step; // that is asked about
        BrokerOutcome outcome;
        const char *text;
} Given;

static Task make_task(RegistrationState state)
{
        Task task = {.row = {.server = xstrdup("s"), .state = state}};

        if (state == REGISTRATION_REGISTERING) {
                task.row.host = xstrdup("h.example.org");
                task.row.address = xstrdup("10.0.0.1");
        }
        steps_restart(&task);
        return task;
}

static void task_done(Task *task)
{
        registration_done(&task->row);
        free(task->old_host);
        free(task->old_address);
}
#define _cleanup_task_ _cleanup_(task_done)

static StepResult answer(Task *task, const Given *given, Error *err)
{
        Error why = ERROR_NONE;
        const BrokerAnswer broker = {.outcome = given->outcome,
                                     .text = given->text ? given->text : "",
                                     .err = given->outcome == BROKER_OK ? NULL : &why};

        (void)error_set(&why, EREMOTEIO, "the broker answered 400: %s", broker.text);
        assert_string_equal(registration_step_name(task->row.step),
                            registration_step_name(given->step));
        return steps_answer(task, &config, &broker, err);
}

// The last answer has this result, all before it lead on.
static void walk(Task *task, const Given *given, size_t n, StepResult last)
{
        for (size_t at = 0; at < n; at++) {
                Error err = ERROR_NONE;

                assert_int_equal(answer(task, &given[at], &err), at + 1 < n ? STEP_NEXT : last);
        }
}
#define WALK(task, last, ...)                                                                      \
        walk(task, (const Given[]){__VA_ARGS__},                                                   \
             sizeof((const Given[]){__VA_ARGS__}) / sizeof(Given), last)

static AquilonConfig with_prefix(void)
{
        static char prefix[] = "vm-";

        return (AquilonConfig){.prefix = prefix, .make_must_succeed = true};
}

// ---- registering ---------------------------------------------------------------------------

static void test_nothing_is_there(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);

        (void)state;
        WALK(&task, STEP_LAST, {STEP_FIND_MACHINE, BROKER_OK, ""},
             {STEP_FIND_RECORD, BROKER_REFUSED, "Host h not found."},
             {STEP_ADD_MACHINE, BROKER_OK, "vm-1"}, {STEP_ADD_INTERFACE, BROKER_OK, ""},
             {STEP_SET_INTERFACE, BROKER_OK, ""}, {STEP_ADD_HOST, BROKER_OK, ""},
             {STEP_MAKE, BROKER_OK, ""});
        assert_string_equal(task.row.machine, "vm-1");
}

static void test_own_old_machine_is_deleted(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);

        (void)state;
        WALK(&task, STEP_NEXT, {STEP_FIND_MACHINE, BROKER_OK, "vm-1\nvm-2"},
             {STEP_FIND_HOST, BROKER_OK, "old.example.org"}, {STEP_DELETE_HOST, BROKER_OK, ""},
             {STEP_SHOW_MACHINE, BROKER_OK, "Interface: eth0\n Provides: [10.0.0.7]"},
             {STEP_DELETE_ADDRESS, BROKER_OK, ""}, {STEP_DELETE_INTERFACE, BROKER_OK, ""},
             {STEP_DELETE_MACHINE, BROKER_OK, ""}, {STEP_FIND_MACHINE, BROKER_OK, "vm-2"},
             {STEP_FIND_HOST, BROKER_OK, ""}, {STEP_SHOW_MACHINE, BROKER_OK, "no parts"},
             {STEP_DELETE_MACHINE, BROKER_OK, ""}, {STEP_FIND_MACHINE, BROKER_OK, ""});
        assert_int_equal(task.row.step, STEP_FIND_RECORD);
}

static void test_a_deletion_that_is_refused_is_looked_after(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REMOVING);

        (void)state;
        WALK(&task, STEP_NEXT, {STEP_FIND_MACHINE, BROKER_OK, "vm-1"},
             {STEP_FIND_HOST, BROKER_OK, ""}, {STEP_SHOW_MACHINE, BROKER_OK, ""},
             {STEP_DELETE_MACHINE, BROKER_REFUSED, "still in use"},
             {STEP_FIND_HOST, BROKER_OK, "h.a"}, {STEP_DELETE_HOST, BROKER_OK, ""},
             {STEP_SHOW_MACHINE, BROKER_OK, ""}, {STEP_DELETE_MACHINE, BROKER_REFUSED, "not found"},
             {STEP_FIND_HOST, BROKER_OK, ""}, {STEP_SHOW_MACHINE, BROKER_REFUSED, "not found"},
             {STEP_FIND_MACHINE, BROKER_REFUSED, ""});
        WALK(&task, STEP_LAST, {STEP_FIND_MACHINE, BROKER_REFUSED, ""});
}

static void test_a_machine_of_ours_is_removed_though_the_search_refuses(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REMOVING),
                            gone = make_task(REGISTRATION_REMOVING);

        (void)state;
        task.row.machine = xstrdup("vm-1");
        gone.row.machine = xstrdup("vm-1");
        WALK(&task, STEP_LAST, {STEP_FIND_MACHINE, BROKER_REFUSED, "none"},
             {STEP_FIND_MACHINE, BROKER_REFUSED, "none"}, {STEP_FIND_HOST, BROKER_OK, "h.a"},
             {STEP_DELETE_HOST, BROKER_OK, ""}, {STEP_SHOW_MACHINE, BROKER_OK, "no parts"},
             {STEP_DELETE_MACHINE, BROKER_OK, ""}, {STEP_FIND_MACHINE, BROKER_REFUSED, "none"},
             {STEP_FIND_MACHINE, BROKER_REFUSED, "none"});
        assert_null(task.row.machine);
        WALK(&gone, STEP_NEXT, {STEP_FIND_MACHINE, BROKER_REFUSED, "none"},
             {STEP_FIND_MACHINE, BROKER_REFUSED, "none"}, {STEP_FIND_HOST, BROKER_OK, ""},
             {STEP_SHOW_MACHINE, BROKER_REFUSED, "Machine vm-1 not found."},
             {STEP_DELETE_INTERFACE, BROKER_REFUSED, ""},
             {STEP_DELETE_MACHINE, BROKER_REFUSED, "Machine vm-1 not found."},
             {STEP_FIND_HOST, BROKER_OK, ""},
             {STEP_SHOW_MACHINE, BROKER_REFUSED, "Not Found: Machine vm-1 not found."},
             {STEP_FIND_MACHINE, BROKER_REFUSED, "none"});
        WALK(&gone, STEP_LAST, {STEP_FIND_MACHINE, BROKER_REFUSED, "none"});
}

// As of a web server that knows nothing of the broker.
static void test_a_refusal_of_everything_removes_nothing(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REMOVING);
        Error err = ERROR_NONE;
        StepResult result = STEP_NEXT;

        (void)state;
        task.row.machine = xstrdup("vm-1");
        for (int n = 0; n < 64 && result == STEP_NEXT; n++)
                result = answer(
                        &task,
                        &(Given){task.row.step, BROKER_REFUSED, "/machine/vm-1 was not found"},
                        &err);
        assert_int_equal(result, STEP_TRY_LATER);
        assert_contains(err.text, "machine vm-1 cannot be deleted: the broker answered 400");
        assert_string_equal(task.row.machine, "vm-1");
}

static void test_what_cannot_be_deleted_is_not_tried_for_ever(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REMOVING);
        Error err = ERROR_NONE;
        StepResult result = STEP_NEXT;

        (void)state;
        for (int round = 0; round < 10 && result == STEP_NEXT; round++) {
                const Given found = {task.row.step, BROKER_OK, "vm-1"};

                result = answer(&task, &found, &err);
                if (result != STEP_NEXT)
                        break;
                WALK(&task, STEP_NEXT, {STEP_FIND_HOST, BROKER_OK, ""},
                     {STEP_SHOW_MACHINE, BROKER_OK, ""}, {STEP_DELETE_MACHINE, BROKER_OK, ""});
        }
        assert_int_equal(result, STEP_TRY_LATER);
        assert_contains(err.text, "machine vm-1 cannot be deleted");
}

static void test_a_record_of_the_name(void **state)
{
        const AquilonConfig prefixed = with_prefix();
        _cleanup_task_ Task ours = make_task(REGISTRATION_REGISTERING),
                            other = make_task(REGISTRATION_REGISTERING),
                            nobodys = make_task(REGISTRATION_REGISTERING);
        const BrokerAnswer found = {.outcome = BROKER_OK, .text = "Machine: vm-9\n"},
                           foreign = {.outcome = BROKER_OK, .text = "Machine: rack-9\n"},
                           silent = {.outcome = BROKER_OK, .text = "Primary Name: h\n"};
        Error err = ERROR_NONE;

        (void)state;
        ours.row.step = other.row.step = nobodys.row.step = STEP_FIND_RECORD;
        assert_int_equal(steps_answer(&ours, &prefixed, &found, &err), STEP_NEXT);
        assert_int_equal(ours.row.step, STEP_DELETE_HOST);
        assert_string_equal(ours.row.old_machine, "vm-9");
        assert_string_equal(ours.old_host, "h.example.org");
        assert_int_equal(steps_answer(&other, &prefixed, &foreign, &err), STEP_GIVE_UP);
        assert_contains(err.text, "rack-9");
        assert_null(other.row.old_machine);
        assert_int_equal(steps_answer(&nobodys, &prefixed, &silent, &err), STEP_GIVE_UP);
        assert_contains(err.text,
                        "host h.example.org has a record whose machine the broker does not name");
        assert_null(nobodys.old_host);
}

static void test_refusals(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);
        Error err = ERROR_NONE;

        (void)state;
        task.row.step = STEP_ADD_HOST;
        WALK(&task, STEP_NEXT, {STEP_ADD_HOST, BROKER_REFUSED, "no such personality"},
             {STEP_LOOK_FOR_HOST, BROKER_OK, ""},
             {STEP_ADD_HOST, BROKER_REFUSED, "no such personality"});
        assert_int_equal(
                answer(&task, &(Given){STEP_LOOK_FOR_RECORD, BROKER_REFUSED, "none"}, &err),
                STEP_GIVE_UP);
        assert_contains(err.text, "no such personality");
}

static void test_an_answer_that_was_lost(void **state)
{
        _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);

        (void)state;
        task.row.step = STEP_ADD_MACHINE;
        steps_resume(&task);
        WALK(&task, STEP_NEXT, {STEP_LOOK_FOR_MACHINE, BROKER_OK, "vm-4"},
             {STEP_LOOK_FOR_INTERFACE, BROKER_OK, "eth0 there"},
             {STEP_SET_INTERFACE, BROKER_OK, ""});
        assert_string_equal(task.row.machine, "vm-4");
        steps_resume(&task);
        WALK(&task, STEP_NEXT, {STEP_LOOK_FOR_HOST, BROKER_OK, "h.example.org"});
        assert_int_equal(task.row.step, STEP_MAKE);
}

static void test_trouble_is_tried_again(void **state)
{
        (void)state;
        for (RegistrationStep step = STEP_FIND_MACHINE; step < N_REGISTRATION_STEPS; step++) {
                _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);
                Error err = ERROR_NONE;

                task.row.step = step;
                assert_int_equal(answer(&task, &(Given){step, BROKER_TRY_LATER, "busy"}, &err),
                                 STEP_TRY_LATER);
                assert_int_equal(task.row.step, step);
                assert_contains(err.text, "busy");
        }
}

static void test_names_that_are_none(void **state)
{
        static const char *const texts[] = {"<html>", "../x", ".", "a/b", "vm 1;x\xff"};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(texts) - 1; at++) {
                _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);
                Error err = ERROR_NONE;

                task.row.step = STEP_ADD_MACHINE;
                assert_int_equal(
                        answer(&task, &(Given){STEP_ADD_MACHINE, BROKER_OK, texts[at]}, &err),
                        STEP_TRY_LATER);
                assert_contains(err.text, "no name");
                assert_null(task.row.machine);
        }
}

static void test_make(void **state)
{
        const AquilonConfig lenient = {.make_must_succeed = false};
        _cleanup_task_ Task task = make_task(REGISTRATION_REGISTERING);
        Error why = ERROR_NONE, err = ERROR_NONE;
        const BrokerAnswer refused = {.outcome = BROKER_REFUSED, .text = "", .err = &why};

        (void)state;
        (void)error_set(&why, EREMOTEIO, "does not compile");
        task.row.step = STEP_MAKE;
        assert_int_equal(steps_answer(&task, &config, &refused, &err), STEP_GIVE_UP);
        assert_string_equal(err.text, "make: does not compile");
        assert_int_equal(steps_answer(&task, &lenient, &refused, &err), STEP_LAST);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_is_there),
                cmocka_unit_test(test_own_old_machine_is_deleted),
                cmocka_unit_test(test_a_deletion_that_is_refused_is_looked_after),
                cmocka_unit_test(test_a_machine_of_ours_is_removed_though_the_search_refuses),
                cmocka_unit_test(test_a_refusal_of_everything_removes_nothing),
                cmocka_unit_test(test_what_cannot_be_deleted_is_not_tried_for_ever),
                cmocka_unit_test(test_a_record_of_the_name),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_an_answer_that_was_lost),
                cmocka_unit_test(test_trouble_is_tried_again),
                cmocka_unit_test(test_names_that_are_none),
                cmocka_unit_test(test_make),
        };

        return cmocka_run_group_tests_name("steps", tests, NULL, NULL);
}
