#include "scan/cache.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/alloc.h"
#include "util/fs.h"

#define FILE_MODE 0640
#define FOLDER_MODE 0750

int cache_read(const char *cache_dir, const char *name, Buf *out, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);

        if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
                return CACHE_NOT_FOUND;
        return fs_read_file(path, out, err);
}

int cache_read_exact(const char *cache_dir, const char *name, const Digest *raw, Buf *out,
                     Error *err)
{
        Digest found;
        int r = cache_read(cache_dir, name, out, err);

        if (r != 0)
                return r;
        digest_sha256(out->data, out->len, &found);
        if (digest_equal(&found, raw))
                return 0;
        buf_clear(out);
        return CACHE_NOT_FOUND;
}

int cache_write(const char *cache_dir, const char *name, const void *data, size_t len, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);
        _cleanup_free_ char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
        int r;

        if (access(folder, F_OK) < 0) {
                r = fs_make_dirs(folder, FOLDER_MODE, err);
                if (r < 0)
                        return r;
        }
        return fs_write_atomic(path, data, len, FILE_MODE, FS_NO_SYNC, err);
}

int cache_remove(const char *cache_dir, const char *name, Error *err)
{
        _cleanup_free_ char *path = fs_join(cache_dir, name);

        if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
                return 0;
        return error_sys(err, "cannot remove %s", path);
}
