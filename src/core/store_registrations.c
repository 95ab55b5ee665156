#include "core/store_registrations.h"

#include <errno.h>
#include <string.h>

#include "core/store_internal.h"
#include "util/alloc.h"

#define COLUMNS                                                                                    \
        "id, server, state, step, name, build_id, personality, address, host, machine, debts,"     \
        " attempt, begun_ms, changed_ms, not_before_ms, reason, notice, old_machine"

void registration_done(Registration *registration)
{
        free(TAKE_PTR(registration->server));
        free(TAKE_PTR(registration->name));
        free(TAKE_PTR(registration->build_id));
        free(TAKE_PTR(registration->personality));
        free(TAKE_PTR(registration->address));
        free(TAKE_PTR(registration->host));
        free(TAKE_PTR(registration->machine));
        free(TAKE_PTR(registration->old_machine));
        free(TAKE_PTR(registration->reason));
        free(TAKE_PTR(registration->notice));
}

// ---- reading -------------------------------------------------------------------------------

// A state or step that this version does not know is one that begins anew.
static void read_row(const Query *query, Registration *ret)
{
        _cleanup_free_ char *state = query_column_text(query, 2);
        _cleanup_free_ char *step = query_column_text(query, 3);

        *ret = (Registration){.id = query_column_int(query, 0, 0),
                              .server = query_column_text(query, 1),
                              .name = query_column_text(query, 4),
                              .build_id = query_column_text(query, 5),
                              .personality = query_column_text(query, 6),
                              .address = query_column_text(query, 7),
                              .host = query_column_text(query, 8),
                              .machine = query_column_text(query, 9),
                              .debts = (unsigned)query_column_int(query, 10, 0),
                              .attempt = query_column_int(query, 11, 0),
                              .begun_ms = query_column_int(query, 12, 0),
                              .changed_ms = query_column_int(query, 13, 0),
                              .not_before_ms = query_column_int(query, 14, 0),
                              .reason = query_column_text(query, 15),
                              .notice = query_column_text(query, 16),
                              .old_machine = query_column_text(query, 17)};
        if (!registration_state_from_name(state, &ret->state))
                ret->state = REGISTRATION_FAILED;
        if (!registration_step_from_name(step, &ret->step))
                ret->step = STEP_NAME_HOST;
}

int store_registration_find(Store *store, const char *server, Registration *ret, Error *err)
{
        static const char sql[] = "SELECT " COLUMNS " FROM registration WHERE server = ?";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, server);
        r = query_step(&query, "look for a registration", err);
        if (r != QUERY_ROW)
                return r < 0 ? r : STORE_NOT_FOUND;
        read_row(&query, ret);
        return 0;
}

