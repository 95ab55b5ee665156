// Decides what a fetched profile means: nothing, the baseline, or a message.
//
// Content ids decide: same bytes as last time need no parsing; else the documents are compared
// outside IGNORE_PATHS by them. The cached body explains, and spares reading what is the same in
// both, id and words being what they would be without it. Only where the ids cannot be compared
// (other IGNORE_PATHS, or a record of a version that made other ids) it has a say.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/profile.h"
#include "core/store.h"
#include "util/error.h"
#include "util/hash.h"

typedef enum Verdict {
        VERDICT_UNCHANGED,
        VERDICT_BASELINE, // content first known now: remembered, not queued
        VERDICT_ADDED,    // not known before: queued
        VERDICT_CHANGED,  // queued
} Verdict;

// What holds for a whole scan; all borrowed.
typedef struct DecisionRules {
        const ProfilePaths *ignore;
        Digest ignore_digest;
        const char *cache_dir;
        size_t max_bytes; // of a cached body
} DecisionRules;

typedef struct Decision {
        Verdict verdict;
        Checksum raw; // these four for the record
        ContentId content;
        Digest ignore;
        bool in_order;
        size_t new_from, new_to; // the rest of the body is in the cache, at the same offsets
        size_t n_differences;    // 0 also when they cannot be told
        char *changes;           // a line each, cut at MESSAGE_CHANGES_MAX; NULL: none
} Decision;

// Reads IGNORE_PATHS; *ret_ignore belongs to the caller and must outlive the rules.
int decision_rules_init(DecisionRules *rules, const ScanConfig *config, ProfilePaths **ret_ignore,
                        Error *err) must_check;

// `known` is the profile's record (NULL: none); `baseline` says what becomes of a profile of
// unknown content. < 0: the body is not a profile.
int decision_make(const DecisionRules *rules, const char *name, const ProfileRecord *known,
                  bool baseline, const char *body, size_t len, Decision *ret,
                  Error *err) must_check;
void decision_done(Decision *decision);
#define _cleanup_decision_ _cleanup_(decision_done)
