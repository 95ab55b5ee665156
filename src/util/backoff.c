#include "util/backoff.h"

#include <sys/random.h>

#include "util/macro.h"

#define CHANCE_PARTS 5

int64_t backoff_chance(int64_t range)
{
        uint32_t chance = 0;

        if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
                return 0;
        return (int64_t)((uint64_t)range * chance >> 32);
}

int64_t backoff_ms(int64_t first_ms, int64_t max_ms, int64_t attempts)
{
        int64_t delay = first_ms;

        for (int64_t at = 1; at < attempts && delay > 0 && delay < max_ms; at++)
                delay *= 2;
        delay = MIN(delay, MAX(first_ms, max_ms));
        return delay - backoff_chance(delay / CHANCE_PARTS);
}
