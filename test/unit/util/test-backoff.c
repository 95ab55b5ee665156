#include "../unit.h"

#include "util/backoff.h"

#define MANY 1000

// Over many tries: within the last fifth below `longest`, and not always the same.
static void assert_spread(int64_t first_ms, int64_t max_ms, int64_t attempts, int64_t longest)
{
        int64_t least = INT64_MAX, most = 0;

        for (unsigned n = 0; n < MANY; n++) {
                int64_t delay = backoff_ms(first_ms, max_ms, attempts);

                least = delay < least ? delay : least;
                most = delay > most ? delay : most;
        }
        assert_true(most <= longest);
        assert_true(most > longest - longest / 20);
        assert_true(least >= longest - longest / 5);
        assert_true(least < longest - longest / 5 + longest / 20);
}

static void test_delays_double_up_to_the_longest(void **state)
{
        (void)state;
        assert_spread(1000, 8000, 0, 1000);
        assert_spread(1000, 8000, 1, 1000);
        assert_spread(1000, 8000, 2, 2000);
        assert_spread(1000, 8000, 4, 8000);
        assert_spread(1000, 8000, 5, 8000);
        assert_spread(3000, 8000, 3, 8000);
        assert_spread(1000, 8000, INT64_MAX, 8000);
}

static void test_the_first_may_be_longer_than_the_longest(void **state)
{
        (void)state;
        assert_spread(90000, 60000, 1, 90000);
        assert_spread(90000, 60000, 7, 90000);
}

static void test_no_delay_stays_none(void **state)
{
        (void)state;
        assert_int_equal(backoff_ms(0, 8000, INT64_MAX), 0);
}

static void test_chance_stays_in_its_range(void **state)
{
        bool seen[3] = {false};

        (void)state;
        for (unsigned n = 0; n < MANY; n++) {
                int64_t chance = backoff_chance(3);

                assert_in_range(chance, 0, 2);
                seen[chance] = true;
                assert_in_range(backoff_chance(INT64_C(1) << 32), 0, UINT32_MAX);
        }
        assert_true(seen[0] && seen[1] && seen[2]);
        assert_int_equal(backoff_chance(0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_delays_double_up_to_the_longest),
                cmocka_unit_test(test_the_first_may_be_longer_than_the_longest),
                cmocka_unit_test(test_no_delay_stays_none),
                cmocka_unit_test(test_chance_stays_in_its_range),
        };

        return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
