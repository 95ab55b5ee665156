#include "builder/build_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "util/alloc.h"
#include "util/fs.h"

#define NAME_TRIES 3600

int build_log_open(BuildLog *log, const char *log_dir, const char *image_file,
                   const char *template_name, int64_t now_seconds, size_t max_bytes,
                   const Redactor *redactor, Error *err)
{
        *log = BUILD_LOG_INIT;
        log->redactor = redactor;
        log->max_bytes = max_bytes;
        for (int64_t second = now_seconds; second < now_seconds + NAME_TRIES; second++) {
                _cleanup_free_ char *name =
                        xasprintf("%s.%s.json.%" PRId64 ".log", image_file, template_name, second);
                _cleanup_free_ char *path = fs_join(log_dir, name);

                log->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0640);
                if (log->fd >= 0) {
                        log->path = TAKE_PTR(path);
                        return 0;
                }
                if (errno != EEXIST)
                        return error_sys(err, "cannot make log file %s", path);
        }
        return error_set(err, EEXIST, "cannot make a log file for %s in %s: too many of this hour",
                         image_file, log_dir);
}

static void write_all(BuildLog *log, const char *data, size_t len)
{
        while (len && log->fd >= 0) {
                ssize_t n = write(log->fd, data, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        if (!log->error)
                                log->error = errno;
                        return;
                }
                log->last = data[n - 1];
                data += n;
                len -= (size_t)n;
        }
}

static void write_limited(BuildLog *log, const char *data, size_t len)
{
        size_t room = log->max_bytes - log->written;

        if (log->full)
                return;
        write_all(log, data, MIN(len, room));
        log->written += MIN(len, room);
        if (len > room) {
                log->full = true;
                build_log_note(log, "the log has reached its limit (MAX_LOG_BYTES); the rest of "
                                    "Packer's output is not kept");
        }
}

static void feed(BuildLog *log, const char *data, size_t len, bool end)
{
        // Every byte may become a mark.
        _cleanup_buf_ Buf out = BUF_INIT((log->held.len + len + 1) * sizeof REDACT_MARK);

        if (redactor_feed(log->redactor, &log->held, data, len, end, &out) == 0 && out.len)
                write_limited(log, out.data, out.len);
}

void build_log_write(BuildLog *log, const char *data, size_t len)
{
        if (!log->full)
                feed(log, data, len, false);
}

void build_log_note(BuildLog *log, const char *text)
{
        _cleanup_free_ char *safe = redactor_text(log->redactor, text);
        _cleanup_free_ char *line = xasprintf("%srabbit2packer: %s\n",
                                              log->last && log->last != '\n' ? "\n" : "", safe);

        write_all(log, line, strlen(line));
}

void build_log_finish(BuildLog *log, int64_t now_seconds, int exit_code)
{
        _cleanup_free_ char *text = xasprintf(
                "Build finished at %" PRId64 " (epoch) with exit code %d", now_seconds, exit_code);

        if (!log->full)
                feed(log, "", 0, true);
        build_log_note(log, text);
        if (log->fd >= 0)
                (void)close(TAKE_FD(log->fd));
}

void build_log_done(BuildLog *log)
{
        if (log->fd >= 0)
                (void)close(log->fd);
        free(log->path);
        buf_done(&log->held);
        *log = BUILD_LOG_INIT;
}
