// CACHE_DIR: the last body of each profile, under its name, in the Python script's format, so that
// a site can go back to it: CACHE_DIR/<name> and CACHE_DIR/cached_info.xml.
//
// It explains (which paths differ) and saves work; it does not decide: content ids in the store do.
// A body that is missing or does not have the expected checksum costs the explanation, nothing
// else.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/buf.h"
#include "util/error.h"
#include "util/hash.h"

#define CACHE_INDEX_NAME "cached_info.xml"
#define CACHE_NOT_FOUND 1

// `name` is a safe relative path. Appends to out, whose max is the limit. CACHE_NOT_FOUND.
int cache_read(const char *cache_dir, const char *name, Buf *out, Error *err) must_check;

// As cache_read, for exactly the body with this checksum: CACHE_NOT_FOUND for any other, too.
int cache_read_exact(const char *cache_dir, const char *name, const Checksum *raw, Buf *out,
                     Error *err) must_check;

// Replaces a body; makes folders that are missing. Not atomic: a torn body has another checksum.
int cache_write(const char *cache_dir, const char *name, const char *data, size_t len,
                Error *err) must_check;

// The same where the cached body has the bytes up to `from`, and those from `to` on, at the same
// offsets: only the others are written.
int cache_update(const char *cache_dir, const char *name, const char *data, size_t len, size_t from,
                 size_t to, Error *err) must_check;

// Replaces cached_info.xml, whole or not at all.
int cache_write_index(const char *cache_dir, const void *data, size_t len, Error *err) must_check;

// A missing one is removed.
int cache_remove(const char *cache_dir, const char *name, Error *err) must_check;
