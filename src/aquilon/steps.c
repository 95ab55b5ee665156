// The order of the steps, and what the broker's answers mean for it. Nothing here waits or calls.
//
// Old records are deleted by looking: find one, delete its parts, look again, until none is found.
// "Not found" is no failure of a deletion; whether a refusal was one shows when the machine is
// still there. An answer that says so wrongly costs some calls, no record.
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "aquilon/task.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define NAME_MAX_BYTES ((size_t)253)
#define SHOWN_MAX 100
#define ROUNDS_MAX 3 // of deleting what is found under one name: then it cannot be deleted

static StepResult go(Task *task, RegistrationStep step)
{
        task->row.step = step;
        return STEP_NEXT;
}

void steps_restart(Task *task)
{
        bool has_name = task->row.host || task->row.state == REGISTRATION_REMOVING;

        task->row.step = has_name ? STEP_FIND_MACHINE : STEP_NAME_HOST;
        task->rounds = 0;
        task->looked = task->unsure = task->verifying = task->searched = false;
}

void steps_resume(Task *task)
{
        RegistrationStep *step = &task->row.step;

        task->searched = false;
        switch (*step) {
        case STEP_FIND_HOST:
        case STEP_DELETE_HOST:
        case STEP_SHOW_MACHINE:
        case STEP_DELETE_ADDRESS:
        case STEP_DELETE_INTERFACE:
        case STEP_DELETE_MACHINE:
                *step = task->row.old_machine ? STEP_FIND_HOST : STEP_FIND_MACHINE;
                break;
        case STEP_FIND_RECORD:
                *step = STEP_FIND_MACHINE;
                break;
        case STEP_ADD_MACHINE:
                *step = STEP_LOOK_FOR_MACHINE;
                break;
        case STEP_ADD_INTERFACE:
                *step = STEP_LOOK_FOR_INTERFACE;
                break;
        case STEP_ADD_HOST:
        case STEP_LOOK_FOR_RECORD:
                *step = STEP_LOOK_FOR_HOST;
                break;
        default:
                break;
        }
}

// ---- names from the broker ----------------------------------------------------------------

// The first line, when it is a name that may stand in a path.
static char *first_name(const char *text)
{
        size_t len = strcspn(text, " \t\r\n");

        if (len == 0 || len > NAME_MAX_BYTES || text[0] == '.')
                return NULL;
        for (size_t at = 0; at < len; at++) {
                unsigned char byte = (unsigned char)text[at];

                if (byte >= 0x80 || (!isalnum(byte) && !strchr("-._", byte)))
                        return NULL;
        }
        return xstrndup(text, len);
}

static int no_name(const char *text, Error *err)
{
        _cleanup_free_ char *shown = str_visible(text, strlen(text), SHOWN_MAX);

        return error_set(err, EBADMSG, "the broker answered \"%s\", which is no name", shown);
}

// A search that finds nothing is answered by nothing; a refusal of it is believed when it comes
// again, but see found_machine. SEARCH_AGAIN, or STEP_NEXT with *ret set or NULL.
#define SEARCH_AGAIN STEP_LAST

static StepResult take_found(Task *task, const BrokerAnswer *answer, char **ret, Error *err)
{
        bool again = answer->outcome == BROKER_REFUSED && !task->searched;

        *ret = NULL;
        task->searched = again;
        if (again)
                return SEARCH_AGAIN;
        if (answer->outcome == BROKER_REFUSED || !*answer->text)
                return STEP_NEXT;
        *ret = first_name(answer->text);
        if (*ret)
                return STEP_NEXT;
        (void)no_name(answer->text, err);
        return STEP_TRY_LATER;
}

// ---- old records --------------------------------------------------------------------------

static void forget_old(Task *task)
{
        replace_string(&task->row.old_machine, NULL);
        replace_string(&task->old_host, NULL);
        replace_string(&task->old_address, NULL);
        task->old_interface = task->verifying = false;
}

static StepResult begin_round(Task *task, Error *err)
{
        if (++task->rounds <= ROUNDS_MAX)
                return STEP_NEXT;
        task->rounds = 0;
        (void)error_set(err, EBUSY, "the old record of machine %s cannot be deleted: %s",
                        task->row.old_machine,
                        *task->refusal ? task->refusal : "it is there again each time");
        return STEP_TRY_LATER;
}

// The machine that we have added is there no more.
static void forget_machine(Task *task)
{
        if (task->row.machine && strcmp(task->row.machine, task->row.old_machine) == 0)
                replace_string(&task->row.machine, NULL);
}

