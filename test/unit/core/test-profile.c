#include "profile-data.h"

#include <errno.h>

static void assert_text(const ProfileNode *node, ProfileType type, const char *text)
{
        assert_non_null(node);
        assert_int_equal(node->type, type);
        assert_int_equal(node->text_len, strlen(text));
        assert_memory_equal(node->text, text, strlen(text));
}

static void test_edge_sample(void **state)
{
        size_t len;
        _cleanup_free_ char *text = sample_text("edge/escapes.json", &len);
        _cleanup_profile_ Profile *profile = parse_ok(text, len);
        const ProfileNode *root = profile_root(profile);

        (void)state;
        assert_int_equal(root->type, PROFILE_DICT);
        assert_int_equal(root->n_children, 13);
        assert_text(profile_get(profile, "/a/_2fusr_2fbin_20x"), PROFILE_STRING,
                    "v<&>='\"/é \xE2\x80\xA8");
        assert_text(profile_get(profile, "/b/2/x"), PROFILE_NUMBER, "1.5");
        assert_int_equal(profile_get(profile, "/b/3")->type, PROFILE_LIST);
        assert_int_equal(profile_get(profile, "/c")->type, PROFILE_DICT);
        assert_text(profile_get(profile, "/d"), PROFILE_BOOL, "true");
        assert_text(profile_get(profile, "/e"), PROFILE_NUMBER, "1.0E20");
        assert_text(profile_get(profile, "/f"), PROFILE_NUMBER, "100.0");
        assert_text(profile_get(profile, "/h"), PROFILE_STRING, "tab\tnl\n");
        assert_text(profile_get(profile, "/j"), PROFILE_NUMBER, "9223372036854775807");
        assert_text(profile_get(profile, "/k"), PROFILE_STRING, "");
}

static void test_get(void **state)
{
        _cleanup_profile_ Profile *profile =
                parse_str("{\"a\":{\"\":1,\"b\":[10,[20,null]]},\"ab\":false}");

        (void)state;
        assert_ptr_equal(profile_get(profile, ""), profile_root(profile));
        assert_text(profile_get(profile, "/a/"), PROFILE_NUMBER, "1");
        assert_text(profile_get(profile, "/a/b/0"), PROFILE_NUMBER, "10");
        assert_text(profile_get(profile, "/a/b/1/1"), PROFILE_NULL, "null");
        assert_text(profile_get(profile, "/ab"), PROFILE_BOOL, "false");
        assert_null(profile_get(profile, "a"));
        assert_null(profile_get(profile, "/b"));
        assert_null(profile_get(profile, "/ab/c"));
        assert_null(profile_get(profile, "/a/b/2"));
        assert_null(profile_get(profile, "/a/b/00"));
        assert_null(profile_get(profile, "/a/b/0x"));
        assert_null(profile_get(profile, "/a/b/-1"));
        assert_null(profile_get(profile, "/a/b/99999999999999999999999"));
}

// Borrowed where it can be, copied where an escape stood.
static void test_strings_point_into_text(void **state)
{
        const char *text = "{\"plain\": \"value\", \"esc\\u0061ped\": \"a\\nb\"}";
        _cleanup_profile_ Profile *profile = parse_str(text);
        const ProfileNode *plain = profile_get(profile, "/plain");
        const ProfileNode *escaped = profile_get(profile, "/escaped");

        (void)state;
        assert_ptr_equal(plain->key, text + 2);
        assert_ptr_equal(plain->text, text + 11);
        assert_text(escaped, PROFILE_STRING, "a\nb");
        assert_false(escaped->text >= text && escaped->text < text + strlen(text));
        assert_false(escaped->key >= text && escaped->key < text + strlen(text));
}

static void test_keys_are_sorted(void **state)
{
        static const char *const want[] = {"", "A", "Z", "_x", "a", "aa", "b", "\xC3\xA9"};
        _cleanup_profile_ Profile *profile =
                parse_str("{\"b\":1,\"aa\":2,\"\xC3\xA9\":3,\"Z\":4,\"a\":5,\"\":6,\"_x\":7,"
                          "\"\\u0041\":8}");
        const ProfileNode *child = profile_root(profile)->child;

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(want); at++, child = child->next) {
                assert_int_equal(child->key_len, strlen(want[at]));
                assert_memory_equal(child->key, want[at], strlen(want[at]));
        }
        assert_null(child);
}

