#include "net/amqp_sender.h"

#include <errno.h>
#include <string.h>

#include "net/amqp_message.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define POOL_PAGE 4096

// ---- lists --------------------------------------------------------------------------------

static void append(Sending **list, Sending *sending)
{
        while (*list)
                list = &(*list)->next;
        sending->next = NULL;
        *list = sending;
}

static void take_out(Sending **list, const Sending *sending)
{
        while (*list != sending)
                list = &(*list)->next;
        *list = sending->next;
}

static void sending_free(Sending *sending)
{
        if (sending->delivery)
                delivery_free(sending->delivery);
        message_done(&sending->message);
        free(sending->return_to);
        free(sending->queue);
        free(sending->reason);
        free(sending);
}

static void free_list(Sending **list)
{
        while (*list) {
                Sending *first = *list;

                *list = first->next;
                sending_free(first);
        }
}

// ---- life ---------------------------------------------------------------------------------

// `sending` is in no list any more.
static void finish(Sending *sending, const Error *err)
{
        Sender *sender = sending->sender;
        Delivery *delivery = TAKE_PTR(sending->delivery);
        uint64_t token = sending->token;
        Error why = ERROR_NONE;

        if (err) {
                why = *err;
                (void)error_prefix(&why, "cannot %s a message to queue \"%s\"",
                                   delivery ? "move" : "send", sending->queue);
                err = &why;
        }
        sending_free(sending);
        if (delivery)
                sender->callbacks.moved(delivery, err, sender->userdata);
        else
                sender->callbacks.sent(token, err, sender->userdata);
}

static void forget_queues(Sender *sender)
{
        strv_free(sender->declared);
        sender->declared = NULL;
}

static void on_settled(uint64_t token, const Error *err, void *userdata)
{
        Sending *sending = (Sending *)(uintptr_t)token; // NOLINT(performance-no-int-to-ptr)

        if (err)
                forget_queues(userdata); // one may have been deleted
        take_out(&sending->sender->sent, sending);
        finish(sending, err);
}

void sender_init(Sender *sender, AmqpLink *link, amqp_channel_t number,
                 const SenderCallbacks *callbacks, void *userdata)
{
        *sender = (Sender){.callbacks = *callbacks, .userdata = userdata};
        publish_channel_init(&sender->channel, link, number, on_settled, sender);
}

void sender_reset(Sender *sender)
{
        publish_channel_done(&sender->channel);
        free_list(&sender->sent);
        free_list(&sender->waiting);
        forget_queues(sender);
        sender->channel_open = sender->declare_channel_open = false;
        sender->blocked = false;
}

// The broker has closed the channel, for a reason of one message; the next opens it again.
static int channel_closed(Sender *sender, const Error *why, Error *err)
{
        sender->channel_open = false;
        confirms_fail_all(&sender->channel.confirms, why);
        return link_agree_closed(sender->channel.link, sender->channel.number, err);
}

// ---- sending ------------------------------------------------------------------------------

static int open_channel(Sender *sender, Error *err)
{
        AmqpLink *link = sender->channel.link;
        int r;

        if (sender->channel_open)
                return 0;
        r = link_open_channel(link, sender->channel.number, err);
        if (r == 0)
                r = link_select_confirms(link, sender->channel.number, err);
        sender->channel_open = r == 0;
        return r;
}

static bool is_declared(const Sender *sender, const char *queue)
{
        STRV_FOREACH (known, sender->declared) {
                if (strcmp(*known, queue) == 0)
                        return true;
        }
        return false;
}

static int declare(Sender *sender, const char *queue, Error *err)
{
        AmqpLink *link = sender->channel.link;
        amqp_channel_t channel = (amqp_channel_t)(sender->channel.number + 1);
        int r = sender->declare_channel_open ? 0 : link_open_channel(link, channel, err);

        if (r == 0)
                r = link_ensure_queue(link, channel, queue, err);
        sender->declare_channel_open = r == 0;
        if (r < 0 && !link->lost && link_agree_closed(link, channel, NULL) < 0)
                link->lost = true;
        return r;
}

static int ensure_queue(Sender *sender, const char *queue, Error *err)
{
        size_t n = strv_count(sender->declared);
        int r;

        if (is_declared(sender, queue))
                return 0;
        r = declare(sender, queue, err);
        if (r < 0)
                return r;
        sender->declared = xreallocarray(sender->declared, n + 2, sizeof(char *));
        sender->declared[n] = xstrdup(queue);
        sender->declared[n + 1] = NULL;
        return 0;
}

