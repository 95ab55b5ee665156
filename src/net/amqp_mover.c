#include "net/amqp_mover.h"

#include <errno.h>
#include <string.h>

#include "net/amqp_message.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define POOL_PAGE 4096

// ---- lists --------------------------------------------------------------------------------

static void append(Move **list, Move *move)
{
        while (*list)
                list = &(*list)->next;
        move->next = NULL;
        *list = move;
}

static void take_out(Move **list, const Move *move)
{
        while (*list != move)
                list = &(*list)->next;
        *list = move->next;
}

static void move_free(Move *move)
{
        if (move->delivery)
                delivery_free(move->delivery);
        free(move->queue);
        free(move->reason);
        free(move);
}

static void free_list(Move **list)
{
        while (*list) {
                Move *first = *list;

                *list = first->next;
                move_free(first);
        }
}

// ---- life ---------------------------------------------------------------------------------

// `move` is in no list any more.
static void finish(Move *move, const Error *err)
{
        Mover *mover = move->mover;
        Delivery *delivery = TAKE_PTR(move->delivery);
        Error why = ERROR_NONE;

        if (err) {
                why = *err;
                (void)error_prefix(&why, "cannot move a message to queue \"%s\"", move->queue);
        }
        move_free(move);
        mover->done(delivery, err ? MOVE_FAILED : MOVE_DONE, err ? &why : NULL, mover->userdata);
}

static void forget_queues(Mover *mover)
{
        strv_free(mover->declared);
        mover->declared = NULL;
}

static void on_settled(uint64_t token, const Error *err, void *userdata)
{
        Move *move = (Move *)(uintptr_t)token; // NOLINT(performance-no-int-to-ptr)

        if (err)
                forget_queues(userdata); // one may have been deleted
        take_out(&move->mover->sent, move);
        finish(move, err);
}

void mover_init(Mover *mover, AmqpLink *link, amqp_channel_t number, MoveDoneFn done,
                void *userdata)
{
        *mover = (Mover){.done = done, .userdata = userdata};
        publish_channel_init(&mover->channel, link, number, on_settled, mover);
}

void mover_reset(Mover *mover)
{
        publish_channel_done(&mover->channel);
        free_list(&mover->sent);
        free_list(&mover->waiting);
        forget_queues(mover);
        mover->channel_open = mover->declare_channel_open = false;
        mover->blocked = false;
}

// The broker has closed the channel, for a reason of one message; the next opens it again.
static int channel_closed(Mover *mover, const Error *why, Error *err)
{
        mover->channel_open = false;
        confirms_fail_all(&mover->channel.confirms, why);
        return link_agree_closed(mover->channel.link, mover->channel.number, err);
}

// ---- sending ------------------------------------------------------------------------------

static int open_channel(Mover *mover, Error *err)
{
        AmqpLink *link = mover->channel.link;
        int r;

        if (mover->channel_open)
                return 0;
        r = link_open_channel(link, mover->channel.number, err);
        if (r == 0)
                r = link_select_confirms(link, mover->channel.number, err);
        mover->channel_open = r == 0;
        return r;
}

static bool is_declared(const Mover *mover, const char *queue)
{
        STRV_FOREACH (known, mover->declared) {
                if (strcmp(*known, queue) == 0)
                        return true;
        }
        return false;
}

static int declare(Mover *mover, const char *queue, Error *err)
{
        AmqpLink *link = mover->channel.link;
        amqp_channel_t channel = (amqp_channel_t)(mover->channel.number + 1);
        int r = mover->declare_channel_open ? 0 : link_open_channel(link, channel, err);

        if (r == 0)
                r = link_ensure_queue(link, channel, queue, err);
        mover->declare_channel_open = r == 0;
        if (r < 0 && !link->lost && link_agree_closed(link, channel, NULL) < 0)
                link->lost = true;
        return r;
}

static int ensure_queue(Mover *mover, const char *queue, Error *err)
{
        size_t n = strv_count(mover->declared);
        int r;

        if (is_declared(mover, queue))
                return 0;
        r = declare(mover, queue, err);
        if (r < 0)
                return r;
        mover->declared = xreallocarray(mover->declared, n + 2, sizeof(char *));
        mover->declared[n] = xstrdup(queue);
        mover->declared[n + 1] = NULL;
        return 0;
}

static int publish(Mover *mover, Move *move, Error *err)
{
        AmqpDelivery *delivery = (AmqpDelivery *)move->delivery;
        const Message *message = &move->delivery->message;
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
        properties_with_reason(original, move->reason, made_id, &outgoing);
        r = publish_channel_send(&mover->channel, move->queue, &outgoing.properties,
                                 (amqp_bytes_t){message->body_len, message->body},
                                 (uint64_t)(uintptr_t)move, err);
        empty_amqp_pool(&pool);
        if (r == 0)
                append(&mover->sent, move);
        return r;
}

// Takes the move. < 0: the connection is lost.
static int start(Mover *mover, Move *move, Error *err)
{
        Error why = ERROR_NONE;
        int r;

        link_allow_time(mover->channel.link);
        r = ensure_queue(mover, move->queue, &why);
        if (r == 0)
                r = open_channel(mover, &why);
        if (r == 0)
                r = publish(mover, move, &why);
        if (r == 0)
                return 0;
        finish(move, &why);
        if (!mover->channel.link->lost)
                return 0;
        if (err)
                *err = why;
        return r;
}

static bool may_send(const Mover *mover)
{
        return !mover->blocked && !confirms_full(&mover->channel.confirms);
}

static int send_waiting(Mover *mover, Error *err)
{
        int r = 0;

        while (r == 0 && mover->waiting && may_send(mover)) {
                Move *first = mover->waiting;

                mover->waiting = first->next;
                r = start(mover, first, err);
        }
        return r;
}

int mover_move(Mover *mover, Delivery *delivery, const char *queue, const char *reason, Error *err)
{
        Move *move = xcalloc(1, sizeof *move);

        *move = (Move){.mover = mover,
                       .delivery = delivery,
                       .queue = xstrdup(queue),
                       .reason = xstrndup(reason, strnlen(reason, REASON_MAX))};
        append(&mover->waiting, move);
        return send_waiting(mover, err);
}

int mover_set_blocked(Mover *mover, bool blocked, Error *err)
{
        mover->blocked = blocked;
        return send_waiting(mover, err);
}

int mover_on_frame(Mover *mover, const amqp_frame_t *frame, Error *err)
{
        Error why = ERROR_NONE;
        int r = publish_channel_on_frame(&mover->channel, frame, &why);

        if (r < 0)
                r = channel_closed(mover, &why, err);
        return r < 0 ? r : send_waiting(mover, err);
}
