#include "scan/scanner.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "scan/cache.h"
#include "scan/scan_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define LOCK_NAME "scan.lock"
#define LOCK_WAIT_MS ((int64_t)10 * 60 * 1000)
#define LOCK_RETRY_MS 100
#define STATE_DIR_MODE 0750
#define INDEX_TURN_MS 1000
#define NAMES_TOLD_MAX 100 // bytes of a name in a message

// ---- one at a time ------------------------------------------------------------------------

static void sleep_ms(int ms)
{
        struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

        (void)nanosleep(&time, NULL);
}

static int take_lock(const Config *config, int *ret_fd, Error *err)
{
        _cleanup_free_ char *path = fs_join(config->global.state_dir, LOCK_NAME);
        int64_t deadline = clock_mono_ms() + LOCK_WAIT_MS;
        bool told = false;
        int r = fs_make_dirs(config->global.state_dir, STATE_DIR_MODE, err);

        while (r == 0) {
                r = fs_lock(path, ret_fd, err);
                if (r != FS_LOCKED)
                        return r;
                if (clock_mono_ms() > deadline)
                        return error_set(err, ETIMEDOUT, "another scan still holds %s", path);
                if (!told)
                        log_info("waiting for another scan to end");
                told = true;
                sleep_ms(LOCK_RETRY_MS);
                r = 0;
        }
        return r;
}

// ---- the index ----------------------------------------------------------------------------

// The index while it is in use: the catalog points into its text.
typedef struct FetchedIndex {
        bool arrived;
        bool not_modified;
        Buf text;
        IndexVersion version;
        Index index;
        Error error;
} FetchedIndex;

static void fetched_index_done(FetchedIndex *fetched)
{
        buf_done(&fetched->text);
        index_version_done(&fetched->version);
        index_done(&fetched->index);
}

// What a run has on its stack: the scan, and the index it looks at.
typedef struct Run {
        Scan scan;
        FetchedIndex fetched;
} Run;

static void run_done(Run *run)
{
        Scan *scan = &run->scan;

        pipeline_done(scan);
        catalog_done(&scan->catalog);
        if (scan->ignore)
                profile_paths_free(scan->ignore);
        if (scan->store)
                store_close(scan->store);
        if (scan->scratch_dir)
                (void)fs_remove_tree(scan->scratch_dir, NULL);
        free(scan->scratch_dir);
        fetched_index_done(&run->fetched);
}

static void on_index(const HttpResponse *response, FetchedIndex *fetched)
{
        fetched->arrived = true;
        if (response->error) {
                fetched->error = *response->error;
                if (fetched->error.code == EFBIG)
                        (void)error_prefix(&fetched->error, "over MAX_INDEX_BYTES");
                return;
        }
        fetched->not_modified = response->status == 304;
        fetched->version.etag = xstrdup(response->etag);
        fetched->version.last_modified = xstrdup(response->last_modified);
        fetched->text.data = buf_take(response->body, &fetched->text.len);
}

// HttpDoneFn: the request for the index has no userdata, those for profiles have their entry.
static void on_response(HttpClient *client, const HttpResponse *response, void *userdata)
{
        Run *run = userdata;

        if (response->userdata)
                pipeline_on_response(client, response, &run->scan);
        else
                on_index(response, &run->fetched);
}

static int fetch_index(Run *run, const IndexVersion *known, Error *err)
{
        Scan *scan = &run->scan;
        const ScanConfig *config = &scan->config->scan;
        HttpRequest request = {
                .url = config->profile_info_url,
                .max_bytes = config->max_index_bytes,
                .etag = known->etag,
                .last_modified = known->last_modified,
        };
        HttpLimits limits = {
                .parallel = config->parallel,
                .timeout_seconds = config->http_timeout_seconds,
        };
        int r = http_client_new(&limits, on_response, run, &scan->client, err);

        if (r == 0)
                r = http_client_add(scan->client, &request, err);
        while (r == 0 && !run->fetched.arrived)
                r = http_client_run_once(scan->client, -1, INDEX_TURN_MS, err);
        if (r < 0)
                return r;
        if (run->fetched.error.code)
                return error_set(err, run->fetched.error.code, "%s", run->fetched.error.text);
        return 0;
}

