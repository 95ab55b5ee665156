// Connecting to a TCP service within a bounded time, with an error that says what stood in the way.
#pragma once

#include <stdint.h>

#include "util/error.h"

// Resolves `host` and connects to the first of its addresses that answers; each address gets its
// share of the time, so that one that drops packets does not hide the next. *ret_fd is
// non-blocking, close-on-exec and tuned by tcp_tune. Blocks up to `timeout_ms`; the resolver may
// add TCP_RESOLVE_SECONDS for each name server that does not answer.
#define TCP_RESOLVE_SECONDS 2
int tcp_connect(const char *host, uint16_t port, int64_t timeout_ms, int *ret_fd,
                Error *err) must_check;

// Small messages go out at once, and a peer that is gone is noticed: after TCP_DEAD_SECONDS while
// data is on its way to it, after about a minute when nothing is.
#define TCP_DEAD_SECONDS 20
void tcp_tune(int fd);

// Limits this thread's resolver as tcp_connect does, for a library that resolves by itself.
void tcp_limit_resolver(void);
