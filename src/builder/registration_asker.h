// A process that asks Nova about the registration of servers: the helper ask-registration. Asking
// takes libcurl and all that it loads, which rabbit2packer otherwise does without for weeks.
//
// The helper takes the ids of servers, one a line, and answers each with a line that is a JSON
// object: "server"; "gone": true, or "error" with "no_login", or what of "status", "reason" and
// "host" there is. It ends when its input does.
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "util/error.h"
#include "util/macro.h"

typedef struct RegistrationAsker RegistrationAsker;

#define REGISTRATION_HELPER "ask-registration"

typedef struct RegistrationAnswer {
        const char *server;
        bool gone;         // it is not there (any more)
        bool no_login;     // for want of a login Nova was not asked
        const char *error; // NULL: Nova has answered
        // AQ_STATUS, AQ_STATUS_REASON and HOSTNAMES of its metadata, safe to show; NULL: not there.
        const char *status, *reason, *host;
} RegistrationAnswer;

typedef struct RegistrationAskerCallbacks {
        void (*on_answer)(const RegistrationAnswer *answer, void *userdata);
        // The helper has ended, or makes no sense: no answer comes any more, the callee frees.
        void (*on_end)(const Error *why, void *userdata);
} RegistrationAskerCallbacks;

// `auth_file` is an openrc. The callbacks come from the loop. SIGCHLD must be blocked.
int registration_asker_start(sd_event *event, const char *program, const char *auth_file,
                             const RegistrationAskerCallbacks *callbacks, void *userdata,
                             RegistrationAsker **ret, Error *err) must_check;

// The answer comes in its time; < 0: this helper cannot be asked any more.
int registration_asker_ask(RegistrationAsker *asker, const char *server, Error *err) must_check;

// The helper is killed; from a callback, too.
void registration_asker_free(RegistrationAsker *asker);
DEFINE_CLEANUP(RegistrationAsker, registration_asker_free)
