#include "../unit.h"

#include <errno.h>

#include "core/maps.h"
#include "util/alloc.h"
#include "util/strutil.h"

static char *write_file(const char *folder, const char *name, const char *text)
{
        char *path = fs_join(folder, name);
        Error err = ERROR_NONE;
        int r = fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err);

        assert_ok(r, err);
        return path;
}

typedef struct Os {
        char name[16], version[16], arch[16], broker[16], broker_version[16], pxe[16];
} Os;

static Identity identity_of(Os *os)
{
        return (Identity){
                .os_name = *os->name ? os->name : NULL,
                .os_version = *os->version ? os->version : NULL,
                .os_arch = *os->arch ? os->arch : NULL,
                .broker_os = *os->broker ? os->broker : NULL,
                .broker_os_version = *os->broker_version ? os->broker_version : NULL,
                .pxe_os = *os->pxe ? os->pxe : NULL,
        };
}

static void assert_image(const char *folder, const char *map, Os os, const char *want_id,
                         const char *want_os)
{
        _cleanup_free_ char *path = write_file(folder, "source-images.json", map);
        _cleanup_free_ char *id = NULL, *key = NULL;
        Identity identity = identity_of(&os);
        Error err = ERROR_NONE;
        int r = source_images_lookup(path, &identity, &id, &key, &err);

        assert_ok(r, err);
        if (!want_id) {
                assert_int_equal(r, MAP_NOT_FOUND);
                assert_null(id);
                assert_null(key);
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(id, want_id);
        assert_string_equal(key, want_os);
}

static void test_source_images(void **state)
{
        Os sl = {"sl", "7x", "x86_64", "", "", ""};
        Os rocky = {"", "", "", "rocky", "8x-x86_64", ""};
        Os pxe = {"", "", "", "", "", "sl7x-x86_64"};
        Os all = {"a", "1", "x", "b", "2", "c"};

        assert_image(*state, "{\"sl7x-x86_64\":\"flat\"}", sl, "flat", "sl7x-x86_64");
        assert_image(*state, "{\"sl\":{\"7x-x86_64\":\"nested\"}}", sl, "nested", "sl7x-x86_64");
        assert_image(*state, "{\"sl\":{\"7x\":\"any\"}}", sl, "any", "sl7x");
        assert_image(*state, "{\"sl\":{\"7x\":\"any\",\"7x-x86_64\":\"this\"}}", sl, "this",
                     "sl7x-x86_64");
        assert_image(*state, "{\"sl\":{\"7x-x86_64\":\"nested\"},\"sl7x-x86_64\":\"flat\"}", sl,
                     "flat", "sl7x-x86_64");
        assert_image(*state,
                     "{\"s\":{\"x\":\"no\"},\"sl\":{\"7x-x86_64\":\"1\"},\"sl7\":"
                     "{\"x-x86_64\":\"2\"}}",
                     sl, "1", "sl7x-x86_64");
        assert_image(*state, "{\"rocky\":{\"8x-x86_64\":\"r\"}}", rocky, "r", "rocky8x-x86_64");
        assert_image(*state, "{\"rocky8x-x86_64\":\"r\"}", rocky, "r", "rocky8x-x86_64");
        assert_image(*state, "{\"sl\":{\"7x-x86_64\":\"p\"}}", pxe, "p", "sl7x-x86_64");
        assert_image(*state, "{\"c\":\"3\",\"b2\":\"2\",\"a1-x\":\"1\"}", all, "1", "a1-x");
        assert_image(*state, "{\"c\":\"3\",\"b2\":\"2\"}", all, "2", "b2");
        assert_image(*state, "{\"c\":\"3\"}", all, "3", "c");
        assert_image(*state, "{\"sl6x-x86_64\":\"no\",\"sl\":{\"6x\":\"no\"}}", sl, NULL, NULL);
        assert_image(*state, "{}", (Os){.name = ""}, NULL, NULL);
}

static void assert_bad_images(const char *folder, const char *map, bool found, const char *words)
{
        _cleanup_free_ char *path = write_file(folder, "source-images.json", map);
        Os os = {"sl", "7x", "x86_64", "", "", ""};
        Identity identity = identity_of(&os);
        char *id = NULL, *key = NULL;
        Error err = ERROR_NONE;
        size_t n = 77;

        assert_int_equal(source_images_check(path, NULL, NULL, &n, &err), -EINVAL);
        assert_contains(err.text, "source-images.json: ");
        assert_contains(err.text, words);
        assert_int_equal(n, 77);
        // A mistake elsewhere does not stop the build of this one.
        err = ERROR_NONE;
        assert_int_equal(source_images_lookup(path, &identity, &id, &key, &err),
                         found ? MAP_NOT_FOUND : -EINVAL);
        if (!found)
                assert_contains(err.text, words);
        assert_null(id);
        assert_null(key);
}

static void test_bad_source_images(void **state)
{
        char over[600];

        assert_bad_images(*state, "{\n  \"a\": \"b\"\n  \"c\": \"d\"\n}", false, "line 3, column ");
        assert_bad_images(*state, "[]", false, "line 1: the map must be a JSON object");
        assert_bad_images(*state, "", false, "line ");
        assert_bad_images(*state, "{\"a\":\"1\",\n\"a\":\"2\"}", false, "line 2");
        assert_bad_images(*state, "{\"a\":\"\xFF\"}", false, "line 1");
        assert_bad_images(*state, "{\n\"x\":\"sl7x-x86_64\",\n\"sl7x-x86_64\" : 7}", false,
                          "line 3: \"sl7x-x86_64\": the image ID is not a string");
        assert_bad_images(*state, "{\"7x-x86_64\":\"x\",\"sl\":{\n\"7x-x86_64\": [\"x\"]}}", false,
                          "line 2: \"sl\" / \"7x-x86_64\": the image ID is not a string");
        assert_bad_images(*state, "{\"sl\":{\"7x\":\"\"}}", false, "\"7x\": the image ID is empty");
        assert_bad_images(*state, "{\"sl7x-x86_64\":\"a\\nb\"}", false, "control characters");
        assert_bad_images(*state, "{\"\\u0073l7x-x86_64\":1}", false, ": \"sl7x-x86_64\": ");
        assert_bad_images(*state, "{\n\"other\":null}", true, "line 2: \"other\"");
        assert_bad_images(*state, "{\"other\":{\"a\":\"1\",\n\"b\":{}}}", true,
                          "line 2: \"other\" / \"b\"");
        (void)snprintf(over, sizeof over, "{\"sl7x-x86_64\":\"%0256d\"}", 1);
        assert_bad_images(*state, over, false, "over 255 bytes");
}

static void write_down(const char *os, const char *image_id, void *userdata)
{
        char *seen = userdata;
        size_t len = strlen(seen);

        (void)snprintf(seen + len, 64 - len, "%s=%s ", os, image_id);
}

static void test_source_images_check(void **state)
{
        _cleanup_free_ char *path = write_file(
                *state, "m.json", "{\"a\":\"1\",\"b\":{\"c\":\"2\",\"d\":\"3\"},\"e\":{}}");
        char seen[64] = "";
        Error err = ERROR_NONE;
        size_t n = 0;
        int r = source_images_check(path, write_down, seen, &n, &err);

        assert_ok(r, err);
        assert_int_equal(n, 3);
        assert_string_equal(seen, "a=1 bc=2 bd=3 ");
}

static void test_files_that_cannot_be_read(void **state)
{
        enum { LIMIT = 1024 * 1024 };
        _cleanup_free_ char *gone = fs_join(*state, "gone.json"), *path = NULL;
        _cleanup_free_ char *text = xmalloc(LIMIT + 2);
        Identity identity = {0};
        char *id, *key, **paths;
        Error err = ERROR_NONE;
        size_t n;

        assert_int_equal(source_images_lookup(gone, &identity, &id, &key, &err), -ENOENT);
        assert_contains(err.text, "gone.json");
        assert_int_equal(source_images_check(gone, NULL, NULL, &n, &err), -ENOENT);
        assert_int_equal(template_map_lookup(gone, "x", &paths, &err), -ENOENT);
        assert_int_equal(template_map_check(gone, &n, &err), -ENOENT);
        memset(text, ' ', LIMIT + 1);
        text[LIMIT + 1] = '\0';
        memcpy(text, "{}", 2);
        path = write_file(*state, "big.json", text);
        assert_int_equal(template_map_lookup(path, "x", &paths, &err), -EFBIG);
        assert_contains(err.text, "1048576 bytes");
}

static char **lookup(const char *path, const char *image)
{
        char **paths = NULL;
        Error err = ERROR_NONE;
        int r = template_map_lookup(path, image, &paths, &err);

        assert_ok(r, err);
        assert_int_equal(r, 0);
        return paths;
}

static void test_template_map(void **state)
{
        _cleanup_free_ char *path =
                write_file(*state, "template-map.json",
                           "{\"one\":\"a.json\",\"two\":[\"/abs/b.json\",\"sub/c.pkr.hcl\"],"
                           "\"DEFAULT\":[\"d.json\"]}");
        _cleanup_free_ char *a = fs_join(*state, "a.json"), *c = fs_join(*state, "sub/c.pkr.hcl");
        _cleanup_free_ char *d = fs_join(*state, "d.json");
        _cleanup_strv_ char **one = lookup(path, "one"), **two = lookup(path, "two");
        _cleanup_strv_ char **other = lookup(path, "other");

        assert_int_equal(strv_count(one), 1);
        assert_string_equal(one[0], a);
        assert_int_equal(strv_count(two), 2);
        assert_string_equal(two[0], "/abs/b.json");
        assert_string_equal(two[1], c);
        assert_int_equal(strv_count(other), 1);
        assert_string_equal(other[0], d);
}

static void test_template_map_without_default(void **state)
{
        _cleanup_free_ char *path = write_file(*state, "m.json", "{\"one\":\"a.json\"}");
        char **paths = NULL;
        Error err = ERROR_NONE;

        assert_int_equal(template_map_lookup(path, "two", &paths, &err), MAP_NOT_FOUND);
        assert_null(paths);
}

static void test_bad_template_maps(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                {"{\n  \"DEFAULT\": [\"a\"\n}", "line 3, column "},
                {"{\"DEFAULT\":\"a\",\"DEFAULT\":\"b\"}", "line 1, column "},
                {"\"x\"", "line 1"},
                {"[]", "line 1: the map must be a JSON object"},
                {"{\n\"DEFAULT\": {\"a\": 1}}", "line 2: \"DEFAULT\": a template is not a string"},
                {"{\"DEFAULT\": [7]}", "\"DEFAULT\": a template is not a string"},
                {"{\"DEFAULT\": []}", "\"DEFAULT\": the list of templates is empty"},
                {"{\"DEFAULT\": [\"\"]}", "path is empty"},
                {"{\"DEFAULT\": \"a\\nb\"}", "control characters"},
                {"{\"DEFAULT\": [\"a/x.json\",\"b/x.pkr.hcl\"]}", "have the same file name"},
                {"{\"DEFAULT\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
                 "more than 16 templates"},
        };

        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *path = write_file(*state, "template-map.json", cases[at].text);
                char **paths = NULL;
                Error err = ERROR_NONE;
                size_t n = 0;

                assert_int_equal(template_map_lookup(path, "x", &paths, &err), -EINVAL);
                assert_contains(err.text, "template-map.json: ");
                assert_contains(err.text, cases[at].words);
                assert_null(paths);
                assert_int_equal(template_map_check(path, &n, &err), -EINVAL);
                assert_contains(err.text, cases[at].words);
        }
}

