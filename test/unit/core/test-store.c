// Files, versions, transactions, and what happens when SQLite says no.
#include "unit_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/alloc.h"
#include "util/macro.h"

static char *meta(Store *store, const char *key)
{
        Error err = ERROR_NONE;
        char *value = NULL;

        assert_ok(store_meta_get(store, key, &value, &err), err);
        return value;
}

static void assert_meta(Store *store, const char *key, const char *expected)
{
        _cleanup_free_ char *value = meta(store, key);

        if (expected)
                assert_string_equal(value, expected);
        else
                assert_null(value);
}

static void set_meta(Store *store, const char *key, const char *value)
{
        Error err = ERROR_NONE;

        assert_ok(store_meta_set(store, key, value, &err), err);
}

static void write_file(const char *path, const char *text, size_t len)
{
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, len, 0640, FS_NO_SYNC, &err), err);
}

// ---- files -----------------------------------------------------------------------------------

static void test_makes_folder_and_files_whatever_the_umask(void **state)
{
        static const mode_t masks[] = {0, 022, 077};
        static const char *const suffixes[] = {"", "-wal", "-shm"};

        for (size_t at = 0; at < ELEMENTSOF(masks); at++) {
                _cleanup_free_ char *folder = xasprintf("%s/a%zu/state", (char *)*state, at);
                mode_t old = umask(masks[at]);
                _cleanup_store_ Store *store = open_store(folder, STORE_BUILDS, STORE_READ_WRITE);
                struct stat st;

                (void)umask(old);
                assert_false(store_in_transaction(store));
                for (size_t file = 0; file < ELEMENTSOF(suffixes); file++) {
                        _cleanup_free_ char *path =
                                xasprintf("%s/builds.db%s", folder, suffixes[file]);

                        assert_int_equal(stat(path, &st), 0);
                        assert_int_equal(st.st_mode & 0777, 0640);
                }
                assert_int_equal(stat(folder, &st), 0);
                assert_int_equal(st.st_mode & 0777 & ~0750U, 0);
        }
}

static void test_writer_is_set_up_for_safety(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_BUILDS, STORE_READ_WRITE);

        assert_int_equal(number(store, "PRAGMA synchronous"), 2);
        assert_int_equal(number(store, "PRAGMA foreign_keys"), 1);
        assert_int_equal(number(store, "PRAGMA user_version"), store_schemas[STORE_BUILDS].n_steps);
        assert_int_equal(number(store, "PRAGMA application_id"),
                         store_schemas[STORE_BUILDS].application_id);
        assert_true(number(store, "PRAGMA busy_timeout") >= 1000);
}

static void test_reader_finds_nothing_before_the_writer(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "profiles.db");
        _cleanup_free_ char *below = fs_join(*state, "profiles.db/state");
        Error err = ERROR_NONE;
        Store *store = NULL;

        assert_int_equal(store_open(*state, STORE_PROFILES, STORE_READ_ONLY, &store, &err),
                         STORE_NOT_FOUND);
        // Made by a writer that has not got further.
        write_file(path, "", 0);
        assert_int_equal(store_open(*state, STORE_PROFILES, STORE_READ_ONLY, &store, &err),
                         STORE_NOT_FOUND);
        assert_int_equal(store_open(below, STORE_PROFILES, STORE_READ_ONLY, &store, &err),
                         -ENOTDIR);
        assert_contains(err.text, "profiles.db/state/profiles.db");
        assert_null(store);
}

static void test_state_dir_that_cannot_be_made(void **state)
{
        _cleanup_free_ char *file = fs_join(*state, "file");
        _cleanup_free_ char *below = fs_join(file, "state");
        Error err = ERROR_NONE;
        Store *store = NULL;

        write_file(file, "x", 1);
        assert_true(store_open(below, STORE_BUILDS, STORE_READ_WRITE, &store, &err) < 0);
        assert_contains(err.text, "file");
        assert_true(store_open(file, STORE_BUILDS, STORE_READ_WRITE, &store, &err) < 0);
        assert_null(store);
}

