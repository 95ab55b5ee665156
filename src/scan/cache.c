#include "scan/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/alloc.h"
#include "util/fs.h"

#define FILE_MODE 0640
#define FOLDER_MODE 0750

int cache_read(const char *cache_dir, const char *name, Buf *out, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);
        Error trouble = ERROR_NONE;
        int r = fs_read_file(path, out, &trouble);

        if (r == 0)
                return 0;
        if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
                return CACHE_NOT_FOUND;
        return error_set(err, -r, "%s", trouble.text);
}

int cache_read_exact(const char *cache_dir, const char *name, const Checksum *raw, Buf *out,
                     Error *err)
{
        int r = cache_read(cache_dir, name, out, err);

        if (r != 0)
                return r;
        if (checksum_matches(raw, buf_str(out), out->len))
                return 0;
        buf_clear(out);
        return CACHE_NOT_FOUND;
}

// In place: a body that was cut short by a kill is known by its checksum, and new files for old
// ones, a thousand in a row, take the file system longer than all the rest of a scan takes.
static int open_body(const char *path, int flags)
{
        return open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, FILE_MODE);
}

static int write_in_place(int fd, const char *path, const char *data, size_t len, size_t from,
                          size_t to, Error *err)
{
        struct stat st;

        while (from < to) {
                ssize_t written = pwrite(fd, data + from, to - from, (off_t)from);

                if (written < 0 && errno != EINTR)
                        return error_sys(err, "cannot write %s", path);
                from += written > 0 ? (size_t)written : 0;
        }
        // Mostly it fits, and cutting is dear.
        if (fstat(fd, &st) < 0 || (st.st_size > (off_t)len && ftruncate(fd, (off_t)len) < 0))
                return error_sys(err, "cannot write %s", path);
        return 0;
}

static int make_folder_of(const char *path, Error *err)
{
        _cleanup_free_ char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));

        return access(folder, F_OK) < 0 ? fs_make_dirs(folder, FOLDER_MODE, err) : 0;
}

int cache_write(const char *cache_dir, const char *name, const char *data, size_t len, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);
        _cleanup_close_ int fd = -1;
        int r = make_folder_of(path, err);

        if (r < 0)
                return r;
        fd = open_body(path, O_CREAT);
        if (fd < 0)
                return error_sys(err, "cannot create %s", path);
        return write_in_place(fd, path, data, len, 0, len, err);
}

int cache_update(const char *cache_dir, const char *name, const char *data, size_t len, size_t from,
                 size_t to, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);
        _cleanup_close_ int fd = open_body(path, 0);

        if (fd < 0) // gone, though it was there a moment ago
                return cache_write(cache_dir, name, data, len, err);
        return write_in_place(fd, path, data, len, from, to, err);
}

int cache_write_index(const char *cache_dir, const void *data, size_t len, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, CACHE_INDEX_NAME);
        int r = make_folder_of(path, err);

        return r < 0 ? r : fs_write_atomic(path, data, len, FILE_MODE, FS_NO_SYNC, err);
}

int cache_remove(const char *cache_dir, const char *name, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);

        if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
                return 0;
        return error_sys(err, "cannot remove %s", path);
}
