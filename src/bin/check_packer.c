// packuilon check: Packer itself, its openstack builder, the maps, and each template as Packer
// reads it when it is filled with example values.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bin/check.h"
#include "builder/redact.h"
#include "core/maps.h"
#include "core/template.h"
#include "util/alloc.h"
#include "util/child.h"
#include "util/fs.h"
#include "util/strutil.h"

#define VERSION_TIMEOUT_MS 20000
#define VALIDATE_TIMEOUT_MS 60000 // also logs in to Keystone
#define OUTPUT_MAX ((size_t)64 * 1024)
#define SHOWN_MAX 400 // bytes of Packer's words in one line
// Packer's plugins listen on sockets in TMPDIR, and the path of a socket is 107 bytes at most.
#define TMPDIR_MAX 50
#define EXAMPLE_ID "00000000-0000-4000-8000-000000000000"
#define TEMPLATE_MAX_BYTES ((size_t)1024 * 1024)

typedef struct PackerCheck {
        Check *check;
        const AuthEnv *auth;
        char *dir; // a temporary folder of our own
} PackerCheck;

static const char openstack_probe[] =
        "{\"builders\": [{\"type\": \"openstack\", \"image_name\": \"probe\", \"flavor\": "
        "\"probe\", \"source_image\": \"" EXAMPLE_ID "\", \"ssh_username\": \"root\"}]}\n";

// Inherited by Packer; everything else of our environment (OS_… above all) is not.
static const char *const kept_variables[] = {
        "PATH",       "HOME",        "PACKER_CONFIG_DIR", "PACKER_PLUGIN_PATH",
        "http_proxy", "https_proxy", "no_proxy",
};

static char **make_environment(const PackerCheck *packer, const AuthEnv *auth)
{
        char **vars = xcalloc(strv_count(auth ? auth->vars : NULL) + ELEMENTSOF(kept_variables) + 4,
                              sizeof *vars);
        size_t n = 0;

        for (size_t at = 0; at < ELEMENTSOF(kept_variables); at++) {
                const char *value = getenv(kept_variables[at]);

                if (value)
                        vars[n++] = xasprintf("%s=%s", kept_variables[at], value);
        }
        STRV_FOREACH (var, auth ? auth->vars : NULL)
                vars[n++] = xstrdup(*var);
        vars[n++] = xstrdup("CHECKPOINT_DISABLE=1");
        vars[n++] = xstrdup("PACKER_NO_COLOR=1");
        vars[n] = xasprintf("TMPDIR=%s", packer->dir);
        return vars;
}

// Runs Packer with up to three arguments (NULL ends them). *ret_output is one line of what it said,
// without secrets; the caller frees. Returns the exit code, or a negative errno.
static int run_packer(const PackerCheck *packer, const AuthEnv *auth, const char *cwd,
                      const char *const *arguments, char **ret_output, Error *err)
{
        const char *argv[5] = {packer->check->config->build.packer_path};
        _cleanup_strv_ char **envp = make_environment(packer, auth);
        _cleanup_redactor_ Redactor *redactor = redactor_new();
        _cleanup_buf_ Buf output = BUF_INIT(OUTPUT_MAX);
        _cleanup_strv_ char **words = NULL;
        _cleanup_buf_ Buf line = BUF_INIT(SHOWN_MAX);
        _cleanup_free_ char *hidden = NULL;
        ChildSpec spec = {.argv = argv, .envp = (const char *const *)envp, .cwd = cwd};
        int status, r;

        for (size_t at = 0; arguments[at] && at + 2 < ELEMENTSOF(argv); at++)
                argv[at + 1] = arguments[at];
        r = child_capture(&spec, VALIDATE_TIMEOUT_MS, &output, &status, err);
        if (r < 0)
                return r;
        if (auth)
                auth_env_redact(auth, redactor);
        hidden = redactor_text(redactor, buf_str(&output));
        words = strv_split(hidden, " \t\r\n");
        STRV_FOREACH (word, words) {
                if (buf_printf(&line, "%s%s", line.len ? " " : "", *word) < 0)
                        break;
        }
        *ret_output = str_visible(buf_str(&line), line.len, SHOWN_MAX);
        return child_exit_code(status);
}

