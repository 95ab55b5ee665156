// Names of hosts, as the DNS and Aquilon know them.
#pragma once

#include <stdbool.h>

#include "util/error.h"

#define HOST_NAME_FROM_DNS "dns" // HOST_NAME: the name that the address has in the DNS

// A fully qualified name: two labels at least, of letters, digits and hyphens; 253 bytes at most.
bool host_name_is_valid(const char *text);

typedef struct HostNameValues {
        const char *address; // ${address}, with "-" for "." and ":"
        const char *name;    // ${name}: the server's host name
        const char *server;  // ${server}: its id
} HostNameValues;

// Expands a pattern such as "host-${address}.example.org" to a valid name in lower case. The caller
// frees *ret.
int host_name_expand(const char *pattern, const HostNameValues *values, char **ret,
                     Error *err) must_check;

// A name from the DNS: lower case, without the dot at the end. The caller frees.
int host_name_normalize(const char *text, char **ret, Error *err) must_check;
