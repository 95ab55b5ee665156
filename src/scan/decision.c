#include "scan/decision.h"

#include <string.h>

#include "core/profile_outline.h"
#include "scan/cache.h"
#include "util/alloc.h"

#define DIFFERENCES_TOLD_MAX 200
#define MORE_LINE_RESERVE 40 // bytes kept for "and N more"

// A fetched document.
typedef struct Body {
        ProfileText text;
        const ProfileOutline *outline;
} Body;

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

static void explain(const DecisionRules *rules, const Buf *earlier, const Body *body,
                    Decision *decision)
{
        const ProfileText before = {buf_str(earlier), earlier->len};
        ProfileDiffs diffs = {.n_items = 0};

        if (profile_diff_texts(before, body->text, body->outline, rules->ignore,
                               DIFFERENCES_TOLD_MAX, &diffs, NULL) < 0)
                return;
        decision->n_differences = diffs.n_total;
        decision->changes = describe_differences(&diffs);
        profile_diffs_done(&diffs);
}

// Whether the earlier body has this content with the ignored paths of now.
static bool has_content(const DecisionRules *rules, const Buf *earlier, const Digest *content)
{
        _cleanup_outline_ ProfileOutline outline = {0};
        Digest found;

        return profile_digest_text(buf_str(earlier), earlier->len, rules->ignore, &found, &outline,
                                   NULL) == 0 &&
               digest_equal(&found, content);
}

// A profile whose content was known.
static void compare(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                    const Body *body, Decision *decision)
{
        _cleanup_buf_ Buf earlier = BUF_INIT(rules->max_bytes);
        bool comparable = digest_equal(&known->ignore, &rules->ignore_digest), cached;

        decision->verdict = VERDICT_UNCHANGED;
        if (comparable && digest_equal(&known->content, &decision->content))
                return;
        // A cache that cannot be read costs the explanation; hence no error.
        cached = cache_read_exact(rules->cache_dir, name, &known->raw, &earlier, NULL) == 0;
        if (!comparable && cached && has_content(rules, &earlier, &decision->content))
                return;
        decision->verdict = VERDICT_CHANGED;
        if (cached)
                explain(rules, &earlier, body, decision);
}

// Whether the known body was this one, whose checksum is `raw`.
static bool has_bytes(const ProfileRecord *known, const Checksum *raw, const char *body, size_t len)
{
        if (known->raw.len == raw->len)
                return memcmp(known->raw.bytes, raw->bytes, raw->len) == 0;
        return checksum_matches(&known->raw, body, len); // of an earlier version
}

int decision_make(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                  bool baseline, const char *body, size_t len, Decision *ret, Error *err)
{
        Decision decision = {.verdict = VERDICT_UNCHANGED, .ignore = rules->ignore_digest};
        _cleanup_outline_ ProfileOutline outline = {0};
        const Body fetched = {.text = {body, len}, .outline = &outline};
        int r;

        checksum_of(body, len, &decision.raw);
        if (known && known->has_content && has_bytes(known, &decision.raw, body, len)) {
                decision.content = known->content;
                decision.ignore = known->ignore;
                *ret = decision;
                return 0;
        }
        r = profile_digest_text(body, len, rules->ignore, &decision.content, &outline, err);
        if (r < 0)
                return error_prefix(err, "not a JSON profile");
        if (known && known->has_content)
                compare(rules, name, known, &fetched, &decision);
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