// ---- Packer and its openstack builder -------------------------------------------------------

static bool home_is_readable(void)
{
        const char *home = getenv("HOME");

        return !home || access(home, R_OK | X_OK) == 0 || errno == ENOENT;
}

static bool check_version(const PackerCheck *packer)
{
        static const char *const arguments[] = {"version", NULL};
        _cleanup_free_ char *output = NULL;
        const char *path = packer->check->config->build.packer_path;
        Error err = ERROR_NONE;
        int r = run_packer(packer, NULL, NULL, arguments, &output, &err);

        if (r < 0) {
                check_fail(packer->check, "packer", "%s; install Packer or set PACKER_PATH",
                           err.text);
                return false;
        }
        if (r > 0 && !*output && !home_is_readable()) {
                check_fail(packer->check, "packer",
                           "%s says nothing: it does so when it may not read HOME (%s); give this "
                           "user a HOME of its own",
                           path, getenv("HOME"));
                return false;
        }
        // Another program of this name is /usr/sbin/packer of cracklib.
        if (r > 0 || !str_starts_with(output, "Packer v")) {
                check_fail(packer->check, "packer",
                           "%s is not HashiCorp's Packer ('%s version' says: %s); set PACKER_PATH",
                           path, path, output);
                return false;
        }
        check_ok(packer->check, "packer", "%s (%s)", output, path);
        return true;
}

static int write_file(const PackerCheck *packer, const char *name, const char *text, size_t len,
                      char **ret_path, Error *err)
{
        *ret_path = fs_join(packer->dir, name);
        return fs_write_atomic(*ret_path, text, len, 0600, FS_NO_SYNC, err);
}

static int validate_probe(const PackerCheck *packer, const AuthEnv *auth, char **ret_output,
                          Error *err)
{
        _cleanup_free_ char *path = NULL;
        const char *arguments[] = {"validate", NULL, NULL};
        int r = write_file(packer, "probe.json", openstack_probe, strlen(openstack_probe), &path,
                           err);

        if (r < 0)
                return r;
        arguments[1] = path;
        return run_packer(packer, auth, NULL, arguments, ret_output, err);
}

// Without credentials a builder that is there asks for them.
static bool only_lacks_credentials(const char *output)
{
        // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): Packer has run, so it is there
        return strstr(output, "Missing input for argument [auth_url]") &&
               (strstr(output, "1 error(s) occurred") || strstr(output, "1 error occurred"));
}

// Packer 1.6 to 1.8, and later ones.
static bool says_unknown_builder(const char *output)
{
        return strstr(output, "Unknown builder openstack") ||
               strstr(output, "openstack is unknown by Packer");
}

static bool check_openstack_builder(const PackerCheck *packer)
{
        static const char mend[] = "Packer before 1.9 has it built in; for later ones run 'packer "
                                   "plugins install github.com/hashicorp/openstack' as the user "
                                   "that rabbit2packer runs as";
        _cleanup_free_ char *output = NULL;
        Error err = ERROR_NONE;
        int r = validate_probe(packer, NULL, &output, &err);

        if (r == 0 || (r > 0 && only_lacks_credentials(output))) {
                check_ok(packer->check, "openstack builder", "present");
                return true;
        }
        if (r < 0)
                check_fail(packer->check, "openstack builder", "%s", err.text);
        else if (!says_unknown_builder(output))
                check_fail(packer->check, "openstack builder", "Packer says: %s", output);
        else if (packer->check->config->build.auth_file)
                check_fail(packer->check, "openstack builder", "missing: %s", mend);
        else
                check_warn(packer->check, "openstack builder", "missing: %s", mend);
        return false;
}

