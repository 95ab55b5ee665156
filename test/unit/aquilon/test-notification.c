#include "../unit.h"

#include <errno.h>

#include "aquilon/notification.h"
#include "util/alloc.h"
#include "util/buf.h"

#define _cleanup_notification_ _cleanup_(notification_done)

static char *sample(const char *name)
{
        _cleanup_free_ char *path =
                xasprintf("%s/nova-notifications/%s.json", getenv("TEST_DATA"), name);
        Buf text = BUF_INIT((size_t)1024 * 1024);
        Error err = ERROR_NONE;

        assert_ok(fs_read_file(path, &text, &err), err);
        return buf_take(&text, NULL);
}

static int decode(const char *text, Notification *ret)
{
        Error err = ERROR_NONE;
        int r = notification_decode(text, strlen(text), ret, &err);

        assert_ok(r, err);
        return r;
}

static void assert_refused(const char *text, const char *words)
{
        Notification notification = {0};
        Error err = ERROR_NONE;

        assert_int_equal(notification_decode(text, strlen(text), &notification, &err), -EBADMSG);
        assert_contains(err.text, words);
        assert_null(notification.type);
}

// ---- real ones -----------------------------------------------------------------------------

static void test_created(void **state)
{
        _cleanup_free_ char *text = sample("compute.instance.create.end.envelope");
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(decode(text, &n), 0);
        assert_int_equal(n.kind, NOTIFICATION_CREATED);
        assert_string_equal(n.server, "299c74d1-defb-45d8-b800-7344cc307b4f");
        assert_string_equal(n.name, "nubesvms-rocky8x-x86_64");
        assert_string_equal(n.hostname, "nubesvms-rocky8x-x86-64");
        assert_string_equal(n.vmhost, "cloudhost");
        assert_string_equal(n.project, "admin");
        assert_int_equal(n.vcpus, 1);
        assert_int_equal(n.memory_mb, 256);
        assert_int_equal(n.n_addresses, 1);
        assert_string_equal(n.addresses[0].address, "10.77.0.155");
        assert_string_equal(n.addresses[0].mac, "fa:16:3e:49:d8:38");
        assert_string_equal(n.addresses[0].label, "provider");
        assert_string_equal(notification_value(&n.metadata, "AQ_PERSONALITY"), "nubesvms");
        assert_int_equal(n.metadata.n, 5);
        assert_string_equal(notification_value(&n.image, "AQ_OS"), "rocky");
        assert_int_equal(n.image.n, 1);
}

static void test_deleted(void **state)
{
        _cleanup_free_ char *text = sample("compute.instance.delete.start.envelope");
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(decode(text, &n), 0);
        assert_int_equal(n.kind, NOTIFICATION_DELETED);
        assert_int_equal(n.n_addresses, 0);
        assert_int_equal(n.metadata.n, 5);
}

static void test_others(void **state)
{
        static const char *const names[][2] = {
                {"compute.instance.create.start.envelope", "compute.instance.create.start"},
                {"compute.instance.snapshot.end.envelope", "compute.instance.snapshot.end"},
                {"ceilometer.instance_exists_metadata_list", "compute.instance.exists"}};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(names); at++) {
                _cleanup_free_ char *text = sample(names[at][0]);
                _cleanup_notification_ Notification n = {0};

                assert_int_equal(decode(text, &n), NOTIFICATION_OTHER);
                assert_string_equal(n.type, names[at][1]);
                assert_null(n.server);
        }
}

static void test_without_envelope(void **state)
{
        _cleanup_free_ char *text = sample("ceilometer.instance_create_end");
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(decode(text, &n), 0);
        assert_string_equal(n.server, "9f9d01b9-4a58-4271-9e27-398b21ab20d1");
        assert_int_equal(n.memory_mb, 512);
        assert_int_equal(n.metadata.n, 0);
        assert_string_equal(n.addresses[0].address, "10.0.0.2");
        assert_null(n.addresses[0].mac);
        assert_null(n.project);
}

// ---- traps ---------------------------------------------------------------------------------

#define CREATED(payload)                                                                           \
        "{\"event_type\": \"compute.instance.create.end\", \"payload\": " payload "}"

static void test_metadata_may_be_a_list(void **state)
{
        _cleanup_notification_ Notification empty = {0}, pairs = {0};

        (void)state;
        assert_int_equal(decode(CREATED("{\"instance_id\": \"a\", \"metadata\": []}"), &empty), 0);
        assert_int_equal(empty.metadata.n, 0);
        assert_int_equal(decode(CREATED("{\"instance_id\": \"a\", \"metadata\": [7, null, {}, "
                                        "{\"key\": \"AQ_OS\", \"value\": \"sl\"}, {\"key\": 3}]}"),
                                &pairs),
                         0);
        assert_string_equal(notification_value(&pairs.metadata, "AQ_OS"), "sl");
        assert_int_equal(pairs.metadata.n, 1);
}

