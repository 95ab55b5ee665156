// packuilon log: the log file of one build, also while it grows.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "util/alloc.h"
#include "util/buf.h"

#define CHUNK ((size_t)64 * 1024)
// How often to ask the journal whether the build is over, when its log is silent.
#define ASK_MS 500

typedef struct Options {
        bool follow;
} Options;

typedef struct LogView {
        Store *store;
        Build build;
        int fd;      // the log file
        int watch;   // inotify; -1: not followed
        bool is_tty; // a guest's escape sequences must not reach the terminal
} LogView;

static void log_view_done(LogView *view)
{
        if (view->store)
                store_close(view->store);
        build_done(&view->build);
        close_p(&view->fd);
        close_p(&view->watch);
}

// ---- copying ------------------------------------------------------------------------------

static void print_for_terminal(const char *data, size_t len)
{
        for (size_t at = 0; at < len; at++) {
                unsigned char byte = (unsigned char)data[at];

                if (byte == 0x7F || (byte < 0x20 && byte != '\n' && byte != '\t'))
                        printf("\\x%02x", byte);
                else
                        (void)putchar(byte);
        }
}

// Prints what is there from where the last call ended.
static int copy_rest(const LogView *view, Error *err)
{
        _cleanup_free_ char *data = xcalloc(1, CHUNK);
        ssize_t n;

        while ((n = read(view->fd, data, CHUNK)) > 0) {
                if (view->is_tty)
                        print_for_terminal(data, (size_t)n);
                else
                        (void)fwrite(data, 1, (size_t)n, stdout);
        }
        if (n < 0)
                return error_sys(err, "cannot read %s", view->build.log_path);
        if (fflush(stdout) != 0)
                return error_sys(err, "cannot write to standard output");
        return 0;
}

// ---- following ----------------------------------------------------------------------------

static int read_build_again(LogView *view, Error *err)
{
        int64_t id = view->build.id;
        int r;

        build_done(&view->build);
        view->build = (Build){0};
        r = store_build_get(view->store, id, &view->build, err);
        return r > 0 ? error_set(err, ENOENT, "build %" PRId64 " is no longer known", id) : r;
}

// Waits for the file to grow, at most ASK_MS, and forgets what was said about it.
static void wait_for_growth(const LogView *view)
{
        struct pollfd pollfd = {.fd = view->watch, .events = POLLIN};
        char events[4096];

        if (poll(&pollfd, 1, ASK_MS) > 0)
                (void)!read(view->watch, events, sizeof events);
}

static int wait_for_start(LogView *view, Error *err)
{
        while (!view->build.log_path && !build_state_is_final(view->build.state)) {
                int r;

                (void)poll(NULL, 0, ASK_MS);
                r = read_build_again(view, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int follow(LogView *view, Error *err)
{
        bool over;
        int r;

        view->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (view->watch < 0 || inotify_add_watch(view->watch, view->build.log_path, IN_MODIFY) < 0)
                return error_sys(err, "cannot watch %s", view->build.log_path);
        do {
                // Whether it is over is asked first: what was written by then is read after.
                r = read_build_again(view, err);
                if (r < 0)
                        return r;
                over = build_state_is_final(view->build.state);
                r = copy_rest(view, err);
                if (r == 0 && !over)
                        wait_for_growth(view);
        } while (r == 0 && !over);
        return r;
}

// ---- the command --------------------------------------------------------------------------

static int open_log(LogView *view, Error *err)
{
        const Build *build = &view->build;

        if (!build->log_path)
                return error_set(err, ENOENT, "build %" PRId64 " (%s) has no log%s", build->id,
                                 build_state_name(build->state),
                                 build->state == BUILD_QUEUED ? " yet; -f waits for it" : "");
        view->fd = open(build->log_path, O_RDONLY | O_CLOEXEC);
        if (view->fd < 0 && errno == ENOENT)
                return error_set(err, ENOENT,
                                 "%s is gone (LOG_KEEP_DAYS?) or is on the host that built it",
                                 build->log_path);
        return view->fd < 0 ? error_sys(err, "cannot open %s", build->log_path) : 0;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        _cleanup_(log_view_done)
                LogView view = {.fd = -1, .watch = -1, .is_tty = isatty(STDOUT_FILENO)};
        int r = build_view_find(invocation->config, invocation->arguments[0], &view.store,
                                &view.build, err);

        if (r == 0 && options->follow)
                r = wait_for_start(&view, err);
        if (r == 0)
                r = open_log(&view, err);
        if (r != 0)
                return PROGRAM_FAILED;
        return options->follow ? follow(&view, err) : copy_rest(&view, err);
}

static const ProgramOption option_list[] = {
        {"follow", 'f', NULL, "go on until the build is over", offsetof(Options, follow)},
};

const Program packuilon_log = {
        .name = "packuilon log",
        .arguments = "BUILD",
        .min_arguments = 1,
        .max_arguments = 1,
        .summary = "Print the log of a build.",
        .details =
                "BUILD is a number from 'packuilon status', or the name of an image, which means "
                "its newest build.\n",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .run = run,
};
