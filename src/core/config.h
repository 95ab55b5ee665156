// The configuration file (design: packuilon-config(5)): upstream's config.ini, plus our keys.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define CONFIG_DEFAULT_PATH "/etc/packer-utils/config.ini"
#define CONFIG_DEFAULT_PASSWORD "guest" // RabbitMQ's own, for connections from its own host

typedef enum Transport {
        TRANSPORT_LOCAL, // a table in STATE_DIR
        TRANSPORT_AMQP,  // RabbitMQ
} Transport;

typedef enum FirstRun {
        FIRST_RUN_RECORD, // profiles seen on the very first scan are the baseline
        FIRST_RUN_BUILD,  // … are built
} FirstRun;

typedef struct GlobalConfig {
        char *queue;
        Transport transport;
        char *rabbit_host; // NULL with the local transport
        uint16_t rabbit_port;
        char *rabbit_user;
        char *rabbit_pw;    // RABBIT_PW, or the first line of RABBIT_PW_FILE
        char *rabbit_vhost; // "/" by default
        bool rabbit_tls;
        char *rabbit_tls_ca; // NULL: the system's
        char *state_dir;
        char *success_address; // NULL: none; also the two below
        char *failure_address;
        char *slack_success_hook;
} GlobalConfig;

typedef struct ScanConfig {
        char *profile_info_url; // NULL: not given; config_require_scan says so
        char *profile_dir_url;  // without trailing slash
        char *profile_match;    // "" matches every profile
        char *cache_dir;
        FirstRun first_run;
        char **ignore_paths; // list, validated by profile_paths_new
        unsigned parallel;
        size_t max_profile_bytes;
        size_t max_index_bytes;
        int64_t poll_seconds; // 0: no polling
        char *cdp_listen;     // "ADDRESS:PORT"
        char **cdp_allow;     // addresses; NULL or empty: anybody
        int64_t http_timeout_seconds;
} ScanConfig;

typedef struct BuildConfig {
        unsigned slots; // THREAD_COUNT
        char *log_dir;
        char *build_file_dir;
        char *auth_file;     // NULL: Packer gets no OpenStack credentials from us
        char *template_map;  // NULL when only PACKER_TEMPLATE is given
        char *template_file; // PACKER_TEMPLATE of the oldest files: the template of every image
        char *images_config;
        char *packer_path;
        char *image_name; // IMAGE_NAME, e.g. "${personality}-${os}"
        int64_t build_timeout_seconds;
        int64_t stop_grace_seconds;
        int64_t max_attempts;
        int64_t retry_seconds;
        int64_t breaker_failures; // failures alike in a row after which an image is left alone
        int64_t lease_seconds;    // after which other hosts build what a vanished one had taken
        int64_t log_keep_days;    // 0: for ever
        int64_t status_seconds;   // between looks for AQ_STATUS; 0: none
        size_t max_log_bytes;
} BuildConfig;

typedef enum AquilonSource {
        AQUILON_SOURCE_METADATA, // the server's metadata
        AQUILON_SOURCE_IMAGE,    // properties of its image
        AQUILON_SOURCE_BOTH,     // the former, and the latter for what is not there
} AquilonSource;

typedef enum AquilonAuth {
        AQUILON_AUTH_NEGOTIATE,
        AQUILON_AUTH_BASIC,
        AQUILON_AUTH_BEARER,
        AQUILON_AUTH_NONE,
} AquilonAuth;

typedef struct AquilonConfig {
        char *queue; // of Nova's notifications
        char *exchange;
        char *routing_key;
        bool durable;      // the exchange and queue that we make if they are not there
        char *rabbit_host; // NULL: there is none, here or in [global]; config_require_aquilon says
                           // so
        uint16_t rabbit_port;
        char *rabbit_user;
        char *rabbit_pw; // RABBIT_PW, or the first line of RABBIT_PW_FILE
        char *rabbit_vhost;
        bool rabbit_tls;
        char *rabbit_tls_ca; // NULL: the system's
        AquilonSource source;
        char **networks;   // labels; the first that a server has counts. Empty: any
        char *host_name;   // HOST_NAME_FROM_DNS or a pattern for host_name_expand
        char *dns_servers; // "ADDRESS[:PORT],…"; NULL: the system's
        char *url;         // of the broker, without trailing slash. NULL: not given
        AquilonAuth auth;
        char *user;     // of AQUILON_AUTH_BASIC
        char *password; // first line of AQ_PW_FILE
        char *token;    // first line of AQ_TOKEN_FILE
        char *tls_ca;   // NULL: the system's
        char *keytab;   // NULL: the ticket cache is filled by somebody else
        char *ccache;   // NULL: the system's
        char *prefix;   // of the machines' names
        char *model;
        bool make_must_succeed;
        char *auth_file; // openrc for Nova; NULL: it is not told
        unsigned parallel;
        int64_t http_timeout_seconds;
        int64_t retry_seconds;
        int64_t retry_for_seconds;
        int64_t keep_days; // 0: for ever
} AquilonConfig;

typedef struct Config {
        char *path;
        GlobalConfig global;
        ScanConfig scan;
        BuildConfig build;
        AquilonConfig aquilon;
        char **warnings; // "FILE:LINE: …", one for each key or section that nobody here reads
} Config;

// Reads and validates a file; every error is "FILE:LINE: [section] KEY: what is wrong". Keys that
// one program needs and another does not are checked by the config_require_… functions.
int config_load(const char *path, Config **ret, Error *err) must_check;

// The same from memory; `path` is the name in messages and the folder for relative paths.
int config_parse(const char *path, const char *text, size_t len, Config **ret,
                 Error *err) must_check;

int config_require_scan(const Config *config, Error *err) must_check;
int config_require_build(const Config *config, Error *err) must_check;
int config_require_aquilon(const Config *config, Error *err) must_check;

void config_free(Config *config);
DEFINE_CLEANUP(Config, config_free)
#define _cleanup_config_ _cleanup_(config_free_p)
