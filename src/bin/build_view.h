// How builds are shown: words, colours, times and JSON, the same in every command.
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "bin/table.h"
#include "core/config.h"
#include "core/store.h"
#include "util/error.h"

Colour build_view_colour(BuildState state);

// What there is to say about it now: the phase while building, else artifact or reason. Borrowed;
// NULL: nothing.
const char *build_view_detail(const Build *build);

// The template's name ("managed"); NULL when it has none. The caller frees.
char *build_view_template(const Build *build);

// "2026-11-23 18:11:14", local time. "" for 0. The caller frees.
char *build_view_time(int64_t wall_ms);

// "0.4s", "38s", "12m 05s", "3h 07m", "2d 04h". The caller frees.
char *build_view_duration(int64_t ms);

// How long it has taken, or takes so far; 0 if it has not started.
int64_t build_view_took_ms(const Build *build, int64_t now_ms);

// The fields of packuilon(1), "JSON"; unknown ones are null.
json_t *build_view_json(const Build *build);

// "2026-11-23T18:11:14.123Z", or null for 0.
json_t *build_view_json_time(int64_t wall_ms);

// A text, or null; bytes that are not UTF-8 are made visible.
json_t *build_view_json_text(const char *text);

// The lines of a text as a list; empty for NULL.
json_t *build_view_json_lines(const char *text);

// Writes a document to stdout and frees it.
int build_view_print_json(json_t *take_document, Error *err);

// Opens the builds of a site for reading. STORE_NOT_FOUND: there are none yet.
int build_view_open(const Config *config, Store **ret, Error *err) must_check;

// The build that the user means: its number, or the newest one of the image of that name.
// STORE_NOT_FOUND, with the words for it in err.
int build_view_find(const Config *config, const char *text, Store **ret_store, Build *ret,
                    Error *err) must_check;