static void test_something_else_at_the_path(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "builds.db");
        Error err = ERROR_NONE;
        Store *store = NULL;

        assert_ok(fs_make_dirs(path, 0750, &err), err);
        assert_true(store_open(*state, STORE_BUILDS, STORE_READ_WRITE, &store, &err) < 0);
        assert_contains(err.text, "builds.db: cannot open it");
        assert_contains(err.text, "permissions");
}

static void test_reader_reads_and_cannot_write(void **state)
{
        _cleanup_store_ Store *writer = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_store_ Store *reader = open_store(*state, STORE_PROFILES, STORE_READ_ONLY);
        Error err = ERROR_NONE;

        set_meta(writer, "index_etag", "\"1\"");
        assert_meta(reader, "index_etag", "\"1\"");
        assert_int_equal(store_meta_set(reader, "index_etag", "\"2\"", &err), -EROFS);
        assert_contains(err.text, "profiles.db: cannot write a value");
        assert_meta(reader, "index_etag", "\"1\"");
}

static void test_reader_after_the_writer_left(void **state)
{
        Store *writer = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_free_ char *wal = fs_join(*state, "profiles.db-wal");
        _cleanup_store_ Store *reader = NULL;

        set_meta(writer, "k", "v");
        store_close(writer);
        // They are left for readers who could not make them.
        assert_int_equal(access(wal, R_OK), 0);
        reader = open_store(*state, STORE_PROFILES, STORE_READ_ONLY);
        assert_meta(reader, "k", "v");
}

// In a child that is nobody, since root may write everywhere; exit status 0: as expected.
static int read_as_nobody(const char *folder, const char *key, const char *expected)
{
        const uid_t nobody = 65534;
        Error err = ERROR_NONE;
        Store *store = NULL;
        char *value = NULL;

        if (geteuid() == 0 && (setgid(nobody) < 0 || setuid(nobody) < 0))
                return 77;
        if (store_open(folder, STORE_PROFILES, STORE_READ_ONLY, &store, &err) != 0 ||
            store_meta_get(store, key, &value, &err) != 0) {
                (void)fprintf(stderr, "%s\n", err.text);
                return 1;
        }
        if (!value || strcmp(value, expected) != 0)
                return 2;
        if (store_meta_set(store, key, "other", &err) != -EROFS)
                return 3;
        store_close(store);
        store = NULL;
        if (store_open(folder, STORE_PROFILES, STORE_READ_WRITE, &store, &err) != -EACCES ||
            !strstr(err.text, "no permission to write"))
                return 4;
        free(value);
        return 0;
}

static int status_of(pid_t child)
{
        int status = -1;

        assert_int_equal(waitpid(child, &status, 0), child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void let_others_read(const char *folder, mode_t folder_mode, mode_t file_mode)
{
        static const char *const names[] = {"profiles.db", "profiles.db-wal", "profiles.db-shm"};

        for (size_t at = 0; at < ELEMENTSOF(names); at++) {
                _cleanup_free_ char *path = fs_join(folder, names[at]);

                assert_int_equal(chmod(path, file_mode), 0);
        }
        assert_int_equal(chmod(folder, folder_mode), 0);
}

static void test_reader_without_write_permission(void **state)
{
        static Store *writer; // static: the children's copies are no leaks
        pid_t child;

        writer = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        set_meta(writer, "k", "v");
        let_others_read(*state, 0555, 0444);
        child = fork();
        if (child == 0)
                _exit(read_as_nobody(*state, "k", "v"));
        assert_int_equal(status_of(child), 0);
        let_others_read(*state, 0755, 0644);
        set_meta(writer, "k", "w");
        store_close(TAKE_PTR(writer));
        let_others_read(*state, 0555, 0444);
        child = fork();
        if (child == 0)
                _exit(read_as_nobody(*state, "k", "w"));
        assert_int_equal(status_of(child), 0);
        assert_int_equal(chmod(*state, 0755), 0);
}

// ---- whose file is it ------------------------------------------------------------------------

static void assert_refused(const char *folder, int code, const char *words)
{
        for (int mode = STORE_READ_WRITE; mode <= STORE_READ_ONLY; mode++) {
                Error err = ERROR_NONE;
                Store *store = NULL;

                assert_int_equal(store_open(folder, STORE_PROFILES, (StoreMode)mode, &store, &err),
                                 -code);
                assert_null(store);
                assert_contains(err.text, "profiles.db");
                assert_contains(err.text, words);
        }
}

static void test_file_of_another_program(void **state)
{
        static const char text[] = "[global]\nthis is a note that somebody left here, longer than "
                                   "the hundred bytes of a header of SQLite\n";
        _cleanup_free_ char *path = fs_join(*state, "profiles.db");
        _cleanup_free_ char *builds = fs_join(*state, "builds.db");
        sqlite3 *db = NULL;

        write_file(path, text, sizeof text - 1);
        assert_refused(*state, EBADMSG, "move it away");

        assert_int_equal(unlink(path), 0);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        assert_refused(*state, EBADMSG, "belongs to another program");

        // Ours, but the other of the two.
        store_close(open_store(*state, STORE_BUILDS, STORE_READ_WRITE));
        assert_int_equal(rename(builds, path), 0);
        assert_refused(*state, EBADMSG, "belongs to another program");
}

static void test_damaged_file(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "profiles.db");
        Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        int fd;

        store_close(store);
        assert_int_equal(truncate(path, 4096), 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8, 100), 8);
        assert_int_equal(close(fd), 0);
        assert_refused(*state, EUCLEAN, "the file is damaged");
}

