// From an entry to its end: fetch, decide, queue, and record once the broker has confirmed. The
// steps of different profiles overlap; what is in memory at a time is limited.
#include <errno.h>
#include <string.h>
#include <time.h>

#include "scan/cache.h"
#include "scan/scan_internal.h"
#include "util/alloc.h"
#include "util/log.h"

#define TURN_MS 250
#define CONFIRM_TIMEOUT_MS 60000
#define OFFERED_MAX_BYTES ((size_t)16 * 1024 * 1024)
#define FAILURES_TOLD_MAX 50
#define REQUESTS_PER_TRANSFER 2 // asked for ahead, so that no connection waits for us

// In callbacks, which cannot pass an error up: `r` came from a call that got &scan->failure, and
// the loop looks there.
static void stop_on_error(Scan *scan, int r)
{
        if (r < 0 && !scan->failure.code)
                scan->failure.code = -r;
}

// ---- trouble with one profile -------------------------------------------------------------

// Remembers why a profile is to be tried again. Nothing else of its record moves.
static int record_failure(Scan *scan, const char *name, int64_t mtime, const ProfileRecord *known,
                          char *reason, Error *err)
{
        ProfileRecord record = {.mtime = mtime};

        if (known && known->error && strcmp(known->error, reason) == 0)
                return 0;
        if (known)
                record = *known;
        record.name = name;
        record.error = reason;
        return scan_state_put(scan, &record, err);
}

static void say_failed(Scan *scan, const char *name, const char *what, const Error *reason)
{
        log_write(scan->summary.n_failed++ < FAILURES_TOLD_MAX ? LOG_LEVEL_WARNING
                                                               : LOG_LEVEL_DEBUG,
                  "%s: %s%s; to be tried again", name, what, reason->text);
}

// ---- queueing -----------------------------------------------------------------------------

static void offer_free(Offer *offer)
{
        message_done(&offer->message);
        free(offer->name);
        free(offer);
}

DEFINE_CLEANUP(Offer, offer_free)

static void remember_body(const Scan *scan, const char *name, const char *body, size_t len,
                          size_t new_from, size_t new_to)
{
        const char *cache_dir = scan->config->scan.cache_dir;
        bool is_new = new_from == 0 && new_to == len;
        Error err = ERROR_NONE;
        int r = is_new ? cache_write(cache_dir, name, body, len, &err)
                       : cache_update(cache_dir, name, body, len, new_from, new_to, &err);

        if (r < 0)
                log_warning("%s: the next change cannot be explained: %s", name, err.text);
}

// PublishDoneFn: the broker has the message, or will not have it.
static void on_published(uint64_t token, const Error *err, void *userdata)
{
        Offer *offer = (Offer *)(uintptr_t)token;
        Scan *scan = userdata;

        TAILQ_REMOVE(&scan->offers, offer, link);
        scan->offered_bytes -= offer->message.body_len;
        if (err) {
                // The record stays as it is: the next scan finds the same difference.
                say_failed(scan, offer->name, "not queued: ", err);
        } else if (!scan->failure.code) {
                scan->summary.n_queued++;
                remember_body(scan, offer->name, offer->message.body, offer->message.body_len,
                              offer->new_from, offer->new_to);
                stop_on_error(scan, scan_state_put(scan, &offer->record, &scan->failure));
        }
        offer_free(offer);
}

static int need_publisher(Scan *scan, Error *err)
{
        int r;

        if (scan->publisher)
                return 0;
        r = publisher_open(scan->config, on_published, scan, &scan->publisher, err);
        return r < 0 ? error_prefix(err, "what changed cannot be queued") : 0;
}

static Offer *offer_new(const CatalogEntry *entry, const Decision *decision, Buf *body)
{
        char hex[CONTENT_ID_HEX_SIZE];
        Offer *offer = xcalloc(1, sizeof *offer);

        content_id_hex(&decision->content, hex);
        offer->name = xstrndup(entry->entry, entry->name_len);
        offer->record = (ProfileRecord){
                .name = offer->name,
                .mtime = entry->mtime,
                .raw = decision->raw,
                .content = decision->content,
                .ignore = decision->ignore,
                .in_order = decision->in_order,
                .has_content = true,
                .has_id = true,
        };
        offer->message = (Message){
                .message_id = message_new_id(),
                .app_id = xstrdup(MESSAGE_APP_SCANNER),
                .entry = xstrndup(entry->entry, entry->entry_len),
                .content_id = xstrdup(hex),
                .changes = xstrdup(decision->changes),
                .timestamp = time(NULL),
        };
        offer->new_from = decision->new_from;
        offer->new_to = decision->new_to;
        offer->message.body = buf_take(body, &offer->message.body_len);
        return offer;
}

