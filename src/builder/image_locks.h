// One build of an image and template (a target) at a time, among all workers of a broker.
//
// Who builds a target holds the lock "<QUEUE>.building.<target>" (consumer_lock), and asks for it
// before Packer starts. It lasts for LEASE from when it was last asked for, which is done at each
// third of it, so it outlives broken connections and killed workers.
//
// A worker that is alone need not ask for each build: it holds "<QUEUE>.alone" instead. One that
// finds it held by another wants to build together: it takes "<QUEUE>.together", which all those
// share, and knocks. The lone worker then takes the locks of what it builds, takes "together", too,
// and gives "alone" up. Each side takes its own lock before it looks for the other's, so that
// never one builds alone while others build. Workers that have met stay together until they end.
//
// A worker that is cut off from the broker for two thirds of LEASE, or longer, may lose its locks:
// others may then build what it is still building.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "net/queue.h"
#include "util/error.h"

typedef struct ImageLocks ImageLocks;

typedef enum ImageLockState {
        IMAGE_LOCK_OURS,    // until image_locks_leave
        IMAGE_LOCK_ASKED,   // on_answer will tell
        IMAGE_LOCK_NOT_NOW, // another's, or who else is there is not known: on_change will tell
} ImageLockState;

typedef struct ImageLocksCallbacks {
        // To a lock that was asked for.
        void (*on_answer)(const char *target, bool ours, void *userdata);
        // A lock that could not be had may be asked for now.
        void (*on_change)(void *userdata);
} ImageLocksCallbacks;

// `worker_id` tells this worker from all others of the broker, and stays the same when it is
// started again. `lease_ms` should be the same for all; the shortest that is met counts.
int image_locks_new(const char *worker_id, int64_t lease_ms, sd_event *event,
                    const ImageLocksCallbacks *callbacks, void *userdata, ImageLocks **ret,
                    Error *err) must_check;
// What is still held only expires, unless image_locks_give_up was called.
void image_locks_free(ImageLocks *locks);

// The consumer's connection was made, …
void image_locks_connected(ImageLocks *locks, Consumer *consumer);
// … was lost or is about to be made anew.
void image_locks_disconnected(ImageLocks *locks);
// The consumer's on_locked, on_unlocked and on_knock.
void image_locks_on_locked(ImageLocks *locks, const char *suffix, bool ours, int64_t lease_ms,
                           const Error *err);
void image_locks_on_unlocked(ImageLocks *locks, const char *suffix);
void image_locks_on_knock(ImageLocks *locks);

// True if it is known who else is there: otherwise image_locks_want is of no use.
bool image_locks_are_settled(const ImageLocks *locks);

// Asks for the lock of a target that this worker does not build. A lock that is asked for or ours
// is kept until image_locks_leave; one that turns out to be another's was not had.
ImageLockState image_locks_want(ImageLocks *locks, const char *target);
// Something of ours works on this target since before this worker was started: its lock is taken,
// and kept, as soon as it can be.
void image_locks_keep(ImageLocks *locks, const char *target);
void image_locks_leave(ImageLocks *locks, const char *target);
// True if image_locks_want would not be answered with NOT_NOW.
bool image_locks_may_want(const ImageLocks *locks, const char *target);

// True while the broker is asked something: ending now could leave a lock that holds up others
// until it expires.
bool image_locks_busy(const ImageLocks *locks);

// This worker takes no more builds and ends: others need not wait for its locks to expire.
void image_locks_give_up(ImageLocks *locks);
