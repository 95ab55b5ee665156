#include "../unit.h"

#include <errno.h>

#include "net/amqp_message.h"
#include "util/alloc.h"

static amqp_bytes_t bytes(char *text)
{
        return (amqp_bytes_t){strlen(text), text};
}

static amqp_table_entry_t text_header(const char *key, char *value)
{
        return (amqp_table_entry_t){
                .key = amqp_cstring_bytes(key),
                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes(value)}};
}

static char body[] = "{}", id[] = "id-1", app[] = "cdb2rabbit", entry[] = "a.json",
            content_id[] = "abc", changes[] = "/a\n/b", reason[] = "why";

static void test_all_properties_survive_the_round(void **state)
{
        const Message message = {.body = body,
                                 .body_len = 2,
                                 .message_id = id,
                                 .app_id = app,
                                 .entry = entry,
                                 .content_id = content_id,
                                 .changes = changes,
                                 .reason = reason,
                                 .timestamp = 1600000000};
        _cleanup_(message_done) Message back = {0};
        OutgoingProperties outgoing;
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(message_to_properties(&message, &outgoing, &err), err);
        assert_int_equal(outgoing.properties.delivery_mode, 2);
        assert_memory_equal(outgoing.properties.content_type.bytes, "application/json", 16);
        message_from_properties(&outgoing.properties, &back);
        assert_string_equal(back.message_id, id);
        assert_string_equal(back.app_id, app);
        assert_string_equal(back.entry, entry);
        assert_string_equal(back.content_id, content_id);
        assert_string_equal(back.changes, changes);
        assert_string_equal(back.reason, reason);
        assert_int_equal(back.timestamp, 1600000000);
}

static void test_bare_message_gets_the_needful(void **state)
{
        const Message message = {.body = body, .body_len = 2};
        _cleanup_(message_done) Message back = {0};
        OutgoingProperties outgoing;
        Error err = ERROR_NONE;

        (void)state;
        assert_ok(message_to_properties(&message, &outgoing, &err), err);
        assert_int_equal(outgoing.properties._flags & AMQP_BASIC_HEADERS_FLAG, 0);
        message_from_properties(&outgoing.properties, &back);
        assert_null(back.message_id);
        assert_null(back.entry);
        assert_string_equal(back.app_id, "packuilon");
        assert_true(back.timestamp > 1600000000);
}

static void test_too_long_values_are_refused(void **state)
{
        _cleanup_free_ char *longest = xcalloc(MESSAGE_CHANGES_MAX + 2, 1);
        const Message messages[] = {
                {.message_id = longest},
                {.app_id = longest},
                {.entry = longest},
                {.content_id = longest},
                {.changes = longest},
                {.reason = longest},
                {.body_len = (size_t)MESSAGE_MAX_BYTES + 1},
        };

        (void)state;
        memset(longest, 'x', MESSAGE_CHANGES_MAX + 1);
        for (size_t at = 0; at < ELEMENTSOF(messages); at++) {
                OutgoingProperties outgoing;
                Error err = ERROR_NONE;

                assert_int_equal(message_to_properties(&messages[at], &outgoing, &err), -EMSGSIZE);
                assert_contains(err.text, "limit");
        }
}

static void test_foreign_properties_are_made_safe(void **state)
{
        static char control[] = "a\nb\x1b", broken[] = "\xff\xfe", lines[] = "/a\n/b\x01",
                    second[] = "second";
        _cleanup_free_ char *longest = xcalloc(6000, 1);
        amqp_table_entry_t headers[] = {
                text_header("x-packuilon-content-id", broken),
                text_header("x-packuilon-changes", lines),
                {.key = amqp_cstring_bytes("x-packuilon-entry"),
                 .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 5}},
                text_header("x-packuilon-reason", longest),
                text_header("x-packuilon-content-id", second),
        };
        const amqp_basic_properties_t properties = {
                ._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG |
                          AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_APP_ID_FLAG,
                .message_id = bytes(control),
                .app_id = {0, NULL},
                .timestamp = UINT64_MAX,
                .headers = {ELEMENTSOF(headers), headers}};
        _cleanup_(message_done) Message message = {0};

        (void)state;
        memset(longest, 'r', 5999);
        headers[3] = text_header("x-packuilon-reason", longest);
        message_from_properties(&properties, &message);
        assert_string_equal(message.message_id, "a\\x0ab\\x1b");
        assert_null(message.app_id);
        assert_int_equal(message.timestamp, 0);
        assert_string_equal(message.content_id, "\\xff\\xfe");
        assert_contains(message.changes, "\\x01");
        assert_null(message.entry);
        assert_true(strlen(message.reason) < 5000);
}

