#include "../unit.h"

#include "builder/build_plan.h"
#include "util/alloc.h"
#include "util/fs.h"
#include "util/strutil.h"

typedef struct Fixture {
        char dir[64];
        Config config;
        BuildPlan plan;
        Error err;
} Fixture;

static char *in_dir(const Fixture *fixture, const char *name)
{
        return fs_join(fixture->dir, name);
}

static void write_file(const Fixture *fixture, const char *name, const char *text)
{
        _cleanup_free_ char *path = in_dir(fixture, name);
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &err), err);
}

static int setup(void **state)
{
        Fixture *fixture = xcalloc(1, sizeof *fixture);
        const char *tmp = getenv("TMPDIR");

        (void)snprintf(fixture->dir, sizeof fixture->dir, "%s/build_plan.XXXXXX",
                       tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(fixture->dir));
        fixture->config.build.images_config = in_dir(fixture, "images.json");
        fixture->config.build.template_map = in_dir(fixture, "templates.json");
        fixture->config.build.image_name = xstrdup("${personality}-${os}");
        write_file(fixture, "images.json", "{\"sl7x-x86_64\": \"base-id\"}");
        write_file(fixture, "templates.json",
                   "{\"web-sl7x-x86_64\": [\"managed.json\", \"unmanaged.json\"],"
                   " \"DEFAULT\": \"default.json\"}");
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        Fixture *fixture = *state;

        (void)fs_remove_tree(fixture->dir, NULL);
        build_plan_done(&fixture->plan);
        free(fixture->config.build.images_config);
        free(fixture->config.build.template_map);
        free(fixture->config.build.template_file);
        free(fixture->config.build.image_name);
        free(fixture);
        return 0;
}

#define OS(version)                                                                                \
        "\"os\": {\"distribution\": {\"name\": \"sl\"}, \"version\": {\"name\": \"" version        \
        "\"}, \"architecture\": \"x86_64\"}"

static int plan(Fixture *fixture, const char *body)
{
        return build_plan_make(&fixture->config, body, strlen(body), &fixture->plan, &fixture->err);
}

static void test_image_and_templates(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"web\"}, " OS("7x") "}}"),
                0);
        assert_string_equal(fixture->plan.image, "web-sl7x-x86_64");
        assert_string_equal(fixture->plan.source_image, "base-id");
        assert_string_equal(fixture->plan.os, "sl7x-x86_64");
        assert_int_equal(strv_count(fixture->plan.templates), 2);
        assert_contains(fixture->plan.templates[0], "/managed.json");
        assert_null(fixture->plan.reason);
}

static void test_default_template(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"db\"}, " OS("7x") "}}"),
                0);
        assert_int_equal(strv_count(fixture->plan.templates), 1);
        assert_contains(fixture->plan.templates[0], "/default.json");
}

static void test_one_template_for_all(void **state)
{
        Fixture *fixture = *state;

        free(TAKE_PTR(fixture->config.build.template_map));
        fixture->config.build.template_file = xstrdup("/t/managed.json");
        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"db\"}, " OS("7x") "}}"),
                0);
        assert_string_equal(fixture->plan.templates[0], "/t/managed.json");
        assert_null(fixture->plan.templates[1]);
}

static void test_skipped_without_source_image(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"web\"}, " OS("9") "}}"),
                BUILD_PLAN_SKIPPED);
        assert_contains(fixture->plan.reason, "sl9-x86_64");
        assert_contains(fixture->plan.reason, "images.json");
}

static void test_skipped_without_os(void **state)
{
        Fixture *fixture = *state;

        assert_int_equal(plan(fixture, "{\"system\": {\"personality\": {\"name\": \"web\"}}}"),
                         BUILD_PLAN_SKIPPED);
        assert_contains(fixture->plan.reason, "names no operating system");
}

static void test_skipped_without_template(void **state)
{
        Fixture *fixture = *state;

        write_file(fixture, "templates.json", "{\"web-sl7x-x86_64\": \"managed.json\"}");
        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"db\"}, " OS("7x") "}}"),
                BUILD_PLAN_SKIPPED);
        assert_contains(fixture->plan.reason, "db-sl7x-x86_64");
        assert_contains(fixture->plan.reason, "DEFAULT");
}

static void test_poison_is_rejected(void **state)
{
        static const char *const poison[][2] = {
                {"not json", "line 1"},
                {"[]", ""},
                {"{}", "/system/personality"},
                {"{\"system\": {\"personality\": {\"name\": \"{{env `HOME`}}\"}}}",
                 "/system/personality/name"},
                {"{\"system\": {\"personality\": {\"name\": \"a\\nb\"}}}",
                 "/system/personality/name"},
        };
        Fixture *fixture = *state;

        for (size_t at = 0; at < sizeof poison / sizeof *poison; at++) {
                assert_int_equal(plan(fixture, poison[at][0]), BUILD_PLAN_REJECTED);
                assert_contains(fixture->plan.reason, poison[at][1]);
                build_plan_done(&fixture->plan);
        }
}

static void test_broken_map_is_not_the_messages_fault(void **state)
{
        static const char body[] =
                "{\"system\": {\"personality\": {\"name\": \"web\"}, " OS("7x") "}}";
        Fixture *fixture = *state;

        write_file(fixture, "templates.json", "{");
        assert_true(plan(fixture, body) < 0);
        assert_contains(fixture->err.text, "templates.json");
        write_file(fixture, "images.json", "[]");
        assert_true(plan(fixture, body) < 0);
        assert_contains(fixture->err.text, "images.json");
}

static void test_image_name_without_value_is_rejected(void **state)
{
        Fixture *fixture = *state;

        replace_string(&fixture->config.build.image_name, "${personality}-${sandbox}");
        assert_int_equal(
                plan(fixture, "{\"system\": {\"personality\": {\"name\": \"web\"}, " OS("7x") "}}"),
                BUILD_PLAN_REJECTED);
        assert_contains(fixture->plan.reason, "sandbox");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_image_and_templates),
                TEST(test_default_template),
                TEST(test_one_template_for_all),
                TEST(test_skipped_without_source_image),
                TEST(test_skipped_without_os),
                TEST(test_skipped_without_template),
                TEST(test_poison_is_rejected),
                TEST(test_broken_map_is_not_the_messages_fault),
                TEST(test_image_name_without_value_is_rejected),
        };

        return cmocka_run_group_tests_name("build_plan", tests, NULL, NULL);
}
