// packuilon status: what runs, what waits, what was built last.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "bin/registration_view.h"
#include "net/queue.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/strutil.h"

#define DEFAULT_RECENT 10
#define MAX_RECENT 1000000
#define FAILING_SHOWN 5 // profiles named in the text form

typedef struct Options {
        const char *limit;
        const char *image;
        const char *state;
        bool json;
} Options;

typedef struct Status {
        const Config *config;
        const char *image;       // NULL: any
        const BuildState *state; // NULL: any
        int64_t recent;          // how many builds that are over to show
        int64_t now_ms;

        int64_t ready;      // messages in the queue; -1: the queue is not there yet
        Error queue_error;  // why that is not known
        int64_t n_profiles; // that the scanner knows
        json_t *failing;    // those it is to try again
        RegistrationSummary registrations;
        json_t *builds; // NULL in the text form, then it is…
        Table table;
        int64_t n_unfinished;
} Status;

static const TableColumn columns[] = {
        {"ID", true},     {"STATE", false}, {"IMAGE", false},  {"TEMPLATE", false},
        {"QUEUED", true}, {"TOOK", true},   {"DETAIL", false},
};

static void status_done(Status *status)
{
        json_decref(status->failing);
        json_decref(status->builds);
        registration_summary_done(&status->registrations);
        table_done(&status->table);
}

// ---- gathering ----------------------------------------------------------------------------

// What there is to say of a build in one line; the caller frees.
static char *detail(const Status *status, const Build *build)
{
        _cleanup_free_ char *wait = NULL;

        if (build->state != BUILD_QUEUED || build->not_before_ms <= status->now_ms)
                return xstrdup(build_view_detail(build));
        wait = build_view_duration(build->not_before_ms - status->now_ms);
        return xasprintf("attempt %" PRId64 " in %s", build->attempt, wait);
}

static void add_row(Status *status, const Build *build)
{
        _cleanup_free_ char *last = detail(status, build);
        _cleanup_free_ char *template = build_view_template(build);
        _cleanup_free_ char *age = build_view_duration(status->now_ms - build->queued_ms);
        _cleanup_free_ char *took = build_view_duration(build_view_took_ms(build, status->now_ms));
        Table *table = &status->table;

        table_addf(table, COLOUR_NONE, "%" PRId64, build->id);
        table_add(table, build_state_name(build->state), build_view_colour(build->state));
        table_add(table, build->image ? build->image : build->personality, COLOUR_NONE);
        table_add(table, template, COLOUR_NONE);
        table_addf(table, COLOUR_NONE, "%s ago", age);
        table_add(table, build->started_ms ? took : NULL, COLOUR_NONE);
        table_add(table, last, COLOUR_NONE);
}

static int add_build(const Build *build, Status *status)
{
        if (status->builds)
                return json_array_append_new(status->builds, build_view_json(build));
        add_row(status, build);
        return 0;
}

static int on_running(const Build *build, void *userdata)
{
        Status *status = userdata;

        status->n_unfinished++;
        return build->state == BUILD_QUEUED ? 0 : add_build(build, status);
}

static int on_any(const Build *build, void *userdata)
{
        return add_build(build, userdata);
}

static int on_recent(const Build *build, void *userdata)
{
        Status *status = userdata;

        if (!build_state_is_final(build->state) || !status->recent)
                return 0;
        status->recent--;
        return add_build(build, status);
}

// Running ones, then those that wait in the order of their turn, then those that are over.
static int walk_builds(Status *status, Store *store, Error *err)
{
        static const BuildState queued = BUILD_QUEUED;
        BuildFilter running = {.image = status->image, .only_unfinished = true};
        BuildFilter waiting = {.image = status->image, .state = &queued, .oldest_first = true};
        BuildFilter recent = {.image = status->image};
        int r = store_builds_each(store, &running, on_running, status, err);

        if (r == 0)
                r = store_builds_each(store, &waiting, on_any, status, err);
        if (r < 0 || !status->recent)
                return r;
        recent.limit = status->recent + status->n_unfinished;
        return store_builds_each(store, &recent, on_recent, status, err);
}

static int gather_builds(Status *status, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        BuildFilter filter = {
                .image = status->image, .state = status->state, .limit = status->recent};
        int r = build_view_open(status->config, &store, err);

        if (r != 0)
                return r == STORE_NOT_FOUND ? 0 : r;
        return status->state ? store_builds_each(store, &filter, on_any, status, err)
                             : walk_builds(status, store, err);
}

static int on_profile(const ProfileRecord *record, void *userdata)
{
        Status *status = userdata;
        json_t *entry;

        status->n_profiles++;
        if (!record->error)
                return 0;
        entry = json_object();
        (void)json_object_set_new(entry, "entry", build_view_json_text(record->name));
        (void)json_object_set_new(entry, "error", build_view_json_text(record->error));
        return json_array_append_new(status->failing, entry);
}

static int gather_profiles(Status *status, Error *err)
{
        _cleanup_store_ Store *store = NULL;
        int r = store_open(status->config->global.state_dir, STORE_PROFILES, STORE_READ_ONLY,
                           &store, err);

        if (r != 0)
                return r == STORE_NOT_FOUND ? 0 : r;
        return store_profiles_each(store, on_profile, status, err);
}

