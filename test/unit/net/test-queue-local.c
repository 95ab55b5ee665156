#include "../unit.h"

#include <errno.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "net/local_queue.h"
#include "net/queue.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/fs.h"

#define QUEUE_NAME "q"
#define DEADLINE_MS 10000
#define TURN_USEC 10000
#define SEEN_MAX 200

typedef struct Rig {
        Config config;
        Store *store;
        sd_event *event;
        Consumer *consumer;
        Delivery *deliveries[SEEN_MAX];
        size_t n_deliveries;
        unsigned n_connected, n_lost;
        char lost[ERROR_TEXT_MAX];
        bool ack_all; // from within the callback
        unsigned n_good, n_bad;
} Rig;

static void on_delivery(Consumer *consumer, Delivery *delivery, void *userdata)
{
        Rig *rig = userdata;

        assert_ptr_equal(consumer, rig->consumer);
        assert_true(rig->n_deliveries < SEEN_MAX);
        rig->deliveries[rig->n_deliveries++] = delivery;
        if (rig->ack_all)
                consumer_ack(consumer, delivery);
}

static void on_connection(Consumer *consumer, const Error *err, void *userdata)
{
        Rig *rig = userdata;

        assert_ptr_equal(consumer, rig->consumer); // so not before consumer_new returned
        if (err) {
                rig->n_lost++;
                (void)snprintf(rig->lost, sizeof rig->lost, "%s", err->text);
        } else {
                rig->n_connected++;
        }
}

static void on_done(uint64_t token, const Error *err, void *userdata)
{
        Rig *rig = userdata;

        (void)token;
        if (err)
                rig->n_bad++;
        else
                rig->n_good++;
}

static int set_up(void **state)
{
        Rig *rig = xcalloc(1, sizeof *rig);
        void *folder;
        Error err = ERROR_NONE;

        if (unit_make_folder(&folder) < 0)
                return -1;
        rig->config.global = (GlobalConfig){
                .queue = xstrdup(QUEUE_NAME), .transport = TRANSPORT_LOCAL, .state_dir = folder};
        assert_ok(store_open(folder, STORE_BUILDS, STORE_READ_WRITE, &rig->store, &err), err);
        assert_true(sd_event_new(&rig->event) >= 0);
        *state = rig;
        return 0;
}

static int tear_down(void **state)
{
        Rig *rig = *state;
        void *folder = rig->config.global.state_dir;

        if (rig->consumer)
                consumer_free(rig->consumer);
        store_close(rig->store);
        (void)sd_event_unref(rig->event);
        free(rig->config.global.queue);
        free(rig);
        return unit_remove_folder(&folder);
}

static void start_consumer(Rig *rig, unsigned prefetch)
{
        static const ConsumerCallbacks callbacks = {.on_delivery = on_delivery,
                                                    .on_connection = on_connection};
        Error err = ERROR_NONE;

        assert_ok(consumer_new(&rig->config, rig->store, rig->event, prefetch, &callbacks, rig,
                               &rig->consumer, &err),
                  err);
        assert_int_equal(rig->n_connected, 0);
}

static Publisher *open_publisher(Rig *rig)
{
        Publisher *publisher = NULL;
        Error err = ERROR_NONE;

        assert_ok(publisher_open(&rig->config, on_done, rig, &publisher, &err), err);
        assert_int_equal(publisher_fd(publisher), -1);
        return publisher;
}

static void send_one(Publisher *publisher, char *body)
{
        const Message message = {.body = body, .body_len = strlen(body)};
        Error err = ERROR_NONE;

        assert_ok(publisher_send(publisher, &message, 1, &err), err);
}

static void flush(Publisher *publisher)
{
        Error err = ERROR_NONE;

        assert_ok(publisher_flush(publisher, DEADLINE_MS, &err), err);
        assert_int_equal(publisher_unconfirmed(publisher), 0);
}

static void publish(Rig *rig, char *body)
{
        Publisher *publisher = open_publisher(rig);

        send_one(publisher, body);
        flush(publisher);
        publisher_close(publisher);
}

// Runs the loop until `*counter` reaches `expected`.
static void run_until(Rig *rig, const size_t *counter, size_t expected)
{
        int64_t end = clock_mono_ms() + DEADLINE_MS;

        while (*counter < expected) {
                assert_true(clock_mono_ms() < end);
                assert_true(sd_event_run(rig->event, TURN_USEC) >= 0);
        }
}

// Runs the loop until it has nothing to do at once.
static void run_idle(Rig *rig)
{
        while (sd_event_run(rig->event, 0) > 0)
                ;
}

static int64_t count(Rig *rig, const char *queue)
{
        Error err = ERROR_NONE;
        int64_t n = -1;

        assert_ok(store_queue_count(rig->store, queue, &n, &err), err);
        return n;
}

static char one[] = "one", two[] = "two", three[] = "three";

