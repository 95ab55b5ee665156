// A logged-in connection to RabbitMQ, over rabbitmq-c: connecting, TLS, login, channels, queues,
// frames. Whatever fails is told with host:port, what was tried and what to mend; the password is
// never part of it.
//
// The calls that wait for an answer (link_open to link_select_confirms, link_close) share
// LINK_TIMEOUT_MS from the last link_open or link_allow_time, however many there are, so a loop
// that calls them is never held up longer (plus the resolver's time, net/tcp.h). Sending waits
// when the socket's buffer is full, for TCP_DEAD_SECONDS at most. Reading frames never waits.
#pragma once

#include <amqp.h>
#include <amqp_framing.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "util/error.h"

#define LINK_TIMEOUT_MS 5000
#define LINK_CLOSE_TIMEOUT_MS 1000
#define LINK_FRAME_MAX 131072 // RabbitMQ's default; larger bodies are sent in several frames

typedef struct AmqpLink {
        const GlobalConfig *global;   // borrowed
        amqp_connection_state_t conn; // NULL: not open
        char *peer;                   // "HOST:PORT"
        int64_t deadline_ms;          // monotonic; of the calls that wait
        long tls_refusal;             // X509_V_… code: why the certificate was refused
        bool lost;                    // no further call can succeed
} AmqpLink;

// heartbeat_seconds 0: none.
int link_open(AmqpLink *link, const Config *config, int heartbeat_seconds, Error *err) must_check;

// Says goodbye and waits for the answer, so that what was sent last is read, not reset; drops a
// link that is lost. Any state.
void link_close(AmqpLink *link);

// Drops the connection without a word: it is broken.
void link_drop(AmqpLink *link);

void link_allow_time(AmqpLink *link);
int link_fd(const AmqpLink *link);

int link_open_channel(AmqpLink *link, amqp_channel_t channel, Error *err) must_check;

// For a request that waits for its answer: it has the time that is left.
void link_limit_request(AmqpLink *link);

// The broker has closed the channel: agrees, and the number can be used again.
int link_agree_closed(AmqpLink *link, amqp_channel_t channel, Error *err) must_check;

// The same, after a refused request; and opens it again.
int link_reopen_channel(AmqpLink *link, amqp_channel_t channel, Error *err) must_check;

// Number of ready messages in a queue (ret_ready may be NULL), or LINK_NO_QUEUE. The channel is
// open again afterwards.
#define LINK_NO_QUEUE 1
int link_find_queue(AmqpLink *link, amqp_channel_t channel, const char *queue, int64_t *ret_ready,
                    Error *err) must_check;

// Uses the queue as it is, whatever its settings, or declares it durable without arguments.
int link_ensure_queue(AmqpLink *link, amqp_channel_t channel, const char *queue,
                      Error *err) must_check;

// amqp_bind.c. The same for a queue that is bound to an exchange. What is not there, exchange or
// queue, is made as the binding says.
struct QueueBinding;
int link_ensure_bound(AmqpLink *link, amqp_channel_t channel, const char *queue,
                      const struct QueueBinding *binding, Error *err) must_check;

// Declares a durable queue whose messages go to queue `return_to` when they expire, and that
// vanishes when nobody has declared it for RETURNING_QUEUE_DAYS. It does not wait for the answer:
// if there is one of that name with other settings, the broker closes the channel.
#define RETURNING_QUEUE_DAYS 45 // far beyond the longest LEASE; RabbitMQ takes 49 at most
int link_declare_returning(AmqpLink *link, amqp_channel_t channel, const char *queue,
                           const char *return_to, Error *err) must_check;

// Declares a durable queue that names its holder, and vanishes when it was not declared for
// lease_ms. It does not wait for the answer: if there is one of another holder, the broker closes
// the channel (406, "inequivalent arg"). It keeps the latest message only.
int link_declare_held(AmqpLink *link, amqp_channel_t channel, const char *queue, const char *holder,
                      int64_t lease_ms, Error *err) must_check;

int link_set_prefetch(AmqpLink *link, amqp_channel_t channel, uint16_t prefetch,
                      Error *err) must_check;
int link_consume(AmqpLink *link, amqp_channel_t channel, const char *queue, const char *tag,
                 Error *err) must_check;
int link_select_confirms(AmqpLink *link, amqp_channel_t channel, Error *err) must_check;

// One frame if it has arrived: LINK_FRAME, or 0. Its content lives until link_release of its
// channel. < 0: the connection is lost.
#define LINK_FRAME 1
int link_next_frame(AmqpLink *link, amqp_frame_t *ret_frame, Error *err) must_check;
void link_release(AmqpLink *link, amqp_channel_t channel);

int link_send(AmqpLink *link, amqp_channel_t channel, amqp_method_number_t method, void *fields,
              Error *err) must_check;
// The interval agreed on with the broker, seconds; 0: none.
int link_heartbeat(const AmqpLink *link);
int link_send_heartbeat(AmqpLink *link, Error *err) must_check;

// To the default exchange, with `mandatory`.
int link_publish(AmqpLink *link, amqp_channel_t channel, const char *queue,
                 const amqp_basic_properties_t *properties, amqp_bytes_t body,
                 Error *err) must_check;

// ---- amqp_error.c -------------------------------------------------------------------------

// A channel.close or connection.close that arrived unasked.
int link_closed_error(const AmqpLink *link, const amqp_method_t *method, Error *err);
// The library's status of a call on an open connection, which is lost now.
int link_status_error(AmqpLink *link, int status, Error *err);
// The answer to a request, `what` as in "declare queue \"q\""; 0 if it was granted. A refusal has
// closed the channel.
int link_check_reply(AmqpLink *link, amqp_rpc_reply_t reply, const char *what, Error *err);
int link_login_error(const AmqpLink *link, amqp_rpc_reply_t reply, Error *err);
// The broker's reply code of a refused request (404, …); 0 when it was not the broker's refusal.
int link_refusal_code(amqp_rpc_reply_t reply);
// A broker's text, safe to show. The caller frees.
char *link_visible(amqp_bytes_t text);

// ---- amqp_tls.c ---------------------------------------------------------------------------

// Connects and does the handshake; the peer must have a certificate for `rabbit_host` from
// RABBIT_TLS_CA or, without one, from the system's authorities.
int link_open_tls(AmqpLink *link, int64_t timeout_ms, Error *err) must_check;
