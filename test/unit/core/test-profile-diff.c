#include "profile-data.h"

#include <time.h>

#include "core/profile_paths.h"

#define ALL SIZE_MAX

// All differences, one description a line.
static char *diff_text(const char *a, const char *b, const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *before = parse_str(a), *after = parse_str(b);
        _cleanup_(profile_diffs_done) ProfileDiffs diffs = {0};
        _cleanup_buf_ Buf out = BUF_INIT(1024 * 1024);

        profile_diff(before, after, ignore, ALL, &diffs);
        assert_int_equal(diffs.n_items, diffs.n_total);
        for (size_t at = 0; at < diffs.n_items; at++) {
                _cleanup_free_ char *line = profile_diff_describe(&diffs.items[at]);

                assert_int_equal(buf_printf(&out, "%s\n", line), 0);
        }
        return buf_take(&out, NULL);
}

static void assert_diff(const char *a, const char *b, const ProfilePaths *ignore, const char *want)
{
        _cleanup_free_ char *text = diff_text(a, b, ignore);

        if (strcmp(text, want) != 0)
                fail_msg("%s\n%s\ndiffer by:\n%snot:\n%s", a, b, text, want);
}

static void test_dicts(void **state)
{
        (void)state;
        assert_diff("{}", "{}", NULL, "");
        assert_diff("{\"a\":1,\"b\":{\"c\":\"x=y\"}}", "{\"b\":{\"c\":\"x\\u003dy\"},\"a\":1}",
                    NULL, "");
        assert_diff("{\"a\":1,\"b\":2,\"d\":4}", "{\"b\":3,\"c\":{\"x\":1},\"d\":4}", NULL,
                    "removed /a\nchanged /b: 2 -> 3\nadded /c\n");
        assert_diff("{\"s\":{\"os\":{\"name\":\"8\"}}}", "{\"s\":{\"os\":{\"name\":\"9\"}}}", NULL,
                    "changed /s/os/name: 8 -> 9\n");
        assert_diff("{\"a\":1}", "{\"a\":\"1\"}", NULL, "changed /a: 1 -> 1\n");
        assert_diff("{\"a\":1}", "{\"a\":1.0}", NULL, "changed /a: 1 -> 1.0\n");
        assert_diff("{\"a\":true,\"b\":null}", "{\"a\":false,\"b\":\"\"}", NULL,
                    "changed /a: true -> false\nchanged /b: null -> \"\"\n");
        assert_diff("{\"a\":{\"x\":1,\"y\":2},\"b\":{}}", "{\"a\":[1,2,3],\"b\":[]}", NULL,
                    "changed /a: {2} -> [3]\nchanged /b: {} -> []\n");
}

static void test_lists(void **state)
{
        (void)state;
        assert_diff("{\"l\":[1,2,3]}", "{\"l\":[3,2,1]}", NULL, "reordered /l\n");
        assert_diff("{\"l\":[1,1,2]}", "{\"l\":[1,2,1]}", NULL, "reordered /l\n");
        assert_diff("{\"l\":[[1,2],{\"a\":[]}]}", "{\"l\":[{\"a\":[]},[1,2]]}", NULL,
                    "reordered /l\n");
        assert_diff("{\"l\":[1,1,2]}", "{\"l\":[1,2,2]}", NULL, "changed /l/1: 1 -> 2\n");
        assert_diff("{\"l\":[1,2,3]}", "{\"l\":[0,1,2,3]}", NULL, "added /l/0\n");
        assert_diff("{\"l\":[1,2,3]}", "{\"l\":[1,3]}", NULL, "removed /l/1\n");
        assert_diff("{\"l\":[1,1,1]}", "{\"l\":[1]}", NULL, "removed /l/1\nremoved /l/2\n");
        assert_diff("{\"l\":[]}", "{\"l\":[{}]}", NULL, "added /l/0\n");
        assert_diff("{\"l\":[1,2]}", "{\"l\":[]}", NULL, "removed /l/0\nremoved /l/1\n");
        assert_diff("{\"l\":[{\"n\":1,\"v\":1},{\"n\":2,\"v\":1}]}",
                    "{\"l\":[{\"n\":1,\"v\":1},{\"n\":2,\"v\":2}]}", NULL,
                    "changed /l/1/v: 1 -> 2\n");
        assert_diff("{\"l\":[{\"v\":[1,2]},9]}", "{\"l\":[{\"v\":[2,1]},8]}", NULL,
                    "reordered /l/0/v\nchanged /l/1: 9 -> 8\n");
        assert_diff("{\"l\":[1,2,3,4,5]}", "{\"l\":[5,2,9,4,1,7]}", NULL,
                    "changed /l/2: 3 -> 9\nadded /l/5\n");
}