static void test_nulls_and_numbers(void **state)
{
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(
                decode(CREATED("{\"instance_id\": \"a\", \"host\": null, \"display_name\": 7,"
                               " \"vcpus\": \"2\", \"memory_mb\": \"much\", \"metadata\": null,"
                               " \"image_meta\": {\"AQ_OSVERSION\": 9, \"AQ_OS\": null,"
                               " \"AQ_DOMAIN\": [1]}, \"fixed_ips\": {}}"),
                       &n),
                0);
        assert_null(n.vmhost);
        assert_string_equal(n.name, "7");
        assert_int_equal(n.vcpus, 2);
        assert_int_equal(n.memory_mb, 0);
        assert_string_equal(notification_value(&n.image, "AQ_OSVERSION"), "9");
        assert_null(notification_value(&n.image, "AQ_OS"));
        assert_null(notification_value(&n.image, "AQ_DOMAIN"));
}

static void test_upper_case_comes_before_lower(void **state)
{
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(
                decode(CREATED("{\"instance_id\": \"a\", \"metadata\": {\"aq_os\": \"low\","
                               " \"AQ_OS\": \"up\", \"aq_domain\": \"d\", \"x\": \"y\"}}"),
                       &n),
                0);
        assert_string_equal(notification_value(&n.metadata, "AQ_OS"), "up");
        assert_string_equal(notification_value(&n.metadata, "AQ_DOMAIN"), "d");
        assert_null(notification_value(&n.metadata, "x"));
}

static void test_addresses_that_are_none(void **state)
{
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(
                decode(CREATED("{\"instance_id\": \"a\", \"fixed_ips\": [null, {\"address\": "
                               "\"x\"},"
                               " {\"address\": \"2001:db8::1\", \"vif_mac\": \"fa:16:3e;reboot\"},"
                               " {\"address\": \"10.0.0.1\", \"vif_mac\": "
                               "\"FA:16:3E:00:00:01\"}]}"),
                       &n),
                0);
        assert_int_equal(n.n_addresses, 2);
        assert_null(n.addresses[0].mac);
        assert_string_equal(n.addresses[1].mac, "FA:16:3E:00:00:01");
}

static void test_values_with_control_characters_are_none(void **state)
{
        _cleanup_notification_ Notification n = {0};

        (void)state;
        assert_int_equal(decode(CREATED("{\"instance_id\": \"a\", \"metadata\":"
                                        " {\"AQ_OS\": \"a\\nb\", \"AQ_X\\u0001\": \"v\"}}"),
                                &n),
                         0);
        assert_null(notification_value(&n.metadata, "AQ_OS"));
        assert_int_equal(n.metadata.n, 1);
}

static void test_what_is_none(void **state)
{
        (void)state;
        assert_refused("", "the message is not JSON");
        assert_refused("[]", "no object");
        assert_refused("{}", "no event_type");
        assert_refused("{\"event_type\": 7}", "no event_type");
        assert_refused("{\"oslo.message\": {}}", "no string");
        assert_refused("{\"oslo.message\": \"{secret\"}", "the oslo.message is not JSON");
        assert_refused(CREATED("[]"), "no payload");
        assert_refused(CREATED("{}"), "no instance_id");
        assert_refused(CREATED("{\"instance_id\": \"../../etc\"}"), "no instance_id");
}

static void test_the_error_shows_nothing_of_the_text(void **state)
{
        static const char text[] = "{\"_context_auth_token\": gAAAAsecret}";
        Notification n = {0};
        Error err = ERROR_NONE;

        (void)state;
        assert_true(notification_decode(text, sizeof text - 1, &n, &err) < 0);
        assert_null(strstr(err.text, "secret"));
}

static void test_too_large(void **state)
{
        _cleanup_free_ char *text = xcalloc(NOTIFICATION_MAX_BYTES + 1, 1);
        Notification n = {0};
        Error err = ERROR_NONE;

        (void)state;
        memset(text, ' ', NOTIFICATION_MAX_BYTES + 1);
        assert_int_equal(notification_decode(text, NOTIFICATION_MAX_BYTES + 1, &n, &err),
                         -EMSGSIZE);
}

// ---- again ---------------------------------------------------------------------------------

static void test_encoded_it_means_the_same(void **state)
{
        static const char *const names[] = {
                "compute.instance.create.end.envelope", "compute.instance.delete.start.envelope",
                "ceilometer.instance_create_end", "ceilometer.instance_delete_start"};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(names); at++) {
                _cleanup_free_ char *text = sample(names[at]), *once = NULL, *twice = NULL;
                _cleanup_notification_ Notification first = {0}, second = {0};

                assert_int_equal(decode(text, &first), 0);
                once = notification_encode(&first);
                assert_null(strstr(once, "auth_token"));
                assert_int_equal(decode(once, &second), 0);
                assert_int_equal(second.kind, first.kind);
                assert_string_equal(second.server, first.server);
                assert_int_equal(second.n_addresses, first.n_addresses);
                twice = notification_encode(&second);
                assert_string_equal(once, twice);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_created),
                cmocka_unit_test(test_deleted),
                cmocka_unit_test(test_others),
                cmocka_unit_test(test_without_envelope),
                cmocka_unit_test(test_metadata_may_be_a_list),
                cmocka_unit_test(test_nulls_and_numbers),
                cmocka_unit_test(test_upper_case_comes_before_lower),
                cmocka_unit_test(test_addresses_that_are_none),
                cmocka_unit_test(test_values_with_control_characters_are_none),
                cmocka_unit_test(test_what_is_none),
                cmocka_unit_test(test_the_error_shows_nothing_of_the_text),
                cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_encoded_it_means_the_same),
        };

        return cmocka_run_group_tests_name("notification", tests, NULL, NULL);
}
