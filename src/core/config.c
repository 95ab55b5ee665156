#include "core/config.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/config_keys.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/fs.h"
#include "util/ini.h"
#include "util/strutil.h"

#define FILE_MAX ((size_t)1024 * 1024)
#define PORT_AMQP 5672
#define PORT_AMQPS 5671
#define SHOWN_MAX 60
#define KEY_NAME_MAX 64

typedef struct Loader {
        Config *config;
        unsigned *lines; // of each key of the table: where it is given, 0: nowhere
        size_t n_warnings;
        Error *err;
} Loader;

static void warn(Loader *loader, unsigned line, const char *fmt, ...) printf_like(3, 4);

static void warn(Loader *loader, unsigned line, const char *fmt, ...)
{
        char ***warnings = &loader->config->warnings;
        _cleanup_free_ char *text = NULL;
        va_list args;

        va_start(args, fmt);
        text = xvasprintf(fmt, args);
        va_end(args);
        *warnings = xreallocarray(*warnings, loader->n_warnings + 2, sizeof **warnings);
        (*warnings)[loader->n_warnings++] =
                xasprintf("%s:%u: %s", loader->config->path, line, text);
        (*warnings)[loader->n_warnings] = NULL;
}

// The place of a key for messages. The caller frees.
static char *place(const Loader *loader, unsigned line, const ConfigKey *key)
{
        return xasprintf("%s:%u: [%s] %s", loader->config->path, line, key->section, key->name);
}

static unsigned line_of(const Loader *loader, const char *section, const char *name)
{
        return loader->lines[config_key_find(section, name) - config_keys];
}

static size_t min3(size_t a, size_t b, size_t c)
{
        return MIN(a, MIN(b, c));
}

