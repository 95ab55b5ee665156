#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "builder/log_keeper.h"
#include "util/alloc.h"

#define DAY 86400

static void make_old(const char *folder, const char *name, int64_t seconds)
{
        const time_t then = time(NULL) - (time_t)seconds;
        const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
        _cleanup_free_ char *path = fs_join(folder, name);

        assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void make_file(const char *folder, const char *name, int64_t age_seconds)
{
        _cleanup_free_ char *path = fs_join(folder, name);
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, "x", 1, 0640, FS_NO_SYNC, &err), err);
        make_old(folder, name, age_seconds);
}

static bool exists(const char *folder, const char *name)
{
        _cleanup_free_ char *path = fs_join(folder, name);
        struct stat st;

        return lstat(path, &st) == 0;
}

static size_t keep(const char *folder, int64_t days)
{
        size_t removed = 99;
        Error err = ERROR_NONE;

        assert_ok(log_keeper_run(folder, days, &removed, &err), err);
        return removed;
}

static void test_only_old_logs_go(void **state)
{
        make_file(*state, "web.managed.json.1.log", 31 * DAY);
        make_file(*state, "a.b.json.1499943651.log", 30 * DAY + 60);
        make_file(*state, "web.managed.json.2.log", 30 * DAY - 60);
        assert_int_equal(keep(*state, 30), 2);
        assert_false(exists(*state, "web.managed.json.1.log"));
        assert_false(exists(*state, "a.b.json.1499943651.log"));
        assert_true(exists(*state, "web.managed.json.2.log"));
        assert_int_equal(keep(*state, 30), 0);
        assert_int_equal(keep(*state, 29), 1);
}

static void test_zero_keeps_all(void **state)
{
        make_file(*state, "web.managed.json.1.log", 1000 * DAY);
        assert_int_equal(keep(*state, 0), 0);
        assert_true(exists(*state, "web.managed.json.1.log"));
        assert_int_equal(keep("/nonexistent", 0), 0);
}

static void test_other_files_are_left_alone(void **state)
{
        static const char *const names[] = {
                ".log",
                "messages.log",
                "web.json.log",
                "web.json..log",
                ".json.1.log",
                "web.json.1.log.1",
                "web.json.1.log.gz",
                "web.json.1a.log",
                "web.json.a.log",
                "1.log",
                "webjson.1.log",
                "web.json.1",
        };

        for (size_t at = 0; at < ELEMENTSOF(names); at++)
                make_file(*state, names[at], 99 * DAY);
        assert_int_equal(keep(*state, 1), 0);
        for (size_t at = 0; at < ELEMENTSOF(names); at++)
                assert_true(exists(*state, names[at]));
}

static void test_links_and_folders_are_left_alone(void **state)
{
        _cleanup_free_ char *link = fs_join(*state, "a.b.json.1.log");
        _cleanup_free_ char *folder = fs_join(*state, "a.b.json.2.log");
        Error err = ERROR_NONE;

        make_file(*state, "precious", 99 * DAY);
        assert_int_equal(symlink("precious", link), 0);
        assert_ok(fs_make_dirs(folder, 0750, &err), err);
        make_old(*state, "a.b.json.1.log", 99 * DAY);
        make_old(*state, "a.b.json.2.log", 99 * DAY);
        assert_int_equal(keep(*state, 1), 0);
        assert_true(exists(*state, "a.b.json.1.log"));
        assert_true(exists(*state, "precious"));
}

static void test_folder_that_is_not_there(void **state)
{
        _cleanup_free_ char *folder = fs_join(*state, "missing");
        size_t removed = 99;
        Error err = ERROR_NONE;

        assert_int_equal(log_keeper_run(folder, 1, &removed, &err), -ENOENT);
        assert_contains(err.text, folder);
        assert_int_equal(removed, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_only_old_logs_go),
                unit_test_in_folder(test_zero_keeps_all),
                unit_test_in_folder(test_other_files_are_left_alone),
                unit_test_in_folder(test_links_and_folders_are_left_alone),
                unit_test_in_folder(test_folder_that_is_not_there),
        };

        return cmocka_run_group_tests_name("log_keeper", tests, NULL, NULL);
}
