#include "builder/packer_workspace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "builder/predecessors.h"
#include "util/alloc.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/strutil.h"

#define OWN_VARIABLES_MAX 8 // that make_environment adds

// Of our own environment, what means us and not our children.
static const char *const own_variables[] = {
        "NOTIFY_SOCKET", "WATCHDOG_PID",   "WATCHDOG_USEC",  "LISTEN_PID",
        "LISTEN_FDS",    "LISTEN_FDNAMES", "JOURNAL_STREAM", "INVOCATION_ID",
};

static size_t name_len(const char *var)
{
        return strcspn(var, "=");
}

static bool same_name(const char *a, const char *b)
{
        return name_len(a) == name_len(b) && strncmp(a, b, name_len(a)) == 0;
}

// Takes `var` over; a later one of the same name replaces an earlier one.
static void set_var(char **vars, char *take_var)
{
        size_t at = 0;

        while (vars[at] && !same_name(vars[at], take_var))
                at++;
        free(vars[at]);
        vars[at] = take_var;
}

static bool is_own_variable(const char *var)
{
        for (size_t at = 0; at < ELEMENTSOF(own_variables); at++) {
                if (same_name(var, own_variables[at]))
                        return true;
        }
        return false;
}

static char **make_environment(const PackerRunSpec *spec, const char *tmp_dir)
{
        _cleanup_free_ char *target = predecessor_target(spec->values->name, spec->template_path);
        char *const *auth = spec->auth ? spec->auth->vars : NULL;
        char **vars = xcalloc(strv_count(environ) + strv_count(auth) + OWN_VARIABLES_MAX + 1,
                              sizeof *vars);

        STRV_FOREACH (var, environ) {
                if (!is_own_variable(*var))
                        set_var(vars, xstrdup(*var));
        }
        STRV_FOREACH (var, auth)
                set_var(vars, xstrdup(*var));
        set_var(vars, xasprintf("TMPDIR=%s", tmp_dir));
        set_var(vars, xasprintf("PACKER_CACHE_DIR=%s/packer_cache", tmp_dir));
        set_var(vars, xstrdup("CHECKPOINT_DISABLE=1")); // no call home
        set_var(vars, xstrdup("PACKER_NO_COLOR=1"));
        set_var(vars, xasprintf(PREDECESSOR_BUILD_ID "=%s", spec->values->build_id));
        set_var(vars, xasprintf(PREDECESSOR_STATE_DIR "=%s", spec->config->global.state_dir));
        set_var(vars, xasprintf(PREDECESSOR_TARGET "=%s", target));
        set_var(vars, xasprintf(PREDECESSOR_FOLDER "=%u", spec->folder));
        return vars;
}

static char **make_argv(const char *packer, const char *var_file, const char *build_file)
{
        char **argv = xcalloc(6, sizeof *argv);
        size_t n = 0;

        argv[n++] = xstrdup(packer);
        argv[n++] = xstrdup("build");
        argv[n++] = xstrdup("-color=false");
        if (var_file)
                argv[n++] = xasprintf("-var-file=%s", var_file);
        argv[n] = xstrdup(build_file);
        return argv;
}

// Writes the build file (or var-file) where upstream did, readable by us alone: it holds what the
// template holds, which may be a secret.
static int write_build_file(const PackerRunSpec *spec, const RenderedTemplate *rendered,
                            PackerWorkspace *workspace, Error *err)
{
        bool hcl = rendered->kind == TEMPLATE_HCL2;
        _cleanup_free_ char *name =
                xasprintf("%s.%s.%s", workspace->image_file, workspace->template_name,
                          hcl ? "pkrvars.json" : "json");
        _cleanup_free_ char *path = fs_join(spec->config->build.build_file_dir, name);
        int r = fs_write_atomic(path, hcl ? rendered->vars : rendered->text,
                                hcl ? rendered->vars_len : rendered->text_len, 0600, FS_NO_SYNC,
                                err);

        if (r < 0)
                return r;
        workspace->argv = make_argv(spec->config->build.packer_path, hcl ? path : NULL,
                                    hcl ? spec->template_path : path);
        return 0;
}

static int make_tmp_dir(const PackerRunSpec *spec, PackerWorkspace *workspace, Error *err)
{
        char *path = xasprintf("%s/" PACKER_TMP_FOLDER "/%u", spec->config->global.state_dir,
                               spec->folder);
        int r;

        workspace->tmp_dir = path;
        if (mkdir(path, 0700) == 0)
                return 0;
        if (errno == ENOENT) {
                r = fs_make_dirs(path, 0700, err);
                if (r < 0)
                        return r;
        }
        return fs_empty_dir(path, err);
}

static int fill(const PackerRunSpec *spec, PackerWorkspace *workspace, Error *err)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        int r;

        workspace->image_file = identity_file_name(spec->values->name);
        workspace->template_name = template_name(spec->template_path);
        workspace->cwd = fs_folder_of(spec->template_path);
        if (template_render(spec->template_path, spec->values, &rendered, err) < 0)
                return PACKER_RUN_REFUSED;
        r = write_build_file(spec, &rendered, workspace, err);
        if (r < 0)
                return r;
        r = make_tmp_dir(spec, workspace, err);
        if (r < 0)
                return r;
        workspace->envp = make_environment(spec, workspace->tmp_dir);
        return 0;
}

int packer_workspace_make(const PackerRunSpec *spec, PackerWorkspace *ret, Error *err)
{
        PackerWorkspace workspace = {0};
        int r = fill(spec, &workspace, err);

        if (r != 0) {
                packer_workspace_done(&workspace);
                return r;
        }
        *ret = workspace;
        return 0;
}

void packer_workspace_done(PackerWorkspace *workspace)
{
        // What cannot be removed now the next run finds and names.
        if (workspace->tmp_dir && fs_empty_dir(workspace->tmp_dir, NULL) < 0)
                log_debug("%s is not empty", workspace->tmp_dir);
        free(workspace->image_file);
        free(workspace->template_name);
        free(workspace->tmp_dir);
        free(workspace->cwd);
        strv_free(workspace->argv);
        strv_free(workspace->envp);
        *workspace = (PackerWorkspace){0};
}

void packer_workspace_tidy(const char *state_dir)
{
        _cleanup_free_ char *root = fs_join(state_dir, PACKER_TMP_FOLDER);
        const struct dirent *entry;
        DIR *dir = opendir(root);

        if (!dir)
                return;
        while ((entry = readdir(dir)))
                (void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR); // fails unless it is empty
        (void)closedir(dir);
}
