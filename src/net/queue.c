#include "net/queue.h"

#include "net/queue_transport.h"

int publisher_open(const Config *config, PublishDoneFn done, void *userdata, Publisher **ret,
                   Error *err)
{
        const Publisher base = {.done = done, .userdata = userdata};

        if (config->global.transport == TRANSPORT_LOCAL)
                return publisher_open_local(config, &base, ret, err);
        return publisher_open_amqp(config, &base, ret, err);
}

void publisher_close(Publisher *publisher)
{
        publisher->ops->close(publisher);
}

int publisher_send(Publisher *publisher, const Message *message, uint64_t token, Error *err)
{
        return publisher->ops->send(publisher, message, token, err);
}

int publisher_fd(const Publisher *publisher)
{
        return publisher->ops->fd(publisher);
}

int publisher_process(Publisher *publisher, Error *err)
{
        return publisher->ops->process(publisher, err);
}

int publisher_wait(Publisher *publisher, size_t most, int64_t timeout_ms, Error *err)
{
        return publisher->ops->wait(publisher, most, timeout_ms, err);
}

int publisher_flush(Publisher *publisher, int64_t timeout_ms, Error *err)
{
        return publisher_wait(publisher, 0, timeout_ms, err);
}

size_t publisher_unconfirmed(const Publisher *publisher)
{
        return publisher->ops->unconfirmed(publisher);
}

int consumer_new(const Config *config, Store *store, sd_event *event, unsigned prefetch,
                 const ConsumerCallbacks *callbacks, void *userdata, Consumer **ret, Error *err)
{
        const Consumer base = {.callbacks = *callbacks, .userdata = userdata};

        if (config->global.transport == TRANSPORT_LOCAL)
                return consumer_new_local(config, store, event, prefetch, &base, ret, err);
        return consumer_new_amqp(config, event, prefetch, &base, ret, err);
}

int consumer_new_bound(const Config *config, sd_event *event, unsigned prefetch,
                       const QueueBinding *binding, const ConsumerCallbacks *callbacks,
                       void *userdata, Consumer **ret, Error *err)
{
        const Consumer base = {.binding = binding, .callbacks = *callbacks, .userdata = userdata};

        return consumer_new_amqp(config, event, prefetch, &base, ret, err);
}

void consumer_free(Consumer *consumer)
{
        consumer->ops->free(consumer);
}

void consumer_ack(Consumer *consumer, Delivery *delivery)
{
        consumer->ops->ack(consumer, delivery);
}

void consumer_requeue(Consumer *consumer, Delivery *delivery)
{
        consumer->ops->requeue(consumer, delivery);
}

void consumer_pause(Consumer *consumer)
{
        consumer->ops->pause(consumer);
}

void consumer_resume(Consumer *consumer)
{
        consumer->ops->resume(consumer);
}

void consumer_move(Consumer *consumer, Delivery *delivery, const char *suffix, const char *reason)
{
        consumer->ops->move(consumer, delivery, suffix, reason);
}

bool consumer_has_broker(const Consumer *consumer)
{
        return consumer->ops->send;
}

void consumer_send(Consumer *consumer, const Message *message, const SendSpec *spec, uint64_t token)
{
        if (consumer->ops->send)
                consumer->ops->send(consumer, message, spec, token);
}

void consumer_drop(Consumer *consumer, const char *suffix, uint64_t token)
{
        if (consumer->ops->drop)
                consumer->ops->drop(consumer, suffix, token);
}

void consumer_lock(Consumer *consumer, const LockSpec *spec)
{
        if (consumer->ops->lock)
                consumer->ops->lock(consumer, spec);
}

void consumer_unlock(Consumer *consumer, const char *suffix)
{
        if (consumer->ops->unlock)
                consumer->ops->unlock(consumer, suffix);
}

void consumer_knock(Consumer *consumer, const char *suffix)
{
        if (consumer->ops->knock)
                consumer->ops->knock(consumer, suffix);
}

void delivery_free(Delivery *delivery)
{
        message_done(&delivery->message);
        free(delivery);
}

int queue_probe(const Config *config, int64_t *ret_ready, Error *err)
{
        if (config->global.transport == TRANSPORT_LOCAL)
                return queue_probe_local(config, ret_ready, err);
        return queue_probe_amqp(config, ret_ready, err);
}
