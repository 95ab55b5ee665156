#include "util/clock.h"

#include <time.h>

#define MS_PER_SECOND 1000
#define NS_PER_MS 1000000

static int64_t clock_ms(clockid_t id)
{
        struct timespec now;

        // Fails for an unknown clock only, and Linux has both.
        (void)clock_gettime(id, &now);
        return (int64_t)now.tv_sec * MS_PER_SECOND + now.tv_nsec / NS_PER_MS;
}

int64_t clock_wall_ms(void)
{
        return clock_ms(CLOCK_REALTIME);
}

int64_t clock_mono_ms(void)
{
        return clock_ms(CLOCK_MONOTONIC);
}
