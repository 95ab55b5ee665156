#include "builder/build_plan.h"

#include <string.h>

#include "core/maps.h"
#include "core/profile.h"
#include "util/alloc.h"
#include "util/strutil.h"

static int reject(BuildPlan *plan, const Error *why)
{
        replace_string(&plan->reason, why->text);
        return BUILD_PLAN_REJECTED;
}

static int skip(BuildPlan *plan, char *take_reason)
{
        free(plan->reason);
        plan->reason = take_reason;
        return BUILD_PLAN_SKIPPED;
}

// "a, b or c"
static char *join_keys(char *const *keys)
{
        char *text = xstrdup("");

        for (size_t at = 0; keys[at]; at++) {
                char *longer = xasprintf("%s%s%s", text,
                                         !at            ? ""
                                         : keys[at + 1] ? ", "
                                                        : " or ",
                                         keys[at]);

                free(text);
                text = longer;
        }
        return text;
}

static int find_source_image(const Config *config, BuildPlan *plan, Error *err)
{
        _cleanup_strv_ char **keys = NULL;
        _cleanup_free_ char *names = NULL;
        int r = source_images_lookup(config->build.images_config, &plan->identity,
                                     &plan->source_image, &plan->os, err);

        if (r != MAP_NOT_FOUND)
                return r;
        keys = identity_os_keys(&plan->identity);
        if (!keys[0])
                return skip(plan, xstrdup("the profile names no operating system (/system/os, "
                                          "/system/archetype or the pxelinux kernel)"));
        names = join_keys(keys);
        return skip(plan,
                    xasprintf("no source image for %s in %s", names, config->build.images_config));
}

static int find_templates(const Config *config, BuildPlan *plan, Error *err)
{
        int r;

        if (!config->build.template_map) {
                plan->templates = xcalloc(2, sizeof *plan->templates);
                plan->templates[0] = xstrdup(config->build.template_file);
                return 0;
        }
        r = template_map_lookup(config->build.template_map, plan->image, &plan->templates, err);
        if (r == MAP_NOT_FOUND)
                return skip(plan, xasprintf("no template for %s and no DEFAULT in %s", plan->image,
                                            config->build.template_map));
        return r;
}

static int fill_plan(const Config *config, const char *body, size_t body_len, BuildPlan *plan,
                     Error *err)
{
        _cleanup_profile_ Profile *profile = NULL;
        Error why = ERROR_NONE;
        int r;

        if (profile_parse(body, body_len, &profile, &why) < 0 ||
            identity_from_profile(profile, &plan->identity, &why) < 0)
                return reject(plan, &why);
        r = find_source_image(config, plan, err);
        if (r != 0)
                return r;
        if (identity_image_name(&plan->identity, config->build.image_name, plan->os, &plan->image,
                                &why) < 0)
                return reject(plan, &why);
        return find_templates(config, plan, err);
}

int build_plan_make(const Config *config, const char *body, size_t body_len, BuildPlan *ret,
                    Error *err)
{
        BuildPlan plan = {0};
        int r = fill_plan(config, body, body_len, &plan, err);

        if (r < 0) {
                build_plan_done(&plan);
                return r;
        }
        *ret = plan;
        return r;
}

void build_plan_done(BuildPlan *plan)
{
        identity_done(&plan->identity);
        free(plan->os);
        free(plan->image);
        free(plan->source_image);
        strv_free(plan->templates);
        free(plan->reason);
        *plan = (BuildPlan){0};
}
