#include "scan/catalog.h"

#include <stdio.h>
#include <string.h>

#include "util/alloc.h"

#define SUFFIX_JSON ".json"
#define SUFFIX_GZ ".gz"
#define SLOTS_MIN ((size_t)16)

struct CatalogSlot {
        uint32_t hash;  // the upper half: spares most comparisons of text
        uint32_t place; // in entries, plus 1; 0: free
};

typedef struct NameHash {
        uint64_t lane[2];
} NameHash;

__extension__ typedef unsigned __int128 Product;

// ---- hashing ------------------------------------------------------------------------------

// Multiplies to 128 bits and folds: each bit of the result depends on all of the input.
static uint64_t mix(uint64_t value, uint64_t odd)
{
        Product product = (Product)value * odd;

        return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void hash_word(NameHash *hash, uint64_t word)
{
        // Digits of pi and e.
        hash->lane[0] = mix(hash->lane[0] ^ word, UINT64_C(0x243F6A8885A308D3));
        hash->lane[1] = mix(hash->lane[1] + word, UINT64_C(0xADF85458A2BB4A9B));
}

static NameHash hash_name(const char *name, size_t len)
{
        NameHash hash = {{len, ~(uint64_t)len}};
        uint64_t word;

        for (; len >= sizeof word; len -= sizeof word, name += sizeof word) {
                memcpy(&word, name, sizeof word);
                hash_word(&hash, word);
        }
        word = 0;
        memcpy(&word, name, len);
        hash_word(&hash, word);
        return hash;
}

// What one entry adds to the sum.
static NameHash hash_entry(NameHash hash, const CatalogEntry *entry)
{
        hash_word(&hash, (uint64_t)entry->mtime);
        hash_word(&hash, entry->entry_len - entry->name_len);
        return hash;
}

static void sum_add(Catalog *catalog, NameHash hash)
{
        catalog->sum[0] += hash.lane[0];
        catalog->sum[1] += hash.lane[1];
}

static void sum_subtract(Catalog *catalog, NameHash hash)
{
        catalog->sum[0] -= hash.lane[0];
        catalog->sum[1] -= hash.lane[1];
}

// ---- the table ----------------------------------------------------------------------------

// The slot that holds the name, or the free one where it belongs.
static CatalogSlot *find_slot(const Catalog *catalog, const char *name, size_t len,
                              const NameHash *hash)
{
        uint32_t upper = (uint32_t)(hash->lane[0] >> 32);

        for (size_t at = (size_t)hash->lane[0];; at++) {
                CatalogSlot *slot = &catalog->slots[at & (catalog->n_slots - 1)];
                const CatalogEntry *entry;

                if (slot->place == 0)
                        return slot;
                entry = &catalog->entries[slot->place - 1];
                if (slot->hash == upper && entry->name_len == len &&
                    memcmp(entry->entry, name, len) == 0)
                        return slot;
        }
}

static bool ends_with(const char *text, size_t len, const char *suffix)
{
        size_t suffix_len = strlen(suffix);

        return len > suffix_len && memcmp(text + len - suffix_len, suffix, suffix_len) == 0;
}

// False for what is not a JSON profile.
static bool describe(const IndexEntry *from, CatalogEntry *ret)
{
        uint32_t name_len = from->name_len;

        if (ends_with(from->name, name_len, SUFFIX_JSON SUFFIX_GZ))
                name_len -= (uint32_t)strlen(SUFFIX_GZ);
        else if (!ends_with(from->name, name_len, SUFFIX_JSON))
                return false;
        *ret = (CatalogEntry){
                .entry = from->name,
                .entry_len = from->name_len,
                .name_len = name_len,
                .mtime = from->mtime,
        };
        return true;
}

// Whether an entry stands in for the one of the same name that is there already.
static bool is_better(const CatalogEntry *entry, const CatalogEntry *than)
{
        if (entry->entry_len != than->entry_len)
                return entry->entry_len < than->entry_len;
        return entry->mtime > than->mtime;
}

static void add(Catalog *catalog, const IndexEntry *from, const CatalogEntry *entry)
{
        NameHash hash = hash_name(entry->entry, entry->name_len);
        CatalogSlot *slot = find_slot(catalog, entry->entry, entry->name_len, &hash);
        CatalogEntry *present;

        if (slot->place == 0) {
                catalog->entries[catalog->n_entries++] = *entry;
                *slot = (CatalogSlot){
                        .hash = (uint32_t)(hash.lane[0] >> 32),
                        .place = (uint32_t)catalog->n_entries,
                };
                sum_add(catalog, hash_entry(hash, entry));
                return;
        }
        present = &catalog->entries[slot->place - 1];
        if (present->entry_len == entry->entry_len && catalog->n_repeats++ < CATALOG_MAX_REPEATS)
                catalog->repeats[catalog->n_repeats - 1] = from;
        if (!is_better(entry, present))
                return;
        sum_subtract(catalog, hash_entry(hash, present));
        *present = *entry;
        sum_add(catalog, hash_entry(hash, present));
}

static bool is_selected(const IndexEntry *entry, const char *match, size_t match_len)
{
        return match_len == 0 || memmem(entry->name, entry->name_len, match, match_len);
}

void catalog_init(Catalog *catalog, const Index *index, const char *match)
{
        size_t match_len = strlen(match), n_selected = 0;

        for (size_t i = 0; i < index->n_entries; i++)
                n_selected += is_selected(&index->entries[i], match, match_len);
        *catalog = (Catalog){.n_slots = SLOTS_MIN};
        while (catalog->n_slots < n_selected * 2) // at most half full
                catalog->n_slots *= 2;
        catalog->slots = xcalloc(catalog->n_slots, sizeof *catalog->slots);
        catalog->entries = xcalloc(MAX(n_selected, (size_t)1), sizeof *catalog->entries);
        for (size_t i = 0; i < index->n_entries; i++) {
                CatalogEntry entry;

                if (!is_selected(&index->entries[i], match, match_len))
                        continue;
                if (describe(&index->entries[i], &entry))
                        add(catalog, &index->entries[i], &entry);
                else
                        catalog->n_other++;
        }
}

void catalog_done(Catalog *catalog)
{
        free(catalog->entries);
        free(catalog->slots);
        *catalog = (Catalog){.n_entries = 0};
}

CatalogEntry *catalog_find(const Catalog *catalog, const char *name, size_t len)
{
        NameHash hash = hash_name(name, len);
        const CatalogSlot *slot = find_slot(catalog, name, len, &hash);

        return slot->place ? &catalog->entries[slot->place - 1] : NULL;
}

void catalog_fingerprint(const Catalog *catalog, char ret[CATALOG_FINGERPRINT_SIZE])
{
        (void)snprintf(ret, CATALOG_FINGERPRINT_SIZE, "%zu:%016llx%016llx", catalog->n_entries,
                       (unsigned long long)catalog->sum[0], (unsigned long long)catalog->sum[1]);
}

size_t catalog_fingerprint_count(const char *fingerprint)
{
        return fingerprint ? (size_t)strtoull(fingerprint, NULL, 10) : 0;
}
