"""What a worker has taken is under a lease: others build it when its host is gone, and nobody else
does while it is there."""

import os
import shutil
import signal
import socket
import threading
import time
from contextlib import closing

import pika
import pytest

from rig.profiles import pan_json, profile
from rig.rabbit import RabbitNode
from rig.site import QUEUE, is_alive
from rig.waiting import wait_for

LEASE = 3  # seconds, where a test waits for its end
QUOTA = "fail Error launching source server: Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"


def gate(site, *before):
    path = site.root / "go"
    site.template("managed", *before, "launch", f"wait {path}", "succeed")
    return path


def body():
    return pan_json(profile())


def lease_queues(vhost):
    queues = vhost.node.request("GET", f"queues/{vhost.name}?columns=name")
    return sorted(queue["name"] for queue in queues if ".lease." in queue["name"])


def leases(vhost):
    """Copies that the broker holds."""
    return sum(vhost.count(queue) or 0 for queue in lease_queues(vhost))


def wait_leases(site, number):
    try:
        wait_for(lambda: leases(site.vhost) == number, f"{number} leases")
    except AssertionError as error:
        raise AssertionError(
            f"{error}: {lease_queues(site.vhost)} {site.query('SELECT * FROM lease')}\n{site.describe()}"
        ) from None


def assert_nothing_left(site, *others):
    """All is over: no message, no lease, and the journal knows of none."""
    wait_leases(site, 0)
    for each in (site, *others):
        wait_for(lambda: not each.query("SELECT * FROM lease"), "the journal forgets the leases")
    assert site.queue_count() == 0


def remove_state(site):
    shutil.rmtree(site.state_dir)


# ---- under way -------------------------------------------------------------------------------


def test_a_delivery_is_acked_under_a_lease(rabbit_site):
    go = gate(rabbit_site)
    worker = rabbit_site.worker()
    rabbit_site.vhost.publish(
        QUEUE,
        body(),
        message_id="the-message",
        app_id="cdb2rabbit",
        timestamp=1700000000,
        headers={"x-packuilon-entry": "web.json", "x-packuilon-content-id": "abc"},
    )
    rabbit_site.wait_packer(1)
    wait_leases(rabbit_site, 1)
    (queue,) = lease_queues(rabbit_site.vhost)
    assert queue.startswith(f"{QUEUE}.lease.") and queue.endswith(".0")
    content, properties = rabbit_site.vhost.get(queue)
    assert content == body()
    assert properties.message_id == "the-message"
    assert properties.app_id == "cdb2rabbit"
    assert properties.timestamp == 1700000000
    assert properties.expiration == str(30 * 60 * 1000)
    assert properties.delivery_mode == 2
    assert properties.headers == {"x-packuilon-entry": "web.json", "x-packuilon-content-id": "abc"}
    worker.kill()  # what is not acked would be ready again
    assert rabbit_site.queue_count() == 0
    go.touch()


def test_nothing_is_left_when_all_is_over(rabbit_site):
    rabbit_site.worker()
    for number in range(5):
        rabbit_site.publish_profile(f"p{number}")
    rabbit_site.wait_state("succeeded", 5)
    assert_nothing_left(rabbit_site)
    assert len(lease_queues(rabbit_site.vhost)) <= 5


def test_a_message_without_id_is_under_a_lease_too(rabbit_site):
    """Upstream's programs send a bare body."""
    go = gate(rabbit_site)
    rabbit_site.worker()
    rabbit_site.vhost.publish(QUEUE, body())
    rabbit_site.wait_packer(1)
    wait_leases(rabbit_site, 1)
    _, properties = rabbit_site.vhost.get(lease_queues(rabbit_site.vhost)[0])
    assert properties.message_id == rabbit_site.builds()[0].message_id
    assert abs(properties.timestamp - time.time()) < 60
    go.touch()
    rabbit_site.wait_state("succeeded")
    assert_nothing_left(rabbit_site)


def test_one_lease_for_all_templates_of_a_message(rabbit_site):
    go = gate(rabbit_site)
    rabbit_site.template("second", "launch", f"wait {go}", f"wait {go}2", "succeed")
    rabbit_site.template_map({"DEFAULT": ["managed.json", "second.json"]})
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(2)
    wait_leases(rabbit_site, 1)
    go.touch()
    rabbit_site.wait_state("succeeded", 1)
    wait_leases(rabbit_site, 1)  # the other still builds
    (rabbit_site.root / "go2").touch()
    rabbit_site.wait_state("succeeded", 2)
    assert_nothing_left(rabbit_site)