static void check_login(const PackerCheck *packer, CheckedLogin login)
{
        _cleanup_free_ char *output = NULL;
        const char *url = auth_env_get(packer->auth, "OS_AUTH_URL");
        Error err = ERROR_NONE;
        int r = validate_probe(packer, packer->auth, &output, &err);

        if (r < 0)
                check_fail(packer->check, "openstack login", "%s", err.text);
        else if (r > 0 && login == LOGIN_WORKS)
                check_fail(packer->check, "openstack login",
                           "but Packer cannot log in with what we can: %s", output);
        else if (r > 0)
                check_fail(packer->check, "openstack login", "%s refuses or cannot be reached: %s",
                           url ? url : "the cloud", output);
        else if (login != LOGIN_WORKS)
                check_ok(packer->check, "openstack login", "%s accepts the credentials",
                         url ? url : "the cloud");
}

// ---- maps and templates ---------------------------------------------------------------------

static bool file_has(const char *path, const char *word)
{
        _cleanup_buf_ Buf text = BUF_INIT(TEMPLATE_MAX_BYTES);

        return fs_read_file(path, &text, NULL) == 0 && strstr(buf_str(&text), word);
}

// What Packer takes for an id, and the cloud will refuse. A file that cannot be read is another
// check's.
static void warn_if_sample(Check *check, const char *what, const char *path)
{
        if (file_has(path, SAMPLE_WORDS))
                check_warn(check, what, "%s still has a " SAMPLE_WORDS "… of the sample", path);
}

void check_source_images(Check *check)
{
        const char *path = check->config->build.images_config;
        Error err = ERROR_NONE;
        size_t n;

        if (source_images_check(path, NULL, NULL, &n, &err) < 0)
                check_fail(check, "source images", "%s", err.text);
        else if (!n)
                check_warn(check, "source images",
                           "%s is empty: every build is skipped; add \"OS+VERSION-ARCH\": "
                           "\"IMAGE ID\"",
                           path);
        else
                check_ok(check, "source images", "%s: %zu", path, n);
        warn_if_sample(check, "source images", path);
}

static void add_once(char ***list, const char *text)
{
        size_t n = strv_count(*list);

        STRV_FOREACH (item, *list) {
                if (strcmp(*item, text) == 0)
                        return;
        }
        *list = xreallocarray(*list, n + 2, sizeof **list);
        (*list)[n] = xstrdup(text);
        (*list)[n + 1] = NULL;
}

