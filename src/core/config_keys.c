#include "core/config_keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "core/host_name.h"
#include "core/identity.h"
#include "core/profile.h"
#include "util/alloc.h"
#include "util/fs.h"
#include "util/strutil.h"

#define LIST_SEPARATORS " \t\r\n,"
#define QUEUE_NAME_MAX 128 // of AMQP's 255; the rest is for "<QUEUE>.failed" and the like
#define SHOWN_MAX 80
#define SECRET_FILE_MAX 4096

#define GLOBAL "global"
#define SCAN "cdb2rabbit"
#define BUILD "rabbit2packer"
#define AQUILON "nova2aquilon"
#define AT(member) offsetof(Config, member)

#define DAY (INT64_C(24) * 60 * 60)
#define YEAR (INT64_C(366) * DAY)
#define KIB INT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

// clang-format off
const ConfigKey config_keys[] = {
        {GLOBAL, "QUEUE", VALUE_QUEUE, AT(global.queue), "build-queue", 0, 0},
        {GLOBAL, "TRANSPORT", VALUE_TRANSPORT, AT(global.transport), NULL, 0, 0},
        {GLOBAL, "RABBIT_HOST", VALUE_STRING, AT(global.rabbit_host), NULL, 0, 0},
        {GLOBAL, "RABBIT_PORT", VALUE_PORT, AT(global.rabbit_port), NULL, 1, UINT16_MAX},
        {GLOBAL, "RABBIT_USER", VALUE_STRING, AT(global.rabbit_user), "guest", 0, 0},
        {GLOBAL, "RABBIT_PW", VALUE_STRING, AT(global.rabbit_pw), NULL, 0, 0},
        {GLOBAL, "RABBIT_PW_FILE", VALUE_FIRST_LINE, AT(global.rabbit_pw), NULL, 0, 0},
        {GLOBAL, "RABBIT_VHOST", VALUE_STRING, AT(global.rabbit_vhost), "/", 0, 0},
        {GLOBAL, "RABBIT_TLS", VALUE_BOOL, AT(global.rabbit_tls), NULL, 0, 0},
        {GLOBAL, "RABBIT_TLS_CA", VALUE_PATH, AT(global.rabbit_tls_ca), NULL, 0, 0},
        {GLOBAL, "STATE_DIR", VALUE_PATH, AT(global.state_dir), "/var/lib/packuilon", 0, 0},
        {GLOBAL, "SUCCESS_ADDRESS", VALUE_STRING, AT(global.success_address), NULL, 0, 0},
        {GLOBAL, "FAILURE_ADDRESS", VALUE_STRING, AT(global.failure_address), NULL, 0, 0},
        {GLOBAL, "SLACK_SUCCESS_HOOK", VALUE_HOOK, AT(global.slack_success_hook), NULL, 0, 0},

        {SCAN, "PROFILE_INFO_URL", VALUE_URL, AT(scan.profile_info_url), NULL, 0, 0},
        {SCAN, "PROFILE_DIR_URL", VALUE_URL, AT(scan.profile_dir_url), NULL, 0, 0},
        {SCAN, "PROFILE_MATCH", VALUE_STRING, AT(scan.profile_match), "", 0, 0},
        {SCAN, "CACHE_DIR", VALUE_PATH, AT(scan.cache_dir), NULL, 0, 0},
        {SCAN, "FIRST_RUN", VALUE_FIRST_RUN, AT(scan.first_run), "record", 0, 0},
        {SCAN, "IGNORE_PATHS", VALUE_PROFILE_PATHS, AT(scan.ignore_paths), "+", 0, 0},
        {SCAN, "PARALLEL", VALUE_UNSIGNED, AT(scan.parallel), "8", 1, 256},
        {SCAN, "MAX_PROFILE_BYTES", VALUE_BYTES, AT(scan.max_profile_bytes), "64M", KIB, GIB},
        {SCAN, "MAX_INDEX_BYTES", VALUE_BYTES, AT(scan.max_index_bytes), "256M", KIB, GIB},
        {SCAN, "POLL_SECONDS", VALUE_SECONDS, AT(scan.poll_seconds), "3600", 0, YEAR},
        {SCAN, "CDP_LISTEN", VALUE_ENDPOINT, AT(scan.cdp_listen), "0.0.0.0:7777", 0, 0},
        {SCAN, "CDP_ALLOW", VALUE_ADDRESSES, AT(scan.cdp_allow), NULL, 0, 0},
        {SCAN, "HTTP_TIMEOUT", VALUE_SECONDS, AT(scan.http_timeout_seconds), "60s", 1, DAY},

        {BUILD, "THREAD_COUNT", VALUE_UNSIGNED, AT(build.slots), "4", 1, 256},
        {BUILD, "LOG_DIR", VALUE_PATH, AT(build.log_dir), "/var/log/packuilon", 0, 0},
        {BUILD, "BUILD_FILE_DIR", VALUE_PATH, AT(build.build_file_dir), NULL, 0, 0},
        {BUILD, "PACKER_AUTH_FILE", VALUE_PATH, AT(build.auth_file), NULL, 0, 0},
        {BUILD, "PACKER_TEMPLATE_MAP", VALUE_PATH, AT(build.template_map), NULL, 0, 0},
        {BUILD, "PACKER_TEMPLATE", VALUE_PATH, AT(build.template_file), NULL, 0, 0},
        {BUILD, "IMAGES_CONFIG", VALUE_PATH, AT(build.images_config), NULL, 0, 0},
        {BUILD, "PACKER_PATH", VALUE_PROGRAM, AT(build.packer_path), "packer", 0, 0},
        {BUILD, "IMAGE_NAME", VALUE_IMAGE_NAME, AT(build.image_name), "${personality}-${os}", 0, 0},
        {BUILD, "BUILD_TIMEOUT", VALUE_SECONDS, AT(build.build_timeout_seconds), "4h", 1, 30 * DAY},
        {BUILD, "STOP_GRACE", VALUE_SECONDS, AT(build.stop_grace_seconds), "10m", 0, DAY},
        {BUILD, "MAX_ATTEMPTS", VALUE_NUMBER, AT(build.max_attempts), "3", 1, 100},
        {BUILD, "RETRY_SECONDS", VALUE_SECONDS, AT(build.retry_seconds), "60", 0, 30 * DAY},
        {BUILD, "BREAKER_FAILURES", VALUE_NUMBER, AT(build.breaker_failures), "5", 1, 1000},
        {BUILD, "LEASE", VALUE_SECONDS, AT(build.lease_seconds), "30m", 1, 14 * DAY},
        {BUILD, "LOG_KEEP_DAYS", VALUE_NUMBER, AT(build.log_keep_days), "90", 0, 36500},
        {BUILD, "MAX_LOG_BYTES", VALUE_BYTES, AT(build.max_log_bytes), "64M", KIB, 64 * GIB},
        {BUILD, "AQ_STATUS_SECONDS", VALUE_SECONDS, AT(build.status_seconds), "15", 0, DAY},
        {BUILD, "ADMIN_AUTH_FILE", VALUE_UNREAD, 0, NULL, 0, 0},
        {BUILD, "PACKER_ADMIN_AUTH", VALUE_UNREAD, 0, NULL, 0, 0},
        {BUILD, "PACKER_ADMIN_AUTH_FILE", VALUE_UNREAD, 0, NULL, 0, 0},

        {AQUILON, "QUEUE", VALUE_QUEUE, AT(aquilon.queue), "ral.info", 0, 0},
        {AQUILON, "EXCHANGE", VALUE_STRING, AT(aquilon.exchange), "nova", 0, 0},
        {AQUILON, "ROUTING_KEY", VALUE_STRING, AT(aquilon.routing_key), NULL, 0, 0},
        {AQUILON, "DURABLE", VALUE_BOOL, AT(aquilon.durable), "no", 0, 0},
        {AQUILON, "RABBIT_HOST", VALUE_STRING, AT(aquilon.rabbit_host), NULL, 0, 0},
        {AQUILON, "RABBIT_PORT", VALUE_PORT, AT(aquilon.rabbit_port), NULL, 1, UINT16_MAX},
        {AQUILON, "RABBIT_USER", VALUE_STRING, AT(aquilon.rabbit_user), NULL, 0, 0},
        {AQUILON, "RABBIT_PW", VALUE_STRING, AT(aquilon.rabbit_pw), NULL, 0, 0},
        {AQUILON, "RABBIT_PW_FILE", VALUE_FIRST_LINE, AT(aquilon.rabbit_pw), NULL, 0, 0},
        {AQUILON, "RABBIT_VHOST", VALUE_STRING, AT(aquilon.rabbit_vhost), NULL, 0, 0},
        {AQUILON, "RABBIT_TLS", VALUE_BOOL, AT(aquilon.rabbit_tls), NULL, 0, 0},
        {AQUILON, "RABBIT_TLS_CA", VALUE_PATH, AT(aquilon.rabbit_tls_ca), NULL, 0, 0},
        {AQUILON, "AQ_SOURCE", VALUE_SOURCE, AT(aquilon.source), "both", 0, 0},
        {AQUILON, "NETWORKS", VALUE_WORDS, AT(aquilon.networks), NULL, 0, 0},
        {AQUILON, "HOST_NAME", VALUE_HOST_NAME, AT(aquilon.host_name), "dns", 0, 0},
        {AQUILON, "DNS_SERVERS", VALUE_STRING, AT(aquilon.dns_servers), NULL, 0, 0},
        {AQUILON, "AQ_URL", VALUE_HOOK, AT(aquilon.url), NULL, 0, 0},
        {AQUILON, "AQ_AUTH", VALUE_AUTH, AT(aquilon.auth), "negotiate", 0, 0},
        {AQUILON, "AQ_USER", VALUE_STRING, AT(aquilon.user), NULL, 0, 0},
        {AQUILON, "AQ_PW_FILE", VALUE_FIRST_LINE, AT(aquilon.password), NULL, 0, 0},
        {AQUILON, "AQ_TOKEN_FILE", VALUE_FIRST_LINE, AT(aquilon.token), NULL, 0, 0},
        {AQUILON, "AQ_TLS_CA", VALUE_PATH, AT(aquilon.tls_ca), NULL, 0, 0},
        {AQUILON, "KRB5_KEYTAB", VALUE_PATH, AT(aquilon.keytab), NULL, 0, 0},
        {AQUILON, "KRB5_CCACHE", VALUE_STRING, AT(aquilon.ccache), NULL, 0, 0},
        {AQUILON, "AQ_PREFIX", VALUE_STRING, AT(aquilon.prefix), "vm-openstack-", 0, 0},
        {AQUILON, "AQ_MODEL", VALUE_STRING, AT(aquilon.model), "vm-openstack", 0, 0},
        {AQUILON, "MAKE_MUST_SUCCEED", VALUE_BOOL, AT(aquilon.make_must_succeed), "yes", 0, 0},
        {AQUILON, "NOVA_AUTH_FILE", VALUE_PATH, AT(aquilon.auth_file), NULL, 0, 0},
        {AQUILON, "PARALLEL", VALUE_UNSIGNED, AT(aquilon.parallel), "8", 1, 256},
        {AQUILON, "HTTP_TIMEOUT", VALUE_SECONDS, AT(aquilon.http_timeout_seconds), "5m", 1, DAY},
        {AQUILON, "RETRY_SECONDS", VALUE_SECONDS, AT(aquilon.retry_seconds), "1", 1, DAY},
        {AQUILON, "RETRY_FOR", VALUE_SECONDS, AT(aquilon.retry_for_seconds), "1h", 0, 30 * DAY},
        {AQUILON, "KEEP_DAYS", VALUE_NUMBER, AT(aquilon.keep_days), "90", 0, 36500},
};
// clang-format on

