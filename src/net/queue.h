// The work queue, over RabbitMQ (amqp_*.c) or a table of the store (local_*.c), with the same
// meaning: what was confirmed is kept, what is not acked comes again.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/config.h"
#include "core/message.h"
#include "core/store.h"
#include "util/error.h"

// ---- publishing ---------------------------------------------------------------------------

typedef struct Publisher Publisher;

// The fate of one message: err NULL means the broker has it safe (confirmed, and routed to a
// queue). Otherwise it is not queued and err says why (nacked, returned as unroutable, connection
// lost before the confirm).
typedef void (*PublishDoneFn)(uint64_t token, const Error *err, void *userdata);

// Connects, checks the login and declares the queue as upstream does (durable, no arguments); a
// queue that exists with other settings is used as it is. Errors name host, port, vhost or queue
// and what to do. No reconnecting: a publisher lives for one run.
int publisher_open(const Config *config, PublishDoneFn done, void *userdata, Publisher **ret,
                   Error *err) must_check;
void publisher_close(Publisher *publisher);
DEFINE_CLEANUP(Publisher, publisher_close)

// Sends persistently with `mandatory`. At most PUBLISH_WINDOW messages are unconfirmed: then this
// waits for a confirm. `token` comes back in the callback. < 0: the connection is gone, the message
// was not accepted (the callbacks of earlier ones have been called).
#define PUBLISH_WINDOW 256
int publisher_send(Publisher *publisher, const Message *message, uint64_t token,
                   Error *err) must_check;

// Readable when publisher_process has something to do; -1: never (local).
int publisher_fd(const Publisher *publisher);

// Takes what has arrived, without waiting.
int publisher_process(Publisher *publisher, Error *err) must_check;

// Waits until no more than `most` are unconfirmed. -ETIMEDOUT after timeout_ms without any
// progress.
int publisher_wait(Publisher *publisher, size_t most, int64_t timeout_ms, Error *err) must_check;

// Waits until nothing is unconfirmed.
int publisher_flush(Publisher *publisher, int64_t timeout_ms, Error *err) must_check;
size_t publisher_unconfirmed(const Publisher *publisher);

// ---- consuming ----------------------------------------------------------------------------

typedef struct Consumer Consumer;

typedef struct Delivery {
        Message message;
        uint64_t tag;        // the transport's
        uint64_t connection; // counts connections: a tag of an earlier one is stale
        bool redelivered;
} Delivery;

void delivery_free(Delivery *delivery);
DEFINE_CLEANUP(Delivery, delivery_free)

typedef struct ConsumerCallbacks {
        // A message arrived; the callee owns the delivery and will ack or requeue it.
        void (*on_delivery)(Consumer *consumer, Delivery *delivery, void *userdata);
        // Connected (err NULL) or lost, with the reason. Deliveries of a lost connection come again
        // from the queue: the callee forgets those it has not acked.
        void (*on_connection)(Consumer *consumer, const Error *err, void *userdata);
        // The fate of consumer_send: err NULL means that the broker has it safe.
        void (*on_sent)(Consumer *consumer, uint64_t token, const Error *err, void *userdata);
        // The answer to consumer_drop: err NULL means that `n` messages were there and are gone;
        // DROPPED_NO_QUEUE: there is no such queue.
        void (*on_dropped)(Consumer *consumer, uint64_t token, int64_t n, const Error *err,
                           void *userdata);
        // The answer to consumer_lock: ours, or another holder's; with err neither is known.
        // lease_ms: what it was made with, as far as that is known.
        void (*on_locked)(Consumer *consumer, const char *suffix, bool ours, int64_t lease_ms,
                          const Error *err, void *userdata);
        // … to consumer_unlock: what was ours is nobody's.
        void (*on_unlocked)(Consumer *consumer, const char *suffix, void *userdata);
        // Somebody knocks at a lock that we have.
        void (*on_knock)(Consumer *consumer, void *userdata);
} ConsumerCallbacks;

