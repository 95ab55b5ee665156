// A login to OpenStack with an auth file's credentials, and calls of its services with it, in the
// event loop. The token is kept, and renewed when it ends or is refused.
#pragma once

#include <systemd/sd-event.h>

#include "cloud/keystone.h"
#include "net/http.h"
#include "util/error.h"
#include "util/macro.h"

typedef struct Session Session;

// What became of the login.
typedef enum SessionLogin {
        SESSION_LOGGED_IN,
        SESSION_NO_CREDENTIALS, // none that can be used: Keystone was not asked
        SESSION_NO_ANSWER,      // or not one of Keystone's
        SESSION_REFUSED,        // 401
        SESSION_NO_SERVICE,     // there is a token, but its catalog does not name the service
} SessionLogin;

typedef struct SessionAnswer {
        SessionLogin login;
        const HttpResponse *response; // the service's; NULL: it was not asked
        const Error *err;             // why not; NULL if it was, or nothing was to be asked
} SessionAnswer;

typedef void (*SessionDoneFn)(const SessionAnswer *answer, void *userdata);

// A call of a service. All of it is copied, but for `service`, `method` and
// `version`, which are constants.
typedef struct SessionCall {
        const char *service; // its type in the catalog; NULL: the token alone is wanted
        const char *method;  // NULL: only the login, and that the catalog has the service
        const char *version; // "/v2": put behind the service's URL unless it is there; NULL: none
        const char *path;    // behind that
        const char *body;    // JSON; NULL: none
        size_t max_bytes;    // of the answer
} SessionCall;

typedef enum SessionScope {
        SESSION_PROJECT,
        SESSION_UNSCOPED, // only tries user and password: there is no service for it
} SessionScope;

// The auth file is read when a token is needed and it has changed, or the last login was refused.
int session_new(const char *auth_file, SessionScope scope, const HttpLimits *limits,
                sd_event *event, Session **ret, Error *err) must_check;
// What has no answer gets none.
void session_free(Session *session);
DEFINE_CLEANUP(Session, session_free)

// `done` is called from the loop.
void session_call(Session *session, const SessionCall *call, SessionDoneFn done, void *userdata);

// No callback comes for the calls with that userdata.
void session_forget(Session *session, const void *userdata);

// What the last login was made with, and gave; empty before. Borrowed, until the loop goes on.
const AuthEnv *session_env(const Session *session);
const KeystoneGrant *session_grant(const Session *session);
