// The run of a scan, shared by scanner.c (its steps), pipeline.c (fetch, decide, queue, record) and
// scan_state.c (what is remembered).
#pragma once

#include <sys/queue.h>

#include "net/http.h"
#include "net/queue.h"
#include "scan/catalog.h"
#include "scan/decision.h"
#include "scan/scanner.h"

// A record with this mtime is of a profile that no scan has dealt with: a new one that could not be
// fetched. It differs from that of every entry.
#define SCAN_NEVER_DEALT ((int64_t)-1)

// A message on its way to the broker, and what is recorded once it is confirmed.
typedef struct Offer {
        TAILQ_ENTRY(Offer) link;
        char *name;
        ProfileRecord record; // name is borrowed from the field above
        Message message;
        size_t new_from, new_to; // as in its Decision
} Offer;

// What the server said about an index, to ask only for a newer one.
typedef struct IndexVersion {
        char *etag;
        char *last_modified;
} IndexVersion;

void index_version_done(IndexVersion *version);

typedef struct Scan {
        const Config *config;
        const ScanOptions *options;
        ScanSummary summary;

        Store *store;
        char *scratch_dir;      // holds the store of a dry run that finds none; NULL: none
        bool first_run;         // no scan was completed before
        bool state_is_open;     // the marks of a clean scan are taken off
        size_t n_uncommitted;   // records in the open transaction
        int64_t transaction_ms; // when it was begun

        ProfilePaths *ignore;
        DecisionRules rules;
        Catalog catalog;

        HttpClient *client;
        Publisher *publisher; // NULL until there is something to queue
        CatalogEntry **jobs;  // entries to fetch
        size_t n_jobs, next_job;
        TAILQ_HEAD(OfferList, Offer) offers;
        size_t offered_bytes; // in memory until they are confirmed
        Error failure;        // what ends the scan; set by callbacks
} Scan;

// ---- scan_state.c -------------------------------------------------------------------------

// Opens the store and finds out if this is the first scan; takes the Python script's cache over.
int scan_state_open(Scan *scan, Error *err) must_check;

// The version to ask the server for, empty when the last scan left something to do or was of
// another URL or PROFILE_MATCH.
int scan_state_version(const Scan *scan, IndexVersion *ret, Error *err) must_check;

// Whether the last scan was clean and of just this set of entries.
int scan_state_is_same_set(const Scan *scan, bool *ret, Error *err) must_check;

// The number of entries in the set of the last clean scan.
int scan_state_count(const Scan *scan, size_t *ret, Error *err) must_check;

// All writes of a scan go through these; they commit now and then. In a dry run they do nothing.
int scan_state_put(Scan *scan, const ProfileRecord *record, Error *err) must_check;
int scan_state_delete(Scan *scan, const char *name, Error *err) must_check;
int scan_state_commit_if_due(Scan *scan, Error *err) must_check;

// The end of a scan that dealt with every entry. With `clean`, which is when nothing is left to do,
// the next one may ask for an index newer than `version`.
int scan_state_complete(Scan *scan, bool clean, const IndexVersion *version, Error *err) must_check;

// ---- pipeline.c ---------------------------------------------------------------------------

// Fetches the jobs and takes each to its end. < 0 when the scan cannot go on.
int pipeline_run(Scan *scan, Error *err) must_check;
void pipeline_done(Scan *scan);

// For http_client_new: `userdata` of a request is its CatalogEntry.
void pipeline_on_response(HttpClient *client, const HttpResponse *response, void *userdata);