static char upper(char c)
{
        return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

// Levenshtein's distance of a key as given (lower case) to the name of one (upper case).
static size_t distance(const char *given, const char *name)
{
        size_t row[KEY_NAME_MAX + 1], name_len = strlen(name);

        for (size_t j = 0; j <= name_len; j++)
                row[j] = j;
        for (size_t i = 0; given[i]; i++) {
                size_t diagonal = row[0];

                row[0] = i + 1;
                for (size_t j = 0; j < name_len; j++) {
                        size_t change = diagonal + (upper(given[i]) == name[j] ? 0 : 1);

                        diagonal = row[j + 1];
                        row[j + 1] = min3(change, row[j] + 1, row[j + 1] + 1);
                }
        }
        return row[name_len];
}

static const ConfigKey *nearest_key(const char *section, const char *given)
{
        const size_t far = 3; // more slips than that are another word
        const ConfigKey *nearest = NULL;
        size_t best = far;

        if (strlen(given) > KEY_NAME_MAX)
                return NULL;
        for (size_t i = 0; i < n_config_keys; i++) {
                size_t slips;

                if (config_keys[i].type == VALUE_UNREAD ||
                    strcmp(config_keys[i].section, section) != 0)
                        continue;
                slips = distance(given, config_keys[i].name);
                if (slips < best) {
                        best = slips;
                        nearest = &config_keys[i];
                }
        }
        return nearest;
}

static const ConfigKey *same_key_elsewhere(const char *given)
{
        for (size_t i = 0; i < n_config_keys; i++) {
                if (strcasecmp(config_keys[i].name, given) == 0)
                        return &config_keys[i];
        }
        return NULL;
}

static void warn_unknown_key(Loader *loader, const IniEntry *entry)
{
        _cleanup_free_ char *shown = str_visible(entry->key, strlen(entry->key), SHOWN_MAX);
        const ConfigKey *elsewhere = same_key_elsewhere(entry->key);
        const ConfigKey *nearest = nearest_key(entry->section, entry->key);

        for (char *at = shown; *at; at++)
                *at = upper(*at);
        if (elsewhere)
                warn(loader, entry->line, "[%s] %s: not read here; it belongs into [%s]",
                     entry->section, shown, elsewhere->section);
        else if (nearest)
                warn(loader, entry->line, "[%s] %s: no such key; is %s meant?", entry->section,
                     shown, nearest->name);
        else
                warn(loader, entry->line, "[%s] %s: no such key", entry->section, shown);
}

// Keys of [DEFAULT] may serve references only, so an unknown one there is no mistake.
static void warn_unknown(Loader *loader, const IniEntry *entry, const IniEntry *previous)
{
        bool new_section = !previous || strcmp(previous->section, entry->section) != 0;

        if (config_section_is_known(entry->section)) {
                if (!entry->from_default)
                        warn_unknown_key(loader, entry);
        } else if (new_section) {
                _cleanup_free_ char *shown =
                        str_visible(entry->section, strlen(entry->section), SHOWN_MAX);

                warn(loader, entry->line, "[%s]: no such section; its keys are not read", shown);
        }
}

// Two spellings of one key, an older and today's, may both be there if they agree.
static int check_repeated(Loader *loader, const ConfigKey *key, const IniEntry *entry,
                          const Ini *ini)
{
        unsigned first = loader->lines[key - config_keys];

        for (size_t i = 0; i < ini->n_entries; i++) {
                const IniEntry *other = &ini->entries[i];

                if (other->line == first && config_key_find(other->section, other->key) == key &&
                    strcmp(other->value, entry->value) == 0)
                        return 0;
        }
        return error_set(loader->err, EINVAL, "%s:%u: [%s] %s: line %u says otherwise",
                         loader->config->path, entry->line, key->section, key->name, first);
}

static int apply_entry(Loader *loader, const Ini *ini, size_t at)
{
        const IniEntry *entry = &ini->entries[at];
        const ConfigKey *key = config_key_find(entry->section, entry->key);
        _cleanup_free_ char *where = NULL;
        int r;

        if (!key) {
                warn_unknown(loader, entry, at > 0 ? entry - 1 : NULL);
                return 0;
        }
        // Without a value: as if it were not there. An empty list is one, though.
        if (*entry->value == '\0' && key->type != VALUE_PROFILE_PATHS)
                return 0;
        // [DEFAULT] reaches a key in its own section, not also by the older places.
        if (entry->from_default && strcmp(key->section, entry->section) != 0)
                return 0;
        if (loader->lines[key - config_keys] != 0)
                return check_repeated(loader, key, entry, ini);
        loader->lines[key - config_keys] = entry->line;
        r = config_key_set(key, loader->config, entry->value, loader->err);
        if (r < 0) {
                where = place(loader, entry->line, key);
                return error_prefix(loader->err, "%s", where);
        }
        return 0;
}

static int apply_fallbacks(Loader *loader)
{
        for (size_t i = 0; i < n_config_keys; i++) {
                const ConfigKey *key = &config_keys[i];
                int r;

                if (loader->lines[i] != 0 || !key->fallback)
                        continue;
                r = config_key_set(key, loader->config, key->fallback, loader->err);
                if (r < 0)
                        return error_prefix(loader->err, "built-in default of [%s] %s",
                                            key->section, key->name);
        }
        return 0;
}

static int refuse_two(const Loader *loader, const char *section, const char *name,
                      const char *other)
{
        return error_set(loader->err, EINVAL,
                         "%s:%u: [%s] %s: there is a %s too, in line %u; keep one",
                         loader->config->path, line_of(loader, section, name), section, name, other,
                         line_of(loader, section, other));
}

// Defaults and rules that hang on other keys.
static int finish_global(Loader *loader)
{
        GlobalConfig *global = &loader->config->global;
        unsigned transport = line_of(loader, "global", "TRANSPORT");
        unsigned pw_file = line_of(loader, "global", "RABBIT_PW_FILE");

        if (pw_file != 0 && line_of(loader, "global", "RABBIT_PW") != 0)
                return refuse_two(loader, "global", "RABBIT_PW_FILE", "RABBIT_PW");
        if (transport == 0)
                global->transport = global->rabbit_host ? TRANSPORT_AMQP : TRANSPORT_LOCAL;
        if (global->transport == TRANSPORT_AMQP && !global->rabbit_host)
                return error_set(loader->err, EINVAL,
                                 "%s:%u: [global] TRANSPORT: amqp needs a RABBIT_HOST",
                                 loader->config->path, transport);
        if (global->transport == TRANSPORT_LOCAL)
                replace_string(&global->rabbit_host, NULL);
        if (line_of(loader, "global", "RABBIT_TLS") == 0)
                global->rabbit_tls = global->rabbit_tls_ca != NULL;
        if (global->rabbit_port == 0)
                global->rabbit_port = global->rabbit_tls ? PORT_AMQPS : PORT_AMQP;
        if (!global->rabbit_pw)
                global->rabbit_pw = xstrdup(CONFIG_DEFAULT_PASSWORD);
        return 0;
}

static void inherit(char **field, const char *from)
{
        if (!*field)
                *field = xstrdup(from);
}

// Nova's RabbitMQ is that of [global] unless another is named; then only the login is the same.
static int finish_aquilon(Loader *loader, const char *section)
{
        const GlobalConfig *global = &loader->config->global;
        AquilonConfig *aquilon = &loader->config->aquilon;

        if (line_of(loader, section, "RABBIT_PW_FILE") && line_of(loader, section, "RABBIT_PW"))
                return refuse_two(loader, section, "RABBIT_PW_FILE", "RABBIT_PW");
        if (!aquilon->rabbit_host) {
                aquilon->rabbit_host = xstrdup(global->rabbit_host);
                inherit(&aquilon->rabbit_tls_ca, global->rabbit_tls_ca);
                if (!line_of(loader, section, "RABBIT_TLS"))
                        aquilon->rabbit_tls = global->rabbit_tls;
                if (!aquilon->rabbit_port)
                        aquilon->rabbit_port = global->rabbit_port;
        } else if (!line_of(loader, section, "RABBIT_TLS")) {
                aquilon->rabbit_tls = aquilon->rabbit_tls_ca != NULL;
        }
        if (!aquilon->rabbit_port)
                aquilon->rabbit_port = aquilon->rabbit_tls ? PORT_AMQPS : PORT_AMQP;
        inherit(&aquilon->rabbit_user, global->rabbit_user);
        inherit(&aquilon->rabbit_pw, global->rabbit_pw);
        inherit(&aquilon->rabbit_vhost, global->rabbit_vhost);
        inherit(&aquilon->routing_key, aquilon->queue);
        return 0;
}

static void trim_slashes(char *url)
{
        for (size_t len = strlen(url); len > 0 && url[len - 1] == '/'; len--)
                url[len - 1] = '\0';
}

static void finish_folders(Config *config)
{
        if (config->scan.profile_dir_url)
                trim_slashes(config->scan.profile_dir_url);
        if (config->aquilon.url)
                trim_slashes(config->aquilon.url);
        if (!config->scan.cache_dir)
                config->scan.cache_dir = fs_join(config->global.state_dir, "profiles");
        if (!config->build.build_file_dir)
                config->build.build_file_dir = fs_join(config->global.state_dir, "build-files");
}

static int load(Loader *loader, const char *text, size_t len)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};
        int r = ini_parse(loader->config->path, text, len, &ini, loader->err);

        for (size_t i = 0; i < ini.n_entries && r >= 0; i++)
                r = apply_entry(loader, &ini, i);
        if (r == 0)
                r = apply_fallbacks(loader);
        if (r == 0)
                r = finish_global(loader);
        if (r == 0)
                r = finish_aquilon(loader, "nova2aquilon");
        if (r == 0)
                finish_folders(loader->config);
        return r;
}