static void say_refused(Scan *scan, const Index *index)
{
        const Catalog *catalog = &scan->catalog;

        scan->summary.n_refused = index->n_refused + catalog->n_repeats;
        for (size_t i = 0; i < MIN(index->n_refused, (size_t)INDEX_MAX_REFUSALS); i++)
                log_warning("entry refused: line %zu of the index: %s", index->refusals[i].line,
                            index->refusals[i].text);
        for (size_t i = 0; i < MIN(catalog->n_repeats, (size_t)CATALOG_MAX_REPEATS); i++)
                log_warning("entry refused: %.*s is in the index more than once; the newest counts",
                            (int)MIN(catalog->repeats[i]->name_len, (uint32_t)NAMES_TOLD_MAX),
                            catalog->repeats[i]->name);
        if (index->n_refused > INDEX_MAX_REFUSALS || catalog->n_repeats > CATALOG_MAX_REPEATS)
                log_warning("%zu entries of the index refused in all", scan->summary.n_refused);
        if (catalog->n_other > 0 && catalog->n_entries == 0)
                log_warning("PROFILE_MATCH selects %zu entries of the index, none of them a JSON "
                            "profile (*.json or *.json.gz)",
                            catalog->n_other);
}

static int read_index(Run *run, Error *err)
{
        FetchedIndex *fetched = &run->fetched;
        const ScanConfig *config = &run->scan.config->scan;
        int r = index_parse(buf_str(&fetched->text), fetched->text.len, &fetched->index, err);

        if (r < 0)
                return error_prefix(err, "%s", config->profile_info_url);
        catalog_init(&run->scan.catalog, &fetched->index, config->profile_match);
        say_refused(&run->scan, &fetched->index);
        return 0;
}

// ---- the plan -----------------------------------------------------------------------------

// What the walk over the records finds.
typedef struct Walk {
        Scan *scan;
        char **gone; // names of records without an entry
        size_t n_gone;
} Walk;

static void walk_done(Walk *walk)
{
        for (size_t i = 0; i < walk->n_gone; i++)
                free(walk->gone[i]);
        free(walk->gone);
}

static void add_gone(Walk *walk, const char *name)
{
        // Powers of two: grows when the number of names is one.
        if ((walk->n_gone & (walk->n_gone - 1)) == 0)
                walk->gone = xreallocarray(walk->gone, MAX(walk->n_gone * 2, (size_t)1),
                                           sizeof *walk->gone);
        walk->gone[walk->n_gone++] = xstrdup(name);
}

static void add_job(Scan *scan, CatalogEntry *entry)
{
        scan->jobs[scan->n_jobs++] = entry;
}

static int on_record(const ProfileRecord *record, void *userdata)
{
        Walk *walk = userdata;
        CatalogEntry *entry =
                catalog_find(&walk->scan->catalog, record->name, strlen(record->name));

        if (!entry) {
                add_gone(walk, record->name);
                return 0;
        }
        entry->known = true;
        if (entry->mtime != record->mtime || record->error)
                add_job(walk->scan, entry);
        return 0;
}

static int remove_gone(Scan *scan, const Walk *walk, Error *err)
{
        for (size_t i = 0; i < walk->n_gone; i++) {
                const char *name = walk->gone[i];
                Error trouble = ERROR_NONE;
                int r;

                scan->summary.n_deleted++;
                log_info("%s: no longer in the index", name);
                r = scan_state_delete(scan, name, err);
                if (r < 0)
                        return r;
                if (!scan->options->dry_run &&
                    cache_remove(scan->config->scan.cache_dir, name, &trouble) < 0)
                        log_warning("%s", trouble.text);
        }
        return 0;
}

// Finds what is to be fetched and what is gone.
static int plan(Scan *scan, Error *err)
{
        _cleanup_(walk_done) Walk walk = {.scan = scan};
        Catalog *catalog = &scan->catalog;
        int r;

        scan->jobs = xcalloc(MAX(catalog->n_entries, (size_t)1), sizeof(CatalogEntry *));
        r = store_profiles_each(scan->store, on_record, &walk, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < catalog->n_entries; i++) {
                if (!catalog->entries[i].known)
                        add_job(scan, &catalog->entries[i]);
        }
        scan->summary.n_unchanged = catalog->n_entries - scan->n_jobs;
        if (catalog->n_entries == 0 && walk.n_gone > 0) {
                // More likely a folder that is not mounted or a slip in PROFILE_MATCH than the end
                // of them all; and if they came back they would all be built.
                log_warning("the index lists nothing that PROFILE_MATCH selects; the %zu known "
                            "profiles are kept in mind",
                            walk.n_gone);
                return 0;
        }
        return remove_gone(scan, &walk, err);
}

