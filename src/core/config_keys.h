// The keys of config.ini, as one table. Only config.c includes this.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "util/error.h"

typedef enum ValueType {
        VALUE_UNREAD,        // upstream's; nobody here needs it
        VALUE_STRING,        // char *
        VALUE_FIRST_LINE,    // char *: the first line of the file at that path
        VALUE_QUEUE,         // char *: an AMQP name with room for the suffixes of our other queues
        VALUE_PATH,          // char *: a relative one starts at the folder of the configuration
        VALUE_PROGRAM,       // char *: a path, or a name that is looked up in PATH
        VALUE_URL,           // char *: http, https or file
        VALUE_HOOK,          // char *: http or https
        VALUE_IMAGE_NAME,    // char *: a pattern for identity_image_name()
        VALUE_ENDPOINT,      // char *: ADDRESS:PORT
        VALUE_ADDRESSES,     // char **: IP addresses
        VALUE_PROFILE_PATHS, // char **: for profile_paths_new()
        VALUE_WORDS,         // char **: any
        VALUE_HOST_NAME,     // char *: HOST_NAME_FROM_DNS, or a pattern for host_name_expand()
        VALUE_TRANSPORT,     // Transport
        VALUE_FIRST_RUN,     // FirstRun
        VALUE_SOURCE,        // AquilonSource
        VALUE_AUTH,          // AquilonAuth
        VALUE_BOOL,          // bool
        VALUE_PORT,          // uint16_t
        VALUE_UNSIGNED,      // unsigned
        VALUE_BYTES,         // size_t
        VALUE_NUMBER,        // int64_t
        VALUE_SECONDS,       // int64_t
} ValueType;

typedef struct ConfigKey {
        const char *section;
        const char *name; // as sites write it: upper case
        ValueType type;
        size_t offset;        // of its field in Config
        const char *fallback; // its value when it is not given; NULL: the field stays empty
        int64_t min, max;     // of a number
} ConfigKey;

extern const ConfigKey config_keys[];
extern const size_t n_config_keys;

// The key that is written so, by its name of today or an older one; NULL if there is none.
const ConfigKey *config_key_find(const char *section, const char *name);

// True if some key belongs into the section.
bool config_section_is_known(const char *section);

// Parses `text` into the key's field of `config`. The error says what is wrong with the value and
// shows it only where it cannot be a secret.
int config_key_set(const ConfigKey *key, Config *config, const char *text, Error *err) must_check;

// Frees what the key's field owns.
void config_key_clear(const ConfigKey *key, Config *config);
