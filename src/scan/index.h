// The profile index (profiles-info.xml), as the Aquilon broker and SCDB write it:
//
//     <?xml version='1.0' encoding='utf-8'?>
//     <profiles>
//     <profile mtime='1627553908'>centos-7-aq.cloud.template.json</profile>
//     </profiles>
//
// It looks like XML but is not: names are not escaped, so a real parser would stop at the first
// "&". Hence this scanner. One entry is one element on one line; order means nothing; mtime is in
// seconds or milliseconds and only compared for equality.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define INDEX_MAX_ENTRIES ((size_t)5 * 1000 * 1000)
#define INDEX_MAX_REFUSALS 20 // that are told one by one

typedef struct IndexEntry {
        const char *name; // in the text; not NUL-terminated; a safe relative path
        uint32_t name_len;
        int64_t mtime; // as written, never negative
} IndexEntry;

// Why one entry is not taken.
typedef struct IndexRefusal {
        size_t line;
        char *text; // for a message
} IndexRefusal;

typedef struct Index {
        IndexEntry *entries; // in file order; the same name may come twice
        size_t n_entries;
        IndexRefusal refusals[INDEX_MAX_REFUSALS]; // the first ones
        size_t n_refused;                          // all
} Index;

// Reads a whole index; `text` is borrowed by the entries. An entry that cannot be right (a name
// that leaves its folder, control characters, no mtime) is refused alone. What is not a whole index
// (no <profiles>, no </profiles> at the end, i.e. an error page or a short read) is -EBADMSG: then
// nothing may be taken as deleted.
int index_parse(const char *text, size_t len, Index *ret, Error *err) must_check;
void index_done(Index *index);
#define _cleanup_index_ _cleanup_(index_done)
