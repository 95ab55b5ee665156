// packuilon cancel: asks the worker of this host to stop builds.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>

#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "util/alloc.h"
#include "util/fs.h"

// For the history; nobody's rights hang on it.
static char *who_asks(void)
{
        const struct passwd *user = getpwuid(getuid());

        return user ? xstrdup(user->pw_name) : xasprintf("user %u", (unsigned)getuid());
}

// The worker reads the requests when this file is closed after writing.
static int wake_worker(const Config *config, Error *err)
{
        _cleanup_free_ char *path = fs_join(config->global.state_dir, "worker.wake");
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        // Without the file no worker has ever run here; the next one reads the requests as it
        // starts.
        if (fd < 0 && errno != ENOENT)
                return error_sys(err, "cannot wake the worker: %s", path);
        return 0;
}

static int request(const Config *config, const Build *build, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        _cleanup_free_ char *by = who_asks();
        int r = store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_WRITE, &store, err);

        return r == 0 ? store_cancel_request(store, build->id, by, err) : r;
}

static int cancel(const Config *config, const char *name, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        _cleanup_(build_done) Build build = {0};
        int r = build_view_find(config, name, &store, &build, err);

        if (r != 0)
                return PROGRAM_FAILED;
        if (build_state_is_final(build.state))
                return error_set(err, EINVAL,
                                 "build %" PRId64 " (%s) is over: there is nothing to cancel",
                                 build.id, build_state_name(build.state));
        r = request(config, &build, err);
        if (r == 0)
                printf("Asked rabbit2packer to cancel build %" PRId64 " (%s, %s)\n", build.id,
                       build.image ? build.image : build.personality,
                       build_state_name(build.state));
        return r;
}

static int run(const Invocation *invocation, Error *err)
{
        int r = 0, woken;

        for (char *const *name = invocation->arguments; *name && r == 0; name++)
                r = cancel(invocation->config, *name, err);
        // Also after an error, for those that were asked for before it.
        woken = wake_worker(invocation->config, r == 0 ? err : NULL);
        return r != 0 ? r : woken;
}

const Program packuilon_cancel = {
        .name = "packuilon cancel",
        .arguments = "BUILD...",
        .min_arguments = 1,
        .max_arguments = UINT_MAX,
        .summary = "Stop builds that wait or run.",
        .details =
                "BUILD is a number from 'packuilon status', or the name of an image, which means "
                "its newest build.\nPacker deletes its server first, so it may take minutes until "
                "the build is over.\n",
        .run = run,
};
