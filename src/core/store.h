// What survives a restart, in SQLite files of STATE_DIR, one for each program: profiles.db (what
// the scanner knows of each profile), builds.db (local queue, builds and their history) and
// registrations.db (core/store_registrations.h), so that none waits for another. All SQL is in
// store*.c. WAL, synchronous=FULL: what was committed is on disk.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/build_state.h"
#include "core/config.h"
#include "core/content_id.h"
#include "core/message.h"
#include "util/error.h"
#include "util/hash.h"

typedef struct Store Store;

typedef enum StoreKind { STORE_PROFILES, STORE_BUILDS, STORE_REGISTRATIONS } StoreKind;
typedef enum StoreMode { STORE_READ_WRITE, STORE_READ_ONLY } StoreMode;

#define STORE_NOT_FOUND 1

// Opens STATE_DIR/<kind>.db; with STORE_READ_WRITE it is made (and STATE_DIR, 0750) or migrated.
// Files are 0640 whatever the umask.
// STORE_NOT_FOUND: read-only and not there yet. A file of a newer version is refused.
int store_open(const char *state_dir, StoreKind kind, StoreMode mode, Store **ret,
               Error *err) must_check;
void store_close(Store *store);
DEFINE_CLEANUP(Store, store_close)
#define _cleanup_store_ _cleanup_(store_close_p)

// A write transaction (BEGIN IMMEDIATE). Nested begins are refused; store_commit outside one is a
// no-op, so that a loop may commit at its end whatever happened. When SQL fails inside one (the
// disk is full), SQLite may have undone what was written before: every later write and the commit
// then fail with the words of that first failure. A commit that fails has rolled back.
int store_begin(Store *store, Error *err) must_check;
int store_commit(Store *store, Error *err) must_check;
void store_rollback(Store *store);
bool store_in_transaction(const Store *store);

// ---- profiles.db: what the scanner knows --------------------------------------------------

typedef struct ProfileRecord {
        const char *name;  // entry of the index
        int64_t mtime;     // of the index entry last dealt with, as the index writes it
        Checksum raw;      // of the profile's bytes
        ContentId content; // its id, with…
        Digest ignore;     // …these ignored paths
        bool in_order;     // profile_in_order of it
        bool has_content;  // false: seen in the index, content never fetched (record mode)
        bool has_id;       // false: the id is of a version that made other ones
        char *error;       // why it is to be retried; NULL when it is up to date
} ProfileRecord;

typedef int (*StoreProfileFn)(const ProfileRecord *record, void *userdata);

// Calls fn with each record's name, mtime and error (only those; the digests are left out: this is
// the walk over 50,000). A negative return ends the walk and is returned.
int store_profiles_each(Store *store, StoreProfileFn fn, void *userdata, Error *err) must_check;

// One whole record, for profile_record_done. STORE_NOT_FOUND.
int store_profile_get(Store *store, const char *name, ProfileRecord *ret, Error *err) must_check;
void profile_record_done(ProfileRecord *record); // frees error; name stays the caller's
int store_profile_put(Store *store, const ProfileRecord *record, Error *err) must_check;
int store_profile_delete(Store *store, const char *name, Error *err) must_check;

// Small values of the scanner: "index_etag", "index_last_modified", … *ret is NULL when unset.
int store_meta_get(Store *store, const char *key, char **ret, Error *err) must_check;
int store_meta_set(Store *store, const char *key, const char *value, Error *err) must_check;

// ---- builds.db: the local queue ----------------------------------------------------------

// Appends a message to queue `queue`.
int store_queue_push(Store *store, const char *queue, const Message *message,
                     Error *err) must_check;

// The oldest message not taken yet, marked as taken. STORE_NOT_FOUND when there is none.
int store_queue_take(Store *store, const char *queue, int64_t *ret_id, Message *ret,
                     Error *err) must_check;
int store_queue_remove(Store *store, int64_t id, Error *err) must_check;
int store_queue_release(Store *store, int64_t id, Error *err) must_check;

// At the start of the only consumer: what a dead one had taken is free again.
int store_queue_release_all(Store *store, const char *queue, Error *err) must_check;
int store_queue_count(Store *store, const char *queue, int64_t *ret, Error *err) must_check;

// ---- builds.db: builds and their history -------------------------------------------------

typedef struct Build {
        int64_t id;
        char *build_id; // UUID; PACKUILON_BUILD_ID in the image's metadata
        BuildState state;
        char *image;    // image name; NULL until known
        char *template; // template path; NULL until known
        char *personality;
        char *os;
        char *source_image;
        char *entry, *content_id, *message_id, *changes; // from the message
        int64_t attempt;                                 // 1 is the first
        int64_t not_before_ms;                           // since the epoch; 0: may start at once
        char *failure; // failure_signature of a failed build; NULL: not failed
        int64_t queued_ms, started_ms, ended_ms; // since the epoch; 0: not yet
        int64_t pid;       // of Packer while building; at the end the row forgets it
        int64_t exit_code; // -1: none
        char *artifact;    // id of the image
        char *reason;      // why the last state was entered
        char *phase;       // what Packer is at while building; forgotten likewise
        char *log_path;
} Build;

