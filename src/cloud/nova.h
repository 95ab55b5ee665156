// Nova's API, with the credentials of an openrc, in the event loop. The token is kept and renewed.
#pragma once

#include <stdbool.h>

#include <jansson.h>
#include <systemd/sd-event.h>

#include "util/error.h"
#include "util/macro.h"

typedef struct Nova Nova;

// A number of pairs, as Nova takes them.
#define NOVA_METADATA_MAX 255 // bytes of a key or a value

typedef enum NovaOutcome {
        NOVA_OK,
        NOVA_NO_SERVER, // it is not there (any more)
        NOVA_REFUSED,   // and would be again
        NOVA_TRY_LATER, // no answer, or trouble there; also when the login fails
} NovaOutcome;

typedef struct NovaAnswer {
        NovaOutcome outcome;
        const json_t *document; // NULL: none
        const Error *err;       // NULL if it is NOVA_OK
        bool no_login;          // for want of a token Nova was not asked
} NovaAnswer;

typedef void (*NovaDoneFn)(const NovaAnswer *answer, void *userdata);

// The auth file is read when a token is needed and it has changed, or the last login was refused.
int nova_new(const char *auth_file, sd_event *event, Nova **ret, Error *err) must_check;
// What has no answer gets none.
void nova_free(Nova *nova);
DEFINE_CLEANUP(Nova, nova_free)

// Sets the given pairs of a server's metadata; others stay. `done` is called from the loop.
void nova_set_metadata(Nova *nova, const char *server, const json_t *pairs, NovaDoneFn done,
                       void *userdata);

// The metadata of a server: {"metadata": {…}}.
void nova_get_metadata(Nova *nova, const char *server, NovaDoneFn done, void *userdata);

// Forgets the requests with that userdata: no callback comes for them.
void nova_forget(Nova *nova, const void *userdata);
