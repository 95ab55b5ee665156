#include "scan/decision.h"

#include <string.h>

#include "core/profile_texts.h"
#include "scan/cache.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define DIFFERENCES_TOLD_MAX 200
#define MORE_LINE_RESERVE 40 // bytes kept for "and N more"

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

static void take_differences(Decision *decision, ProfileDiffs *diffs)
{
        decision->verdict = VERDICT_CHANGED;
        decision->n_differences = diffs->n_total;
        decision->changes = describe_differences(diffs);
        profile_diffs_done(diffs);
}

// Decides by what differs from the earlier body, whose id is known. False: the whole must be read.
static bool follow(const DecisionRules *rules, const ProfileRecord *known, ProfileText earlier,
                   ProfileText body, Decision *decision)
{
        ContentId content = known->content;
        ProfileDiffs diffs = {.n_items = 0};

        if (!known->in_order || !profile_follow_texts(earlier, body, rules->ignore,
                                                      DIFFERENCES_TOLD_MAX, &content, &diffs))
                return false;
        decision->content = content;
        decision->in_order = true;
        if (content_id_equal(&content, &known->content))
                profile_diffs_done(&diffs);
        else
                take_differences(decision, &diffs);
        return true;
}

// Whether the earlier body has this content with the ignored paths and ids of now.
static bool has_content(const DecisionRules *rules, ProfileText earlier, const ContentId *content)
{
        bool in_order;
        ContentId found;

        return profile_content_of_text(earlier, rules->ignore, &found, &in_order, NULL) == 0 &&
               content_id_equal(&found, content);
}

// Whether the known body was this one, whose checksum is `raw`.
static bool has_bytes(const ProfileRecord *known, const Checksum *raw, ProfileText body)
{
        if (known->raw.len == raw->len)
                return memcmp(known->raw.bytes, raw->bytes, raw->len) == 0;
        return checksum_matches(&known->raw, body.text, body.len); // of an earlier version
}

// The bytes of the body that are not those of the cached one.
static void compare_bytes(ProfileText cached, ProfileText body, Decision *decision)
{
        size_t max = MIN(cached.len, body.len);

        decision->new_from = mem_common_start(cached.text, body.text, max);
        if (cached.len == body.len)
                decision->new_to -= mem_common_end(cached.text + max, body.text + max,
                                                   max - decision->new_from);
}

// Compares with the earlier body, if the cache has it. One that cannot be read costs the
// explanation; hence no error.
static int compare(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                   ProfileText body, Decision *decision, Error *err)
{
        _cleanup_buf_ Buf cached = BUF_INIT(rules->max_bytes);
        bool is_cached = cache_read_exact(rules->cache_dir, name, &known->raw, &cached, NULL) == 0;
        bool comparable = known->has_id && digest_equal(&known->ignore, &rules->ignore_digest);
        const ProfileText earlier = {buf_str(&cached), cached.len};
        ProfileDiffs diffs = {.n_items = 0};
        int r;

        if (is_cached)
                compare_bytes(earlier, body, decision);
        if (is_cached && comparable && follow(rules, known, earlier, body, decision))
                return 0;
        r = profile_content_of_text(body, rules->ignore, &decision->content, &decision->in_order,
                                    err);
        if (r < 0)
                return r;
        if (comparable ? content_id_equal(&known->content, &decision->content)
                       : is_cached && has_content(rules, earlier, &decision->content))
                return 0;
        decision->verdict = VERDICT_CHANGED;
        if (is_cached && profile_diff_texts(earlier, body, rules->ignore, DIFFERENCES_TOLD_MAX,
                                            &diffs, NULL) == 0)
                take_differences(decision, &diffs);
        return 0;
}

static int decide(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                  bool baseline, ProfileText body, Decision *decision, Error *err)
{
        bool same_bytes = known && known->has_content && has_bytes(known, &decision->raw, body);

        if (same_bytes && known->has_id) {
                decision->content = known->content;
                decision->ignore = known->ignore;
                decision->in_order = known->in_order;
                return 0;
        }
        if (known && known->has_content && !same_bytes)
                return compare(rules, name, known, body, decision, err);
        if (!same_bytes)
                decision->verdict = baseline ? VERDICT_BASELINE : VERDICT_ADDED;
        return profile_content_of_text(body, rules->ignore, &decision->content, &decision->in_order,
                                       err);
}

int decision_make(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                  bool baseline, const char *body, size_t len, Decision *ret, Error *err)
{
        Decision decision = {
                .verdict = VERDICT_UNCHANGED,
                .ignore = rules->ignore_digest,
                .new_to = len,
        };
        int r;

        checksum_of(body, len, &decision.raw);
        r = decide(rules, name, known, baseline, (ProfileText){body, len}, &decision, err);
        if (r < 0)
                return error_prefix(err, "not a JSON profile");
        *ret = decision;
        return 0;
}

void decision_done(Decision *decision)
{
        free(decision->changes);
        decision->changes = NULL;
}
