// packuilon show: all that is known of one build.
#include <inttypes.h>
#include <string.h>

#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/strutil.h"

#define LABEL_WIDTH 14
#define VALUE_MAX 8192

typedef struct Options {
        bool json;
} Options;

// Values come from outside: control characters are made visible.
static void print_value(const char *text)
{
        _cleanup_free_ char *visible = str_visible(text, strlen(text), VALUE_MAX);

        printf("%s\n", visible);
}

static void print_field(const char *label, const char *text)
{
        if (!text || !*text)
                return;
        printf("%-*s", LABEL_WIDTH, label);
        print_value(text);
}

static void print_time(const char *label, int64_t wall_ms)
{
        _cleanup_free_ char *text = build_view_time(wall_ms);

        print_field(label, text);
}

static void print_took(const Build *build)
{
        _cleanup_free_ char *text = build_view_duration(build_view_took_ms(build, clock_wall_ms()));

        if (build->started_ms)
                print_field("Took", text);
}

static void print_fields(const Build *build)
{
        printf("%-*s%" PRId64 "\n", LABEL_WIDTH, "Build", build->id);
        printf("%-*s", LABEL_WIDTH, "State");
        print_coloured(stdout, build_view_colour(build->state), build_state_name(build->state));
        printf("\n");
        print_field("Reason", build->reason);
        print_field("Image", build->image);
        print_field("Artifact", build->artifact);
        print_field("Personality", build->personality);
        print_field("OS", build->os);
        print_field("Source image", build->source_image);
        print_field("Template", build->template);
        print_field("Profile", build->entry);
        if (build->attempt > 1)
                printf("%-*s%" PRId64 "\n", LABEL_WIDTH, "Attempt", build->attempt);
        print_time("Queued", build->queued_ms);
        if (build->state == BUILD_QUEUED)
                print_time("Not before", build->not_before_ms);
        print_time("Started", build->started_ms);
        print_time("Ended", build->ended_ms);
        print_took(build);
        if (build->exit_code >= 0)
                printf("%-*s%" PRId64 "\n", LABEL_WIDTH, "Exit code", build->exit_code);
        if (build->state == BUILD_BUILDING)
                print_field("Phase", build->phase);
        print_field("Log", build->log_path);
        print_field("Build id", build->build_id);
        print_field("Content id", build->content_id);
        print_field("Message id", build->message_id);
}

static void print_changes(const Build *build)
{
        _cleanup_strv_ char **lines = build->changes ? strv_split(build->changes, "\n") : NULL;

        if (!strv_count(lines))
                return;
        printf("\nBecause of\n");
        STRV_FOREACH (line, lines) {
                printf("  ");
                print_value(*line);
        }
}

// ---- history --------------------------------------------------------------------------------

// Each line of the history lasts until the next.
typedef struct History {
        BuildEventRecord *events;
        size_t n;
} History;

static void history_done(History *history)
{
        for (size_t at = 0; at < history->n; at++) {
                free(history->events[at].what);
                free(history->events[at].detail);
        }
        free(history->events);
}

static int add_event(const BuildEventRecord *event, void *userdata)
{
        History *history = userdata;

        history->events = xreallocarray(history->events, history->n + 1, sizeof *history->events);
        history->events[history->n++] = (BuildEventRecord){.at_ms = event->at_ms,
                                                           .what = xstrdup(event->what),
                                                           .detail = xstrdup(event->detail)};
        return 0;
}

// -1 for the last one.
static int64_t lasted_ms(const History *history, size_t at)
{
        if (at + 1 == history->n)
                return -1;
        return MAX(history->events[at + 1].at_ms - history->events[at].at_ms, 0);
}

static void print_event(const History *history, size_t at)
{
        const BuildEventRecord *event = &history->events[at];
        _cleanup_free_ char *time = build_view_time(event->at_ms);
        _cleanup_free_ char *lasted =
                lasted_ms(history, at) < 0 ? NULL : build_view_duration(lasted_ms(history, at));
        _cleanup_free_ char *line = xasprintf("%s%s%s", event->what, event->detail ? ": " : "",
                                              event->detail ? event->detail : "");

        printf("  %s  %7s  ", time, lasted ? lasted : "");
        print_value(line);
}

static int print_text(Store *store, const Build *build, Error *err)
{
        _cleanup_(history_done) History history = {0};
        int r = store_build_events_each(store, build->id, add_event, &history, err);

        print_fields(build);
        print_changes(build);
        printf("\nHistory\n");
        for (size_t at = 0; at < history.n; at++)
                print_event(&history, at);
        return r;
}

static json_t *event_json(const History *history, size_t at)
{
        const BuildEventRecord *event = &history->events[at];
        int64_t lasted = lasted_ms(history, at);
        json_t *object = json_object();

        (void)json_object_set_new(object, "at", build_view_json_time(event->at_ms));
        (void)json_object_set_new(object, "what", build_view_json_text(event->what));
        (void)json_object_set_new(object, "detail", build_view_json_text(event->detail));
        (void)json_object_set_new(object, "lasted_ms",
                                  lasted < 0 ? json_null() : json_integer(lasted));
        return object;
}

static int print_json(Store *store, const Build *build, Error *err)
{
        _cleanup_(history_done) History history = {0};
        json_t *document, *list;
        int r = store_build_events_each(store, build->id, add_event, &history, err);

        if (r < 0)
                return r;
        document = build_view_json(build);
        list = json_array();
        for (size_t at = 0; at < history.n; at++)
                (void)json_array_append_new(list, event_json(&history, at));
        (void)json_object_set_new(document, "history", list);
        return build_view_print_json(document, err);
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        _cleanup_store_ Store *store = NULL;
        _cleanup_(build_done) Build build = {0};
        int r = build_view_find(invocation->config, invocation->arguments[0], &store, &build, err);

        if (r != 0)
                return PROGRAM_FAILED;
        return options->json ? print_json(store, &build, err) : print_text(store, &build, err);
}

static const ProgramOption option_list[] = {
        {"json", 0, NULL, "print a JSON document", offsetof(Options, json)},
};

const Program packuilon_show = {
        .name = "packuilon show",
        .arguments = "BUILD",
        .min_arguments = 1,
        .max_arguments = 1,
        .summary = "Tell all about one build.",
        .details =
                "BUILD is a number from 'packuilon status', or the name of an image, which means "
                "its newest build.\n",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .run = run,
};
