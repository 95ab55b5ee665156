// registrations.db in STATE_DIR: which servers nova2aquilon has registered with Aquilon, or is at.
#pragma once

#include "core/registration_state.h"
#include "core/store.h"

// What is still to be told of a registration whose steps are over.
typedef enum RegistrationDebt {
        DEBT_NOVA = 1,   // AQ_STATUS in the server's metadata
        DEBT_FAILED = 2, // the message in <QUEUE>.failed
} RegistrationDebt;

typedef struct Registration {
        int64_t id;
        char *server; // Nova's id of it
        RegistrationState state;
        RegistrationStep step;
        char *name; // of the server in Nova; may be NULL, as all that follow
        char *build_id;
        char *personality;
        char *address;
        char *host;        // its name in Aquilon
        char *machine;     // that we have added
        char *old_machine; // that is being deleted, with its host
        unsigned debts;
        int64_t attempt;                             // of the step; 0 is the first
        int64_t begun_ms, changed_ms, not_before_ms; // since the epoch
        char *reason;                                // of the last failure
        char *notice;                                // the notification, as notification_encode
} Registration;

void registration_done(Registration *registration);

// STORE_NOT_FOUND.
int store_registration_find(Store *store, const char *server, Registration *ret,
                            Error *err) must_check;

// Inserts it, with the first line of its history; fills id.
int store_registration_insert(Store *store, Registration *registration, int64_t now_ms,
                              Error *err) must_check;

// The one place where a registration changes state: writes all its fields and a line of history.
// -EINVAL, and nothing changed, if registration_state_next refuses.
int store_registration_transition(Store *store, Registration *registration, RegistrationEvent event,
                                  int64_t now_ms, Error *err) must_check;

// Writes all fields but the state; with `what` a line of history, too.
int store_registration_save(Store *store, Registration *registration, const char *what,
                            const char *detail, int64_t now_ms, Error *err) must_check;

typedef struct RegistrationFilter {
        bool only_open;                 // busy, or with debts
        const RegistrationState *state; // NULL: any
        int64_t limit;                  // newest first; 0: all, oldest first
} RegistrationFilter;

typedef int (*StoreRegistrationFn)(const Registration *registration, void *userdata);
// A negative return ends the walk and is returned.
int store_registrations_each(Store *store, const RegistrationFilter *filter, StoreRegistrationFn fn,
                             void *userdata, Error *err) must_check;

// BuildEventRecord, for it has the same form.
int store_registration_events_each(Store *store, int64_t id, StoreEventFn fn, void *userdata,
                                   Error *err) must_check;

// Forgets what has been over since before that time.
int store_registrations_prune(Store *store, int64_t before_ms, Error *err) must_check;

// How many notifications of a type were read, since ever.
int store_notifications_count(Store *store, const char *type, int64_t n, Error *err) must_check;
typedef int (*StoreCountFn)(const char *type, int64_t n, void *userdata);
int store_notifications_each(Store *store, StoreCountFn fn, void *userdata, Error *err) must_check;
