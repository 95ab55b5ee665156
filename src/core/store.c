// Opening, migrating and transactions of the two files.
//
// Read-only beside a writer: a reader of a WAL file needs its -wal and -shm. While a writer has the
// file open they are there; the last one to close would delete them, and a reader without write
// permission on STATE_DIR could then not make them. Writers therefore leave them behind
// (SQLITE_FCNTL_PERSIST_WAL), and SQLite reads through them with read permission alone. What stays
// impossible is reading a bare .db (say, a restored copy) in a folder one may not write to: that
// is an error that names the permissions.
#include "core/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "core/store_internal.h"
#include "util/alloc.h"
#include "util/fs.h"

#define STATE_DIR_MODE 0750
#define FILE_MODE 0640
#define BUSY_TIMEOUT_MS 5000 // others hold the lock for a transaction, which is milliseconds
#define FILE_IS_EMPTY 1      // made, but without tables yet

// secure_delete: overwriting freed pages, Debian's default, would write every body twice.
// journal_size_limit: the -wal file of one 100 MB message is cut again at the next checkpoint.
static const char writer_settings[] = "PRAGMA synchronous = FULL;"
                                      "PRAGMA foreign_keys = ON;"
                                      "PRAGMA secure_delete = OFF;"
                                      "PRAGMA journal_size_limit = 16777216;";

static int run_sql(Store *store, const char *sql, const char *action, Error *err)
{
        if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                return store_fail(store, err, action);
        return 0;
}

static int read_number(Store *store, const char *sql, int64_t *ret, Error *err)
{
        _cleanup_query_ Query query = query_new(store, sql);
        int r = query_step(&query, "read it", err);

        if (r < 0)
                return r;
        *ret = r == QUERY_ROW ? query_column_int(&query, 0, 0) : 0;
        return 0;
}

// ---- transactions --------------------------------------------------------------------------

bool store_in_transaction(const Store *store)
{
        return store->in_transaction;
}

int store_begin(Store *store, Error *err)
{
        int r;

        if (store->in_transaction)
                return error_set(err, EINVAL, "%s: a transaction is open already", store->path);
        r = run_sql(store, "BEGIN IMMEDIATE", "begin a transaction", err);
        if (r < 0)
                return r;
        store->in_transaction = true;
        return 0;
}

void store_rollback(Store *store)
{
        // SQLite may have rolled back by itself, when the disk was full for example.
        if (!sqlite3_get_autocommit(store->db))
                (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        store->in_transaction = false;
        store->failure = ERROR_NONE;
}

int store_commit(Store *store, Error *err)
{
        int r;

        if (!store->in_transaction)
                return 0;
        if (store->failure.code) {
                if (err)
                        *err = store->failure;
                r = -store->failure.code;
        } else {
                r = run_sql(store, "COMMIT", "commit", err);
        }
        if (r < 0)
                store_rollback(store);
        store->in_transaction = false;
        return r;
}

int store_atomic_begin(Store *store, bool *ret_own, Error *err)
{
        *ret_own = !store->in_transaction;
        return *ret_own ? store_begin(store, err) : 0;
}

int store_atomic_end(Store *store, bool own, int r, Error *err)
{
        int committed = 0;

        if (!own)
                return r;
        if (r < 0)
                store_rollback(store);
        else
                committed = store_commit(store, err);
        return committed < 0 ? committed : r;
}

// ---- opening -------------------------------------------------------------------------------

static int migrate_step(Store *store, const StoreSchema *schema, int64_t version, Error *err)
{
        char marks[128];
        int r = run_sql(store, schema->steps[version], "bring it up to date", err);

        if (r < 0)
                return r;
        // PRAGMA takes no parameters; both numbers are ours.
        (void)snprintf(marks, sizeof marks, "PRAGMA application_id = %lu; PRAGMA user_version = %d",
                       (unsigned long)schema->application_id, (int)version + 1);
        return run_sql(store, marks, "bring it up to date", err);
}

int store_migrate(Store *store, const StoreSchema *schema, Error *err)
{
        int64_t version;
        int r = read_number(store, "PRAGMA user_version", &version, err);

        for (; r == 0 && version < schema->n_steps; version++) {
                r = store_begin(store, err);
                if (r == 0)
                        r = store_atomic_end(store, true, migrate_step(store, schema, version, err),
                                             err);
        }
        return r;
}

typedef struct FileMarks {
        int64_t application_id, version, n_tables;
} FileMarks;

static int read_marks(Store *store, FileMarks *ret, Error *err)
{
        int r = read_number(store, "PRAGMA application_id", &ret->application_id, err);

        if (r == 0)
                r = read_number(store, "PRAGMA user_version", &ret->version, err);
        if (r == 0)
                r = read_number(store, "SELECT count(*) FROM sqlite_master", &ret->n_tables, err);
        return r;
}

// In one read transaction, since another process may be making the tables.
static int read_marks_at_once(Store *store, FileMarks *ret, Error *err)
{
        int r = run_sql(store, "BEGIN", "read it", err);

        if (r < 0)
                return r;
        r = read_marks(store, ret, err);
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

// Is this file ours, and can this version of the program read it?
static int check_identity(Store *store, const StoreSchema *schema, FileMarks *ret, Error *err)
{
        int r = read_marks_at_once(store, ret, err);

        if (r < 0)
                return r;
        if (!ret->application_id && !ret->version && !ret->n_tables)
                return FILE_IS_EMPTY;
        if (ret->application_id != schema->application_id)
                return error_set(err, EBADMSG,
                                 "%s belongs to another program: move it away, or set another "
                                 "STATE_DIR",
                                 store->path);
        if (ret->version > schema->n_steps)
                return error_set(err, EPROTO,
                                 "%s was written by a newer packuilon (its version is %lld, this "
                                 "program knows %d): install that one again, or move the file away",
                                 store->path, (long long)ret->version, schema->n_steps);
        return 0;
}

static int set_up_reader(Store *store, const StoreSchema *schema, Error *err)
{
        FileMarks marks = {0};
        int r = check_identity(store, schema, &marks, err);

        if (r != 0)
                return r < 0 ? r : STORE_NOT_FOUND;
        if (marks.version < schema->n_steps)
                return error_set(err, EPROTO,
                                 "%s was written by an older packuilon: start this version's "
                                 "programs once, which brings it up to date",
                                 store->path);
        return 0;
}

static int use_wal(Store *store, Error *err)
{
        _cleanup_query_ Query query = query_new(store, "PRAGMA journal_mode = WAL");
        _cleanup_free_ char *mode = NULL;
        int r = query_step(&query, "switch it to WAL", err), on = 1;

        if (r < 0)
                return r;
        mode = r == QUERY_ROW ? query_column_text(&query, 0) : NULL;
        if (!mode || strcmp(mode, "wal") != 0)
                return error_set(
                        err, ENOTSUP,
                        "%s: its file system cannot hold SQLite's shared memory; STATE_DIR "
                        "must be on a local disk",
                        store->path);
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
        return 0;
}

static int set_up_writer(Store *store, const StoreSchema *schema, Error *err)
{
        FileMarks marks = {0};
        int r;

        // SQLite opens for reading what it may not write.
        if (sqlite3_db_readonly(store->db, "main") > 0)
                return error_set(err, EACCES,
                                 "%s: no permission to write; run this as the user who owns it",
                                 store->path);
        r = check_identity(store, schema, &marks, err);
        if (r >= 0)
                r = use_wal(store, err);
        if (r >= 0)
                r = run_sql(store, writer_settings, "set it up", err);
        if (r >= 0)
                r = store_migrate(store, schema, err);
        return r;
}

// Made here and not by SQLite, so that its mode does not depend on the umask; -wal and -shm get the
// same mode from SQLite. An existing file is not touched: closing another descriptor of it would
// take the locks of this process's connections away.
static int make_file(const char *path, Error *err)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);

        if (fd < 0)
                return errno == EEXIST ? 0 : error_sys(err, "cannot make %s", path);
        if (fchmod(fd, FILE_MODE) < 0)
                return error_sys(err, "cannot set the mode of %s", path);
        return 0;
}

