#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "scan/catalog.h"
#include "scan/index.h"
#include "util/strutil.h"

static void check_entries(const Index *index, const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;

        for (size_t i = 0; i < index->n_entries; i++) {
                const IndexEntry *entry = &index->entries[i];

                if (entry->name < text || entry->name + entry->name_len > text + size ||
                    entry->mtime < 0 || !str_is_safe_relative_path(entry->name, entry->name_len))
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_catalog_ Catalog catalog = {.n_entries = 0};
        _cleanup_index_ Index index = {.n_entries = 0};
        Error err = ERROR_NONE;
        int r = index_parse((const char *)data, size, &index, &err);

        if (r < 0) {
                if (err.code != -r || !*err.text || index.entries)
                        abort();
                return 0;
        }
        check_entries(&index, data, size);
        catalog_init(&catalog, &index, "");
        if (catalog.n_entries + catalog.n_other > index.n_entries)
                abort();
        for (size_t i = 0; i < catalog.n_entries; i++) {
                const CatalogEntry *entry = &catalog.entries[i];

                if (catalog_find(&catalog, entry->entry, entry->name_len) != entry)
                        abort();
        }
        return 0;
}
