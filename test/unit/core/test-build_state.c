#include "../unit.h"

#include "core/build_state.h"

#define NO BUILD_EVENT_REFUSED

// Written out once more, by hand: every pair has an answer that somebody thought of.
static const int expected[N_BUILD_STATES][N_BUILD_EVENTS] = {
        // start, succeed, fail, cancel, skip, supersede, interrupt, postpone
        [BUILD_QUEUED] = {BUILD_BUILDING, NO, BUILD_FAILED, BUILD_CANCELLED, BUILD_SKIPPED,
                          BUILD_SUPERSEDED, BUILD_INTERRUPTED, NO},
        [BUILD_BUILDING] = {NO, BUILD_SUCCEEDED, BUILD_FAILED, BUILD_CANCELLED, NO, NO,
                            BUILD_INTERRUPTED, BUILD_QUEUED},
        [BUILD_SUCCEEDED] = {NO, NO, NO, NO, NO, NO, NO, NO},
        [BUILD_FAILED] = {NO, NO, NO, NO, NO, NO, NO, NO},
        [BUILD_CANCELLED] = {NO, NO, NO, NO, NO, NO, NO, NO},
        [BUILD_SKIPPED] = {NO, NO, NO, NO, NO, NO, NO, NO},
        [BUILD_SUPERSEDED] = {NO, NO, NO, NO, NO, NO, NO, NO},
        [BUILD_INTERRUPTED] = {NO, NO, NO, NO, NO, NO, NO, NO},
};

static void test_every_pair(void **state)
{
        (void)state;
        for (int from = 0; from < N_BUILD_STATES; from++) {
                for (int event = 0; event < N_BUILD_EVENTS; event++) {
                        int next = build_state_next((BuildState)from, (BuildEvent)event);

                        if (next != expected[from][event])
                                fail_msg("%s + %s gives %d", build_state_name((BuildState)from),
                                         build_event_name((BuildEvent)event), next);
                }
        }
}

static void test_only_queued_and_building_go_on(void **state)
{
        (void)state;
        for (int at = 0; at < N_BUILD_STATES; at++)
                assert_int_equal(build_state_is_final((BuildState)at),
                                 at != BUILD_QUEUED && at != BUILD_BUILDING);
}

static void test_names_go_both_ways(void **state)
{
        BuildState back;

        (void)state;
        for (int at = 0; at < N_BUILD_STATES; at++) {
                back = N_BUILD_STATES;
                assert_true(build_state_from_name(build_state_name((BuildState)at), &back));
                assert_int_equal(back, at);
        }
        for (int at = 0; at < N_BUILD_EVENTS; at++)
                assert_non_null(build_event_name((BuildEvent)at));
        back = BUILD_FAILED;
        assert_false(build_state_from_name("Queued", &back));
        assert_false(build_state_from_name("", &back));
        assert_int_equal(back, BUILD_FAILED);
        assert_string_equal(build_state_name(BUILD_BUILDING), "building");
        assert_string_equal(build_event_name(BUILD_EVENT_SUPERSEDE), "supersede");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_pair),
                cmocka_unit_test(test_only_queued_and_building_go_on),
                cmocka_unit_test(test_names_go_both_ways),
        };

        return cmocka_run_group_tests_name("build_state", tests, NULL, NULL);
}
