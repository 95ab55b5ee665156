// Leases against a broker that is played here: what is sent and dropped is written down, and
// answered when the test says so.
#include "../core/unit_store.h"

#include <errno.h>
#include <inttypes.h>

#include "builder/leases.h"
#include "net/queue_transport.h"

#define LEASE_SECONDS 30
#define LOG_SIZE 4096
#define TURN_USEC (5 * 1000000ULL)

typedef struct Rig {
        Consumer broker; // first: the fake's own
        sd_event *event;
        Store *store;
        Leases *leases;
        char log[LOG_SIZE]; // "send 0 m1\n", "drop 0\n", "ack m1\n", "proven\n", "lost\n"
        bool refuse_begin;
} Rig;

static void note(Rig *rig, const char *what, const char *name)
{
        size_t len = strlen(rig->log);

        (void)snprintf(rig->log + len, LOG_SIZE - len, "%s%s%s\n", what, *name ? " " : "", name);
}

static void assert_log(Rig *rig, const char *expected)
{
        assert_string_equal(rig->log, expected);
        *rig->log = '\0';
}

static const char *slot_of(const char *suffix)
{
        assert_int_equal(strncmp(suffix, ".lease.", 7), 0);
        return strrchr(suffix, '.') + 1;
}

// ---- the broker ----------------------------------------------------------------------------

static void fake_send(Consumer *broker, const Message *message, const SendSpec *spec,
                      uint64_t token)
{
        _cleanup_free_ char *text = xasprintf("%s %s", slot_of(spec->suffix), message->message_id);
        _cleanup_free_ char *number = xasprintf("%" PRIu64, token);

        assert_string_equal(slot_of(spec->suffix), number);
        assert_int_equal(spec->return_after_ms, LEASE_SECONDS * 1000);
        assert_string_equal(message->body, BODY);
        note((Rig *)broker, "send", text);
}

static void fake_drop(Consumer *broker, const char *suffix, uint64_t token)
{
        (void)token;
        note((Rig *)broker, "drop", slot_of(suffix));
}

static void fake_ack(Consumer *broker, Delivery *delivery)
{
        note((Rig *)broker, "ack", delivery->message.message_id);
        delivery_free(delivery);
}

static const ConsumerOps fake_ops = {.ack = fake_ack, .send = fake_send, .drop = fake_drop};

// ---- the worker ----------------------------------------------------------------------------

static int on_begin(void *userdata, Error *err)
{
        Rig *rig = userdata;

        if (rig->refuse_begin)
                return error_set(err, ENOSPC, "the disk is full");
        return store_in_transaction(rig->store) ? 0 : store_begin(rig->store, err);
}

static void on_proven(void *userdata)
{
        note(userdata, "proven", "");
}

static void on_lost(Lease *lease, void *userdata)
{
        (void)lease;
        note(userdata, "lost", "");
}

static void begin(Rig *rig)
{
        Error err = ERROR_NONE;

        assert_ok(on_begin(rig, &err), err);
}

static void commit(Rig *rig)
{
        Error err = ERROR_NONE;

        assert_ok(leases_write(rig->leases, &err), err);
        assert_ok(store_commit(rig->store, &err), err);
        leases_committed(rig->leases);
}

static void start(Rig *rig)
{
        static const LeasesCallbacks callbacks = {on_begin, on_proven, on_lost};
        Error err = ERROR_NONE;

        assert_ok(leases_new(rig->store, rig->event, &callbacks, rig, &rig->leases, &err), err);
}

static void connect(Rig *rig)
{
        leases_connected(rig->leases, &rig->broker, LEASE_SECONDS);
        if (store_in_transaction(rig->store))
                commit(rig);
}

static void setup(Rig *rig, const char *folder)
{
        *rig = (Rig){.broker.ops = &fake_ops};
        assert_true(sd_event_new(&rig->event) >= 0);
        rig->store = open_store(folder, STORE_BUILDS, STORE_READ_WRITE);
        start(rig);
        connect(rig);
}