static void test_ignored(void **state)
{
        _cleanup_profile_paths_ ProfilePaths *paths =
                PATHS("/a/x", "/l/*/ip", "/m/0", "/gone", "/l/2/tag");

        (void)state;
        assert_diff("{\"a\":{\"x\":1,\"y\":1}}", "{\"a\":{\"y\":1},\"gone\":[1]}", paths, "");
        assert_diff("{\"l\":[{\"ip\":1},{\"ip\":2}]}", "{\"l\":[{\"ip\":3},{}]}", paths, "");
        assert_diff("{\"l\":[{\"ip\":1,\"n\":1},{\"ip\":2,\"n\":2}]}",
                    "{\"l\":[{\"ip\":1,\"n\":2},{\"ip\":2,\"n\":1}]}", paths, "reordered /l\n");
        assert_diff("{\"m\":[1,2,3]}", "{\"m\":[9,2,3]}", paths, "");
        assert_diff("{\"m\":[1,2,3]}", "{\"m\":[9,3]}", paths, "removed /m/1\n");
        assert_diff("{\"m\":[1]}", "{\"m\":[]}", paths, "");
        // The same element means another thing where a path names its place.
        assert_diff("{\"l\":[{},{},{\"tag\":1}]}", "{\"l\":[{},{},{\"tag\":2}]}", paths, "");
        assert_diff("{\"l\":[{\"tag\":1},{\"b\":1},{\"tag\":1}]}",
                    "{\"l\":[{\"tag\":1},{\"tag\":1},{\"b\":1,\"tag\":5}]}", paths,
                    "added /l/1\nremoved /l/2\n");
}

static void test_values_are_short(void **state)
{
        _cleanup_free_ char *a = xasprintf("{\"a\":\"%0300d\",\"b\\nb\":1}", 1);
        _cleanup_free_ char *b = xasprintf("{\"a\":\"x\\u001b%0300d\",\"b\\nb\":2}", 1);
        _cleanup_free_ char *text = diff_text(a, b, NULL);

        (void)state;
        assert_true(strlen(text) < 200);
        assert_contains(text, "0000… -> x\\x1b0000");
        assert_contains(text, "\nchanged /b\\x0ab: 1 -> 2\n");
}

// The difference is shown, however far in it is.
static void test_long_texts_show_where_they_differ(void **state)
{
        _cleanup_free_ char *a = xasprintf("{\"a\":\"%0300dabc\"}", 0);
        _cleanup_free_ char *b = xasprintf("{\"a\":\"%0300dabd\"}", 0);
        _cleanup_free_ char *c = xasprintf("{\"a\":\"%0300d\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"
                                           "\xC3\xA9\xC3\xA9\xC3\xA9x\xC3\xA9\"}",
                                           0);
        _cleanup_free_ char *d = xasprintf("{\"a\":\"%0300d\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"
                                           "\xC3\xA9\xC3\xA9\xC3\xA9x\xC3\xA8\"}",
                                           0);
        _cleanup_free_ char *text = diff_text(c, d, NULL);

        (void)state;
        assert_diff(a, b, NULL, "changed /a: …00000000000000abc -> …00000000000000abd\n");
        assert_contains(text, "xé -> …");
        assert_null(strstr(text, "\\x"));
}

