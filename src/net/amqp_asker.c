#include "net/amqp_asker.h"

#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define REPLY_NOT_FOUND 404
#define REPLY_RESOURCE_LOCKED 405
#define REPLY_PRECONDITION_FAILED 406
#define KNOCKS_TAG "packuilon-knocks"

typedef enum AskKind {
        ASK_DROP,   // empty a queue
        ASK_LOCK,   // declare a queue that names its holder
        ASK_UNLOCK, // delete it
} AskKind;

struct Ask {
        struct Ask *next;
        AskKind kind;
        char *suffix; // of the queue, as the caller knows it
        char *queue;
        uint64_t token; // of ASK_DROP; the rest is of ASK_LOCK
        char *holder;
        int64_t lease_ms;
        bool hear_knocks;
};

void asker_init(Asker *asker, AmqpLink *link, amqp_channel_t number, const char *prefix,
                Consumer *consumer)
{
        *asker = (Asker){.link = link, .number = number, .prefix = prefix, .consumer = consumer};
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
        free(ask->holder);
        free(ask);
}
DEFINE_CLEANUP(Ask, ask_free)

void asker_reset(Asker *asker)
{
        Ask *ask;

        while ((ask = take_first(asker)))
                ask_free(ask);
        asker->channel_open = asker->knocks_open = asker->hears_knocks = false;
}

static int open_channel(const Asker *asker, amqp_channel_t number, bool *open, Error *err)
{
        int r;

        if (*open)
                return 0;
        link_allow_time(asker->link);
        r = link_open_channel(asker->link, number, err);
        *open = r == 0;
        return r;
}

// ---- questions -----------------------------------------------------------------------------

static int send_ask(Asker *asker, const Ask *ask, Error *err)
{
        amqp_queue_purge_t purge = {.queue = amqp_cstring_bytes(ask->queue)};
        amqp_queue_delete_t delete = {.queue = amqp_cstring_bytes(ask->queue)};

        switch (ask->kind) {
        case ASK_LOCK:
                return link_declare_held(asker->link, asker->number, ask->queue, ask->holder,
                                         ask->lease_ms, err);
        case ASK_UNLOCK:
                return link_send(asker->link, asker->number, AMQP_QUEUE_DELETE_METHOD, &delete,
                                 err);
        case ASK_DROP:
                break;
        }
        return link_send(asker->link, asker->number, AMQP_QUEUE_PURGE_METHOD, &purge, err);
}

static int ask(Asker *asker, Ask *take_ask, const char *suffix, Error *err)
{
        Ask **end = &asker->unanswered;
        int r;

        take_ask->suffix = xstrdup(suffix);
        take_ask->queue = xasprintf("%s%s", asker->prefix, suffix);
        while (*end)
                end = &(*end)->next;
        *end = take_ask;
        r = open_channel(asker, asker->number, &asker->channel_open, err);
        return r < 0 ? r : send_ask(asker, take_ask, err);
}

int asker_drop(Asker *asker, const char *suffix, uint64_t token, Error *err)
{
        Ask *drop = xcalloc(1, sizeof *drop);

        *drop = (Ask){.kind = ASK_DROP, .token = token};
        return ask(asker, drop, suffix, err);
}

int asker_lock(Asker *asker, const LockSpec *spec, Error *err)
{
        Ask *lock = xcalloc(1, sizeof *lock);

        *lock = (Ask){.kind = ASK_LOCK,
                      .holder = xstrdup(spec->holder),
                      .lease_ms = spec->lease_ms,
                      .hear_knocks = spec->hear_knocks};
        return ask(asker, lock, spec->suffix, err);
}

int asker_unlock(Asker *asker, const char *suffix, Error *err)
{
        Ask *unlock = xcalloc(1, sizeof *unlock);

        *unlock = (Ask){.kind = ASK_UNLOCK};
        return ask(asker, unlock, suffix, err);
}

int asker_knock(Asker *asker, const char *suffix, Error *err)
{
        static const amqp_basic_properties_t plain;
        _cleanup_free_ char *queue = xasprintf("%s%s", asker->prefix, suffix);
        int r = open_channel(asker, asker->number, &asker->channel_open, err);

        return r < 0 ? r
                     : link_publish(asker->link, asker->number, queue, &plain, amqp_empty_bytes,
                                    err);
}

// ---- answers -------------------------------------------------------------------------------

static int hear_knocks(Asker *asker, const char *queue, Error *err)
{
        amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue),
                                        .consumer_tag = amqp_cstring_bytes(KNOCKS_TAG),
                                        .no_ack = 1,
                                        .nowait = 1};
        amqp_channel_t number = (amqp_channel_t)(asker->number + 1);
        int r;

        if (asker->hears_knocks)
                return 0;
        asker->hears_knocks = true;
        r = open_channel(asker, number, &asker->knocks_open, err);
        return r < 0 ? r : link_send(asker->link, number, AMQP_BASIC_CONSUME_METHOD, &consume, err);
}

