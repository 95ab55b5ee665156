#include "core/registration_state.h"

#include <string.h>

#define SAME N_REGISTRATION_STATES // the event changes nothing

static const RegistrationState next_states[N_REGISTRATION_STATES][N_REGISTRATION_EVENTS] = {
        // created, deleted, done, give up
        [REGISTRATION_REGISTERING] = {SAME, REGISTRATION_REMOVING, REGISTRATION_REGISTERED,
                                      REGISTRATION_FAILED},
        [REGISTRATION_REGISTERED] = {SAME, REGISTRATION_REMOVING, SAME, SAME},
        [REGISTRATION_FAILED] = {REGISTRATION_REGISTERING, REGISTRATION_REMOVING, SAME, SAME},
        [REGISTRATION_REMOVING] = {SAME, SAME, REGISTRATION_REMOVED, REGISTRATION_STUCK},
        [REGISTRATION_REMOVED] = {SAME, SAME, SAME, SAME},
        [REGISTRATION_STUCK] = {SAME, REGISTRATION_REMOVING, SAME, SAME},
};

static const char *const state_names[N_REGISTRATION_STATES] = {
        [REGISTRATION_REGISTERING] = "registering", [REGISTRATION_REGISTERED] = "registered",
        [REGISTRATION_FAILED] = "failed",           [REGISTRATION_REMOVING] = "removing",
        [REGISTRATION_REMOVED] = "removed",         [REGISTRATION_STUCK] = "stuck",
};

static const char *const step_names[N_REGISTRATION_STEPS] = {
        [STEP_NAME_HOST] = "name host",
        [STEP_FIND_MACHINE] = "find machine",
        [STEP_FIND_HOST] = "find host",
        [STEP_FIND_RECORD] = "find record",
        [STEP_DELETE_HOST] = "delete host",
        [STEP_SHOW_MACHINE] = "show machine",
        [STEP_DELETE_ADDRESS] = "delete address",
        [STEP_DELETE_INTERFACE] = "delete interface",
        [STEP_DELETE_MACHINE] = "delete machine",
        [STEP_LOOK_FOR_MACHINE] = "look for machine",
        [STEP_ADD_MACHINE] = "add machine",
        [STEP_LOOK_FOR_INTERFACE] = "look for interface",
        [STEP_ADD_INTERFACE] = "add interface",
        [STEP_SET_INTERFACE] = "set interface",
        [STEP_LOOK_FOR_HOST] = "look for host",
        [STEP_ADD_HOST] = "add host",
        [STEP_LOOK_FOR_RECORD] = "look for record",
        [STEP_MAKE] = "make",
};

static bool find_name(const char *const *names, size_t n, const char *name, size_t *ret)
{
        for (size_t at = 0; at < n; at++) {
                if (strcmp(names[at], name) == 0) {
                        *ret = at;
                        return true;
                }
        }
        return false;
}

bool registration_state_next(RegistrationState state, RegistrationEvent event,
                             RegistrationState *ret)
{
        if (next_states[state][event] == SAME)
                return false;
        *ret = next_states[state][event];
        return true;
}

bool registration_state_is_busy(RegistrationState state)
{
        return state == REGISTRATION_REGISTERING || state == REGISTRATION_REMOVING;
}

const char *registration_state_name(RegistrationState state)
{
        return state_names[state];
}

bool registration_state_from_name(const char *name, RegistrationState *ret)
{
        size_t at;

        if (!find_name(state_names, N_REGISTRATION_STATES, name, &at))
                return false;
        *ret = (RegistrationState)at;
        return true;
}

const char *registration_step_name(RegistrationStep step)
{
        return step_names[step];
}

bool registration_step_from_name(const char *name, RegistrationStep *ret)
{
        size_t at;

        if (!find_name(step_names, N_REGISTRATION_STEPS, name, &at))
                return false;
        *ret = (RegistrationStep)at;
        return true;
}
