#include "bin/registration_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define FAILING_SHOWN 5 // in the text form
#define VALUE_MAX 1024

Colour registration_view_colour(RegistrationState state)
{
        switch (state) {
        case REGISTRATION_REGISTERED:
                return COLOUR_GREEN;
        case REGISTRATION_REGISTERING:
        case REGISTRATION_REMOVING:
                return COLOUR_YELLOW;
        case REGISTRATION_FAILED:
        case REGISTRATION_STUCK:
                return COLOUR_RED;
        default:
                return COLOUR_DIM;
        }
}

char *registration_view_detail(const Registration *registration)
{
        const char *step = registration_step_name(registration->step);

        if (!registration_state_is_busy(registration->state))
                return xstrdup(registration->reason);
        if (registration->attempt == 0)
                return xstrdup(step);
        return xasprintf("%s, try %" PRId64 ": %s", step, registration->attempt + 1,
                         registration->reason ? registration->reason : "");
}

json_t *registration_view_json(const Registration *registration)
{
        const struct {
                const char *key, *text;
        } texts[] = {
                {"server", registration->server},
                {"state", registration_state_name(registration->state)},
                {"name", registration->name},
                {"build_id", registration->build_id},
                {"personality", registration->personality},
                {"address", registration->address},
                {"host", registration->host},
                {"machine", registration->machine},
                {"reason", registration->reason},
        };
        bool busy = registration_state_is_busy(registration->state);
        json_t *object = json_object();

        for (size_t at = 0; at < ELEMENTSOF(texts); at++)
                (void)json_object_set_new(object, texts[at].key,
                                          build_view_json_text(texts[at].text));
        (void)json_object_set_new(object, "step",
                                  busy ? json_string(registration_step_name(registration->step))
                                       : json_null());
        (void)json_object_set_new(object, "begun_at", build_view_json_time(registration->begun_ms));
        (void)json_object_set_new(object, "changed_at",
                                  build_view_json_time(registration->changed_ms));
        (void)json_object_set_new(object, "not_before",
                                  build_view_json_time(busy ? registration->not_before_ms : 0));
        return object;
}

int registration_view_open(const Config *config, Store **ret, Error *err)
{
        return store_open(config->global.state_dir, STORE_REGISTRATIONS, STORE_READ_ONLY, ret, err);
}

// ---- the summary --------------------------------------------------------------------------

static int on_row(const Registration *row, void *userdata)
{
        RegistrationSummary *summary = userdata;

        summary->n[row->state]++;
        if (row->state != REGISTRATION_FAILED && row->state != REGISTRATION_STUCK)
                return 0;
        return json_array_append_new(summary->failing, registration_view_json(row));
}

int registration_summary_gather(const Config *config, RegistrationSummary *ret, Error *err)
{
        static const RegistrationFilter all = {.limit = INT64_MAX};
        _cleanup_store_ Store *store = NULL;
        int r = registration_view_open(config, &store, err);

        *ret = (RegistrationSummary){.failing = json_array(), .is_there = r == 0};
        if (r != 0)
                return r == STORE_NOT_FOUND ? 0 : r;
        return store_registrations_each(store, &all, on_row, ret, err);
}

static void print_failing(const json_t *row)
{
        const char *reason = json_string_value(json_object_get(row, "reason"));
        const char *name = json_string_value(json_object_get(row, "name"));
        _cleanup_free_ char *line =
                xasprintf("%s (%s): %s", json_string_value(json_object_get(row, "server")),
                          name ? name : "no name", reason ? reason : "");
        _cleanup_free_ char *visible = str_visible(line, strlen(line), VALUE_MAX);

        printf("  %s\n", visible);
}

void registration_summary_print(const RegistrationSummary *summary)
{
        size_t n = json_array_size(summary->failing);

        if (!summary->is_there)
                return;
        printf("Registrations: %" PRId64 " registered, %" PRId64 " at work",
               summary->n[REGISTRATION_REGISTERED],
               summary->n[REGISTRATION_REGISTERING] + summary->n[REGISTRATION_REMOVING]);
        if (n)
                printf(", %zu failed:", n);
        printf("\n");
        for (size_t at = 0; at < MIN(n, (size_t)FAILING_SHOWN); at++)
                print_failing(json_array_get(summary->failing, at));
        if (n > FAILING_SHOWN)
                printf("  and %zu more (packuilon registrations lists all)\n", n - FAILING_SHOWN);
}

json_t *registration_summary_json(const RegistrationSummary *summary)
{
        json_t *object;

        if (!summary->is_there)
                return json_null();
        object = json_object();
        for (int state = 0; state < N_REGISTRATION_STATES; state++)
                (void)json_object_set_new(object, registration_state_name((RegistrationState)state),
                                          json_integer(summary->n[state]));
        (void)json_object_set(object, "failing", summary->failing);
        return object;
}

void registration_summary_done(RegistrationSummary *summary)
{
        json_decref(summary->failing);
}
