#include "net/amqp_link.h"

#include <amqp_tcp_socket.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "net/tcp.h"
#include "util/alloc.h"
#include "util/clock.h"

#define HOST_NAME_SIZE (HOST_NAME_MAX + 1)
#define REPLY_PRECONDITION_FAILED 406
#define REPLY_NOT_FOUND 404
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)
#define FRAME_OVERHEAD 8 // of a body frame: seven bytes in front, one behind

// ---- time ---------------------------------------------------------------------------------

void link_allow_time(AmqpLink *link)
{
        link->deadline_ms = clock_mono_ms() + LINK_TIMEOUT_MS;
}

static struct timeval to_timeval(int64_t ms)
{
        return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static int64_t time_left_ms(const AmqpLink *link)
{
        return MAX(link->deadline_ms - clock_mono_ms(), 1);
}

void link_limit_request(AmqpLink *link)
{
        const struct timeval left = to_timeval(time_left_ms(link));

        (void)amqp_set_rpc_timeout(link->conn, &left);
}

// ---- opening and closing ------------------------------------------------------------------

static int open_tcp(AmqpLink *link, Error *err)
{
        const GlobalConfig *global = link->global;
        amqp_socket_t *socket = amqp_tcp_socket_new(link->conn);
        int fd = -1, r;

        if (!socket)
                return error_set(err, ENOMEM, "cannot set up a connection");
        r = tcp_connect(global->rabbit_host, global->rabbit_port, time_left_ms(link), &fd, err);
        if (r == 0)
                amqp_tcp_socket_set_sockfd(socket, fd);
        return r;
}

static amqp_table_entry_t text_entry(const char *key, const char *text)
{
        return (amqp_table_entry_t){
                .key = amqp_cstring_bytes(key),
                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(text)}};
}

static amqp_table_entry_t true_entry(const char *key)
{
        return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                    .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

static amqp_table_entry_t number_entry(const char *key, int64_t number)
{
        return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = number}};
}

static amqp_rpc_reply_t request_login(AmqpLink *link, int heartbeat_seconds)
{
        const GlobalConfig *global = link->global;
        char host[HOST_NAME_SIZE] = "";
        _cleanup_free_ char *name = NULL;
        amqp_table_entry_t capabilities[] = {
                true_entry("connection.blocked"), true_entry("consumer_cancel_notify"),
                true_entry("basic.nack"), true_entry("publisher_confirms")};
        amqp_table_entry_t properties[4];

        (void)gethostname(host, sizeof host - 1);
        name = xasprintf("%s on %s, pid %ld", program_invocation_short_name, host, (long)getpid());
        properties[0] = text_entry("product", "packuilon");
        properties[1] = text_entry("version", PACKUILON_VERSION);
        properties[2] = text_entry("connection_name", name); // RabbitMQ's management page shows it
        properties[3] = (amqp_table_entry_t){
                .key = amqp_cstring_bytes("capabilities"),
                .value = {.kind = AMQP_FIELD_KIND_TABLE,
                          .value.table = {ELEMENTSOF(capabilities), capabilities}}};
        return amqp_login_with_properties(
                link->conn, global->rabbit_vhost, 0, LINK_FRAME_MAX, heartbeat_seconds,
                &(amqp_table_t){ELEMENTSOF(properties), properties}, AMQP_SASL_METHOD_PLAIN,
                global->rabbit_user ? global->rabbit_user : "",
                global->rabbit_pw ? global->rabbit_pw : "");
}

static int log_in(AmqpLink *link, int heartbeat_seconds, Error *err)
{
        const struct timeval left = to_timeval(time_left_ms(link));
        amqp_rpc_reply_t reply;

        (void)amqp_set_handshake_timeout(link->conn, &left);
        reply = request_login(link, heartbeat_seconds);
        return reply.reply_type == AMQP_RESPONSE_NORMAL ? 0 : link_login_error(link, reply, err);
}

int link_open(AmqpLink *link, const Config *config, int heartbeat_seconds, Error *err)
{
        const GlobalConfig *global = &config->global;
        int r;

        *link = (AmqpLink){
                .global = global,
                .conn = amqp_new_connection(),
                .peer = xasprintf("%s:%u", global->rabbit_host, (unsigned)global->rabbit_port)};
        link_allow_time(link);
        if (!link->conn)
                r = error_set(err, ENOMEM, "cannot set up a connection");
        else if (global->rabbit_tls)
                r = link_open_tls(link, time_left_ms(link), err);
        else
                r = open_tcp(link, err);
        if (r == 0)
                r = log_in(link, heartbeat_seconds, err);
        if (r < 0)
                link_drop(link);
        return r;
}

