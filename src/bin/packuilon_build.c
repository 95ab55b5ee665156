// packuilon build: a build by hand, with upstream's options and message.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bin/packuilon.h"
#include "core/message.h"
#include "net/queue.h"
#include "util/alloc.h"

#define CONFIRM_TIMEOUT_MS 30000

typedef struct Options {
        const char *personality, *archetype, *os, *os_version, *arch;
        const char *domain, *sandbox;
} Options;

static const char *or_default(const char *value, const char *fallback)
{
        return value ? value : fallback;
}

static int fill_message(const Options *options, Message *message, Error *err)
{
        const SkeletonValues values = {
                .personality = options->personality,
                .archetype = or_default(options->archetype, "ral-tier1"),
                .os = or_default(options->os, "sl"),
                .os_version = or_default(options->os_version, "7x"),
                .arch = or_default(options->arch, "x86_64"),
                .domain = options->sandbox ? NULL : or_default(options->domain, "prod"),
                .sandbox = options->sandbox,
        };
        int r = message_skeleton(&values, &message->body, err);

        if (r < 0)
                return r;
        message->body_len = strlen(message->body);
        message->message_id = message_new_id();
        message->app_id = xstrdup("packuilon");
        message->changes = xstrdup("asked for by hand (packuilon build)");
        message->timestamp = (int64_t)time(NULL);
        return 0;
}

static void on_published(uint64_t token, const Error *err, void *userdata)
{
        Error *fate = userdata;

        (void)token;
        if (err)
                *fate = *err;
}

static int publish(const Config *config, const Message *message, Error *err)
{
        Publisher *publisher = NULL;
        Error fate = ERROR_NONE;
        int r = publisher_open(config, on_published, &fate, &publisher, err);

        if (r < 0)
                return r;
        r = publisher_send(publisher, message, 0, err);
        if (r == 0)
                r = publisher_flush(publisher, CONFIRM_TIMEOUT_MS, err);
        publisher_close(publisher);
        if (r == 0 && fate.code) {
                *err = fate;
                r = -fate.code;
        }
        return r;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        const Config *config = invocation->config;
        _cleanup_(message_done) Message message = {0};

        if (!options->personality) {
                (void)error_set(err, EINVAL, "--personality is missing");
                return PROGRAM_USAGE;
        }
        if (options->domain && options->sandbox) {
                (void)error_set(err, EINVAL, "--domain and --sandbox exclude each other");
                return PROGRAM_USAGE;
        }
        if (fill_message(options, &message, err) < 0)
                return PROGRAM_USAGE;
        if (publish(config, &message, err) < 0)
                return error_prefix(err, "nothing was queued");
        printf("Queued %s in %s: message %s\n", options->personality, config->global.queue,
               message.message_id);
        return 0;
}

static const ProgramOption option_list[] = {
        {"personality", 0, "NAME", "personality to build", offsetof(Options, personality)},
        {"archetype", 0, "NAME", "archetype (default ral-tier1)", offsetof(Options, archetype)},
        {"os", 0, "NAME", "operating system (default sl)", offsetof(Options, os)},
        {"os_ver", 0, "VERSION", "its version (default 7x)", offsetof(Options, os_version)},
        {"arch", 0, "ARCH", "processor architecture (default x86_64)", offsetof(Options, arch)},
        {"domain", 0, "NAME", "Aquilon domain (default prod)", offsetof(Options, domain)},
        {"sandbox", 0, "OWNER/NAME", "Aquilon sandbox, instead of a domain",
         offsetof(Options, sandbox)},
};

const Program packuilon_build = {
        .name = "packuilon build",
        .summary = "Queue a build by hand.",
        .details = "The options describe a profile as Aquilon would compile it; rabbit2packer "
                   "builds the images\nof that personality and operating system.\n",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .run = run,
};