static void done(Rig *rig)
{
        store_rollback(rig->store);
        leases_free(rig->leases);
        store_close(rig->store);
        (void)sd_event_unref(rig->event);
}

// Killed and started again; `build` is what the journal has.
static Lease *restart(Rig *rig, const Build *build)
{
        leases_free(rig->leases);
        start(rig);
        return build ? leases_take_build(rig->leases, build) : NULL;
}

static Build make_build_of(const char *message_id)
{
        Build build = make_build(message_id, "image");

        replace_string(&build.message_id, message_id);
        return build;
}

// In one turn: the message's build is journalled, and its delivery waits for the lease.
static Lease *take(Rig *rig, Build *build)
{
        Delivery *delivery = xcalloc(1, sizeof *delivery);
        size_t before = strlen(rig->log);
        Lease *lease;

        delivery->message.message_id = xstrdup(build->message_id);
        delivery->message.body = xstrdup(BODY);
        delivery->message.body_len = strlen(BODY);
        begin(rig);
        (void)insert(rig->store, build, BODY);
        lease = leases_take(rig->leases, &delivery->message);
        leases_ack(rig->leases, delivery);
        assert_int_equal(strlen(rig->log), before);
        commit(rig);
        while (strlen(rig->log) == before)
                assert_true(sd_event_run(rig->event, TURN_USEC) > 0);
        return lease;
}

static void release(Rig *rig, Lease *lease, Build *build)
{
        size_t before = strlen(rig->log);

        begin(rig);
        go(rig->store, build, BUILD_EVENT_SKIP, NULL, 1);
        lease_unref(lease);
        assert_int_equal(strlen(rig->log), before);
        commit(rig);
}

static void sent(Rig *rig, uint64_t slot)
{
        leases_on_sent(rig->leases, slot, NULL);
}

static void dropped(Rig *rig, uint64_t slot, int64_t n)
{
        leases_on_dropped(rig->leases, slot, n, NULL);
}

// All that is lazily written.
static int64_t rows(Rig *rig)
{
        begin(rig);
        commit(rig);
        return number(rig->store, "SELECT count(*) FROM lease");
}

static void expire_rows(Rig *rig)
{
        (void)rows(rig);
        run_sql(rig->store, "UPDATE lease SET ends_ms = 1");
}

// ---- tests ---------------------------------------------------------------------------------

static void test_ack_waits_for_the_copy(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        lease = take(&rig, &build);
        assert_true(lease_is_proven(lease)); // the start waits for nothing
        assert_log(&rig, "send 0 m\n");      // a moment later
        assert_int_equal(number(rig.store, "SELECT slot FROM lease"), 0);
        assert_true(leases_busy(rig.leases));
        sent(&rig, 0);
        assert_log(&rig, "ack m\n");
        assert_false(leases_busy(rig.leases));
        release(&rig, lease, &build);
        assert_log(&rig, "drop 0\n");
        assert_true(leases_busy(rig.leases));
        dropped(&rig, 0, 1);
        assert_log(&rig, "");
        assert_false(leases_know(rig.leases, "m"));
        assert_int_equal(rows(&rig), 0);
        done(&rig);
}

static void test_over_before_it_was_sent(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Message message = {.message_id = build.message_id};
        Rig rig;

        setup(&rig, *state);
        begin(&rig);
        (void)insert(rig.store, &build, BODY);
        lease_unref(leases_take(rig.leases, &message));
        go(rig.store, &build, BUILD_EVENT_SKIP, NULL, 1);
        commit(&rig);
        assert_log(&rig, "");
        assert_int_equal(number(rig.store, "SELECT count(*) FROM lease"), 0);
        assert_false(leases_know(rig.leases, "m"));
        done(&rig);
}

