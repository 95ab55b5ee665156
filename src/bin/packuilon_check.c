// packuilon check: would the programs work here, and if not, what is to be mended?
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "bin/check.h"
#include "bin/packuilon.h"
#include "core/store.h"
#include "net/http.h"
#include "net/queue.h"
#include "scan/catalog.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define LOW_SPACE_BYTES (UINT64_C(512) * 1024 * 1024)
// The path of a socket is 107 bytes at most (unix(7)); Packer's are
// STATE_DIR/tmp/<slot>/packer-plugin<up to 10 digits>.
#define STATE_DIR_MAX (107 - 5 - 3 - 14 - 10)

// ---- files and folders ----------------------------------------------------------------------

static void check_config_file(Check *check)
{
        const Config *config = check->config;

        check_ok(check, "configuration", "%s", config->path);
        STRV_FOREACH (warning, config->warnings)
                check_warn(check, "configuration", "%s", *warning);
}

static void check_space(Check *check, const char *key, const char *path)
{
        struct statvfs fs;
        uint64_t free_bytes;

        if (statvfs(path, &fs) < 0)
                return;
        free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        if (free_bytes < LOW_SPACE_BYTES)
                check_warn(check, key, "%s has only %" PRIu64 " MiB left; make room", path,
                           free_bytes / (1024 * 1024));
}

// The folder above a path that is not there yet.
static char *nearest_folder(const char *path)
{
        char *folder = xstrdup(path);

        while (access(folder, F_OK) < 0 && strchr(folder, '/')) {
                char *slash = strrchr(folder, '/');

                slash[slash == folder] = '\0';
                if (slash == folder)
                        break;
        }
        return folder;
}

static void check_folder(Check *check, const char *key, const char *path)
{
        _cleanup_free_ char *above = NULL;
        struct stat st;

        if (!path)
                return;
        if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
                check_fail(check, key, "%s is not a folder", path);
        } else if (access(path, R_OK | W_OK | X_OK) == 0) {
                check_ok(check, key, "%s", path);
                check_space(check, key, path);
        } else if (errno == ENOENT) {
                above = nearest_folder(path);
                if (access(above, W_OK | X_OK) == 0)
                        check_ok(check, key, "%s is not there yet and will be made", path);
                else
                        check_fail(check, key, "%s is not there and %s cannot be written; make it",
                                   path, above);
        } else {
                check_fail(check, key, "%s cannot be used by this user: %s; chown it", path,
                           strerror(errno));
        }
}

static void check_state_dir(Check *check)
{
        const char *path = check->config->global.state_dir;

        check_folder(check, "STATE_DIR", path);
        if (strlen(path) > STATE_DIR_MAX)
                check_fail(
                        check, "STATE_DIR",
                        "%s is longer than %d bytes: Packer could not make its sockets below it; "
                        "choose a shorter one",
                        path, STATE_DIR_MAX);
}

static void check_stores(Check *check)
{
        static const struct {
                StoreKind kind;
                const char *what;
        } stores[] = {{STORE_PROFILES, "profiles.db"},
                      {STORE_BUILDS, "builds.db"},
                      {STORE_REGISTRATIONS, "registrations.db"}};

        for (size_t at = 0; at < ELEMENTSOF(stores); at++) {
                _cleanup_store_ Store *store = NULL;
                Error err = ERROR_NONE;

                if (store_open(check->config->global.state_dir, stores[at].kind, STORE_READ_ONLY,
                               &store, &err) < 0)
                        check_fail(check, stores[at].what, "%s", err.text);
        }
}

// ---- the neighbours -------------------------------------------------------------------------

static void check_index_text(Check *check, const Buf *text)
{
        const ScanConfig *config = &check->config->scan;
        _cleanup_catalog_ Catalog catalog = {0};
        _cleanup_index_ Index index = {0};
        Error err = ERROR_NONE;

        if (index_parse(text->data, text->len, &index, &err) < 0) {
                check_fail(check, "profile index", "%s: %s", config->profile_info_url, err.text);
                return;
        }
        catalog_init(&catalog, &index, config->profile_match);
        if (index.n_refused)
                check_warn(check, "profile index", "%zu entries cannot be right; the first: %s",
                           index.n_refused, index.refusals[0].text);
        if (!catalog.n_entries)
                check_warn(check, "profile index",
                           "%s: none of its %zu entries is a JSON profile that PROFILE_MATCH (%s) "
                           "selects",
                           config->profile_info_url, index.n_entries, config->profile_match);
        else
                check_ok(check, "profile index", "%s: PROFILE_MATCH selects %zu of %zu entries",
                         config->profile_info_url, catalog.n_entries, index.n_entries);
}

