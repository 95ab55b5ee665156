// The step from the Python script: what its CACHE_DIR holds counts as the scans before ours, so
// that the change of programs does not rebuild every image.
#pragma once

#include <stddef.h>

#include "core/config.h"
#include "core/store.h"
#include "scan/decision.h"
#include "util/error.h"

#define MIGRATE_NOTHING 1

// Error text of a record whose content is still to be fetched (as a baseline).
#define MIGRATE_NOT_FETCHED "not fetched yet"

// Turns cached_info.xml and the bodies beside it into records, in the transaction that the caller
// has begun. A profile without a cached body is recorded as seen, its content to be fetched.
// MIGRATE_NOTHING: there is no cached_info.xml.
int migrate_python_cache(Store *store, const ScanConfig *config, const DecisionRules *rules,
                         size_t *ret_n_profiles, Error *err) must_check;
