// Publishes files to RabbitMQ, each a persistent message, and waits for the confirms:
//   publish HOST PORT VHOST USER PASSWORD QUEUE
// Reads file names from standard input. A line "=" waits until all so far are confirmed and says
// so; for each file the CLOCK_MONOTONIC time (ns) just before it was sent is said.
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHANNEL 1
#define MESSAGES_MAX 100000
#define BODY_MAX ((size_t)64 * 1024 * 1024)

static void fail(const char *what)
{
        fprintf(stderr, "publish: %s\n", what);
        exit(1);
}

static long long now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

static amqp_connection_state_t log_in(char **argv)
{
        amqp_connection_state_t connection = amqp_new_connection();
        amqp_socket_t *tcp = amqp_tcp_socket_new(connection);

        if (!tcp || amqp_socket_open(tcp, argv[1], atoi(argv[2])) != AMQP_STATUS_OK)
                fail("cannot connect");
        if (amqp_login(connection, argv[3], 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN,
                       argv[4], argv[5])
                    .reply_type != AMQP_RESPONSE_NORMAL)
                fail("cannot log in");
        if (!amqp_channel_open(connection, CHANNEL) || !amqp_confirm_select(connection, CHANNEL) ||
            !amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(argv[6]), 0, 1, 0, 0,
                                amqp_empty_table))
                fail("cannot open the channel");
        return connection;
}

// Takes one confirm, of one message or of all up to it; returns how many are new. They come in any
// order.
static size_t take_confirm(amqp_connection_state_t connection, size_t sent)
{
        static bool confirmed[MESSAGES_MAX + 1]; // by delivery tag
        static size_t all_up_to;
        amqp_frame_t frame;
        amqp_basic_ack_t *ack;
        size_t n = 0;

        if (amqp_simple_wait_frame(connection, &frame) != AMQP_STATUS_OK ||
            frame.frame_type != AMQP_FRAME_METHOD ||
            frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
                fail("not confirmed");
        ack = frame.payload.method.decoded;
        if (ack->delivery_tag > sent)
                fail("confirmed more than was sent");
        for (size_t tag = ack->multiple ? all_up_to + 1 : ack->delivery_tag;
             tag <= ack->delivery_tag; tag++) {
                n += !confirmed[tag];
                confirmed[tag] = true;
        }
        while (all_up_to < sent && confirmed[all_up_to + 1])
                all_up_to++;
        return n;
}

static void publish(amqp_connection_state_t connection, const char *queue, const char *path)
{
        static char body[BODY_MAX];
        amqp_basic_properties_t properties = {
                ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                .delivery_mode = 2,
        };
        FILE *file = fopen(path, "re");
        size_t len = file ? fread(body, 1, sizeof body, file) : 0;

        if (!file || fclose(file) != 0 || len == 0)
                fail(path);
        printf("%lld\n", now_ns());
        if (amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 1,
                               0, &properties,
                               (amqp_bytes_t){.len = len, .bytes = body}) != AMQP_STATUS_OK)
                fail("cannot publish");
}

int main(int argc, char **argv)
{
        amqp_connection_state_t connection;
        size_t sent = 0, confirmed = 0;
        char line[4096];

        if (argc != 7)
                fail("usage: publish HOST PORT VHOST USER PASSWORD QUEUE");
        connection = log_in(argv);
        while (fgets(line, sizeof line, stdin)) {
                line[strcspn(line, "\n")] = '\0';
                if (strcmp(line, "=") == 0) {
                        while (confirmed < sent)
                                confirmed += take_confirm(connection, sent);
                        printf("=\n");
                } else {
                        if (sent == MESSAGES_MAX)
                                fail("too many messages");
                        publish(connection, argv[6], line);
                        sent++;
                }
                (void)fflush(stdout);
        }
        (void)amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
        (void)amqp_destroy_connection(connection);
        return 0;
}