static void test_over_before_it_was_confirmed(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Rig rig;

        setup(&rig, *state);
        release(&rig, take(&rig, &build), &build);
        assert_log(&rig, "send 0 m\nack m\n"); // over: nothing to wait for
        sent(&rig, 0);
        assert_log(&rig, "drop 0\n");
        dropped(&rig, 0, 1);
        assert_int_equal(rows(&rig), 0);
        done(&rig);
}

static void test_lowest_free_slot(void **state)
{
        _cleanup_build_ Build one = make_build_of("1"), two = make_build_of("2"),
                              three = make_build_of("3"), four = make_build_of("4");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &one);
        *rig.log = '\0';
        lease = take(&rig, &two);
        *rig.log = '\0';
        (void)take(&rig, &three);
        assert_log(&rig, "send 2 3\n");
        sent(&rig, 1);
        release(&rig, lease, &two);
        assert_log(&rig, "ack 2\ndrop 1\n");
        dropped(&rig, 1, 1);
        (void)take(&rig, &four);
        assert_log(&rig, "send 1 4\n");
        done(&rig);
}

static void test_counted_by_builds(void **state)
{
        _cleanup_build_ Build build = make_build_of("m"), again = make_build_of("m");
        Lease *first, *second;
        Rig rig;

        replace_string(&again.build_id, "again");
        setup(&rig, *state);
        first = take(&rig, &build);
        sent(&rig, 0);
        *rig.log = '\0';
        begin(&rig);
        (void)insert(rig.store, &again, BODY);
        second = leases_take_build(rig.leases, &again);
        assert_ptr_equal(first, second);
        release(&rig, first, &build);
        assert_log(&rig, "");
        release(&rig, second, &again);
        assert_log(&rig, "drop 0\n");
        done(&rig);
}

static void test_a_turn_that_fails_sends_nothing(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Message message = {.message_id = build.message_id};
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        begin(&rig);
        lease = leases_take(rig.leases, &message);
        store_rollback(rig.store);
        lease_unref(lease);
        assert_int_equal(rows(&rig), 0);
        assert_log(&rig, "");
        assert_false(leases_know(rig.leases, "m"));
        done(&rig);
}

static void test_refused_copy_is_sent_again(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Error why = ERROR_NONE;
        Rig rig;

        (void)error_set(&why, EIO, "no room");
        setup(&rig, *state);
        (void)take(&rig, &build);
        leases_on_sent(rig.leases, 0, &why);
        assert_log(&rig, "send 0 m\n"); // … later
        leases_disconnected(rig.leases);
        connect(&rig);
        assert_log(&rig, "send 0 m\n");
        done(&rig);
}

static void test_lost_connection(void **state)
{
        _cleanup_build_ Build held = make_build_of("h"), sending = make_build_of("s"),
                              over = make_build_of("o");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &held);
        sent(&rig, 0);
        lease = take(&rig, &over);
        sent(&rig, 1);
        (void)take(&rig, &sending);
        assert_log(&rig, "send 0 h\nack h\nsend 1 o\nack o\nsend 2 s\n");
        leases_disconnected(rig.leases);
        release(&rig, lease, &over);
        sent(&rig, 2); // an answer that comes too late
        assert_log(&rig, "");
        assert_false(leases_busy(rig.leases));
        connect(&rig);
        // A delivery that was not acked is the broker's again, so nothing is acked below.
        assert_non_null(strstr(rig.log, "send 2 s\n"));
        assert_non_null(strstr(rig.log, "send 3 h\n"));
        assert_non_null(strstr(rig.log, "drop 1\n"));
        *rig.log = '\0';
        sent(&rig, 2);
        sent(&rig, 3);
        assert_log(&rig, "drop 0\n");
        dropped(&rig, 0, 0); // not run out yet: the broker lost it
        dropped(&rig, 1, DROPPED_NO_QUEUE);
        assert_log(&rig, "");
        assert_int_equal(rows(&rig), 2);
        done(&rig);
}

