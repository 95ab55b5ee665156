#include "net/amqp_message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/strutil.h"

#define HEADER_ENTRY "x-packuilon-entry"
#define HEADER_CONTENT_ID "x-packuilon-content-id"
#define HEADER_CHANGES "x-packuilon-changes"
#define HEADER_TEXT_MAX 4096
#define CONTENT_TYPE "application/json"
#define APP_ID "packuilon"
#define DELIVERY_PERSISTENT 2
#define MS_PER_SECOND 1000

// ---- Message to properties ----------------------------------------------------------------

static void add_header(OutgoingProperties *out, const char *key, const char *value)
{
        amqp_table_t *table = &out->properties.headers;

        if (!value)
                return;
        out->headers[table->num_entries++] = (amqp_table_entry_t){
                .key = amqp_cstring_bytes(key),
                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
        out->properties._flags |= AMQP_BASIC_HEADERS_FLAG;
}

static int check_length(const char *what, const char *text, size_t max, Error *err)
{
        if (text && strlen(text) > max)
                return error_set(err, EMSGSIZE, "the message's %s has %zu bytes; %zu is the limit",
                                 what, strlen(text), max);
        return 0;
}

static int check_lengths(const Message *message, Error *err)
{
        int r = check_length("message_id", message->message_id, AMQP_SHORT_MAX, err);

        if (r == 0)
                r = check_length("app_id", message->app_id, AMQP_SHORT_MAX, err);
        if (r == 0)
                r = check_length("entry", message->entry, HEADER_TEXT_MAX, err);
        if (r == 0)
                r = check_length("content id", message->content_id, HEADER_TEXT_MAX, err);
        if (r == 0)
                r = check_length("list of changes", message->changes, MESSAGE_CHANGES_MAX, err);
        if (r == 0)
                r = check_length("reason", message->reason, REASON_MAX, err);
        if (r == 0 && message->body_len > MESSAGE_MAX_BYTES)
                r = error_set(err, EMSGSIZE, "the message has %zu bytes; %u is the limit",
                              message->body_len, MESSAGE_MAX_BYTES);
        return r;
}

int message_to_properties(const Message *message, OutgoingProperties *ret, Error *err)
{
        int64_t now = clock_wall_ms() / MS_PER_SECOND;
        int r = check_lengths(message, err);

        if (r < 0)
                return r;
        *ret = (OutgoingProperties){
                .properties = {
                        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                                  AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_APP_ID_FLAG,
                        .content_type = amqp_cstring_bytes(CONTENT_TYPE),
                        .delivery_mode = DELIVERY_PERSISTENT,
                        .timestamp = (uint64_t)(message->timestamp > 0 ? message->timestamp : now),
                        .app_id = amqp_cstring_bytes(message->app_id ? message->app_id : APP_ID)}};
        ret->properties.headers.entries = ret->headers;
        if (message->message_id) {
                ret->properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
                ret->properties.message_id = amqp_cstring_bytes(message->message_id);
        }
        add_header(ret, HEADER_ENTRY, message->entry);
        add_header(ret, HEADER_CONTENT_ID, message->content_id);
        add_header(ret, HEADER_CHANGES, message->changes);
        add_header(ret, HEADER_REASON, message->reason);
        return 0;
}

// ---- properties to Message ----------------------------------------------------------------

static bool is_plain(const char *text, size_t len, bool lines)
{
        for (size_t at = 0; at < len; at++) {
                if (str_has_control(text + at, 1) && !(lines && text[at] == '\n'))
                        return false;
        }
        return str_is_utf8(text, len);
}

// From anybody who may publish: cut, and made visible where it is not plain text.
static char *take_text(amqp_bytes_t bytes, size_t max, bool lines)
{
        const char *text = bytes.bytes;

        if (!bytes.len)
                return NULL;
        if (bytes.len <= max && is_plain(text, bytes.len, lines))
                return xstrndup(text, bytes.len);
        return str_visible(text, bytes.len, max);
}

static bool key_is(amqp_bytes_t key, const char *name)
{
        return key.len == strlen(name) && memcmp(key.bytes, name, key.len) == 0;
}

static void take_header(const amqp_table_entry_t *header, const char *name, size_t max, bool lines,
                        char **slot)
{
        if (*slot || !key_is(header->key, name))
                return;
        if (header->value.kind == AMQP_FIELD_KIND_UTF8 ||
            header->value.kind == AMQP_FIELD_KIND_BYTES)
                *slot = take_text(header->value.value.bytes, max, lines);
}

void message_from_properties(const amqp_basic_properties_t *properties, Message *ret)
{
        *ret = (Message){0};
        if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
                ret->message_id = take_text(properties->message_id, AMQP_SHORT_MAX, false);
        if (properties->_flags & AMQP_BASIC_APP_ID_FLAG)
                ret->app_id = take_text(properties->app_id, AMQP_SHORT_MAX, false);
        if (properties->_flags & AMQP_BASIC_TIMESTAMP_FLAG && properties->timestamp <= INT64_MAX)
                ret->timestamp = (int64_t)properties->timestamp;
        if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG))
                return;
        for (int at = 0; at < properties->headers.num_entries; at++) {
                const amqp_table_entry_t *header = &properties->headers.entries[at];

                take_header(header, HEADER_ENTRY, HEADER_TEXT_MAX, false, &ret->entry);
                take_header(header, HEADER_CONTENT_ID, HEADER_TEXT_MAX, false, &ret->content_id);
                take_header(header, HEADER_CHANGES, MESSAGE_CHANGES_MAX, true, &ret->changes);
                take_header(header, HEADER_REASON, REASON_MAX, true, &ret->reason);
        }
}

