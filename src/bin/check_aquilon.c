// The part of `packuilon check` about nova2aquilon: Nova's queue, the broker and the login there,
// Nova's API.
#include <inttypes.h>
#include <string.h>

#include "aquilon/broker.h"
#include "aquilon/nova_queue.h"
#include "bin/check.h"
#include "net/kerberos.h"
#include "net/queue.h"

// One question to a neighbour, answered in a loop of its own.
typedef struct Question {
        Check *check;
        sd_event *event;
        const char *what;
        const char *where;
} Question;

static void on_broker(const BrokerAnswer *answer, void *userdata)
{
        Question *question = userdata;

        if (answer->outcome == BROKER_OK)
                check_ok(question->check, question->what, "%s", question->where);
        else
                check_fail(question->check, question->what, "%s: %s", question->where,
                           answer->err->text);
        (void)sd_event_exit(question->event, 0);
}

static int ask_broker(Question *question, Error *err)
{
        static const BrokerValues none = {0};
        Broker *broker = NULL;
        int r = broker_new(&question->check->config->aquilon, question->event, on_broker, question,
                           &broker, err);

        if (r == 0)
                r = broker_call(broker, BROKER_STATUS, &none, NULL, err);
        if (r == 0)
                (void)sd_event_loop(question->event);
        if (broker)
                broker_free(broker);
        return r;
}

static void ask_broker_in_a_loop(Question *question)
{
        Error err = ERROR_NONE;

        if (sd_event_new(&question->event) < 0)
                return;
        if (ask_broker(question, &err) < 0)
                check_fail(question->check, question->what, "%s", err.text);
        question->event = sd_event_unref(question->event);
}

static void check_nova_queue(Check *check)
{
        const AquilonConfig *config = &check->config->aquilon;
        const Config nova = nova_queue_config(check->config);
        Error err = ERROR_NONE;
        int64_t ready;

        if (queue_probe(&nova, &ready, &err) < 0)
                check_fail(check, "notifications", "%s", err.text);
        else if (ready < 0)
                check_warn(check, "notifications",
                           "queue %s is not there yet: nova2aquilon will make it; is \"%s\" among "
                           "Nova's notification topics?",
                           config->queue, config->queue);
        else
                check_ok(check, "notifications", "queue %s, %" PRId64 " waiting", config->queue,
                         ready);
}

static void check_ticket(Check *check)
{
        const AquilonConfig *config = &check->config->aquilon;
        Error err = ERROR_NONE;

        kerberos_use(config->keytab, config->ccache);
        if (kerberos_check(&err) < 0)
                check_fail(check, "Kerberos", "%s", err.text);
        else
                check_ok(check, "Kerberos", "a valid ticket");
}

void check_aquilon(Check *check)
{
        const AquilonConfig *config = &check->config->aquilon;
        Question broker = {.check = check, .what = "Aquilon broker", .where = config->url};
        Error err = ERROR_NONE;

        if (!config->url) // a site without it is whole
                return;
        if (config_require_aquilon(check->config, &err) < 0) {
                check_fail(check, "nova2aquilon", "%s", err.text);
                return;
        }
        check_nova_queue(check);
        if (config->auth == AQUILON_AUTH_NEGOTIATE)
                check_ticket(check);
        ask_broker_in_a_loop(&broker);
        if (config->auth_file)
                check_nova(check);
        else
                check_warn(check, "Nova",
                           "no NOVA_AUTH_FILE: builds and guests are not told what came of a "
                           "registration");
}
