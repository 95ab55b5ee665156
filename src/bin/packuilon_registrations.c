// packuilon registrations: which servers nova2aquilon has registered with Aquilon, and which not.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bin/packuilon.h"
#include "bin/registration_view.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/strutil.h"

#define DEFAULT_LIMIT 20
#define MAX_LIMIT 1000000
#define LABEL_WIDTH 14
#define VALUE_MAX 8192

typedef struct Options {
        const char *limit;
        const char *state;
        bool json;
} Options;

// What is shown, as it is gathered.
typedef struct View {
        int64_t now_ms;
        json_t *list; // NULL in the text form, then it is…
        Table table;
        const char *wanted; // one server, by id, name or host
        Registration *found;
} View;

static const TableColumn columns[] = {
        {"STATE", false},       {"SERVER", false}, {"NAME", false},   {"HOST", false},
        {"PERSONALITY", false}, {"CHANGED", true}, {"DETAIL", false},
};

// ---- the list -----------------------------------------------------------------------------

static int add_row(const Registration *row, void *userdata)
{
        View *view = userdata;
        _cleanup_free_ char *age = NULL, *detail = NULL;
        Table *table = &view->table;

        if (view->list)
                return json_array_append_new(view->list, registration_view_json(row));
        age = build_view_duration(view->now_ms - row->changed_ms);
        detail = registration_view_detail(row);
        table_add(table, registration_state_name(row->state), registration_view_colour(row->state));
        table_add(table, row->server, COLOUR_NONE);
        table_add(table, row->name, COLOUR_NONE);
        table_add(table, row->host, COLOUR_NONE);
        table_add(table, row->personality, COLOUR_NONE);
        table_addf(table, COLOUR_NONE, "%s ago", age);
        table_add(table, detail, COLOUR_NONE);
        return 0;
}

static int add_count(const char *type, int64_t n, void *userdata)
{
        return json_object_set_new(userdata, type, json_integer(n));
}

static void print_counts(json_t *counts)
{
        const char *type;
        json_t *n;
        int64_t total = 0;

        json_object_foreach(counts, type, n) total += json_integer_value(n);
        printf("Notifications read: %" PRId64 "\n", total);
        json_object_foreach(counts, type, n)
        {
                _cleanup_free_ char *visible = str_visible(type, strlen(type), VALUE_MAX);

                printf("  %8" JSON_INTEGER_FORMAT "  %s\n", json_integer_value(n), visible);
        }
        printf("\n");
}

static int list(Store *store, const RegistrationFilter *filter, View *view, Error *err)
{
        json_t *counts = json_object();
        int r = store_notifications_each(store, add_count, counts, err);

        if (r == 0)
                r = store_registrations_each(store, filter, add_row, view, err);
        if (r < 0) {
                json_decref(counts);
                return r;
        }
        if (view->list) {
                json_t *document = json_pack("{s:o, s:O}", "notifications", counts, "registrations",
                                             view->list);

                return build_view_print_json(document, err);
        }
        print_counts(counts);
        json_decref(counts);
        if (table_rows(&view->table))
                table_print(&view->table, stdout);
        else
                printf("No registrations%s.\n", filter->state ? " of that kind" : " yet");
        return 0;
}

// ---- one server ---------------------------------------------------------------------------

static bool is_wanted(const char *value, const char *wanted)
{
        return value && strcmp(value, wanted) == 0;
}

// The newest that is called so.
static int look_at(const Registration *row, void *userdata)
{
        View *view = userdata;

        if (view->found->server ||
            (!is_wanted(row->server, view->wanted) && !is_wanted(row->name, view->wanted) &&
             !is_wanted(row->host, view->wanted)))
                return 0;
        view->found->server = xstrdup(row->server);
        return 0;
}

static void print_field(const char *label, const char *text)
{
        _cleanup_free_ char *visible = NULL;

        if (!text || !*text)
                return;
        visible = str_visible(text, strlen(text), VALUE_MAX);
        printf("%-*s%s\n", LABEL_WIDTH, label, visible);
}

static void print_time(const char *label, int64_t wall_ms)
{
        _cleanup_free_ char *text = build_view_time(wall_ms);

        print_field(label, text);
}

static void print_fields(const Registration *row)
{
        print_field("Server", row->server);
        printf("%-*s", LABEL_WIDTH, "State");
        print_coloured(stdout, registration_view_colour(row->state),
                       registration_state_name(row->state));
        printf("\n");
        if (registration_state_is_busy(row->state))
                print_field("Step", registration_step_name(row->step));
        print_field("Reason", row->reason);
        print_field("Name", row->name);
        print_field("Build", row->build_id);
        print_field("Personality", row->personality);
        print_field("Address", row->address);
        print_field("Host", row->host);
        print_field("Machine", row->machine);
        print_time("Begun", row->begun_ms);
        print_time("Changed", row->changed_ms);
        if (registration_state_is_busy(row->state))
                print_time("Not before", row->not_before_ms);
        printf("\nHistory\n");
}