static int prepare_file(const char *state_dir, const char *path, StoreMode mode, Error *err)
{
        struct stat st;
        int r;

        if (mode == STORE_READ_ONLY) {
                if (stat(path, &st) == 0)
                        return 0;
                return errno == ENOENT ? STORE_NOT_FOUND : error_sys(err, "cannot read %s", path);
        }
        r = fs_make_dirs(state_dir, STATE_DIR_MODE, err);
        return r < 0 ? r : make_file(path, err);
}

// One process at a time sets a file up: SQLite's own locks give up at once when two switch a new
// file to WAL together. The lock is on the folder and ends with the descriptor. A reader that may
// not open the folder does without.
static int lock_folder(const char *state_dir, StoreMode mode, int *ret_fd, Error *err)
{
        _cleanup_close_ int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (fd < 0)
                return mode == STORE_READ_ONLY ? 0 : error_sys(err, "cannot open %s", state_dir);
        do
                r = flock(fd, mode == STORE_READ_ONLY ? LOCK_SH : LOCK_EX);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return error_sys(err, "cannot lock %s", state_dir);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int connect_file(Store *store, StoreMode mode, Error *err)
{
        int access = mode == STORE_READ_ONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;

        // One thread: no mutex.
        if (sqlite3_open_v2(store->path, &store->db, access | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK)
                return store->db ? store_fail(store, err, "open it")
                                 : error_set(err, ENOMEM, "%s: out of memory", store->path);
        (void)sqlite3_extended_result_codes(store->db, 1);
        (void)sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
        return 0;
}

int store_open(const char *state_dir, StoreKind kind, StoreMode mode, Store **ret, Error *err)
{
        const StoreSchema *schema = &store_schemas[kind];
        _cleanup_store_ Store *store = xcalloc(1, sizeof *store);
        _cleanup_close_ int lock = -1;
        int r;

        store->path = fs_join(state_dir, schema->file_name);
        r = prepare_file(state_dir, store->path, mode, err);
        if (r == 0)
                r = lock_folder(state_dir, mode, &lock, err);
        if (r == 0)
                r = connect_file(store, mode, err);
        if (r == 0)
                r = mode == STORE_READ_ONLY ? set_up_reader(store, schema, err)
                                            : set_up_writer(store, schema, err);
        if (r == 0)
                *ret = TAKE_PTR(store);
        return r;
}

void store_close(Store *store)
{
        if (!store)
                return;
        for (size_t at = 0; at < store->n_statements; at++)
                (void)sqlite3_finalize(store->statements[at].stmt);
        free(store->statements);
        // An open transaction is rolled back by this.
        (void)sqlite3_close(store->db);
        free(store->path);
        free(store);
}
