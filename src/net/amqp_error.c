// Every way in which RabbitMQ or rabbitmq-c says no, in words an operator can act on.
#include <errno.h>
#include <string.h>

#include "net/amqp_link.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define BROKER_TEXT_MAX 300

// The reply codes of AMQP 0-9-1 that call for different action.
enum {
        REPLY_ACCESS_REFUSED = 403,
        REPLY_NOT_FOUND = 404,
        REPLY_NOT_ALLOWED = 530,
};

char *link_visible(amqp_bytes_t text)
{
        return str_visible(text.len ? text.bytes : "", text.len, BROKER_TEXT_MAX);
}

typedef struct Refusal {
        int code;
        amqp_bytes_t text;
} Refusal;

static Refusal read_refusal(const amqp_method_t *method)
{
        if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
                const amqp_channel_close_t *closed = method->decoded;

                return (Refusal){closed->reply_code, closed->reply_text};
        }
        if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
                const amqp_connection_close_t *closed = method->decoded;

                return (Refusal){closed->reply_code, closed->reply_text};
        }
        return (Refusal){0};
}

static int refusal_errno(int code)
{
        switch (code) {
        case REPLY_ACCESS_REFUSED:
        case REPLY_NOT_ALLOWED:
                return EACCES;
        case REPLY_NOT_FOUND:
                return ENOENT;
        default:
                return EPROTO;
        }
}

int link_refusal_code(amqp_rpc_reply_t reply)
{
        return reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION ? read_refusal(&reply.reply).code
                                                                  : 0;
}

int link_closed_error(const AmqpLink *link, const amqp_method_t *method, Error *err)
{
        Refusal refusal = read_refusal(method);
        _cleanup_free_ char *text = link_visible(refusal.text);

        return error_set(err, refusal_errno(refusal.code), "RabbitMQ at %s closed the %s: %d %s",
                         link->peer,
                         method->id == AMQP_CHANNEL_CLOSE_METHOD ? "channel" : "connection",
                         refusal.code, text);
}

int link_status_error(AmqpLink *link, int status, Error *err)
{
        link->lost = true;
        switch (status) {
        case AMQP_STATUS_CONNECTION_CLOSED:
        case AMQP_STATUS_SOCKET_CLOSED:
        case AMQP_STATUS_SOCKET_ERROR:
                return error_set(err, ECONNRESET, "the connection to RabbitMQ at %s broke",
                                 link->peer);
        case AMQP_STATUS_HEARTBEAT_TIMEOUT:
                return error_set(err, ETIMEDOUT,
                                 "RabbitMQ at %s has sent nothing for too long (heartbeats)",
                                 link->peer);
        case AMQP_STATUS_TIMEOUT:
                return error_set(err, ETIMEDOUT, "RabbitMQ at %s did not answer within %d s",
                                 link->peer, LINK_TIMEOUT_MS / 1000);
        case AMQP_STATUS_TABLE_TOO_BIG:
                return error_set(err, EMSGSIZE, "the message's headers do not fit into a frame");
        default:
                return error_set(err, EPROTO, "the connection to RabbitMQ at %s broke: %s",
                                 link->peer, amqp_error_string2(status));
        }
}

int link_check_reply(AmqpLink *link, amqp_rpc_reply_t reply, const char *what, Error *err)
{
        _cleanup_free_ char *text = NULL;
        const GlobalConfig *global = link->global;
        Refusal refusal;

        if (reply.reply_type == AMQP_RESPONSE_NORMAL)
                return 0;
        if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
                (void)link_status_error(link, reply.library_error, err);
                return error_prefix(err, "cannot %s", what);
        }
        link->lost = reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD;
        refusal = read_refusal(&reply.reply);
        text = link_visible(refusal.text);
        if (refusal.code == REPLY_ACCESS_REFUSED)
                return error_set(err, EACCES,
                                 "cannot %s on RabbitMQ at %s: %s; give user \"%s\" its rights on "
                                 "vhost \"%s\" (rabbitmqctl set_permissions)",
                                 what, link->peer, text, global->rabbit_user, global->rabbit_vhost);
        return error_set(err, refusal_errno(refusal.code), "cannot %s on RabbitMQ at %s: %d %s",
                         what, link->peer, refusal.code, text);
}

static int login_refused(const AmqpLink *link, Refusal refusal, Error *err)
{
        const GlobalConfig *global = link->global;
        _cleanup_free_ char *text = link_visible(refusal.text);

        if (refusal.code == REPLY_ACCESS_REFUSED)
                return error_set(err, EACCES,
                                 "RabbitMQ at %s refuses the login of user \"%s\": check "
                                 "RABBIT_USER and RABBIT_PW (%s)",
                                 link->peer, global->rabbit_user, text);
        if (refusal.code == REPLY_NOT_ALLOWED && strstr(text, "not found"))
                return error_set(err, ENOENT,
                                 "RabbitMQ at %s has no vhost \"%s\": check RABBIT_VHOST or make "
                                 "it (rabbitmqctl add_vhost)",
                                 link->peer, global->rabbit_vhost);
        if (refusal.code == REPLY_NOT_ALLOWED)
                return error_set(err, EACCES,
                                 "RabbitMQ at %s does not let user \"%s\" into vhost \"%s\": check "
                                 "RABBIT_VHOST or grant it (rabbitmqctl set_permissions) (%s)",
                                 link->peer, global->rabbit_user, global->rabbit_vhost, text);
        return error_set(err, EPROTO, "RabbitMQ at %s refuses the login: %d %s", link->peer,
                         refusal.code, text);
}

int link_login_error(const AmqpLink *link, amqp_rpc_reply_t reply, Error *err)
{
        if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
                return login_refused(link, read_refusal(&reply.reply), err);
        switch (reply.library_error) {
        case AMQP_STATUS_TIMEOUT:
                return error_set(err, ETIMEDOUT,
                                 "%s accepts connections but does not answer as RabbitMQ does "
                                 "within %d s: check RABBIT_PORT and RABBIT_TLS",
                                 link->peer, LINK_TIMEOUT_MS / 1000);
        case AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD:
                return error_set(err, EPROTO,
                                 "RabbitMQ at %s does not offer PLAIN, the login with user and "
                                 "password: enable it (auth_mechanisms)",
                                 link->peer);
        default:
                return error_set(err, EPROTO,
                                 "what answers at %s does not speak AMQP 0-9-1%s: check "
                                 "RABBIT_PORT and RABBIT_TLS (%s)",
                                 link->peer, link->global->rabbit_tls ? "" : " without TLS",
                                 amqp_error_string2(reply.library_error));
        }
}
