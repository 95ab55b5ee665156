// Locks of images among hosts, against a broker that is played here. What a host asks and what the
// broker answers lies on a wire until the test moves it on, so that hosts can be interleaved in any
// order, cut off and killed at any moment.
#include "../unit.h"

#include <errno.h>

#include "builder/image_locks.h"
#include "net/queue_transport.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

#define LEASE_MS 60 // the broker played here forgets nothing by itself; this paces the questions
#define DEADLINE_MS 30000
#define N_HOSTS 3
#define N_TARGETS 4
#define WIRE_MAX 256
#define HELD_MAX 64
#define N_STEPS 200 // then they know each other, and little that is new happens
#define N_SEEDS 1000
#define LOOK_AT 250 // one in so many seeds is followed to its end, which takes time

typedef enum PacketKind { PACKET_LOCK, PACKET_UNLOCK, PACKET_KNOCK, PACKET_REFUSAL } PacketKind;

typedef struct Packet {
        PacketKind kind;
        char suffix[128];
        char holder[16];
        bool hear_knocks;
        bool ours; // in an answer
} Packet;

typedef struct Wire {
        Packet items[WIRE_MAX];
        size_t n;
} Wire;

typedef struct Sim Sim;

typedef struct Host {
        Consumer consumer; // first: the fake's own
        Sim *sim;
        char id[16];
        ImageLocks *locks;
        bool connected;
        bool ends_at_once; // whatever it begins
        bool asking[N_TARGETS];
        bool building[N_TARGETS];
        bool orphaned[N_TARGETS]; // Packer of a killed worker still cleans up
        Wire requests, answers;
} Host;

typedef struct Held {
        char suffix[128];
        char holder[16];
        Host *hears; // NULL: nobody
        bool renewed;
} Held;

struct Sim {
        sd_event *event;
        Host hosts[N_HOSTS];
        Held held[HELD_MAX];
        size_t n_held;
        bool refuses;
        unsigned chance;
        unsigned n_begun, n_changes;
};

static char *target_name(size_t target)
{
        return xasprintf("image%zu.managed", target);
}

// ---- the broker ----------------------------------------------------------------------------

static Held *find_held(Sim *sim, const char *suffix)
{
        for (size_t at = 0; at < sim->n_held; at++) {
                if (strcmp(sim->held[at].suffix, suffix) == 0)
                        return &sim->held[at];
        }
        return NULL;
}

static void forget_held(Sim *sim, Held *held)
{
        if (held)
                *held = sim->held[--sim->n_held];
}

static void put(Wire *wire, const Packet *packet)
{
        assert_true(wire->n < WIRE_MAX);
        wire->items[wire->n++] = *packet;
}

static Packet take(Wire *wire)
{
        Packet first = wire->items[0];

        memmove(wire->items, wire->items + 1, --wire->n * sizeof *wire->items);
        return first;
}

static bool grant(Host *host, const Packet *packet)
{
        Held *held = find_held(host->sim, packet->suffix);

        if (!held) {
                assert_true(host->sim->n_held < HELD_MAX);
                held = &host->sim->held[host->sim->n_held++];
                *held = (Held){0};
                memcpy(held->suffix, packet->suffix, sizeof held->suffix);
                memcpy(held->holder, packet->holder, sizeof held->holder);
        }
        if (strcmp(held->holder, packet->holder) != 0)
                return false;
        if (packet->hear_knocks)
                held->hears = host;
        held->renewed = true;
        return true;
}

// The broker acts on one request.
static void hear_request(Host *host)
{
        Packet packet = take(&host->requests);
        const Held *held = find_held(host->sim, packet.suffix);

        switch (packet.kind) {
        case PACKET_LOCK:
                if (host->sim->refuses)
                        packet.kind = PACKET_REFUSAL;
                else
                        packet.ours = grant(host, &packet);
                break;
        case PACKET_UNLOCK:
                forget_held(host->sim, find_held(host->sim, packet.suffix));
                break;
        default:
                if (held && held->hears)
                        put(&held->hears->answers, &packet);
                return;
        }
        put(&host->answers, &packet);
}

static void hear_answer(Host *host)
{
        const Packet packet = take(&host->answers);
        Error refused = ERROR_NONE;

        switch (packet.kind) {
        case PACKET_LOCK:
                image_locks_on_locked(host->locks, packet.suffix, packet.ours, LEASE_MS, NULL);
                break;
        case PACKET_UNLOCK:
                image_locks_on_unlocked(host->locks, packet.suffix);
                break;
        case PACKET_KNOCK:
                image_locks_on_knock(host->locks);
                break;
        case PACKET_REFUSAL:
                (void)error_set(&refused, EACCES, "access refused");
                image_locks_on_locked(host->locks, packet.suffix, false, LEASE_MS, &refused);
        }
}

