// The part of an index that a scan looks after: the JSON profiles that PROFILE_MATCH selects, each
// once, found by name; and a fingerprint of that set which does not depend on its order.
//
// A profile's name is its entry without ".gz": a site that starts to compress its profiles (or
// stops) still has the same ones.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scan/index.h"

#define CATALOG_MAX_REPEATS 20       // that are told one by one
#define CATALOG_FINGERPRINT_SIZE 64U // of its text form, with the NUL

typedef struct CatalogEntry {
        const char *entry;  // as the index has it; not NUL-terminated
        uint32_t entry_len; //
        uint32_t name_len;  // of the profile's name, which is how the entry begins
        int64_t mtime;
        bool known; // for the scanner: there is a record of it
} CatalogEntry;

typedef struct CatalogSlot CatalogSlot;

typedef struct Catalog {
        CatalogEntry *entries; // in file order
        size_t n_entries;
        size_t n_other; // selected by PROFILE_MATCH, but not JSON
        const IndexEntry *repeats[CATALOG_MAX_REPEATS];
        size_t n_repeats; // all
        uint64_t sum[2];  // of the entries' hashes
        CatalogSlot *slots;
        size_t n_slots; // a power of two
} Catalog;

// `match` is a substring, "" selects everything (as in the Python script). Of an entry that comes
// twice the one with the greater mtime counts, whatever their order; of "x.json" and "x.json.gz"
// the first. The index and its text are borrowed.
void catalog_init(Catalog *catalog, const Index *index, const char *match);
void catalog_done(Catalog *catalog);
#define _cleanup_catalog_ _cleanup_(catalog_done)

// By the profile's name; NULL if it is not there.
CatalogEntry *catalog_find(const Catalog *catalog, const char *name, size_t len);

// "<number of entries>:<hash>": equal for the same set of (entry, mtime). Not meant against
// forgery: whoever writes the index decides anyway.
void catalog_fingerprint(const Catalog *catalog, char ret[CATALOG_FINGERPRINT_SIZE]);

// The number of entries in a fingerprint; 0 for NULL.
size_t catalog_fingerprint_count(const char *fingerprint);
