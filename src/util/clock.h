// Time in milliseconds.
#pragma once

#include <stdint.h>

#define USEC_PER_SECOND 1000000ULL // sd-event counts in them
#define USEC_PER_MS 1000ULL

// Since the epoch; may jump.
int64_t clock_wall_ms(void);

// From an arbitrary start; never goes back. For durations and deadlines.
int64_t clock_mono_ms(void);