int store_registrations_each(Store *store, const RegistrationFilter *filter, StoreRegistrationFn fn,
                             void *userdata, Error *err)
{
        // ?1: 1 for open ones only; ?2: a state or NULL; ?3: -1 is no limit.
        static const char newest[] =
                "SELECT " COLUMNS " FROM registration WHERE (?1 = 0 OR debts <> 0"
                " OR state IN ('registering', 'removing')) AND (?2 IS NULL OR state = ?2)"
                " ORDER BY id DESC LIMIT ?3";
        static const char oldest[] =
                "SELECT " COLUMNS " FROM registration WHERE (?1 = 0 OR debts <> 0"
                " OR state IN ('registering', 'removing')) AND (?2 IS NULL OR state = ?2)"
                " ORDER BY id LIMIT ?3";
        _cleanup_query_ Query query = query_new(store, filter->limit ? newest : oldest);
        int r;

        query_int(&query, filter->only_open);
        query_text(&query, filter->state ? registration_state_name(*filter->state) : NULL);
        query_int(&query, filter->limit ? filter->limit : -1);
        while ((r = query_step(&query, "list registrations", err)) == QUERY_ROW) {
                _cleanup_(registration_done) Registration row;

                read_row(&query, &row);
                r = fn(&row, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

int store_registration_events_each(Store *store, int64_t id, StoreEventFn fn, void *userdata,
                                   Error *err)
{
        _cleanup_query_ Query query =
                query_new(store, "SELECT at_ms, what, detail FROM registration_event"
                                 " WHERE registration = ? ORDER BY id");
        int r;

        query_int(&query, id);
        while ((r = query_step(&query, "read a registration's history", err)) == QUERY_ROW) {
                _cleanup_free_ char *what = query_column_text(&query, 1);
                _cleanup_free_ char *detail = query_column_text(&query, 2);
                const BuildEventRecord event = {
                        .at_ms = query_column_int(&query, 0, 0), .what = what, .detail = detail};

                r = fn(&event, userdata);
                if (r < 0)
                        return r;
        }
        return r;
}

// ---- writing -------------------------------------------------------------------------------

static int add_event(Store *store, int64_t registration, int64_t at_ms, const char *what,
                     const char *detail, Error *err)
{
        static const char sql[] = "INSERT INTO registration_event (registration, at_ms, what,"
                                  " detail) VALUES (?, ?, ?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, registration);
        query_int(&query, at_ms);
        query_text(&query, what);
        query_text(&query, detail);
        return query_run(&query, "write a registration's history", err);
}

static int insert(Store *store, Registration *row, int64_t now_ms, Error *err)
{
        static const char sql[] = "INSERT INTO registration (server, state, step, begun_ms,"
                                  " changed_ms) VALUES (?, ?, ?, ?, ?)";
        _cleanup_query_ Query query = query_cached(store, sql);
        int r;

        query_text(&query, row->server);
        query_text(&query, registration_state_name(row->state));
        query_text(&query, registration_step_name(row->step));
        query_int(&query, row->begun_ms);
        query_int(&query, now_ms);
        r = query_run(&query, "write a registration", err);
        if (r < 0)
                return r;
        row->id = sqlite3_last_insert_rowid(store->db);
        return store_registration_save(store, row, registration_state_name(row->state), row->reason,
                                       now_ms, err);
}

static int update(Store *store, const Registration *row, Error *err)
{
        static const char sql[] =
                "UPDATE registration SET state = ?, step = ?, name = ?, build_id = ?,"
                " personality = ?, address = ?, host = ?, machine = ?, debts = ?, attempt = ?,"
                " begun_ms = ?, changed_ms = ?, not_before_ms = ?, reason = ?, notice = ?,"
                " old_machine = ?"
                " WHERE id = ?";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, registration_state_name(row->state));
        query_text(&query, registration_step_name(row->step));
        query_text(&query, row->name);
        query_text(&query, row->build_id);
        query_text(&query, row->personality);
        query_text(&query, row->address);
        query_text(&query, row->host);
        query_text(&query, row->machine);
        query_int(&query, row->debts);
        query_int(&query, row->attempt);
        query_int(&query, row->begun_ms);
        query_int(&query, row->changed_ms);
        query_int(&query, row->not_before_ms);
        query_text(&query, row->reason);
        query_text(&query, row->notice);
        query_text(&query, row->old_machine);
        query_int(&query, row->id);
        return query_run(&query, "write a registration", err);
}

static int save(Store *store, Registration *row, const char *what, const char *detail,
                int64_t now_ms, Error *err)
{
        int r;

        row->changed_ms = now_ms;
        r = update(store, row, err);
        return r < 0 || !what ? r : add_event(store, row->id, now_ms, what, detail, err);
}

int store_registration_insert(Store *store, Registration *registration, int64_t now_ms, Error *err)
{
        bool own;
        int r = store_atomic_begin(store, &own, err);

        return r < 0 ? r
                     : store_atomic_end(store, own, insert(store, registration, now_ms, err), err);
}

int store_registration_save(Store *store, Registration *registration, const char *what,
                            const char *detail, int64_t now_ms, Error *err)
{
        bool own;
        int r = store_atomic_begin(store, &own, err);

        return r < 0 ? r
                     : store_atomic_end(store, own,
                                        save(store, registration, what, detail, now_ms, err), err);
}

int store_registration_transition(Store *store, Registration *registration, RegistrationEvent event,
                                  int64_t now_ms, Error *err)
{
        RegistrationState before = registration->state;
        int r;

        if (!registration_state_next(before, event, &registration->state))
                return error_set(err, EINVAL, "server %s is %s: its state cannot change so",
                                 registration->server, registration_state_name(before));
        r = store_registration_save(store, registration,
                                    registration_state_name(registration->state),
                                    registration->reason, now_ms, err);
        if (r < 0)
                registration->state = before;
        return r;
}

int store_registrations_prune(Store *store, int64_t before_ms, Error *err)
{
        static const char sql[] = "DELETE FROM registration WHERE changed_ms < ? AND debts = 0"
                                  " AND state IN ('removed', 'failed', 'stuck')";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_int(&query, before_ms);
        return query_run(&query, "forget old registrations", err);
}

// ---- counts --------------------------------------------------------------------------------

int store_notifications_count(Store *store, const char *type, int64_t n, Error *err)
{
        static const char sql[] = "INSERT INTO notification_count (type, n) VALUES (?1, ?2)"
                                  " ON CONFLICT (type) DO UPDATE SET n = n + ?2";
        _cleanup_query_ Query query = query_cached(store, sql);

        query_text(&query, type);
        query_int(&query, n);
        return query_run(&query, "count notifications", err);
}

int store_notifications_each(Store *store, StoreCountFn fn, void *userdata, Error *err)
{
        _cleanup_query_ Query query =
                query_new(store, "SELECT type, n FROM notification_count ORDER BY type");
        int r;

        while ((r = query_step(&query, "read the counts", err)) == QUERY_ROW) {
                _cleanup_free_ char *type = query_column_text(&query, 0);

                r = fn(type, query_column_int(&query, 1, 0), userdata);
                if (r < 0)
                        return r;
        }
        return r;
}
