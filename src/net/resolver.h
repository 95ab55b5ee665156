// Names of addresses (reverse DNS), by c-ares in the event loop: /etc/hosts and the system's name
// servers, or others.
#pragma once

#include <systemd/sd-event.h>

#include "util/error.h"
#include "util/macro.h"

typedef struct Resolver Resolver;

// `name` is the first that the address has, as it was given; NULL when err says why there is none.
typedef void (*ResolverDoneFn)(const char *name, const Error *err, void *userdata);

// `servers`: "ADDRESS[:PORT],…"; NULL: the system's.
int resolver_new(sd_event *event, const char *servers, Resolver **ret, Error *err) must_check;
void resolver_free(Resolver *resolver);
DEFINE_CLEANUP(Resolver, resolver_free)

// `address`: IPv4 or IPv6 in text. `done` may be called before this returns, and is not called for
// what is pending when the resolver is freed.
void resolver_name_of(Resolver *resolver, const char *address, ResolverDoneFn done, void *userdata);
