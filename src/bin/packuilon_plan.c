// packuilon plan: what a profile would build, and why. Nothing is queued, started or written.
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>

#include "bin/build_view.h"
#include "bin/packuilon.h"
#include "builder/build_plan.h"
#include "core/store.h"
#include "core/template.h"
#include "net/http.h"
#include "scan/decision.h"
#include "util/alloc.h"
#include "util/fs.h"
#include "util/gzip.h"
#include "util/strutil.h"

#define LABEL_WIDTH 14
// Stands where a build's own id will be.
#define NO_BUILD_ID "00000000-0000-4000-8000-000000000000"

typedef struct Options {
        bool render;
        bool json;
} Options;

typedef struct Planned {
        const char *name; // as the user gave it
        int verdict;      // of build_plan_make
        BuildPlan plan;
        bool is_broken;  // a template cannot be rendered
        bool is_scanned; // cdb2rabbit has seen profiles here: `scanned` is known
        Decision scanned;
} Planned;

static void planned_done(Planned *planned)
{
        build_plan_done(&planned->plan);
        decision_done(&planned->scanned);
}

// ---- reading a profile ----------------------------------------------------------------------

static int inflate(Buf *body, Error *err)
{
        _cleanup_buf_ Buf packed = *body;

        *body = BUF_INIT(packed.max);
        return gzip_inflate(packed.data, packed.len, body, err);
}

static int read_file(const char *path, Buf *body, Error *err)
{
        int r = fs_read_file(path, body, err);

        if (r < 0 || !gzip_is(body->data, body->len))
                return r;
        r = inflate(body, err);
        return r < 0 ? error_prefix(err, "%s", path) : 0;
}

static int fetch_entry(const ScanConfig *config, const char *entry, Buf *body, Error *err)
{
        const HttpLimits limits = {.parallel = 1, .timeout_seconds = config->http_timeout_seconds};
        _cleanup_free_ char *url = http_join_url(config->profile_dir_url, entry);
        const HttpRequest request = {.url = url, .max_bytes = config->max_profile_bytes};
        long status;

        return http_get(&request, &limits, &status, body, NULL, NULL, err);
}

// A file of that name, else an entry of the site's profile folder.
static int read_profile(const Config *config, const char *name, Buf *body, Error *err)
{
        if (access(name, F_OK) == 0)
                return read_file(name, body, err);
        if (!config->scan.profile_dir_url)
                return error_set(err, ENOENT,
                                 "there is no file %s, and without PROFILE_DIR_URL no profile can "
                                 "be fetched",
                                 name);
        if (!str_is_safe_relative_path(name, strlen(name)))
                return error_set(err, EINVAL, "%s is neither a file nor a name in the index", name);
        return fetch_entry(&config->scan, name, body, err);
}

// ---- what the scanner would say ---------------------------------------------------------------

// The name that the scanner knows a profile by.
static char *profile_name(const char *path)
{
        const char *slash = strrchr(path, '/');
        const char *base = access(path, F_OK) == 0 && slash ? slash + 1 : path;

        return xstrndup(base, strlen(base) - (str_ends_with(base, ".gz") ? strlen(".gz") : 0));
}

static int compare_with_scan(const Config *config, const Buf *body, Planned *planned, Error *err)
{
        _cleanup_free_ char *name = profile_name(planned->name);
        _cleanup_profile_paths_ ProfilePaths *ignore = NULL;
        _cleanup_store_ Store *store = NULL;
        ProfileRecord record = {0};
        DecisionRules rules;
        int r = store_open(config->global.state_dir, STORE_PROFILES, STORE_READ_ONLY, &store, err);

        if (r != 0)
                return r == STORE_NOT_FOUND ? 0 : r;
        r = decision_rules_init(&rules, &config->scan, &ignore, err);
        if (r == 0)
                r = store_profile_get(store, name, &record, err);
        if (r < 0)
                return r;
        planned->is_scanned = true;
        r = decision_make(&rules, name, r == STORE_NOT_FOUND ? NULL : &record, false, body->data,
                          body->len, &planned->scanned, err);
        profile_record_done(&record);
        return r;
}

static const char *scan_word(const Planned *planned)
{
        if (!planned->is_scanned)
                return NULL;
        if (planned->scanned.verdict == VERDICT_UNCHANGED)
                return "unchanged";
        return planned->scanned.verdict == VERDICT_CHANGED ? "changed" : "added";
}

// ---- what would be built --------------------------------------------------------------------

static int render(const BuildPlan *plan, const char *template, RenderedTemplate *ret, Error *err)
{
        const TemplateValues values = {
                .name = plan->image,
                .image = plan->source_image,
                .os = plan->os,
                .build_id = NO_BUILD_ID,
                .identity = &plan->identity,
        };

        return template_render(template, &values, ret, err);
}

