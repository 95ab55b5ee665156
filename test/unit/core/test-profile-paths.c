#include "profile-data.h"

#include <errno.h>

static bool same_content(const char *a_name, const char *b_name)
{
        _cleanup_profile_paths_ ProfilePaths *ignore = paths_of(profile_default_ignore_paths);
        size_t a_len, b_len;
        _cleanup_free_ char *a_text = sample_text(a_name, &a_len);
        _cleanup_free_ char *b_text = sample_text(b_name, &b_len);
        _cleanup_profile_ Profile *a = parse_ok(a_text, a_len), *b = parse_ok(b_text, b_len);
        ContentId a_id, b_id;

        profile_content_id(a, ignore, &a_id);
        profile_content_id(b, ignore, &b_id);
        return content_id_equal(&a_id, &b_id);
}

// The table in test/data/profiles/README.md.
static void test_verdicts_of_the_variants(void **state)
{
        static const struct {
                const char *variant;
                bool same;
        } cases[] = {
                {"branch-moved-to-sandbox", true}, {"host-recreated-mac-serial-ip", true},
                {"buildstatus-ready", true},       {"package-added", false},
                {"feature-removed", false},        {"line-removed-only", false},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *name = xasprintf(
                        "compiled-variants/rocky-8-aq.cloud.template.%s.json", cases[at].variant);

                if (same_content(ROCKY, name) != cases[at].same)
                        fail_msg("%s: wrong verdict", cases[at].variant);
        }
        assert_false(same_content(ROCKY, "compiled-aquilon/centos-7-aq.cloud.template.json"));
}

static void test_defaults_are_minimal(void **state)
{
        size_t n = 0;
        _cleanup_profile_paths_ ProfilePaths *all = paths_of(profile_default_ignore_paths);
        Digest with, without;

        (void)state;
        profile_paths_digest(all, &with);
        while (profile_default_ignore_paths[n])
                n++;
        for (size_t left_out = 0; left_out < n; left_out++) {
                const char *some[64] = {0};
                _cleanup_profile_paths_ ProfilePaths *paths = NULL;

                for (size_t at = 0, to = 0; at < n; at++) {
                        if (at != left_out)
                                some[to++] = profile_default_ignore_paths[at];
                }
                paths = paths_of(some);
                profile_paths_digest(paths, &without);
                assert_false(digest_equal(&with, &without));
        }
}

static void assert_same_set(ProfilePaths *take_a, ProfilePaths *take_b, bool same)
{
        _cleanup_profile_paths_ ProfilePaths *a = take_a, *b = take_b;
        Digest a_digest, b_digest;

        profile_paths_digest(a, &a_digest);
        profile_paths_digest(b, &b_digest);
        assert_int_equal(digest_equal(&a_digest, &b_digest), same);
}

static void test_digest_of_the_set(void **state)
{
        static const char *const none[] = {NULL};

        (void)state;
        assert_same_set(PATHS("/a", "/b"), PATHS("/b", "/a"), true);
        assert_same_set(PATHS("/a", "/a"), PATHS("/a"), true);
        assert_same_set(PATHS("/a", "/a/b", "/a/*/c"), PATHS("/a"), true);
        assert_same_set(PATHS("/x/*/y", "/x/1/y", "/x/1/y/z"), PATHS("/x/*/y"), true);
        assert_same_set(PATHS("/*/*", "/a/*", "/*/b"), PATHS("/*/*"), true);
        assert_same_set(PATHS("/a/*", "/*/b"), PATHS("/*/b", "/a/*"), true);
        assert_same_set(PATHS("/a/*"), PATHS("/a"), false);
        assert_same_set(PATHS("/a/*"), PATHS("/a/b"), false);
        assert_same_set(PATHS("/ab"), PATHS("/a"), false);
        assert_same_set(PATHS("/a"), paths_of(none), false);
        assert_same_set(paths_of(none), paths_of(none), true);
}