def test_a_retry_keeps_the_lease(rabbit_site):
    rabbit_site.set("rabbit2packer", RETRY_SECONDS=1)
    go = rabbit_site.root / "go"
    rabbit_site.template("managed", QUOTA)
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_state("failed")
    rabbit_site.template("managed", f"wait {go}", "succeed")
    rabbit_site.wait_packer(2)
    wait_leases(rabbit_site, 1)
    go.touch()
    rabbit_site.wait_state("succeeded")
    assert_nothing_left(rabbit_site)


def test_what_is_skipped_superseded_or_cancelled_keeps_no_lease(rabbit_site):
    go = gate(rabbit_site)
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(1)
    for number in range(3):
        rabbit_site.publish_profile(**{"/software/number": number})
    rabbit_site.wait_state("superseded", 2)
    wait_leases(rabbit_site, 2)
    (waiting,) = rabbit_site.builds("queued")
    rabbit_site.packuilon("cancel", str(waiting.id))
    wait_leases(rabbit_site, 1)
    rabbit_site.source_images({})
    rabbit_site.publish_profile("another")
    rabbit_site.wait_state("skipped")
    wait_leases(rabbit_site, 1)
    go.touch()
    rabbit_site.wait_state("succeeded")
    assert_nothing_left(rabbit_site)


def test_leases_are_renewed(rabbit_site, make_site):
    """Long builds stay here, however short the lease is."""
    go = gate(rabbit_site)
    rabbit_site.set("rabbit2packer", LEASE=1)
    other = make_site("other", vhost=rabbit_site.vhost)
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(1)
    other.worker()
    end = time.monotonic() + 4
    wait_for(lambda: time.monotonic() > end or other.builds(), "four leases' time")
    go.touch()
    rabbit_site.wait_state("succeeded")
    assert_nothing_left(rabbit_site)
    assert other.builds() == []
    assert len(rabbit_site.builds()) == 1
    # They take turns.
    assert len(lease_queues(rabbit_site.vhost)) == 2


def test_draining_leaves_no_lease(rabbit_site):
    go = gate(rabbit_site)
    worker = rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(1)
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    go.touch()
    assert worker.wait() == 0
    assert leases(rabbit_site.vhost) == 0
    assert not rabbit_site.query("SELECT * FROM lease")
    assert rabbit_site.queue_count() == 0


# ---- broker and worker do not see each other -------------------------------------------------


@pytest.fixture
def impatient(tmp_path):
    """A node that throws out who holds a delivery for long, or is silent."""
    node = RabbitNode.start(
        tmp_path / "impatient",
        os.getpid(),
        settings="consumer_timeout = 3000\nheartbeat = 2\n",
        advanced="[{rabbit, [{channel_tick_interval, 500}]}].",
    )
    yield node
    node.kill()


@pytest.mark.slow
def test_builds_outlast_the_consumer_timeout(make_site, impatient):
    site = make_site(vhost=impatient.add_vhost())
    site.set("rabbit2packer", THREAD_COUNT=4)
    go = gate(site)
    worker = site.worker()
    for number in range(8):
        site.publish(profile(f"p{number}"), message_id=f"m{number}")
    site.wait_packer(4)
    end = time.monotonic() + 9
    wait_for(lambda: time.monotonic() > end, "three times the limit")
    go.touch()
    site.wait_state("succeeded", 8)
    assert_nothing_left(site)
    assert len(site.packer_runs()) == 8
    assert "queue: " not in worker.log(), "nobody was thrown out"


