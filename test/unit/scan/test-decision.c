#include "../unit.h"

#include <errno.h>

#include "scan/cache.h"
#include "scan/decision.h"
#include "util/alloc.h"
#include "util/buf.h"

#define SAMPLE_MAX ((size_t)1024 * 1024)
#define NAME "p.json"
#define BASE "compiled-aquilon/rocky-8-aq.cloud.template.json"
#define VARIANT "compiled-variants/rocky-8-aq.cloud.template."

// The rules with one IGNORE_PATHS, over a cache folder.
typedef struct Fixture {
        ProfilePaths *ignore;
        DecisionRules rules;
} Fixture;

static void fixture_init(Fixture *fixture, char *cache_dir, const char *const *ignore)
{
        char *paths[64] = {NULL};
        ScanConfig config = {
                .ignore_paths = paths,
                .cache_dir = cache_dir,
                .max_profile_bytes = SAMPLE_MAX,
        };
        Error err = ERROR_NONE;
        int r;

        for (size_t i = 0; ignore[i]; i++)
                paths[i] = xstrdup(ignore[i]);
        r = decision_rules_init(&fixture->rules, &config, &fixture->ignore, &err);
        assert_ok(r, err);
        for (size_t i = 0; paths[i]; i++)
                free(paths[i]);
}

static void fixture_done(Fixture *fixture)
{
        profile_paths_free(fixture->ignore);
}

#define _cleanup_fixture_ _cleanup_(fixture_done)

static const char *const nothing[] = {NULL};
static const char *const noise[] = {"/noise", NULL};

static void decide(const Fixture *fixture, const ProfileRecord *known, bool baseline,
                   const char *body, Decision *ret)
{
        Error err = ERROR_NONE;
        int r = decision_make(&fixture->rules, NAME, known, baseline, body, strlen(body), ret,
                              &err);

        assert_ok(r, err);
}

// The record after `body` was dealt with, and with it in the cache if asked for.
static ProfileRecord remember(const Fixture *fixture, const char *body, bool cached)
{
        Decision decision = {.changes = NULL};
        Error err = ERROR_NONE;

        decide(fixture, NULL, true, body, &decision);
        if (cached) {
                int r = cache_write(fixture->rules.cache_dir, NAME, body, strlen(body), &err);

                assert_ok(r, err);
        }
        return (ProfileRecord){
                .name = NAME,
                .raw = decision.raw,
                .content = decision.content,
                .ignore = decision.ignore,
                .in_order = decision.in_order,
                .has_content = true,
                .has_id = true,
        };
}

static void test_not_known(void **state)
{
        const ProfileRecord seen = {.name = NAME, .mtime = 1};
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};

        fixture_init(&fixture, *state, nothing);
        decide(&fixture, NULL, true, "{}", &decision);
        assert_int_equal(decision.verdict, VERDICT_BASELINE);
        decide(&fixture, NULL, false, "{}", &decision);
        assert_int_equal(decision.verdict, VERDICT_ADDED);
        decide(&fixture, &seen, true, "{}", &decision);
        assert_int_equal(decision.verdict, VERDICT_BASELINE);
        decide(&fixture, &seen, false, "{}", &decision);
        assert_int_equal(decision.verdict, VERDICT_ADDED);
}

static void test_same_bytes_need_no_parsing(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known = {
                .name = NAME, .has_content = true, .content = {{7, 8}}, .has_id = true};

        fixture_init(&fixture, *state, nothing);
        checksum_of("no JSON at all", 14, &known.raw);
        decide(&fixture, &known, false, "no JSON at all", &decision);
        assert_int_equal(decision.verdict, VERDICT_UNCHANGED);
        assert_true(content_id_equal(&decision.content, &known.content));
}

static Checksum sha256_of(const char *body)
{
        Checksum checksum = {.len = CHECKSUM_SHA256_BYTES};
        Digest digest;

        digest_sha256(body, strlen(body), &digest);
        memcpy(checksum.bytes, digest.bytes, sizeof digest.bytes);
        return checksum;
}

// The records of a version that knew bodies by their SHA-256.
static void test_record_of_an_earlier_version(void **state)
{
        static const char body[] = "{\"a\": 1}", no_json[] = "no JSON at all";
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision same = {.changes = NULL}, changed = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&fixture, *state, nothing);
        known = remember(&fixture, body, true);
        known.raw = sha256_of(no_json);
        decide(&fixture, &known, false, no_json, &same);
        assert_int_equal(same.verdict, VERDICT_UNCHANGED);
        assert_int_equal(same.raw.len, CHECKSUM_XXH3_BYTES);
        known.raw = sha256_of(body);
        decide(&fixture, &known, false, "{\"a\": 2}", &changed);
        assert_string_equal(changed.changes, "changed /a: 1 -> 2");
}

