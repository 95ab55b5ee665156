// The content id and the differences of a changed text from those of the earlier one: never other
// than what reading the whole gives, whatever was done to the text.
#include "profile-data.h"

#include "core/profile_texts.h"

#define TOLD_MAX 5

// ---- the comparison --------------------------------------------------------------------------

static ProfileText text_of(const char *text)
{
        return (ProfileText){text, strlen(text)};
}

static ContentId id_of(const Profile *profile, const ProfilePaths *ignore)
{
        ContentId id;

        profile_content_id(profile, ignore, &id);
        return id;
}

static char *lines_of(ProfileDiffs *diffs)
{
        Buf out = BUF_INIT(1024 * 1024);

        assert_int_equal(buf_printf(&out, "%zu\n", diffs->n_total), 0);
        for (size_t at = 0; at < diffs->n_items; at++) {
                _cleanup_free_ char *line = profile_diff_describe(&diffs->items[at]);

                assert_int_equal(buf_printf(&out, "%s\n", line), 0);
        }
        profile_diffs_done(diffs);
        return buf_take(&out, NULL);
}

// `before` is a profile in order. True when `after` could be followed, which must then be right.
static bool follows(ProfileText before, ProfileText after, const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *old_tree = parse_ok(before.text, before.len), *new_tree = NULL;
        ContentId start = id_of(old_tree, ignore), id = start, want;
        _cleanup_free_ char *want_lines = NULL, *lines = NULL;
        ProfileDiffs diffs = {0};
        Error err = ERROR_NONE;

        if (!profile_follow_texts(before, after, ignore, TOLD_MAX, &id, &diffs)) {
                assert_true(content_id_equal(&id, &start));
                return false;
        }
        lines = lines_of(&diffs);
        if (profile_parse(after.text, after.len, &new_tree, &err) < 0)
                fail_msg("%s\nis taken for a profile, but: %s\nbefore:\n%s", after.text, err.text,
                         before.text);
        assert_true(profile_in_order(new_tree));
        want = id_of(new_tree, ignore);
        if (!content_id_equal(&id, &want))
                fail_msg("%s\n%s\nanother content id", before.text, after.text);
        profile_diff(old_tree, new_tree, ignore, TOLD_MAX, &diffs);
        want_lines = lines_of(&diffs);
        if (strcmp(want_lines, lines) != 0)
                fail_msg("%s\n%s\ndiffer by:\n%snot:\n%s", before.text, after.text, want_lines,
                         lines);
        return true;
}

// ---- what must be followed, and what must not -------------------------------------------------

typedef struct Case {
        const char *before, *after;
} Case;

