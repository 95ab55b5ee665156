#include "../unit.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "scan/cdp.h"
#include "scan/cdp_socket.h"
#include "util/alloc.h"
#include "util/macro.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static void test_accepted(void **state)
{
        static const struct {
                const char *data;
                size_t len;
                const char *type;
                int64_t time;
        } cases[] = {
                {BYTES("cdb\0001486571445"), "cdb", 1486571445},
                {BYTES("ccm\0001486571445"), "ccm", 1486571445},
                {BYTES("cdb\0001486571445\n"), "cdb", 1486571445},
                {BYTES("cdb\0000"), "cdb", 0},
                {BYTES("ccm\0009223372036854775807"), "ccm", INT64_MAX},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                CdpPacket packet;

                assert_true(cdp_parse(cases[i].data, cases[i].len, &packet));
                assert_string_equal(packet.type, cases[i].type);
                assert_int_equal(packet.time, cases[i].time);
        }
}

static void test_refused(void **state)
{
        static const struct {
                const char *data;
                size_t len;
        } cases[] = {
                {BYTES("")},
                {BYTES("cdb")},
                {BYTES("cdb\000")},
                {BYTES("cdb\000\n")},
                {BYTES("cdb|1486571445")},
                {BYTES("cdb 1486571445")},
                {BYTES("CDB\0001486571445")},
                {BYTES("cdx\0001486571445")},
                {BYTES("cdbb\0001486571445")},
                {BYTES(" cdb\0001486571445")},
                {BYTES("cdb\0001486571445\n\n")},
                {BYTES("cdb\0001486571445\r\n")},
                {BYTES("cdb\0001486571445 ")},
                {BYTES("cdb\0001486571445\000")},
                {BYTES("cdb\000-1")},
                {BYTES("cdb\000+1")},
                {BYTES("cdb\0001.5")},
                {BYTES("cdb\0000x10")},
                {BYTES("cdb\0009223372036854775808")},
                {BYTES("cdb\0000000000000000000000000000000000000000000000000000000000000000001")},
                {BYTES("12345678")},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                CdpPacket packet = {.time = 42};

                assert_false(cdp_parse(cases[i].data, cases[i].len, &packet));
                assert_int_equal(packet.time, 42);
        }
}

static void send_to(unsigned port, const void *data, size_t len)
{
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in to = {
                .sin_family = AF_INET,
                .sin_port = htons((uint16_t)port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };

        assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&to, sizeof to), len);
}

static CdpReceived send_and_receive(int fd, unsigned port, char *allowed, const char *data,
                                    size_t len)
{
        char *list[] = {allowed, NULL};
        char sender[CDP_SENDER_SIZE] = "";
        CdpSenders senders;
        CdpPacket packet;
        Error err = ERROR_NONE;
        CdpReceived received;
        int r = cdp_senders_init(&senders, list, &err);

        assert_ok(r, err);
        send_to(port, data, len);
        received = cdp_socket_receive(fd, &senders, &packet, sender);
        assert_string_equal(sender, "127.0.0.1");
        cdp_senders_done(&senders);
        return received;
}

static void check_socket(const char *address)
{
        static char loopback[] = "127.0.0.1", mapped[] = "::ffff:127.0.0.1", other[] = "192.0.2.1";
        _cleanup_close_ int fd = -1;
        const CdpSenders anybody = {.n = 0};
        char sender[CDP_SENDER_SIZE];
        unsigned port = 0;
        CdpPacket packet;
        Error err = ERROR_NONE;
        int r = cdp_socket_open(address, &fd, &port, &err);

        assert_ok(r, err);
        assert_int_not_equal(port, 0);
        assert_int_equal(cdp_socket_receive(fd, &anybody, &packet, sender), CDP_NOTHING);
        assert_int_equal(send_and_receive(fd, port, NULL, BYTES("cdb\0001")), CDP_ACCEPTED);
        assert_int_equal(send_and_receive(fd, port, loopback, BYTES("ccm\0001")), CDP_ACCEPTED);
        assert_int_equal(send_and_receive(fd, port, mapped, BYTES("cdb\0001")), CDP_ACCEPTED);
        assert_int_equal(send_and_receive(fd, port, other, BYTES("cdb\0001")), CDP_NOT_ALLOWED);
        assert_int_equal(send_and_receive(fd, port, NULL, BYTES("cdb|1")), CDP_MALFORMED);
        assert_int_equal(send_and_receive(fd, port, NULL, BYTES("")), CDP_MALFORMED);
        assert_int_equal(cdp_socket_receive(fd, &anybody, &packet, sender), CDP_NOTHING);
}

static void test_socket(void **state)
{
        (void)state;
        check_socket("127.0.0.1:0");
        check_socket("0.0.0.0:0");
        check_socket("*:0");
}

static void test_socket_ipv6(void **state)
{
        _cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        (void)state;
        if (fd < 0)
                skip();
        check_socket("[::]:0");
}

static void test_bad_addresses(void **state)
{
        static const char *const addresses[] = {
                "", "7777", "127.0.0.1:", "localhost:1", "127.0.0.1:http", "[::1:0", "192.0.2.1:1"};
        static char name[] = "localhost";
        char *const senders_list[] = {name, NULL};
        CdpSenders senders;
        Error err = ERROR_NONE;
        unsigned port;
        int fd = -1;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(addresses); i++) {
                assert_true(cdp_socket_open(addresses[i], &fd, &port, &err) < 0);
                assert_contains(err.text, "CDP_LISTEN: ");
        }
        assert_true(cdp_senders_init(&senders, senders_list, &err) < 0);
        assert_string_equal(err.text, "CDP_ALLOW: \"localhost\" is not an IP address");
}

static void test_port_in_use(void **state)
{
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *address = NULL;
        Error err = ERROR_NONE;
        unsigned port;
        int second = -1;
        int r = cdp_socket_open("127.0.0.1:0", &fd, &port, &err);

        (void)state;
        assert_ok(r, err);
        address = xasprintf("127.0.0.1:%u", port);
        assert_true(cdp_socket_open(address, &second, &port, &err) < 0);
        assert_contains(err.text, "is cdp-listend running?");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_accepted),      cmocka_unit_test(test_refused),
                cmocka_unit_test(test_socket),        cmocka_unit_test(test_socket_ipv6),
                cmocka_unit_test(test_bad_addresses), cmocka_unit_test(test_port_in_use),
        };

        return cmocka_run_group_tests_name("cdp", tests, NULL, NULL);
}