const size_t n_config_keys = ELEMENTSOF(config_keys);

// Names and places of upstream's first years.
static const struct {
        const char *section, *name;
        const char *now_section, *now_name;
} aliases[] = {
        {GLOBAL, "QUEUE_HOST", GLOBAL, "RABBIT_HOST"},
        {SCAN, "QUEUE_HOST", GLOBAL, "RABBIT_HOST"},
        {BUILD, "QUEUE_HOST", GLOBAL, "RABBIT_HOST"},
        {SCAN, "QUEUE", GLOBAL, "QUEUE"},
        {BUILD, "QUEUE", GLOBAL, "QUEUE"},
        {BUILD, "OS_AUTH_FILE", BUILD, "PACKER_AUTH_FILE"},
};

static const ConfigKey *find_current(const char *section, const char *name)
{
        for (size_t i = 0; i < n_config_keys; i++) {
                if (strcmp(config_keys[i].section, section) == 0 &&
                    strcasecmp(config_keys[i].name, name) == 0)
                        return &config_keys[i];
        }
        return NULL;
}

const ConfigKey *config_key_find(const char *section, const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(aliases); i++) {
                if (strcmp(aliases[i].section, section) == 0 &&
                    strcasecmp(aliases[i].name, name) == 0)
                        return find_current(aliases[i].now_section, aliases[i].now_name);
        }
        return find_current(section, name);
}

