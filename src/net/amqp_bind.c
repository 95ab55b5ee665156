// A queue that other programs publish to through an exchange.
#include "net/amqp_link.h"
#include "net/queue.h"
#include "util/alloc.h"

#define REPLY_ACCESS_REFUSED 403
#define REPLY_NOT_FOUND 404
#define REPLY_PRECONDITION_FAILED 406

static amqp_rpc_reply_t request_exchange(AmqpLink *link, amqp_channel_t channel,
                                         const QueueBinding *binding, bool passive)
{
        link_limit_request(link);
        (void)amqp_exchange_declare(link->conn, channel, amqp_cstring_bytes(binding->exchange),
                                    amqp_cstring_bytes("topic"), passive, binding->durable, 0, 0,
                                    amqp_empty_table);
        return amqp_get_rpc_reply(link->conn);
}

// Its durability must be that which the publishers ask for, or their own declarations fail. So one
// that is there is taken as it is.
static int ensure_exchange(AmqpLink *link, amqp_channel_t channel, const QueueBinding *binding,
                           Error *err)
{
        _cleanup_free_ char *what = xasprintf("declare exchange \"%s\"", binding->exchange);
        amqp_rpc_reply_t reply = request_exchange(link, channel, binding, true);
        int r;

        if (link_refusal_code(reply) != REPLY_NOT_FOUND)
                return link_check_reply(link, reply, what, err);
        r = link_reopen_channel(link, channel, err);
        if (r < 0)
                return r;
        reply = request_exchange(link, channel, binding, false);
        // Somebody has just declared it otherwise.
        if (link_refusal_code(reply) == REPLY_PRECONDITION_FAILED)
                return link_reopen_channel(link, channel, err);
        return link_check_reply(link, reply, what, err);
}

static int declare_queue(AmqpLink *link, amqp_channel_t channel, const char *queue,
                         const QueueBinding *binding, Error *err)
{
        _cleanup_free_ char *what = xasprintf("declare queue \"%s\"", queue);
        amqp_rpc_reply_t reply;

        link_limit_request(link);
        (void)amqp_queue_declare(link->conn, channel, amqp_cstring_bytes(queue), 0,
                                 binding->durable, 0, 0, amqp_empty_table);
        reply = amqp_get_rpc_reply(link->conn);
        if (link_refusal_code(reply) == REPLY_PRECONDITION_FAILED)
                return link_reopen_channel(link, channel, err);
        return link_check_reply(link, reply, what, err);
}

// A queue that was there has its binding from whoever made it, and we may not be allowed to bind.
static int bind_queue(AmqpLink *link, amqp_channel_t channel, const char *queue,
                      const QueueBinding *binding, bool was_there, Error *err)
{
        _cleanup_free_ char *what =
                xasprintf("bind queue \"%s\" to exchange \"%s\"", queue, binding->exchange);
        amqp_rpc_reply_t reply;
        int code;

        link_limit_request(link);
        (void)amqp_queue_bind(link->conn, channel, amqp_cstring_bytes(queue),
                              amqp_cstring_bytes(binding->exchange),
                              amqp_cstring_bytes(binding->routing_key), amqp_empty_table);
        reply = amqp_get_rpc_reply(link->conn);
        code = link_refusal_code(reply);
        if (was_there && (code == REPLY_ACCESS_REFUSED || code == REPLY_NOT_FOUND))
                return link_reopen_channel(link, channel, err);
        return link_check_reply(link, reply, what, err);
}

int link_ensure_bound(AmqpLink *link, amqp_channel_t channel, const char *queue,
                      const QueueBinding *binding, Error *err)
{
        int r = link_find_queue(link, channel, queue, NULL, err);
        bool was_there = r == 0;

        if (r < 0)
                return r;
        if (!was_there) {
                r = ensure_exchange(link, channel, binding, err);
                if (r == 0)
                        r = declare_queue(link, channel, queue, binding, err);
                if (r < 0)
                        return r;
        }
        return bind_queue(link, channel, queue, binding, was_there, err);
}
