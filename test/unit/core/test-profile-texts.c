// Content ids and differences of texts: what trees of the whole documents give, by less work.
#include "profile-data.h"

#include <errno.h>

#include "core/profile_texts.h"

#define ALL SIZE_MAX

static ProfileText text_of(const char *text)
{
        return (ProfileText){text, strlen(text)};
}

static void assert_same_content(const char *text, const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *profile = parse_str(text);
        bool in_order = !profile_in_order(profile);
        Error err = ERROR_NONE;
        ContentId want, got;
        int r = profile_content_of_text(text_of(text), ignore, &got, &in_order, &err);

        assert_ok(r, err);
        profile_content_id(profile, ignore, &want);
        if (!content_id_equal(&want, &got))
                fail_msg("%s has another content id", text);
        assert_int_equal(in_order, profile_in_order(profile));
}

static void test_content_id(void **state)
{
        static const char *const texts[] = {
                "{}",
                "{\"a\":1,\"b\":{\"c\":\"x\\u003dy\",\"d\":[]},\"e\":[1,{\"f\":null},true]}",
                "{\"b\":1,\"a\":2}",
                "{\"a\":1,\"\\u0062\":2}",
                "{\"l\":[{\"ip\":1,\"n\":1},{\"ip\":[{}],\"n\":2}],\"x\":{\"y\":{\"z\":1}}}",
                "{\"l\":[{\"z\":1,\"a\":[2]}]}",
        };
        _cleanup_profile_paths_ ProfilePaths *paths = PATHS("/l/*/ip", "/x/y", "/b/c", "/e/0");
        size_t len;
        _cleanup_free_ char *sample = sample_text(ROCKY, &len);

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                assert_same_content(texts[i], NULL);
                assert_same_content(texts[i], paths);
        }
        assert_same_content(sample, NULL);
        assert_same_content(sample, paths);
}

static void test_refused(void **state)
{
        static const char *const texts[] = {
                "",
                "[]",
                "{\"a\":1,\"a\":2}",
                "{\"b\":1,\"a\":{\"c\":1,\"c\":2}}",
                "{\"a\":1}\n}",
                "{\"a\":\"\xC3\"}",
                "{\n\"a\":\"\\ud800\"}",
                "{\"a\":01}",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Error want = ERROR_NONE, got = ERROR_NONE;
                Profile *none = NULL;
                bool in_order;
                ContentId id;

                assert_int_equal(profile_parse(texts[i], strlen(texts[i]), &none, &want), -EBADMSG);
                assert_int_equal(
                        profile_content_of_text(text_of(texts[i]), NULL, &id, &in_order, &got),
                        -EBADMSG);
                assert_string_equal(got.text, want.text);
        }
}

static char *lines_of(ProfileDiffs *diffs)
{
        Buf out = BUF_INIT(1024 * 1024);

        for (size_t at = 0; at < diffs->n_items; at++) {
                _cleanup_free_ char *line = profile_diff_describe(&diffs->items[at]);

                assert_int_equal(buf_printf(&out, "%s\n", line), 0);
        }
        profile_diffs_done(diffs);
        return buf_take(&out, NULL);
}

static void assert_same_diffs(const char *a, const char *b, const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *before = parse_str(a), *after = parse_str(b);
        _cleanup_free_ char *want = NULL, *got = NULL;
        ProfileDiffs diffs = {0};
        Error err = ERROR_NONE;
        int r = profile_diff_texts(text_of(a), text_of(b), ignore, ALL, &diffs, &err);

        assert_ok(r, err);
        got = lines_of(&diffs);
        profile_diff(before, after, ignore, ALL, &diffs);
        want = lines_of(&diffs);
        if (strcmp(want, got) != 0)
                fail_msg("%s\n%s\ndiffer by:\n%snot:\n%s", a, b, want, got);
}