static void test_refused_paths(void **state)
{
        static const struct {
                const char *path, *words;
        } cases[] = {
                {"system/build", "does not start with \"/\""},
                {"", "does not start with \"/\""},
                {"/", "would ignore everything"},
                {"/a//b", "empty element"},
                {"/a/", "empty element"},
                {"//", "empty element"},
        };
        Error err = ERROR_NONE;
        ProfilePaths *paths = NULL;

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *copy = xstrdup(cases[at].path);
                char *list[] = {copy, NULL};

                assert_int_equal(profile_paths_new(list, &paths, &err), -EINVAL);
                assert_contains(err.text, cases[at].words);
        }
        assert_null(paths);
}

static void test_limits(void **state)
{
        char *many[258] = {0}, deep[2 * 65 + 1] = {0}, longest[1100];
        Error err = ERROR_NONE;
        ProfilePaths *paths = NULL;

        (void)state;
        for (size_t at = 0; at < 257; at++)
                many[at] = xasprintf("/k%zu/*/x", at);
        assert_int_equal(profile_paths_new(many, &paths, &err), -EINVAL);
        assert_contains(err.text, "at most 256");
        free(many[256]);
        many[256] = NULL;
        assert_int_equal(profile_paths_new(many, &paths, &err), 0);
        profile_paths_free(paths);
        for (size_t at = 0; at < 256; at++)
                free(many[at]);

        for (size_t at = 0; at < 65; at++)
                memcpy(deep + 2 * at, "/a", 2);
        assert_int_equal(profile_paths_new((char *[]){deep, NULL}, &paths, &err), -EINVAL);
        assert_contains(err.text, "more than 64 elements");
        deep[2 * 64] = '\0';
        assert_int_equal(profile_paths_new((char *[]){deep, NULL}, &paths, &err), 0);
        profile_paths_free(paths);

        memset(longest, 'x', sizeof longest);
        longest[0] = '/';
        longest[sizeof longest - 1] = '\0';
        assert_int_equal(profile_paths_new((char *[]){longest, NULL}, &paths, &err), -EINVAL);
        assert_contains(err.text, "longer than 1024 bytes");
}

// More patterns than one word holds, and a literal beside a wildcard on one level.
static void test_many_patterns_match(void **state)
{
        const char *list[202] = {0};
        char names[200][24];
        _cleanup_profile_paths_ ProfilePaths *paths = NULL;

        (void)state;
        for (size_t at = 0; at < 200; at++) {
                (void)snprintf(names[at], sizeof names[at], "/k%zu/*/v%zu", at, at);
                list[at] = names[at];
        }
        list[200] = "/k7/exact";
        paths = paths_of(list);
        for (size_t at = 0; at < 200; at++) {
                _cleanup_free_ char *a = xasprintf("{\"k%zu\":{\"m\":{\"v%zu\":1}}}", at, at);
                _cleanup_free_ char *b = xasprintf("{\"k%zu\":{\"m\":{\"v%zu\":2}}}", at, at);
                _cleanup_free_ char *c = xasprintf("{\"k%zu\":{\"m\":{\"v%zu\":2}}}", at, at + 1);
                _cleanup_profile_ Profile *pa = parse_str(a), *pb = parse_str(b),
                                          *pc = parse_str(c);
                ContentId da, db, dc;

                profile_content_id(pa, paths, &da);
                profile_content_id(pb, paths, &db);
                profile_content_id(pc, paths, &dc);
                assert_true(content_id_equal(&da, &db));
                assert_false(content_id_equal(&da, &dc));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_verdicts_of_the_variants),
                cmocka_unit_test(test_defaults_are_minimal),
                cmocka_unit_test(test_digest_of_the_set),
                cmocka_unit_test(test_refused_paths),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_many_patterns_match),
        };

        return cmocka_run_group_tests_name("profile-paths", tests, NULL, NULL);
}