// Every template that the map names, each once.
static int collect_templates(const char *map_path, char ***ret, Error *err)
{
        _cleanup_strv_ char **list = NULL;
        json_t *map = json_load_file(map_path, JSON_REJECT_DUPLICATES, NULL);
        const char *image_name;
        json_t *value;
        int r = 0;

        json_object_foreach(map, image_name, value)
        {
                _cleanup_strv_ char **paths = NULL;

                if (r == 0)
                        r = template_map_lookup(map_path, image_name, &paths, err);
                if (r != 0)
                        continue;
                STRV_FOREACH (path, paths)
                        add_once(&list, *path);
        }
        json_decref(map);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

bool templates_have(const Check *check, const char *word, bool if_none)
{
        const BuildConfig *config = &check->config->build;
        _cleanup_strv_ char **paths = NULL;

        if (!config->template_map)
                return file_has(config->template_file, word);
        if (collect_templates(config->template_map, &paths, NULL) < 0 || !paths)
                return if_none;
        STRV_FOREACH (path, paths) {
                if (file_has(*path, word))
                        return true;
        }
        return false;
}

static int render_example(const char *path, RenderedTemplate *ret, Error *err)
{
        static char name[] = "example", os[] = "sl", version[] = "7x", arch[] = "x86_64";
        static char domain[] = "prod", host[] = "example.cloud.template";
        const Identity identity = {
                .personality = name,
                .archetype = name,
                .os_name = os,
                .os_version = version,
                .os_arch = arch,
                .broker_os = os,
                .broker_os_version = version,
                .hostname = host,
                .domain = domain,
        };
        const TemplateValues values = {
                .name = "example-sl7x-x86_64",
                .image = EXAMPLE_ID,
                .os = "sl7x-x86_64",
                .build_id = EXAMPLE_ID,
                .identity = &identity,
        };

        return template_render(path, &values, ret, err);
}

static int validate_template(const PackerCheck *packer, const char *path, char **ret_output,
                             Error *err)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        _cleanup_free_ char *file = NULL, *var_file = NULL, *cwd = fs_folder_of(path);
        const char *arguments[] = {"validate", NULL, NULL, NULL};
        int r = render_example(path, &rendered, err);

        if (r < 0)
                return r;
        if (rendered.kind == TEMPLATE_HCL2) {
                r = write_file(packer, "example.pkrvars.json", rendered.vars, rendered.vars_len,
                               &file, err);
                var_file = xasprintf("-var-file=%s", file);
                arguments[1] = var_file;
                arguments[2] = path;
        } else {
                r = write_file(packer, "example.json", rendered.text, rendered.text_len, &file,
                               err);
                arguments[1] = file;
        }
        return r < 0 ? r : run_packer(packer, NULL, cwd, arguments, ret_output, err);
}

static void check_template(const PackerCheck *packer, const char *path, bool has_packer)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        _cleanup_free_ char *output = NULL;
        Error err = ERROR_NONE;
        int r = has_packer ? validate_template(packer, path, &output, &err)
                           : render_example(path, &rendered, &err);

        if (r < 0)
                check_fail(packer->check, "template", "%s", err.text);
        else if (r > 0 && !only_lacks_credentials(output))
                check_fail(packer->check, "template", "%s: Packer says: %s", path, output);
        else
                check_ok(packer->check, "template", "%s", path);
        warn_if_sample(packer->check, "template", path);
}

static void check_templates(const PackerCheck *packer, bool has_packer)
{
        const BuildConfig *config = &packer->check->config->build;
        _cleanup_strv_ char **paths = NULL;
        Error err = ERROR_NONE;
        size_t n = 0;

        if (!config->template_map) {
                check_template(packer, config->template_file, has_packer);
                return;
        }
        if (template_map_check(config->template_map, &n, &err) < 0 ||
            collect_templates(config->template_map, &paths, &err) < 0) {
                check_fail(packer->check, "template map", "%s", err.text);
                return;
        }
        if (!n)
                check_warn(packer->check, "template map",
                           "%s is empty: every build is skipped; add \"DEFAULT\": "
                           "[\"TEMPLATE.json\"]",
                           config->template_map);
        else
                check_ok(packer->check, "template map", "%s: %zu", config->template_map, n);
        STRV_FOREACH (path, paths)
                check_template(packer, *path, has_packer);
}

void check_packer(Check *check, const AuthEnv *auth, CheckedLogin login)
{
        const char *parent = getenv("TMPDIR");
        bool is_usable = parent && *parent && strlen(parent) <= TMPDIR_MAX;
        _cleanup_free_ char *dir =
                xasprintf("%s/packuilon-check-XXXXXX", is_usable ? parent : "/tmp");
        PackerCheck packer = {.check = check, .auth = auth, .dir = dir};
        bool has_packer;

        if (!mkdtemp(dir)) {
                check_fail(check, "temporary folder", "%s cannot be made: %s", dir,
                           strerror(errno));
                return;
        }
        has_packer = check_version(&packer);
        if (has_packer && check_openstack_builder(&packer) && auth && login != LOGIN_FAILS)
                check_login(&packer, login);
        check_templates(&packer, has_packer);
        (void)fs_remove_tree(dir, NULL);
}
