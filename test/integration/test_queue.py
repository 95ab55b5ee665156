"""The queue, through two small programs over its API: queue-publish and queue-consume."""

import json
import os
import select
import socket
import struct
import subprocess
import threading
import time

import pika
import pytest

from rig.processes import TOOL_DIR, check_crash, free_ports, sanitizer_environment
from rig.rabbit import PASSWORD, USER, openssl
from rig.site import QUEUE
from rig.waiting import DEADLINE, SLOWNESS, wait_for

BIG = 20_000_000


class Tool:
    """A program that talks in lines of JSON."""

    def __init__(self, site, name, *arguments):
        self.argv = [TOOL_DIR / name, site.config_path, *map(str, arguments)]
        self.events, self._part = [], b""
        self._errors = open(site.root / f"{name}.err", "ab+")
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **sanitizer_environment(site.reports)},
        )

    def _read(self, timeout):
        """False at the end of its output."""
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            return True
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self._part = (self._part + data).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(data)

    def wait(self, event, count=1, deadline=DEADLINE, **values):
        """The first `count` events of this kind with these values, in order; one event if count is 1."""
        end = time.monotonic() + deadline * SLOWNESS
        while True:
            found = [
                e
                for e in self.events
                if e["event"] == event and all(e.get(k) == v for k, v in values.items())
            ]
            if len(found) >= count:
                return found[0] if count == 1 else found[:count]
            left = end - time.monotonic()
            assert left > 0, f"{count} {event} {values} did not come: {self.events[-20:]}"
            assert self._read(left), f"ended before {event} {values}: {self.events[-20:]}"

    def forget(self):
        self.events.clear()

    def write(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.stdin.close()
            while self._read(DEADLINE):
                pass
        code = self.process.wait(DEADLINE * SLOWNESS)
        self.process.stdout.close()
        self._errors.seek(0)
        check_crash(self.argv, code, self._errors.read().decode(errors="replace"))
        self._errors.close()
        return code

    def stderr(self):
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


class Publisher(Tool):
    def __init__(self, site):
        super().__init__(site, "queue-publish")
        self.sent = 0

    def send(self, **message):
        """Sends and flushes; the fates of these messages."""
        first = self.sent
        self.write(json.dumps(message))
        self.sent += message.get("repeat", 1)
        flushed = self.wait("flushed", sent=self.sent)
        assert flushed["unconfirmed"] == 0
        return [e for e in self.events if e["event"] == "done" and e["token"] >= first]


class Consumer(Tool):
    def __init__(self, site, prefetch=10, *mode):
        super().__init__(site, "queue-consume", prefetch, *mode)

    def delivery(self, number=0):
        return self.wait("delivery", number=number)

    def order(self, verb, delivery=None, *rest):
        number = [] if delivery is None else [str(delivery["number"])]
        self.write(" ".join([verb, *number, *rest]))


@pytest.fixture
def start(request):
    """start(Consumer, site, …): closed at the end."""
    tools = []

    def begin(kind, *arguments):
        tools.append(kind(*arguments))
        return tools[-1]

    yield begin
    for tool in tools:
        if not tool.process.stdout.closed:
            tool.close()


def publish_one(site, **message):
    publisher = Publisher(site)
    publisher.wait("open")
    fates = publisher.send(**message)
    assert publisher.close() == 0
    return fates


def open_error(site):
    """Why neither a publisher nor a consumer can use the queue of this site."""
    publisher = Publisher(site)
    text = publisher.wait("failed")["error"]
    assert publisher.close() == 1
    consumer = Consumer(site)
    assert consumer.wait("lost")["error"] == text
    consumer.order("quit")
    assert consumer.close() == 0
    assert PASSWORD not in text
    return text


# ---- both transports ------------------------------------------------------------------------


def test_message_arrives_with_all_that_was_sent(site, start):
    fates = publish_one(
        site,
        body='{"a": "ü"}',
        message_id="id-1",
        app_id="cdb2rabbit",
        entry="web.cloud.template.json",
        content_id="ab" * 32,
        changes="/software/packages\n/system/os",
        timestamp=1600000000,
    )
    assert [fate["error"] for fate in fates] == [None]
    consumer = start(Consumer, site)
    delivery = consumer.delivery()
    assert delivery["body"] == '{"a": "ü"}'
    assert delivery["message_id"] == "id-1"
    assert delivery["app_id"] == "cdb2rabbit"
    assert delivery["entry"] == "web.cloud.template.json"
    assert delivery["content_id"] == "ab" * 32
    assert delivery["changes"] == "/software/packages\n/system/os"
    assert delivery["timestamp"] == 1600000000
    assert not delivery["redelivered"]


def test_acked_message_does_not_come_again_and_another_does(site, start):
    publish_one(site, body="first")
    publish_one(site, body="second")
    consumer = Consumer(site)
    consumer.order("ack", consumer.delivery(0))
    consumer.delivery(1)
    consumer.order("quit")
    assert consumer.close() == 0
    consumer = start(Consumer, site)
    assert consumer.delivery()["body"] == "second"


def test_order_is_kept(site, start):
    publisher = start(Publisher, site)
    publisher.wait("open")
    for n in range(5):
        publisher.send(body=str(n), repeat=20)
    consumer = start(Consumer, site, 200)
    bodies = [d["body"] for d in consumer.wait("delivery", 100)]
    assert bodies == [str(n) for n in range(5) for _ in range(20)]


def test_requeued_message_comes_again(site, start):
    publish_one(site, body="again", message_id="same")
    consumer = start(Consumer, site)
    consumer.order("requeue", consumer.delivery(0))
    again = consumer.delivery(1)
    assert again["body"] == "again" and again["message_id"] == "same"


def test_prefetch_limits_what_is_unacked(site, start):
    publish_one(site, body="x", repeat=5)
    consumer = start(Consumer, site, 2)
    consumer.delivery(1)
    consumer.order("ack", consumer.delivery(0))
    consumer.delivery(2)
    consumer.order("pause")  # what was on its way has come before an answer to this
    consumer.order("ack", consumer.delivery(1))
    consumer.order("quit")
    assert consumer.close() == 0
    assert len([e for e in consumer.events if e["event"] == "delivery"]) == 3


def test_paused_consumer_leaves_messages_alone_until_resumed(site, start):
    consumer = start(Consumer, site)
    consumer.wait("connected")
    consumer.order("pause")
    other = start(Consumer, site) if site.vhost else None  # gets them, as nobody else does
    if other:
        other.wait("connected")
    publish_one(site, body="while paused")
    if other:
        other.order("requeue", other.delivery())
        other.order("quit")
        assert other.close() == 0
    assert not [e for e in consumer.events if e["event"] == "delivery"]
    consumer.order("resume")
    assert consumer.delivery()["body"] == "while paused"


def test_moved_message_keeps_its_own_and_says_why(site, start):
    publish_one(site, body="poison", message_id="bad", entry="bad.json")
    consumer = start(Consumer, site)
    consumer.order("move", consumer.delivery(), ".rejected", "it is not a profile")
    if site.vhost:
        wait_for(lambda: site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")
    consumer.order("quit")
    assert consumer.close() == 0
    site.set("global", QUEUE=f"{QUEUE}.rejected")
    moved = start(Consumer, site).delivery()
    assert moved["body"] == "poison"
    assert moved["message_id"] == "bad"
    assert moved["entry"] == "bad.json"
    assert moved["reason"] == "it is not a profile"


def test_moved_message_is_gone_from_its_queue(site, start):
    publish_one(site, body="poison")
    publish_one(site, body="good")
    consumer = Consumer(site)
    consumer.delivery(1)
    consumer.order("move", consumer.delivery(0), ".failed", "three times")
    if site.vhost:
        wait_for(lambda: site.vhost.count(f"{QUEUE}.failed"), "the message in .failed")
    consumer.order("quit")
    assert consumer.close() == 0
    assert start(Consumer, site).delivery()["body"] == "good"


def test_big_message(site, start):
    publish_one(site, size=BIG)
    publish_one(site, body="next")
    consumer = start(Consumer, site)
    assert consumer.delivery(0)["size"] == BIG
    assert consumer.delivery(1)["body"] == "next"


def test_bodies_around_the_size_of_a_frame(site, start):
    sizes = [0, 1, 131063, 131064, 131065, 2 * 131064]
    publisher = start(Publisher, site)
    publisher.wait("open")
    for size in sizes:
        assert publisher.send(size=size)[0]["error"] is None
    consumer = start(Consumer, site)
    assert [d["size"] for d in consumer.wait("delivery", len(sizes))] == sizes


def test_more_messages_than_the_window(site, start):
    publisher = start(Publisher, site)
    publisher.wait("open")
    fates = publisher.send(body="x", repeat=1000)
    assert [fate["token"] for fate in sorted(fates, key=lambda f: f["token"])] == list(range(1000))
    assert {fate["error"] for fate in fates} == {None}
    consumer = start(Consumer, site, 50, "auto")
    consumer.wait("delivery", 1000)


def test_killed_consumer_gives_its_messages_back(site, start):
    publish_one(site, body="precious")
    first = start(Consumer, site)
    first.delivery()
    first.kill()
    assert start(Consumer, site).delivery()["body"] == "precious"


def test_waiting_consumer_is_woken_at_once(site, start):
    consumer = start(Consumer, site, 10, "auto")
    consumer.wait("connected")
    publisher = start(Publisher, site)
    publisher.wait("open")
    delays = []
    for n in range(20):
        done = publisher.send(body="x")[0]
        delays.append(abs(consumer.delivery(n)["at"] - done["at"]) / 1e6)
    assert sorted(delays)[10] < 50 * SLOWNESS, delays


def test_unusual_texts_survive(site, start):
    entry = 'a "b" \\ $NAME {{env "X"}} \N{SNOWMAN}.json'
    publish_one(site, body="\N{SNOWMAN}", entry=entry)
    delivery = start(Consumer, site).delivery()
    assert (delivery["body"], delivery["entry"]) == ("\N{SNOWMAN}", entry)


def probe(site):
    tool = Tool(site, "queue-publish", "probe")
    ready = tool.wait("probed")["ready"]
    assert tool.close() == 0
    return ready


def test_probe_counts_and_makes_nothing(site):
    assert probe(site) == -1
    assert probe(site) == -1
    publish_one(site, body="x", repeat=3)
    assert probe(site) == 3


# ---- next to upstream's Python programs ------------------------------------------------------


def test_bare_body_from_upstream(rabbit_site, start):
    rabbit_site.vhost.publish(QUEUE, '{"system": {}}')
    delivery = start(Consumer, rabbit_site).delivery()
    assert delivery["body"] == '{"system": {}}'
    assert delivery["message_id"] is None and delivery["entry"] is None


def test_upstream_reads_what_we_publish(rabbit_site):
    publish_one(rabbit_site, body='{"a":1}', message_id="m", entry="x.json", changes="/a\n/b")
    rabbit_site.vhost.declare(QUEUE)  # as upstream does; it would be refused if ours differed
    body, properties = rabbit_site.vhost.get(QUEUE)
    assert body == b'{"a":1}'
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id == "m"
    assert abs(properties.timestamp - time.time()) < 60
    assert properties.app_id == "packuilon"
    assert properties.headers == {"x-packuilon-entry": "x.json", "x-packuilon-changes": "/a\n/b"}


def test_hostile_properties_become_visible_text(rabbit_site, start):
    rabbit_site.vhost.publish(
        QUEUE,
        "{}",
        message_id="a\nb",
        app_id="x" * 255,
        headers={"x-packuilon-entry": "e\x1b[2J", "x-packuilon-changes": 5, "deep": {"a": [1, {}]}},
    )
    delivery = start(Consumer, rabbit_site).delivery()
    assert delivery["message_id"] == "a\\x0ab"
    assert delivery["entry"] == "e\\x1b[2J"
    assert delivery["changes"] is None


def test_move_keeps_foreign_properties(rabbit_site, start):
    headers = {"traceparent": "00-1-2-03", "n": 7, "list": [1, "two"], "x-packuilon-reason": "old"}
    rabbit_site.vhost.publish(
        QUEUE, "{}", headers=headers, correlation_id="c", type="t", content_type="text/x",
        expiration="600000",
    )  # fmt: skip
    consumer = start(Consumer, rabbit_site)
    consumer.order("move", consumer.delivery(), ".rejected", "new")
    wait_for(lambda: rabbit_site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")
    body, properties = rabbit_site.vhost.get(f"{QUEUE}.rejected")
    assert body == b"{}"
    assert properties.headers == {**headers, "x-packuilon-reason": "new"}
    assert (properties.correlation_id, properties.type) == ("c", "t")
    assert properties.content_type == "text/x"
    assert properties.delivery_mode == 2
    assert properties.expiration is None  # in .rejected it stays


@pytest.mark.parametrize("kind", [{"x-max-priority": 3}, {"x-queue-type": "quorum"}])
def test_queue_declared_otherwise_is_used_as_it_is(rabbit_site, start, kind):
    rabbit_site.vhost.declare(QUEUE, arguments=kind)
    assert publish_one(rabbit_site, body="x")[0]["error"] is None
    assert start(Consumer, rabbit_site).delivery()["body"] == "x"


def test_move_into_a_queue_declared_otherwise(rabbit_site, start):
    rabbit_site.vhost.declare(f"{QUEUE}.rejected", arguments={"x-max-priority": 3})
    publish_one(rabbit_site, body="x")
    consumer = start(Consumer, rabbit_site)
    consumer.order("move", consumer.delivery(), ".rejected", "why")
    wait_for(lambda: rabbit_site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")


def test_move_without_permission_leaves_the_rest_alone(rabbit, rabbit_site, start):
    user = f"reader-{rabbit_site.vhost.name}"
    rabbit.add_user(user, "pw")
    rabbit.set_permissions(rabbit_site.vhost.name, user, configure=f"^{QUEUE}$")
    rabbit_site.set("global", RABBIT_USER=user, RABBIT_PW="pw")
    publish_one(rabbit_site, body="poison")
    consumer = start(Consumer, rabbit_site)
    consumer.order("move", consumer.delivery(), ".rejected", "why")
    wait_for(lambda: "cannot move" in consumer.stderr(), "the complaint")
    assert "ACCESS_REFUSED" in consumer.stderr() and f"{QUEUE}.rejected" in consumer.stderr()
    publish_one(rabbit_site, body="good")
    consumer.order("ack", consumer.delivery(1))
    consumer.order("quit")
    assert consumer.close() == 0
    assert rabbit_site.vhost.get(QUEUE)[0] == b"poison"
    rabbit.request("DELETE", f"users/{user}")


def test_move_into_a_queue_that_was_deleted_meanwhile(rabbit_site, start):
    publish_one(rabbit_site, body="x", repeat=3)
    consumer = start(Consumer, rabbit_site)
    consumer.delivery(2)
    consumer.order("move", consumer.delivery(0), ".rejected", "why")
    wait_for(lambda: rabbit_site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")
    with rabbit_site.vhost.channel as channel:
        channel.queue_delete(f"{QUEUE}.rejected")
    consumer.order("move", consumer.delivery(1), ".rejected", "why")
    wait_for(lambda: "NO_ROUTE" in consumer.stderr(), "the complaint")
    consumer.order("move", consumer.delivery(2), ".rejected", "why")  # it is declared again
    wait_for(lambda: rabbit_site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")


def test_moves_under_way_are_finished_at_the_end(rabbit_site, start):
    publish_one(rabbit_site, body="x", repeat=20)
    consumer = start(Consumer, rabbit_site, 20)
    for delivery in consumer.wait("delivery", 20):
        consumer.order("move", delivery, ".rejected", "why")
    consumer.order("quit")
    assert consumer.close() == 0
    assert rabbit_site.vhost.count(QUEUE) == 0
    assert rabbit_site.vhost.count(f"{QUEUE}.rejected") == 20


# ---- what a publisher hears ------------------------------------------------------------------


def test_unroutable_message_is_reported(rabbit_site, start):
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    assert publisher.send(body="before")[0]["error"] is None
    with rabbit_site.vhost.channel as channel:
        channel.queue_delete(QUEUE)
    fates = publisher.send(body="lost", repeat=3)
    assert len(fates) == 3
    for fate in fates:
        assert "NO_ROUTE" in fate["error"] and QUEUE in fate["error"]
    rabbit_site.vhost.declare(QUEUE)
    assert publisher.send(body="after")[0]["error"] is None


def test_full_queue_nacks(rabbit_site, start):
    rabbit_site.vhost.declare(
        QUEUE, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    errors = [publisher.send(body=str(n))[0]["error"] for n in range(4)]
    assert errors[:2] == [None, None]
    assert "nack" in errors[3]


def test_publisher_without_connection(rabbit_site, start):
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    wait_for(lambda: rabbit_site.vhost.close_connections(), "the broker closes the connection")
    publisher.write(json.dumps({"body": "x"}))
    error = publisher.wait("failed")["error"]
    assert str(rabbit_site.vhost.node.port) in error
    assert publisher.close() == 1


def rabbit_eval(node, expression):
    subprocess.run(
        ["/usr/lib/rabbitmq/bin/rabbitmqctl", "eval", expression],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(node.root),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(node.ports["epmd"]),
            "RABBITMQ_NODENAME": f"packuilon-{node.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        },
        check=True,
        capture_output=True,
    )


# ---- losing the broker -----------------------------------------------------------------------


def test_consumer_comes_back_after_being_thrown_out(rabbit_site, start):
    publish_one(rabbit_site, body="x")
    consumer = start(Consumer, rabbit_site)
    before = consumer.delivery(0)
    wait_for(lambda: rabbit_site.vhost.close_connections(), "the broker closes the connection")
    assert "CONNECTION_FORCED" in consumer.wait("lost")["error"]
    again = consumer.delivery(1)
    assert again["redelivered"]
    consumer.order("ack", before)  # stale: does nothing
    consumer.order("ack", again)
    consumer.order("quit")
    assert consumer.close() == 0
    assert rabbit_site.vhost.get(QUEUE) is None


def test_stale_delivery_is_not_acked_in_place_of_another(rabbit_site, start):
    publish_one(rabbit_site, body="x")
    consumer = start(Consumer, rabbit_site)
    before = consumer.delivery(0)
    wait_for(lambda: rabbit_site.vhost.close_connections(), "the broker closes the connection")
    consumer.delivery(1)
    consumer.order("ack", before)  # the same tag on the new connection is another delivery
    consumer.order("quit")
    assert consumer.close() == 0
    assert rabbit_site.vhost.get(QUEUE)[0] == b"x"


def test_deleted_queue_is_declared_again(rabbit_site, start):
    consumer = start(Consumer, rabbit_site)
    consumer.wait("connected")
    with rabbit_site.vhost.channel as channel:
        channel.queue_delete(QUEUE)
    assert f'queue "{QUEUE}"' in consumer.wait("lost")["error"]
    consumer.wait("connected", 2)
    rabbit_site.vhost.declare(QUEUE)
    publish_one(rabbit_site, body="x")
    consumer.delivery()


def test_consumer_survives_a_restart_of_the_broker(own_rabbit, make_site, start):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost)
    publish_one(site, body="kept")
    consumer = start(Consumer, site)
    consumer.delivery(0)
    own_rabbit.stop()
    consumer.wait("lost")
    assert "Connection refused" in consumer.wait("lost", 2)[1]["error"]
    own_rabbit.spawn(os.getpid())
    consumer.wait("connected", 2, deadline=90)
    assert consumer.delivery(1)["body"] == "kept"
    publish_one(site, body="new")
    consumer.delivery(2)


def test_broker_that_takes_no_messages_for_a_while(own_rabbit, make_site, start):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost)
    publish_one(site, body="poison")
    consumer = start(Consumer, site)
    consumer.delivery(0)
    publisher = start(Publisher, site)
    publisher.wait("open")
    rabbit_eval(own_rabbit, "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
    publisher.write(json.dumps({"body": "late"}))
    impatient = start(Publisher, site)
    impatient.wait("open")
    impatient.write(json.dumps({"body": "never", "most": 1, "flush_ms": 500}))
    assert impatient.wait("flushed", sent=1)["unconfirmed"] == 1
    impatient.write(json.dumps({"body": "never", "most": 1, "flush_ms": 500}))
    impatient.wait("flushed", sent=2)
    assert "takes no messages (low on memory)" in impatient.wait("failed")["error"]
    consumer.order("move", consumer.delivery(0), ".rejected", "why")
    assert not [e for e in publisher.events if e["event"] == "done"]
    rabbit_eval(own_rabbit, "rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
    assert publisher.wait("done")["error"] is None
    wait_for(lambda: vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")
    consumer.delivery(1)


def test_acknowledgement_timeout_is_named(own_rabbit, make_site, start):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost)
    rabbit_eval(own_rabbit, "application:set_env(rabbit, consumer_timeout, 1000).")
    rabbit_eval(own_rabbit, "application:set_env(rabbit, channel_tick_interval, 500).")
    publish_one(site, body="x")
    consumer = start(Consumer, site)
    consumer.delivery(0)
    error = consumer.wait("lost", deadline=60)["error"]
    assert "PRECONDITION_FAILED" in error and "timed out" in error
    assert consumer.delivery(1)["redelivered"]


class Proxy:
    """Between us and the broker: can hold back, cut, and put in what the broker says."""

    def __init__(self, node):
        self.node, self.pairs, self.holding = node, [], False
        self.cut_after = None  # bytes that the broker says; once
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.wakeup = socket.socketpair()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            watched = [self.socket, self.wakeup[1]]
            for client, server in self.pairs:
                watched += [client] if self.holding else [client, server]
            for ready in select.select(watched, [], [])[0]:
                if ready is self.wakeup[1]:
                    order = ready.recv(1)
                    if order == b"q":
                        return
                    self.holding = order == b"h"
                    if order == b"c":
                        for pair in list(self.pairs):
                            self.close_pair(pair)
                        break
                elif ready is self.socket:
                    server = socket.create_connection((self.node.host, self.node.port))
                    self.pairs.append((self.socket.accept()[0], server))
                else:
                    self.forward(ready)

    def forward(self, ready):
        for pair in list(self.pairs):
            if ready in pair:
                other = pair[1] if ready is pair[0] else pair[0]
                try:
                    data = ready.recv(1 << 16)
                    other.sendall(data)
                except OSError:
                    data = b""
                if self.cut_after and ready is pair[1]:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        data, self.cut_after = b"", None
                if not data:
                    self.close_pair(pair)

    def close_pair(self, pair):
        self.pairs.remove(pair)
        for sock in pair:
            sock.close()

    def hold(self):
        """What the broker says is no longer passed on."""
        self.wakeup[0].send(b"h")
        wait_for(lambda: self.holding, "the proxy holds back")

    def cut(self):
        self.wakeup[0].send(b"c")

    def say(self, data):
        for client, _ in self.pairs:
            client.sendall(data)

    def close(self):
        self.wakeup[0].send(b"q")
        self.thread.join()
        for pair in list(self.pairs):
            self.close_pair(pair)
        for sock in (self.socket, *self.wakeup):
            sock.close()


@pytest.fixture
def proxy(rabbit_site):
    proxy = Proxy(rabbit_site.vhost.node)
    rabbit_site.set("global", RABBIT_PORT=proxy.port)
    yield proxy
    proxy.close()


def test_unconfirmed_messages_fail_with_the_connection(rabbit_site, proxy, start):
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    publisher.send(body="good")
    proxy.hold()
    publisher.write(json.dumps({"body": "x", "repeat": 3}))
    wait_for(lambda: rabbit_site.vhost.count(QUEUE) == 4, "the broker has them")
    proxy.cut()
    publisher.wait("failed")
    errors = [e["error"] for e in publisher.events if e["event"] == "done"]
    assert len(errors) == 4 and errors[0] is None
    assert all("broke" in error for error in errors[1:])
    assert publisher.close() == 1


def test_full_window_waits_for_confirms(rabbit_site, proxy, start):
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    proxy.hold()
    publisher.write(json.dumps({"body": "x", "repeat": 300}))
    wait_for(lambda: rabbit_site.vhost.count(QUEUE) == 256, "a window of messages")
    assert not [e for e in publisher.events if e["event"] == "done"]
    proxy.cut()
    publisher.wait("failed")
    assert len([e for e in publisher.events if e["event"] == "done"]) == 256
    assert publisher.close() == 1


def test_broker_that_confirms_nothing(rabbit_site, proxy, start):
    publisher = start(Publisher, rabbit_site)
    publisher.wait("open")
    proxy.hold()
    publisher.write(json.dumps({"body": "x", "flush_ms": 300}))
    assert "confirmed none of 1" in publisher.wait("failed")["error"]
    proxy.cut()
    assert publisher.close() == 1


def test_connection_cut_within_a_message(rabbit_site, proxy, start):
    consumer = start(Consumer, rabbit_site)
    consumer.wait("connected")
    proxy.cut_after = BIG // 2
    rabbit_site.vhost.publish(QUEUE, b"y" * BIG)
    assert "broke" in consumer.wait("lost")["error"]
    assert consumer.delivery()["size"] == BIG


def test_ack_into_a_dead_connection(rabbit_site, proxy, start):
    publish_one(rabbit_site, body="x", repeat=3)
    consumer = start(Consumer, rabbit_site)
    consumer.delivery(2)
    proxy.hold()
    proxy.cut()
    for number in range(3):
        consumer.order("ack", consumer.delivery(number))
    consumer.order("pause")
    consumer.order("resume")
    consumer.wait("connected", 2)
    publish_one(rabbit_site, body="new")
    wait_for(
        lambda: consumer._read(0.1)
        and [e for e in consumer.events if e.get("body") == "new"],
        "the new message",
    )


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


@pytest.mark.parametrize(
    "words",
    [
        frame(3, 1, b"a body that belongs to nothing"),
        frame(2, 1, struct.pack(">HHQH", 60, 0, 5, 0)),  # so does this header
        frame(1, 1, struct.pack(">HH", 60, 60) + b"\x01c" + bytes(9) + b"\0\0") * 2,
        b"\x01\0\0\0\0\0\x04 no frame at all",
    ],
)
def test_broker_that_breaks_the_protocol(rabbit_site, proxy, start, words):
    consumer = start(Consumer, rabbit_site)
    consumer.wait("connected")
    proxy.say(words)
    assert str(proxy.port) in consumer.wait("lost")["error"]
    consumer.wait("connected", 2)
    publish_one(rabbit_site, body="x")
    consumer.delivery()


# ---- what an operator has to mend ------------------------------------------------------------


def test_wrong_password(rabbit_site):
    rabbit_site.set("global", RABBIT_PW="wrong-secret")
    error = open_error(rabbit_site)
    assert f"127.0.0.1:{rabbit_site.vhost.node.port}" in error
    assert "RABBIT_PW" in error and f'"{USER}"' in error and "ACCESS_REFUSED" in error
    assert "wrong-secret" not in error


def test_missing_vhost(rabbit_site):
    rabbit_site.set("global", RABBIT_VHOST="nowhere")
    error = open_error(rabbit_site)
    assert 'no vhost "nowhere"' in error and "RABBIT_VHOST" in error


def test_vhost_without_permission(rabbit, rabbit_site):
    user = f"nobody-{rabbit_site.vhost.name}"
    rabbit.add_user(user, "pw")
    rabbit_site.set("global", RABBIT_USER=user, RABBIT_PW="pw")
    error = open_error(rabbit_site)
    rabbit.request("DELETE", f"users/{user}")
    assert f'user "{user}"' in error and rabbit_site.vhost.name in error
    assert "set_permissions" in error


def test_no_permission_to_declare(rabbit, rabbit_site):
    user = f"weak-{rabbit_site.vhost.name}"
    rabbit.add_user(user, "pw")
    rabbit.set_permissions(rabbit_site.vhost.name, user, configure="^$")
    rabbit_site.set("global", RABBIT_USER=user, RABBIT_PW="pw")
    error = open_error(rabbit_site)
    assert f'declare queue "{QUEUE}"' in error and "ACCESS_REFUSED" in error
    rabbit_site.vhost.declare(QUEUE)  # by somebody who may
    assert publish_one(rabbit_site, body="x")[0]["error"] is None
    rabbit.request("DELETE", f"users/{user}")


def test_nobody_listens(rabbit_site):
    port = free_ports(1)[0]
    rabbit_site.set("global", RABBIT_PORT=port)
    error = open_error(rabbit_site)
    assert f"127.0.0.1:{port}" in error and "Connection refused" in error


def test_unknown_host(rabbit_site):
    rabbit_site.set("global", RABBIT_HOST="no-such-host.invalid")
    assert '"no-such-host.invalid"' in open_error(rabbit_site)


class Stranger:
    """A server of some other protocol: says `words` to everybody who has said something."""

    def __init__(self, words):
        self.words, self.connections = words, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            connection.recv(100)
            connection.sendall(self.words)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for connection in self.connections:
            connection.close()


@pytest.mark.parametrize("tls", ["no", "yes"])
@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 hello\r\n" * 9])
def test_not_rabbitmq(rabbit_site, words, tls):
    with Stranger(words) as server:
        rabbit_site.set("global", RABBIT_PORT=server.port, RABBIT_TLS=tls)
        error = open_error(rabbit_site)
    assert f"127.0.0.1:{server.port}" in error and "RABBIT_PORT" in error
    assert ("TLS" if tls == "yes" else "does not speak AMQP") in error


def test_server_that_says_nothing(rabbit_site):
    with Stranger(b"") as server:
        rabbit_site.set("global", RABBIT_PORT=server.port)
        publisher = Publisher(rabbit_site)
        error = publisher.wait("failed")["error"]
        assert publisher.close() == 1
    assert f"127.0.0.1:{server.port}" in error and "within 5 s" in error


# ---- TLS -------------------------------------------------------------------------------------


@pytest.fixture
def tls_site(rabbit_site):
    node = rabbit_site.vhost.node
    rabbit_site.set(
        "global", RABBIT_TLS="yes", RABBIT_TLS_CA=node.ca, RABBIT_PORT=node.tls_port
    )
    return rabbit_site


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tls(tls_site, start, host):
    tls_site.set("global", RABBIT_HOST=host)
    publish_one(tls_site, body="secret")
    publish_one(tls_site, size=BIG)
    consumer = start(Consumer, tls_site)
    assert consumer.delivery(0)["body"] == "secret"
    assert consumer.delivery(1)["size"] == BIG
    consumer.order("move", consumer.delivery(1), ".rejected", "why")
    wait_for(lambda: tls_site.vhost.count(f"{QUEUE}.rejected"), "the message in .rejected")


def test_tls_of_an_unknown_authority(tls_site, tmp_path):
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other", "-days", "2",
        cwd=tmp_path,
    )  # fmt: skip
    tls_site.set("global", RABBIT_TLS_CA=tmp_path / "other.pem")
    error = open_error(tls_site)
    assert "certificate" in error and "RABBIT_TLS_CA" in error and "self-signed" in error


def test_tls_of_another_name(tls_site):
    tls_site.set("global", RABBIT_HOST="127.1")  # the same address, but not by a name it has
    error = open_error(tls_site)
    assert "mismatch" in error and "RABBIT_HOST" in error


def test_tls_against_a_port_without(tls_site):
    tls_site.set("global", RABBIT_PORT=tls_site.vhost.node.port)
    error = open_error(tls_site)
    assert "TLS" in error and "RABBIT_TLS" in error and str(tls_site.vhost.node.port) in error


def test_no_tls_against_a_port_with(tls_site):
    tls_site.set("global", RABBIT_TLS="no", RABBIT_TLS_CA=None)
    error = open_error(tls_site)
    assert "RABBIT_TLS" in error and str(tls_site.vhost.node.tls_port) in error


def test_authorities_that_cannot_be_read(tls_site):
    tls_site.set("global", RABBIT_TLS_CA="/nowhere/ca.pem")
    assert "/nowhere/ca.pem" in open_error(tls_site)
