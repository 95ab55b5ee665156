#include "net/amqp_confirms.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"

static Confirm *entry_of(Confirms *confirms, uint64_t tag)
{
        return &confirms->entries[tag % PUBLISH_WINDOW];
}

static void entry_clear(Confirm *entry)
{
        free(entry->message_id);
        free(entry->refusal);
        *entry = (Confirm){0};
}

void confirms_init(Confirms *confirms, PublishDoneFn done, void *userdata)
{
        *confirms = (Confirms){.oldest = 1, .next = 1, .done = done, .userdata = userdata};
}

void confirms_done(Confirms *confirms)
{
        for (size_t at = 0; at < PUBLISH_WINDOW; at++)
                entry_clear(&confirms->entries[at]);
        confirms_init(confirms, confirms->done, confirms->userdata);
}

bool confirms_full(const Confirms *confirms)
{
        return confirms->next - confirms->oldest >= PUBLISH_WINDOW;
}

void confirms_add(Confirms *confirms, uint64_t token, const char *message_id)
{
        *entry_of(confirms, confirms->next) =
                (Confirm){.token = token, .message_id = xstrdup(message_id), .waiting = true};
        confirms->next++;
        confirms->n_waiting++;
}

void confirms_returned(Confirms *confirms, const char *message_id, const char *refusal)
{
        for (uint64_t tag = confirms->oldest; tag < confirms->next; tag++) {
                Confirm *entry = entry_of(confirms, tag);

                if (entry->waiting && !entry->refusal &&
                    strcmp(entry->message_id, message_id) == 0) {
                        entry->refusal = xstrdup(refusal);
                        return;
                }
        }
}

// The callback may publish again, so nothing is held over it.
static void settle_one(Confirms *confirms, uint64_t tag, const Error *err)
{
        Confirm *entry = entry_of(confirms, tag);
        Error returned = ERROR_NONE;
        uint64_t token = entry->token;

        if (!entry->waiting)
                return;
        if (!err && entry->refusal) {
                (void)error_set(&returned, EHOSTUNREACH, "RabbitMQ returned the message: %s",
                                entry->refusal);
                err = &returned;
        }
        entry_clear(entry);
        confirms->n_waiting--;
        while (confirms->oldest < confirms->next && !entry_of(confirms, confirms->oldest)->waiting)
                confirms->oldest++;
        confirms->done(token, err, confirms->userdata);
}

void confirms_settle(Confirms *confirms, uint64_t tag, bool multiple, const Error *err)
{
        if (tag < confirms->oldest || tag >= confirms->next)
                return;
        for (uint64_t at = multiple ? confirms->oldest : tag; at <= tag; at++)
                settle_one(confirms, at, err);
}

void confirms_fail_all(Confirms *confirms, const Error *err)
{
        confirms_settle(confirms, confirms->next - 1, true, err);
        confirms->oldest = confirms->next = 1;
}
