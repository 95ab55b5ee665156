// Packers that a dead worker of the same STATE_DIR left: found by what we put into their
// environment, so that none is missed, whatever the journal had time to say.
//
// The kernel sent each of them TERM when the worker died, so they are cleaning up (server,
// keypair); their images are not built again before they are gone. Scripts that outlive their
// Packer are killed.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/error.h"

// Variables of each Packer's environment by which it is known later.
#define PREDECESSOR_STATE_DIR "PACKUILON_STATE_DIR"
#define PREDECESSOR_TARGET "PACKUILON_TARGET" // see predecessor_target
#define PREDECESSOR_BUILD_ID "PACKUILON_BUILD_ID"
#define PREDECESSOR_FOLDER "PACKUILON_FOLDER" // number of its TMPDIR, STATE_DIR/tmp/<number>

typedef struct Predecessors Predecessors;

// Called each time one is gone, with its predecessor_target.
typedef void (*PredecessorFn)(const char *target, void *userdata);

// Looks through /proc, once; sends each Packer TERM again; after grace_seconds KILL to all that it
// started, too. Removes every TMPDIR in
// STATE_DIR/tmp whose Packer is gone, now or when it goes. For the holder of the worker's lock.
int predecessors_find(sd_event *event, const char *state_dir, int64_t grace_seconds,
                      PredecessorFn on_gone, void *userdata, Predecessors **ret,
                      Error *err) must_check;

// True while one works on this image and template.
bool predecessors_hold(const Predecessors *predecessors, const char *image,
                       const char *template_path);

bool predecessors_hold_target(const Predecessors *predecessors, const char *target);

// Names each of their targets, some more than once.
void predecessors_each(const Predecessors *predecessors, PredecessorFn fn, void *userdata);

// True while one has that TMPDIR.
bool predecessors_use_folder(const Predecessors *predecessors, unsigned folder);

void predecessors_free(Predecessors *predecessors);
DEFINE_CLEANUP(Predecessors, predecessors_free)

// "<image>.<template>", both as in the name of the build file. The caller frees.
char *predecessor_target(const char *image, const char *template_path);