// ---- the run ------------------------------------------------------------------------------

static bool same_text(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_version(const IndexVersion *a, const IndexVersion *b)
{
        return same_text(a->etag, b->etag) && same_text(a->last_modified, b->last_modified);
}

// For a site that goes back to the Python script: it compares by this file.
static void remember_index(const Scan *scan, const Buf *text)
{
        Error err = ERROR_NONE;

        if (!scan->options->dry_run &&
            cache_write_index(scan->config->scan.cache_dir, text->data, text->len, &err) < 0)
                log_warning("%s", err.text);
}

static bool records_only(const Scan *scan)
{
        return scan->first_run && scan->config->scan.first_run == FIRST_RUN_RECORD;
}

static int deal_with_entries(Run *run, Error *err)
{
        Scan *scan = &run->scan;
        bool clean;
        int r = plan(scan, err);

        if (r < 0)
                return r;
        if (scan->options->dry_run && records_only(scan)) {
                fprintf(scan->options->out,
                        "first scan: %zu profiles would be recorded, none queued\n", scan->n_jobs);
                return 0;
        }
        r = pipeline_run(scan, err);
        if (r < 0) {
                Error trouble = ERROR_NONE;

                // What was confirmed so far need not be queued again.
                if (store_commit(scan->store, &trouble) < 0)
                        log_warning("%s", trouble.text);
                return r;
        }
        clean = scan->summary.n_failed == 0;
        if (clean)
                remember_index(scan, &run->fetched.text);
        return scan_state_complete(scan, clean, &run->fetched.version, err);
}

static int run_scan(Run *run, Error *err)
{
        _cleanup_(index_version_done) IndexVersion known = {.etag = NULL};
        Scan *scan = &run->scan;
        bool same = false;
        int r = decision_rules_init(&scan->rules, &scan->config->scan, &scan->ignore, err);

        if (r == 0)
                r = scan_state_open(scan, err);
        if (r == 0)
                r = scan_state_version(scan, &known, err);
        if (r == 0)
                r = fetch_index(run, &known, err);
        if (r < 0)
                return r;
        if (run->fetched.not_modified) {
                log_debug("the index is not modified");
                return scan_state_count(scan, &scan->summary.n_unchanged, err);
        }
        r = read_index(run, err);
        if (r == 0)
                r = scan_state_is_same_set(scan, &same, err);
        if (r < 0)
                return r;
        if (!same)
                return deal_with_entries(run, err);
        scan->summary.n_unchanged = scan->catalog.n_entries;
        if (same_version(&known, &run->fetched.version))
                return 0;
        return scan_state_complete(scan, true, &run->fetched.version, err);
}

static void say_summary(const ScanSummary *summary, const ScanOptions *options)
{
        char recorded[64] = "", refused[64] = "";

        if (summary->n_recorded)
                (void)snprintf(recorded, sizeof recorded, "; %zu recorded as the baseline",
                               summary->n_recorded);
        if (summary->n_refused)
                (void)snprintf(refused, sizeof refused, "; %zu entries refused",
                               summary->n_refused);
        log_notice(
                "%zu changed, %zu queued, %zu unchanged, %zu deleted, %zu failed in %.2f s%s%s%s",
                summary->n_changed, summary->n_queued, summary->n_unchanged, summary->n_deleted,
                summary->n_failed, (double)summary->duration_ms / 1000, recorded, refused,
                options->dry_run ? "; dry run, nothing was done" : "");
}

int scanner_run(const Config *config, const ScanOptions *options, ScanSummary *ret, Error *err)
{
        _cleanup_close_ int lock = -1;
        _cleanup_(run_done) Run run = {.scan = {.config = config, .options = options}};
        int64_t started_ms = clock_mono_ms();
        int r;

        TAILQ_INIT(&run.scan.offers);
        if (!options->dry_run) {
                r = take_lock(config, &lock, err);
                if (r < 0)
                        return r;
        }
        r = run_scan(&run, err);
        run.scan.summary.duration_ms = clock_mono_ms() - started_ms;
        *ret = run.scan.summary;
        say_summary(ret, options);
        return r;
}