static void test_nothing_is_kept_before_it_is_confirmed(void **state)
{
        Rig *rig = *state;
        Publisher *publisher = open_publisher(rig);

        send_one(publisher, one);
        assert_int_equal(publisher_unconfirmed(publisher), 1);
        assert_int_equal(rig->n_good, 0);
        assert_int_equal(count(rig, QUEUE_NAME), 0);
        flush(publisher);
        assert_int_equal(rig->n_good, 1);
        assert_int_equal(count(rig, QUEUE_NAME), 1);
        flush(publisher); // nothing to do
        publisher_close(publisher);
}

static void test_long_runs_are_committed_on_the_way(void **state)
{
        Rig *rig = *state;
        Publisher *publisher = open_publisher(rig);

        for (unsigned n = 0; n < 100; n++)
                send_one(publisher, one);
        assert_true(rig->n_good >= 90);
        send_one(publisher, two);
        publisher_close(publisher); // forgets the rest
        assert_int_equal(count(rig, QUEUE_NAME), rig->n_good);
}

static void test_oversize_message_is_refused_alone(void **state)
{
        Rig *rig = *state;
        Publisher *publisher = open_publisher(rig);
        const Message huge = {.body = one, .body_len = (size_t)MESSAGE_MAX_BYTES + 1};
        Error err = ERROR_NONE;

        assert_int_equal(publisher_send(publisher, &huge, 1, &err), 0);
        assert_int_equal(rig->n_bad, 1);
        send_one(publisher, two);
        flush(publisher);
        assert_int_equal(rig->n_good, 1);
        publisher_close(publisher);
}

static void test_failing_store_fails_the_messages(void **state)
{
        Rig *rig = *state;
        Publisher *publisher = open_publisher(rig);
        _cleanup_free_ char *path = fs_join(rig->config.global.state_dir, "builds.db");
        sqlite3 *db = NULL;
        Error err = ERROR_NONE;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "DROP TABLE message", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        send_one(publisher, one);
        assert_true(publisher_flush(publisher, DEADLINE_MS, &err) < 0);
        assert_int_equal(rig->n_bad, 1);
        assert_int_equal(publisher_unconfirmed(publisher), 0);
        publisher_close(publisher);

        start_consumer(rig, 1);
        run_idle(rig);
        assert_int_equal(rig->n_connected, 0);
        assert_int_equal(rig->n_lost, 1);
        assert_contains(rig->lost, "the local queue");
}

static void test_publisher_without_a_folder(void **state)
{
        Rig *rig = *state;
        char nowhere[] = "/proc/nowhere";
        Config config = {.global = {.queue = one, .state_dir = nowhere}};
        Publisher *publisher = NULL;
        Error err = ERROR_NONE;
        Consumer *consumer = NULL;
        static const ConsumerCallbacks callbacks = {.on_delivery = on_delivery,
                                                    .on_connection = on_connection};

        assert_true(publisher_open(&config, on_done, rig, &publisher, &err) < 0);
        assert_contains(err.text, nowhere);
        assert_true(consumer_new(&config, rig->store, rig->event, 1, &callbacks, rig, &consumer,
                                 &err) < 0);
        assert_contains(err.text, nowhere);
}

static void test_consumer_is_woken(void **state)
{
        Rig *rig = *state;

        start_consumer(rig, 1);
        run_idle(rig);
        assert_int_equal(rig->n_connected, 1);
        publish(rig, one);
        run_until(rig, &rig->n_deliveries, 1);
        assert_string_equal(rig->deliveries[0]->message.body, "one");
        assert_non_null(rig->deliveries[0]->message.message_id);
        consumer_ack(rig->consumer, rig->deliveries[0]);
}

static void test_removed_wake_file_is_made_again(void **state)
{
        Rig *rig = *state;
        _cleanup_free_ char *path = fs_join(rig->config.global.state_dir, LOCAL_QUEUE_WAKE_FILE);
        struct stat status;

        start_consumer(rig, 1);
        run_idle(rig);
        assert_int_equal(unlink(path), 0);
        run_idle(rig);
        assert_int_equal(stat(path, &status), 0);
        publish(rig, one);
        run_until(rig, &rig->n_deliveries, 1);
        consumer_ack(rig->consumer, rig->deliveries[0]);
}

static void test_prefetch_and_order(void **state)
{
        Rig *rig = *state;

        publish(rig, one);
        publish(rig, two);
        publish(rig, three);
        start_consumer(rig, 2);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 2);
        consumer_ack(rig->consumer, rig->deliveries[1]);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 3);
        assert_string_equal(rig->deliveries[0]->message.body, "one");
        assert_string_equal(rig->deliveries[2]->message.body, "three");
        consumer_ack(rig->consumer, rig->deliveries[0]);
        consumer_ack(rig->consumer, rig->deliveries[2]);
        run_idle(rig);
        assert_int_equal(count(rig, QUEUE_NAME), 0);
}

