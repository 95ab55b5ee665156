// Builds and their history.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/store_internal.h"
#include "util/alloc.h"
#include "util/buf.h"

#define NO_EXIT_CODE (-1)
#define FILTER_SQL_MAX 1024

#define BUILD_COLUMNS                                                                              \
        "id, build_id, state, image, template, personality, os, source_image, entry, content_id,"  \
        " message_id, changes, attempt, queued_ms, started_ms, ended_ms, pid, exit_code,"          \
        " artifact, reason, phase, log_path, not_before_ms, failure"

void build_done(Build *build)
{
        free(TAKE_PTR(build->build_id));
        free(TAKE_PTR(build->image));
        free(TAKE_PTR(build->template));
        free(TAKE_PTR(build->personality));
        free(TAKE_PTR(build->os));
        free(TAKE_PTR(build->source_image));
        free(TAKE_PTR(build->entry));
        free(TAKE_PTR(build->content_id));
        free(TAKE_PTR(build->message_id));
        free(TAKE_PTR(build->changes));
        free(TAKE_PTR(build->artifact));
        free(TAKE_PTR(build->reason));
        free(TAKE_PTR(build->failure));
        free(TAKE_PTR(build->phase));
        free(TAKE_PTR(build->log_path));
}

// ---- writing -------------------------------------------------------------------------------

static int add_event(Store *store, int64_t build, int64_t at_ms, const char *what,
                     const char *detail, Error *err)
{
        static const char sql[] =
                "INSERT INTO build_event (build, at_ms, what, detail) VALUES (?, ?, ?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, build);
        query_int(&query, at_ms);
        query_text(&query, what);
        query_text(&query, detail);
        return query_run(&query, "write a build's history", err);
}

static int insert_row(Store *store, const Build *build, int64_t body, Error *err)
{
        static const char sql[] =
                "INSERT INTO build (build_id, state, image, template, personality, os,"
                " source_image, entry, content_id, message_id, attempt, queued_ms, body, changes,"
                " not_before_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, build->build_id);
        query_text(&query, build_state_name(BUILD_QUEUED));
        query_text(&query, build->image);
        query_text(&query, build->template);
        query_text(&query, build->personality);
        query_text(&query, build->os);
        query_text(&query, build->source_image);
        query_text(&query, build->entry);
        query_text(&query, build->content_id);
        query_text(&query, build->message_id);
        query_int(&query, build->attempt);
        query_int(&query, build->queued_ms);
        query_int(&query, body);
        query_text(&query, build->changes);
        query_int_or_null(&query, build->not_before_ms, 0);
        return query_run(&query, "write a build", err);
}

static int insert_build(Store *store, const Build *build, const char *body, size_t body_len,
                        int64_t *ret_id, Error *err)
{
        int64_t body_id;
        int r = store_body_add(store, body, body_len, &body_id, err);

        if (r == 0)
                r = insert_row(store, build, body_id, err);
        if (r < 0)
                return r;
        *ret_id = sqlite3_last_insert_rowid(store->db);
        return add_event(store, *ret_id, build->queued_ms, build_state_name(BUILD_QUEUED), NULL,
                         err);
}

int store_build_insert(Store *store, Build *build, const char *body, size_t body_len, Error *err)
{
        int64_t id = 0;
        bool own;
        int r;

        if (build->state != BUILD_QUEUED)
                return error_set(err, EINVAL, "a build that is %s cannot be inserted",
                                 build_state_name(build->state));
        r = store_atomic_begin(store, &own, err);
        if (r < 0)
                return r;
        r = store_atomic_end(store, own, insert_build(store, build, body, body_len, &id, err), err);
        if (r == 0)
                build->id = id;
        return r;
}