static void test_deep_path(void **state)
{
        char a[PROFILE_MAX_DEPTH * 8] = "", b[sizeof a], want[sizeof a] = "changed ";
        size_t at = 0, end = strlen(want);

        (void)state;
        for (size_t i = 0; i < PROFILE_MAX_DEPTH; i++) {
                memcpy(a + at, "{\"k\":", 5);
                at += 5;
                memcpy(want + end, "/k", 2);
                end += 2;
        }
        a[at++] = '1';
        memset(a + at, '}', PROFILE_MAX_DEPTH);
        memcpy(b, a, sizeof b);
        b[at - 1] = '2';
        memcpy(want + end, ": 1 -> 2\n", 10);
        assert_diff(a, b, NULL, want);
}

static void test_secrets_are_hidden(void **state)
{
        static const char *const hidden[] = {
                "password", "rootpw",       "shadowPasswd", "client_secret", "apiToken",
                "wifi_psk", "db_pwd",       "PRIVATE_KEY",  "sshkey",        "authorized_keys",
                "MYSQL_PW", "a_passphrase", "credentials",  "Secret",
        };
        static const char *const shown[] = {"keyboard", "pass", "keep", "skew"};

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(hidden); at++) {
                const char *key = hidden[at];
                _cleanup_free_ char *a =
                        xasprintf("{\"%s\":\"one\",\"x\":{\"%s\":[{\"v\":1}]}}", key, key);
                _cleanup_free_ char *b =
                        xasprintf("{\"%s\":\"two\",\"x\":{\"%s\":[{\"v\":2}]}}", key, key);
                _cleanup_free_ char *want = xasprintf("changed /%s: (hidden) -> (hidden)\n"
                                                      "changed /x/%s/0/v: (hidden) -> (hidden)\n",
                                                      key, key);

                assert_diff(a, b, NULL, want);
        }
        for (size_t at = 0; at < ELEMENTSOF(shown); at++) {
                _cleanup_free_ char *a = xasprintf("{\"%s\":\"one\"}", shown[at]);
                _cleanup_free_ char *b = xasprintf("{\"%s\":\"two\"}", shown[at]);
                _cleanup_free_ char *want = xasprintf("changed /%s: one -> two\n", shown[at]);

                assert_diff(a, b, NULL, want);
        }
        assert_diff("{\"text\":\"user=x\\npassword=y\"}", "{\"text\":\"user=x\"}", NULL,
                    "changed /text: (hidden) -> (hidden)\n");
        assert_diff("{\"x\":\"$6$abc$def\"}", "{\"x\":\"*\"}", NULL,
                    "changed /x: (hidden) -> (hidden)\n");
        assert_diff("{\"usepasswd\":true}", "{\"usepasswd\":false}", NULL,
                    "changed /usepasswd: true -> false\n");
}

static void test_limit_of_items(void **state)
{
        _cleanup_profile_ Profile *a = parse_str("{\"a\":1,\"b\":1,\"c\":1}");
        _cleanup_profile_ Profile *b = parse_str("{\"a\":2,\"b\":2,\"c\":2}");
        _cleanup_(profile_diffs_done) ProfileDiffs diffs = {0};

        (void)state;
        profile_diff(a, b, NULL, 2, &diffs);
        assert_int_equal(diffs.n_items, 2);
        assert_int_equal(diffs.n_total, 3);
        assert_string_equal(diffs.items[0].path, "/a");
        assert_string_equal(diffs.items[1].path, "/b");
        profile_diffs_done(&diffs);
        assert_null(diffs.items);
        profile_diff(a, b, NULL, 0, &diffs);
        assert_int_equal(diffs.n_items, 0);
        assert_int_equal(diffs.n_total, 3);
}

