// The text of a profile, read token by token: yajl's callbacks, with the limits and strictness that
// a profile has and yajl lacks. Used by what builds the tree and by what needs none.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yajl/yajl_parse.h>

#include "core/profile.h"

typedef struct ProfileReader {
        yajl_handle yajl;
        const char *text, *end;
        const char *root_end; // just behind the root's closing brace
        size_t depth;         // of dicts and lists that are open
        size_t n_nodes;
        Error *err;
} ProfileReader;

// Calls back for each token, with `userdata`, whose first member is the reader. -EBADMSG for all
// that profile_parse refuses but keys that come twice, and when a callback returns 0.
int profile_read(ProfileReader *reader, const char *text, size_t len,
                 const yajl_callbacks *callbacks, void *userdata, Error *err) must_check;

// For the callbacks: each value is announced before anything is done with it, a dict or list by
// reader_open. False: it may not come here, and the error says why.
bool reader_value(ProfileReader *reader, ProfileType type) must_check;
bool reader_open(ProfileReader *reader, ProfileType type) must_check;
void reader_close(ProfileReader *reader);

// yajl hands out strings in the text, or in a buffer of its own when it had to unescape.
bool reader_in_text(const ProfileReader *reader, const char *string);

// Where yajl is now: behind the token of the running callback.
const char *reader_position(const ProfileReader *reader);

// "line L: …"; -EBADMSG.
int reader_fail(const ProfileReader *reader, const char *where, const char *fmt, ...)
        printf_like(3, 4);