void link_drop(AmqpLink *link)
{
        if (link->conn)
                (void)amqp_destroy_connection(link->conn);
        link->conn = NULL;
        free(TAKE_PTR(link->peer));
}

void link_close(AmqpLink *link)
{
        const struct timeval timeout = to_timeval(LINK_CLOSE_TIMEOUT_MS);

        if (link->conn && !link->lost) {
                (void)amqp_set_rpc_timeout(link->conn, &timeout);
                (void)amqp_connection_close(link->conn, AMQP_REPLY_SUCCESS);
        }
        link_drop(link);
}

int link_fd(const AmqpLink *link)
{
        return link->conn ? amqp_get_sockfd(link->conn) : -1;
}

// ---- requests that wait for their answer --------------------------------------------------

int link_open_channel(AmqpLink *link, amqp_channel_t channel, Error *err)
{
        link_limit_request(link);
        (void)amqp_channel_open(link->conn, channel);
        return link_check_reply(link, amqp_get_rpc_reply(link->conn), "open a channel", err);
}

int link_agree_closed(AmqpLink *link, amqp_channel_t channel, Error *err)
{
        amqp_channel_close_ok_t agreed = {0};

        return link_send(link, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &agreed, err);
}

int link_reopen_channel(AmqpLink *link, amqp_channel_t channel, Error *err)
{
        int r = link_agree_closed(link, channel, err);

        return r < 0 ? r : link_open_channel(link, channel, err);
}

int link_find_queue(AmqpLink *link, amqp_channel_t channel, const char *queue, int64_t *ret_ready,
                    Error *err)
{
        _cleanup_free_ char *what = xasprintf("look at queue \"%s\"", queue);
        const amqp_queue_declare_ok_t *found;
        amqp_rpc_reply_t reply;

        link_limit_request(link);
        found = amqp_queue_declare(link->conn, channel, amqp_cstring_bytes(queue), 1, 0, 0, 0,
                                   amqp_empty_table);
        reply = amqp_get_rpc_reply(link->conn);
        if (link_refusal_code(reply) == REPLY_NOT_FOUND) {
                int r = link_reopen_channel(link, channel, err);

                return r < 0 ? r : LINK_NO_QUEUE;
        }
        if (found && ret_ready)
                *ret_ready = found->message_count;
        return link_check_reply(link, reply, what, err);
}

int link_ensure_queue(AmqpLink *link, amqp_channel_t channel, const char *queue, Error *err)
{
        _cleanup_free_ char *what = xasprintf("declare queue \"%s\"", queue);
        amqp_rpc_reply_t reply;
        int r = link_find_queue(link, channel, queue, NULL, err);

        if (r != LINK_NO_QUEUE)
                return r;
        link_limit_request(link);
        (void)amqp_queue_declare(link->conn, channel, amqp_cstring_bytes(queue), 0, 1, 0, 0,
                                 amqp_empty_table);
        reply = amqp_get_rpc_reply(link->conn);
        // Somebody has just declared it otherwise.
        if (link_refusal_code(reply) == REPLY_PRECONDITION_FAILED)
                return link_reopen_channel(link, channel, err);
        return link_check_reply(link, reply, what, err);
}

int link_declare_returning(AmqpLink *link, amqp_channel_t channel, const char *queue,
                           const char *return_to, Error *err)
{
        amqp_table_entry_t arguments[] = {
                text_entry("x-dead-letter-exchange", ""), // the default one: it routes to a queue
                text_entry("x-dead-letter-routing-key", return_to),
                number_entry("x-expires", RETURNING_QUEUE_DAYS * DAY_MS)};
        amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(queue),
                                        .durable = 1,
                                        .nowait = 1,
                                        .arguments = {ELEMENTSOF(arguments), arguments}};

        return link_send(link, channel, AMQP_QUEUE_DECLARE_METHOD, &declare, err);
}

