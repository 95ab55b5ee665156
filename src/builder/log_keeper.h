// Removes build logs that are older than LOG_KEEP_DAYS.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

// Removes files of LOG_DIR whose names are those of build logs (….json.<epoch>.log) and which were
// last written more than keep_days ago; 0 keeps all. Other files are left alone.
int log_keeper_run(const char *log_dir, int64_t keep_days, size_t *ret_removed,
                   Error *err) must_check;
