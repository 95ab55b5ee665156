// The states of a server's registration with Aquilon, and what moves it from one to another.
#pragma once

#include <stdbool.h>

typedef enum RegistrationState {
        REGISTRATION_REGISTERING,
        REGISTRATION_REGISTERED,
        REGISTRATION_FAILED, // could not be registered
        REGISTRATION_REMOVING,
        REGISTRATION_REMOVED,
        REGISTRATION_STUCK, // could not be removed
        N_REGISTRATION_STATES,
} RegistrationState;

typedef enum RegistrationEvent {
        REGISTRATION_EVENT_CREATED, // Nova says that the server runs
        REGISTRATION_EVENT_DELETED, // … is being deleted
        REGISTRATION_EVENT_DONE,    // the last step was made
        REGISTRATION_EVENT_GIVE_UP, // a step failed for good
        N_REGISTRATION_EVENTS,
} RegistrationEvent;

// False when the event changes nothing in that state: a notification that comes again, or a
// "created" that comes after "deleted". The id of a server never comes back.
bool registration_state_next(RegistrationState state, RegistrationEvent event,
                             RegistrationState *ret);

// True while steps are to be made.
bool registration_state_is_busy(RegistrationState state);

const char *registration_state_name(RegistrationState state);
bool registration_state_from_name(const char *name, RegistrationState *ret);

// What a registration is at. The first of each phase is where it begins anew.
typedef enum RegistrationStep {
        STEP_NAME_HOST, // by the DNS or the pattern
        // Old records: found by the server's id, then by the host's name; each is deleted.
        STEP_FIND_MACHINE,
        STEP_FIND_HOST,
        STEP_FIND_RECORD,
        STEP_DELETE_HOST,
        STEP_SHOW_MACHINE,
        STEP_DELETE_ADDRESS,
        STEP_DELETE_INTERFACE,
        STEP_DELETE_MACHINE,
        // The new ones. Each that cannot be repeated has a step before it that looks whether it was
        // done already, which is made when that is not known.
        STEP_LOOK_FOR_MACHINE,
        STEP_ADD_MACHINE,
        STEP_LOOK_FOR_INTERFACE,
        STEP_ADD_INTERFACE,
        STEP_SET_INTERFACE,
        STEP_LOOK_FOR_HOST,
        STEP_ADD_HOST,
        STEP_LOOK_FOR_RECORD,
        STEP_MAKE,
        N_REGISTRATION_STEPS,
} RegistrationStep;

const char *registration_step_name(RegistrationStep step);
bool registration_step_from_name(const char *name, RegistrationStep *ret);