static const char *verdict_word(const Planned *planned)
{
        if (planned->verdict == BUILD_PLAN_REJECTED)
                return "reject";
        return planned->verdict == BUILD_PLAN_SKIPPED ? "skip" : "build";
}

static const struct {
        const char *label, *json_key, *source;
        size_t offset; // of a char * in Identity
} identity_fields[] = {
        {"Personality", "personality", "/system/personality/name", offsetof(Identity, personality)},
        {"Archetype", "archetype", "/system/archetype/name", offsetof(Identity, archetype)},
        {"Domain", "domain", "/metadata/template/branch", offsetof(Identity, domain)},
        {"Sandbox", "sandbox", "/metadata/template/branch", offsetof(Identity, sandbox)},
        {"Host name", "hostname", "/system/network/hostname", offsetof(Identity, hostname)},
};

static const char *identity_field(const Identity *identity, size_t at)
{
        return *(char *const *)((const char *)identity + identity_fields[at].offset);
}

// ---- text -----------------------------------------------------------------------------------

static void print_field(const char *label, const char *value, const char *why)
{
        if (value)
                printf("  %-*s%s  (%s)\n", LABEL_WIDTH, label, value, why);
}

static void print_indented(const char *text, size_t len)
{
        const char *end = text + len;

        while (text < end) {
                const char *newline = memchr(text, '\n', (size_t)(end - text));
                size_t line = (size_t)((newline ? newline : end) - text);
                _cleanup_free_ char *visible = str_visible(text, line, line * 4 + 1);

                printf("    | %s\n", visible);
                text += line + 1;
        }
}

static void print_template(Planned *planned, const char *template, bool with_text)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;

        printf("  %-*s%s\n", LABEL_WIDTH, "Template", template);
        if (render(&planned->plan, template, &rendered, &err) < 0) {
                planned->is_broken = true;
                printf("    cannot be used: %s\n", err.text);
        } else if (with_text && rendered.kind == TEMPLATE_HCL2) {
                printf("    is used in place, with these variables:\n");
                print_indented(rendered.vars, rendered.vars_len);
        } else if (with_text) {
                print_indented(rendered.text, rendered.text_len);
        }
}

static char *join(char *const *words)
{
        char *text = xstrdup("");

        STRV_FOREACH (word, words) {
                char *longer = xasprintf("%s%s%s", text, *text ? ", " : "", *word);

                free(text);
                text = longer;
        }
        return text;
}

static void print_identity(const Config *config, const BuildPlan *plan)
{
        _cleanup_strv_ char **keys = identity_os_keys(&plan->identity);
        _cleanup_free_ char *candidates = join(keys);
        _cleanup_free_ char *why_image = xasprintf("IMAGE_NAME = %s", config->build.image_name);
        _cleanup_free_ char *why_os = xasprintf("the first that is there, of %s", candidates);

        print_field("Image", plan->image, why_image);
        print_field("Source image", plan->source_image, config->build.images_config);
        print_field("OS", plan->os, why_os);
        for (size_t at = 0; at < ELEMENTSOF(identity_fields); at++)
                print_field(identity_fields[at].label, identity_field(&plan->identity, at),
                            identity_fields[at].source);
}

static void print_scanned(const Planned *planned)
{
        _cleanup_strv_ char **lines = NULL;
        const char *word = scan_word(planned);

        if (!word)
                return;
        printf("  %-*s%s\n", LABEL_WIDTH, "Last scan",
               strcmp(word, "unchanged") == 0 ? "the same: cdb2rabbit would not queue it"
               : strcmp(word, "changed") == 0 ? "another one: cdb2rabbit would queue it"
                                              : "not seen before");
        lines = planned->scanned.changes ? strv_split(planned->scanned.changes, "\n") : NULL;
        STRV_FOREACH (line, lines)
                printf("    %s\n", *line);
}

static void print_text(const Config *config, const Options *options, Planned *planned)
{
        if (planned->verdict == BUILD_PLAN_REJECTED) {
                printf("%s: would be rejected: %s\n", planned->name, planned->plan.reason);
                return;
        }
        if (planned->verdict == BUILD_PLAN_SKIPPED)
                printf("%s: would be skipped: %s\n", planned->name, planned->plan.reason);
        else
                printf("%s: would be built by %zu template%s\n", planned->name,
                       strv_count(planned->plan.templates),
                       strv_count(planned->plan.templates) == 1 ? "" : "s");
        print_identity(config, &planned->plan);
        print_scanned(planned);
        STRV_FOREACH (template, planned->plan.templates)
                print_template(planned, *template, options->render);
}