void properties_with_reason(const amqp_basic_properties_t *original, const char *reason,
                            const char *message_id, OutgoingProperties *ret)
{
        amqp_table_t kept = {0};

        if (original->_flags & AMQP_BASIC_HEADERS_FLAG)
                kept = original->headers;
        *ret = (OutgoingProperties){.properties = *original};
        ret->properties._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
        ret->properties.delivery_mode = DELIVERY_PERSISTENT;
        // The broker would refuse another's name, and an expired message would be lost.
        ret->properties._flags &=
                ~(amqp_flags_t)(AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_EXPIRATION_FLAG);
        if (!(ret->properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG)) {
                ret->properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
                ret->properties.message_id = amqp_cstring_bytes(message_id);
        }
        ret->properties.headers = (amqp_table_t){.entries = ret->headers};
        add_header(ret, HEADER_REASON, reason);
        for (int at = 0; at < kept.num_entries; at++) {
                amqp_table_t *table = &ret->properties.headers;

                if (table->num_entries < HEADERS_MAX &&
                    !key_is(kept.entries[at].key, HEADER_REASON))
                        ret->headers[table->num_entries++] = kept.entries[at];
        }
}

void properties_expire(OutgoingProperties *properties, int64_t after_ms,
                       char text[static EXPIRATION_SIZE])
{
        (void)snprintf(text, EXPIRATION_SIZE, "%" PRId64, after_ms);
        properties->properties._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        properties->properties.expiration = amqp_cstring_bytes(text);
}

// ---- content in frames --------------------------------------------------------------------

void content_begin(Content *content)
{
        content_done(content);
        content->state = CONTENT_WANTS_HEADER;
}

void content_done(Content *content)
{
        buf_done(&content->body);
        *content = (Content){0};
}

int content_header(Content *content, uint64_t size, size_t keep)
{
        content->size = content->left = size;
        content->body.max = keep;
        content->state = size ? CONTENT_WANTS_BODY : CONTENT_COMPLETE;
        return size && size <= keep ? buf_reserve(&content->body, (size_t)size) : 0;
}

int content_body(Content *content, amqp_bytes_t bytes)
{
        size_t room = content->body.max - content->body.len;
        int r;

        if (bytes.len > content->left)
                return -EPROTO;
        content->left -= bytes.len;
        if (!content->left)
                content->state = CONTENT_COMPLETE;
        r = buf_append(&content->body, bytes.bytes, MIN(bytes.len, room));
        return r < 0 ? -EPROTO : 0;
}
