// One scan: read the index, fetch what was recompiled, decide what really changed, queue a message
// for each of those. This is cdb2rabbit without its command line.
//
// The state of a profile moves only after the broker confirmed its message. Every step can be
// repeated: killed anywhere, the next scan does the rest, and queues again at most what was not
// committed yet.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/config.h"
#include "util/error.h"

typedef struct ScanOptions {
        bool dry_run; // changes nothing: writes to `out` what would be queued, and why
        FILE *out;
} ScanOptions;

typedef struct ScanSummary {
        size_t n_changed; // added ones too
        size_t n_queued;  // confirmed by the broker
        size_t n_unchanged;
        size_t n_deleted;
        size_t n_failed;   // to be tried again by the next scan
        size_t n_recorded; // as the baseline
        size_t n_refused;  // entries of the index that cannot be right
        int64_t duration_ms;
} ScanSummary;

// Runs a scan; waits for another one on the same STATE_DIR to end (10 minutes at most), except when
// dry. Logs what it finds, and the summary at its end. Trouble with single profiles is counted in
// n_failed; < 0 is what stopped the scan: no index, no broker, no store.
int scanner_run(const Config *config, const ScanOptions *options, ScanSummary *ret,
                Error *err) must_check;