class Proxy:
    """Between worker and broker. What arrives while it is frozen waits; nothing is closed."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.flowing = threading.Event()
        self.flowing.set()
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.flowing.wait()
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                self.flowing.wait()
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze(self):
        self.flowing.clear()

    def thaw(self):
        self.flowing.set()

    def close(self):
        self.thaw()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            sock.close()


@pytest.mark.slow
@pytest.mark.parametrize("lease", [2, 1800])
def test_cut_off_for_longer_than_the_heartbeat(make_site, impatient, lease):
    """With the short lease the message is in the queue again when the worker is back, and twice if
    its delivery could not be acked any more."""
    site = make_site(vhost=impatient.add_vhost())
    with closing(Proxy(impatient.port)) as proxy:
        site.set("global", RABBIT_PORT=proxy.port)
        site.set("rabbit2packer", LEASE=lease)
        go = gate(site)
        worker = site.worker()
        site.vhost.publish(QUEUE, body(), message_id="the-message")
        site.wait_packer(1)
        wait_leases(site, 1)
        proxy.freeze()
        worker.wait_log("queue: ", deadline=60)
        if lease == 2:
            wait_for(lambda: site.queue_count() >= 1, "the lease runs out")
        proxy.thaw()
        wait_for(lambda: worker.log().count("connected to the queue") == 2, "it is back", 90)
        wait_for(lambda: site.queue_count() == 0, "what came again is taken")
        wait_for(lambda: leases(site.vhost) >= 1, "it is under a lease again")
        go.touch()
        site.wait_state("succeeded")
        assert_nothing_left(site)
        assert len(site.packer_runs()) == 1
        assert [build.state for build in site.builds()] == ["succeeded"]
        assert worker.stop() == 0


@pytest.mark.slow
def test_broker_restarted_during_builds(make_site, own_rabbit):
    site = make_site(vhost=own_rabbit.add_vhost())
    go = gate(site)
    worker = site.worker()
    for name in ("one", "two"):
        site.publish(profile(name), message_id=name)
    site.wait_packer(2)
    wait_leases(site, 2)
    own_rabbit.kill()
    worker.wait_log("queue: ")
    own_rabbit.spawn(os.getpid())
    wait_for(lambda: worker.log().count("connected to the queue") == 2, "it is back", 90)
    wait_leases(site, 2)
    go.touch()
    site.wait_state("succeeded", 2)
    assert_nothing_left(site)
    assert len(site.packer_runs()) == 2
    assert worker.stop() == 0


def remake(vhost):
    """The broker loses all that the virtual host held."""
    vhost.node.request("DELETE", f"vhosts/{vhost.name}")
    vhost.node.request("PUT", f"vhosts/{vhost.name}")
    vhost.node.set_permissions(vhost.name, "packuilon")
    vhost.node.set_permissions(vhost.name, "admin")


def test_broker_that_lost_its_queues(rabbit_site, make_site):
    """Running and waiting builds go on, and are under a lease again."""
    go = gate(rabbit_site)
    worker = rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(1)
    rabbit_site.publish_profile()
    rabbit_site.wait_state("queued")
    wait_leases(rabbit_site, 2)
    remake(rabbit_site.vhost)
    wait_for(lambda: worker.log().count("connected to the queue") == 2, "it is back")
    wait_leases(rabbit_site, 2)
    go.touch()
    rabbit_site.wait_state("succeeded", 2)
    assert_nothing_left(rabbit_site)


def test_a_message_that_comes_again_while_it_builds_is_not_built_twice(rabbit_site):
    """Also when all slots are busy."""
    rabbit_site.set("rabbit2packer", THREAD_COUNT=1)
    go = gate(rabbit_site)
    worker = rabbit_site.worker()
    rabbit_site.vhost.publish(QUEUE, body(), message_id="the-message")
    rabbit_site.wait_packer(1)
    wait_leases(rabbit_site, 1)
    rabbit_site.vhost.publish(QUEUE, body(), message_id="the-message")
    worker.wait_log("came again")
    wait_leases(rabbit_site, 1)
    go.touch()
    rabbit_site.wait_state("succeeded")
    assert_nothing_left(rabbit_site)
    rabbit_site.vhost.publish(QUEUE, body(), message_id="the-message")
    wait_for(lambda: worker.log().count("came again") == 2, "and when it is over")
    assert_nothing_left(rabbit_site)
    assert len(rabbit_site.builds()) == 1


def test_leases_that_are_refused_hold_up_nothing(rabbit_site):
    """The user may use the work queue only: builds work, and what is over is acked."""
    node, vhost = rabbit_site.vhost.node, rabbit_site.vhost
    vhost.declare(QUEUE)
    node.add_user(vhost.name, "secret")
    node.set_permissions(vhost.name, vhost.name, configure="", read=QUEUE)
    rabbit_site.set("global", RABBIT_USER=vhost.name, RABBIT_PW="secret")
    go = gate(rabbit_site)
    try:
        worker = rabbit_site.worker()
        for number in range(6):
            rabbit_site.vhost.publish(QUEUE, pan_json(profile(f"p{number}")))
        worker.wait_log("a lease of the queue")
        assert "ACCESS_REFUSED" in worker.log()
        go.touch()
        rabbit_site.wait_state("succeeded", 6)
        assert worker.stop() == 0
        assert rabbit_site.queue_count() == 0
    finally:
        node.request("DELETE", f"users/{vhost.name}")


# ---- the worker dies -------------------------------------------------------------------------


@pytest.fixture(params=["building", "queued", "retry"])
def killed(request, site):
    """Kills the worker of `site` when a build is in that state. How often Packer will have run."""
    site.set("rabbit2packer", RETRY_SECONDS=2)
    go = gate(site)
    if request.param == "retry":
        site.template("managed", QUOTA)
    worker = site.worker()
    site.publish(profile(), message_id="first")
    site.wait_packer(1)
    if request.param == "building":
        site.wait_state("building")
    elif request.param == "queued":
        site.publish(profile(), message_id="second")
        site.wait_state("queued")
    else:
        site.wait_state("failed")
        gate(site)
    if site.vhost:
        wait_leases(site, 2 if request.param == "queued" else 1)
    runs = len(site.packer_runs()) + 1  # also for two of one image: one build covers both
    worker.kill()
    for build in site.builds():
        wait_for(lambda: not build.pid or not is_alive(build.pid), "Packer is gone, too")
    go.touch()
    return runs


def test_a_killed_worker_goes_on_at_once(site, killed):
    site.worker()
    wait_for(lambda: site.builds() and all(b.ended_ms for b in site.builds()), "all is over")
    assert len(site.builds("succeeded")) == 1
    assert len(site.packer_runs()) == killed
    if site.vhost:
        assert_nothing_left(site)
    assert site.queue_count() == 0


@pytest.mark.parametrize("name", ["building", "queued"])
def test_a_vanished_host_is_stood_in_for(rabbit_site, make_site, name):
    """Killed, and its state folder is gone: another builds after the lease, and not before."""
    go = gate(rabbit_site)
    rabbit_site.set("rabbit2packer", LEASE=LEASE)
    other = make_site("other", vhost=rabbit_site.vhost)
    worker = rabbit_site.worker()
    rabbit_site.publish(profile(), message_id="first")
    rabbit_site.wait_packer(1)
    if name == "queued":
        rabbit_site.publish(profile(), message_id="second")
        rabbit_site.wait_state("queued")
    number = 2 if name == "queued" else 1
    wait_leases(rabbit_site, number)
    (build,) = rabbit_site.builds("building")
    ends = wait_for(
        lambda: [row.ends_ms for row in rabbit_site.query("SELECT * FROM lease") if row.ends_ms],
        "the journal knows when a lease ends",
    )
    worker.kill()
    wait_for(lambda: not is_alive(build.pid), "Packer is gone, too")
    remove_state(rabbit_site)
    go.touch()
    other.worker()
    assert other.wait_state("succeeded")
    wait_for(
        lambda: all(b.ended_ms for b in other.builds())
        and len({b.message_id for b in other.builds()}) == number,
        "all messages",
    )
    assert other.builds()[0].queued_ms >= min(ends)
    assert_nothing_left(other)


def test_a_lease_that_ran_out_meanwhile_is_not_built_twice(rabbit_site, make_site):
    go = gate(rabbit_site)
    rabbit_site.set("rabbit2packer", LEASE=1)
    worker = rabbit_site.worker()
    rabbit_site.publish(profile(), message_id="first")
    rabbit_site.wait_packer(1)
    rabbit_site.publish(profile("another"), message_id="second")
    rabbit_site.wait_packer(2)
    wait_leases(rabbit_site, 2)
    worker.kill()
    other = make_site("other", vhost=rabbit_site.vhost)
    other.worker()
    other.wait_state("succeeded", 2)
    go.touch()
    back = rabbit_site.worker()
    wait_for(lambda: all(b.ended_ms for b in rabbit_site.builds()), "all is over here")
    assert {build.state for build in rabbit_site.builds()} == {"interrupted"}
    assert "lease ran out" in rabbit_site.builds()[-1].reason
    assert len(rabbit_site.packer_runs()) == 2
    assert len(other.packer_runs()) == 2
    assert_nothing_left(rabbit_site, other)
    assert back.stop() == 0


def test_a_lease_that_ran_out_with_nobody_there_is_built_once(rabbit_site):
    go = gate(rabbit_site)
    rabbit_site.set("rabbit2packer", LEASE=1)
    worker = rabbit_site.worker()
    rabbit_site.publish(profile(), message_id="first")
    rabbit_site.wait_packer(1)
    wait_leases(rabbit_site, 1)
    worker.kill()
    wait_for(lambda: rabbit_site.queue_count() == 1, "the lease runs out")
    go.touch()
    rabbit_site.worker()
    (build,) = rabbit_site.wait_state("succeeded")
    assert build.message_id == "first"
    wait_for(lambda: all(b.ended_ms for b in rabbit_site.builds()), "all is over")
    assert len(rabbit_site.packer_runs()) == 2
    assert_nothing_left(rabbit_site)


def test_killed_before_the_broker_had_its_copy(rabbit_site):
    """The journal knows the message, the lease was refused: it is in the queue, and built once."""
    node, vhost = rabbit_site.vhost.node, rabbit_site.vhost
    go = gate(rabbit_site)
    worker = rabbit_site.worker()
    vhost.declare(QUEUE)
    node.set_permissions(vhost.name, "packuilon", configure="", read=QUEUE)
    with vhost.channel as channel:
        channel.basic_publish("", QUEUE, body(), pika.BasicProperties(message_id="the-message"))
    rabbit_site.wait_packer(1)
    worker.wait_log("ACCESS_REFUSED")
    worker.kill()
    wait_for(lambda: rabbit_site.queue_count() == 1, "it was not acked")
    node.set_permissions(vhost.name, "packuilon")
    go.touch()
    rabbit_site.worker()
    rabbit_site.wait_state("succeeded")
    wait_for(lambda: all(b.ended_ms for b in rabbit_site.builds()), "all is over")
    assert len(rabbit_site.builds("succeeded")) == 1
    assert len(rabbit_site.packer_runs()) == 2
    assert_nothing_left(rabbit_site)


def test_a_worker_keeps_its_queues(rabbit_site):
    go = gate(rabbit_site)
    for _ in range(2):
        go.unlink(missing_ok=True)
        worker = rabbit_site.worker()
        rabbit_site.publish_profile()
        wait_leases(rabbit_site, 1)
        go.touch()
        wait_for(lambda: rabbit_site.builds() and rabbit_site.builds()[-1].ended_ms, "a build")
        assert worker.stop() == 0
    assert len({queue.rsplit(".", 1)[0] for queue in lease_queues(rabbit_site.vhost)}) == 1


# ---- <QUEUE>.failed --------------------------------------------------------------------------


def test_what_is_given_up_waits_in_failed(site):
    site.template("managed", "fail Script exited with non-zero exit status: 3")
    site.worker()
    site.publish(profile(), message_id="the-message", entry="web.json")
    site.wait_state("failed")
    wait_for(lambda: site.queue_count(".failed") == 1, "it is in .failed")
    if not site.vhost:
        return
    _, properties = site.vhost.get(f"{QUEUE}.failed")
    assert properties.message_id == "the-message"
    assert "non-zero exit status: 3" in properties.headers["x-packuilon-reason"]
    assert properties.headers["x-packuilon-entry"] == "web.json"
    assert properties.expiration is None
    wait_for(lambda: not site.query("SELECT * FROM message"), "the journal hands it over")
    assert_nothing_left(site)


@pytest.mark.parametrize("restart", [False, True])
def test_failed_waits_for_a_broker_that_is_away(rabbit_site, restart):
    go = rabbit_site.root / "go"
    rabbit_site.template("managed", "launch", f"wait {go}", "fail Script exited with non-zero exit status: 3")
    worker = rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_packer(1)
    vhost = rabbit_site.vhost
    vhost.node.request("DELETE", f"vhosts/{vhost.name}")
    worker.wait_log("queue: ")
    go.touch()
    rabbit_site.wait_state("failed")
    assert len(rabbit_site.query("SELECT * FROM message")) == 1
    if restart:
        assert worker.stop() == 0
    vhost.node.request("PUT", f"vhosts/{vhost.name}")
    vhost.node.set_permissions(vhost.name, "packuilon")
    vhost.node.set_permissions(vhost.name, "admin")
    if restart:
        rabbit_site.worker()
    wait_for(lambda: rabbit_site.queue_count(".failed") == 1, "it is in .failed", 60)
    wait_for(lambda: not rabbit_site.query("SELECT * FROM message"), "and no longer here")
    assert_nothing_left(rabbit_site)