static void test_refused(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                {"", "the document is empty"},
                {"{\"a\":1", "line 1: "},
                {"{\n\"a\": 1,\n\"b\" 2}", "line 3: "},
                {"[]", "line 1: the document is not an object"},
                {"\n\"x\"", "line 2: the document is not an object"},
                {"12 ", "line 1: the document is not an object"},
                {"12", "line 1: the document is not an object"},
                {"null", "the document is not an object"},
                {"{\"a\":1,\n\"a\":2}", "line 2: key \"a\" appears twice"},
                {"{\"b\":1,\n\"a\":{},\n\"b\":2}", "line 3: key \"b\" appears twice"},
                {"{\"a\":1,\n\"\\u0061\":2}", "line 2: key \"a\" appears twice"},
                {"{\"x\":{\"c\":1,\"a\":1,\n\"\\u0063\":2\n}}", "key \"c\" appears twice"},
                {"\xEF\xBB\xBF{}", "line 1: starts with a byte order mark"},
                {"{\n\"a\":\"\xFF\"}", "line 2: invalid UTF-8"},
                {"{\"a\":\"\xC0\xAF\"}", "line 1: invalid UTF-8"},
                {"{\"a\":\"\xED\xA0\x80\"}", "line 1: invalid UTF-8"},
                {"{\"a\":\n\"\\ud800\"}", "line 2: half a surrogate pair"},
                {"{\"a\":\"\\ud800\\u0041\"}", "half a surrogate pair"},
                {"{\"a\":\"\\ud800\\ud800\"}", "half a surrogate pair"},
                {"{\"a\":\"\\uDC00\"}", "half a surrogate pair"},
                {"{\"\\udfff\":1}", "half a surrogate pair"},
                {"{\"a\":\"\\u0000\"}", "line 1: \\u0000 in a string"},
                {"{\"a\":\"\\u00g0\"}", "line 1: "},
                {"{\"a\":\"\\x\"}", "line 1: "},
                {"{\"a\":\"\t\"}", "line 1: "},
                {"{\"a\":01}", "line 1: "},
                {"{\"a\":1.}", "line 1: "},
                {"{\"a\":+1}", "line 1: "},
                {"{\"a\":NaN}", "line 1: "},
                {"{\"a\":1,}", "line 1: "},
                {"{'a':1}", "line 1: "},
                {"{} // x", "line 1: "},
                {"{/* x */}", "line 1: "},
                {"{}\n{}", "line 2: "},
                {"{}\n\"abc", "line 2: text after the object"},
                {"42", "line 1: the document is not an object"},
                {"{} \\", "line 1: "},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                Profile *profile = NULL;
                Error err = ERROR_NONE;
                int r = profile_parse(cases[at].text, strlen(cases[at].text), &profile, &err);

                if (r != -EBADMSG)
                        fail_msg("%s: %d", cases[at].text, r);
                assert_contains(err.text, cases[at].words);
                assert_null(profile);
                assert_int_equal(
                        profile_parse(cases[at].text, strlen(cases[at].text), &profile, NULL),
                        -EBADMSG);
        }
}

static void test_accepted(void **state)
{
        static const char *const cases[] = {
                "{}",
                " \t\r\n{ } \n",
                "{\"a\":\"\\\\u0000\\\\ud800\"}",
                "{\"a\":\"\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\"\"}",
                "{\"a\":-0.5e-10}",
                "{\"a\":123456789012345678901234567890}",
                "{\"a\":\"\x7F\xF4\x8F\xBF\xBF\"}",
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_profile_ Profile *profile = parse_str(cases[at]);

                assert_non_null(profile);
        }
}

static void test_nul_byte(void **state)
{
        static const char text[] = "{\"a\":\"x\0y\"}", behind[] = "{}\0";
        Profile *profile = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(profile_parse(text, sizeof text - 1, &profile, &err), -EBADMSG);
        assert_int_equal(profile_parse(behind, sizeof behind - 1, &profile, &err), -EBADMSG);
}

static char *nested(size_t levels)
{
        // The root is the first level.
        char *text = xmalloc(2 * levels + 8);
        size_t at = 0;

        memcpy(text, "{\"a\":", 5);
        at = 5;
        for (size_t i = 1; i < levels; i++)
                text[at++] = '[';
        if (levels == 1)
                text[at++] = '1';
        for (size_t i = 1; i < levels; i++)
                text[at++] = ']';
        memcpy(text + at, "}", 2);
        return text;
}

