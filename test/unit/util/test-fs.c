#include "../unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "util/buf.h"
#include "util/macro.h"

// Writes a file by other means than the code under test.
static char *make_file(const char *folder, const char *name, const char *text)
{
        char *path = fs_join(folder, name);
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        return path;
}

static size_t count_entries(const char *folder)
{
        DIR *dir = opendir(folder);
        size_t count = 0;

        assert_non_null(dir);
        while (readdir(dir))
                count++;
        assert_int_equal(closedir(dir), 0);
        return count - 2; // . and ..
}

static void test_read_within_limit(void **state)
{
        _cleanup_free_ char *path = make_file(*state, "file", "hello");
        _cleanup_free_ char *empty = make_file(*state, "empty", "");
        _cleanup_buf_ Buf exact = BUF_INIT(5), small = BUF_INIT(4), more = BUF_INIT(20);
        Error err = ERROR_NONE;

        assert_ok(fs_read_file(path, &exact, &err), err);
        assert_string_equal(buf_str(&exact), "hello");
        assert_int_equal(fs_read_file(path, &small, &err), -EFBIG);
        assert_contains(err.text, "over the limit of 4 bytes");
        assert_int_equal(buf_append_str(&more, "say "), 0);
        assert_ok(fs_read_file(path, &more, &err), err);
        assert_ok(fs_read_file(empty, &more, &err), err);
        assert_string_equal(buf_str(&more), "say hello");
        more.max = 3;
        assert_int_equal(fs_read_file(path, &more, &err), -EFBIG);
}

static void test_read_of_what_is_no_file(void **state)
{
        _cleanup_free_ char *missing = fs_join(*state, "missing"), *fifo = fs_join(*state, "fifo");
        _cleanup_buf_ Buf out = BUF_INIT(100);
        Error err = ERROR_NONE;

        assert_int_equal(fs_read_file(missing, &out, &err), -ENOENT);
        assert_contains(err.text, "missing: No such file");
        assert_int_equal(fs_read_file(*state, &out, &err), -EISDIR);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(fs_read_file(fifo, &out, &err), -EINVAL);
        assert_contains(err.text, "not a regular file");
        assert_int_equal(out.len, 0);
}

static void test_large_file_comes_whole(void **state)
{
        const size_t size = 300 * 1000;
        _cleanup_free_ char *path = fs_join(*state, "large"), *data = malloc(size);
        _cleanup_buf_ Buf out = BUF_INIT(size);
        Error err = ERROR_NONE;

        assert_non_null(data);
        for (size_t i = 0; i < size; i++)
                data[i] = (char)(i * 31 % 251);
        assert_ok(fs_write_atomic(path, data, size, 0600, FS_NO_SYNC, &err), err);
        assert_ok(fs_read_file(path, &out, &err), err);
        assert_int_equal(out.len, size);
        assert_memory_equal(out.data, data, size);
}

static void test_write_replaces_with_mode(void **state)
{
        _cleanup_free_ char *path = make_file(*state, "file", "old");
        _cleanup_buf_ Buf out = BUF_INIT(100);
        mode_t mask = umask(077);
        Error err = ERROR_NONE;
        struct stat st;

        assert_ok(fs_write_atomic(path, "new", 3, 0644, FS_SYNC, &err), err);
        (void)umask(mask);
        assert_ok(fs_read_file(path, &out, &err), err);
        assert_string_equal(buf_str(&out), "new");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777U, 0644);
        assert_int_equal(count_entries(*state), 1);
}

static void test_name_of_full_length(void **state)
{
        _cleanup_free_ char *path = NULL;
        Error err = ERROR_NONE;
        char name[256];

        memset(name, 'n', 255);
        name[255] = '\0';
        path = fs_join(*state, name);
        assert_ok(fs_write_atomic(path, "x", 1, 0600, FS_SYNC, &err), err);
}