static void test_over_while_its_copy_was_not_answered(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        lease = take(&rig, &build);
        leases_disconnected(rig.leases);
        release(&rig, lease, &build);
        assert_log(&rig, "send 0 m\n");
        connect(&rig);
        assert_log(&rig, "drop 0\n"); // the broker may have it
        dropped(&rig, 0, 1);
        assert_int_equal(rows(&rig), 0);
        done(&rig);
}

static void test_came_again(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Delivery *delivery = xcalloc(1, sizeof *delivery);
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &build);
        sent(&rig, 0);
        *rig.log = '\0';
        expire_rows(&rig);
        delivery->message.message_id = xstrdup("m");
        delivery->message.body = xstrdup(BODY);
        begin(&rig);
        leases_refresh(rig.leases, "m");
        leases_refresh(rig.leases, "unknown");
        leases_ack(rig.leases, delivery);
        commit(&rig);
        assert_log(&rig, "send 1 m\n");
        sent(&rig, 1);
        assert_log(&rig, "ack m\ndrop 0\n");
        dropped(&rig, 0, 0);
        assert_log(&rig, ""); // it is in our hands: not lost
        done(&rig);
}

// ---- after a crash ---------------------------------------------------------------------------

typedef struct Crash {
        const char *name;
        bool confirmed, expired;
        int64_t found;
        const char *outcome;
} Crash;

static void test_after_a_crash_the_broker_is_asked(void **state)
{
        static const Crash crashes[] = {
                {"it is there", true, true, 1, "proven\n"},
                {"it ran out", true, true, 0, "lost\n"},
                {"the broker lost it", true, false, 0, "proven\n"},
                {"the broker lost all", true, false, DROPPED_NO_QUEUE, "proven\n"},
                {"it was never there, and the delivery not acked", false, false, 0, "lost\n"},
                {"… nor the queue", false, false, DROPPED_NO_QUEUE, "lost\n"},
                {"it was there, but we did not hear so", false, false, 1, "proven\n"},
        };

        for (size_t at = 0; at < ELEMENTSOF(crashes); at++) {
                _cleanup_free_ char *folder = xasprintf("%s/%zu", (const char *)*state, at);
                _cleanup_build_ Build build = make_build_of("m");
                Lease *lease;
                Rig rig;

                setup(&rig, folder);
                (void)take(&rig, &build);
                if (crashes[at].confirmed)
                        sent(&rig, 0);
                (void)rows(&rig);
                if (crashes[at].expired)
                        expire_rows(&rig);
                *rig.log = '\0';
                lease = restart(&rig, &build);
                assert_false(lease_is_proven(lease));
                assert_log(&rig, "");
                connect(&rig);
                assert_log(&rig, "send 1 m\n");
                sent(&rig, 1);
                assert_log(&rig, "drop 0\n");
                dropped(&rig, 0, crashes[at].found);
                if (strcmp(rig.log, crashes[at].outcome) != 0)
                        fail_msg("%s: %s", crashes[at].name, rig.log);
                *rig.log = '\0';
                release(&rig, lease, &build);
                assert_log(&rig, "drop 1\n");
                done(&rig);
        }
}

static void test_crash_while_it_was_renewed(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &build);
        sent(&rig, 0);
        leases_disconnected(rig.leases);
        connect(&rig);
        sent(&rig, 1);
        *rig.log = '\0';
        expire_rows(&rig);
        lease = restart(&rig, &build);
        connect(&rig);
        assert_log(&rig, "send 2 m\n");
        sent(&rig, 2);
        assert_log(&rig, "drop 1\ndrop 0\n");
        dropped(&rig, 1, 1);
        assert_log(&rig, ""); // not before all have answered
        dropped(&rig, 0, 0);
        assert_log(&rig, "proven\n");
        assert_true(lease_is_proven(lease));
        done(&rig);
}

