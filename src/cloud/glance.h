// Glance's API: is an image there?
#pragma once

#include "cloud/session.h"

#define GLANCE_WORD_MAX 64

typedef enum GlanceOutcome {
        GLANCE_OK,
        GLANCE_NO_IMAGE,  // not there, or not to be seen by this project
        GLANCE_REFUSED,   // this project may not ask for it
        GLANCE_SEVERAL,   // more than one image has the name
        GLANCE_NO_ANSWER, // nor would others be answered; `err` says why
} GlanceOutcome;

typedef struct GlanceImage GlanceImage;
typedef void (*GlanceDoneFn)(GlanceImage *image);

// A question and its answer. The caller's, and stays where it is until `done` is called or the
// session is freed.
struct GlanceImage {
        const char *wanted; // a UUID is an id, all else a name, of an active one
        GlanceDoneFn done;
        void *userdata;

        GlanceOutcome outcome;
        char id[GLANCE_WORD_MAX], status[GLANCE_WORD_MAX]; // of GLANCE_OK
        Error err;
};

// Whether Glance would take this for an image's id.
bool glance_is_id(const char *text);

// `done` is called from the loop.
void glance_look_up(Session *session, GlanceImage *image);
// No answer comes any more.
void glance_forget(Session *session, const GlanceImage *image);
