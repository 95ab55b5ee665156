// What a scan remembers for the next one. The marks of a clean scan (fingerprint of the set,
// version of the index) are taken off before the first record moves and put back at the end: a scan
// that was cut short, or left something to do, makes the next one look at every entry.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "scan/migrate.h"
#include "scan/scan_internal.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define META_COMPLETED "scan_completed"
#define META_ETAG "index_etag"
#define META_LAST_MODIFIED "index_last_modified"
#define META_ORIGIN "index_origin"
#define META_FINGERPRINT "index_fingerprint"

#define COMMIT_RECORDS 256 // each commit waits for the disk
#define COMMIT_AFTER_MS 1000

void index_version_done(IndexVersion *version)
{
        replace_string(&version->etag, NULL);
        replace_string(&version->last_modified, NULL);
}

// Where the index comes from and what is selected of it: when that changes, an answer of "not
// modified" would be about something else.
static char *origin_of(const ScanConfig *config)
{
        return xasprintf("%s %s", config->profile_info_url, config->profile_match);
}

static int meta_equals(const Scan *scan, const char *key, const char *value, bool *ret, Error *err)
{
        _cleanup_free_ char *stored = NULL;
        int r = store_meta_get(scan->store, key, &stored, err);

        if (r >= 0)
                *ret = stored && strcmp(stored, value) == 0;
        return r;
}

// ---- opening ------------------------------------------------------------------------------

static int migrate(Scan *scan, Error *err)
{
        Error reason = ERROR_NONE;
        size_t n_profiles = 0;
        int r = store_begin(scan->store, err);

        if (r < 0)
                return r;
        r = migrate_python_cache(scan->store, &scan->config->scan, &scan->rules, &n_profiles,
                                 &reason);
        if (r == 0)
                r = store_meta_set(scan->store, META_COMPLETED, "yes", &reason);
        if (r == 0)
                r = store_commit(scan->store, &reason);
        if (r != 0) {
                store_rollback(scan->store);
                if (r < 0)
                        log_warning("the cache in %s cannot be taken over: %s",
                                    scan->config->scan.cache_dir, reason.text);
                return 0;
        }
        scan->first_run = false;
        log_notice("took over %zu profiles from the cache in %s", n_profiles,
                   scan->config->scan.cache_dir);
        return 0;
}

// A dry run that finds no store works on a new one, which is thrown away.
static int open_scratch(Scan *scan, Error *err)
{
        const char *tmp = getenv("TMPDIR");
        _cleanup_free_ char *path = fs_join(tmp && *tmp ? tmp : "/tmp", "cdb2rabbit-XXXXXX");

        if (!mkdtemp(path))
                return error_sys(err, "cannot make the folder %s", path);
        scan->scratch_dir = TAKE_PTR(path);
        return store_open(scan->scratch_dir, STORE_PROFILES, STORE_READ_WRITE, &scan->store, err);
}

int scan_state_open(Scan *scan, Error *err)
{
        _cleanup_free_ char *completed = NULL;
        bool dry_run = scan->options->dry_run;
        int r = store_open(scan->config->global.state_dir, STORE_PROFILES,
                           dry_run ? STORE_READ_ONLY : STORE_READ_WRITE, &scan->store, err);

        if (r == STORE_NOT_FOUND)
                r = open_scratch(scan, err);
        if (r < 0)
                return r;
        r = store_meta_get(scan->store, META_COMPLETED, &completed, err);
        if (r < 0)
                return r;
        scan->first_run = !completed;
        if (completed || (dry_run && !scan->scratch_dir))
                return 0;
        return migrate(scan, err);
}

// ---- what the last scan left ----------------------------------------------------------------

int scan_state_version(const Scan *scan, IndexVersion *ret, Error *err)
{
        _cleanup_free_ char *origin = origin_of(&scan->config->scan);
        bool same = false;
        int r = meta_equals(scan, META_ORIGIN, origin, &same, err);

        if (r < 0 || !same)
                return r;
        r = store_meta_get(scan->store, META_ETAG, &ret->etag, err);
        return r < 0 ? r
                     : store_meta_get(scan->store, META_LAST_MODIFIED, &ret->last_modified, err);
}

int scan_state_is_same_set(const Scan *scan, bool *ret, Error *err)
{
        char fingerprint[CATALOG_FINGERPRINT_SIZE];

        catalog_fingerprint(&scan->catalog, fingerprint);
        return meta_equals(scan, META_FINGERPRINT, fingerprint, ret, err);
}

int scan_state_count(const Scan *scan, size_t *ret, Error *err)
{
        _cleanup_free_ char *fingerprint = NULL;
        int r = store_meta_get(scan->store, META_FINGERPRINT, &fingerprint, err);

        if (r >= 0)
                *ret = catalog_fingerprint_count(fingerprint);
        return r < 0 ? r : 0;
}

// ---- writing ------------------------------------------------------------------------------

static int set_marks(Scan *scan, const char *fingerprint, const char *origin,
                     const IndexVersion *version, Error *err)
{
        const struct {
                const char *key, *value;
        } marks[] = {
                {META_FINGERPRINT, fingerprint},
                {META_ORIGIN, origin},
                {META_ETAG, version->etag},
                {META_LAST_MODIFIED, version->last_modified},
        };

        for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
                int r = store_meta_set(scan->store, marks[i].key, marks[i].value, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int begin_write(Scan *scan, Error *err)
{
        int r;

        if (!store_in_transaction(scan->store)) {
                r = store_begin(scan->store, err);
                if (r < 0)
                        return r;
                scan->transaction_ms = clock_mono_ms();
        }
        if (scan->state_is_open)
                return 0;
        r = set_marks(scan, NULL, NULL, &(IndexVersion){.etag = NULL}, err);
        scan->state_is_open = r >= 0;
        return r;
}

int scan_state_put(Scan *scan, const ProfileRecord *record, Error *err)
{
        int r;

        if (scan->options->dry_run)
                return 0;
        r = begin_write(scan, err);
        if (r == 0)
                r = store_profile_put(scan->store, record, err);
        scan->n_uncommitted++;
        return r;
}

int scan_state_delete(Scan *scan, const char *name, Error *err)
{
        int r;

        if (scan->options->dry_run)
                return 0;
        r = begin_write(scan, err);
        if (r == 0)
                r = store_profile_delete(scan->store, name, err);
        scan->n_uncommitted++;
        return r;
}

int scan_state_commit_if_due(Scan *scan, Error *err)
{
        if (scan->n_uncommitted == 0 || (scan->n_uncommitted < COMMIT_RECORDS &&
                                         clock_mono_ms() - scan->transaction_ms < COMMIT_AFTER_MS))
                return 0;
        scan->n_uncommitted = 0;
        return store_commit(scan->store, err);
}

int scan_state_complete(Scan *scan, bool clean, const IndexVersion *version, Error *err)
{
        _cleanup_free_ char *origin = origin_of(&scan->config->scan);
        char fingerprint[CATALOG_FINGERPRINT_SIZE];
        int r;

        if (scan->options->dry_run)
                return 0;
        r = begin_write(scan, err);
        if (r == 0)
                r = store_meta_set(scan->store, META_COMPLETED, "yes", err);
        if (r == 0 && clean) {
                catalog_fingerprint(&scan->catalog, fingerprint);
                r = set_marks(scan, fingerprint, origin, version, err);
        }
        return r < 0 ? r : store_commit(scan->store, err);
}
