#include "bin/build_view.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "core/template.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define MS_PER_SECOND 1000
#define TENTHS_BELOW_MS 10000
#define SECONDS_PER_MINUTE 60
#define SECONDS_PER_HOUR 3600
#define SECONDS_PER_DAY 86400
#define JSON_TEXT_MAX ((size_t)64 * 1024)

Colour build_view_colour(BuildState state)
{
        switch (state) {
        case BUILD_SUCCEEDED:
                return COLOUR_GREEN;
        case BUILD_BUILDING:
                return COLOUR_YELLOW;
        case BUILD_FAILED:
        case BUILD_INTERRUPTED:
        case BUILD_CANCELLED:
                return COLOUR_RED;
        case BUILD_SKIPPED:
        case BUILD_SUPERSEDED:
                return COLOUR_DIM;
        default:
                return COLOUR_NONE;
        }
}

const char *build_view_detail(const Build *build)
{
        if (build->state == BUILD_BUILDING)
                return build->phase;
        if (build->state == BUILD_SUCCEEDED)
                return build->artifact;
        return build->reason;
}

char *build_view_template(const Build *build)
{
        return build->template ? template_name(build->template) : NULL;
}

char *build_view_time(int64_t wall_ms)
{
        time_t seconds = (time_t)(wall_ms / MS_PER_SECOND);
        char text[sizeof "2026-11-23 18:11:14" + 8] = "";
        struct tm tm;

        if (wall_ms && localtime_r(&seconds, &tm))
                (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        return xstrdup(text);
}

char *build_view_duration(int64_t ms)
{
        long long seconds = MAX(ms, 0) / MS_PER_SECOND;

        if (ms > 0 && ms < TENTHS_BELOW_MS)
                return xasprintf("%.1fs", (double)ms / MS_PER_SECOND);
        if (seconds < SECONDS_PER_MINUTE)
                return xasprintf("%llds", seconds);
        if (seconds < SECONDS_PER_HOUR)
                return xasprintf("%lldm %02llds", seconds / SECONDS_PER_MINUTE,
                                 seconds % SECONDS_PER_MINUTE);
        if (seconds < SECONDS_PER_DAY)
                return xasprintf("%lldh %02lldm", seconds / SECONDS_PER_HOUR,
                                 seconds % SECONDS_PER_HOUR / SECONDS_PER_MINUTE);
        return xasprintf("%lldd %02lldh", seconds / SECONDS_PER_DAY,
                         seconds % SECONDS_PER_DAY / SECONDS_PER_HOUR);
}

int64_t build_view_took_ms(const Build *build, int64_t now_ms)
{
        if (!build->started_ms)
                return 0;
        return (build->ended_ms ? build->ended_ms : now_ms) - build->started_ms;
}

// ---- JSON ---------------------------------------------------------------------------------

json_t *build_view_json_text(const char *text)
{
        _cleanup_free_ char *visible = NULL;

        if (!text)
                return json_null();
        if (str_is_utf8(text, strlen(text)))
                return json_string(text);
        visible = str_visible(text, strlen(text), JSON_TEXT_MAX);
        return json_string(visible);
}

json_t *build_view_json_time(int64_t wall_ms)
{
        time_t seconds = (time_t)(wall_ms / MS_PER_SECOND);
        char text[sizeof "2026-11-23T18:11:14" + 8];
        _cleanup_free_ char *precise = NULL;
        struct tm tm;

        if (!wall_ms || !gmtime_r(&seconds, &tm) ||
            !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm))
                return json_null();
        precise = xasprintf("%s.%03dZ", text, (int)(wall_ms % MS_PER_SECOND));
        return json_string(precise);
}

static json_t *json_number(int64_t value, bool is_known)
{
        return is_known ? json_integer(value) : json_null();
}

json_t *build_view_json_lines(const char *text)
{
        _cleanup_strv_ char **lines = text ? strv_split(text, "\n") : NULL;
        json_t *list = json_array();

        STRV_FOREACH (line, lines)
                (void)json_array_append_new(list, build_view_json_text(*line));
        return list;
}

json_t *build_view_json(const Build *build)
{
        const struct {
                const char *key;
                const char *text;
        } texts[] = {
                {"build_id", build->build_id},
                {"state", build_state_name(build->state)},
                {"image", build->image},
                {"template", build->template},
                {"personality", build->personality},
                {"os", build->os},
                {"source_image", build->source_image},
                {"entry", build->entry},
                {"content_id", build->content_id},
                {"message_id", build->message_id},
                {"phase", build->state == BUILD_BUILDING ? build->phase : NULL},
                {"artifact", build->artifact},
                {"reason", build->reason},
                {"log", build->log_path},
        };
        json_t *object = json_object();

        (void)json_object_set_new(object, "id", json_integer(build->id));
        for (size_t at = 0; at < ELEMENTSOF(texts); at++)
                (void)json_object_set_new(object, texts[at].key,
                                          build_view_json_text(texts[at].text));
        (void)json_object_set_new(object, "attempt", json_integer(build->attempt));
        (void)json_object_set_new(object, "queued_at", build_view_json_time(build->queued_ms));
        (void)json_object_set_new(object, "not_before", build_view_json_time(build->not_before_ms));
        (void)json_object_set_new(object, "started_at", build_view_json_time(build->started_ms));
        (void)json_object_set_new(object, "ended_at", build_view_json_time(build->ended_ms));
        (void)json_object_set_new(object, "pid",
                                  json_number(build->pid, build->state == BUILD_BUILDING));
        (void)json_object_set_new(object, "exit_code",
                                  json_number(build->exit_code, build->exit_code >= 0));
        (void)json_object_set_new(object, "changes", build_view_json_lines(build->changes));
        return object;
}

int build_view_print_json(json_t *take_document, Error *err)
{
        int r = json_dumpf(take_document, stdout, JSON_INDENT(2));

        json_decref(take_document);
        if (r < 0)
                return error_sys(err, "cannot write the document");
        (void)putchar('\n');
        return 0;
}

// ---- finding ------------------------------------------------------------------------------

int build_view_open(const Config *config, Store **ret, Error *err)
{
        return store_open(config->global.state_dir, STORE_BUILDS, STORE_READ_ONLY, ret, err);
}

static int take_first(const Build *build, void *userdata)
{
        int64_t *id = userdata;

        *id = build->id;
        return 0;
}

static int find_id(Store *store, const char *text, int64_t *ret_id, Error *err)
{
        const BuildFilter newest = {.image = text, .limit = 1};
        Error ignored = ERROR_NONE;

        if (str_parse_int(text, 1, INT64_MAX, ret_id, &ignored) == 0)
                return 0;
        *ret_id = 0;
        return store_builds_each(store, &newest, take_first, ret_id, err);
}

int build_view_find(const Config *config, const char *text, Store **ret_store, Build *ret,
                    Error *err)
{
        _cleanup_store_ Store *store = NULL;
        int64_t id = 0;
        int r = build_view_open(config, &store, err);

        if (r == 0)
                r = find_id(store, text, &id, err);
        if (r == 0)
                r = id ? store_build_get(store, id, ret, err) : STORE_NOT_FOUND;
        if (r < 0)
                return r;
        if (r == STORE_NOT_FOUND) {
                (void)error_set(err, ENOENT,
                                "there is no build and no image %s ('packuilon status' lists them)",
                                text);
                return STORE_NOT_FOUND;
        }
        *ret_store = TAKE_PTR(store);
        return 0;
}
