// Looks in Nova whether the servers that builds run in could be registered with Aquilon: whoever
// registers them (nova2aquilon) writes AQ_STATUS to their metadata. Without it a guest waits for a
// profile that never comes.
//
// Stands on its own. A helper asks (registration_asker.h), which is there while there is something
// to ask. What cannot be asked is asked again later, more and more rarely while the login or the
// helper fails, which alone is said, and once: a build does not depend on it.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct RegistrationWatch RegistrationWatch;

// `text`: what is to be said of it, safe to show. Called once for each server, from the loop,
// unless it is forgotten before.
typedef void (*RegistrationWatchFn)(bool failed, const char *text, void *userdata);

// `program`: the helper.
RegistrationWatch *registration_watch_new(sd_event *event, const char *program,
                                          RegistrationWatchFn done);
void registration_watch_free(RegistrationWatch *watch);
DEFINE_CLEANUP(RegistrationWatch, registration_watch_free)

// Asks every `seconds` until there is an answer. `auth_file` is an openrc.
void registration_watch_begin(RegistrationWatch *watch, const char *auth_file, int64_t seconds,
                              const char *server, void *userdata);
void registration_watch_end(RegistrationWatch *watch, const void *userdata);
bool registration_watch_has(const RegistrationWatch *watch, const void *userdata);