// The records of a version that had other content ids.
static void test_content_id_of_an_earlier_version(void **state)
{
        static const char before[] = "{\"a\": 1, \"b\": 1}", spaced[] = "{\"a\":1,\"b\":1}",
                          after[] = "{\"a\": 2, \"b\": 1}";
        _cleanup_fixture_ Fixture fixture;
        ProfileRecord known;

        fixture_init(&fixture, *state, nothing);
        for (int cached = 0; cached < 2; cached++) {
                _cleanup_decision_ Decision same = {.changes = NULL}, moved = {.changes = NULL},
                                            changed = {.changes = NULL};
                ContentId id;

                known = remember(&fixture, before, cached);
                id = known.content;
                known.content = (ContentId){{0}};
                known.has_id = known.in_order = false;
                // These bytes are known.
                decide(&fixture, &known, false, before, &same);
                assert_int_equal(same.verdict, VERDICT_UNCHANGED);
                assert_true(content_id_equal(&same.content, &id));
                assert_true(same.in_order);
                // Of others the cached body tells. Better built than lost if it is not there.
                decide(&fixture, &known, false, spaced, &moved);
                assert_int_equal(moved.verdict, cached ? VERDICT_UNCHANGED : VERDICT_CHANGED);
                assert_true(content_id_equal(&moved.content, &id));
                decide(&fixture, &known, false, after, &changed);
                assert_int_equal(changed.verdict, VERDICT_CHANGED);
                assert_int_equal(changed.changes != NULL, cached);
        }
}

// The id of the earlier body, which is wrong here, tells how the new one was found.
static void test_what_is_the_same_is_not_read(void **state)
{
        static const char before[] = "{\"a\":{\"x\":1,\"y\":1},\"b\":1,\"noise\":1}",
                          after[] = "{\"a\":{\"x\":1,\"y\":2},\"b\":1,\"noise\":1}",
                          noisy[] = "{\"a\":{\"x\":1,\"y\":1},\"b\":1,\"noise\":[2]}";
        const ContentId error = {{1, 2}};
        _cleanup_fixture_ Fixture fixture, other;
        ProfileRecord before_record, after_record;

        fixture_init(&fixture, *state, noise);
        fixture_init(&other, *state, nothing);
        after_record = remember(&fixture, after, false);
        before_record = remember(&fixture, before, true);
        for (int way = 0; way < 5; way++) {
                _cleanup_decision_ Decision decision = {.changes = NULL}, unchanged = {0};
                ProfileRecord known = before_record;
                ContentId want = after_record.content;

                content_id_add(&known.content, &error);
                if (way == 0)
                        content_id_add(&want, &error);
                else if (way == 1)
                        known.in_order = false;
                else if (way == 2)
                        known.has_id = false;
                else if (way == 3)
                        known.ignore = other.rules.ignore_digest;
                else
                        (void)remember(&fixture, noisy, true); // not the known body any more
                decide(&fixture, &known, false, after, &decision);
                assert_true(content_id_equal(&decision.content, &want));
                assert_int_equal(decision.verdict, VERDICT_CHANGED);
                assert_int_equal(decision.changes != NULL, way < 4);
                assert_true(decision.in_order);
                if (way > 0)
                        continue;
                assert_string_equal(decision.changes, "changed /a/y: 1 -> 2");
                assert_int_equal(decision.n_differences, 1);
                decide(&fixture, &known, false, noisy, &unchanged);
                assert_int_equal(unchanged.verdict, VERDICT_UNCHANGED);
                assert_true(content_id_equal(&unchanged.content, &known.content));
                assert_null(unchanged.changes);
        }
}

// What is not a profile is not followed, either.
static void test_no_profile_any_more(void **state)
{
        static const char *const bodies[] = {"{\"a\": 1, \"a\": 1}", "{\"a\": 1", "{\"a\": 1}}",
                                             "{\"a\": \"\xFF\"}", "{\"a\": }"};
        _cleanup_fixture_ Fixture fixture;
        ProfileRecord known;

        fixture_init(&fixture, *state, nothing);
        known = remember(&fixture, "{\"a\": 1}", true);
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                Decision decision = {.changes = NULL};
                Error err = ERROR_NONE;

                assert_true(decision_make(&fixture.rules, NAME, &known, false, bodies[i],
                                          strlen(bodies[i]), &decision, &err) < 0);
                assert_contains(err.text, "not a JSON profile: line 1: ");
        }
}

