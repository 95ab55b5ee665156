#include "../unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builder/packer_workspace.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define JSON_TEMPLATE "{\"builders\": [{\"type\": \"file\", \"target\": \"$NAME\"}]}"
#define HCL_TEMPLATE "variable \"name\" {}\nsource \"null\" \"x\" {}\n"

typedef struct Site {
        Config config;
        Identity identity;
        TemplateValues values;
        AuthEnv auth;
        char *template_path;
        PackerRunSpec spec;
} Site;

static void write_template(Site *site, const char *folder, const char *name, const char *text)
{
        Error err = ERROR_NONE;

        free(site->template_path);
        site->template_path = fs_join(folder, name);
        site->spec.template_path = site->template_path;
        assert_ok(fs_write_atomic(site->template_path, text, strlen(text), 0600, FS_NO_SYNC, &err),
                  err);
}

static void site_init(Site *site, const char *folder)
{
        static char user[] = "OS_USERNAME=ann", tmp[] = "TMPDIR=/elsewhere";
        static char *auth_vars[] = {user, tmp, NULL};

        *site = (Site){.auth = {.vars = auth_vars}};
        site->config.global.state_dir = fs_join(folder, "state");
        site->config.build.build_file_dir = xstrdup(folder);
        site->config.build.packer_path = xstrdup("/usr/bin/packer");
        site->identity.personality = xstrdup("web");
        site->values = (TemplateValues){.name = "web.x/y",
                                        .image = "id",
                                        .os = "sl7x",
                                        .build_id = "the-build",
                                        .identity = &site->identity};
        site->spec = (PackerRunSpec){
                .config = &site->config, .auth = &site->auth, .values = &site->values, .folder = 7};
        write_template(site, folder, "managed.json", JSON_TEMPLATE);
}

static void site_done(Site *site)
{
        free(site->config.global.state_dir);
        free(site->config.build.build_file_dir);
        free(site->config.build.packer_path);
        free(site->identity.personality);
        free(site->template_path);
}

static const char *variable(const PackerWorkspace *workspace, const char *name)
{
        const char *value = NULL;
        size_t len = strlen(name);

        STRV_FOREACH (var, workspace->envp) {
                if (strncmp(*var, name, len) != 0 || (*var)[len] != '=')
                        continue;
                assert_null(value); // once
                value = *var + len + 1;
        }
        return value;
}

static PackerWorkspace make(const Site *site)
{
        PackerWorkspace workspace = {0};
        Error err = ERROR_NONE;

        assert_ok(packer_workspace_make(&site->spec, &workspace, &err), err);
        return workspace;
}