static void check_index(Check *check)
{
        const ScanConfig *config = &check->config->scan;
        const HttpLimits limits = {.parallel = 1, .timeout_seconds = config->http_timeout_seconds};
        const HttpRequest request = {.url = config->profile_info_url,
                                     .max_bytes = config->max_index_bytes};
        _cleanup_buf_ Buf body = BUF_INIT(config->max_index_bytes);
        Error err = ERROR_NONE;
        long status;

        if (http_get(&request, &limits, &status, &body, NULL, NULL, &err) < 0)
                check_fail(check, "profile index", "%s; check PROFILE_INFO_URL", err.text);
        else
                check_index_text(check, &body);
}

static void check_queue(Check *check)
{
        const GlobalConfig *config = &check->config->global;
        const char *what = config->transport == TRANSPORT_AMQP ? "broker" : "local queue";
        Error err = ERROR_NONE;
        int64_t ready;

        if (queue_probe(check->config, &ready, &err) < 0)
                check_fail(check, what, "%s", err.text);
        else if (ready < 0)
                check_ok(check, what, "queue %s will be made with the first message",
                         config->queue);
        else
                check_ok(check, what, "queue %s, %" PRId64 " waiting", config->queue, ready);
}

static void check_scan(Check *check)
{
        const ScanConfig *config = &check->config->scan;
        Error err = ERROR_NONE;

        if (!config->profile_info_url && !config->profile_dir_url) {
                check_warn(check, "cdb2rabbit", "not configured: it cannot run on this host");
                return;
        }
        if (config_require_scan(check->config, &err) < 0) {
                check_fail(check, "cdb2rabbit", "%s", err.text);
                return;
        }
        check_index(check);
        check_folder(check, "CACHE_DIR", config->cache_dir);
}

static void warn_if_public(Check *check, const char *path)
{
        struct stat st;

        if (stat(path, &st) == 0 && (st.st_mode & S_IROTH))
                check_warn(check, "auth file", "everybody can read %s; chmod o-r it", path);
}

static bool check_auth_file(Check *check, AuthEnv *ret)
{
        const char *path = check->config->build.auth_file;
        Error err = ERROR_NONE;

        if (!path) {
                check_warn(check, "auth file",
                           "none: Packer gets no OpenStack credentials from us; "
                           "set PACKER_AUTH_FILE to an openrc");
                return false;
        }
        if (auth_file_read(path, ret, &err) < 0) {
                check_fail(check, "auth file", "%s", err.text);
                return false;
        }
        check_ok(check, "auth file", "%s", path);
        warn_if_public(check, path);
        return true;
}

static void check_build(Check *check)
{
        const BuildConfig *config = &check->config->build;
        AuthEnv auth = {0};
        Error err = ERROR_NONE;
        CheckedLogin login;
        bool has_auth;

        if (!config->images_config && !config->template_map && !config->template_file) {
                check_warn(check, "rabbit2packer", "not configured: it cannot run on this host");
                return;
        }
        if (config_require_build(check->config, &err) < 0) {
                check_fail(check, "rabbit2packer", "%s", err.text);
                return;
        }
        check_folder(check, "LOG_DIR", config->log_dir);
        check_folder(check, "BUILD_FILE_DIR", config->build_file_dir);
        has_auth = check_auth_file(check, &auth);
        check_source_images(check);
        login = has_auth ? check_cloud(check, &auth) : LOGIN_FAILS;
        check_packer(check, has_auth ? &auth : NULL, login);
        auth_env_done(&auth);
}

static int run(const Invocation *invocation, Error *err)
{
        Check check = {.config = invocation->config};

        check_config_file(&check);
        check_state_dir(&check);
        check_stores(&check);
        check_queue(&check);
        check_scan(&check);
        check_build(&check);
        check_aquilon(&check);
        check_cloud_done(&check);
        if (!check.n_failed)
                return 0;
        (void)error_set(err, EINVAL, "%zu check%s failed", check.n_failed,
                        check.n_failed == 1 ? "" : "s");
        return PROGRAM_FAILED;
}

const Program packuilon_check = {
        .name = "packuilon check",
        .summary = "Tell what would not work here, and how to mend it.",
        .details = "Run it as the user that the programs run as. It writes nothing and builds "
                   "nothing.\n",
        .tells_warnings = true,
        .run = run,
};