// The body of an unfinished build. STORE_NOT_FOUND when it is over, or not there.
static int find_body(Store *store, int64_t id, int64_t *ret_body, Error *err)
{
        static const char sql[] = "SELECT body FROM build WHERE id = ? AND body IS NOT NULL";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_int(&query, id);
        r = query_step(&query, "look for a build's message", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        *ret_body = query_column_int(&query, 0, 0);
        return 0;
}

typedef struct Change {
        BuildState state;
        int64_t started_ms, ended_ms;
        const char *reason;
} Change;

// What says which build it is stays as it was inserted: each column named here that has an index
// would be a change of that, even to the same value.
#define UPDATE_BUILD                                                                               \
        "UPDATE build SET state = ?, os = ?, source_image = ?, attempt = ?, started_ms = ?,"       \
        " ended_ms = ?, pid = ?, exit_code = ?, artifact = ?, reason = ?, phase = ?,"              \
        " log_path = ?, not_before_ms = ?, failure = ?"
#define UPDATE_OPEN_BUILD " WHERE id = ? AND ended_ms IS NULL"

// 0, or -EINVAL if the row is over already (another process ended it) or not there. The row's own
// state may be behind the struct's, when a transaction in between was rolled back.
static int update_row(Store *store, const Build *build, const Change *change, Error *err)
{
        static const char sql[] = UPDATE_BUILD UPDATE_OPEN_BUILD,
                          sql_final[] = UPDATE_BUILD ", body = NULL" UPDATE_OPEN_BUILD;
        bool runs = change->state == BUILD_BUILDING;
        _cleanup_query_ Query query =
                query_cached(store, build_state_is_final(change->state) ? sql_final : sql);
        int r;

        query_text(&query, build_state_name(change->state));
        query_text(&query, build->os);
        query_text(&query, build->source_image);
        query_int(&query, build->attempt);
        query_int_or_null(&query, change->started_ms, 0);
        query_int_or_null(&query, change->ended_ms, 0);
        query_int_or_null(&query, runs ? build->pid : 0, 0);
        query_int_or_null(&query, build->exit_code, NO_EXIT_CODE);
        query_text(&query, build->artifact);
        query_text(&query, change->reason);
        query_text(&query, runs ? build->phase : NULL);
        query_text(&query, build->log_path);
        query_int_or_null(&query, build->not_before_ms, 0);
        query_text(&query, change->state == BUILD_FAILED ? build->failure : NULL);
        query_int(&query, build->id);
        r = query_run(&query, "write a build's state", err);
        if (r < 0)
                return r;
        if (!sqlite3_changes(store->db))
                return error_set(err, EINVAL, "%s: build %lld is over already, or not there",
                                 store->path, (long long)build->id);
        return 0;
}

static int change_state(Store *store, const Build *build, const Change *change, int64_t now_ms,
                        Error *err)
{
        int64_t body = 0;
        int found = STORE_NOT_FOUND, r;

        if (build_state_is_final(change->state))
                found = find_body(store, build->id, &body, err);
        if (found < 0)
                return found;
        r = update_row(store, build, change, err);
        if (r == 0)
                r = add_event(store, build->id, now_ms, build_state_name(change->state),
                              change->reason, err);
        if (r == 0 && found == 0)
                r = store_body_drop(store, body, err);
        return r;
}

int store_build_transition(Store *store, Build *build, BuildEvent event, const char *reason,
                           int64_t now_ms, Error *err)
{
        int next = build_state_next(build->state, event), r;
        Change change = {.started_ms = build->started_ms, .reason = reason};
        bool own;

        if (next == BUILD_EVENT_REFUSED)
                return error_set(err, EINVAL, "build %lld is %s: it cannot %s",
                                 (long long)build->id, build_state_name(build->state),
                                 build_event_name(event));
        change.state = (BuildState)next;
        if (change.state == BUILD_BUILDING)
                change.started_ms = now_ms;
        if (change.state == BUILD_QUEUED)
                change.started_ms = 0;
        if (build_state_is_final(change.state))
                change.ended_ms = now_ms;
        r = store_atomic_begin(store, &own, err);
        if (r < 0)
                return r;
        r = store_atomic_end(store, own, change_state(store, build, &change, now_ms, err), err);
        if (r < 0)
                return r;
        build->state = change.state;
        build->started_ms = change.started_ms;
        build->ended_ms = change.ended_ms;
        replace_string(&build->reason, reason);
        return 0;
}

static int write_phase(Store *store, int64_t id, const char *phase, int64_t now_ms, Error *err)
{
        static const char sql[] = "UPDATE build SET phase = ? WHERE id = ? AND ended_ms IS NULL";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, phase);
        query_int(&query, id);
        r = query_run(&query, "write a build's phase", err);
        if (r < 0)
                return r;
        if (!sqlite3_changes(store->db))
                return error_set(err, EINVAL, "%s: build %lld is over already, or not there",
                                 store->path, (long long)id);
        return add_event(store, id, now_ms, "phase", phase, err);
}

int store_build_phase(Store *store, Build *build, const char *phase, int64_t now_ms, Error *err)
{
        bool own;
        int r;

        if (build->state != BUILD_BUILDING)
                return error_set(err, EINVAL, "build %lld is %s: it has no phase",
                                 (long long)build->id, build_state_name(build->state));
        r = store_atomic_begin(store, &own, err);
        if (r < 0)
                return r;
        r = store_atomic_end(store, own, write_phase(store, build->id, phase, now_ms, err), err);
        if (r == 0)
                replace_string(&build->phase, phase);
        return r;
}