static void test_samples(void **state)
{
        static const struct {
                const char *variant, *want;
        } cases[] = {
                {"branch-moved-to-sandbox", ""},
                {"host-recreated-mac-serial-ip", ""},
                {"buildstatus-ready", ""},
                {"package-added", "added /software/packages/nginx\n"},
                {"line-removed-only", "removed /system/network/default_gateway\n"},
        };
        _cleanup_profile_paths_ ProfilePaths *ignore = paths_of(profile_default_ignore_paths);
        _cleanup_free_ char *base = sample_text(ROCKY, NULL);

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *name = xasprintf(
                        "compiled-variants/rocky-8-aq.cloud.template.%s.json", cases[at].variant);
                _cleanup_free_ char *text = sample_text(name, NULL);

                assert_diff(base, text, ignore, cases[at].want);
        }
}

static char *long_list(const char *key, size_t n, size_t first, size_t step)
{
        _cleanup_buf_ Buf out = BUF_INIT(64U * 1024 * 1024);

        assert_int_equal(buf_append_str(&out, "{\"l\":["), 0);
        for (size_t at = 0; at < n; at++)
                assert_int_equal(buf_printf(&out, "%s{\"%s\":%zu}", at ? "," : "", key,
                                            (first + at * step) % n),
                                 0);
        assert_int_equal(buf_append_str(&out, "]}"), 0);
        return buf_take(&out, NULL);
}

// 100,000 elements, all of them moved or replaced: comparing each with each would take minutes.
static void test_long_lists(void **state)
{
        enum { N = 100000 };
        _cleanup_free_ char *a = long_list("n", N, 0, 1), *b = long_list("n", N, 7, 3);
        _cleanup_free_ char *c = long_list("m", N, 7, 3);
        _cleanup_(profile_diffs_done) ProfileDiffs diffs = {0};
        _cleanup_profile_ Profile *before = parse_str(a), *after = parse_str(c);

        (void)state;
        assert_diff(a, b, NULL, "reordered /l\n");
        profile_diff(before, after, NULL, 3, &diffs);
        // Every element lost its key and got another.
        assert_int_equal(diffs.n_total, 2 * N);
}

// ---- property: no differences exactly when the content ids are equal
// -----------------------------

typedef struct Random {
        uint64_t state;
} Random;

static size_t pick(Random *random, size_t below)
{
        // xorshift64*
        random->state ^= random->state >> 12;
        random->state ^= random->state << 25;
        random->state ^= random->state >> 27;
        return (size_t)((random->state * UINT64_C(2685821657736338717)) >> 33) % below;
}

static void put(Buf *out, const char *text)
{
        assert_int_equal(buf_append_str(out, text), 0);
}

static const char *const random_keys[] = {"a", "b", "c", "ip", "x"};

// Few values and few keys, so that documents are often alike.
static void put_random(Buf *out, Random *random, unsigned depth)
{
        static const char *const scalars[] = {"1", "2", "1.0", "\"1\"", "\"\"", "true", "null"};
        size_t n = pick(random, 4), shape = depth > 4 ? 0 : pick(random, 3);
        size_t first = pick(random, ELEMENTSOF(random_keys));

        if (shape == 0 && depth > 0) {
                put(out, scalars[pick(random, ELEMENTSOF(scalars))]);
                return;
        }
        put(out, shape == 1 && depth > 0 ? "[" : "{");
        for (size_t at = 0; at < n; at++) {
                put(out, at ? "," : "");
                if (shape != 1 || depth == 0)
                        assert_int_equal(
                                buf_printf(out, "\"%s\":",
                                           random_keys[(first + at) % ELEMENTSOF(random_keys)]),
                                0);
                put_random(out, random, depth + 1);
        }
        put(out, shape == 1 && depth > 0 ? "]" : "}");
}

static void put_node(Buf *out, Random *random, const ProfileNode *node, size_t rate);

// The children, now and then one left out, doubled, changed, or moved to the front.
static void put_children(Buf *out, Random *random, const ProfileNode *node, size_t rate)
{
        bool dict = node->type == PROFILE_DICT, first = true;

        for (const ProfileNode *child = node->child; child; child = child->next) {
                size_t times = pick(random, rate) > 0 ? 1 : dict ? 0 : pick(random, 3);

                for (; times > 0; times--) {
                        put(out, first ? "" : ",");
                        first = false;
                        if (dict)
                                assert_int_equal(buf_printf(out, "\"%.*s\":", (int)child->key_len,
                                                            child->key),
                                                 0);
                        put_node(out, random, child, rate);
                }
        }
        if (!dict && !first && pick(random, rate) == 0) {
                put(out, ",");
                put_node(out, random, node->child, rate);
        }
}