static void test_failed_write_keeps_the_old(void **state)
{
        _cleanup_free_ char *folder = fs_join(*state, "folder"), *file = NULL, *lost = NULL;
        _cleanup_buf_ Buf out = BUF_INIT(100);
        struct rlimit limit, tight;
        Error err = ERROR_NONE;
        int r;

        // A folder that is not empty cannot be replaced by a file.
        assert_ok(fs_make_dirs(folder, 0700, &err), err);
        file = make_file(folder, "file", "old");
        assert_true(fs_write_atomic(folder, "x", 1, 0600, FS_NO_SYNC, &err) < 0);
        assert_contains(err.text, "cannot write");
        assert_int_equal(count_entries(*state), 1);

        lost = fs_join(*state, "none/file");
        assert_int_equal(fs_write_atomic(lost, "x", 1, 0600, FS_NO_SYNC, &err), -ENOENT);
        assert_contains(err.text, "cannot create a file in");

        // As on a full disk: the write is cut short.
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        tight = (struct rlimit){.rlim_cur = 2, .rlim_max = limit.rlim_max};
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        r = fs_write_atomic(file, "newer", 5, 0600, FS_SYNC, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(r, -EFBIG);
        assert_int_equal(count_entries(folder), 1);
        assert_ok(fs_read_file(file, &out, &err), err);
        assert_string_equal(buf_str(&out), "old");
}

// Relative paths: the folder is "." or the root of the path.
static void test_write_in_the_working_folder(void **state)
{
        _cleanup_close_ int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_buf_ Buf out = BUF_INIT(100);
        Error err = ERROR_NONE;

        assert_true(home >= 0);
        assert_int_equal(chdir(*state), 0);
        assert_ok(fs_write_atomic("file", "x", 1, 0600, FS_SYNC, &err), err);
        assert_ok(fs_read_file("file", &out, &err), err);
        assert_ok(fs_make_dirs("a/b", 0700, &err), err);
        assert_int_equal(count_entries("."), 2);
        assert_int_equal(fchdir(home), 0);
        assert_true(fs_write_atomic("/", "x", 1, 0600, FS_NO_SYNC, &err) < 0);
}

static void test_make_dirs(void **state)
{
        _cleanup_free_ char *deep = fs_join(*state, "a//b/c/"), *b = fs_join(*state, "a/b");
        _cleanup_free_ char *file = make_file(*state, "file", ""), *below = fs_join(file, "d");
        Error err = ERROR_NONE;
        struct stat st;

        assert_ok(fs_make_dirs(deep, 0700, &err), err);
        assert_int_equal(stat(deep, &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(chmod(b, 0755), 0);
        assert_ok(fs_make_dirs(deep, 0700, &err), err);
        assert_int_equal(stat(b, &st), 0);
        assert_int_equal(st.st_mode & 07777U, 0755);
        assert_int_equal(fs_make_dirs(below, 0700, &err), -ENOTDIR);
        assert_contains(err.text, "cannot create the folder");
        assert_int_equal(fs_make_dirs(file, 0700, &err), -ENOTDIR);
}

static void test_remove_tree_follows_no_link(void **state)
{
        _cleanup_free_ char *tree = fs_join(*state, "tree"), *deep = fs_join(tree, "a/b/c");
        _cleanup_free_ char *kept = fs_join(*state, "kept"), *link = fs_join(tree, "a/link");
        _cleanup_free_ char *inside = NULL, *precious = NULL, *outer = fs_join(*state, "outer");
        Error err = ERROR_NONE;

        assert_ok(fs_make_dirs(deep, 0700, &err), err);
        assert_ok(fs_make_dirs(kept, 0700, &err), err);
        inside = make_file(deep, "file", "x");
        precious = make_file(kept, "file", "x");
        assert_int_equal(symlink(kept, link), 0);
        assert_ok(fs_remove_tree(tree, &err), err);
        assert_int_equal(access(tree, F_OK), -1);
        assert_int_equal(access(precious, F_OK), 0);

        assert_int_equal(symlink(kept, outer), 0);
        assert_ok(fs_remove_tree(outer, &err), err);
        assert_int_equal(access(outer, F_OK), -1);
        assert_int_equal(access(precious, F_OK), 0);
        assert_ok(fs_remove_tree(tree, &err), err);
        assert_ok(fs_remove_tree(precious, &err), err);
        assert_int_equal(access(precious, F_OK), -1);
}

static void test_remove_tree_says_what_failed(void **state)
{
        Error err = ERROR_NONE;

        (void)state;
        assert_true(fs_remove_tree("/proc/self/fdinfo", &err) < 0);
        assert_contains(err.text, "cannot remove /proc/self/fdinfo");
}

static void test_remove_tree_has_a_depth(void **state)
{
        _cleanup_close_ int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Error err = ERROR_NONE;

        // Deeper than a path can name, so one step at a time.
        assert_int_equal(chdir(*state), 0);
        for (int depth = 0; depth < 300; depth++) {
                assert_int_equal(mkdir("d", 0700), 0);
                assert_int_equal(chdir("d"), 0);
        }
        assert_int_equal(fs_remove_tree(*state, &err), -ELOOP);
        for (int depth = 0; depth < 300; depth++) {
                assert_int_equal(chdir(".."), 0);
                assert_int_equal(rmdir("d"), 0);
        }
        assert_int_equal(fchdir(home), 0);
}

// Few entries, and more than are read at once; a folder that was empty already.
static void test_empty_dir(void **state)
{
        static const unsigned counts[] = {0, 1, 200};
        Error err = ERROR_NONE;

        for (size_t at = 0; at < ELEMENTSOF(counts); at++) {
                for (unsigned n = 0; n < counts[at]; n++) {
                        char name[40];

                        (void)snprintf(name, sizeof name, "a-file-of-the-build-%u", n);
                        free(make_file(*state, name, "x"));
                }
                assert_ok(fs_empty_dir(*state, &err), err);
                assert_int_equal(count_entries(*state), 0);
        }
        assert_int_equal(fs_empty_dir("/no/such/folder", &err), -ENOENT);
        assert_contains(err.text, "cannot empty /no/such/folder");
}

static void test_empty_dir_with_folders_only(void **state)
{
        _cleanup_free_ char *one = fs_join(*state, "one"), *deep = fs_join(one, "deep");
        Error err = ERROR_NONE;

        assert_ok(fs_make_dirs(deep, 0700, &err), err);
        assert_ok(fs_empty_dir(*state, &err), err);
        assert_int_equal(count_entries(*state), 0);
}

static void test_lock_is_exclusive_and_ends_with_the_fd(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "lock"), *lost = fs_join(*state, "no/lock");
        Error err = ERROR_NONE;
        int fd = -1, other = -1;

        assert_int_equal(fs_lock(path, &fd, &err), 0);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fs_lock(path, &other, &err), FS_LOCKED);
        assert_int_equal(other, -1);
        assert_int_equal(close(fd), 0);
        assert_int_equal(fs_lock(path, &other, &err), 0);
        assert_int_equal(close(other), 0);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(fs_lock(lost, &fd, &err), -ENOENT);
        assert_contains(err.text, "lock file");
}

static void test_join(void **state)
{
        _cleanup_free_ char *plain = fs_join("a", "b"), *slash = fs_join("a/", "b");
        _cleanup_free_ char *root = fs_join("/", "b"), *none = fs_join("", "b");

        (void)state;
        assert_string_equal(plain, "a/b");
        assert_string_equal(slash, "a/b");
        assert_string_equal(root, "/b");
        assert_string_equal(none, "b");
}

static void test_folder_of(void **state)
{
        _cleanup_free_ char *plain = fs_folder_of("/etc/passwd"), *root = fs_folder_of("/etc");
        _cleanup_free_ char *here = fs_folder_of("passwd"), *below = fs_folder_of("a/b/c");

        (void)state;
        assert_string_equal(plain, "/etc");
        assert_string_equal(root, "/");
        assert_string_equal(here, ".");
        assert_string_equal(below, "a/b");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_read_within_limit),
                unit_test_in_folder(test_read_of_what_is_no_file),
                unit_test_in_folder(test_large_file_comes_whole),
                unit_test_in_folder(test_write_replaces_with_mode),
                unit_test_in_folder(test_name_of_full_length),
                unit_test_in_folder(test_failed_write_keeps_the_old),
                unit_test_in_folder(test_write_in_the_working_folder),
                unit_test_in_folder(test_make_dirs),
                unit_test_in_folder(test_remove_tree_follows_no_link),
                cmocka_unit_test(test_remove_tree_says_what_failed),
                unit_test_in_folder(test_remove_tree_has_a_depth),
                unit_test_in_folder(test_empty_dir),
                unit_test_in_folder(test_empty_dir_with_folders_only),
                unit_test_in_folder(test_lock_is_exclusive_and_ends_with_the_fd),
                cmocka_unit_test(test_join),
                cmocka_unit_test(test_folder_of),
        };

        return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
