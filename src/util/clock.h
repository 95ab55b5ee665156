// Time in milliseconds.
#pragma once

#include <stdint.h>

// Since the epoch; may jump.
int64_t clock_wall_ms(void);

// From an arbitrary start; never goes back. For durations and deadlines.
int64_t clock_mono_ms(void);