static void test_followed(void **state)
{
        static const Case cases[] = {
                {"{\"a\":1}", "{\"a\":2}"},
                {"{\"a\":1}", "{\"a\":{\"b\":[]}}"},
                {"{\"a\":1}", "{}"},
                {"{}", "{\"a\":1}"},
                {" { } ", " {\"a\":1 } "},
                {"{\"a\":{},\"b\":1}", "{\"a\":{\"x\":{}},\"b\":1}"},
                {"{\"b\":1}", "{\"a\":1,\"b\":1}"},
                {"{\"a\":1}", "{\"a\":1,\"b\":1}"},
                {"{\"a\":1,\"c\":1}", "{\"a\":1,\"b\":1,\"c\":1}"},
                {"{\"a\":1,\"b\":1,\"c\":1}", "{\"a\":1,\"c\":1}"},
                {"{\"a\":1,\"b\":1,\"c\":1}", "{\"b\":1,\"c\":1}"},
                {"{\"a\":1,\"b\":1,\"c\":1}", "{\"a\":1,\"b\":1}"},
                {"{\"a\":1,\"b\":1,\"c\":1}", "{\"a\":1,\"bb\":1,\"c\":1}"},
                {"{\"a\": 1,\n \"b\": 1,\n \"c\": 1\n}\n", "{\"a\": 1,\n \"c\": 1\n}\n"},
                {"{\"a\":[1,2,3],\"b\":1}", "{\"a\":[1,3],\"b\":1}"},
                {"{\"a\":[1,{\"x\":1},3],\"b\":1}", "{\"a\":[1,{\"x\":2},3],\"b\":1}"},
                {"{\"a\":{\"b\":1},\"c\":{\"d\":1}}", "{\"a\":{\"b\":1,\"c\":2},\"c\":{\"d\":1}}"},
                {"{\"a\":{\"b\":1},\"c\":{\"d\":1}}", "{\"a\":{\"b\":1,\"d\":1}}"},
                {"{\"a\":\"\\\"},{\\\\\",\"b\":1}", "{\"a\":\"\\\"},{\\\\\",\"b\":2}"},
                {"{\"a\":1}", "{\"a\":  1}"},
                {"{\"a\":1,\"b\":1}", "{\"a\":1 , \"b\":1}"},
                {"{\"ip\":1,\"b\":{\"ip\":1,\"x\":1}}", "{\"ip\":1,\"b\":{\"ip\":2,\"x\":2}}"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_profile_ Profile *before = parse_str(cases[i].before);

                if (profile_in_order(before) &&
                    !follows(text_of(cases[i].before), text_of(cases[i].after), NULL))
                        fail_msg("%s is not followed to %s", cases[i].before, cases[i].after);
        }
}

static void test_not_followed(void **state)
{
        static const Case cases[] = {
                {"{\"a\":1}", ""},
                {"{\"a\":1}", "{\"a\":1"},
                {"{\"a\":1}", "{\"a\":1,}"},
                {"{\"a\":1}", "{,\"a\":1}"},
                {"{\"a\":1}", "{\"a\":1}}"},
                {"{\"a\":1}", "{\"a\":1} x"},
                {"{\"a\":1}", "\xEF\xBB\xBF{\"a\":1}"},
                {"{\"a\":1,\"b\":2}", "{\"a\":1,,\"b\":2}"},
                {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2,}"},
                {"{\"a\":1,\"b\":2}", "{\"a\":1\"b\":2}"},
                {"{\"a\":1,\"b\":2}", "{,\"b\":2}"},
                {"{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":1,\"c\":3,}"},
                {"{\"a\":1,\"b\":2}", "{\"a\":1,\"a\":1,\"b\":2}"}, // comes twice
                {"{\"a\":1,\"c\":2}", "{\"a\":1,\"b\":1,\"b\":1,\"c\":2}"},
                {"{\"a\":1,\"b\":1,\"c\":2}", "{\"a\":1,\"c\":1,\"c\":2}"},
                {"{\"a\":1,\"b\":1,\"c\":2}", "{\"a\":1,\"d\":1,\"c\":2}"}, // not in order
                {"{\"a\":1,\"b\":1,\"c\":2}", "{\"a\":1,\"0\":1,\"c\":2}"},
                {"{\"a\":1,\"b\":1,\"c\":2}", "{\"a\":1,\"b\":{\"d\":1,\"c\":1},\"c\":2}"},
                {"{\"a\":1,\"b\":1,\"c\":2}", "{\"a\":1,\"\\u0062\":1,\"c\":2}"},
                {"{\"a\":\"x\"}", "{\"a\":\"\xC3\"}"},
                {"{\"a\":\"x\"}", "{\"a\":\"\\ud800\"}"},
                {"{\"a\":\"x\"}", "{\"a\":\"\\u0000\"}"},
                {"{\"a\":1}", "{\"a\":01}"},
                {"{\"a\":{\"b\":1,\"c\":2},\"d\":3}", "{\"a\":{\"b\":1},\"c\":2},\"d\":3}"},
                {"{\"a\":{\"b\":1,\"c\":2},\"d\":3}", "{\"a\":{\"b\":1}],[{\"c\":2},\"d\":3}"},
                {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":1}},{{\"c\":2}}"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                if (follows(text_of(cases[i].before), text_of(cases[i].after), NULL))
                        fail_msg("%s is followed to %s", cases[i].before, cases[i].after);
        }
}

// To end a dict and begin another between the cuts is a change of the one around both.
static void test_other_dicts(void **state)
{
        static const Case cases[] = {
                {"{\"a\":{\"b\":{\"x\":1,\"y\":2}}}", "{\"a\":{\"b\":{\"x\":1},\"c\":{\"y\":2}}}"},
                {"{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":1},\"b\":{\"y\":2}}"},
                {"{\"a\":{\"x\":1},\"b\":{\"y\":2}}", "{\"a\":{\"x\":1,\"y\":2}}"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                (void)follows(text_of(cases[i].before), text_of(cases[i].after), NULL);
}

static char *nested(size_t depth, const char *value)
{
        Buf text = BUF_INIT(4096);

        for (size_t i = 0; i < depth; i++)
                assert_int_equal(buf_append_str(&text, "{\"a\":"), 0);
        assert_int_equal(buf_append_str(&text, value), 0);
        for (size_t i = 0; i < depth; i++)
                assert_int_equal(buf_append_str(&text, "}"), 0);
        return buf_take(&text, NULL);
}

static void test_depth(void **state)
{
        (void)state;
        for (size_t depth = 1; depth <= PROFILE_MAX_DEPTH; depth++) {
                _cleanup_free_ char *before = nested(depth, "1");
                _cleanup_free_ char *deeper = nested(depth, "[2]");
                _cleanup_free_ char *other = nested(depth, "2");

                assert_true(follows(text_of(before), text_of(other), NULL));
                assert_int_equal(follows(text_of(before), text_of(deeper), NULL),
                                 depth < PROFILE_MAX_DEPTH);
        }
}

// So long that it could have too many values, which nobody counts here.
static void test_too_long(void **state)
{
        (void)state;
        for (size_t len = PROFILE_MAX_NODES; len <= PROFILE_MAX_NODES + 1; len++) {
                _cleanup_free_ char *before = xmalloc(len + 1), *after = NULL;

                memset(before, ' ', len);
                before[len] = '\0';
                memcpy(before, "{\"a\":1}", 7);
                after = xstrdup(before);
                after[5] = '2';
                assert_int_equal(follows(text_of(before), text_of(after), NULL),
                                 len <= PROFILE_MAX_NODES);
        }
}

// Quotes, backslashes and braces in strings, wherever they stand in the blocks that are looked at.
static void test_strings(void **state)
{
        static const char *const strings[] = {
                "\\\"},{", "\\\\", "\\\\\\\"[", "{\\\\\\\\", "],\\\\\\\\\\\"", "\\u007b\\\\{", "",
        };

        (void)state;
        for (size_t pad = 0; pad < 140; pad++) {
                for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
                        const char *s = strings[i];
                        _cleanup_free_ char *before = xasprintf(
                                "{\"a%*s\":\"%s\",\"b\":{\"c\":1,\"d\":[\"%s\"]},\"e\":{}}",
                                (int)pad, "", s, s);
                        _cleanup_free_ char *after = xstrdup(before);

                        *strchr(after, '1') = '2';
                        assert_true(follows(text_of(before), text_of(after), NULL));
                }
        }
}

// ---- whatever is done to a text ----------------------------------------------------------------

typedef struct Random {
        uint64_t state;
} Random;

static size_t below(Random *random, size_t limit)
{
        // xorshift64*
        random->state ^= random->state >> 12;
        random->state ^= random->state << 25;
        random->state ^= random->state >> 27;
        return (size_t)((random->state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % limit;
}

// Where a member or an element may begin or end, if there is such a place near.
static size_t seam(Random *random, ProfileText text)
{
        size_t at = below(random, text.len + 1);

        for (size_t n = 0; n < 200 && at < text.len; n++, at++) {
                if (memchr(",{}[]", text.text[at], 5))
                        return at + below(random, 2);
        }
        return at;
}

static const char *snippet(Random *random)
{
        static const char *const snippets[] = {
                "1",
                "\"",
                ",",
                "{",
                "}",
                "[",
                "]",
                " ",
                "\n",
                "\\",
                ":",
                "\"a\":1,",
                ",\"zz\":1",
                "\"m\":{},",
                ",\"m\":[1,{}]",
                "{}",
                "[[]]",
                "},\"n\":{",
                "],\"n\":[",
                "\"x\":\"\\u00e9\",",
                "null",
                "-0.5e7",
                "\xC3\xA9",
                "\xC3",
                "\\u0000",
                "},{",
                "//",
                "\"a\":1}",
                ",\"b\":",
                "\"\\u0061\":1,",
                ",\"ip\":7",
                "\"ip\":{\"x\":1},",
                "tru",
                "true",
                "\"\"",
        };

        return snippets[below(random, ELEMENTSOF(snippets))];
}

static void put(Buf *out, const char *text, size_t len)
{
        assert_int_equal(buf_append(out, text, len), 0);
}

// Leaves a part out, puts one in, doubles it, moves it, or changes a byte.
static void edit(Random *random, ProfileText text, Buf *out)
{
        size_t kind = below(random, 8), a, b;
        bool at_seams = below(random, 3) > 0;

        a = at_seams ? seam(random, text) : below(random, text.len + 1);
        b = at_seams ? seam(random, text) : a + below(random, 20);
        if (kind < 2 && a + 200 < b) // mostly, small ones
                b = a + below(random, 200);
        b = MIN(b, text.len);
        if (a > b) {
                size_t swapped = a;

                a = b;
                b = swapped;
        }
        put(out, text.text, a);
        if (kind == 2 || kind == 3) {
                const char *put_in = snippet(random);

                put(out, put_in, strlen(put_in));
                b = kind == 2 ? a : b;
        } else if (kind == 4) {
                put(out, text.text + a, b - a);
                b = a;
        } else if (kind == 5) {
                size_t middle = a + below(random, b - a + 1);

                put(out, text.text + middle, b - middle);
                put(out, text.text + a, middle - a);
        } else if (kind >= 6 && a < text.len) {
                put(out, &"0123456789abcxyz"[below(random, 16)], 1);
                b = a + 1;
        }
        put(out, text.text + b, text.len - b);
}

typedef struct Tally {
        size_t n_in_order, n_followed;
} Tally;

// Edits a text again and again, going on with what is still a profile in order.
static void edit_for_long(const char *base, const ProfilePaths *ignore, uint64_t seed,
                          size_t n_edits, Tally *tally)
{
        _cleanup_free_ char *text = xstrdup(base);
        Random random = {seed};

        for (size_t i = 0; i < n_edits; i++) {
                _cleanup_buf_ Buf edited = BUF_INIT(SAMPLE_MAX_BYTES);
                _cleanup_profile_ Profile *profile = NULL;
                bool followed;

                edit(&random, text_of(text), &edited);
                if (below(&random, 4) == 0) {
                        _cleanup_buf_ Buf twice = BUF_INIT(SAMPLE_MAX_BYTES);

                        edit(&random, (ProfileText){buf_str(&edited), edited.len}, &twice);
                        buf_clear(&edited);
                        put(&edited, buf_str(&twice), twice.len);
                }
                if (edited.len == strlen(text) && memcmp(buf_str(&edited), text, edited.len) == 0)
                        continue;
                followed =
                        follows(text_of(text), (ProfileText){buf_str(&edited), edited.len}, ignore);
                tally->n_followed += followed;
                if (profile_parse(buf_str(&edited), edited.len, &profile, NULL) < 0)
                        continue;
                tally->n_in_order += profile_in_order(profile);
                if (edited.len > 2 * strlen(base) || edited.len < strlen(base) / 2) {
                        free(text);
                        text = xstrdup(base);
                } else if (profile_in_order(profile)) {
                        free(text);
                        text = buf_take(&edited, NULL);
                }
        }
}

static const char small[] =
        "{\"a\":1,\"b\":{\"c\":2,\"d\":[{\"e\":4,\"ip\":\"x\"},[],5],\"f\":{},\"ip\":{\"g\":{}}},"
        "\"l\":[1,2,{\"m\":null}],\"n\":{\"o\":{\"p\":{\"q\":\"\\\"}{\\\\\",\"r\":-1.5}}},\"z\":"
        "\"\"}";
static const char spaced[] = "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": \"\xC3\xA9\",\n    \"d\": [\n"
                             "      1,\n      2\n    ]\n  },\n  \"e\": { },\n  \"f\": true\n}\n";

static void test_edited(void **state)
{
        static const char *const bases[] = {small, spaced, "{}", "{\"a\":{\"a\":{\"a\":1}}}"};
        _cleanup_profile_paths_ ProfilePaths *paths =
                PATHS("/*/ip", "/b/d/1", "/b/d/*/ip", "/n/o/p/q");
        Tally tally = {0};

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bases); i++) {
                for (uint64_t seed = 1; seed <= 2; seed++) {
                        edit_for_long(bases[i], NULL, seed, 10000, &tally);
                        edit_for_long(bases[i], paths, seed + 10, 10000, &tally);
                }
        }
        // What is followed should be most of what can be, or this shows nothing.
        assert_true(tally.n_in_order > 5000);
        assert_true(tally.n_followed > tally.n_in_order * 4 / 5);
}

static void test_edited_sample(void **state)
{
        size_t len;
        _cleanup_free_ char *sample = sample_text(ROCKY, &len);
        _cleanup_profile_paths_ ProfilePaths *paths = paths_of(profile_default_ignore_paths);
        Tally tally = {0};

        (void)state;
        edit_for_long(sample, NULL, 5, 2500, &tally);
        edit_for_long(sample, paths, 6, 2500, &tally);
        assert_true(tally.n_in_order > 300);
        assert_true(tally.n_followed > tally.n_in_order * 4 / 5);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_followed),    cmocka_unit_test(test_not_followed),
                cmocka_unit_test(test_other_dicts), cmocka_unit_test(test_depth),
                cmocka_unit_test(test_too_long),    cmocka_unit_test(test_strings),
                cmocka_unit_test(test_edited),      cmocka_unit_test(test_edited_sample),
        };

        return cmocka_run_group_tests_name("profile-follow", tests, NULL, NULL);
}
