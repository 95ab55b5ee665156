// The Aquilon broker's REST interface: the calls that a registration needs, as one table.
#pragma once

#include <systemd/sd-event.h>

#include "core/config.h"
#include "util/error.h"

#define BROKER_INTERFACE "eth0" // of every machine: a server is registered with one address

typedef enum BrokerCall {
        BROKER_STATUS,
        BROKER_FIND_MACHINE, // by serial number: the server's id
        BROKER_FIND_HOST,    // of a machine
        BROKER_SHOW_HOST,
        BROKER_SHOW_MACHINE,
        BROKER_DELETE_HOST,
        BROKER_DELETE_ADDRESS,
        BROKER_DELETE_INTERFACE,
        BROKER_DELETE_MACHINE,
        BROKER_ADD_MACHINE,
        BROKER_ADD_INTERFACE,
        BROKER_SET_INTERFACE,
        BROKER_ADD_HOST,
        BROKER_MAKE,
        N_BROKER_CALLS,
} BrokerCall;

// What the calls are made of; one that is NULL is left out of a query.
typedef struct BrokerValues {
        const char *server, *machine, *host, *address, *mac;
        const char *prefix, *model, *vmhost, *cpus, *memory;
        const char *archetype, *personality, *os, *os_version, *domain, *sandbox;
} BrokerValues;

typedef enum BrokerOutcome {
        BROKER_OK,
        BROKER_REFUSED,   // 400 or 404: it is not there, or cannot be added so
        BROKER_TRY_LATER, // anything else: no answer, 503, 401, …
} BrokerOutcome;

typedef struct BrokerAnswer {
        BrokerOutcome outcome;
        const char *text; // the body, without blanks at both ends; "" without one
        const Error *err; // NULL if it is BROKER_OK
        void *userdata;   // the call's
} BrokerAnswer;

typedef struct Broker Broker;
typedef void (*BrokerDoneFn)(const BrokerAnswer *answer, void *userdata);

// `config` is borrowed.
int broker_new(const AquilonConfig *config, sd_event *event, BrokerDoneFn done, void *userdata,
               Broker **ret, Error *err) must_check;
void broker_free(Broker *broker);
DEFINE_CLEANUP(Broker, broker_free)

// `done` is called from the loop.
int broker_call(Broker *broker, BrokerCall call, const BrokerValues *values, void *userdata,
                Error *err) must_check;

// "PUT /host/x.example.org?…" as it is sent, behind AQ_URL. The caller frees.
char *broker_call_path(BrokerCall call, const BrokerValues *values);
const char *broker_call_method(BrokerCall call);

// True if the word stands in the text, with no letter, digit, dot or hyphen beside it.
bool broker_text_has(const char *text, const char *word);

// What follows "Machine: " in the broker's description of a host. NULL if nothing does. The caller
// frees.
char *broker_text_machine(const char *text);
