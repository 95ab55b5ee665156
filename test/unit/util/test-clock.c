#include "../unit.h"

#include <time.h>

#include "util/clock.h"

static void test_wall_is_the_epoch_in_ms(void **state)
{
        int64_t before = (int64_t)time(NULL) * 1000, now = clock_wall_ms();
        int64_t after = ((int64_t)time(NULL) + 1) * 1000;

        (void)state;
        // time(2) may read a coarser clock that is a few ms behind.
        assert_true(now >= before && now <= after + 100);
}

static void test_mono_goes_on_by_what_was_waited(void **state)
{
        const struct timespec pause = {.tv_nsec = 20L * 1000 * 1000};
        int64_t start = clock_mono_ms(), waited;

        (void)state;
        assert_int_equal(nanosleep(&pause, NULL), 0);
        waited = clock_mono_ms() - start;
        assert_true(waited >= 19);
        assert_true(waited < 60 * 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_wall_is_the_epoch_in_ms),
                cmocka_unit_test(test_mono_goes_on_by_what_was_waited),
        };

        return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
