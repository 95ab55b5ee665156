// TLS for a link. rabbitmq-c 0.11 checks the certificate by itself, but only DNS names, and its
// errors do not say what was wrong; so OpenSSL does the checking and we keep its verdict.
#include <amqp_ssl_socket.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/amqp_link.h"
#include "net/tcp.h"
#include "util/clock.h"

static int on_verify(int ok, X509_STORE_CTX *store)
{
        const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        AmqpLink *link = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

        if (!ok)
                link->tls_refusal = X509_STORE_CTX_get_error(store);
        return ok;
}

static const char *tls_reason(void)
{
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        return reason ? reason : "no reason given";
}

static int load_authorities(const AmqpLink *link, SSL_CTX *ctx, Error *err)
{
        const char *file = link->global->rabbit_tls_ca;

        ERR_clear_error();
        if (!file && SSL_CTX_set_default_verify_paths(ctx) != 1)
                return error_set(err, EIO, "cannot load the system's certificate authorities: %s",
                                 tls_reason());
        if (file && SSL_CTX_load_verify_locations(ctx, file, NULL) != 1)
                return error_set(err, EINVAL,
                                 "cannot read certificate authorities from %s (RABBIT_TLS_CA): %s",
                                 file, tls_reason());
        return 0;
}

static int configure(AmqpLink *link, amqp_socket_t *socket, Error *err)
{
        SSL_CTX *ctx = amqp_ssl_socket_get_context(socket);
        X509_VERIFY_PARAM *expected = SSL_CTX_get0_param(ctx);
        const char *host = link->global->rabbit_host;

        (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        // rabbitmq-c repeats an interrupted write from wherever its buffer is then.
        (void)SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (X509_VERIFY_PARAM_set1_ip_asc(expected, host) != 1 &&
            X509_VERIFY_PARAM_set1_host(expected, host, 0) != 1)
                return error_set(err, EINVAL, "RABBIT_HOST \"%s\" is no host name", host);
        (void)SSL_CTX_set_app_data(ctx, link);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
        amqp_ssl_socket_set_verify_hostname(socket, 0); // done by `expected`
        return load_authorities(link, ctx, err);
}

// rabbitmq-c only says that it could not connect; connecting once more tells why.
static int connect_error(const AmqpLink *link, Error *err)
{
        const GlobalConfig *global = link->global;
        int64_t left = MAX(link->deadline_ms - clock_mono_ms(), 0);
        int fd = -1;
        int r = tcp_connect(global->rabbit_host, global->rabbit_port, left, &fd, err);

        if (r < 0)
                return r;
        (void)close(fd);
        return error_set(err, ECONNRESET, "the connection to %s broke during the TLS handshake",
                         link->peer);
}

static int handshake_error(const AmqpLink *link, int status, Error *err)
{
        switch (status) {
        case AMQP_STATUS_SSL_CONNECTION_FAILED:
        case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
        case AMQP_STATUS_SSL_ERROR:
                break;
        case AMQP_STATUS_TIMEOUT:
                return error_set(err, ETIMEDOUT,
                                 "%s did not answer within %d s: check RABBIT_HOST, RABBIT_PORT "
                                 "and RABBIT_TLS",
                                 link->peer, LINK_TIMEOUT_MS / 1000);
        default:
                return connect_error(link, err);
        }
        if (link->tls_refusal != X509_V_OK)
                return error_set(err, EACCES,
                                 "the certificate of RabbitMQ at %s is refused: %s; check "
                                 "RABBIT_HOST and RABBIT_TLS_CA",
                                 link->peer, X509_verify_cert_error_string(link->tls_refusal));
        return error_set(err, EPROTO,
                         "no TLS with %s: %s; check RABBIT_PORT (5671 with TLS, as a rule) and "
                         "RABBIT_TLS",
                         link->peer, tls_reason());
}

int link_open_tls(AmqpLink *link, int64_t timeout_ms, Error *err)
{
        const struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                                        .tv_usec = timeout_ms % 1000 * 1000};
        amqp_socket_t *socket = amqp_ssl_socket_new(link->conn);
        int status, r;

        if (!socket)
                return error_set(err, ENOMEM, "cannot set up TLS");
        link->tls_refusal = X509_V_OK;
        r = configure(link, socket, err);
        if (r < 0)
                return r;
        tcp_limit_resolver();
        status = amqp_socket_open_noblock(socket, link->global->rabbit_host,
                                          link->global->rabbit_port, &timeout);
        if (status != AMQP_STATUS_OK)
                return handshake_error(link, status, err);
        tcp_tune(amqp_get_sockfd(link->conn));
        return 0;
}
