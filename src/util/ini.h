// INI files as Python's ConfigParser reads them: [section], key = value or key: value, keys in any
// case, # and ; comments at line start, indented lines continue a value, [DEFAULT] gives values to
// every section, %% is a percent sign and %(key)s another key of the section (a lone % stays).
// Beyond Python: every entry knows its line, and a key or section given twice is an error.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

typedef struct IniEntry {
        char *section;     // as written
        char *key;         // lower case
        char *value;       // interpolated, without surrounding white space
        unsigned line;     // 1-based
        bool from_default; // given in [DEFAULT], not in the section itself
} IniEntry;

typedef struct Ini {
        IniEntry *entries; // in file order; those of [DEFAULT] repeated in each section that lacks
                           // them
        size_t n_entries;
} Ini;

// Limits: 1 MiB of text, 4096 entries, 64 KiB a value, 4 MiB of values, 10 levels of interpolation.
// `name` is the file's name for messages: "NAME:LINE: …".
int ini_parse(const char *name, const char *text, size_t len, Ini *ret, Error *err) must_check;
void ini_done(Ini *ini);