static void test_crash_after_the_end(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &build);
        sent(&rig, 0);
        (void)rows(&rig);
        *rig.log = '\0';
        (void)restart(&rig, NULL);
        connect(&rig);
        assert_log(&rig, "drop 0\n");
        dropped(&rig, 0, 1);
        assert_int_equal(rows(&rig), 0);
        done(&rig);
}

static void test_drop_that_fails_is_tried_again(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Error why = ERROR_NONE;
        Lease *lease;
        Rig rig;

        (void)error_set(&why, EACCES, "refused");
        setup(&rig, *state);
        lease = take(&rig, &build);
        sent(&rig, 0);
        release(&rig, lease, &build);
        leases_on_dropped(rig.leases, 0, DROPPED_NO_QUEUE, &why);
        *rig.log = '\0';
        leases_disconnected(rig.leases);
        connect(&rig);
        assert_log(&rig, "drop 0\n");
        dropped(&rig, 0, 0);
        assert_int_equal(rows(&rig), 0);
        done(&rig);
}

static void test_taken_without_a_lease_gets_one(void **state)
{
        _cleanup_build_ Build build = make_build_of("m"), nameless = make_build("u", "i");
        Lease *lease;
        Rig rig;

        setup(&rig, *state);
        replace_string(&nameless.message_id, NULL);
        assert_null(leases_take_build(rig.leases, &nameless));
        (void)insert(rig.store, &build, BODY);
        begin(&rig);
        lease = leases_take_build(rig.leases, &build);
        assert_true(lease_is_proven(lease));
        commit(&rig);
        assert_log(&rig, "send 0 m\n");
        done(&rig);
}

static void test_answers_that_nobody_waits_for(void **state)
{
        Rig rig;

        setup(&rig, *state);
        sent(&rig, 0);
        sent(&rig, UINT64_MAX);
        dropped(&rig, 5, 1);
        assert_log(&rig, "");
        done(&rig);
}

static void test_a_journal_that_cannot_be_written(void **state)
{
        _cleanup_build_ Build build = make_build_of("m");
        Error err = ERROR_NONE;
        Rig rig;

        setup(&rig, *state);
        (void)take(&rig, &build);
        sent(&rig, 0);
        *rig.log = '\0';
        leases_disconnected(rig.leases);
        rig.refuse_begin = true;
        leases_connected(rig.leases, &rig.broker, LEASE_SECONDS);
        assert_log(&rig, ""); // no copy whose slot is not on disk
        rig.refuse_begin = false;
        begin(&rig);
        run_sql(rig.store, "ALTER TABLE lease RENAME TO gone");
        assert_true(leases_write(rig.leases, &err) < 0);
        store_rollback(rig.store);
        assert_log(&rig, "");
        (void)rows(&rig);
        assert_log(&rig, "send 1 m\n");
        done(&rig);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_ack_waits_for_the_copy),
                unit_test_in_folder(test_over_before_it_was_sent),
                unit_test_in_folder(test_over_before_it_was_confirmed),
                unit_test_in_folder(test_lowest_free_slot),
                unit_test_in_folder(test_counted_by_builds),
                unit_test_in_folder(test_a_turn_that_fails_sends_nothing),
                unit_test_in_folder(test_refused_copy_is_sent_again),
                unit_test_in_folder(test_lost_connection),
                unit_test_in_folder(test_over_while_its_copy_was_not_answered),
                unit_test_in_folder(test_came_again),
                unit_test_in_folder(test_after_a_crash_the_broker_is_asked),
                unit_test_in_folder(test_crash_while_it_was_renewed),
                unit_test_in_folder(test_crash_after_the_end),
                unit_test_in_folder(test_drop_that_fails_is_tried_again),
                unit_test_in_folder(test_taken_without_a_lease_gets_one),
                unit_test_in_folder(test_answers_that_nobody_waits_for),
                unit_test_in_folder(test_a_journal_that_cannot_be_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