static int queue_profile(Scan *scan, const CatalogEntry *entry, const Decision *decision, Buf *body,
                         Error *err)
{
        Offer *offer;
        int r = need_publisher(scan, err);

        if (r < 0)
                return r;
        offer = offer_new(entry, decision, body);
        // Before it is sent: the local queue confirms at once.
        TAILQ_INSERT_TAIL(&scan->offers, offer, link);
        scan->offered_bytes += offer->message.body_len;
        return publisher_send(scan->publisher, &offer->message, (uint64_t)(uintptr_t)offer, err);
}

// ---- deciding -----------------------------------------------------------------------------

static void say_change(const Scan *scan, const CatalogEntry *entry, const Decision *decision)
{
        const char *changes = decision->changes ? decision->changes : "";
        int len = (int)entry->entry_len, first = (int)strcspn(changes, "\n");

        if (scan->options->dry_run) {
                FILE *out = scan->options->out;

                fprintf(out, "%.*s: %s, would be queued\n", len, entry->entry,
                        decision->verdict == VERDICT_ADDED ? "added" : "changed");
                for (const char *line = changes; *line; line += strspn(line, "\n")) {
                        int line_len = (int)strcspn(line, "\n");

                        fprintf(out, "  %.*s\n", line_len, line);
                        line += line_len;
                }
        } else if (decision->verdict == VERDICT_ADDED) {
                log_info("%.*s: added", len, entry->entry);
        } else if (decision->n_differences > 1) {
                log_info("%.*s: %.*s, and %zu more", len, entry->entry, first, changes,
                         decision->n_differences - 1);
        } else {
                log_info("%.*s: %.*s", len, entry->entry, first,
                         *changes ? changes : "changed; the earlier body is not in the cache");
        }
}

// The profile is as it was, or is the baseline.
static int record_profile(Scan *scan, const CatalogEntry *entry, const char *name,
                          const ProfileRecord *known, const Decision *decision, const Buf *body,
                          Error *err)
{
        ProfileRecord record = {
                .name = name,
                .mtime = entry->mtime,
                .raw = decision->raw,
                .content = decision->content,
                .ignore = decision->ignore,
                .in_order = decision->in_order,
                .has_content = true,
                .has_id = true,
        };

        if (decision->verdict == VERDICT_BASELINE)
                scan->summary.n_recorded++;
        else
                scan->summary.n_unchanged++;
        log_debug("%s: %s", name,
                  decision->verdict == VERDICT_BASELINE ? "recorded" : "recompiled, not changed");
        if (scan->options->dry_run)
                return 0;
        if (!known || !known->has_content ||
            !checksum_matches(&known->raw, buf_str(body), body->len))
                remember_body(scan, name, buf_str(body), body->len, decision->new_from,
                              decision->new_to);
        return scan_state_put(scan, &record, err);
}

static bool is_baseline(const Scan *scan, const CatalogEntry *entry, const ProfileRecord *known)
{
        if (known)
                return known->mtime == entry->mtime; // seen like this before, but not its content
        return scan->first_run && scan->config->scan.first_run == FIRST_RUN_RECORD;
}