static void test_newer_version_is_refused(void **state)
{
        Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);

        run_sql(store, "PRAGMA user_version = 999");
        store_close(store);
        assert_refused(*state, EPROTO, "newer packuilon (its version is 999");
}

static void test_reader_refuses_older_version(void **state)
{
        Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE), *reader = NULL;
        Error err = ERROR_NONE;

        run_sql(store, "PRAGMA user_version = 0");
        store_close(store);
        assert_int_equal(store_open(*state, STORE_PROFILES, STORE_READ_ONLY, &reader, &err),
                         -EPROTO);
        assert_contains(err.text, "start this version's");
}

// ---- migration -------------------------------------------------------------------------------

static const char *const steps[] = {
        "CREATE TABLE extra (a INTEGER); INSERT INTO extra VALUES (1);",
        "ALTER TABLE extra ADD COLUMN b INTEGER; UPDATE extra SET b = a + 1;",
        "INSERT INTO extra VALUES (7, 7); INSERT INTO no_such_table VALUES (1);",
};

static Store *open_bare(const char *folder)
{
        Store *store = xcalloc(1, sizeof *store);

        store->path = fs_join(folder, "bare.db");
        assert_int_equal(sqlite3_open(store->path, &store->db), SQLITE_OK);
        return store;
}

static void test_each_step_is_done_once(void **state)
{
        _cleanup_store_ Store *store = open_bare(*state);
        StoreSchema schema = {.application_id = 7, .steps = steps, .n_steps = 1};
        Error err = ERROR_NONE;

        assert_ok(store_migrate(store, &schema, &err), err);
        assert_int_equal(number(store, "PRAGMA user_version"), 1);
        run_sql(store, "INSERT INTO extra VALUES (10)");

        schema.n_steps = 2;
        for (int round = 0; round < 2; round++) {
                assert_ok(store_migrate(store, &schema, &err), err);
                assert_int_equal(number(store, "PRAGMA user_version"), 2);
                assert_int_equal(number(store, "SELECT sum(b) FROM extra"), 13);
        }
        assert_int_equal(number(store, "PRAGMA application_id"), 7);
        assert_false(store_in_transaction(store));
}

static void test_step_that_fails_leaves_nothing(void **state)
{
        _cleanup_store_ Store *store = open_bare(*state);
        const StoreSchema schema = {.application_id = 7, .steps = steps, .n_steps = 3};
        Error err = ERROR_NONE;

        assert_true(store_migrate(store, &schema, &err) < 0);
        assert_contains(err.text, "bare.db: cannot bring it up to date");
        assert_contains(err.text, "no_such_table");
        assert_int_equal(number(store, "PRAGMA user_version"), 2);
        assert_int_equal(number(store, "SELECT count(*) FROM extra WHERE a = 7"), 0);
        assert_false(store_in_transaction(store));
}

