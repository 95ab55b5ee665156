// A Message and its AMQP form: properties, headers, and a body that arrives in frames.
#pragma once

#include <amqp.h>
#include <amqp_framing.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/message.h"
#include "util/buf.h"

#define AMQP_SHORT_MAX 255 // bytes of a short string: message_id, app_id, queue names, …
#define HEADER_REASON "x-packuilon-reason"
#define REASON_MAX 4096

// Our headers and room for those of others that are kept in a move.
#define HEADERS_MAX 64

typedef struct OutgoingProperties {
        amqp_basic_properties_t properties; // refers to `headers`, the Message and `now`
        amqp_table_entry_t headers[HEADERS_MAX];
} OutgoingProperties;

// persistent, application/json, message_id, timestamp (now unless it has one), app_id and the
// x-packuilon-… headers that are known. `ret` borrows from the message. -EMSGSIZE when a value is
// too long for its place.
int message_to_properties(const Message *message, OutgoingProperties *ret, Error *err) must_check;

// All but the body. Texts that are not UTF-8 or have control characters are made visible.
void message_from_properties(const amqp_basic_properties_t *properties, Message *ret);

// `original` with the reason as a header, persistent, and with this message_id if it has none;
// borrows from all.
void properties_with_reason(const amqp_basic_properties_t *original, const char *reason,
                            const char *message_id, OutgoingProperties *ret);

// The broker takes it out of its queue after this time. `text` is filled and borrowed.
#define EXPIRATION_SIZE 24
void properties_expire(OutgoingProperties *properties, int64_t after_ms,
                       char text[static EXPIRATION_SIZE]);

// ---- content in frames --------------------------------------------------------------------

typedef enum ContentState {
        CONTENT_NONE,
        CONTENT_WANTS_HEADER,
        CONTENT_WANTS_BODY,
        CONTENT_COMPLETE,
} ContentState;

typedef struct Content {
        ContentState state;
        uint64_t size; // as announced
        uint64_t left; // yet to come
        Buf body;      // the first bytes, up to the limit given
} Content;

void content_begin(Content *content); // a method that has content arrived
void content_done(Content *content);

// The header frame; `keep` limits what is kept of a body, the rest is read and dropped. A body
// that is to be kept whole is given its memory at once.
int content_header(Content *content, uint64_t size, size_t keep) must_check;
// -EPROTO when it is more than was announced.
int content_body(Content *content, amqp_bytes_t bytes) must_check;
