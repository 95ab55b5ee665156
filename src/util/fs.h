// Files: whole reads with a limit, replacement that is never half done, locks.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/buf.h"
#include "util/error.h"

// Reads a regular file of at most out->max bytes, appending to out. -ENOENT and others as open(2);
// -EFBIG names the limit.
int fs_read_file(const char *path, Buf *out, Error *err) must_check;

typedef enum FsSync {
        FS_NO_SYNC, // whole or old after a killed process; may be lost when the power goes
        FS_SYNC,    // whole or old after anything
} FsSync;

// Writes to a temporary file beside `path` and renames it over: a reader sees the old content or
// the new, nothing between.
int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, FsSync sync,
                    Error *err) must_check;

// mkdir -p; existing folders keep their mode.
int fs_make_dirs(const char *path, mode_t mode, Error *err) must_check;

// Removes a folder and everything in it, without following links; a missing one is success.
int fs_remove_tree(const char *path, Error *err);

// The same with all that is in a folder; the folder stays.
int fs_empty_dir(const char *path, Error *err) must_check;

#define FS_LOCKED 1

// Takes an exclusive lock (flock) on a file, which is made if absent and left behind. FS_LOCKED
// when another process has it. The lock ends when *ret_fd is closed, or with the process.
int fs_lock(const char *path, int *ret_fd, Error *err) must_check;

// dir + "/" + name, without doubling the slash. The caller frees.
char *fs_join(const char *dir, const char *name);

// The folder that a file is in: "/etc" for "/etc/passwd", "." for "passwd". The caller frees.
char *fs_folder_of(const char *path);
