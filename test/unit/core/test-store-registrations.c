#include "unit_store.h"

#include <errno.h>

#include "core/store_registrations.h"

static Registration make(const char *server)
{
        return (Registration){.server = xstrdup(server),
                              .state = REGISTRATION_REGISTERING,
                              .step = STEP_NAME_HOST,
                              .name = xstrdup("name"),
                              .begun_ms = 5,
                              .notice = xstrdup("{}")};
}

static Registration insert_row(Store *store, const char *server)
{
        Registration row = make(server);
        Error err = ERROR_NONE;

        assert_ok(store_registration_insert(store, &row, 10, &err), err);
        assert_true(row.id > 0);
        return row;
}
#define _cleanup_registration_ _cleanup_(registration_done)

static int count_row(const Registration *row, void *userdata)
{
        (void)row;
        ++*(int *)userdata;
        return 0;
}

static int count(Store *store, const RegistrationFilter *filter)
{
        Error err = ERROR_NONE;
        int n = 0;

        assert_ok(store_registrations_each(store, filter, count_row, &n, &err), err);
        return n;
}

static void test_what_is_written_is_read(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_REGISTRATIONS, STORE_READ_WRITE);
        _cleanup_registration_ Registration row = insert_row(store, "s1"), found = {0};
        Error err = ERROR_NONE;

        row.step = STEP_ADD_HOST;
        row.host = xstrdup("h.example.org");
        row.machine = xstrdup("vm-1");
        row.old_machine = xstrdup("vm-0");
        row.debts = DEBT_NOVA | DEBT_FAILED;
        row.attempt = 3;
        row.not_before_ms = 99;
        assert_ok(store_registration_save(store, &row, "add host", "h", 20, &err), err);
        assert_int_equal(store_registration_find(store, "s1", &found, &err), 0);
        assert_int_equal(found.id, row.id);
        assert_int_equal(found.state, REGISTRATION_REGISTERING);
        assert_int_equal(found.step, STEP_ADD_HOST);
        assert_string_equal(found.host, "h.example.org");
        assert_string_equal(found.old_machine, "vm-0");
        assert_string_equal(found.notice, "{}");
        assert_int_equal(found.debts, DEBT_NOVA | DEBT_FAILED);
        assert_int_equal(found.attempt, 3);
        assert_int_equal(found.begun_ms, 5);
        assert_int_equal(found.changed_ms, 20);
        assert_int_equal(found.not_before_ms, 99);
        assert_null(found.reason);
        assert_int_equal(store_registration_find(store, "other", &found, &err), STORE_NOT_FOUND);
}

static void test_one_row_a_server(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_REGISTRATIONS, STORE_READ_WRITE);
        _cleanup_registration_ Registration row = insert_row(store, "s1"), again = make("s1");
        Error err = ERROR_NONE;

        assert_int_equal(row.state, REGISTRATION_REGISTERING);
        assert_true(store_registration_insert(store, &again, 10, &err) < 0);
        assert_int_equal(count(store, &(RegistrationFilter){0}), 1);
}

static void test_transitions_and_history(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_REGISTRATIONS, STORE_READ_WRITE);
        _cleanup_registration_ Registration row = insert_row(store, "s1");
        Error err = ERROR_NONE;

        assert_int_equal(
                store_registration_transition(store, &row, REGISTRATION_EVENT_CREATED, 11, &err),
                -EINVAL);
        assert_contains(err.text, "s1 is registering");
        row.reason = xstrdup("why");
        assert_ok(store_registration_transition(store, &row, REGISTRATION_EVENT_GIVE_UP, 12, &err),
                  err);
        assert_int_equal(row.state, REGISTRATION_FAILED);
        assert_int_equal(number(store, "SELECT count(*) FROM registration_event"), 2);
        assert_int_equal(number(store, "SELECT count(*) FROM registration_event WHERE"
                                       " what = 'failed' AND detail = 'why' AND at_ms = 12"),
                         1);
}

static void test_open_ones(void **state)
{
        static const RegistrationState failed = REGISTRATION_FAILED;
        _cleanup_store_ Store *store = open_store(*state, STORE_REGISTRATIONS, STORE_READ_WRITE);
        _cleanup_registration_ Registration busy = insert_row(store, "busy"),
                                            owes = insert_row(store, "owes"),
                                            over = insert_row(store, "over");
        Error err = ERROR_NONE;

        assert_int_equal(busy.debts, 0);
        owes.debts = DEBT_FAILED;
        assert_ok(store_registration_transition(store, &owes, REGISTRATION_EVENT_GIVE_UP, 11, &err),
                  err);
        assert_ok(store_registration_transition(store, &over, REGISTRATION_EVENT_GIVE_UP, 12, &err),
                  err);
        assert_int_equal(count(store, &(RegistrationFilter){.only_open = true}), 2);
        assert_int_equal(count(store, &(RegistrationFilter){.state = &failed}), 2);
        assert_int_equal(count(store, &(RegistrationFilter){.limit = 1}), 1);
        assert_ok(store_registrations_prune(store, 12, &err), err);
        assert_int_equal(count(store, &(RegistrationFilter){0}), 3);
        assert_ok(store_registrations_prune(store, 13, &err), err);
        assert_int_equal(count(store, &(RegistrationFilter){0}), 2);
        assert_int_equal(number(store, "SELECT count(*) FROM registration_event WHERE"
                                       " registration NOT IN (SELECT id FROM registration)"),
                         0);
}

static int sum_up(const char *type, int64_t n, void *userdata)
{
        assert_string_equal(type, "x");
        *(int64_t *)userdata += n;
        return 0;
}

static void test_counts(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_REGISTRATIONS, STORE_READ_WRITE);
        Error err = ERROR_NONE;
        int64_t n = 0;

        assert_ok(store_notifications_count(store, "x", 2, &err), err);
        assert_ok(store_notifications_count(store, "x", 5, &err), err);
        assert_ok(store_notifications_each(store, sum_up, &n, &err), err);
        assert_int_equal(n, 7);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_what_is_written_is_read),
                unit_test_in_folder(test_one_row_a_server),
                unit_test_in_folder(test_transitions_and_history),
                unit_test_in_folder(test_open_ones),
                unit_test_in_folder(test_counts),
        };

        return cmocka_run_group_tests_name("store-registrations", tests, NULL, NULL);
}