// Of what RabbitMQ compares when a queue is declared again, the routing key of dead letters is the
// one argument that takes any text. There is no queue of the holder's name: what dies here is gone.
int link_declare_held(AmqpLink *link, amqp_channel_t channel, const char *queue, const char *holder,
                      int64_t lease_ms, Error *err)
{
        // A quorum queue, where that is the default, would not live longer for being declared
        // again.
        amqp_table_entry_t arguments[] = {
                text_entry("x-queue-type", "classic"), text_entry("x-dead-letter-exchange", ""),
                text_entry("x-dead-letter-routing-key", holder),
                number_entry("x-expires", lease_ms), number_entry("x-max-length", 1)};
        amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(queue),
                                        .durable = 1,
                                        .arguments = {ELEMENTSOF(arguments), arguments}};

        return link_send(link, channel, AMQP_QUEUE_DECLARE_METHOD, &declare, err);
}

int link_set_prefetch(AmqpLink *link, amqp_channel_t channel, uint16_t prefetch, Error *err)
{
        link_limit_request(link);
        (void)amqp_basic_qos(link->conn, channel, 0, prefetch, 0);
        return link_check_reply(link, amqp_get_rpc_reply(link->conn), "set the prefetch", err);
}

int link_consume(AmqpLink *link, amqp_channel_t channel, const char *queue, const char *tag,
                 Error *err)
{
        _cleanup_free_ char *what = xasprintf("consume from queue \"%s\"", queue);

        link_limit_request(link);
        (void)amqp_basic_consume(link->conn, channel, amqp_cstring_bytes(queue),
                                 amqp_cstring_bytes(tag), 0, 0, 0, amqp_empty_table);
        return link_check_reply(link, amqp_get_rpc_reply(link->conn), what, err);
}

int link_select_confirms(AmqpLink *link, amqp_channel_t channel, Error *err)
{
        link_limit_request(link);
        (void)amqp_confirm_select(link->conn, channel);
        return link_check_reply(link, amqp_get_rpc_reply(link->conn), "ask for confirms", err);
}

// ---- frames -------------------------------------------------------------------------------

int link_next_frame(AmqpLink *link, amqp_frame_t *ret_frame, Error *err)
{
        static const struct timeval at_once = {0};
        int status = amqp_simple_wait_frame_noblock(link->conn, ret_frame, &at_once);

        if (status == AMQP_STATUS_TIMEOUT)
                return 0;
        if (status != AMQP_STATUS_OK)
                return link_status_error(link, status, err);
        if (ret_frame->frame_type == AMQP_FRAME_METHOD &&
            ret_frame->payload.method.id == AMQP_CONNECTION_CLOSE_METHOD) {
                amqp_connection_close_ok_t agreed = {0};

                (void)amqp_send_method(link->conn, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &agreed);
                link->lost = true;
                return link_closed_error(link, &ret_frame->payload.method, err);
        }
        return LINK_FRAME;
}

void link_release(AmqpLink *link, amqp_channel_t channel)
{
        amqp_maybe_release_buffers_on_channel(link->conn, channel);
}

static int check_sent(AmqpLink *link, int status, Error *err)
{
        return status == AMQP_STATUS_OK ? 0 : link_status_error(link, status, err);
}

int link_send(AmqpLink *link, amqp_channel_t channel, amqp_method_number_t method, void *fields,
              Error *err)
{
        return check_sent(link, amqp_send_method(link->conn, channel, method, fields), err);
}

int link_heartbeat(const AmqpLink *link)
{
        return amqp_get_heartbeat(link->conn);
}

int link_send_heartbeat(AmqpLink *link, Error *err)
{
        const amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEARTBEAT};

        return check_sent(link, amqp_send_frame(link->conn, &frame), err);
}

int link_publish(AmqpLink *link, amqp_channel_t channel, const char *queue,
                 const amqp_basic_properties_t *properties, amqp_bytes_t body, Error *err)
{
        size_t frame_body = (size_t)amqp_get_frame_max(link->conn) - FRAME_OVERHEAD;
        int status = amqp_basic_publish(link->conn, channel, amqp_empty_bytes,
                                        amqp_cstring_bytes(queue), 1, 0, properties, body);

        // rabbitmq-c holds back a last frame that is exactly full, as if another came; setting the
        // options anew pushes it out.
        if (status == AMQP_STATUS_OK && body.len && body.len % frame_body == 0)
                tcp_tune(link_fd(link));
        return check_sent(link, status, err);
}
