// The tables of the files. A released step is never changed: what comes later is a further step.
#include "core/store_internal.h"

static const char *const profiles_steps[] = {
        "CREATE TABLE profile ("
        " name TEXT NOT NULL PRIMARY KEY,"
        " mtime INTEGER NOT NULL,"
        " error TEXT,"     // NULL: up to date
        " raw BLOB,"       // these three are NULL until the profile was fetched
        " content BLOB,"   //
        " ignored BLOB"    //
        ") WITHOUT ROWID;" //
        "CREATE TABLE meta ("
        " key TEXT NOT NULL PRIMARY KEY,"
        " value TEXT NOT NULL"
        ") WITHOUT ROWID;",
        // `content` was a SHA-256 before, and is told from those by its length.
        "ALTER TABLE profile ADD COLUMN in_order INTEGER NOT NULL DEFAULT 0;",
};

// A body is in a table of its own, once for each content: a change of state must not rewrite 100
// MB, and the message in the queue and the builds that came from it share one copy. Which rows
// refer to it is asked of the indexes on `body` when one of them ends (store_body_drop).
//
// AUTOINCREMENT: ids are handed out and shown, so none may come back for another row.
static const char *const builds_steps[] = {
        "CREATE TABLE body ("
        " id INTEGER PRIMARY KEY,"
        " digest BLOB NOT NULL UNIQUE," // SHA-256 of content
        " content BLOB NOT NULL"
        ");"
        "CREATE TABLE message ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " queue TEXT NOT NULL,"
        " taken INTEGER NOT NULL DEFAULT 0,"
        " body INTEGER NOT NULL REFERENCES body (id),"
        " timestamp INTEGER NOT NULL,"
        " message_id TEXT,"
        " app_id TEXT,"
        " entry TEXT,"
        " content_id TEXT,"
        " changes TEXT,"
        " reason TEXT"
        ");"
        "CREATE INDEX message_free ON message (queue, id) WHERE taken = 0;"
        "CREATE INDEX message_body ON message (body);"
        "CREATE TABLE build ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " build_id TEXT NOT NULL UNIQUE,"
        " state TEXT NOT NULL," // build_state_name
        " image TEXT,"
        " template TEXT,"
        " personality TEXT,"
        " os TEXT,"
        " source_image TEXT,"
        " entry TEXT,"
        " content_id TEXT,"
        " message_id TEXT,"
        " attempt INTEGER NOT NULL,"
        " not_before_ms INTEGER," // NULL: may start at once
        " queued_ms INTEGER NOT NULL,"
        " started_ms INTEGER,"
        " ended_ms INTEGER," // NULL: not over
        " pid INTEGER,"
        " exit_code INTEGER,"
        " artifact TEXT,"
        " reason TEXT,"
        " failure TEXT," // signature of a failure, to tell like from unlike
        " phase TEXT,"
        " log_path TEXT,"
        " body INTEGER REFERENCES body (id)," // NULL when it is over
        " changes TEXT"
        ");"
        "CREATE INDEX build_unfinished ON build (id) WHERE ended_ms IS NULL;"
        "CREATE INDEX build_state ON build (state, id);"
        "CREATE INDEX build_image ON build (image, id);"
        "CREATE INDEX build_message ON build (message_id) WHERE message_id IS NOT NULL;"
        "CREATE INDEX build_body ON build (body) WHERE body IS NOT NULL;"
        "CREATE TABLE build_event ("
        " id INTEGER PRIMARY KEY,"
        " build INTEGER NOT NULL REFERENCES build (id),"
        " at_ms INTEGER NOT NULL,"
        " what TEXT NOT NULL,"
        " detail TEXT"
        ");"
        "CREATE INDEX build_event_build ON build_event (build, id);"
        "CREATE TABLE cancel_request ("
        " build INTEGER PRIMARY KEY,"
        " by TEXT NOT NULL"
        ");",
        // Which copies of messages the broker may hold for us; `slot` is part of their queue's
        // name.
        "CREATE TABLE lease ("
        " slot INTEGER PRIMARY KEY,"
        " message_id TEXT NOT NULL,"
        " app_id TEXT,"
        " timestamp INTEGER NOT NULL,"
        " ends_ms INTEGER" // since the epoch; NULL: not known to be in its queue
        ");"
        "CREATE TABLE meta ("
        " key TEXT NOT NULL PRIMARY KEY,"
        " value TEXT NOT NULL"
        ") WITHOUT ROWID;",
};

static const char *const registrations_steps[] = {
        "CREATE TABLE registration ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " server TEXT NOT NULL UNIQUE,"
        " state TEXT NOT NULL," // registration_state_name
        " step TEXT NOT NULL,"  // registration_step_name
        " name TEXT,"
        " build_id TEXT,"
        " personality TEXT,"
        " address TEXT,"
        " host TEXT,"
        " machine TEXT,"
        " old_machine TEXT,"
        " debts INTEGER NOT NULL DEFAULT 0," // RegistrationDebt
        " attempt INTEGER NOT NULL DEFAULT 0,"
        " begun_ms INTEGER NOT NULL,"
        " changed_ms INTEGER NOT NULL,"
        " not_before_ms INTEGER NOT NULL DEFAULT 0,"
        " reason TEXT,"
        " notice TEXT"
        ");"
        "CREATE INDEX registration_open ON registration (id)"
        " WHERE debts <> 0 OR state IN ('registering', 'removing');"
        "CREATE TABLE registration_event ("
        " id INTEGER PRIMARY KEY,"
        " registration INTEGER NOT NULL REFERENCES registration (id) ON DELETE CASCADE,"
        " at_ms INTEGER NOT NULL,"
        " what TEXT NOT NULL,"
        " detail TEXT"
        ");"
        "CREATE INDEX registration_event_registration ON registration_event (registration, id);"
        "CREATE TABLE notification_count ("
        " type TEXT NOT NULL PRIMARY KEY,"
        " n INTEGER NOT NULL"
        ") WITHOUT ROWID;",
};

const StoreSchema store_schemas[] = {
        [STORE_PROFILES] = {.file_name = "profiles.db",
                            .application_id = 0x50616B50, // "PakP"
                            .steps = profiles_steps,
                            .n_steps = ELEMENTSOF(profiles_steps)},
        [STORE_BUILDS] = {.file_name = "builds.db",
                          .application_id = 0x50616B42, // "PakB"
                          .steps = builds_steps,
                          .n_steps = ELEMENTSOF(builds_steps)},
        [STORE_REGISTRATIONS] = {.file_name = "registrations.db",
                                 .application_id = 0x50616B52, // "PakR"
                                 .steps = registrations_steps,
                                 .n_steps = ELEMENTSOF(registrations_steps)},
};
