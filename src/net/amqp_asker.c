#include "net/amqp_asker.h"

#include "util/alloc.h"

#define REPLY_NOT_FOUND 404
#define REPLY_RESOURCE_LOCKED 405

void asker_init(Asker *asker, AmqpLink *link, amqp_channel_t number,
                const AskerCallbacks *callbacks, void *userdata)
{
        *asker = (Asker){
                .link = link, .number = number, .callbacks = *callbacks, .userdata = userdata};
}

static Ask *take_first(Asker *asker)
{
        Ask *first = asker->unanswered;

        if (first)
                asker->unanswered = first->next;
        return first;
}

static void ask_free(Ask *ask)
{
        free(ask->suffix);
        free(ask->queue);
        free(ask);
}
DEFINE_CLEANUP(Ask, ask_free)

void asker_reset(Asker *asker)
{
        Ask *ask;

        while ((ask = take_first(asker)))
                ask_free(ask);
        asker->channel_open = false;
}

// `refusal` is the reply code of a refused request, 0 if it was granted.
static void answer_first(Asker *asker, int64_t n, unsigned refusal, const Error *why)
{
        _cleanup_(ask_free_p) Ask *first = take_first(asker);

        if (!first)
                return;
        if (first->kind == ASK_LOCK)
                asker->callbacks.locked(first->token, first->suffix, !refusal,
                                        refusal && refusal != REPLY_RESOURCE_LOCKED ? why : NULL,
                                        asker->userdata);
        else
                asker->callbacks.dropped(first->token, refusal ? DROPPED_NO_QUEUE : n,
                                         refusal && refusal != REPLY_NOT_FOUND ? why : NULL,
                                         asker->userdata);
}

static int send_ask(Asker *asker, const Ask *ask, Error *err)
{
        amqp_queue_purge_t purge = {.queue = amqp_cstring_bytes(ask->queue)};
        amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(ask->queue), .exclusive = 1};

        if (ask->kind == ASK_LOCK)
                return link_send(asker->link, asker->number, AMQP_QUEUE_DECLARE_METHOD, &declare,
                                 err);
        return link_send(asker->link, asker->number, AMQP_QUEUE_PURGE_METHOD, &purge, err);
}

static int open_channel(Asker *asker, Error *err)
{
        int r;

        if (asker->channel_open)
                return 0;
        link_allow_time(asker->link);
        r = link_open_channel(asker->link, asker->number, err);
        asker->channel_open = r == 0;
        return r;
}

int asker_ask(Asker *asker, AskKind kind, const char *queue, const char *suffix, uint64_t token,
              Error *err)
{
        Ask *ask = xcalloc(1, sizeof *ask), **end = &asker->unanswered;
        int r;

        *ask = (Ask){
                .kind = kind, .suffix = xstrdup(suffix), .queue = xstrdup(queue), .token = token};
        while (*end)
                end = &(*end)->next;
        *end = ask;
        r = open_channel(asker, err);
        return r < 0 ? r : send_ask(asker, ask, err);
}

int asker_unlock(Asker *asker, const char *queue, Error *err)
{
        amqp_queue_delete_t delete = {.queue = amqp_cstring_bytes(queue), .nowait = 1};
        int r = open_channel(asker, err);

        return r < 0 ? r
                     : link_send(asker->link, asker->number, AMQP_QUEUE_DELETE_METHOD, &delete,
                                 err);
}

// The answers come in order, so it was the first that was refused; those behind it were not heard.
static int on_closed(Asker *asker, const amqp_method_t *method, Error *err)
{
        const amqp_channel_close_t *closed = method->decoded;
        unsigned refusal = closed->reply_code;
        Ask *unheard = asker->unanswered ? asker->unanswered->next : NULL;
        Error why = ERROR_NONE;
        int r;

        (void)link_closed_error(asker->link, method, &why);
        asker->channel_open = false;
        r = link_agree_closed(asker->link, asker->number, err);
        if (r == 0 && unheard)
                r = open_channel(asker, err);
        for (const Ask *ask = unheard; r == 0 && ask; ask = ask->next)
                r = send_ask(asker, ask, err);
        if (r == 0)
                answer_first(asker, 0, refusal, &why);
        return r;
}

int asker_on_frame(Asker *asker, const amqp_frame_t *frame, Error *err)
{
        const amqp_method_t *method = &frame->payload.method;

        if (frame->frame_type != AMQP_FRAME_METHOD)
                return 0;
        if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
                return on_closed(asker, method, err);
        if (method->id == AMQP_QUEUE_PURGE_OK_METHOD) {
                const amqp_queue_purge_ok_t *purged = method->decoded;

                answer_first(asker, purged->message_count, 0, NULL);
        } else if (method->id == AMQP_QUEUE_DECLARE_OK_METHOD) {
                answer_first(asker, 0, 0, NULL);
        }
        return 0;
}