int store_build_note(Store *store, const Build *build, const char *what, const char *detail,
                     int64_t now_ms, Error *err)
{
        return add_event(store, build->id, now_ms, what, detail, err);
}

// ---- reading -------------------------------------------------------------------------------

static int read_row(const Query *query, Build *ret, Error *err)
{
        _cleanup_free_ char *state = query_column_text(query, 2);

        *ret = (Build){.id = query_column_int(query, 0, 0)};
        if (!state || !build_state_from_name(state, &ret->state))
                return error_set(err, EUCLEAN, "%s: build %lld has the unknown state \"%s\"",
                                 query->store->path, (long long)ret->id, state ? state : "");
        ret->build_id = query_column_text(query, 1);
        ret->image = query_column_text(query, 3);
        ret->template = query_column_text(query, 4);
        ret->personality = query_column_text(query, 5);
        ret->os = query_column_text(query, 6);
        ret->source_image = query_column_text(query, 7);
        ret->entry = query_column_text(query, 8);
        ret->content_id = query_column_text(query, 9);
        ret->message_id = query_column_text(query, 10);
        ret->changes = query_column_text(query, 11);
        ret->attempt = query_column_int(query, 12, 0);
        ret->queued_ms = query_column_int(query, 13, 0);
        ret->started_ms = query_column_int(query, 14, 0);
        ret->ended_ms = query_column_int(query, 15, 0);
        ret->pid = query_column_int(query, 16, 0);
        ret->exit_code = query_column_int(query, 17, NO_EXIT_CODE);
        ret->artifact = query_column_text(query, 18);
        ret->reason = query_column_text(query, 19);
        ret->phase = query_column_text(query, 20);
        ret->log_path = query_column_text(query, 21);
        ret->not_before_ms = query_column_int(query, 22, 0);
        ret->failure = query_column_text(query, 23);
        return 0;
}

int store_build_get(Store *store, int64_t id, Build *ret, Error *err)
{
        static const char sql[] = "SELECT " BUILD_COLUMNS " FROM build WHERE id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_int(&query, id);
        r = query_step(&query, "read a build", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        return read_row(&query, ret, err);
}

int store_build_body(Store *store, int64_t id, char **ret, size_t *ret_len, Error *err)
{
        int64_t body;
        int r = find_body(store, id, &body, err);

        return r == 0 ? store_body_read(store, body, ret, ret_len, err) : r;
}

// ---- walking -------------------------------------------------------------------------------

static Query query_builds(Store *store, const BuildFilter *filter)
{
        char sql[FILTER_SQL_MAX];
        Query query;

        // Only literals meet here; the values are bound.
        (void)snprintf(sql, sizeof sql, "SELECT %s FROM build WHERE 1%s%s%s ORDER BY id %s LIMIT ?",
                       BUILD_COLUMNS, filter->only_unfinished ? " AND ended_ms IS NULL" : "",
                       filter->state ? " AND state = ?" : "", filter->image ? " AND image = ?" : "",
                       filter->oldest_first ? "ASC" : "DESC");
        query = query_new(store, sql);
        if (filter->state)
                query_text(&query, build_state_name(*filter->state));
        if (filter->image)
                query_text(&query, filter->image);
        query_int(&query, filter->limit > 0 ? filter->limit : -1); // -1: no limit
        return query;
}

static int visit_build(const Query *query, StoreBuildFn fn, void *userdata, Error *err)
{
        _cleanup_(build_done) Build build = {0};
        int r = read_row(query, &build, err);

        return r < 0 ? r : fn(&build, userdata);
}

int store_builds_each(Store *store, const BuildFilter *filter, StoreBuildFn fn, void *userdata,
                      Error *err)
{
        _cleanup_query_ Query query = query_builds(store, filter);
        int r;

        while ((r = query_step(&query, "read the builds", err)) == QUERY_ROW) {
                r = visit_build(&query, fn, userdata, err);
                if (r < 0)
                        return r;
        }
        return r;
}

static int visit_event(const Query *query, StoreEventFn fn, void *userdata)
{
        _cleanup_free_ char *what = query_column_text(query, 1);
        _cleanup_free_ char *detail = query_column_text(query, 2);
        const BuildEventRecord event = {
                .at_ms = query_column_int(query, 0, 0), .what = what, .detail = detail};

        return fn(&event, userdata);
}

int store_build_events_each(Store *store, int64_t id, StoreEventFn fn, void *userdata, Error *err)
{
        _cleanup_query_ Query query = query_new(
                store, "SELECT at_ms, what, detail FROM build_event WHERE build = ? ORDER BY id");
        int r;

        query_int(&query, id);
        while ((r = query_step(&query, "read a build's history", err)) == QUERY_ROW) {
                r = visit_event(&query, fn, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}
