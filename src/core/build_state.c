#include "core/build_state.h"

#include <string.h>

#include "util/macro.h"

// What is not named here is refused: the next state plus one, so that 0 stands for "cannot happen".
#define TO(state) ((state) + 1)

static const int transitions[N_BUILD_STATES][N_BUILD_EVENTS] = {
        [BUILD_QUEUED] =
                {
                        [BUILD_EVENT_START] = TO(BUILD_BUILDING),
                        [BUILD_EVENT_FAIL] = TO(BUILD_FAILED), // refused before Packer started
                        [BUILD_EVENT_CANCEL] = TO(BUILD_CANCELLED),
                        [BUILD_EVENT_SKIP] = TO(BUILD_SKIPPED),
                        [BUILD_EVENT_SUPERSEDE] = TO(BUILD_SUPERSEDED),
                        [BUILD_EVENT_INTERRUPT] = TO(BUILD_INTERRUPTED), // another host's now
                },
        [BUILD_BUILDING] =
                {
                        [BUILD_EVENT_SUCCEED] = TO(BUILD_SUCCEEDED),
                        [BUILD_EVENT_FAIL] = TO(BUILD_FAILED),
                        [BUILD_EVENT_CANCEL] = TO(BUILD_CANCELLED),
                        [BUILD_EVENT_INTERRUPT] = TO(BUILD_INTERRUPTED),
                        [BUILD_EVENT_POSTPONE] = TO(BUILD_QUEUED),
                },
};

static const char *const state_names[N_BUILD_STATES] = {
        [BUILD_QUEUED] = "queued",         [BUILD_BUILDING] = "building",
        [BUILD_SUCCEEDED] = "succeeded",   [BUILD_FAILED] = "failed",
        [BUILD_CANCELLED] = "cancelled",   [BUILD_SKIPPED] = "skipped",
        [BUILD_SUPERSEDED] = "superseded", [BUILD_INTERRUPTED] = "interrupted",
};

static const char *const event_names[N_BUILD_EVENTS] = {
        [BUILD_EVENT_START] = "start",         [BUILD_EVENT_SUCCEED] = "succeed",
        [BUILD_EVENT_FAIL] = "fail",           [BUILD_EVENT_CANCEL] = "cancel",
        [BUILD_EVENT_SKIP] = "skip",           [BUILD_EVENT_SUPERSEDE] = "supersede",
        [BUILD_EVENT_INTERRUPT] = "interrupt", [BUILD_EVENT_POSTPONE] = "postpone",
};

int build_state_next(BuildState state, BuildEvent event)
{
        int to = transitions[state][event];

        return to ? to - 1 : BUILD_EVENT_REFUSED;
}

bool build_state_is_final(BuildState state)
{
        for (size_t event = 0; event < N_BUILD_EVENTS; event++) {
                if (transitions[state][event])
                        return false;
        }
        return true;
}

const char *build_state_name(BuildState state)
{
        return state_names[state];
}

bool build_state_from_name(const char *name, BuildState *ret)
{
        for (size_t at = 0; at < ELEMENTSOF(state_names); at++) {
                if (strcmp(name, state_names[at]) == 0) {
                        *ret = (BuildState)at;
                        return true;
                }
        }
        return false;
}

const char *build_event_name(BuildEvent event)
{
        return event_names[event];
}