static void test_bytes_that_are_new(void **state)
{
        static const struct {
                const char *body;
                size_t from, to;
        } cases[] = {
                {"{\"a\":1,\"b\":2}", 5, 6},    {"{\"a\":0,\"b\":1}", 11, 12},
                {"{\"a\":0,\"b\":11}", 11, 14}, {"{\"a\":0}", 6, 7},
                {"{\"a\":0,\"b\":2} ", 13, 14},
        };
        _cleanup_fixture_ Fixture fixture;
        ProfileRecord known;

        fixture_init(&fixture, *state, nothing);
        for (int cached = 1; cached >= 0; cached--) {
                known = remember(&fixture, "{\"a\":0,\"b\":2}", true);
                if (!cached)
                        known.raw.bytes[0]++;
                for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                        _cleanup_decision_ Decision decision = {.changes = NULL};
                        size_t len = strlen(cases[i].body);

                        decide(&fixture, &known, false, cases[i].body, &decision);
                        assert_int_equal(decision.new_from, cached ? cases[i].from : 0);
                        assert_int_equal(decision.new_to, cached ? cases[i].to : len);
                }
        }
}

static void test_formatting_and_noise_are_nothing(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&fixture, *state, noise);
        known = remember(&fixture, "{\"a\": 1, \"noise\": 1}", false);
        decide(&fixture, &known, false, "{ \"noise\": [2], \"a\": 1 }", &decision);
        assert_int_equal(decision.verdict, VERDICT_UNCHANGED);
        assert_memory_not_equal(decision.raw.bytes, known.raw.bytes, CHECKSUM_XXH3_BYTES);
        assert_null(decision.changes);
}

static void test_change_is_explained(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&fixture, *state, noise);
        known = remember(&fixture, "{\"a\": 1, \"b\": 2, \"noise\": 1}", true);
        decide(&fixture, &known, false, "{\"a\": 3, \"noise\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_CHANGED);
        assert_int_equal(decision.n_differences, 2);
        assert_contains(decision.changes, "/a");
        assert_contains(decision.changes, "\n");
        assert_contains(decision.changes, "/b");
        assert_null(strstr(decision.changes, "noise"));
}