static void test_template_map_check(void **state)
{
        _cleanup_free_ char *a = write_file(*state, "a.json", "{}");
        _cleanup_free_ char *good =
                write_file(*state, "m.json", "{\"x\":\"a.json\",\"y\":[\"a.json\"]}");
        _cleanup_free_ char *bad =
                write_file(*state, "n.json", "{\"x\":\"a.json\",\n\"y\":\"b.json\"}");
        Error err = ERROR_NONE;
        size_t n = 0;
        int r = template_map_check(good, &n, &err);

        assert_ok(r, err);
        assert_int_equal(n, 2);
        assert_int_equal(template_map_check(bad, &n, &err), -EINVAL);
        assert_contains(err.text, "n.json: line 2: \"y\": cannot read template ");
        assert_contains(err.text, "b.json: No such file");
        assert_non_null(a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_source_images),
                unit_test_in_folder(test_bad_source_images),
                unit_test_in_folder(test_source_images_check),
                unit_test_in_folder(test_files_that_cannot_be_read),
                unit_test_in_folder(test_template_map),
                unit_test_in_folder(test_template_map_without_default),
                unit_test_in_folder(test_bad_template_maps),
                unit_test_in_folder(test_template_map_check),
        };

        return cmocka_run_group_tests_name("maps", tests, NULL, NULL);
}