static void fill(Packet *packet, PacketKind kind, const char *suffix)
{
        assert_true(strlen(suffix) < sizeof packet->suffix);
        *packet = (Packet){.kind = kind};
        memcpy(packet->suffix, suffix, strlen(suffix));
}

static void fake_lock(Consumer *consumer, const LockSpec *spec)
{
        Host *host = (Host *)consumer;
        Packet packet;

        assert_true(host->connected);
        assert_int_equal(spec->lease_ms, LEASE_MS);
        fill(&packet, PACKET_LOCK, spec->suffix);
        assert_true(strlen(spec->holder) < sizeof packet.holder);
        memcpy(packet.holder, spec->holder, strlen(spec->holder));
        packet.hear_knocks = spec->hear_knocks;
        put(&host->requests, &packet);
}

static void fake_unlock(Consumer *consumer, const char *suffix)
{
        Host *host = (Host *)consumer;
        Packet packet;

        assert_true(host->connected);
        fill(&packet, PACKET_UNLOCK, suffix);
        put(&host->requests, &packet);
}

static void fake_knock(Consumer *consumer, const char *suffix)
{
        Host *host = (Host *)consumer;
        Packet packet;

        assert_true(host->connected);
        fill(&packet, PACKET_KNOCK, suffix);
        put(&host->requests, &packet);
}

static const ConsumerOps fake_ops = {.lock = fake_lock, .unlock = fake_unlock, .knock = fake_knock};

// ---- hosts ---------------------------------------------------------------------------------

// What all this is about.
static void begin(Host *host, size_t target)
{
        for (size_t at = 0; at < N_HOSTS; at++) {
                const Host *other = &host->sim->hosts[at];

                if (other->building[target] || other->orphaned[target])
                        fail_msg("%s and %s build target %zu at once", host->id, other->id, target);
        }
        host->building[target] = true;
        host->sim->n_begun++;
}

static void leave(Host *host, size_t target)
{
        _cleanup_free_ char *name = target_name(target);

        host->asking[target] = host->building[target] = host->orphaned[target] = false;
        image_locks_leave(host->locks, name);
}

static void on_answer(const char *target, bool ours, void *userdata)
{
        Host *host = userdata;
        size_t number = (size_t)(strchr(target, '.')[-1] - '0');

        assert_true(host->asking[number]);
        host->asking[number] = false;
        if (ours)
                begin(host, number);
        for (size_t at = 0; at < N_TARGETS && host->ends_at_once; at++)
                leave(host, at);
}

static void on_change(void *userdata)
{
        Host *host = userdata;

        host->sim->n_changes++;
}

static void start(Host *host)
{
        static const ImageLocksCallbacks callbacks = {on_answer, on_change};
        Error err = ERROR_NONE;

        assert_ok(image_locks_new(host->id, LEASE_MS, host->sim->event, &callbacks, host,
                                  &host->locks, &err),
                  err);
}

static void connect(Host *host)
{
        host->connected = true;
        image_locks_connected(host->locks, &host->consumer);
}

// The broker hears some of what is on its way, the host nothing more.
static void lose_connection(Host *host, size_t heard)
{
        while (host->requests.n && heard--)
                hear_request(host);
        for (size_t at = 0; at < host->sim->n_held; at++) {
                if (host->sim->held[at].hears == host)
                        host->sim->held[at].hears = NULL;
        }
        host->requests.n = host->answers.n = 0;
        host->connected = false;
        memset(host->asking, 0, sizeof host->asking);
}

static void disconnect(Host *host, size_t heard)
{
        lose_connection(host, heard);
        image_locks_disconnected(host->locks);
}

static ImageLockState want(Host *host, size_t target)
{
        _cleanup_free_ char *name = target_name(target);
        ImageLockState state = image_locks_want(host->locks, name);

        assert_int_equal(image_locks_may_want(host->locks, name), state != IMAGE_LOCK_NOT_NOW);
        if (state == IMAGE_LOCK_OURS)
                begin(host, target);
        host->asking[target] = state == IMAGE_LOCK_ASKED;
        return state;
}

