#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "util/ini.h"
#include "util/macro.h"
#include "util/strutil.h"

#define VALUE_MAX ((size_t)64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};
        Error err = ERROR_NONE;
        int r = ini_parse("fuzz.ini", (const char *)data, size, &ini, &err);

        // What the header promises.
        if (r < 0 && (err.code != -r || err.text[0] == '\0' || ini.entries))
                abort();
        for (size_t i = 0; i < ini.n_entries; i++) {
                const IniEntry *entry = &ini.entries[i];

                if (entry->line == 0 || !*entry->key || !*entry->section ||
                    strlen(entry->value) > VALUE_MAX ||
                    !str_is_utf8(entry->value, strlen(entry->value)))
                        abort();
        }
        return 0;
}