static StepResult found_machine(Task *task, const BrokerAnswer *answer, Error *err)
{
        StepResult result;

        forget_old(task);
        result = take_found(task, answer, &task->row.old_machine, err);
        if (result == SEARCH_AGAIN)
                return go(task, STEP_FIND_MACHINE);
        if (result != STEP_NEXT)
                return result;
        // A refusal may mean anything: the machine that we have added is looked for by its name.
        if (!task->row.old_machine && answer->outcome == BROKER_REFUSED &&
            task->row.state == REGISTRATION_REMOVING)
                task->row.old_machine = xstrdup(task->row.machine);
        if (task->row.old_machine) {
                result = begin_round(task, err);
                return result == STEP_NEXT ? go(task, STEP_FIND_HOST) : result;
        }
        replace_string(&task->row.machine, NULL);
        if (task->row.state == REGISTRATION_REMOVING)
                return STEP_LAST;
        return go(task, STEP_FIND_RECORD);
}

static StepResult found_host(Task *task, const BrokerAnswer *answer, Error *err)
{
        StepResult result;

        replace_string(&task->old_host, NULL);
        result = take_found(task, answer, &task->old_host, err);
        if (result == SEARCH_AGAIN)
                return go(task, STEP_FIND_HOST);
        if (result != STEP_NEXT)
                return result;
        return go(task, task->old_host ? STEP_DELETE_HOST : STEP_SHOW_MACHINE);
}

// A record of the name that the server has now, of another machine: one of ours that is gone. A
// name from the DNS must not delete what was never ours.
static StepResult take_record(Task *task, const AquilonConfig *config, const char *text, Error *err)
{
        _cleanup_free_ char *machine = broker_text_machine(text), *shown = NULL;
        StepResult result;

        forget_old(task);
        if (!machine) {
                (void)error_set(err, EEXIST,
                                "host %s has a record whose machine the broker does not name",
                                task->row.host);
                return STEP_GIVE_UP;
        }
        task->row.old_machine = first_name(machine);
        if (!task->row.old_machine || !str_starts_with(task->row.old_machine, config->prefix)) {
                forget_old(task);
                shown = str_visible(machine, strlen(machine), SHOWN_MAX);
                (void)error_set(err, EEXIST,
                                "host %s is that of machine %s, which is not one of ours "
                                "(AQ_PREFIX %s)",
                                task->row.host, shown, config->prefix);
                return STEP_GIVE_UP;
        }
        replace_string(&task->old_host, task->row.host);
        result = begin_round(task, err);
        return result == STEP_NEXT ? go(task, STEP_DELETE_HOST) : result;
}

static StepResult found_record(Task *task, const AquilonConfig *config, const BrokerAnswer *answer,
                               Error *err)
{
        if (answer->outcome == BROKER_REFUSED)
                return go(task, STEP_ADD_MACHINE);
        return take_record(task, config, answer->text, err);
}

// The first [address] of the broker's description.
static char *address_in(const char *text)
{
        for (const char *at = text; (at = strchr(at, '[')); at++) {
                size_t len = strspn(at + 1, "0123456789abcdefABCDEF.:");

                _cleanup_free_ char *inside = xstrndup(at + 1, len);

                if (at[1 + len] == ']' && strpbrk(inside, ".:"))
                        return TAKE_PTR(inside);
        }
        return NULL;
}

// In the broker's own words: that something answers 404 does not show it.
static bool is_said_gone(const char *text, const char *machine)
{
        _cleanup_free_ char *words = xasprintf("Machine %s not found", machine);

        return strstr(text, words) != NULL;
}

// A machine that is not there has no parts, but for one who asks once only.
static StepResult shown_machine(Task *task, const BrokerAnswer *answer, Error *err)
{
        bool is_there = answer->outcome == BROKER_OK;
        StepResult result = STEP_NEXT;

        if (task->verifying) {
                if (!is_there) {
                        if (is_said_gone(answer->text, task->row.old_machine))
                                forget_machine(task);
                        return go(task, STEP_FIND_MACHINE);
                }
                task->verifying = false;
                result = begin_round(task, err);
                if (result != STEP_NEXT)
                        return result;
        }
        free(TAKE_PTR(task->old_address));
        if (!is_there || (task->row.address && broker_text_has(answer->text, task->row.address)))
                task->old_address = xstrdup(task->row.address);
        else
                task->old_address = address_in(answer->text);
        task->old_interface = !is_there || broker_text_has(answer->text, BROKER_INTERFACE);
        return go(task, task->old_address     ? STEP_DELETE_ADDRESS
                        : task->old_interface ? STEP_DELETE_INTERFACE
                                              : STEP_DELETE_MACHINE);
}