static void sim_init(Sim *sim)
{
        *sim = (Sim){0};
        assert_true(sd_event_new(&sim->event) >= 0);
        for (size_t at = 0; at < N_HOSTS; at++) {
                Host *host = &sim->hosts[at];

                host->sim = sim;
                host->consumer.ops = &fake_ops;
                (void)snprintf(host->id, sizeof host->id, "host%zu", at);
                start(host);
        }
}

static void sim_done(Sim *sim)
{
        for (size_t at = 0; at < N_HOSTS; at++)
                image_locks_free(sim->hosts[at].locks);
        (void)sd_event_unref(sim->event);
}

// Everything on the wires is heard; nothing else happens.
static void calm(Sim *sim)
{
        bool moved = true;

        while (moved) {
                moved = false;
                for (size_t at = 0; at < N_HOSTS; at++) {
                        Host *host = &sim->hosts[at];

                        moved = moved || host->requests.n || host->answers.n;
                        while (host->requests.n)
                                hear_request(host);
                        while (host->answers.n)
                                hear_answer(host);
                }
        }
}

// Time passes until `host` knows who is there and, if `target` is one, has begun to build it.
static void wait_for_host(Host *host, size_t target)
{
        int64_t deadline = clock_mono_ms() + DEADLINE_MS;

        for (;;) {
                calm(host->sim);
                if (image_locks_are_settled(host->locks) && target >= N_TARGETS)
                        return;
                if (target < N_TARGETS && (host->building[target] || host->asking[target] ||
                                           want(host, target) == IMAGE_LOCK_OURS)) {
                        calm(host->sim);
                        if (host->building[target])
                                return;
                }
                if (clock_mono_ms() > deadline)
                        fail_msg("%s waits in vain (target %zu)", host->id, target);
                assert_true(sd_event_run(host->sim->event, LEASE_MS * 1000ULL) >= 0);
        }
}

static void settle(Host *host)
{
        wait_for_host(host, N_TARGETS);
}

// Both are connected and know of each other.
static void meet(Host *first, Host *second)
{
        connect(first);
        settle(first);
        connect(second);
        settle(second);
        settle(first);
}

// A lease passes: what nobody renews, such as the locks of a worker that was killed, is gone.
static void pass_lease(Sim *sim)
{
        int64_t end = clock_mono_ms() + LEASE_MS;

        for (size_t at = 0; at < sim->n_held; at++)
                sim->held[at].renewed = false;
        while (clock_mono_ms() < end) {
                assert_true(sd_event_run(sim->event, 500) >= 0);
                calm(sim);
        }
        for (size_t at = sim->n_held; at > 0; at--) {
                if (!sim->held[at - 1].renewed)
                        forget_held(sim, &sim->held[at - 1]);
        }
}

// ---- one after the other -------------------------------------------------------------------

static void test_alone_nothing_is_asked_for_a_build(void **state)
{
        Sim sim;
        Host *host = &sim.hosts[0];

        (void)state;
        sim_init(&sim);
        assert_int_equal(want(host, 0), IMAGE_LOCK_NOT_NOW);
        connect(host);
        assert_false(image_locks_are_settled(host->locks));
        assert_true(image_locks_busy(host->locks));
        settle(host);
        assert_false(image_locks_busy(host->locks));
        assert_true(sim.n_changes > 0);
        assert_int_equal(want(host, 0), IMAGE_LOCK_OURS);
        leave(host, 0);
        assert_int_equal(host->requests.n, 0);
        assert_int_equal(sim.n_held, 1);
        image_locks_give_up(host->locks);
        calm(&sim);
        assert_int_equal(sim.n_held, 0);
        sim_done(&sim);
}

static void test_a_second_host_is_let_in(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        connect(first);
        settle(first);
        assert_int_equal(want(first, 0), IMAGE_LOCK_OURS);
        connect(second);
        settle(second);
        assert_int_equal(want(second, 0), IMAGE_LOCK_ASKED);
        calm(&sim);
        assert_false(second->asking[0] || second->building[0]);
        assert_int_equal(want(second, 0), IMAGE_LOCK_NOT_NOW); // for a while
        wait_for_host(second, 1);
        leave(first, 0);
        wait_for_host(second, 0);
        assert_int_equal(want(first, 0), IMAGE_LOCK_ASKED);
        calm(&sim);
        assert_false(first->building[0]);
        sim_done(&sim);
}

static void test_what_is_held_is_renewed(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        connect(first);
        settle(first);
        assert_int_equal(want(first, 0), IMAGE_LOCK_OURS);
        pass_lease(&sim);
        assert_non_null(find_held(&sim, ".alone"));
        connect(second);
        settle(second);
        pass_lease(&sim);
        assert_non_null(find_held(&sim, ".together"));
        assert_non_null(find_held(&sim, ".building.image0.managed"));
        assert_int_equal(want(second, 0), IMAGE_LOCK_ASKED);
        calm(&sim);
        assert_false(second->building[0]);
        sim_done(&sim);
}