// Waits until the other end of the gate is closed, then opens; exit status 0: it could.
static int open_behind_gate(const char *folder, const int gate[2])
{
        Error err = ERROR_NONE;
        Store *store = NULL;
        char byte;
        int r;

        (void)close(gate[1]);
        (void)!read(gate[0], &byte, 1);
        r = store_open(folder, STORE_BUILDS, STORE_READ_WRITE, &store, &err);
        if (r < 0)
                (void)fprintf(stderr, "%s\n", err.text);
        store_close(store);
        return r == 0 ? 0 : 1;
}

static void test_many_open_a_new_file_at_once(void **state)
{
        enum { ROUNDS = 5, PROCESSES = 8 };

        for (int round = 0; round < ROUNDS; round++) {
                _cleanup_free_ char *folder = xasprintf("%s/%d", (char *)*state, round);
                pid_t children[PROCESSES];
                int gate[2];

                assert_int_equal(pipe(gate), 0);
                for (int at = 0; at < PROCESSES; at++) {
                        children[at] = fork();
                        assert_true(children[at] >= 0);
                        if (children[at] == 0)
                                _exit(open_behind_gate(folder, gate));
                }
                (void)close(gate[0]);
                (void)close(gate[1]);
                for (int at = 0; at < PROCESSES; at++)
                        assert_int_equal(status_of(children[at]), 0);
        }
}

// ---- transactions ----------------------------------------------------------------------------

static void test_commit_rollback_and_begin(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_store_ Store *other = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        assert_ok(store_commit(store, &err), err); // nothing to do
        store_rollback(store);
        assert_ok(store_begin(store, &err), err);
        assert_true(store_in_transaction(store));
        set_meta(store, "a", "1");
        assert_int_equal(store_begin(store, &err), -EINVAL);
        assert_contains(err.text, "open already");
        assert_meta(other, "a", NULL);
        assert_ok(store_commit(store, &err), err);
        assert_false(store_in_transaction(store));
        assert_meta(other, "a", "1");

        assert_ok(store_begin(store, &err), err);
        set_meta(store, "a", "2");
        set_meta(store, "b", "2");
        store_rollback(store);
        assert_false(store_in_transaction(store));
        assert_meta(store, "a", "1");
        assert_meta(store, "b", NULL);
}

static void test_closing_rolls_back(void **state)
{
        Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        assert_ok(store_begin(store, &err), err);
        set_meta(store, "a", "1");
        store_close(store);
        store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        assert_meta(store, "a", NULL);
        store_close(store);
        store_close(NULL);
}

static void test_locked_by_another(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_store_ Store *other = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        Error err = ERROR_NONE;

        assert_int_equal(sqlite3_busy_timeout(other->db, 1), SQLITE_OK);
        assert_ok(store_begin(store, &err), err);
        assert_int_equal(store_begin(other, &err), -EBUSY);
        assert_contains(err.text, "profiles.db: cannot begin a transaction");
        assert_contains(err.text, "another process");
        assert_false(store_in_transaction(other));
        assert_int_equal(store_meta_set(other, "a", "1", &err), -EBUSY);
        assert_ok(store_commit(store, &err), err);
        set_meta(other, "a", "1");
}