bool config_section_is_known(const char *section)
{
        return strcmp(section, GLOBAL) == 0 || strcmp(section, SCAN) == 0 ||
               strcmp(section, BUILD) == 0 || strcmp(section, AQUILON) == 0;
}

static int set_string(char **field, char *take_text)
{
        free(*field);
        *field = take_text;
        return 0;
}

static int set_list(char ***field, char **take_list)
{
        strv_free(*field);
        *field = take_list;
        return 0;
}

// A relative path starts where the configuration file is, not where the program was started.
static char *beside_config(const Config *config, const char *path)
{
        const char *slash = strrchr(config->path, '/');
        _cleanup_free_ char *folder = NULL;

        if (*path == '/' || !slash)
                return xstrdup(path);
        folder = xstrndup(config->path, (size_t)(slash - config->path) + 1);
        return fs_join(folder, path);
}

static int set_first_line(char **field, const Config *config, const char *text, Error *err)
{
        _cleanup_free_ char *path = beside_config(config, text);
        _cleanup_buf_ Buf content = BUF_INIT(SECRET_FILE_MAX);
        int r = fs_read_file(path, &content, err);
        size_t len;

        if (r < 0)
                return r;
        len = strcspn(buf_str(&content), "\r\n");
        if (len == 0)
                return error_set(err, EINVAL, "%s has nothing in its first line", path);
        if (!str_is_utf8(buf_str(&content), len) || str_has_control(buf_str(&content), len))
                return error_set(err, EINVAL, "the first line of %s is not plain text", path);
        return set_string(field, xstrndup(buf_str(&content), len));
}