// ---- printing -----------------------------------------------------------------------------

static const char *transport_name(const Config *config)
{
        return config->global.transport == TRANSPORT_AMQP ? "amqp" : "local";
}

static void print_queue(const Status *status)
{
        const char *queue = status->config->global.queue;

        if (status->queue_error.code)
                printf("Queue %s: its length is not known\n", queue);
        else if (status->ready < 0)
                printf("Queue %s (%s) is not there yet: nothing was ever queued\n", queue,
                       transport_name(status->config));
        else
                printf("Queue %s (%s): %" PRId64 " waiting\n", queue,
                       transport_name(status->config), status->ready);
}

static void print_profiles(const Status *status)
{
        size_t n = json_array_size(status->failing);

        printf("Profiles: %" PRId64 " known", status->n_profiles);
        if (!n) {
                printf("\n");
                return;
        }
        printf(", %zu to be tried again:\n", n);
        for (size_t at = 0; at < MIN(n, (size_t)FAILING_SHOWN); at++) {
                json_t *entry = json_array_get(status->failing, at);

                printf("  %s: %s\n", json_string_value(json_object_get(entry, "entry")),
                       json_string_value(json_object_get(entry, "error")));
        }
        if (n > FAILING_SHOWN)
                printf("  and %zu more (--json lists all)\n", n - FAILING_SHOWN);
}

static void print_text(const Status *status)
{
        print_queue(status);
        if (status->n_profiles)
                print_profiles(status);
        registration_summary_print(&status->registrations);
        printf("\n");
        if (table_rows(&status->table))
                table_print(&status->table, stdout);
        else
                printf("No builds%s.\n", status->image || status->state ? " of that kind" : " yet");
}

static int print_json(Status *status, Error *err)
{
        bool is_known = !status->queue_error.code;
        json_t *document = json_pack(
                "{s:o, s:{s:s, s:s, s:o, s:o}, s:{s:I, s:O}, s:o, s:O}", "now",
                build_view_json_time(status->now_ms), "queue", "name", status->config->global.queue,
                "transport", transport_name(status->config), "waiting",
                is_known ? json_integer(MAX(status->ready, 0)) : json_null(), "error",
                is_known ? json_null() : build_view_json_text(status->queue_error.text), "profiles",
                "known", (json_int_t)status->n_profiles, "failing", status->failing,
                "registrations", registration_summary_json(&status->registrations), "builds",
                status->builds);

        if (!document)
                return error_set(err, EINVAL, "cannot make the document");
        return build_view_print_json(document, err);
}

// ---- the command --------------------------------------------------------------------------

static void refuse_state(const char *name, Error *err)
{
        _cleanup_buf_ Buf known = BUF_INIT(ERROR_TEXT_MAX);
        int r = 0;

        for (int state = 0; state < N_BUILD_STATES && r == 0; state++)
                r = buf_printf(&known, "%s%s", state ? ", " : "",
                               build_state_name((BuildState)state));
        (void)error_set(err, EINVAL, "--state: there is no state %s, only %s", name,
                        buf_str(&known));
}

static int take_options(const Options *options, Status *status, BuildState *state, Error *err)
{
        status->recent = DEFAULT_RECENT;
        status->image = options->image;
        if (options->limit &&
            str_parse_int(options->limit, 0, MAX_RECENT, &status->recent, err) < 0) {
                (void)error_prefix(err, "--limit");
                return PROGRAM_USAGE;
        }
        if (!options->state)
                return 0;
        if (!build_state_from_name(options->state, state)) {
                refuse_state(options->state, err);
                return PROGRAM_USAGE;
        }
        status->state = state;
        return 0;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        _cleanup_(status_done) Status status = {
                .config = invocation->config,
                .now_ms = clock_wall_ms(),
                .failing = json_array(),
                .builds = options->json ? json_array() : NULL,
                .table = TABLE_INIT(columns),
        };
        BuildState state;
        int r = take_options(options, &status, &state, err);

        if (r == 0)
                r = gather_builds(&status, err);
        if (r == 0)
                r = gather_profiles(&status, err);
        if (r == 0)
                r = registration_summary_gather(status.config, &status.registrations, err);
        if (r != 0)
                return r;
        if (queue_probe(status.config, &status.ready, &status.queue_error) < 0)
                status.ready = -1; // queue_error says why; the builds are shown all the same
        if (options->json)
                r = print_json(&status, err);
        else
                print_text(&status);
        if (r < 0)
                return r;
        *err = status.queue_error;
        return status.queue_error.code ? PROGRAM_FAILED : 0;
}

static const ProgramOption option_list[] = {
        {"limit", 'n', "N", "show N builds that are over (default 10)", offsetof(Options, limit)},
        {"image", 'i', "NAME", "only builds of this image", offsetof(Options, image)},
        {"state", 's', "STATE", "only builds in this state, N of them", offsetof(Options, state)},
        {"json", 0, NULL, "print a JSON document", offsetof(Options, json)},
};

const Program packuilon_status = {
        .name = "packuilon status",
        .summary = "List running, waiting and recent builds.",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .run = run,
};
