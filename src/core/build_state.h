// The life of a build as one table: every pair of state and event is decided here, and nowhere
// else.
#pragma once

#include <stdbool.h>

typedef enum BuildState {
        BUILD_QUEUED,
        BUILD_BUILDING,
        BUILD_SUCCEEDED,
        BUILD_FAILED,
        BUILD_CANCELLED,
        BUILD_SKIPPED,     // no source image, no template, or left alone after failures alike
        BUILD_SUPERSEDED,  // a build that started later covers it
        BUILD_INTERRUPTED, // the worker died while it ran, or lost the message to another host
        N_BUILD_STATES,
} BuildState;

typedef enum BuildEvent {
        BUILD_EVENT_START,   // Packer was started
        BUILD_EVENT_SUCCEED, // exit 0 and an artifact
        BUILD_EVENT_FAIL,    // anything else that ends it
        BUILD_EVENT_CANCEL,  // an operator, or a TERM to Packer from elsewhere
        BUILD_EVENT_SKIP,
        BUILD_EVENT_SUPERSEDE,
        BUILD_EVENT_INTERRUPT, // found building with no process, or its lease ran out
        BUILD_EVENT_POSTPONE,  // it could not get going, through no fault of its own: waits again
        N_BUILD_EVENTS,
} BuildEvent;

#define BUILD_EVENT_REFUSED (-1)

// The next state, or BUILD_EVENT_REFUSED when the event cannot happen in that state.
int build_state_next(BuildState state, BuildEvent event);

// True when nothing more can happen.
bool build_state_is_final(BuildState state);

// "queued", "building", …; the words in the store, the table and the JSON.
const char *build_state_name(BuildState state);
bool build_state_from_name(const char *name, BuildState *ret);
const char *build_event_name(BuildEvent event);