static int set_queue(char **field, const char *text, Error *err)
{
        if (strlen(text) > QUEUE_NAME_MAX)
                return error_set(err, EINVAL, "is longer than %d bytes", QUEUE_NAME_MAX);
        if (str_starts_with(text, "amq."))
                return error_set(err, EINVAL,
                                 "names that start with \"amq.\" belong to the broker");
        return set_string(field, xstrdup(text));
}

// The scheme must be right and something must follow; libcurl judges the rest.
static int set_url(char **field, const char *text, bool allow_file, Error *err)
{
        static const char *const schemes[] = {"http://", "https://", "file:///"};
        size_t n_schemes = ELEMENTSOF(schemes) - (allow_file ? 0 : 1);

        for (size_t i = 0; i < n_schemes; i++) {
                size_t len = strlen(schemes[i]);

                if (strncasecmp(text, schemes[i], len) == 0 && text[len] != '\0' &&
                    !strchr(text, ' '))
                        return set_string(field, xstrdup(text));
        }
        // Not shown: it may hold a password.
        return error_set(err, EINVAL, "is not a URL that starts with http://%s",
                         allow_file ? ", https:// or file:///" : " or https://");
}

static int set_image_name(char **field, const char *text, Error *err)
{
        char x[] = "x";
        const Identity full = {
                .personality = x, .archetype = x, .hostname = x, .domain = x, .sandbox = x};
        _cleanup_free_ char *expanded = NULL;
        int r = identity_image_name(&full, text, x, &expanded, err);

        return r < 0 ? r : set_string(field, xstrdup(text));
}

static bool is_address(const char *text)
{
        struct in6_addr ignored;

        return inet_pton(AF_INET, text, &ignored) == 1 || inet_pton(AF_INET6, text, &ignored) == 1;
}

// 192.0.2.1:7777 or [2001:db8::1]:7777; port 0 is any that is free.
static int set_endpoint(char **field, const char *text, Error *err)
{
        _cleanup_free_ char *address = xstrdup(text), *shown = NULL;
        char *colon = strrchr(address, ':'), *host = address;
        int64_t port;

        if (colon) {
                *colon = '\0';
                if (*host == '[' && colon[-1] == ']') {
                        colon[-1] = '\0';
                        host++;
                }
                if (is_address(host) && (host > address) == (strchr(host, ':') != NULL) &&
                    str_parse_int(colon + 1, 0, UINT16_MAX, &port, NULL) == 0)
                        return set_string(field, xstrdup(text));
        }
        shown = str_visible(text, strlen(text), SHOWN_MAX);
        return error_set(err, EINVAL,
                         "\"%s\" is not ADDRESS:PORT, such as 0.0.0.0:7777 or [::]:7777", shown);
}