static void put_node(Buf *out, Random *random, const ProfileNode *node, size_t rate)
{
        switch (node->type) {
        case PROFILE_DICT:
        case PROFILE_LIST:
                put(out, node->type == PROFILE_DICT ? "{" : "[");
                put_children(out, random, node, rate);
                put(out, node->type == PROFILE_DICT ? "}" : "]");
                return;
        case PROFILE_STRING:
                assert_int_equal(buf_printf(out, "\"%.*s\"", (int)node->text_len, node->text), 0);
                return;
        default:
                if (pick(random, rate) == 0)
                        put_random(out, random, 3);
                else
                        assert_int_equal(buf_printf(out, "%.*s", (int)node->text_len, node->text),
                                         0);
        }
}

static void check_pair(const char *a, const char *b, const ProfilePaths *ignore, uint64_t seed,
                       size_t *n_equal)
{
        _cleanup_profile_ Profile *before = parse_str(a), *after = parse_str(b);
        _cleanup_(profile_diffs_done) ProfileDiffs there = {0};
        _cleanup_(profile_diffs_done) ProfileDiffs back = {0};
        ContentId one, two;
        bool same;

        profile_content_id(before, ignore, &one);
        profile_content_id(after, ignore, &two);
        same = content_id_equal(&one, &two);
        profile_diff(before, after, ignore, 1, &there);
        profile_diff(after, before, ignore, 1, &back);
        if ((there.n_total == 0) != same || (back.n_total == 0) != same)
                fail_msg("seed %llu: content ids %s, %zu differences there, %zu back:\n%s\n%s",
                         (unsigned long long)seed, same ? "equal" : "differ", there.n_total,
                         back.n_total, a, b);
        *n_equal += same;
}

static void test_content_id_and_diff_agree(void **state)
{
        enum { ROUNDS = 10000 };
        const char *given = getenv("SEED");
        uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
        Random random = {.state = seed * 2 + 1};
        _cleanup_profile_paths_ ProfilePaths *paths =
                PATHS("/a/ip", "/*/*/ip", "/b/0", "/c/*/1", "/x/x/x");
        size_t n_equal = 0;

        (void)state;
        print_message("# SEED=%llu\n", (unsigned long long)seed);
        for (size_t round = 0; round < ROUNDS; round++) {
                _cleanup_buf_ Buf a = BUF_INIT(1024 * 1024), b = BUF_INIT(1024 * 1024);
                _cleanup_profile_ Profile *parsed = NULL;
                const ProfilePaths *ignore = pick(&random, 2) ? paths : NULL;

                put_random(&a, &random, 0);
                parsed = parse_str(buf_str(&a));
                put_node(&b, &random, profile_root(parsed), 2 + pick(&random, 40));
                check_pair(buf_str(&a), buf_str(&b), ignore, seed, &n_equal);
        }
        // Neither answer may be the rule, or the property would say little.
        assert_true(n_equal > ROUNDS / 20 && n_equal < ROUNDS - ROUNDS / 20);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dicts),
                cmocka_unit_test(test_lists),
                cmocka_unit_test(test_ignored),
                cmocka_unit_test(test_values_are_short),
                cmocka_unit_test(test_long_texts_show_where_they_differ),
                cmocka_unit_test(test_deep_path),
                cmocka_unit_test(test_secrets_are_hidden),
                cmocka_unit_test(test_limit_of_items),
                cmocka_unit_test(test_samples),
                cmocka_unit_test(test_long_lists),
                cmocka_unit_test(test_content_id_and_diff_agree),
        };

        return cmocka_run_group_tests_name("profile-diff", tests, NULL, NULL);
}