static void test_reason_is_added_and_the_rest_kept(void **state)
{
        static char value[] = "v", old[] = "old", type[] = "t";
        amqp_table_entry_t headers[] = {text_header("x-packuilon-reason", old),
                                        text_header("other", value)};
        const amqp_basic_properties_t original = {
                ._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_TYPE_FLAG |
                          AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_USER_ID_FLAG,
                .type = bytes(type),
                .headers = {ELEMENTSOF(headers), headers}};
        OutgoingProperties outgoing;
        const amqp_table_t *table = &outgoing.properties.headers;

        (void)state;
        properties_with_reason(&original, "new", "made", &outgoing);
        assert_int_equal(table->num_entries, 2);
        assert_memory_equal(table->entries[0].value.value.bytes.bytes, "new", 3);
        assert_memory_equal(table->entries[1].key.bytes, "other", 5);
        assert_int_equal(outgoing.properties.delivery_mode, 2);
        assert_memory_equal(outgoing.properties.message_id.bytes, "made", 4);
        assert_int_equal(outgoing.properties._flags &
                                 (AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_USER_ID_FLAG),
                         0);
        assert_int_equal(outgoing.properties._flags & AMQP_BASIC_TYPE_FLAG, AMQP_BASIC_TYPE_FLAG);
}

static void test_reason_for_a_bare_message(void **state)
{
        const amqp_basic_properties_t original = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                                  .message_id = bytes(id)};
        OutgoingProperties outgoing;

        (void)state;
        properties_with_reason(&original, "why", "made", &outgoing);
        assert_int_equal(outgoing.properties.headers.num_entries, 1);
        assert_memory_equal(outgoing.properties.message_id.bytes, "id-1", 4);
}

static void test_more_headers_than_are_kept(void **state)
{
        static char value[] = "v";
        amqp_table_entry_t headers[HEADERS_MAX + 10];
        const amqp_basic_properties_t original = {._flags = AMQP_BASIC_HEADERS_FLAG,
                                                  .headers = {ELEMENTSOF(headers), headers}};
        OutgoingProperties outgoing;

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(headers); at++)
                headers[at] = text_header("h", value);
        properties_with_reason(&original, "why", "made", &outgoing);
        assert_int_equal(outgoing.properties.headers.num_entries, HEADERS_MAX);
}

// ---- content in frames --------------------------------------------------------------------

static void test_body_comes_in_parts(void **state)
{
        static char first[] = "hel", second[] = "lo";
        Content content = {0};
        _cleanup_free_ char *whole = NULL;
        size_t len;

        (void)state;
        content_begin(&content);
        assert_int_equal(content.state, CONTENT_WANTS_HEADER);
        assert_int_equal(content_header(&content, 5, 5), 0);
        assert_int_equal(content_body(&content, bytes(first)), 0);
        assert_int_equal(content.state, CONTENT_WANTS_BODY);
        assert_int_equal(content_body(&content, bytes(second)), 0);
        assert_int_equal(content.state, CONTENT_COMPLETE);
        whole = buf_take(&content.body, &len);
        assert_string_equal(whole, "hello");
        content_done(&content);
}

static void test_empty_body_is_complete_at_once(void **state)
{
        Content content = {0};
        _cleanup_free_ char *whole = NULL;
        size_t len;

        (void)state;
        content_begin(&content);
        assert_int_equal(content_header(&content, 0, 0), 0);
        assert_int_equal(content.state, CONTENT_COMPLETE);
        whole = buf_take(&content.body, &len);
        assert_string_equal(whole, "");
        assert_int_equal(len, 0);
}

static void test_oversize_body_is_cut(void **state)
{
        static char part[] = "0123456789";
        Content content = {0};

        (void)state;
        content_begin(&content);
        assert_int_equal(content_header(&content, 30, 15), 0);
        for (int n = 0; n < 3; n++)
                assert_int_equal(content_body(&content, bytes(part)), 0);
        assert_int_equal(content.state, CONTENT_COMPLETE);
        assert_int_equal(content.body.len, 15);
        content_done(&content);
}

static void test_more_than_announced_is_refused(void **state)
{
        static char part[] = "0123456789";
        Content content = {0};

        (void)state;
        content_begin(&content);
        assert_int_equal(content_header(&content, 5, 5), 0);
        assert_int_equal(content_body(&content, bytes(part)), -EPROTO);
        content_done(&content);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_properties_survive_the_round),
                cmocka_unit_test(test_bare_message_gets_the_needful),
                cmocka_unit_test(test_too_long_values_are_refused),
                cmocka_unit_test(test_foreign_properties_are_made_safe),
                cmocka_unit_test(test_reason_is_added_and_the_rest_kept),
                cmocka_unit_test(test_reason_for_a_bare_message),
                cmocka_unit_test(test_more_headers_than_are_kept),
                cmocka_unit_test(test_body_comes_in_parts),
                cmocka_unit_test(test_empty_body_is_complete_at_once),
                cmocka_unit_test(test_oversize_body_is_cut),
                cmocka_unit_test(test_more_than_announced_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
