// Checked parsing of numbers and times, and tests of text that comes from outside.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

// Whole decimal number between min and max; anything else around it is an error.
int str_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret, Error *err) must_check;

// "90", "90s", "15m", "2h", "7d" as seconds.
int str_parse_seconds(const char *text, int64_t min, int64_t max, int64_t *ret,
                      Error *err) must_check;

// "4096", "64k", "100M", "2G" as bytes (powers of 1024).
int str_parse_size(const char *text, int64_t min, int64_t max, int64_t *ret, Error *err) must_check;

// yes/no, true/false, on/off, 1/0 in any case.
int str_parse_bool(const char *text, bool *ret, Error *err) must_check;

bool str_starts_with(const char *text, const char *prefix);
bool str_ends_with(const char *text, const char *suffix);

// How many bytes two texts share at their beginnings, at most `max`; and before their ends.
size_t mem_common_start(const char *a, const char *b, size_t max);
size_t mem_common_end(const char *a_end, const char *b_end, size_t max);

// Valid UTF-8 (RFC 3629: no surrogates, no overlong forms). NUL bytes are valid.
bool str_is_utf8(const char *text, size_t len);

// True if any byte is below 0x20 or 0x7f.
bool str_has_control(const char *text, size_t len);

// A relative path that stays below its folder: 1 to 512 bytes of UTF-8, no control characters, no
// backslash, no empty, "." or ".." element, no leading "/".
bool str_is_safe_relative_path(const char *text, size_t len);

// A copy for messages and file names: control bytes and invalid UTF-8 as \xNN, at most max bytes
// (then "…" ends it). The caller frees.
char *str_visible(const char *text, size_t len, size_t max);

// A NULL-terminated list of strings.
char **strv_split(const char *text, const char *separators); // empty parts are dropped
void strv_free(char **list);
size_t strv_count(char *const *list);
#define STRV_FOREACH(item, list) for (char *const *item = (list); item && *item; item++)

DEFINE_CLEANUP(char *, strv_free)
#define _cleanup_strv_ _cleanup_(strv_free_p)