// Of a file that everybody may read, if it holds the password itself.
static void warn_if_public(Loader *loader, mode_t mode)
{
        static const char *const sections[] = {"global", "nova2aquilon"};

        for (size_t at = 0; at < ELEMENTSOF(sections); at++) {
                unsigned line = line_of(loader, sections[at], "RABBIT_PW");

                if (line != 0 && (mode & S_IROTH))
                        warn(loader, line,
                             "[%s] RABBIT_PW: everybody can read this file; chmod o-r it, or use "
                             "RABBIT_PW_FILE",
                             sections[at]);
        }
}

static int parse(const char *path, const char *text, size_t len, mode_t mode, Config **ret,
                 Error *err)
{
        _cleanup_config_ Config *config = xcalloc(1, sizeof *config);
        _cleanup_free_ unsigned *lines = xcalloc(n_config_keys, sizeof *lines);
        Loader loader = {.config = config, .lines = lines, .err = err};
        int r;

        config->path = xstrdup(path);
        r = load(&loader, text, len);
        if (r < 0)
                return r;
        warn_if_public(&loader, mode);
        *ret = TAKE_PTR(config);
        return 0;
}

int config_parse(const char *path, const char *text, size_t len, Config **ret, Error *err)
{
        return parse(path, text, len, 0, ret, err);
}

int config_load(const char *path, Config **ret, Error *err)
{
        _cleanup_buf_ Buf text = BUF_INIT(FILE_MAX);
        int r = fs_read_file(path, &text, err);
        struct stat st;

        if (r < 0)
                return error_prefix(err, "configuration");
        if (stat(path, &st) < 0)
                return error_sys(err, "configuration: cannot read %s", path);
        return parse(path, buf_str(&text), text.len, st.st_mode, ret, err);
}

static int require(const Config *config, bool given, const char *section, const char *names,
                   Error *err)
{
        if (given)
                return 0;
        return error_set(err, EINVAL, "%s: [%s] %s is not set, and %s needs it", config->path,
                         section, names, section);
}

int config_require_scan(const Config *config, Error *err)
{
        int r = require(config, config->scan.profile_info_url != NULL, "cdb2rabbit",
                        "PROFILE_INFO_URL", err);

        if (r == 0)
                r = require(config, config->scan.profile_dir_url != NULL, "cdb2rabbit",
                            "PROFILE_DIR_URL", err);
        return r;
}

int config_require_build(const Config *config, Error *err)
{
        int r = require(config, config->build.template_map || config->build.template_file,
                        "rabbit2packer", "PACKER_TEMPLATE_MAP", err);

        if (r == 0)
                r = require(config, config->build.images_config != NULL, "rabbit2packer",
                            "IMAGES_CONFIG", err);
        return r;
}

int config_require_aquilon(const Config *config, Error *err)
{
        const AquilonConfig *aquilon = &config->aquilon;
        const char *section = "nova2aquilon";
        int r = require(config, aquilon->url != NULL, section, "AQ_URL", err);

        if (r == 0)
                r = require(config, aquilon->rabbit_host != NULL, section, "RABBIT_HOST", err);
        if (r == 0 && aquilon->auth == AQUILON_AUTH_BASIC)
                r = require(config, aquilon->user && aquilon->password, section,
                            "AQ_USER or AQ_PW_FILE", err);
        if (r == 0 && aquilon->auth == AQUILON_AUTH_BEARER)
                r = require(config, aquilon->token != NULL, section, "AQ_TOKEN_FILE", err);
        return r;
}

void config_free(Config *config)
{
        for (size_t i = 0; i < n_config_keys; i++)
                config_key_clear(&config_keys[i], config);
        strv_free(config->warnings);
        free(config->path);
        free(config);
}
