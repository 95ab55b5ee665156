// From Nova's notifications to records of Aquilon: takes messages from the queue, journals what is
// to be done, makes the steps of many registrations at once, and tells what came of each.
//
// A message is acknowledged when what it asks for is in the journal (STATE_DIR/registrations.db).
// Every step looks at what the broker has, or can be repeated: killed anywhere, the next start goes
// on. Steps are written when they were made, together with all else that one turn of the loop
// writes. When the journal cannot be written the program ends, for only its next start knows what
// is in there.
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "core/config.h"
#include "util/error.h"
#include "util/macro.h"

typedef struct Registrar Registrar;

typedef struct RegistrarOptions {
        bool until_idle; // end when the queue is empty and nothing is left to do
} RegistrarOptions;

// Takes the lock on STATE_DIR, opens the journal, goes on with what is there, starts to consume.
// `config` is borrowed. SIGTERM and SIGINT must be blocked; they end the loop when the requests
// that are on their way have their answers.
int registrar_new(const Config *config, const RegistrarOptions *options, sd_event *event,
                  Registrar **ret, Error *err) must_check;
void registrar_free(Registrar *registrar);
DEFINE_CLEANUP(Registrar, registrar_free)
