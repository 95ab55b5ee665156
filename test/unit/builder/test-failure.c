#include "../unit.h"

#include "builder/failure.h"

// Texts as Packer 1.6.6 wrote them against an OpenStack Zed.
static const struct {
        const char *text, *class;
} samples[] = {
        {"Failed to parse template: Error parsing JSON: invalid character", "template"},
        {"Error: Failed to prepare build: \"openstack\": Authentication failed", "authentication"},
        {"Failed to prepare build: \"openstack\": Post \"http://127.0.0.1:5999/v3/auth/tokens\": "
         "dial tcp 127.0.0.1:5999: connect:",
         "api"},
        {"Error launching source server: Request forbidden: [POST "
         "http://127.0.0.1:8774/v2.1/servers], error message: {\"forbidden\": {\"code\": 403, "
         "\"message\": \"Quota exceeded for instances: Requested 1, but already used 0 of 0 "
         "instances\"}}",
         "quota"},
        {"Error waiting for server (4ae2454b) to become ready: unexpected state 'ERROR', wanted "
         "target '[ACTIVE]'",
         "capacity"},
        {"Timeout waiting for SSH.", "connect"},
        {"Script exited with non-zero exit status: 3.Allowed exit codes are: [0]", "provision"},
        {"Error launching source server: Bad request with: [POST "
         "http://127.0.0.1:8774/v2.1/servers], error message: {\"badRequest\": {\"code\": 400, "
         "\"message\": \"Can not find requested image\"}}",
         "missing"},
        {"not done after BUILD_TIMEOUT (30 s), while in phase connect", "timeout"},
        {"Packer ended with exit code 137", "other"},
        {NULL, "other"},
};

static void test_classes_of_real_texts(void **state)
{
        (void)state;
        for (size_t at = 0; at < sizeof samples / sizeof *samples; at++) {
                FailureClass class = failure_classify(samples[at].text);

                if (strcmp(failure_class_name(class), samples[at].class) != 0)
                        fail_msg("\"%s\" is read as %s", samples[at].text,
                                 failure_class_name(class));
        }
}

static void test_attempts_by_class(void **state)
{
        const BuildConfig config = {.max_attempts = 3, .retry_seconds = 60};
        const BuildConfig once = {.max_attempts = 1, .retry_seconds = 60};

        (void)state;
        assert_false(failure_may_retry(FAILURE_PROVISION, 1, &config));
        assert_true(failure_may_retry(FAILURE_CONNECT, 1, &config));
        assert_false(failure_may_retry(FAILURE_CONNECT, 2, &config));
        assert_true(failure_may_retry(FAILURE_QUOTA, 2, &config));
        assert_false(failure_may_retry(FAILURE_QUOTA, 3, &config));
        assert_false(failure_may_retry(FAILURE_CONNECT, 1, &once));
}

static void test_delay_grows_and_is_spread(void **state)
{
        const BuildConfig config = {.max_attempts = 30, .retry_seconds = 60};
        const int64_t minute = 60000;

        (void)state;
        assert_int_equal(failure_retry_delay_ms(FAILURE_API, 1, &config, 0), minute / 2);
        assert_int_equal(failure_retry_delay_ms(FAILURE_API, 2, &config, 0), minute);
        assert_in_range(failure_retry_delay_ms(FAILURE_API, 1, &config, UINT32_MAX), minute,
                        minute * 3 / 2);
        assert_int_equal(failure_retry_delay_ms(FAILURE_QUOTA, 1, &config, 0), minute * 5 / 2);
        assert_int_equal(failure_retry_delay_ms(FAILURE_API, 25, &config, 0),
                         FAILURE_MAX_DELAY_SECONDS * 500);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_classes_of_real_texts),
                cmocka_unit_test(test_attempts_by_class),
                cmocka_unit_test(test_delay_grows_and_is_spread),
        };

        return cmocka_run_group_tests_name("failure", tests, NULL, NULL);
}