static void test_a_host_that_vanished_alone_is_waited_for(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        connect(first);
        settle(first);
        disconnect(first, 0);
        connect(second);
        for (size_t turn = 0; turn < 5; turn++) {
                calm(&sim);
                assert_false(image_locks_are_settled(second->locks));
                assert_int_equal(want(second, 0), IMAGE_LOCK_NOT_NOW);
                assert_true(sd_event_run(sim.event, LEASE_MS * 1000ULL) >= 0);
        }
        pass_lease(&sim);
        settle(second);
        wait_for_host(second, 0);
        sim_done(&sim);
}

static void test_what_runs_is_locked_before_another_is_let_in_after_a_reconnect(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        connect(first);
        settle(first);
        assert_int_equal(want(first, 0), IMAGE_LOCK_OURS);
        disconnect(first, 0);
        connect(second);
        calm(&sim);
        connect(first);
        settle(second);
        assert_int_equal(want(second, 0), IMAGE_LOCK_ASKED);
        calm(&sim);
        assert_false(second->building[0]);
        sim_done(&sim);
}

static void test_a_lock_whose_end_was_not_heard_is_ended_later(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        meet(first, second);
        wait_for_host(first, 0);
        leave(first, 0);
        disconnect(first, 0);
        assert_non_null(find_held(&sim, ".building.image0.managed"));
        connect(first);
        calm(&sim);
        assert_null(find_held(&sim, ".building.image0.managed"));
        wait_for_host(second, 0);
        sim_done(&sim);
}

static void test_builds_go_on_when_locks_are_refused(void **state)
{
        Sim sim;
        Host *host = &sim.hosts[0];

        (void)state;
        sim_init(&sim);
        sim.refuses = true;
        connect(host);
        settle(host);
        assert_int_equal(want(host, 0), IMAGE_LOCK_OURS);
        leave(host, 0);
        sim_done(&sim);
}

// The broker allows them again, and what is built meanwhile is locked before another builds.
static void test_refused_locks_are_asked_for_again(void **state)
{
        Sim sim;
        Host *host = &sim.hosts[0], *other = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        sim.refuses = true;
        connect(host);
        settle(host);
        assert_int_equal(want(host, 0), IMAGE_LOCK_OURS);
        sim.refuses = false;
        pass_lease(&sim);
        connect(other);
        settle(other);
        assert_int_equal(want(other, 0), IMAGE_LOCK_ASKED);
        calm(&sim);
        assert_false(other->building[0]);
        sim_done(&sim);
}

// Builds that end at once give their locks back, and others', while refusals are told.
static void test_builds_that_end_in_the_callback(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1];

        (void)state;
        sim_init(&sim);
        meet(first, second);
        second->ends_at_once = true;
        for (size_t target = 0; target < N_TARGETS; target++)
                assert_int_equal(want(second, target), IMAGE_LOCK_ASKED);
        sim.refuses = true;
        calm(&sim);
        for (size_t target = 0; target < N_TARGETS; target++)
                assert_false(second->asking[target] || second->building[target]);
        sim_done(&sim);
}

// All who were together have missed to renew it, and one who came later is alone, as it thinks.
static void test_hosts_that_lost_each_other_meet_again(void **state)
{
        Sim sim;
        Host *first = &sim.hosts[0], *second = &sim.hosts[1], *third = &sim.hosts[2];

        (void)state;
        sim_init(&sim);
        meet(first, second);
        forget_held(&sim, find_held(&sim, ".together"));
        connect(third);
        while (third->requests.n || third->answers.n) {
                while (third->requests.n)
                        hear_request(third);
                while (third->answers.n)
                        hear_answer(third);
        }
        assert_int_equal(want(third, 0), IMAGE_LOCK_OURS);
        pass_lease(&sim);
        assert_non_null(find_held(&sim, ".building.image0.managed"));
        assert_null(find_held(&sim, ".alone"));
        sim_done(&sim);
}

