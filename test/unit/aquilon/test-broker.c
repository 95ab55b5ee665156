#include "../unit.h"

#include "aquilon/broker.h"
#include "util/alloc.h"

static const BrokerValues values = {
        .server = "s-1",
        .machine = "vm-7",
        .host = "h.example.org",
        .address = "10.0.0.1",
        .mac = "fa:16:3e:00:00:01",
        .prefix = "vm-",
        .model = "vm-openstack",
        .vmhost = "hv1",
        .cpus = "2",
        .memory = "2048",
        .archetype = "cloud",
        .personality = "a b&c=d",
        .os = "rocky",
        .os_version = "9",
        .domain = "prod",
};

static void assert_call(BrokerCall call, const char *expected)
{
        _cleanup_free_ char *path = broker_call_path(call, &values);
        _cleanup_free_ char *line = xasprintf("%s %s", broker_call_method(call), path);

        assert_string_equal(line, expected);
}

static void test_calls(void **state)
{
        (void)state;
        assert_call(BROKER_STATUS, "GET /status/server");
        assert_call(BROKER_FIND_MACHINE, "GET /find/machine?serial=s-1");
        assert_call(BROKER_FIND_HOST, "GET /find/host?machine=vm-7");
        assert_call(BROKER_SHOW_HOST, "GET /host/h.example.org");
        assert_call(BROKER_SHOW_MACHINE, "GET /machine/vm-7");
        assert_call(BROKER_DELETE_HOST, "DELETE /host/h.example.org");
        assert_call(BROKER_DELETE_ADDRESS,
                    "DELETE /interface_address?ip=10.0.0.1&machine=vm-7&interface=eth0");
        assert_call(BROKER_DELETE_INTERFACE,
                    "POST /interface/command/del?interface=eth0&machine=vm-7");
        assert_call(BROKER_DELETE_MACHINE, "DELETE /machine/vm-7");
        assert_call(BROKER_ADD_MACHINE, "PUT /next_machine/vm-?model=vm-openstack&serial=s-1"
                                        "&vmhost=hv1&cpucount=2&memory=2048");
        assert_call(BROKER_ADD_INTERFACE,
                    "PUT /machine/vm-7/interface/eth0?mac=fa%3A16%3A3e%3A00%3A00%3A01");
        assert_call(BROKER_SET_INTERFACE, "POST /machine/vm-7/interface/eth0?boot&default_route");
        assert_call(BROKER_ADD_HOST, "PUT /host/h.example.org?machine=vm-7&ip=10.0.0.1"
                                     "&archetype=cloud&personality=a%20b%26c%3Dd&osname=rocky"
                                     "&osversion=9&domain=prod");
        assert_call(BROKER_MAKE, "POST /host/h.example.org/command/make");
}

static void test_what_is_not_known_is_left_out(void **state)
{
        static const BrokerValues few = {.server = "s", .prefix = "p/..", .cpus = "1"};
        _cleanup_free_ char *path = broker_call_path(BROKER_ADD_MACHINE, &few);

        (void)state;
        assert_string_equal(path, "/next_machine/p%2F..?serial=s&cpucount=1");
}

static void test_words_in_a_text(void **state)
{
        (void)state;
        assert_true(broker_text_has("ip 10.0.0.1", "10.0.0.1"));
        assert_true(broker_text_has("[10.0.0.1]", "10.0.0.1"));
        assert_true(broker_text_has("at 10.0.0.1.", "10.0.0.1"));
        assert_false(broker_text_has("ip 10.0.0.15", "10.0.0.1"));
        assert_false(broker_text_has("ip 110.0.0.1", "10.0.0.1"));
        assert_false(broker_text_has("ip 10.0.0.1.5", "10.0.0.1"));
        assert_true(broker_text_has("eth01 eth0: x", "eth0"));
        assert_false(broker_text_has("eth01", "eth0"));
        assert_false(broker_text_has("", "eth0"));
}

static void test_machine_of_a_host(void **state)
{
        _cleanup_free_ char *found = broker_text_machine("Primary Name: x [1.2.3.4]\n"
                                                         "  Machine: vm-7 \r\n  Model: y\n");
        _cleanup_free_ char *last = broker_text_machine("Machine:vm-8");

        (void)state;
        assert_string_equal(found, "vm-7");
        assert_string_equal(last, "vm-8");
        assert_null(broker_text_machine("Sub Machine: vm-7\nnothing"));
        assert_null(broker_text_machine(""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calls),
                cmocka_unit_test(test_what_is_not_known_is_left_out),
                cmocka_unit_test(test_words_in_a_text),
                cmocka_unit_test(test_machine_of_a_host),
        };

        return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