void build_done(Build *build);

typedef struct BuildEventRecord {
        int64_t at_ms;
        char *what;   // a state's name, or "phase"
        char *detail; // reason, or the phase's name; may be NULL
} BuildEventRecord;

// Inserts a queued build with its work (the message's body, kept until all is over) and the first
// line of its history; fills build->id.
int store_build_insert(Store *store, Build *build, const char *body, size_t body_len,
                       Error *err) must_check;

// The one place where a build changes state: applies the event by build_state_next, writes the
// fields of `build` and a line of history with `reason` (may be NULL), sets state, reason and
// started_ms or ended_ms. -EINVAL, and nothing changed, if refused or if the row is over already.
int store_build_transition(Store *store, Build *build, BuildEvent event, const char *reason,
                           int64_t now_ms, Error *err) must_check;

// Notes that Packer entered a phase.
int store_build_phase(Store *store, Build *build, const char *phase, int64_t now_ms,
                      Error *err) must_check;

// Notes something else in its history; `what` is no state's name, nor "phase".
int store_build_note(Store *store, const Build *build, const char *what, const char *detail,
                     int64_t now_ms, Error *err) must_check;

int store_build_get(Store *store, int64_t id, Build *ret, Error *err) must_check;

// The body that was inserted with it. STORE_NOT_FOUND when the build is over. The caller frees.
int store_build_body(Store *store, int64_t id, char **ret, size_t *ret_len, Error *err) must_check;

typedef enum MessageFate {
        MESSAGE_NEW,        // no build here came from it
        MESSAGE_UNFINISHED, // one that did is not over
        MESSAGE_OVER,
        MESSAGE_GIVEN_AWAY, // one was interrupted and none here went on with it
} MessageFate;

// *ret_id: the newest build that came from it, 0 if none did.
int store_message_fate(Store *store, const char *message_id, MessageFate *ret, int64_t *ret_id,
                       Error *err) must_check;

// The body of the message and what its builds know of its properties (not app_id and timestamp).
// STORE_NOT_FOUND when all of them are over.
int store_message_get(Store *store, const char *message_id, Message *ret, Error *err) must_check;

// How many builds in a row, up to the last one, failed with this signature for one image and
// template. A build that succeeded, or failed otherwise, ends the row; others do not count.
int store_build_count_failures(Store *store, const char *image, const char *template,
                               const char *failure, int64_t *ret, Error *err) must_check;

// Its newest failed build, if nothing succeeded since. STORE_NOT_FOUND.
int store_build_last_failed(Store *store, const char *image, const char *template, Build *ret,
                            Error *err) must_check;

// When the newest build of that image and template that is building or succeeded was started,
// since the epoch; STORE_NOT_FOUND.
int store_build_last_started(Store *store, const char *image, const char *template, int64_t *ret_ms,
                             int64_t *ret_id, Error *err) must_check;

// ---- builds.db: leases --------------------------------------------------------------------

// One copy of a message that the broker may hold, in a queue that `slot` is part of the name of.
typedef struct LeaseRecord {
        int64_t slot;
        const char *message_id;
        const char *app_id; // may be NULL
        int64_t timestamp;  // seconds since the epoch
        int64_t ends_ms;    // since the epoch; 0: it is not known to be there
} LeaseRecord;

typedef int (*StoreLeaseFn)(const LeaseRecord *record, void *userdata);
int store_leases_each(Store *store, StoreLeaseFn fn, void *userdata, Error *err) must_check;
int store_lease_put(Store *store, const LeaseRecord *record, Error *err) must_check;
int store_lease_delete(Store *store, int64_t slot, Error *err) must_check;

// The UUID that the worker with this journal has for all its life. The caller frees.
int store_worker_id(Store *store, char **ret, Error *err) must_check;

// ---- builds.db: what operators ask of a worker ---------------------------------------------

// Asks that a build be cancelled; `by` names who asked (for the history). The worker is woken by
// the change of STATE_DIR/worker.wake, which the caller writes.
int store_cancel_request(Store *store, int64_t build, const char *by, Error *err) must_check;

// The request for the build with the lowest id above `after`. STORE_NOT_FOUND. The caller frees
// *ret_by. A request stays until it is dropped, so that it outlives a worker that dies while Packer
// cleans up.
int store_cancel_next(Store *store, int64_t after, int64_t *ret_build, char **ret_by,
                      Error *err) must_check;
int store_cancel_drop(Store *store, int64_t build, Error *err) must_check;

typedef struct BuildFilter {
        bool only_unfinished;
        const BuildState *state; // NULL: any
        const char *image;       // NULL: any
        int64_t limit;           // newest first; 0: all
        bool oldest_first;
} BuildFilter;

typedef int (*StoreBuildFn)(const Build *build, void *userdata);
int store_builds_each(Store *store, const BuildFilter *filter, StoreBuildFn fn, void *userdata,
                      Error *err) must_check;

typedef int (*StoreEventFn)(const BuildEventRecord *event, void *userdata);
int store_build_events_each(Store *store, int64_t id, StoreEventFn fn, void *userdata,
                            Error *err) must_check;
