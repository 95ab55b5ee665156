#include "../unit.h"

#include "core/registration_state.h"

#define REFUSED N_REGISTRATION_STATES

static void test_all_pairs(void **state)
{
        static const RegistrationState expected[][N_REGISTRATION_EVENTS] = {
                [REGISTRATION_REGISTERING] = {REFUSED, REGISTRATION_REMOVING,
                                              REGISTRATION_REGISTERED, REGISTRATION_FAILED},
                [REGISTRATION_REGISTERED] = {REFUSED, REGISTRATION_REMOVING, REFUSED, REFUSED},
                [REGISTRATION_FAILED] = {REGISTRATION_REGISTERING, REGISTRATION_REMOVING, REFUSED,
                                         REFUSED},
                [REGISTRATION_REMOVING] = {REFUSED, REFUSED, REGISTRATION_REMOVED,
                                           REGISTRATION_STUCK},
                [REGISTRATION_REMOVED] = {REFUSED, REFUSED, REFUSED, REFUSED},
                [REGISTRATION_STUCK] = {REFUSED, REGISTRATION_REMOVING, REFUSED, REFUSED},
        };

        (void)state;
        for (int from = 0; from < N_REGISTRATION_STATES; from++) {
                for (int event = 0; event < N_REGISTRATION_EVENTS; event++) {
                        RegistrationState next = REFUSED;
                        bool changes = registration_state_next((RegistrationState)from,
                                                               (RegistrationEvent)event, &next);

                        assert_int_equal(next, expected[from][event]);
                        assert_int_equal(changes, next != REFUSED);
                }
        }
}

static void test_what_is_over_stays_removed(void **state)
{
        (void)state;
        for (int event = 0; event < N_REGISTRATION_EVENTS; event++) {
                RegistrationState next;

                assert_false(registration_state_next(REGISTRATION_REMOVED, (RegistrationEvent)event,
                                                     &next));
        }
}

static void test_names(void **state)
{
        (void)state;
        for (int at = 0; at < N_REGISTRATION_STATES; at++) {
                RegistrationState found;

                assert_true(registration_state_from_name(
                        registration_state_name((RegistrationState)at), &found));
                assert_int_equal(found, at);
        }
        for (int at = 0; at < N_REGISTRATION_STEPS; at++) {
                RegistrationStep found;

                assert_true(registration_step_from_name(
                        registration_step_name((RegistrationStep)at), &found));
                assert_int_equal(found, at);
        }
        assert_false(registration_state_from_name("flying", &(RegistrationState){0}));
        assert_false(registration_step_from_name("", &(RegistrationStep){0}));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_pairs),
                cmocka_unit_test(test_what_is_over_stays_removed),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests_name("registration-state", tests, NULL, NULL);
}