// Another's is a queue with another holder, or one that an older version's connection has to
// itself. (The same code tells that a limit on queues is reached.)
static bool is_held(unsigned refusal, const Error *why)
{
        return refusal == REPLY_RESOURCE_LOCKED ||
               (refusal == REPLY_PRECONDITION_FAILED && strstr(why->text, "inequivalent arg"));
}

// `refusal` is the reply code of a refused request, 0 if it was granted.
static int answer_first(Asker *asker, int64_t n, unsigned refusal, const Error *why, Error *err)
{
        _cleanup_(ask_free_p) Ask *first = take_first(asker);
        const ConsumerCallbacks *callbacks = &asker->consumer->callbacks;
        void *userdata = asker->consumer->userdata;
        int r = 0;

        if (!first)
                return 0;
        switch (first->kind) {
        case ASK_LOCK:
                if (!refusal && first->hear_knocks)
                        r = hear_knocks(asker, first->queue, err);
                callbacks->on_locked(asker->consumer, first->suffix, !refusal, first->lease_ms,
                                     refusal && !is_held(refusal, why) ? why : NULL, userdata);
                break;
        case ASK_UNLOCK:
                callbacks->on_unlocked(asker->consumer, first->suffix, userdata);
                break;
        case ASK_DROP:
                callbacks->on_dropped(asker->consumer, first->token, refusal ? DROPPED_NO_QUEUE : n,
                                      refusal && refusal != REPLY_NOT_FOUND ? why : NULL, userdata);
        }
        return r;
}

// A lock keeps the lease with which it was made, and the broker compares that before the holder:
// whoever has another LEASE adopts it, for else it would never know whose the lock is. Only the
// broker's words tell it: "inequivalent arg 'x-expires' for …: received … but current is …
// '60000'".
static bool adopt_lease(Ask *ask, const Error *why)
{
        const char *current = strstr(why->text, "current is ");
        _cleanup_free_ char *digits = NULL;
        int64_t lease_ms = 0;

        if (ask->kind != ASK_LOCK || !strstr(why->text, "inequivalent arg 'x-expires'") ||
            !current || !(current = strchr(current, '\'')))
                return false;
        digits = xstrndup(current + 1, strspn(current + 1, "0123456789"));
        if (str_parse_int(digits, 1, INT64_MAX, &lease_ms, NULL) < 0 || lease_ms == ask->lease_ms)
                return false;
        ask->lease_ms = lease_ms;
        return true;
}

// The answers come in order, so it was the first that was refused; those behind it were not heard.
static int on_closed(Asker *asker, const amqp_method_t *method, Error *err)
{
        const amqp_channel_close_t *closed = method->decoded;
        unsigned refusal = closed->reply_code;
        Ask *first = asker->unanswered, *again = first ? first->next : NULL;
        Error why = ERROR_NONE;
        int r;

        (void)link_closed_error(asker->link, method, &why);
        if (first && adopt_lease(first, &why))
                again = first;
        asker->channel_open = false;
        r = link_agree_closed(asker->link, asker->number, err);
        if (r == 0 && again)
                r = open_channel(asker, asker->number, &asker->channel_open, err);
        for (const Ask *one = again; r == 0 && one; one = one->next)
                r = send_ask(asker, one, err);
        return r < 0 || again == first ? r : answer_first(asker, 0, refusal, &why, err);
}

static int on_knocks_method(Asker *asker, amqp_channel_t number, amqp_method_number_t method,
                            Error *err)
{
        switch (method) {
        case AMQP_BASIC_DELIVER_METHOD:
                asker->consumer->callbacks.on_knock(asker->consumer, asker->consumer->userdata);
                return 0;
        case AMQP_BASIC_CANCEL_METHOD: // the lock was ended
                asker->hears_knocks = false;
                return 0;
        case AMQP_CHANNEL_CLOSE_METHOD:
                asker->hears_knocks = asker->knocks_open = false;
                return link_agree_closed(asker->link, number, err);
        default:
                return 0;
        }
}

int asker_on_frame(Asker *asker, const amqp_frame_t *frame, Error *err)
{
        const amqp_method_t *method = &frame->payload.method;
        const amqp_queue_purge_ok_t *purged;

        if (frame->frame_type != AMQP_FRAME_METHOD)
                return 0;
        if (frame->channel != asker->number)
                return on_knocks_method(asker, frame->channel, method->id, err);
        switch (method->id) {
        case AMQP_CHANNEL_CLOSE_METHOD:
                return on_closed(asker, method, err);
        case AMQP_QUEUE_PURGE_OK_METHOD:
                purged = method->decoded;
                return answer_first(asker, purged->message_count, 0, NULL, err);
        case AMQP_QUEUE_DECLARE_OK_METHOD:
        case AMQP_QUEUE_DELETE_OK_METHOD:
                return answer_first(asker, 0, 0, NULL, err);
        default:
                return 0;
        }
}
