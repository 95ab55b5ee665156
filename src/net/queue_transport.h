// What a transport of the queue implements; queue.c chooses one and dispatches to it. The contract
// of each function is that of its namesake in net/queue.h.
#pragma once

#include "net/queue.h"

typedef struct PublisherOps {
        int (*send)(Publisher *publisher, const Message *message, uint64_t token, Error *err);
        int (*fd)(const Publisher *publisher);
        int (*process)(Publisher *publisher, Error *err);
        int (*wait)(Publisher *publisher, size_t most, int64_t timeout_ms, Error *err);
        size_t (*unconfirmed)(const Publisher *publisher);
        void (*close)(Publisher *publisher);
} PublisherOps;

// The first member of a transport's own publisher, as Consumer below.
struct Publisher {
        const PublisherOps *ops;
        PublishDoneFn done;
        void *userdata;
};

typedef struct ConsumerOps {
        void (*ack)(Consumer *consumer, Delivery *delivery);
        void (*requeue)(Consumer *consumer, Delivery *delivery);
        void (*pause)(Consumer *consumer);
        void (*resume)(Consumer *consumer);
        void (*move)(Consumer *consumer, Delivery *delivery, const char *suffix,
                     const char *reason);
        // All NULL: there is no broker.
        void (*send)(Consumer *consumer, const Message *message, const SendSpec *spec,
                     uint64_t token);
        void (*drop)(Consumer *consumer, const char *suffix, uint64_t token);
        void (*lock)(Consumer *consumer, const LockSpec *spec);
        void (*unlock)(Consumer *consumer, const char *suffix);
        void (*knock)(Consumer *consumer, const char *suffix);
        void (*free)(Consumer *consumer);
} ConsumerOps;

struct Consumer {
        const ConsumerOps *ops;
        const QueueBinding *binding; // NULL: the queue is published to directly
        ConsumerCallbacks callbacks;
        void *userdata;
};

// `base` is copied, but for its ops.
int publisher_open_local(const Config *config, const Publisher *base, Publisher **ret,
                         Error *err) must_check;
int publisher_open_amqp(const Config *config, const Publisher *base, Publisher **ret,
                        Error *err) must_check;

int consumer_new_local(const Config *config, Store *store, sd_event *event, unsigned prefetch,
                       const Consumer *base, Consumer **ret, Error *err) must_check;
int consumer_new_amqp(const Config *config, sd_event *event, unsigned prefetch,
                      const Consumer *base, Consumer **ret, Error *err) must_check;

int queue_probe_local(const Config *config, int64_t *ret_ready, Error *err) must_check;
int queue_probe_amqp(const Config *config, int64_t *ret_ready, Error *err) must_check;