static void test_many_in_turns(void **state)
{
        Rig *rig = *state;
        Publisher *publisher = open_publisher(rig);

        for (unsigned n = 0; n < 100; n++)
                send_one(publisher, one);
        flush(publisher);
        publisher_close(publisher);
        rig->ack_all = true;
        start_consumer(rig, 50);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 100);
        assert_int_equal(count(rig, QUEUE_NAME), 0);
}

static void test_decisions_are_written_at_the_end(void **state)
{
        Rig *rig = *state;
        int64_t id;
        Message left = {0};

        publish(rig, one);
        publish(rig, two);
        publish(rig, three);
        start_consumer(rig, 3);
        run_idle(rig);
        consumer_ack(rig->consumer, rig->deliveries[0]);
        consumer_move(rig->consumer, rig->deliveries[1], ".rejected", "why");
        consumer_requeue(rig->consumer, rig->deliveries[2]);
        consumer_free(TAKE_PTR(rig->consumer));
        assert_int_equal(count(rig, QUEUE_NAME), 1);
        assert_int_equal(store_queue_take(rig->store, QUEUE_NAME ".rejected", &id, &left, NULL), 0);
        assert_string_equal(left.reason, "why");
        message_done(&left);
}

static void test_pause_keeps_decisions_flowing(void **state)
{
        Rig *rig = *state;

        publish(rig, one);
        publish(rig, two);
        start_consumer(rig, 1);
        run_idle(rig);
        consumer_pause(rig->consumer);
        consumer_pause(rig->consumer);
        consumer_requeue(rig->consumer, rig->deliveries[0]);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 1);
        assert_int_equal(count(rig, QUEUE_NAME), 2);
        consumer_resume(rig->consumer);
        consumer_resume(rig->consumer);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 2);
        assert_string_equal(rig->deliveries[1]->message.body, "one");
        consumer_ack(rig->consumer, rig->deliveries[1]);
        run_idle(rig);
        consumer_ack(rig->consumer, rig->deliveries[2]);
}

static void test_callee_with_a_transaction_goes_first(void **state)
{
        Rig *rig = *state;
        Error err = ERROR_NONE;

        publish(rig, one);
        assert_ok(store_begin(rig->store, &err), err);
        start_consumer(rig, 1);
        assert_true(sd_event_run(rig->event, 0) >= 0);
        assert_true(sd_event_run(rig->event, 0) >= 0);
        assert_int_equal(rig->n_deliveries, 0);
        assert_ok(store_commit(rig->store, &err), err);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 1);
        consumer_ack(rig->consumer, rig->deliveries[0]);
}

static void test_failing_store_makes_deliveries_stale(void **state)
{
        Rig *rig = *state;
        _cleanup_free_ char *path = fs_join(rig->config.global.state_dir, "builds.db");
        sqlite3 *db = NULL;

        publish(rig, one);
        publish(rig, two);
        start_consumer(rig, 2);
        run_idle(rig);
        assert_int_equal(rig->n_deliveries, 2);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "DROP TABLE message", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        consumer_ack(rig->consumer, rig->deliveries[0]);
        run_idle(rig);
        assert_int_equal(rig->n_lost, 1);
        consumer_ack(rig->consumer, rig->deliveries[1]); // stale: only freed
        consumer_resume(rig->consumer);
        run_idle(rig);
        assert_int_equal(rig->n_lost, 1);
}

static void test_probe(void **state)
{
        Rig *rig = *state;
        char folder[] = "/proc/nowhere";
        const Config elsewhere = {.global = {.queue = one, .state_dir = folder}};
        Error err = ERROR_NONE;
        int64_t ready = 7;

        publish(rig, one);
        assert_ok(queue_probe(&rig->config, &ready, &err), err);
        assert_int_equal(ready, 1);
        assert_ok(queue_probe(&elsewhere, &ready, &err), err);
        assert_int_equal(ready, -1);
}

#define unit_test_rig(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_rig(test_nothing_is_kept_before_it_is_confirmed),
                unit_test_rig(test_long_runs_are_committed_on_the_way),
                unit_test_rig(test_oversize_message_is_refused_alone),
                unit_test_rig(test_failing_store_fails_the_messages),
                unit_test_rig(test_publisher_without_a_folder),
                unit_test_rig(test_consumer_is_woken),
                unit_test_rig(test_removed_wake_file_is_made_again),
                unit_test_rig(test_prefetch_and_order),
                unit_test_rig(test_many_in_turns),
                unit_test_rig(test_decisions_are_written_at_the_end),
                unit_test_rig(test_pause_keeps_decisions_flowing),
                unit_test_rig(test_callee_with_a_transaction_goes_first),
                unit_test_rig(test_failing_store_makes_deliveries_stale),
                unit_test_rig(test_probe),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