static void test_depth_limit(void **state)
{
        _cleanup_free_ char *deepest = nested(PROFILE_MAX_DEPTH);
        _cleanup_free_ char *deeper = nested(PROFILE_MAX_DEPTH + 1);
        _cleanup_profile_ Profile *fits = parse_str(deepest);
        Profile *none = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_non_null(fits);
        assert_int_equal(profile_parse(deeper, strlen(deeper), &none, &err), -EBADMSG);
        assert_string_equal(err.text, "line 1: more than 64 levels deep");
}

static void test_node_limit(void **state)
{
        size_t n = PROFILE_MAX_NODES - 1, len = strlen("{\"a\":[") + 2 * n + strlen("]}") - 1;
        _cleanup_free_ char *text = xmalloc(len + 1);
        Profile *profile = NULL;
        Error err = ERROR_NONE;

        (void)state;
        memcpy(text, "{\"a\":[", 6);
        for (size_t at = 6; at < len - 2; at += 2)
                memcpy(text + at, "1,", 2);
        memcpy(text + len - 2, "]}", 3);
        assert_int_equal(profile_parse(text, len, &profile, &err), -EBADMSG);
        assert_string_equal(err.text, "line 1: more than 8388608 values");
}

static void assert_same_content(const char *a, const char *b, const ProfilePaths *ignore, bool same)
{
        _cleanup_profile_ Profile *first = parse_str(a), *second = parse_str(b);
        ContentId one, two;

        profile_content_id(first, ignore, &one);
        profile_content_id(second, ignore, &two);
        if (content_id_equal(&one, &two) != same)
                fail_msg("%s and %s: content ids %s", a, b, same ? "differ" : "are equal");
}

static void test_content_id(void **state)
{
        static const struct {
                const char *a, *b;
                bool same;
        } cases[] = {
                {"{\"a\":1,\"b\":\"x=y\"}", "{ \"b\":\"x\\u003dy\",\n \"a\":1 }", true},
                {"{\"a\":1}", "{\"a\":\"1\"}", false},
                {"{\"a\":1}", "{\"a\":1.0}", false},
                {"{\"a\":9007199254740993}", "{\"a\":9007199254740992}", false},
                {"{\"a\":true}", "{\"a\":false}", false},
                {"{\"a\":true}", "{\"a\":\"true\"}", false},
                {"{\"a\":null}", "{}", false},
                {"{\"a\":{}}", "{\"a\":[]}", false},
                {"{\"a\":[1,2]}", "{\"a\":[2,1]}", false},
                {"{\"a\":[[1],2]}", "{\"a\":[[1,2]]}", false},
                {"{\"a\":{\"b\":1}}", "{\"a\":{},\"b\":1}", false},
                {"{\"ab\":\"c\"}", "{\"a\":\"bc\"}", false},
                // What is a sum must not be blind to a change of places.
                {"{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":1}", false},
                {"{\"a\":{\"x\":1},\"b\":{\"x\":2}}", "{\"a\":{\"x\":2},\"b\":{\"x\":1}}", false},
                {"{\"a\":{\"x\":1,\"y\":2},\"b\":{}}", "{\"a\":{\"x\":1},\"b\":{\"y\":2}}", false},
                {"{\"a\":[{\"x\":1},{}]}", "{\"a\":[{},{\"x\":1}]}", false},
                {"{\"a\":{\"0\":1}}", "{\"a\":[1]}", false},
                {"{\"a\":{}}", "{}", false},
                {"{\"a\":[[],[]]}", "{\"a\":[[[]]]}", false},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++)
                assert_same_content(cases[at].a, cases[at].b, NULL, cases[at].same);
}

static void test_content_id_ignores(void **state)
{
        _cleanup_profile_paths_ ProfilePaths *paths = PATHS("/a/x", "/l/1", "/n/*/ip");

        (void)state;
        assert_same_content("{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"y\":2,\"x\":{\"z\":[]}}}",
                            paths, true);
        assert_same_content("{\"a\":{\"y\":2}}", "{\"a\":{\"y\":2,\"x\":1}}", paths, true);
        assert_same_content("{\"a\":{\"y\":2}}", "{\"a\":{\"y\":3}}", paths, false);
        assert_same_content("{\"a\":{\"x\":1}}", "{}", paths, false);
        assert_same_content("{\"l\":[1,2,3]}", "{\"l\":[1,9,3]}", paths, true);
        assert_same_content("{\"l\":[1,2,3]}", "{\"l\":[1,2,9]}", paths, false);
        assert_same_content("{\"n\":{\"e\":{\"ip\":1,\"gw\":1}}}", "{\"n\":{\"e\":{\"gw\":1}}}",
                            paths, true);
        assert_same_content("{\"n\":[{\"ip\":1}]}", "{\"n\":[{\"ip\":2}]}", paths, true);
        assert_same_content("{\"n\":{\"e\":{\"ip\":1}}}", "{\"n\":{\"f\":{\"ip\":1}}}", paths,
                            false);
        assert_same_content("{\"n\":{\"ip\":1}}", "{\"n\":{\"ip\":2}}", paths, false);
}

