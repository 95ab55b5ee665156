// The log file of one build, in upstream's form, so that stfc/packuilon-monitor reads it:
// LOG_DIR/<image>.<template>.json.<epoch>.log, Packer's output, and the last line
// "rabbit2packer: Build finished at <epoch> (epoch) with exit code <n>".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "builder/redact.h"
#include "util/buf.h"
#include "util/error.h"

typedef struct BuildLog {
        int fd;
        char *path;
        const Redactor *redactor; // borrowed
        Buf held;                 // the end of the output that may be the start of a secret
        size_t written, max_bytes;
        bool full; // max_bytes were written: the rest of the output is dropped, and said so
        int error; // errno of the first write that failed, 0: none; the build goes on without
        char last; // last byte written, so that our line starts a line
} BuildLog;

#define BUILD_LOG_INIT ((BuildLog){.fd = -1, .held = BUF_INIT(REDACT_MAX_SECRET * 8)})

// Makes a new file, 0640. When the name of this second is taken, by a build that ended within it,
// the next free second is: two builds never share a file.
int build_log_open(BuildLog *log, const char *log_dir, const char *image_file,
                   const char *template_name, int64_t now_seconds, size_t max_bytes,
                   const Redactor *redactor, Error *err) must_check;

// Packer's output as it comes, redacted.
void build_log_write(BuildLog *log, const char *data, size_t len);

// A line of our own: "rabbit2packer: …".
void build_log_note(BuildLog *log, const char *text);

// Writes what was held and the last line, and closes.
void build_log_finish(BuildLog *log, int64_t now_seconds, int exit_code);

void build_log_done(BuildLog *log);
