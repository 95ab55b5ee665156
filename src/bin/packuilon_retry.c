// packuilon retry: brings back what was given up or rejected.
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "aquilon/nova_queue.h"
#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "net/queue.h"
#include "net/queue_return.h"
#include "util/alloc.h"
#include "util/strutil.h"

typedef struct Options {
        bool all;
        bool rejected;
        bool registrations;
} Options;

static const ProgramOption options[] = {
        {"all", 'a', NULL, "every message that was put aside, also by other hosts",
         offsetof(Options, all)},
        {"rejected", 0, NULL, "with --all: those that were rejected, not those that failed",
         offsetof(Options, rejected)},
        {"registrations", 0, NULL, "with --all: those of nova2aquilon, not builds",
         offsetof(Options, registrations)},
};

typedef struct Wanted {
        bool all;
        char **message_ids;
} Wanted;

static bool is_wanted(const Message *message, void *userdata)
{
        const Wanted *wanted = userdata;

        if (wanted->all)
                return true;
        STRV_FOREACH (id, wanted->message_ids) {
                if (message->message_id && strcmp(message->message_id, *id) == 0)
                        return true;
        }
        return false;
}

static int want_build(const Config *config, const char *name, Wanted *wanted, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        _cleanup_(build_done) Build build = {0};
        size_t n = strv_count(wanted->message_ids);
        int r = build_view_find(config, name, &store, &build, err);

        if (r != 0)
                return r < 0 ? r : -ENOENT;
        if (build.state != BUILD_FAILED || !build.message_id)
                return error_set(err, EINVAL,
                                 "build %" PRId64 " is %s: only a failed build can be tried again "
                                 "(see 'packuilon build' for a new one)",
                                 build.id, build_state_name(build.state));
        wanted->message_ids = xreallocarray(wanted->message_ids, n + 2, sizeof(char *));
        wanted->message_ids[n] = xstrdup(build.message_id);
        wanted->message_ids[n + 1] = NULL;
        return 0;
}

static int bring_back(const Config *config, const Options *given, Wanted *wanted, Error *err)
{
        const QueueReturn what = {.suffix = given->rejected ? ".rejected" : ".failed",
                                  .app_id = "packuilon",
                                  .match = is_wanted,
                                  .userdata = wanted};
        size_t n = 0;
        int r = queue_return(config, &what, &n, err);

        if (r == 0 && !n && !wanted->all)
                return error_set(err, ENOENT, "not in the queue %s%s: tried again already?",
                                 config->global.queue, what.suffix);
        printf("%zu message%s back in the queue %s\n", n, n == 1 ? " is" : "s are",
               config->global.queue);
        return r;
}

// A queue that is not there must not be made here, for it has to be as Nova declares it.
static int bring_registrations_back(const Config *config, const Options *given, Wanted *wanted,
                                    Error *err)
{
        const Config nova = nova_queue_config(config);
        int64_t ready = 0;
        int r = config_require_aquilon(config, err);

        if (r == 0)
                r = queue_probe(&nova, &ready, err);
        if (r == 0 && ready < 0)
                r = error_set(err, ENOENT, "there is no queue %s: start nova2aquilon first",
                              nova.global.queue);
        return r < 0 ? r : bring_back(&nova, given, wanted, err);
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *given = invocation->options;
        Wanted wanted = {.all = given->all};
        int r = 0;

        if (given->all == (*invocation->arguments != NULL)) {
                (void)error_set(err, EINVAL, "name builds, or say --all");
                return PROGRAM_USAGE;
        }
        if ((given->rejected || given->registrations) && !given->all) {
                (void)error_set(err, EINVAL, "--%s needs --all: %s no build",
                                given->rejected ? "rejected" : "registrations",
                                given->rejected ? "what was rejected is" : "a registration is");
                return PROGRAM_USAGE;
        }
        for (char *const *name = invocation->arguments; *name && r == 0; name++)
                r = want_build(invocation->config, *name, &wanted, err);
        if (r == 0)
                r = given->registrations
                            ? bring_registrations_back(invocation->config, given, &wanted, err)
                            : bring_back(invocation->config, given, &wanted, err);
        strv_free(wanted.message_ids);
        return r;
}

const Program packuilon_retry = {
        .name = "packuilon retry",
        .arguments = "[BUILD...]",
        .min_arguments = 0,
        .max_arguments = UINT_MAX,
        .summary = "Queue builds once more that were given up.",
        .details =
                "BUILD is a number from 'packuilon status', or the name of an image, which means "
                "its newest build.\nThe message of a build that was given up waits in the queue "
                "QUEUE.failed; all templates of\nits image are built again.\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .options_size = sizeof(Options),
        .run = run,
};
