#include "../unit.h"

#include <errno.h>

#include "aquilon/request.h"
#include "util/alloc.h"

#define _cleanup_notification_ _cleanup_(notification_done)
#define _cleanup_request_ _cleanup_(request_done)

#define FULL                                                                                       \
        "\"AQ_ARCHETYPE\": \"cloud\", \"AQ_PERSONALITY\": \"p\", \"AQ_OS\": \"rocky\","            \
        " \"AQ_OSVERSION\": \"9\""

static Notification make(const char *metadata, const char *image, const char *addresses)
{
        _cleanup_free_ char *text = xasprintf(
                "{\"event_type\": \"compute.instance.create.end\", \"payload\": {\"instance_id\":"
                " \"a\", \"metadata\": {%s}, \"image_meta\": {%s}, \"fixed_ips\": [%s]}}",
                metadata, image, addresses);
        Notification notification = {0};
        Error err = ERROR_NONE;

        assert_ok(notification_decode(text, strlen(text), &notification, &err), err);
        return notification;
}

#define ONE_ADDRESS "{\"address\": \"10.0.0.1\", \"label\": \"Internal\"}"

static void test_complete(void **state)
{
        static const AquilonConfig config = {.source = AQUILON_SOURCE_METADATA};
        _cleanup_notification_ Notification n = make(FULL ", \"AQ_DOMAIN\": \"prod\","
                                                          " \"PACKUILON_BUILD_ID\": \"b\"",
                                                     "", ONE_ADDRESS);
        _cleanup_request_ AquilonRequest request = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_true(request_is_there(&n, config.source));
        assert_ok(request_from_notification(&n, &config, &request, &err), err);
        assert_string_equal(request.personality, "p");
        assert_string_equal(request.domain, "prod");
        assert_null(request.sandbox);
        assert_string_equal(request.build_id, "b");
        assert_string_equal(request.address, "10.0.0.1");
}

static void test_sandbox_replaces_domain(void **state)
{
        static const AquilonConfig config = {.source = AQUILON_SOURCE_BOTH};
        _cleanup_notification_ Notification n =
                make(FULL, "\"AQ_DOMAIN\": \"d\", \"AQ_SANDBOX\": \"me/s\"", ONE_ADDRESS);
        _cleanup_request_ AquilonRequest request = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(request_from_notification(&n, &config, &request, &err), err);
        assert_string_equal(request.sandbox, "me/s");
        assert_null(request.domain);
}

static void test_missing_keys_are_listed(void **state)
{
        static const AquilonConfig config = {.source = AQUILON_SOURCE_METADATA};
        _cleanup_notification_ Notification n =
                make("\"AQ_OS\": \"x\", \"AQ_PERSONALITY\": \"NONE\"", FULL, ONE_ADDRESS);
        _cleanup_request_ AquilonRequest request = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(request_from_notification(&n, &config, &request, &err), -EINVAL);
        assert_string_equal(err.text, "missing in the server's metadata: AQ_ARCHETYPE, "
                                      "AQ_PERSONALITY, AQ_OSVERSION, AQ_DOMAIN (or AQ_SANDBOX)");
        assert_string_equal(request.os, "x");
}

static void test_whom_it_concerns(void **state)
{
        _cleanup_notification_ Notification by_image = make("\"other\": \"1\"", FULL, ""),
                                            told = make("\"AQ_STATUS\": \"FAILED\"", "", ""),
                                            empty = make("\"AQ_OS\": \"\"", "", "");

        (void)state;
        assert_true(request_is_there(&by_image, AQUILON_SOURCE_BOTH));
        assert_true(request_is_there(&by_image, AQUILON_SOURCE_IMAGE));
        assert_false(request_is_there(&by_image, AQUILON_SOURCE_METADATA));
        assert_false(request_is_there(&told, AQUILON_SOURCE_BOTH));
        assert_false(request_is_there(&empty, AQUILON_SOURCE_BOTH));
}

static void test_address(void **state)
{
        static char services[] = "Services", internal[] = "Internal";
        static char *networks[] = {internal, services, NULL};
        AquilonConfig config = {.source = AQUILON_SOURCE_BOTH};
        _cleanup_notification_ Notification n =
                make(FULL ", \"AQ_DOMAIN\": \"d\"", "",
                     "{\"address\": \"2001:db8::1\"},"
                     "{\"address\": \"10.0.0.9\", \"label\": \"Other\"},"
                     "{\"address\": \"10.0.0.2\", \"label\": \"Services\"},"
                     "{\"address\": \"2001:db8::3\", \"label\": \"Internal\"},"
                     "{\"address\": \"10.0.0.3\", \"label\": \"Internal\"}");
        _cleanup_request_ AquilonRequest any = {0}, chosen = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(request_from_notification(&n, &config, &any, &err), err);
        assert_string_equal(any.address, "10.0.0.9");
        config.networks = networks;
        assert_ok(request_from_notification(&n, &config, &chosen, &err), err);
        assert_string_equal(chosen.address, "10.0.0.3");
}

static void test_no_address(void **state)
{
        static char label[] = "Elsewhere";
        static char *networks[] = {label, NULL};
        static const AquilonConfig config = {.source = AQUILON_SOURCE_BOTH, .networks = networks};
        _cleanup_notification_ Notification none = make(FULL ", \"AQ_DOMAIN\": \"d\"", "", ""),
                                            other = make(FULL ", \"AQ_DOMAIN\": \"d\"", "",
                                                         ONE_ADDRESS);
        _cleanup_request_ AquilonRequest first = {0}, second = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(request_from_notification(&none, &config, &first, &err), -EINVAL);
        assert_contains(err.text, "no address");
        assert_int_equal(request_from_notification(&other, &config, &second, &err), -EINVAL);
        assert_contains(err.text, "NETWORKS (Elsewhere)");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_complete),
                cmocka_unit_test(test_sandbox_replaces_domain),
                cmocka_unit_test(test_missing_keys_are_listed),
                cmocka_unit_test(test_whom_it_concerns),
                cmocka_unit_test(test_address),
                cmocka_unit_test(test_no_address),
        };

        return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