static void test_change_without_the_earlier_body(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&fixture, *state, nothing);
        known = remember(&fixture, "{\"a\": 1}", false);
        decide(&fixture, &known, false, "{\"a\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_CHANGED);
        assert_null(decision.changes);
        // A body of another time explains nothing, either.
        (void)remember(&fixture, "{\"a\": 5}", true);
        decide(&fixture, &known, false, "{\"a\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_CHANGED);
        assert_null(decision.changes);
}

static void test_other_ignore_paths(void **state)
{
        _cleanup_fixture_ Fixture before, after;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&before, *state, nothing);
        fixture_init(&after, *state, noise);
        known = remember(&before, "{\"a\": 1, \"noise\": 1}", true);
        // Only what is ignored now differs.
        decide(&after, &known, false, "{\"a\": 1, \"noise\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_UNCHANGED);
        assert_true(digest_equal(&decision.ignore, &after.rules.ignore_digest));
        // Something else differs, too.
        decide(&after, &known, false, "{\"a\": 2, \"noise\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_CHANGED);
        assert_int_equal(decision.n_differences, 1);
}

static void test_other_ignore_paths_without_the_earlier_body(void **state)
{
        _cleanup_fixture_ Fixture before, after;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        fixture_init(&before, *state, nothing);
        fixture_init(&after, *state, noise);
        known = remember(&before, "{\"a\": 1, \"noise\": 1}", false);
        decide(&after, &known, false, "{\"a\": 1, \"noise\": 2}", &decision);
        assert_int_equal(decision.verdict, VERDICT_CHANGED); // it may be: better built than lost
}

static void test_many_differences_are_cut(void **state)
{
        _cleanup_buf_ Buf before = BUF_INIT(SAMPLE_MAX), after = BUF_INIT(SAMPLE_MAX);
        _cleanup_fixture_ Fixture fixture;
        _cleanup_decision_ Decision decision = {.changes = NULL};
        ProfileRecord known;

        assert_int_equal(buf_append_str(&before, "{"), 0);
        assert_int_equal(buf_append_str(&after, "{"), 0);
        for (int i = 0; i < 1000; i++) {
                const char *comma = i ? "," : "";

                assert_int_equal(buf_printf(&before, "%s\"a-rather-long-key-%d\": 1", comma, i), 0);
                assert_int_equal(buf_printf(&after, "%s\"a-rather-long-key-%d\": 2", comma, i), 0);
        }
        assert_int_equal(buf_append_str(&before, "}"), 0);
        assert_int_equal(buf_append_str(&after, "}"), 0);
        fixture_init(&fixture, *state, nothing);
        known = remember(&fixture, buf_str(&before), true);
        decide(&fixture, &known, false, buf_str(&after), &decision);
        assert_int_equal(decision.n_differences, 1000);
        assert_true(strlen(decision.changes) <= MESSAGE_CHANGES_MAX);
        assert_contains(decision.changes, " more");
}

static void test_not_a_profile(void **state)
{
        static const char *const bodies[] = {
                "", "[]", "{\"a\": ", "<html/>", "{} {}", "{\"a\": \"\xFF\"}"};
        _cleanup_fixture_ Fixture fixture;

        fixture_init(&fixture, *state, nothing);
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                Decision decision = {.verdict = VERDICT_CHANGED};
                Error err = ERROR_NONE;

                assert_true(decision_make(&fixture.rules, NAME, NULL, false, bodies[i],
                                          strlen(bodies[i]), &decision, &err) < 0);
                assert_contains(err.text, "not a JSON profile: ");
        }
}

static void test_bad_ignore_paths(void **state)
{
        char path[] = "no slash";
        char *paths[] = {path, NULL};
        ScanConfig config = {.ignore_paths = paths, .cache_dir = *state};
        ProfilePaths *ignore = NULL;
        DecisionRules rules;
        Error err = ERROR_NONE;

        assert_true(decision_rules_init(&rules, &config, &ignore, &err) < 0);
        assert_contains(err.text, "IGNORE_PATHS: ");
}

static void read_sample(const char *name, Buf *text)
{
        _cleanup_free_ char *path = xasprintf("%s/profiles/%s", getenv("TEST_DATA"), name);
        Error err = ERROR_NONE;
        int r = fs_read_file(path, text, &err);

        assert_ok(r, err);
}

static void test_compiled_variants(void **state)
{
        static const struct {
                const char *file;
                Verdict verdict;
        } cases[] = {
                {BASE, VERDICT_UNCHANGED},
                {VARIANT "branch-moved-to-sandbox.json", VERDICT_UNCHANGED},
                {VARIANT "host-recreated-mac-serial-ip.json", VERDICT_UNCHANGED},
                {VARIANT "buildstatus-ready.json", VERDICT_UNCHANGED},
                {VARIANT "package-added.json", VERDICT_CHANGED},
                {VARIANT "feature-removed.json", VERDICT_CHANGED},
                {VARIANT "line-removed-only.json", VERDICT_CHANGED},
        };
        _cleanup_buf_ Buf base = BUF_INIT(SAMPLE_MAX);
        _cleanup_fixture_ Fixture fixture;
        ProfileRecord known;

        fixture_init(&fixture, *state, profile_default_ignore_paths);
        read_sample(BASE, &base);
        known = remember(&fixture, base.data, true);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX);
                _cleanup_decision_ Decision decision = {.changes = NULL};

                read_sample(cases[i].file, &text);
                decide(&fixture, &known, false, text.data, &decision);
                if (decision.verdict != cases[i].verdict)
                        fail_msg("%s: %s", cases[i].file, decision.changes);
                assert_int_equal(decision.verdict == VERDICT_CHANGED, decision.n_differences > 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_not_known),
                unit_test_in_folder(test_same_bytes_need_no_parsing),
                unit_test_in_folder(test_record_of_an_earlier_version),
                unit_test_in_folder(test_content_id_of_an_earlier_version),
                unit_test_in_folder(test_what_is_the_same_is_not_read),
                unit_test_in_folder(test_no_profile_any_more),
                unit_test_in_folder(test_bytes_that_are_new),
                unit_test_in_folder(test_formatting_and_noise_are_nothing),
                unit_test_in_folder(test_change_is_explained),
                unit_test_in_folder(test_change_without_the_earlier_body),
                unit_test_in_folder(test_other_ignore_paths),
                unit_test_in_folder(test_other_ignore_paths_without_the_earlier_body),
                unit_test_in_folder(test_many_differences_are_cut),
                unit_test_in_folder(test_not_a_profile),
                unit_test_in_folder(test_bad_ignore_paths),
                unit_test_in_folder(test_compiled_variants),
        };

        return cmocka_run_group_tests_name("decision", tests, NULL, NULL);
}