static int take_profile(Scan *scan, const CatalogEntry *entry, const char *name,
                        const ProfileRecord *known, const HttpResponse *response, Error *err)
{
        _cleanup_decision_ Decision decision = {.changes = NULL};
        bool baseline = is_baseline(scan, entry, known);
        Error reason = response->error ? *response->error : ERROR_NONE;
        int r = -reason.code;

        if (reason.code == EFBIG)
                (void)error_prefix(&reason, "over MAX_PROFILE_BYTES");
        if (r == 0)
                r = decision_make(&scan->rules, name, known, baseline, buf_str(response->body),
                                  response->body->len, &decision, &reason);
        if (r < 0) {
                say_failed(scan, name, "", &reason);
                return record_failure(scan, name, baseline ? entry->mtime : SCAN_NEVER_DEALT, known,
                                      reason.text, err);
        }
        if (decision.verdict == VERDICT_UNCHANGED || decision.verdict == VERDICT_BASELINE)
                return record_profile(scan, entry, name, known, &decision, response->body, err);
        scan->summary.n_changed++;
        say_change(scan, entry, &decision);
        if (scan->options->dry_run)
                return 0;
        return queue_profile(scan, entry, &decision, response->body, err);
}

void pipeline_on_response(HttpClient *client, const HttpResponse *response, void *userdata)
{
        const CatalogEntry *entry = response->userdata;
        Scan *scan = userdata;
        _cleanup_free_ char *name = xstrndup(entry->entry, entry->name_len);
        _cleanup_(profile_record_done) ProfileRecord known = {.error = NULL};
        int r;

        (void)client;
        if (scan->failure.code)
                return;
        r = store_profile_get(scan->store, name, &known, &scan->failure);
        if (r >= 0)
                r = take_profile(scan, entry, name, r == STORE_NOT_FOUND ? NULL : &known, response,
                                 &scan->failure);
        stop_on_error(scan, r);
}

// ---- the flow -----------------------------------------------------------------------------

static int request_profile(Scan *scan, CatalogEntry *entry, Error *err)
{
        _cleanup_free_ char *path = xstrndup(entry->entry, entry->entry_len);
        _cleanup_free_ char *url = http_join_url(scan->config->scan.profile_dir_url, path);
        HttpRequest request = {
                .url = url,
                .max_bytes = scan->config->scan.max_profile_bytes,
                .userdata = entry,
        };

        return http_client_add(scan->client, &request, err);
}

static int request_more(Scan *scan, Error *err)
{
        size_t ahead = (size_t)scan->config->scan.parallel * REQUESTS_PER_TRANSFER;

        while (scan->next_job < scan->n_jobs && scan->offered_bytes < OFFERED_MAX_BYTES &&
               http_client_pending(scan->client) < ahead) {
                int r = request_profile(scan, scan->jobs[scan->next_job++], err);

                if (r < 0)
                        return r;
        }
        return 0;
}

// With nothing to fetch left, for all of them; with too much in memory to fetch more, for so many
// that the broker has others to go on with while more are fetched.
static int wait_for_confirms(Scan *scan, Error *err)
{
        size_t most =
                scan->next_job < scan->n_jobs ? publisher_unconfirmed(scan->publisher) / 2 : 0;

        return publisher_wait(scan->publisher, most, CONFIRM_TIMEOUT_MS, err);
}

static int turn(Scan *scan, Error *err)
{
        int r = request_more(scan, err);

        if (r < 0)
                return r;
        if (http_client_pending(scan->client) > 0) {
                int fd = scan->publisher ? publisher_fd(scan->publisher) : -1;

                r = http_client_run_once(scan->client, fd, TURN_MS, err);
                if (r == 0 && scan->publisher && !scan->failure.code)
                        r = publisher_process(scan->publisher, err);
        } else if (scan->publisher) {
                r = wait_for_confirms(scan, err);
        }
        if (r == 0 && scan->failure.code)
                return error_set(err, scan->failure.code, "%s", scan->failure.text);
        return r < 0 ? r : scan_state_commit_if_due(scan, err);
}

int pipeline_run(Scan *scan, Error *err)
{
        while (scan->next_job < scan->n_jobs || http_client_pending(scan->client) > 0 ||
               !TAILQ_EMPTY(&scan->offers)) {
                int r = turn(scan, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

void pipeline_done(Scan *scan)
{
        Offer *offer;

        // In this order: closing may still report the fate of offers.
        if (scan->publisher)
                publisher_close(TAKE_PTR(scan->publisher));
        http_client_free(scan->client);
        scan->client = NULL;
        while ((offer = TAILQ_FIRST(&scan->offers))) {
                TAILQ_REMOVE(&scan->offers, offer, link);
                offer_free(offer);
        }
        free(scan->jobs);
        scan->jobs = NULL;
}
