#include "scan/decision.h"

#include <string.h>

#include "scan/cache.h"
#include "util/alloc.h"

#define DIFFERENCES_TOLD_MAX 200
#define MORE_LINE_RESERVE 40 // bytes kept for "and N more"

// An earlier document, from the cache.
typedef struct Earlier {
        Buf text;
        Profile *profile; // NULL: not available
} Earlier;

static void earlier_done(Earlier *earlier)
{
        if (earlier->profile)
                profile_free(earlier->profile);
        buf_done(&earlier->text);
}

int decision_rules_init(DecisionRules *rules, const ScanConfig *config, ProfilePaths **ret_ignore,
                        Error *err)
{
        int r = profile_paths_new(config->ignore_paths, ret_ignore, err);

        if (r < 0)
                return error_prefix(err, "IGNORE_PATHS");
        *rules = (DecisionRules){
                .ignore = *ret_ignore,
                .cache_dir = config->cache_dir,
                .max_bytes = config->max_profile_bytes,
        };
        profile_paths_digest(*ret_ignore, &rules->ignore_digest);
        return 0;
}

// A cache that cannot be read costs the explanation; hence no error.
static void load_earlier(const DecisionRules *rules, const char *name, const Digest *raw,
                         Earlier *earlier)
{
        earlier->text = BUF_INIT(rules->max_bytes);
        if (cache_read_exact(rules->cache_dir, name, raw, &earlier->text, NULL) != 0)
                return;
        if (profile_parse(buf_str(&earlier->text), earlier->text.len, &earlier->profile, NULL) < 0)
                earlier->profile = NULL;
}

static char *describe_differences(const ProfileDiffs *diffs)
{
        Buf text = BUF_INIT(MESSAGE_CHANGES_MAX);
        size_t told = 0;
        int r = 0;

        for (; told < diffs->n_items; told++) {
                _cleanup_free_ char *line = profile_diff_describe(&diffs->items[told]);

                if (text.len + strlen(line) + 1 > MESSAGE_CHANGES_MAX - MORE_LINE_RESERVE)
                        break;
                r = buf_printf(&text, "%s%s", told > 0 ? "\n" : "", line);
        }
        if (r == 0 && told < diffs->n_total)
                r = buf_printf(&text, "%s%zu more", told > 0 ? "\nand " : "",
                               diffs->n_total - told);
        (void)r; // within the limit by what was checked above
        return buf_take(&text, NULL);
}

static void explain(const DecisionRules *rules, const Profile *before, const Profile *after,
                    Decision *decision)
{
        ProfileDiffs diffs = {.n_items = 0};

        profile_diff(before, after, rules->ignore, DIFFERENCES_TOLD_MAX, &diffs);
        decision->n_differences = diffs.n_total;
        decision->changes = describe_differences(&diffs);
        profile_diffs_done(&diffs);
}

// A profile whose content was known.
static void compare(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                    const Profile *after, Decision *decision)
{
        _cleanup_(earlier_done) Earlier earlier = {.profile = NULL};
        bool comparable = digest_equal(&known->ignore, &rules->ignore_digest);
        Digest content = known->content;

        decision->verdict = VERDICT_UNCHANGED;
        if (comparable && digest_equal(&content, &decision->content))
                return;
        load_earlier(rules, name, &known->raw, &earlier);
        if (!comparable && earlier.profile) {
                // IGNORE_PATHS is another one now: the known content, seen with it.
                profile_digest(earlier.profile, rules->ignore, &content);
                if (digest_equal(&content, &decision->content))
                        return;
        }
        decision->verdict = VERDICT_CHANGED;
        if (earlier.profile)
                explain(rules, earlier.profile, after, decision);
}

int decision_make(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                  bool baseline, const char *body, size_t len, Decision *ret, Error *err)
{
        _cleanup_profile_ Profile *profile = NULL;
        Decision decision = {.verdict = VERDICT_UNCHANGED};
        int r;

        digest_sha256(body, len, &decision.raw);
        if (known && known->has_content && digest_equal(&known->raw, &decision.raw)) {
                decision.content = known->content;
                decision.ignore = known->ignore;
                *ret = decision;
                return 0;
        }
        r = profile_parse(body, len, &profile, err);
        if (r < 0)
                return error_prefix(err, "not a JSON profile");
        profile_digest(profile, rules->ignore, &decision.content);
        decision.ignore = rules->ignore_digest;
        if (known && known->has_content)
                compare(rules, name, known, profile, &decision);
        else
                decision.verdict = baseline ? VERDICT_BASELINE : VERDICT_ADDED;
        *ret = decision;
        return 0;
}

void decision_done(Decision *decision)
{
        free(decision->changes);
        decision->changes = NULL;
}