static int publish(Sender *sender, Sending *sending, const amqp_basic_properties_t *properties,
                   const Message *message, Error *err)
{
        int r = publish_channel_send(&sender->channel, sending->queue, properties,
                                     (amqp_bytes_t){message->body_len, message->body},
                                     (uint64_t)(uintptr_t)sending, err);

        if (r == 0)
                append(&sender->sent, sending);
        return r;
}

static int publish_delivery(Sender *sender, Sending *sending, Error *err)
{
        AmqpDelivery *delivery = (AmqpDelivery *)sending->delivery;
        _cleanup_free_ char *made_id = message_new_id();
        OutgoingProperties outgoing;
        amqp_pool_t pool;
        void *original = NULL;
        int r;

        init_amqp_pool(&pool, POOL_PAGE);
        if (amqp_decode_properties(AMQP_BASIC_CLASS, &pool,
                                   (amqp_bytes_t){delivery->properties_len, delivery->properties},
                                   &original) < 0) {
                empty_amqp_pool(&pool);
                return error_set(err, EBADMSG, "its properties cannot be read");
        }
        properties_with_reason(original, sending->reason, made_id, &outgoing);
        r = publish(sender, sending, &outgoing.properties, &sending->delivery->message, err);
        empty_amqp_pool(&pool);
        return r;
}

static int publish_message(Sender *sender, Sending *sending, Error *err)
{
        char expiration[EXPIRATION_SIZE];
        OutgoingProperties outgoing;
        int r = message_to_properties(&sending->message, &outgoing, err);

        if (r < 0)
                return r;
        if (sending->return_to)
                properties_expire(&outgoing, sending->return_after_ms, expiration);
        r = publish(sender, sending, &outgoing.properties, &sending->message, err);
        if (r == 0)
                message_done(&sending->message); // it may be large
        return r;
}

static int ready_queue(Sender *sender, const Sending *sending, Error *err)
{
        int r = sending->return_to ? 0 : ensure_queue(sender, sending->queue, err);

        if (r == 0)
                r = open_channel(sender, err);
        // Each time, for that is what keeps an expiring queue. It costs no waiting.
        if (r == 0 && sending->return_to)
                r = link_declare_returning(sender->channel.link, sender->channel.number,
                                           sending->queue, sending->return_to, err);
        return r;
}

// Takes it. < 0: the connection is lost.
static int start(Sender *sender, Sending *sending, Error *err)
{
        Error why = ERROR_NONE;
        int r;

        link_allow_time(sender->channel.link);
        r = ready_queue(sender, sending, &why);
        if (r == 0)
                r = sending->delivery ? publish_delivery(sender, sending, &why)
                                      : publish_message(sender, sending, &why);
        if (r == 0)
                return 0;
        finish(sending, &why);
        if (!sender->channel.link->lost)
                return 0;
        if (err)
                *err = why;
        return r;
}

static bool may_send(const Sender *sender)
{
        return !sender->blocked && !confirms_full(&sender->channel.confirms);
}

static int send_waiting(Sender *sender, Error *err)
{
        int r = 0;

        while (r == 0 && sender->waiting && may_send(sender)) {
                Sending *first = sender->waiting;

                sender->waiting = first->next;
                r = start(sender, first, err);
        }
        return r;
}

static int enqueue(Sender *sender, const Sending *values, Error *err)
{
        Sending *sending = xcalloc(1, sizeof *sending);

        *sending = *values;
        sending->sender = sender;
        append(&sender->waiting, sending);
        return send_waiting(sender, err);
}

int sender_move(Sender *sender, Delivery *delivery, const char *queue, const char *reason,
                Error *err)
{
        const Sending sending = {.delivery = delivery,
                                 .queue = xstrdup(queue),
                                 .reason = xstrndup(reason, strnlen(reason, REASON_MAX))};

        return enqueue(sender, &sending, err);
}

int sender_send(Sender *sender, const Message *message, const char *queue, const char *return_to,
                int64_t return_after_ms, uint64_t token, Error *err)
{
        Sending sending = {.queue = xstrdup(queue),
                           .return_to = xstrdup(return_to),
                           .return_after_ms = return_after_ms,
                           .token = token};

        message_copy(message, &sending.message);
        return enqueue(sender, &sending, err);
}

int sender_set_blocked(Sender *sender, bool blocked, Error *err)
{
        sender->blocked = blocked;
        return send_waiting(sender, err);
}

int sender_on_frame(Sender *sender, const amqp_frame_t *frame, Error *err)
{
        Error why = ERROR_NONE;
        int r = publish_channel_on_frame(&sender->channel, frame, &why);

        if (r < 0)
                r = channel_closed(sender, &why, err);
        return r < 0 ? r : send_waiting(sender, err);
}