static StepResult deleted(Task *task, const BrokerAnswer *answer)
{
        bool refused = answer->outcome == BROKER_REFUSED;

        if (refused)
                (void)snprintf(task->refusal, sizeof task->refusal, "%s", answer->err->text);
        switch (task->row.step) {
        case STEP_DELETE_HOST:
                return go(task, STEP_SHOW_MACHINE);
        case STEP_DELETE_ADDRESS:
                return go(task, task->old_interface ? STEP_DELETE_INTERFACE : STEP_DELETE_MACHINE);
        case STEP_DELETE_INTERFACE:
                return go(task, STEP_DELETE_MACHINE);
        default:
                if (!refused)
                        forget_machine(task);
                task->verifying = refused;
                return go(task, refused ? STEP_FIND_HOST : STEP_FIND_MACHINE);
        }
}

// ---- new ones -----------------------------------------------------------------------------

// The broker does not add it: perhaps because it is there, from a try whose answer was lost.
static StepResult not_added(Task *task, RegistrationStep look, const BrokerAnswer *answer,
                            Error *err)
{
        if (!task->looked)
                return go(task, look);
        *err = *answer->err;
        return STEP_GIVE_UP;
}

static StepResult looked_for_machine(Task *task, const BrokerAnswer *answer, Error *err)
{
        _cleanup_free_ char *machine = NULL;
        StepResult result = take_found(task, answer, &machine, err);

        if (result == SEARCH_AGAIN)
                return go(task, STEP_LOOK_FOR_MACHINE);
        if (result != STEP_NEXT)
                return result;
        task->looked = !machine;
        if (!machine)
                return go(task, STEP_ADD_MACHINE);
        replace_string(&task->row.machine, machine);
        return go(task, STEP_LOOK_FOR_INTERFACE);
}

static StepResult added_machine(Task *task, const BrokerAnswer *answer, Error *err)
{
        _cleanup_free_ char *machine = NULL;

        if (answer->outcome == BROKER_REFUSED)
                return not_added(task, STEP_LOOK_FOR_MACHINE, answer, err);
        machine = first_name(answer->text);
        if (!machine) {
                (void)no_name(answer->text, err);
                return STEP_TRY_LATER;
        }
        replace_string(&task->row.machine, machine);
        task->looked = false;
        return go(task, STEP_ADD_INTERFACE);
}

static StepResult looked_for_interface(Task *task, const BrokerAnswer *answer)
{
        if (answer->outcome == BROKER_REFUSED) // somebody has deleted the machine
                return go(task, STEP_FIND_MACHINE);
        task->looked = true;
        return go(task, broker_text_has(answer->text, BROKER_INTERFACE) ? STEP_SET_INTERFACE
                                                                        : STEP_ADD_INTERFACE);
}

static StepResult added_interface(Task *task, const BrokerAnswer *answer, Error *err)
{
        if (answer->outcome == BROKER_REFUSED)
                return not_added(task, STEP_LOOK_FOR_INTERFACE, answer, err);
        task->looked = false;
        return go(task, task->row.step == STEP_ADD_INTERFACE ? STEP_SET_INTERFACE : STEP_ADD_HOST);
}

static StepResult looked_for_host(Task *task, const BrokerAnswer *answer, Error *err)
{
        _cleanup_free_ char *host = NULL;
        StepResult result = take_found(task, answer, &host, err);

        if (result == SEARCH_AGAIN)
                return go(task, STEP_LOOK_FOR_HOST);
        if (result != STEP_NEXT)
                return result;
        if (host && strcmp(host, task->row.host) == 0)
                return go(task, STEP_MAKE);
        task->looked = !host;
        return go(task, host ? STEP_FIND_MACHINE : STEP_ADD_HOST);
}

// Refused twice, with no host on the machine: perhaps because the name has a record elsewhere.
static StepResult added_host(Task *task, const BrokerAnswer *answer)
{
        if (answer->outcome == BROKER_REFUSED) {
                (void)snprintf(task->refusal, sizeof task->refusal, "%s", answer->err->text);
                return go(task, task->looked ? STEP_LOOK_FOR_RECORD : STEP_LOOK_FOR_HOST);
        }
        task->looked = false;
        return go(task, STEP_MAKE);
}

static StepResult looked_for_record(Task *task, const AquilonConfig *config,
                                    const BrokerAnswer *answer, Error *err)
{
        if (answer->outcome == BROKER_OK)
                return take_record(task, config, answer->text, err);
        (void)error_set(err, EREMOTEIO, "%s", task->refusal);
        return STEP_GIVE_UP;
}

static StepResult made(const AquilonConfig *config, const BrokerAnswer *answer, Error *err)
{
        if (answer->outcome == BROKER_REFUSED) {
                *err = *answer->err;
                (void)error_prefix(err, "make");
                if (config->make_must_succeed)
                        return STEP_GIVE_UP;
        }
        return STEP_LAST;
}