// ---- JSON -----------------------------------------------------------------------------------

static json_t *json_template(Planned *planned, const char *template, bool with_text)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        json_t *object = json_object();
        Error err = ERROR_NONE;
        int r = render(&planned->plan, template, &rendered, &err);
        const char *text = rendered.kind == TEMPLATE_HCL2 ? rendered.vars : rendered.text;

        if (r < 0)
                planned->is_broken = true;
        (void)json_object_set_new(object, "template", build_view_json_text(template));
        (void)json_object_set_new(object, "error", build_view_json_text(r < 0 ? err.text : NULL));
        if (with_text)
                (void)json_object_set_new(
                        object, rendered.kind == TEMPLATE_HCL2 ? "variables" : "build_file",
                        r < 0 ? json_null() : json_loads(text, 0, NULL));
        return object;
}

static json_t *json_planned(Planned *planned, const Options *options)
{
        const BuildPlan *plan = &planned->plan;
        json_t *object = json_object(), *builds = json_array();

        (void)json_object_set_new(object, "profile", build_view_json_text(planned->name));
        (void)json_object_set_new(object, "verdict", json_string(verdict_word(planned)));
        (void)json_object_set_new(object, "reason", build_view_json_text(plan->reason));
        (void)json_object_set_new(object, "image", build_view_json_text(plan->image));
        (void)json_object_set_new(object, "os", build_view_json_text(plan->os));
        (void)json_object_set_new(object, "source_image", build_view_json_text(plan->source_image));
        for (size_t at = 0; at < ELEMENTSOF(identity_fields); at++)
                (void)json_object_set_new(
                        object, identity_fields[at].json_key,
                        build_view_json_text(identity_field(&plan->identity, at)));
        (void)json_object_set_new(object, "scan", build_view_json_text(scan_word(planned)));
        (void)json_object_set_new(object, "changes",
                                  build_view_json_lines(planned->scanned.changes));
        STRV_FOREACH (template, plan->templates)
                (void)json_array_append_new(builds,
                                            json_template(planned, *template, options->render));
        (void)json_object_set_new(object, "builds", builds);
        return object;
}

// ---- the command ------------------------------------------------------------------------------

// `list` is where the JSON goes, NULL for text. Returns whether it could be built or skipped.
static int plan_one(const Invocation *invocation, const char *name, json_t *list, bool *ret_good,
                    Error *err)
{
        const Options *options = invocation->options;
        const Config *config = invocation->config;
        _cleanup_buf_ Buf body = BUF_INIT(config->scan.max_profile_bytes);
        _cleanup_(planned_done) Planned planned = {.name = name};
        int r = read_profile(config, name, &body, err);

        if (r == 0)
                r = build_plan_make(config, buf_str(&body), body.len, &planned.plan, err);
        if (r < 0)
                return r;
        planned.verdict = r;
        if (r != BUILD_PLAN_REJECTED)
                r = compare_with_scan(config, &body, &planned, err);
        if (r < 0)
                return r;
        if (list)
                (void)json_array_append_new(list, json_planned(&planned, options));
        else
                print_text(config, options, &planned);
        *ret_good = planned.verdict != BUILD_PLAN_REJECTED && !planned.is_broken;
        return 0;
}

static int run(const Invocation *invocation, Error *err)
{
        const Options *options = invocation->options;
        json_t *list = options->json ? json_array() : NULL;
        size_t n_bad = 0, n = 0;
        int r = 0;

        STRV_FOREACH (name, invocation->arguments) {
                bool is_good = false;

                if (!list && n++)
                        printf("\n");
                r = plan_one(invocation, *name, list, &is_good, err);
                if (r < 0)
                        break;
                n_bad += !is_good;
        }
        if (r < 0)
                json_decref(list);
        else if (list)
                r = build_view_print_json(list, err);
        return r < 0 ? r : n_bad ? PROGRAM_FAILED : 0;
}

static const ProgramOption option_list[] = {
        {"render", 'r', NULL, "show the build file that Packer would get",
         offsetof(Options, render)},
        {"json", 0, NULL, "print a JSON document", offsetof(Options, json)},
};

const Program packuilon_plan = {
        .name = "packuilon plan",
        .arguments = "PROFILE...",
        .min_arguments = 1,
        .max_arguments = UINT_MAX,
        .summary = "Show what a profile would build, and why.",
        .details = "PROFILE is a compiled profile's file (.json, .json.gz), or its name in the "
                   "profile index.\nThe build id is filled in when a build begins.\n",
        .options = option_list,
        .n_options = ELEMENTSOF(option_list),
        .options_size = sizeof(Options),
        .require = config_require_build,
        .run = run,
};