static int print_event(const BuildEventRecord *event, void *userdata)
{
        _cleanup_free_ char *time = build_view_time(event->at_ms);
        _cleanup_free_ char *line = xasprintf("%s%s%s", event->what, event->detail ? ": " : "",
                                              event->detail ? event->detail : "");
        _cleanup_free_ char *visible = str_visible(line, strlen(line), VALUE_MAX);

        (void)userdata;
        printf("  %s  %s\n", time, visible);
        return 0;
}

static int add_event(const BuildEventRecord *event, void *userdata)
{
        json_t *object = json_object();

        (void)json_object_set_new(object, "at", build_view_json_time(event->at_ms));
        (void)json_object_set_new(object, "what", build_view_json_text(event->what));
        (void)json_object_set_new(object, "detail", build_view_json_text(event->detail));
        return json_array_append_new(userdata, object);
}

static int show(Store *store, const Registration *row, bool json, Error *err)
{
        json_t *document, *history;
        int r;

        if (!json) {
                print_fields(row);
                return store_registration_events_each(store, row->id, print_event, NULL, err);
        }
        history = json_array();
        r = store_registration_events_each(store, row->id, add_event, history, err);
        if (r < 0) {
                json_decref(history);
                return r;
        }
        document = registration_view_json(row);
        (void)json_object_set_new(document, "history", history);
        return build_view_print_json(document, err);
}

static int show_wanted(Store *store, View *view, bool json, Error *err)
{
        static const RegistrationFilter all = {.limit = INT64_MAX};
        _cleanup_(registration_done) Registration found = {0}, row = {0};
        int r;

        view->found = &found;
        r = store_registrations_each(store, &all, look_at, view, err);
        if (r < 0)
                return r;
        if (!found.server)
                return error_set(err, ENOENT, "there is no server %s", view->wanted);
        r = store_registration_find(store, found.server, &row, err);
        return r != 0 ? r : show(store, &row, json, err);
}

// ---- the command --------------------------------------------------------------------------

static int take_options(const Options *options, RegistrationFilter *filter,
                        RegistrationState *state, Error *err)
{
        filter->limit = DEFAULT_LIMIT;
        if (options->limit &&
            str_parse_int(options->limit, 1, MAX_LIMIT, &filter->limit, err) < 0) {
                (void)error_prefix(err, "--limit");
                return PROGRAM_USAGE;
        }
        if (!options->state)
                return 0;
        if (!registration_state_from_name(options->state, state)) {
                (void)error_set(err, EINVAL,
                                "--state: there is no state %s, only registering, registered, "
                                "failed, removing, removed and stuck",
                                options->state);
                return PROGRAM_USAGE;
        }
        filter->state = state;
        return 0;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        _cleanup_store_ Store *store = NULL;
        RegistrationFilter filter = {0};
        RegistrationState state = REGISTRATION_REGISTERED;
        View view = {.now_ms = clock_wall_ms(),
                     .list = options->json ? json_array() : NULL,
                     .table = TABLE_INIT(columns),
                     .wanted = invocation->arguments[0]};
        int r = take_options(options, &filter, &state, err);

        if (r == 0)
                r = registration_view_open(invocation->config, &store, err);
        if (r == STORE_NOT_FOUND && err->code == 0)
                r = error_set(err, ENOENT, "nova2aquilon never ran with this STATE_DIR (%s)",
                              invocation->config->global.state_dir);
        if (r == 0)
                r = view.wanted ? show_wanted(store, &view, options->json, err)
                                : list(store, &filter, &view, err);
        table_done(&view.table);
        json_decref(view.list);
        return r;
}

static const ProgramOption option_list[] = {
        {"limit", 'n', "N", "list N registrations (default 20)", offsetof(Options, limit)},
        {"state", 's', "STATE", "only those in this state", offsetof(Options, state)},
        {"json", 0, NULL, "print a JSON document", offsetof(Options, json)},
};

const Program packuilon_registrations = {
        .name = "packuilon registrations",
        .arguments = "[SERVER]",
        .max_arguments = 1,
        .summary = "List the servers registered with Aquilon, or tell all about one.",
        .details = "SERVER is the server's id or name in Nova, or its host name.\n",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .run = run,
};
