#include "scan/migrate.h"

#include "scan/cache.h"
#include "scan/catalog.h"
#include "scan/index.h"
#include "util/alloc.h"

// A body that is missing, too big or no profile is fetched anew: no error.
static bool read_content(const ScanConfig *config, const DecisionRules *rules, const char *name,
                         ProfileRecord *record)
{
        _cleanup_buf_ Buf body = BUF_INIT(config->max_profile_bytes);
        _cleanup_decision_ Decision decision = {.changes = NULL};

        if (cache_read(config->cache_dir, name, &body, NULL) != 0 ||
            decision_make(rules, name, NULL, true, buf_str(&body), body.len, &decision, NULL) < 0)
                return false;
        record->raw = decision.raw;
        record->content = decision.content;
        record->ignore = decision.ignore;
        record->in_order = decision.in_order;
        record->has_id = true;
        return true;
}

static int record_entry(Store *store, const ScanConfig *config, const DecisionRules *rules,
                        const CatalogEntry *entry, Error *err)
{
        static char not_fetched[] = MIGRATE_NOT_FETCHED;
        _cleanup_free_ char *name = xstrndup(entry->entry, entry->name_len);
        ProfileRecord record = {.name = name, .mtime = entry->mtime};

        record.has_content = read_content(config, rules, name, &record);
        if (!record.has_content)
                record.error = not_fetched;
        return store_profile_put(store, &record, err);
}

int migrate_python_cache(Store *store, const ScanConfig *config, const DecisionRules *rules,
                         size_t *ret_n_profiles, Error *err)
{
        _cleanup_buf_ Buf text = BUF_INIT(config->max_index_bytes);
        _cleanup_catalog_ Catalog catalog = {.n_entries = 0};
        _cleanup_index_ Index index = {.n_entries = 0};
        int r = cache_read(config->cache_dir, CACHE_INDEX_NAME, &text, err);

        if (r != 0)
                return r == CACHE_NOT_FOUND ? MIGRATE_NOTHING : r;
        r = index_parse(buf_str(&text), text.len, &index, err);
        if (r < 0)
                return error_prefix(err, "%s/%s", config->cache_dir, CACHE_INDEX_NAME);
        catalog_init(&catalog, &index, config->profile_match);
        for (size_t i = 0; i < catalog.n_entries; i++) {
                r = record_entry(store, config, rules, &catalog.entries[i], err);
                if (r < 0)
                        return r;
        }
        *ret_n_profiles = catalog.n_entries;
        return 0;
}