// ---- all ----------------------------------------------------------------------------------

BrokerCall steps_call(RegistrationStep step)
{
        static const BrokerCall calls[N_REGISTRATION_STEPS] = {
                [STEP_FIND_MACHINE] = BROKER_FIND_MACHINE,
                [STEP_FIND_HOST] = BROKER_FIND_HOST,
                [STEP_FIND_RECORD] = BROKER_SHOW_HOST,
                [STEP_DELETE_HOST] = BROKER_DELETE_HOST,
                [STEP_SHOW_MACHINE] = BROKER_SHOW_MACHINE,
                [STEP_DELETE_ADDRESS] = BROKER_DELETE_ADDRESS,
                [STEP_DELETE_INTERFACE] = BROKER_DELETE_INTERFACE,
                [STEP_DELETE_MACHINE] = BROKER_DELETE_MACHINE,
                [STEP_LOOK_FOR_MACHINE] = BROKER_FIND_MACHINE,
                [STEP_ADD_MACHINE] = BROKER_ADD_MACHINE,
                [STEP_LOOK_FOR_INTERFACE] = BROKER_SHOW_MACHINE,
                [STEP_ADD_INTERFACE] = BROKER_ADD_INTERFACE,
                [STEP_SET_INTERFACE] = BROKER_SET_INTERFACE,
                [STEP_LOOK_FOR_HOST] = BROKER_FIND_HOST,
                [STEP_ADD_HOST] = BROKER_ADD_HOST,
                [STEP_LOOK_FOR_RECORD] = BROKER_SHOW_HOST,
                [STEP_MAKE] = BROKER_MAKE,
        };

        return calls[step];
}

static const char *number(int64_t value, char *text, size_t size)
{
        if (value <= 0)
                return NULL;
        (void)snprintf(text, size, "%" PRId64, value);
        return text;
}

void steps_values(Task *task, const AquilonConfig *config, BrokerValues *ret)
{
        const AquilonRequest *request = &task->request;
        bool is_old = task->row.step < STEP_LOOK_FOR_MACHINE && task->row.step != STEP_FIND_RECORD;

        *ret = (BrokerValues){
                .server = task->row.server,
                .machine = is_old ? task->row.old_machine : task->row.machine,
                .host = is_old ? task->old_host : task->row.host,
                .address = is_old ? task->old_address : task->row.address,
                .mac = request->mac,
                .prefix = config->prefix,
                .model = config->model,
                .vmhost = task->notification.vmhost,
                .cpus = number(task->notification.vcpus, task->cpus, sizeof task->cpus),
                .memory = number(task->notification.memory_mb, task->memory, sizeof task->memory),
                .archetype = request->archetype,
                .personality = request->personality,
                .os = request->os,
                .os_version = request->os_version,
                .domain = request->domain,
                .sandbox = request->sandbox};
}

StepResult steps_answer(Task *task, const AquilonConfig *config, const BrokerAnswer *answer,
                        Error *err)
{
        if (answer->outcome == BROKER_TRY_LATER) {
                *err = *answer->err;
                return STEP_TRY_LATER;
        }
        switch (task->row.step) {
        case STEP_FIND_MACHINE:
                return found_machine(task, answer, err);
        case STEP_FIND_HOST:
                return found_host(task, answer, err);
        case STEP_FIND_RECORD:
                return found_record(task, config, answer, err);
        case STEP_SHOW_MACHINE:
                return shown_machine(task, answer, err);
        case STEP_DELETE_HOST:
        case STEP_DELETE_ADDRESS:
        case STEP_DELETE_INTERFACE:
        case STEP_DELETE_MACHINE:
                return deleted(task, answer);
        case STEP_LOOK_FOR_MACHINE:
                return looked_for_machine(task, answer, err);
        case STEP_ADD_MACHINE:
                return added_machine(task, answer, err);
        case STEP_LOOK_FOR_INTERFACE:
                return looked_for_interface(task, answer);
        case STEP_ADD_INTERFACE:
        case STEP_SET_INTERFACE:
                return added_interface(task, answer, err);
        case STEP_LOOK_FOR_HOST:
                return looked_for_host(task, answer, err);
        case STEP_ADD_HOST:
                return added_host(task, answer);
        case STEP_LOOK_FOR_RECORD:
                return looked_for_record(task, config, answer, err);
        case STEP_MAKE:
                return made(config, answer, err);
        case STEP_NAME_HOST:
        case N_REGISTRATION_STEPS:
                break;
        }
        return STEP_LAST;
}