static void test_differences(void **state)
{
        static const char *const texts[] = {
                "{\"a\":1,\"b\":{\"c\":2,\"d\":3,\"e\":4},\"f\":5}",
                "{\"a\":1,\"b\":{\"c\":2,\"d\":6,\"e\":4},\"f\":5}",
                "{\"a\":1,\"b\":{\"c\":2,\"e\":4},\"f\":5}",
                "{\"a\":1,\"b\":{\"d\":3,\"e\":4},\"f\":5}",
                "{\"a\":1,\"b\":{\"c\":2,\"d\":3},\"f\":5}",
                "{\"a\":1,\"b\":{\"c\":2},\"bb\":{\"d\":3,\"e\":4},\"f\":5}",
                "{\"a\":1,\"b\":{\"c\":{\"d\":3,\"e\":4},\"f\":5}}",
                "{\"a\":1,\"b\":{},\"f\":5}",
                "{\"a\":1,\"b\":[{\"c\":2,\"d\":3,\"e\":4}],\"f\":5}",
                "{\"a\":1,\"b\":[{\"c\":2},{\"d\":3,\"e\":4}],\"f\":5}",
                "{\"a\":1,\"b\":[{\"d\":3,\"e\":4},{\"c\":2}],\"f\":5}",
                "{\"a\":1}",
                "{\"f\":5}",
                "{}",
                "{\"f\":5,\"a\":1,\"b\":{\"c\":2,\"d\":3,\"e\":4}}",
                "{\"a\":1,\"b\":{\"c\":2,\"d\":3,\"e\":4},\"f\":5}\n",
                "{\"a\":1,\"f\":55}",
                "{\"a\":1,\"f\":56}\n",
                "{\"a\":1,\"b\":{\"c\":2,\"d\":\"3\",\"e\":4},\"\\u0066\":5}",
        };
        _cleanup_profile_paths_ ProfilePaths *paths = PATHS("/b/c", "/b/0", "/f");

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                for (size_t j = 0; j < ELEMENTSOF(texts); j++) {
                        assert_same_diffs(texts[i], texts[j], NULL);
                        assert_same_diffs(texts[i], texts[j], paths);
                }
        }
}

// Both texts are spoilt where they are the same: who reads the whole finds it.
static void test_only_what_differs_is_read(void **state)
{
        char a[] = "{\"a\":{\"x\":1},\"b\":{\"c\":2,\"d\":3,\"e\":4},\"f\":[5,6]}";
        char b[] = "{\"a\":{\"x\":1},\"b\":{\"c\":2,\"d\":7,\"e\":4},\"f\":[5,6]}";
        const char *const places[] = {"1", "2", "4", "6"};

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                size_t at = strcspn(b, places[i]);
                _cleanup_free_ char *lines = NULL, *followed = NULL;
                ContentId id = {{0}};
                ProfileDiffs diffs = {0};
                Error err = ERROR_NONE;
                int r;

                a[at] = b[at] = '?';
                r = profile_diff_texts(text_of(a), text_of(b), NULL, ALL, &diffs, &err);
                assert_ok(r, err);
                lines = lines_of(&diffs);
                assert_string_equal(lines, "changed /b/d: 3 -> 7\n");
                assert_true(profile_follow_texts(text_of(a), text_of(b), NULL, ALL, &id, &diffs));
                followed = lines_of(&diffs);
                assert_string_equal(followed, lines);
                a[at] = b[at] = *places[i];
        }
}

// A real profile against itself with one digit changed, whichever it is.
static void test_sample(void **state)
{
        size_t len, n = 0;
        _cleanup_free_ char *before = sample_text(ROCKY, &len);
        _cleanup_free_ char *after = xstrdup(before);

        (void)state;
        for (char *at = after; (at = strpbrk(at, "0123456789")); at++) {
                Profile *profile = NULL;

                *at = *at == '9' ? '1' : (char)(*at + 1);
                // A key may come twice now.
                if (profile_parse(after, len, &profile, NULL) == 0) {
                        profile_free(profile);
                        assert_same_diffs(before, after, NULL);
                        n++;
                }
                *at = before[at - after];
        }
        assert_true(n > 500);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_content_id),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_differences),
                cmocka_unit_test(test_only_what_differs_is_read),
                cmocka_unit_test(test_sample),
        };

        return cmocka_run_group_tests_name("profile-texts", tests, NULL, NULL);
}
