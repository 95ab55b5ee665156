// Who is to know what came of a registration: Nova, in the server's metadata, where a guest or a
// build looks; and for a failure the queue <QUEUE>.failed, where an operator does.
#include <errno.h>
#include <string.h>

#include "aquilon/registrar_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define FAILED_SUFFIX ".failed"
#define RESEND_MS (60 * 1000)

static void settle(Task *task, RegistrationDebt debt, const char *what, const char *detail)
{
        task->row.debts &= ~(unsigned)debt;
        registrar_save(task, what, detail);
        registrar_tell(task);
}

// ---- Nova ---------------------------------------------------------------------------------

// At most NOVA_METADATA_MAX bytes, cut between characters.
static json_t *short_text(const char *text)
{
        size_t len = strlen(text);

        if (len > NOVA_METADATA_MAX) {
                len = NOVA_METADATA_MAX;
                while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80)
                        len--;
        }
        return json_stringn(text, len);
}

static void put(json_t *pairs, const char *key, const char *value)
{
        if (value)
                (void)json_object_set_new(pairs, key, short_text(value));
}

// A reason that was told earlier is taken back by an empty one.
static json_t *make_pairs(const Task *task)
{
        bool failed = task->row.state == REGISTRATION_FAILED;
        json_t *pairs = json_object();

        put(pairs, "AQ_STATUS", failed ? "FAILED" : "SUCCESS");
        if (failed)
                put(pairs, "AQ_STATUS_REASON", task->row.reason ? task->row.reason : "unknown");
        else if (notification_value(&task->notification.metadata, "AQ_STATUS_REASON") ||
                 task->row.reason)
                put(pairs, "AQ_STATUS_REASON", "");
        put(pairs, "HOSTNAMES", task->row.host);
        put(pairs, "AQ_MACHINE", task->row.machine);
        return pairs;
}

static void on_told(const NovaAnswer *answer, void *userdata)
{
        Task *task = userdata;

        task->telling = false;
        if (!(task->row.debts & DEBT_NOVA)) { // the server was deleted meanwhile
                registrar_tell(task);
                return;
        }
        if (answer->outcome == NOVA_OK) {
                settle(task, DEBT_NOVA, "told Nova", NULL);
                return;
        }
        if (answer->outcome == NOVA_NO_SERVER) {
                settle(task, DEBT_NOVA, "not told Nova", "the server is not there any more");
                return;
        }
        if (answer->outcome == NOVA_REFUSED || registrar_is_late(task->registrar, task->over_ms)) {
                log_error("server %s: Nova cannot be told: %s", task->row.server,
                          answer->err->text);
                settle(task, DEBT_NOVA, "not told Nova", answer->err->text);
                return;
        }
        if (task->row.attempt++ == 0)
                log_warning("server %s: Nova cannot be told yet: %s", task->row.server,
                            answer->err->text);
        registrar_delay(task, registrar_backoff_ms(task));
        registrar_save(task, NULL, NULL);
}

static void tell_nova(Task *task)
{
        json_t *pairs;

        if (!task->registrar->nova) {
                task->row.debts &= ~(unsigned)DEBT_NOVA;
                registrar_save(task, NULL, NULL);
                return;
        }
        pairs = make_pairs(task);
        task->telling = true;
        nova_set_metadata(task->registrar->nova, task->row.server, pairs, on_told, task);
        json_decref(pairs);
}

// ---- <QUEUE>.failed -----------------------------------------------------------------------

static void send_failed(Task *task)
{
        static const SendSpec spec = {.suffix = FAILED_SUFFIX};
        char *program = program_invocation_short_name;
        const Message message = {.body = task->row.notice,
                                 .body_len = strlen(task->row.notice),
                                 .app_id = program,
                                 .reason = task->row.reason};

        task->sending = true;
        consumer_send(task->registrar->consumer, &message, &spec, (uint64_t)task->row.id);
}

static Task *find_id(TaskList *list, uint64_t id)
{
        Task *task;

        TAILQ_FOREACH(task, list, link)
        {
                if ((uint64_t)task->row.id == id)
                        return task;
        }
        return NULL;
}

void registrar_on_sent(Consumer *consumer, uint64_t token, const Error *err, void *userdata)
{
        Registrar *registrar = userdata;
        TaskList *lists[] = {&registrar->telling, &registrar->delayed, &registrar->ready,
                             &registrar->running};
        Task *task = NULL;

        (void)consumer;
        for (size_t at = 0; at < ELEMENTSOF(lists) && !task; at++)
                task = find_id(lists[at], token);
        if (!task || !task->sending)
                return;
        task->sending = false;
        if (!err) {
                settle(task, DEBT_FAILED, NULL, NULL);
                return;
        }
        log_warning("server %s: %s", task->row.server, err->text);
        if (task->place == TASK_TELLING)
                registrar_delay(task, RESEND_MS);
}

static void resend(TaskList *list)
{
        Task *task, *next;

        for (task = TAILQ_FIRST(list); task; task = next) {
                next = TAILQ_NEXT(task, link);
                task->sending = false;
                if (task->place == TASK_TELLING)
                        registrar_tell(task);
        }
}

void registrar_tell_again(Registrar *registrar)
{
        resend(&registrar->delayed);
        resend(&registrar->ready);
        resend(&registrar->running);
        resend(&registrar->telling);
}

// ---- both ---------------------------------------------------------------------------------

void registrar_tell(Task *task)
{
        if (registration_state_is_busy(task->row.state))
                return;
        if (task->row.debts & DEBT_NOVA && !task->telling)
                tell_nova(task);
        if (task->row.debts & DEBT_FAILED && !task->sending && task->registrar->connected)
                send_failed(task);
        if (!task->row.debts && !task->telling && !task->sending)
                task_free(task);
}
