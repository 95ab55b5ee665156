// Which image a profile is for: the values of design §5, taken from the profile and checked.
#pragma once

#include <stddef.h>

#include "core/profile.h"
#include "util/error.h"

typedef struct Identity {
        char *personality; // never NULL; the others are NULL when the profile does not have them
        char *archetype;
        char *os_name;           // /system/os/distribution/name
        char *os_version;        // /system/os/version/name
        char *os_arch;           // /system/os/architecture
        char *broker_os;         // /system/archetype/os
        char *broker_os_version; // /system/archetype/model
        char *pxe_os;            // first non-empty element of /system/aii/nbp/pxelinux/kernel
        char *hostname;
        char *domain;  // branch of type domain
        char *sandbox; // "author/name"
} Identity;

// -EBADMSG (poison: building it again cannot help) when the personality is missing, when a value is
// not a string, empty, longer than 255 bytes, has control characters, holds "{{", which Packer
// would interpret, or ".." between slashes. Names the path.
int identity_from_profile(const Profile *profile, Identity *ret, Error *err) must_check;
void identity_done(Identity *identity);

// Candidate keys of the source-image map, in order: "OS+VERSION-ARCH" from /system/os, "OS+VERSION"
// from the broker's names, the pxelinux one. NULL-terminated list, caller frees with strv_free.
char **identity_os_keys(const Identity *identity);

// Expands IMAGE_NAME: ${personality} ${os} ${archetype} ${domain} ${sandbox} ${hostname}; `os` is
// the key that the source-image map was found by. A placeholder without value or an unknown one is
// -EBADMSG. The caller frees.
int identity_image_name(const Identity *identity, const char *pattern, const char *os, char **ret,
                        Error *err) must_check;

// The image name as a file name: every byte but letters, digits, "-", "_", "+", "@" and "=" becomes
// "_" (also "." and "/": packuilon-monitor's names have no dot). The caller frees.
char *identity_file_name(const char *image_name);
