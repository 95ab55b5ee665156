#include "util/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "util/alloc.h"

#define READ_CHUNK ((size_t)64 * 1024)
#define LOCK_FILE_MODE 0640
#define FEW_ENTRIES_BYTES 512
// Each level of fs_remove_tree holds a file descriptor.
#define TREE_DEPTH_MAX 200

static int read_all(int fd, const char *path, Buf *out, Error *err)
{
        for (;;) {
                size_t there = out->cap > out->len ? out->cap - out->len - 1 : 0;
                size_t room = MIN(out->max - out->len, there > 0 ? there : READ_CHUNK);
                char overflow;
                ssize_t got;
                int r = buf_reserve(out, room);

                if (r < 0)
                        return error_set(err, -r, "%s is over the limit of %zu bytes", path,
                                         out->max);
                // At the limit one more byte tells the end of the file from too much.
                got = room ? read(fd, out->data + out->len, room) : read(fd, &overflow, 1);
                if (got < 0) {
                        if (errno == EINTR)
                                continue;
                        return error_sys(err, "cannot read %s", path);
                }
                if (got == 0)
                        return 0;
                if (room == 0)
                        return error_set(err, EFBIG, "%s is over the limit of %zu bytes", path,
                                         out->max);
                out->len += (size_t)got;
                out->data[out->len] = '\0';
        }
}

int fs_read_file(const char *path, Buf *out, Error *err)
{
        // O_NONBLOCK: a FIFO of that name must not hang us before fstat tells what it is.
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return error_sys(err, "cannot open %s", path);
        if (fstat(fd, &st) < 0)
                return error_sys(err, "cannot read %s", path);
        if (S_ISDIR(st.st_mode))
                return error_set(err, EISDIR, "%s is a folder, not a file", path);
        if (!S_ISREG(st.st_mode))
                return error_set(err, EINVAL, "%s is not a regular file", path);
        // Room for all of it and to find its end; what is too big is found by reading.
        if (st.st_size > 0 &&
            buf_reserve(out, MIN((size_t)st.st_size + 1, out->max - out->len)) < 0)
                return error_set(err, EFBIG, "%s is over the limit of %zu bytes", path, out->max);
        return read_all(fd, path, out, err);
}

static int write_all(int fd, const char *data, size_t len)
{
        while (len > 0) {
                ssize_t done = write(fd, data, len);

                if (done < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                data += done;
                len -= (size_t)done;
        }
        return 0;
}

char *fs_folder_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        if (!slash)
                return xstrdup(".");
        return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

static int sync_folder(const char *folder)
{
        _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int fill_file(int fd, const void *data, size_t len, mode_t mode, FsSync sync)
{
        int r = write_all(fd, data, len);

        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0 || (sync == FS_SYNC && fsync(fd) < 0))
                return -errno;
        return 0;
}

int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, FsSync sync,
                    Error *err)
{
        _cleanup_free_ char *folder = fs_folder_of(path);
        // A name of its own length: "<name>.XXXXXX" could be longer than the file system allows.
        _cleanup_free_ char *temporary = fs_join(folder, ".tmp-XXXXXX");
        _cleanup_close_ int fd = mkostemp(temporary, O_CLOEXEC);
        int r;

        if (fd < 0)
                return error_sys(err, "cannot create a file in %s", folder);
        r = fill_file(fd, data, len, mode, sync);
        if (r == 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlink(temporary);
                errno = -r;
                return error_sys(err, "cannot write %s", path);
        }
        if (sync == FS_SYNC) {
                r = sync_folder(folder);
                if (r < 0) {
                        errno = -r;
                        return error_sys(err, "cannot sync %s", folder);
                }
        }
        return 0;
}

static int make_dir(const char *path, mode_t mode, Error *err)
{
        struct stat st;

        if (mkdir(path, mode) == 0)
                return 0;
        if (errno == EEXIST) {
                if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                        return 0;
                errno = ENOTDIR;
        }
        return error_sys(err, "cannot create the folder %s", path);
}

int fs_make_dirs(const char *path, mode_t mode, Error *err)
{
        _cleanup_free_ char *prefix = xstrdup(path);

        for (char *at = prefix + strspn(prefix, "/"); *at;) {
                char *end = at + strcspn(at, "/"), kept = *end;
                int r;

                *end = '\0';
                r = make_dir(prefix, mode, err);
                if (r < 0)
                        return r;
                *end = kept;
                at = end + strspn(end, "/");
        }
        return 0;
}

// Whether a folder that was just opened has no entries; what is read is to be read again. A few
// system calls less than readdir, and no large buffer, for the folders of short builds.
static bool is_empty(int folder)
{
        char entries[FEW_ENTRIES_BYTES] __attribute__((aligned(8)));
        ssize_t got = getdents64(folder, entries, sizeof entries);
        bool others = got <= 0;

        while (got > 0 && !others) {
                const struct dirent64 *entry;

                for (ssize_t at = 0; at < got; at += entry->d_reclen) {
                        entry = (const struct dirent64 *)(const void *)(entries + at);
                        others |=
                                strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
                }
                got = getdents64(folder, entries, sizeof entries);
        }
        if (others || got < 0)
                (void)lseek(folder, 0, SEEK_SET);
        return !others && got == 0;
}

static int remove_entry(int parent, const char *name, unsigned depth);

// Goes on after a failure, so that as much as possible is gone; the first one is reported.
static int remove_content(int folder, unsigned depth)
{
        DIR *dir = fdopendir(folder);
        const struct dirent *entry;
        int failure = 0;

        if (!dir) {
                failure = -errno;
                (void)close(folder);
                return failure;
        }
        while ((entry = readdir(dir))) {
                int r;

                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                r = remove_entry(dirfd(dir), entry->d_name, depth);
                if (r < 0 && failure == 0)
                        failure = r;
        }
        (void)closedir(dir);
        return failure;
}

static int remove_entry(int parent, const char *name, unsigned depth)
{
        int folder, r;

        if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR)
                return -errno;
        if (depth == TREE_DEPTH_MAX)
                return -ELOOP;
        folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
                return -errno;
        r = remove_content(folder, depth + 1);
        if (r < 0)
                return r;
        return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int fs_remove_tree(const char *path, Error *err)
{
        int r = remove_entry(AT_FDCWD, path, 0);

        if (r < 0) {
                errno = -r;
                return error_sys(err, "cannot remove %s", path);
        }
        return 0;
}

int fs_empty_dir(const char *path, Error *err)
{
        int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int r = folder < 0 ? -errno : 0;

        if (r == 0 && is_empty(folder)) {
                (void)close(folder);
                return 0;
        }
        if (r == 0)
                r = remove_content(folder, 1);
        if (r < 0) {
                errno = -r;
                return error_sys(err, "cannot empty %s", path);
        }
        return 0;
}

int fs_lock(const char *path, int *ret_fd, Error *err)
{
        _cleanup_close_ int fd =
                open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_FILE_MODE);

        if (fd < 0)
                return error_sys(err, "cannot open the lock file %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno == EWOULDBLOCK)
                        return FS_LOCKED;
                return error_sys(err, "cannot lock %s", path);
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

char *fs_join(const char *dir, const char *name)
{
        size_t len = strlen(dir);

        return xasprintf("%s%s%s", dir, len == 0 || dir[len - 1] == '/' ? "" : "/", name);
}