static int set_addresses(char ***field, const char *text, Error *err)
{
        _cleanup_strv_ char **list = strv_split(text, LIST_SEPARATORS);

        STRV_FOREACH (item, list) {
                _cleanup_free_ char *shown = NULL;

                if (is_address(*item))
                        continue;
                shown = str_visible(*item, strlen(*item), SHOWN_MAX);
                return error_set(err, EINVAL, "\"%s\" is not an IP address", shown);
        }
        return set_list(field, TAKE_PTR(list));
}

// A list replaces the built-in one; with "+" in front it adds to it.
static int set_profile_paths(char ***field, const char *text, Error *err)
{
        bool add = *text == '+';
        _cleanup_strv_ char **given = strv_split(text + (add ? 1 : 0), LIST_SEPARATORS);
        _cleanup_profile_paths_ ProfilePaths *paths = NULL;
        size_t n_given = strv_count(given), n = 0;
        _cleanup_strv_ char **list = NULL;
        int r;

        while (add && profile_default_ignore_paths[n])
                n++;
        list = xcalloc(n + n_given + 1, sizeof *list);
        for (size_t i = 0; i < n; i++)
                list[i] = xstrdup(profile_default_ignore_paths[i]);
        for (size_t i = 0; i < n_given; i++)
                list[n + i] = TAKE_PTR(given[i]);
        r = profile_paths_new(list, &paths, err);
        return r < 0 ? r : set_list(field, TAKE_PTR(list));
}

static int set_host_name(char **field, const char *text, Error *err)
{
        static const HostNameValues sample = {.address = "x", .name = "x", .server = "x"};
        _cleanup_free_ char *expanded = NULL;
        int r = strcmp(text, HOST_NAME_FROM_DNS) == 0
                        ? 0
                        : host_name_expand(text, &sample, &expanded, err);

        return r < 0 ? r : set_string(field, xstrdup(text));
}

// The words of a type, in the order of its enum.
static const char *const *words_of(ValueType type)
{
        static const char *const transports[] = {
                [TRANSPORT_LOCAL] = "local", [TRANSPORT_AMQP] = "amqp", NULL};
        static const char *const first_runs[] = {
                [FIRST_RUN_RECORD] = "record", [FIRST_RUN_BUILD] = "build", NULL};
        static const char *const sources[] = {[AQUILON_SOURCE_METADATA] = "metadata",
                                              [AQUILON_SOURCE_IMAGE] = "image",
                                              [AQUILON_SOURCE_BOTH] = "both",
                                              NULL};
        static const char *const auths[] = {[AQUILON_AUTH_NEGOTIATE] = "negotiate",
                                            [AQUILON_AUTH_BASIC] = "basic",
                                            [AQUILON_AUTH_BEARER] = "bearer",
                                            [AQUILON_AUTH_NONE] = "none",
                                            NULL};

        return type == VALUE_TRANSPORT   ? transports
               : type == VALUE_FIRST_RUN ? first_runs
               : type == VALUE_SOURCE    ? sources
                                         : auths;
}

static int refuse_word(const char *const words[], const char *text, Error *err)
{
        _cleanup_free_ char *shown = str_visible(text, strlen(text), SHOWN_MAX);
        _cleanup_free_ char *known = xstrdup(words[0]);

        if (!words[2])
                return error_set(err, EINVAL, "\"%s\" is neither %s nor %s", shown, words[0],
                                 words[1]);
        for (size_t i = 1; words[i]; i++) {
                char *longer = xasprintf("%s%s%s", known, words[i + 1] ? ", " : " or ", words[i]);

                free(known);
                known = longer;
        }
        return error_set(err, EINVAL, "\"%s\" is not %s", shown, known);
}

static int set_word(const ConfigKey *key, void *field, const char *text, Error *err)
{
        const char *const *words = words_of(key->type);
        int word = 0;

        while (words[word] && strcasecmp(text, words[word]) != 0)
                word++;
        if (!words[word])
                return refuse_word(words, text, err);
        if (key->type == VALUE_TRANSPORT)
                *(Transport *)field = (Transport)word;
        else if (key->type == VALUE_FIRST_RUN)
                *(FirstRun *)field = (FirstRun)word;
        else if (key->type == VALUE_SOURCE)
                *(AquilonSource *)field = (AquilonSource)word;
        else
                *(AquilonAuth *)field = (AquilonAuth)word;
        return 0;
}