static void test_long_names_are_told_apart(void **state)
{
        _cleanup_free_ char *a = xcalloc(1, 301), *b = xcalloc(1, 301);
        Sim sim;
        Host *host = &sim.hosts[0], *other = &sim.hosts[1];

        (void)state;
        memset(a, 'a', 300);
        memset(b, 'a', 300);
        b[299] = 'b';
        sim_init(&sim);
        connect(host);
        connect(other);
        settle(host);
        settle(other);
        image_locks_keep(host->locks, a);
        image_locks_keep(host->locks, b);
        calm(&sim); // the wire takes short names only
        assert_int_equal(sim.n_held, 3);
        sim_done(&sim);
}

// ---- at random -----------------------------------------------------------------------------

static unsigned chance(Sim *sim, unsigned n)
{
        return (unsigned)rand_r(&sim->chance) % n;
}

static void toggle_build(Host *host)
{
        size_t target = chance(host->sim, N_TARGETS);

        if (host->building[target] || host->orphaned[target] ||
            (host->asking[target] && chance(host->sim, 10) == 0))
                leave(host, target);
        else if (!host->asking[target])
                (void)want(host, target);
}

// Killed and started again; some of its Packers still clean up.
static void kill_worker(Host *host)
{
        lose_connection(host, chance(host->sim, 4));
        image_locks_free(host->locks);
        start(host);
        for (size_t target = 0; target < N_TARGETS; target++) {
                _cleanup_free_ char *name = target_name(target);

                host->orphaned[target] =
                        (host->building[target] || host->orphaned[target]) && chance(host->sim, 2);
                host->building[target] = false;
                if (host->orphaned[target])
                        image_locks_keep(host->locks, name);
        }
}

static void step(Sim *sim)
{
        Host *host = &sim->hosts[chance(sim, N_HOSTS)];
        unsigned what = chance(sim, 100);

        if (!host->connected && what < 20)
                connect(host);
        else if (what < 40 && host->requests.n)
                hear_request(host);
        else if (what < 75 && host->answers.n)
                hear_answer(host);
        else if (what < 95)
                toggle_build(host);
        else if (what < 97 && host->connected)
                disconnect(host, chance(sim, 4));
        else if (what < 98)
                kill_worker(host);
        else
                assert_true(sd_event_run(sim->event, 200) >= 0);
}

// Each host can build each target, one after the other, and in the end no lock is left.
static void assert_all_is_well(Sim *sim)
{
        for (size_t at = 0; at < N_HOSTS; at++) {
                for (size_t target = 0; target < N_TARGETS; target++)
                        leave(&sim->hosts[at], target);
                if (!sim->hosts[at].connected)
                        connect(&sim->hosts[at]);
        }
        for (size_t at = 0; at < N_HOSTS; at++)
                settle(&sim->hosts[at]);
        pass_lease(sim);
        for (size_t target = 0; target < N_TARGETS; target++) {
                for (size_t at = 0; at < N_HOSTS; at++) {
                        wait_for_host(&sim->hosts[at], target);
                        leave(&sim->hosts[at], target);
                }
        }
        calm(sim);
        for (size_t at = 0; at < sim->n_held; at++)
                assert_int_not_equal(strncmp(sim->held[at].suffix, ".building.", 10), 0);
}

static void test_never_two_at_once(void **state)
{
        unsigned begun = 0;

        (void)state;
        for (unsigned seed = 1; seed <= N_SEEDS; seed++) {
                Sim sim;

                sim_init(&sim);
                sim.chance = seed;
                for (size_t number = 0; number < N_STEPS; number++)
                        step(&sim);
                if (seed % LOOK_AT == 0)
                        assert_all_is_well(&sim);
                begun += sim.n_begun;
                sim_done(&sim);
        }
        assert_true(begun > N_SEEDS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_alone_nothing_is_asked_for_a_build),
                cmocka_unit_test(test_a_second_host_is_let_in),
                cmocka_unit_test(test_what_is_held_is_renewed),
                cmocka_unit_test(test_a_host_that_vanished_alone_is_waited_for),
                cmocka_unit_test(
                        test_what_runs_is_locked_before_another_is_let_in_after_a_reconnect),
                cmocka_unit_test(test_a_lock_whose_end_was_not_heard_is_ended_later),
                cmocka_unit_test(test_builds_go_on_when_locks_are_refused),
                cmocka_unit_test(test_refused_locks_are_asked_for_again),
                cmocka_unit_test(test_builds_that_end_in_the_callback),
                cmocka_unit_test(test_hosts_that_lost_each_other_meet_again),
                cmocka_unit_test(test_long_names_are_told_apart),
                cmocka_unit_test(test_never_two_at_once),
        };

        log_set_level(LOG_LEVEL_ERROR);
        return cmocka_run_group_tests_name("image_locks", tests, NULL, NULL);
}