// Where a name and "*" meet on one level, the way goes on by both.
static void test_content_id_ignores_by_name_and_wildcard(void **state)
{
        _cleanup_profile_paths_ ProfilePaths *paths = PATHS("/a/x", "/*/y", "/a/*/z");

        (void)state;
        assert_same_content("{\"a\":{\"x\":1,\"y\":1,\"w\":{\"z\":1}}}",
                            "{\"a\":{\"x\":2,\"y\":2,\"w\":{\"z\":2}}}", paths, true);
        assert_same_content("{\"b\":{\"y\":1}}", "{\"b\":{\"y\":2}}", paths, true);
        assert_same_content("{\"b\":{\"x\":1}}", "{\"b\":{\"x\":2}}", paths, false);
        assert_same_content("{\"b\":{\"w\":{\"z\":1}}}", "{\"b\":{\"w\":{\"z\":2}}}", paths, false);
}

// A value that is hashed from memory of its own.
static void test_content_id_of_long_values(void **state)
{
        enum { LEN = 10000 };
        _cleanup_free_ char *a = xmalloc(LEN + 10), *b = NULL;

        (void)state;
        memset(a, 'x', LEN + 10);
        memcpy(a, "{\"a\":\"", 6);
        memcpy(a + LEN, "\"}", 3);
        b = xstrdup(a);
        assert_same_content(a, b, NULL, true);
        b[LEN - 1] = 'y';
        assert_same_content(a, b, NULL, false);
}

// What the content id of this version is: a change here rebuilds images for nothing, unless
// records of this one are told from those of the next.
static void test_content_id_is_stable(void **state)
{
        _cleanup_profile_ Profile *profile =
                parse_str("{\"a\":[1,true,null,\"x\"],\"b\":{\"c\":1.0E5}}");
        char hex[CONTENT_ID_HEX_SIZE];
        ContentId id, back;
        uint8_t bytes[CONTENT_ID_BYTES];

        (void)state;
        profile_content_id(profile, NULL, &id);
        content_id_hex(&id, hex);
        assert_string_equal(hex, "3d38ad2fb82faef9ee697d32488a6e99");
        content_id_to_bytes(&id, bytes);
        assert_int_equal(bytes[0], 0x3d);
        content_id_from_bytes(bytes, &back);
        assert_true(content_id_equal(&id, &back));
}

static void test_in_order(void **state)
{
        static const struct {
                const char *text;
                bool in_order;
        } cases[] = {
                {"{}", true},
                {"{\"a\":1,\"b\":{\"a\":1,\"aa\":2},\"c\":[{\"x\":1},{\"a\":2}]}", true},
                {"{\"b\":1,\"a\":1}", false},
                {"{\"a\":[[{\"b\":1,\"a\":1}]]}", false},
                {"{\"a\":{\"b\":1,\"c\":2,\"bb\":3},\"d\":1}", false},
                {"{\"\\u0061\":1}", false},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_profile_ Profile *profile = parse_str(cases[at].text);

                if (profile_in_order(profile) != cases[at].in_order)
                        fail_msg("%s", cases[at].text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_edge_sample),
                cmocka_unit_test(test_get),
                cmocka_unit_test(test_strings_point_into_text),
                cmocka_unit_test(test_keys_are_sorted),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_accepted),
                cmocka_unit_test(test_nul_byte),
                cmocka_unit_test(test_depth_limit),
                cmocka_unit_test(test_node_limit),
                cmocka_unit_test(test_content_id),
                cmocka_unit_test(test_content_id_ignores),
                cmocka_unit_test(test_content_id_ignores_by_name_and_wildcard),
                cmocka_unit_test(test_content_id_of_long_values),
                cmocka_unit_test(test_content_id_is_stable),
                cmocka_unit_test(test_in_order),
        };

        return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