static int set_number(const ConfigKey *key, void *field, const char *text, Error *err)
{
        int64_t value;
        int r;

        if (key->type == VALUE_BYTES)
                r = str_parse_size(text, key->min, key->max, &value, err);
        else if (key->type == VALUE_SECONDS)
                r = str_parse_seconds(text, key->min, key->max, &value, err);
        else
                r = str_parse_int(text, key->min, key->max, &value, err);
        if (r < 0)
                return r;
        // The limits of the table are those of the types or less.
        if (key->type == VALUE_PORT)
                *(uint16_t *)field = (uint16_t)value;
        else if (key->type == VALUE_UNSIGNED)
                *(unsigned *)field = (unsigned)value;
        else if (key->type == VALUE_BYTES)
                *(size_t *)field = (size_t)value;
        else
                *(int64_t *)field = value;
        return 0;
}

static bool is_list(const ConfigKey *key)
{
        return key->type == VALUE_ADDRESSES || key->type == VALUE_PROFILE_PATHS ||
               key->type == VALUE_WORDS;
}

int config_key_set(const ConfigKey *key, Config *config, const char *text, Error *err)
{
        void *field = (char *)config + key->offset;

        if (!is_list(key) && str_has_control(text, strlen(text)))
                return error_set(err, EINVAL, "more than one line, or a control character");
        switch (key->type) {
        case VALUE_UNREAD:
                return 0;
        case VALUE_STRING:
                return set_string(field, xstrdup(text));
        case VALUE_FIRST_LINE:
                return set_first_line(field, config, text, err);
        case VALUE_QUEUE:
                return set_queue(field, text, err);
        case VALUE_PATH:
                return set_string(field, beside_config(config, text));
        case VALUE_PROGRAM:
                return set_string(field,
                                  strchr(text, '/') ? beside_config(config, text) : xstrdup(text));
        case VALUE_URL:
        case VALUE_HOOK:
                return set_url(field, text, key->type == VALUE_URL, err);
        case VALUE_IMAGE_NAME:
                return set_image_name(field, text, err);
        case VALUE_ENDPOINT:
                return set_endpoint(field, text, err);
        case VALUE_ADDRESSES:
                return set_addresses(field, text, err);
        case VALUE_PROFILE_PATHS:
                return set_profile_paths(field, text, err);
        case VALUE_WORDS:
                return set_list(field, strv_split(text, LIST_SEPARATORS));
        case VALUE_HOST_NAME:
                return set_host_name(field, text, err);
        case VALUE_TRANSPORT:
        case VALUE_FIRST_RUN:
        case VALUE_SOURCE:
        case VALUE_AUTH:
                return set_word(key, field, text, err);
        case VALUE_BOOL:
                return str_parse_bool(text, field, err);
        case VALUE_PORT:
        case VALUE_UNSIGNED:
        case VALUE_BYTES:
        case VALUE_NUMBER:
        case VALUE_SECONDS:
                break;
        }
        return set_number(key, field, text, err);
}

void config_key_clear(const ConfigKey *key, Config *config)
{
        void *field = (char *)config + key->offset;

        switch (key->type) {
        case VALUE_STRING:
        case VALUE_FIRST_LINE:
        case VALUE_QUEUE:
        case VALUE_PATH:
        case VALUE_PROGRAM:
        case VALUE_URL:
        case VALUE_HOOK:
        case VALUE_IMAGE_NAME:
        case VALUE_ENDPOINT:
        case VALUE_HOST_NAME:
                (void)set_string(field, NULL);
                break;
        case VALUE_ADDRESSES:
        case VALUE_WORDS:
        case VALUE_PROFILE_PATHS:
                (void)set_list(field, NULL);
                break;
        case VALUE_UNREAD:
        case VALUE_TRANSPORT:
        case VALUE_FIRST_RUN:
        case VALUE_SOURCE:
        case VALUE_AUTH:
        case VALUE_BOOL:
        case VALUE_PORT:
        case VALUE_UNSIGNED:
        case VALUE_BYTES:
        case VALUE_NUMBER:
        case VALUE_SECONDS:
                break;
        }
}