// What one statement lost must not be committed by the next.
static void test_full_disk_ends_the_whole_transaction(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_free_ char *big = xmalloc(1 << 20);
        Error err = ERROR_NONE, second = ERROR_NONE;

        memset(big, 'x', 1 << 20);
        big[(1 << 20) - 1] = '\0';
        run_sql(store, "PRAGMA max_page_count = 20");
        assert_ok(store_begin(store, &err), err);
        set_meta(store, "before", "1");
        assert_int_equal(store_meta_set(store, "big", big, &err), -ENOSPC);
        assert_contains(err.text, "profiles.db: cannot write a value");
        assert_contains(err.text, "make room");
        assert_true(store_in_transaction(store));
        assert_int_equal(store_meta_set(store, "after", "1", &second), -ENOSPC);
        assert_string_equal(second.text, err.text);
        assert_int_equal(store_meta_set(store, "after", "1", NULL), -ENOSPC);
        assert_meta(store, "before", NULL); // reading goes on
        second = ERROR_NONE;
        assert_int_equal(store_commit(store, &second), -ENOSPC);
        assert_string_equal(second.text, err.text);
        assert_false(store_in_transaction(store));

        run_sql(store, "PRAGMA max_page_count = 1000000");
        assert_ok(store_begin(store, &err), err);
        set_meta(store, "later", "1");
        assert_ok(store_commit(store, &err), err);
        assert_meta(store, "before", NULL);
        assert_meta(store, "after", NULL);
        assert_meta(store, "later", "1");
}

static void test_full_disk_outside_a_transaction(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_free_ char *big = xmalloc(1 << 20);
        Error err = ERROR_NONE;

        memset(big, 'x', 1 << 20);
        big[(1 << 20) - 1] = '\0';
        run_sql(store, "PRAGMA max_page_count = 20");
        assert_int_equal(store_meta_set(store, "big", big, NULL), -ENOSPC);
        set_meta(store, "small", "1"); // nothing to undo
        assert_ok(store_commit(store, &err), err);
        assert_meta(store, "big", NULL);
        assert_meta(store, "small", "1");
}

static void test_statement_that_cannot_be_prepared(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        static const char wrong[] = "SELECT a FROM nowhere";
        _cleanup_query_ Query cached = query_cached(store, wrong);
        _cleanup_query_ Query fresh = query_new(store, wrong);
        Error err = ERROR_NONE;

        query_text(&cached, "x");
        query_int(&cached, 1);
        query_blob(&cached, "x", 1);
        query_null(&cached);
        assert_int_equal(query_run(&cached, "look there", &err), -EIO);
        assert_contains(err.text, "cannot look there: no such table: nowhere");
        assert_int_equal(query_run(&fresh, "look there", &err), -EIO);
}

static void test_parameter_that_cannot_be_bound(void **state)
{
        _cleanup_store_ Store *store = open_store(*state, STORE_PROFILES, STORE_READ_WRITE);
        _cleanup_query_ Query query = query_new(store, "SELECT ?");
        Error err = ERROR_NONE;

        query_int(&query, 1);
        query_int(&query, 2); // there is no second
        assert_true(query_run(&query, "select", &err) < 0);
        assert_contains(err.text, "cannot select");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_makes_folder_and_files_whatever_the_umask),
                unit_test_in_folder(test_writer_is_set_up_for_safety),
                unit_test_in_folder(test_reader_finds_nothing_before_the_writer),
                unit_test_in_folder(test_state_dir_that_cannot_be_made),
                unit_test_in_folder(test_something_else_at_the_path),
                unit_test_in_folder(test_reader_reads_and_cannot_write),
                unit_test_in_folder(test_reader_after_the_writer_left),
                unit_test_in_folder(test_reader_without_write_permission),
                unit_test_in_folder(test_file_of_another_program),
                unit_test_in_folder(test_damaged_file),
                unit_test_in_folder(test_newer_version_is_refused),
                unit_test_in_folder(test_reader_refuses_older_version),
                unit_test_in_folder(test_each_step_is_done_once),
                unit_test_in_folder(test_step_that_fails_leaves_nothing),
                unit_test_in_folder(test_many_open_a_new_file_at_once),
                unit_test_in_folder(test_commit_rollback_and_begin),
                unit_test_in_folder(test_closing_rolls_back),
                unit_test_in_folder(test_locked_by_another),
                unit_test_in_folder(test_full_disk_ends_the_whole_transaction),
                unit_test_in_folder(test_full_disk_outside_a_transaction),
                unit_test_in_folder(test_statement_that_cannot_be_prepared),
                unit_test_in_folder(test_parameter_that_cannot_be_bound),
        };

        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
