#include "net/amqp_dropper.h"

#include "util/alloc.h"

#define REPLY_NOT_FOUND 404

void dropper_init(Dropper *dropper, AmqpLink *link, amqp_channel_t number, DropDoneFn done,
                  void *userdata)
{
        *dropper = (Dropper){.link = link, .number = number, .done = done, .userdata = userdata};
}

static Drop *take_first(Dropper *dropper)
{
        Drop *first = dropper->unanswered;

        if (first)
                dropper->unanswered = first->next;
        return first;
}

static void drop_free(Drop *drop)
{
        free(drop->queue);
        free(drop);
}

void dropper_reset(Dropper *dropper)
{
        Drop *drop;

        while ((drop = take_first(dropper)))
                drop_free(drop);
        dropper->channel_open = false;
}

static void answer_first(Dropper *dropper, int64_t n, const Error *err)
{
        Drop *first = take_first(dropper);
        uint64_t token;

        if (!first)
                return;
        token = first->token;
        drop_free(first);
        dropper->done(token, n, err, dropper->userdata);
}

static int purge(Dropper *dropper, const Drop *drop, Error *err)
{
        amqp_queue_purge_t purge = {.queue = amqp_cstring_bytes(drop->queue)};

        return link_send(dropper->link, dropper->number, AMQP_QUEUE_PURGE_METHOD, &purge, err);
}

static int open_channel(Dropper *dropper, Error *err)
{
        int r;

        if (dropper->channel_open)
                return 0;
        link_allow_time(dropper->link);
        r = link_open_channel(dropper->link, dropper->number, err);
        dropper->channel_open = r == 0;
        return r;
}

int dropper_drop(Dropper *dropper, const char *queue, uint64_t token, Error *err)
{
        Drop *drop = xcalloc(1, sizeof *drop), **end = &dropper->unanswered;
        int r;

        *drop = (Drop){.queue = xstrdup(queue), .token = token};
        while (*end)
                end = &(*end)->next;
        *end = drop;
        r = open_channel(dropper, err);
        return r < 0 ? r : purge(dropper, drop, err);
}

// The answers come in order, so it was the first that was refused; those behind it were not heard.
static int on_closed(Dropper *dropper, const amqp_method_t *method, Error *err)
{
        const amqp_channel_close_t *closed = method->decoded;
        bool no_queue = closed->reply_code == REPLY_NOT_FOUND;
        Drop *unheard = dropper->unanswered ? dropper->unanswered->next : NULL;
        Error why = ERROR_NONE;
        int r;

        (void)link_closed_error(dropper->link, method, &why);
        dropper->channel_open = false;
        r = link_agree_closed(dropper->link, dropper->number, err);
        if (r == 0 && unheard)
                r = open_channel(dropper, err);
        for (const Drop *drop = unheard; r == 0 && drop; drop = drop->next)
                r = purge(dropper, drop, err);
        if (r == 0)
                answer_first(dropper, DROPPED_NO_QUEUE, no_queue ? NULL : &why);
        return r;
}

int dropper_on_frame(Dropper *dropper, const amqp_frame_t *frame, Error *err)
{
        const amqp_method_t *method = &frame->payload.method;

        if (frame->frame_type != AMQP_FRAME_METHOD)
                return 0;
        if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
                return on_closed(dropper, method, err);
        if (method->id == AMQP_QUEUE_PURGE_OK_METHOD) {
                const amqp_queue_purge_ok_t *purged = method->decoded;

                answer_first(dropper, purged->message_count, NULL);
        }
        return 0;
}
