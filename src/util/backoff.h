// How long to wait before something is tried again.
#pragma once

#include <stdint.h>

// `first_ms` after the first attempt in vain, twice as long after each further one, up to `max_ms`
// (or `first_ms`, if that is more). Up to a fifth less, by chance, so that many that failed at once
// do not come back at once.
int64_t backoff_ms(int64_t first_ms, int64_t max_ms, int64_t attempts);

// A number in 0 … range - 1, by chance, of at most 2^32; 0 where there is none yet, early in the
// boot. Not for secrets.
int64_t backoff_chance(int64_t range);