// Attaches to the event loop and starts to connect; reconnects for ever with growing delay
// (1 s to 60 s, jittered). `prefetch` deliveries at most are unacked at a time. `store` is the
// builds store (used by the local transport; borrowed). With TRANSPORT_LOCAL there is one consumer
// at a time; the caller holds the worker's lock.
int consumer_new(const Config *config, Store *store, sd_event *event, unsigned prefetch,
                 const ConsumerCallbacks *callbacks, void *userdata, Consumer **ret,
                 Error *err) must_check;

// Of a queue that others publish to through a topic exchange. If exchange or queue are not there
// they are made, durable or not: that must be what the publishers' own declarations say.
typedef struct QueueBinding {
        const char *exchange;
        const char *routing_key;
        bool durable;
} QueueBinding;

// The same over RabbitMQ, for a queue with a binding, which is borrowed.
int consumer_new_bound(const Config *config, sd_event *event, unsigned prefetch,
                       const QueueBinding *binding, const ConsumerCallbacks *callbacks,
                       void *userdata, Consumer **ret, Error *err) must_check;
void consumer_free(Consumer *consumer);
DEFINE_CLEANUP(Consumer, consumer_free)

// Consumes the delivery object. An ack of a stale delivery does nothing: it comes again, and the
// journal knows its message_id.
void consumer_ack(Consumer *consumer, Delivery *delivery);

// Back to its place in the queue, for whoever asks next.
void consumer_requeue(Consumer *consumer, Delivery *delivery);

// Stops and starts the flow of deliveries (those on their way may still arrive after pause).
void consumer_pause(Consumer *consumer);
void consumer_resume(Consumer *consumer);

// Moves a delivery to the queue "<QUEUE><suffix>" (declared durable if absent) with `reason` in
// header x-packuilon-reason: published, confirmed, and only then acked. If that fails the delivery
// is requeued. Consumes the delivery object.
void consumer_move(Consumer *consumer, Delivery *delivery, const char *suffix, const char *reason);

// ---- the consumer's own messages ------------------------------------------------------------

// True if the queue is a broker's, and the calls below do something. The local queue is a table of
// the store: what is there is safe, and has its queue, already.
bool consumer_has_broker(const Consumer *consumer);

typedef struct SendSpec {
        const char *suffix;      // of the queue "<QUEUE><suffix>"
        int64_t return_after_ms; // 0: it stays there
} SendSpec;

// Sends a copy of the message to another queue, which is made if absent; on_sent tells its fate,
// perhaps before this returns. With return_after_ms it comes to QUEUE by itself after that time,
// unless it is dropped before. Such a queue vanishes when nothing was sent there for weeks. Does
// nothing while there is no connection; and when the connection is lost what has had no answer gets
// none: whether the broker has it is then unknown.
void consumer_send(Consumer *consumer, const Message *message, const SendSpec *spec,
                   uint64_t token);

// Empties the queue "<QUEUE><suffix>" and tells by on_dropped; without a connection as above.
#define DROPPED_NO_QUEUE (-1)
void consumer_drop(Consumer *consumer, const char *suffix, uint64_t token);

typedef struct LockSpec {
        const char *suffix;
        const char *holder; // whoever asks in this name has it together with us
        int64_t lease_ms;   // it is gone when it was not asked for again within this time; one
                            // that is there keeps what it was made with
        bool hear_knocks;   // one lock of a consumer may: on_knock, until it is unlocked
} LockSpec;

// Asks for a lock that one holder at a time has, of all that use this broker, or asks for it again
// to keep it: a durable queue "<QUEUE><suffix>" that names its holder and expires. It survives a
// broken connection and a restart of the broker. on_locked answers; without a connection as above.
void consumer_lock(Consumer *consumer, const LockSpec *spec);

// Ends a lock of ours, whoever else shares it; on_unlocked answers. Without a connection it only
// expires.
void consumer_unlock(Consumer *consumer, const char *suffix);

// Lets the holder of a lock, if it hears knocks and is there, know that somebody wants it.
void consumer_knock(Consumer *consumer, const char *suffix);

// ---- looking ------------------------------------------------------------------------------

// For `packuilon check` and `status`: logs in and asks for the number of ready messages, without
// declaring anything. *ret_ready is -1 when the queue is not there yet.
int queue_probe(const Config *config, int64_t *ret_ready, Error *err) must_check;