static void test_json_template(void **state)
{
        Site site;
        PackerWorkspace workspace;
        struct stat st;

        site_init(&site, *state);
        workspace = make(&site);
        assert_string_equal(workspace.template_name, "managed");
        assert_null(strchr(workspace.image_file, '/'));
        assert_string_equal(workspace.cwd, *state);
        assert_string_equal(workspace.argv[0], "/usr/bin/packer");
        assert_string_equal(workspace.argv[1], "build");
        assert_string_equal(workspace.argv[2], "-color=false");
        assert_contains(workspace.argv[3], workspace.image_file);
        assert_contains(workspace.argv[3], ".managed.json");
        assert_null(workspace.argv[4]);
        assert_int_equal(stat(workspace.argv[3], &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        packer_workspace_done(&workspace);
        site_done(&site);
}

static void test_hcl_template(void **state)
{
        Site site;
        PackerWorkspace workspace;

        site_init(&site, *state);
        write_template(&site, *state, "managed.pkr.hcl", HCL_TEMPLATE);
        workspace = make(&site);
        assert_contains(workspace.argv[3], "-var-file=");
        assert_contains(workspace.argv[3], ".managed.pkrvars.json");
        assert_string_equal(workspace.argv[4], site.template_path);
        assert_null(workspace.argv[5]);
        packer_workspace_done(&workspace);
        site_done(&site);
}

static void test_environment(void **state)
{
        Site site;
        PackerWorkspace workspace;

        assert_int_equal(setenv("NOTIFY_SOCKET", "/run/ours", 1), 0);
        assert_int_equal(setenv("OS_USERNAME", "from-outside", 1), 0);
        assert_int_equal(setenv("INHERITED", "yes", 1), 0);
        site_init(&site, *state);
        workspace = make(&site);
        assert_null(variable(&workspace, "NOTIFY_SOCKET"));
        assert_string_equal(variable(&workspace, "INHERITED"), "yes");
        assert_string_equal(variable(&workspace, "OS_USERNAME"), "ann");
        assert_string_equal(variable(&workspace, "TMPDIR"), workspace.tmp_dir);
        assert_string_equal(variable(&workspace, "CHECKPOINT_DISABLE"), "1");
        assert_string_equal(variable(&workspace, "PACKUILON_BUILD_ID"), "the-build");
        assert_string_equal(variable(&workspace, "PACKUILON_FOLDER"), "7");
        assert_string_equal(variable(&workspace, "PACKUILON_STATE_DIR"),
                            site.config.global.state_dir);
        packer_workspace_done(&workspace);
        site_done(&site);
}

static void test_tmp_dir_is_empty_before_and_after(void **state)
{
        Site site;
        PackerWorkspace workspace;
        _cleanup_free_ char *tmp_dir = NULL, *left = NULL;
        struct stat st;
        Error err = ERROR_NONE;

        site_init(&site, *state);
        tmp_dir = xasprintf("%s/tmp/7", site.config.global.state_dir);
        left = fs_join(tmp_dir, "left");
        assert_ok(fs_make_dirs(left, 0700, &err), err);
        workspace = make(&site);
        assert_string_equal(workspace.tmp_dir, tmp_dir);
        assert_int_equal(access(left, F_OK), -1);
        assert_int_equal(stat(tmp_dir, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_ok(fs_make_dirs(left, 0700, &err), err);
        packer_workspace_done(&workspace);
        assert_int_equal(access(left, F_OK), -1);
        packer_workspace_tidy(site.config.global.state_dir);
        assert_int_equal(access(tmp_dir, F_OK), -1);
        site_done(&site);
}

static void test_template_that_cannot_be_used(void **state)
{
        Site site;
        PackerWorkspace workspace = {0};
        Error err = ERROR_NONE;

        site_init(&site, *state);
        write_template(&site, *state, "broken.json", "{");
        assert_int_equal(packer_workspace_make(&site.spec, &workspace, &err), PACKER_RUN_REFUSED);
        assert_contains(err.text, "broken.json");
        assert_null(workspace.argv);
        site_done(&site);
}

static void test_folders_that_cannot_be_made(void **state)
{
        Site site;
        PackerWorkspace workspace = {0};
        _cleanup_free_ char *in_the_way = NULL;
        Error err = ERROR_NONE;

        site_init(&site, *state);
        in_the_way = fs_join(site.config.global.state_dir, "tmp");
        assert_ok(fs_make_dirs(site.config.global.state_dir, 0700, &err), err);
        assert_ok(fs_write_atomic(in_the_way, "x", 1, 0600, FS_NO_SYNC, &err), err);
        assert_true(packer_workspace_make(&site.spec, &workspace, &err) < 0);
        assert_contains(err.text, "tmp");
        free(site.config.build.build_file_dir);
        site.config.build.build_file_dir = fs_join(*state, "not-there");
        assert_true(packer_workspace_make(&site.spec, &workspace, &err) < 0);
        assert_contains(err.text, "not-there");
        site_done(&site);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_json_template),
                unit_test_in_folder(test_hcl_template),
                unit_test_in_folder(test_environment),
                unit_test_in_folder(test_tmp_dir_is_empty_before_and_after),
                unit_test_in_folder(test_template_that_cannot_be_used),
                unit_test_in_folder(test_folders_that_cannot_be_made),
        };

        return cmocka_run_group_tests_name("packer_workspace", tests, NULL, NULL);
}
