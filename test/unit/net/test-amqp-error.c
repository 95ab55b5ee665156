#include "../unit.h"

#include <errno.h>

#include "net/amqp_link.h"

static char user[] = "aq", password[] = "top-secret", vhost[] = "/factory", peer[] = "rabbit:5672";
static const GlobalConfig config = {
        .rabbit_user = user, .rabbit_pw = password, .rabbit_vhost = vhost};

static AmqpLink make_link(void)
{
        return (AmqpLink){.global = &config, .peer = peer};
}

static amqp_rpc_reply_t library(int status)
{
        return (amqp_rpc_reply_t){.reply_type = AMQP_RESPONSE_LIBRARY_EXCEPTION,
                                  .library_error = status};
}

static amqp_rpc_reply_t refused(amqp_channel_close_t *fields)
{
        return (amqp_rpc_reply_t){.reply_type = AMQP_RESPONSE_SERVER_EXCEPTION,
                                  .reply = {AMQP_CHANNEL_CLOSE_METHOD, fields}};
}

static amqp_rpc_reply_t thrown_out(amqp_connection_close_t *fields)
{
        return (amqp_rpc_reply_t){.reply_type = AMQP_RESPONSE_SERVER_EXCEPTION,
                                  .reply = {AMQP_CONNECTION_CLOSE_METHOD, fields}};
}

typedef struct Case {
        uint16_t code; // 0: the library's
        int status;
        const char *text;
        int expected;
        const char *words[3];
} Case;

static void check(const Case *c, const Error *err, int r)
{
        assert_int_equal(r, -c->expected);
        assert_contains(err->text, "rabbit:5672");
        for (size_t at = 0; at < ELEMENTSOF(c->words) && c->words[at]; at++)
                assert_contains(err->text, c->words[at]);
        assert_null(strstr(err->text, password));
}

static void test_logins(void **state)
{
        static const Case cases[] = {
                {403, 0, "ACCESS_REFUSED - Login", EACCES, {"RABBIT_PW", "\"aq\""}},
                {530, 0, "NOT_ALLOWED - vhost /factory not found", ENOENT, {"RABBIT_VHOST"}},
                {530, 0, "NOT_ALLOWED - access refused", EACCES, {"set_permissions"}},
                {541, 0, "INTERNAL_ERROR - down", EPROTO, {"541", "down"}},
                {0, AMQP_STATUS_TIMEOUT, "", ETIMEDOUT, {"RABBIT_PORT"}},
                {0, AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD, "", EPROTO, {"PLAIN"}},
                {0, AMQP_STATUS_BAD_AMQP_DATA, "", EPROTO, {"RABBIT_TLS", "AMQP 0-9-1"}},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const Case *c = &cases[at];
                AmqpLink link = make_link();
                amqp_connection_close_t fields = {.reply_code = c->code,
                                                  .reply_text = amqp_cstring_bytes(c->text)};
                amqp_rpc_reply_t reply = c->code ? thrown_out(&fields) : library(c->status);
                Error err = ERROR_NONE;

                check(c, &err, link_login_error(&link, reply, &err));
        }
}

static void test_requests(void **state)
{
        static const Case cases[] = {
                {403, 0, "ACCESS_REFUSED - x", EACCES, {"cannot eat", "set_permissions", "\"aq\""}},
                {404, 0, "NOT_FOUND - x", ENOENT, {"cannot eat", "404 NOT_FOUND"}},
                {406, 0, "PRECONDITION\nFAILED", EPROTO, {"PRECONDITION\\x0aFAILED"}},
                {0, AMQP_STATUS_TIMEOUT, "", ETIMEDOUT, {"cannot eat", "5 s"}},
                {0, AMQP_STATUS_CONNECTION_CLOSED, "", ECONNRESET, {"broke"}},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                const Case *c = &cases[at];
                AmqpLink link = make_link();
                amqp_channel_close_t fields = {.reply_code = c->code,
                                               .reply_text = amqp_cstring_bytes(c->text)};
                amqp_rpc_reply_t reply = c->code ? refused(&fields) : library(c->status);
                Error err = ERROR_NONE;

                assert_int_equal(link_refusal_code(reply), c->code);
                check(c, &err, link_check_reply(&link, reply, "eat", &err));
                assert_int_equal(link.lost, c->code == 0);
        }
}

static void test_granted_request(void **state)
{
        AmqpLink link = make_link();
        amqp_rpc_reply_t reply = {.reply_type = AMQP_RESPONSE_NORMAL};

        (void)state;
        assert_int_equal(link_check_reply(&link, reply, "eat", NULL), 0);
        assert_int_equal(link_refusal_code(reply), 0);
        assert_false(link.lost);
}

static void test_connection_closed_during_a_request(void **state)
{
        AmqpLink link = make_link();
        amqp_connection_close_t fields = {.reply_code = 320,
                                          .reply_text = amqp_cstring_bytes("CONNECTION_FORCED")};
        amqp_rpc_reply_t reply = thrown_out(&fields);
        Error err = ERROR_NONE;

        (void)state;
        assert_true(link_check_reply(&link, reply, "eat", &err) < 0);
        assert_true(link.lost);
        assert_true(link_closed_error(&link, &reply.reply, &err) < 0);
        assert_contains(err.text, "closed the connection: 320 CONNECTION_FORCED");
}

static void test_every_status_has_words(void **state)
{
        static const int statuses[] = {AMQP_STATUS_SOCKET_CLOSED, AMQP_STATUS_SOCKET_ERROR,
                                       AMQP_STATUS_HEARTBEAT_TIMEOUT, AMQP_STATUS_UNKNOWN_METHOD};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(statuses); at++) {
                AmqpLink link = make_link();
                Error err = ERROR_NONE;

                assert_true(link_status_error(&link, statuses[at], &err) < 0);
                assert_contains(err.text, "rabbit:5672");
                assert_true(link.lost);
        }
}

static void test_headers_that_do_not_fit(void **state)
{
        AmqpLink link = make_link();
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(link_status_error(&link, AMQP_STATUS_TABLE_TOO_BIG, &err), -EMSGSIZE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_logins),
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_granted_request),
                cmocka_unit_test(test_connection_closed_during_a_request),
                cmocka_unit_test(test_every_status_has_words),
                cmocka_unit_test(test_headers_that_do_not_fit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
