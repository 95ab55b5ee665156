// How values of a profile are shown to people: short, printable, without secrets.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/profile.h"

#define PROFILE_VALUE_VISIBLE_MAX 60 // bytes

// "rootpw", "apiToken", "authorized_keys", …: by the words in it, so rather too often than not.
bool profile_key_names_secret(const char *key, size_t len);

// The value itself tells: a configuration file with a password line, a hash of crypt(3).
bool profile_value_holds_secret(const ProfileNode *node);

// The value from byte `skip` on; "{2}" and "[3]" for a dict or list with so many children. The
// caller frees.
char *profile_value_visible(const ProfileNode *node, size_t skip);
