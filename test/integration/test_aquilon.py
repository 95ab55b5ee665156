"""nova2aquilon: notifications in, registrations out."""

import json
import uuid

import pytest
from rig import aquilon
from rig.registrations import DOMAIN, AquilonSite
from rig.waiting import wait_for

HOST = f"host-10-77-0-5.{DOMAIN}"


@pytest.fixture
def aq(rabbit_site):
    site = AquilonSite(rabbit_site)
    yield site
    site.close()


# ---- a registration and its end --------------------------------------------------------------


def test_a_server_is_registered_and_removed(aq):
    daemon = aq.start()
    server = aq.create()
    row = aq.wait(server, "registered")
    record = aq.assert_registered(server)
    assert (record["archetype"], record["personality"]) == ("cloud", "nubesvms")
    assert (record["osname"], record["osversion"]) == ("rocky", "8x-x86_64")
    assert record["domain"] == "prod" and "sandbox" not in record
    machine = aq.broker.machines[row.machine]
    assert (machine["model"], machine["vmhost"]) == ("vm-openstack", "hv1")
    assert (machine["cpucount"], machine["memory"]) == ("2", "2048")
    assert machine["interfaces"]["eth0"]["mac"].startswith("fa:16:3e:")
    assert row.host == HOST and row.personality == "nubesvms"
    assert aq.cloud.servers[server] == {
        "AQ_STATUS": "SUCCESS", "HOSTNAMES": HOST, "AQ_MACHINE": row.machine
    }  # fmt: skip
    aq.delete(server)
    aq.wait(server, "removed")
    assert not aq.broker.hosts and not aq.broker.machines
    assert daemon.stop() == 0
    assert aq.vhost.count(aquilon.QUEUE) == 0


def test_the_calls_are_as_the_broker_wants_them(aq):
    server = aq.create()
    aq.run()
    assert [repr(call).split(" {")[0] for call in aq.broker.calls] == [
        "GET /find/machine",
        f"GET /host/{HOST}",
        "PUT /next_machine/vm-openstack-",
        "PUT /machine/vm-openstack-1/interface/eth0",
        "POST /machine/vm-openstack-1/interface/eth0",
        f"PUT /host/{HOST}",
        f"POST /host/{HOST}/command/make",
    ]
    aq.assert_registered(server)


def test_a_sandbox_replaces_the_domain(aq):
    server = aq.create(metadata={**aquilon.AQ, "AQ_SANDBOX": "jane/try"})
    aq.run()
    record = aq.assert_registered(server)
    assert record["sandbox"] == "jane/try" and "domain" not in record


def test_the_build_is_noted(aq):
    server = aq.create(metadata={**aquilon.AQ, "PACKUILON_BUILD_ID": "b-1"})
    aq.run()
    assert aq.row(server).build_id == "b-1"


# ---- whom it concerns ------------------------------------------------------------------------


def test_other_servers_are_left_alone(aq):
    mine = aq.create()
    other = aq.create(metadata={"purpose": "web"})
    aq.delete(other, metadata={})
    aq.send(aquilon.envelope(aquilon.inner("compute.instance.update", other)))
    aq.send(json.dumps(aquilon.inner("compute.instance.exists", other)))
    aq.send(json.dumps({"event_type": "instance.create.end", "payload": {"nova_object.data": {}}}))
    aq.run()
    assert aq.row(other) is None
    aq.assert_registered(mine)
    assert aq.counts() == {
        "compute.instance.create.end": 2,
        "compute.instance.delete.start": 1,
        "compute.instance.update": 1,
        "compute.instance.exists": 1,
        "instance.create.end": 1,
    }


@pytest.mark.parametrize(
    "source, personality",
    [("metadata", "by-server"), ("image", "by-image"), ("both", "by-server")],
)
def test_source_of_the_keys(aq, source, personality):
    aq.set(AQ_SOURCE=source)
    full = {**aquilon.AQ, "AQ_PERSONALITY": "by-server"}
    image = {**aquilon.AQ, "AQ_PERSONALITY": "by-image", "AQ_DOMAIN": "image-domain"}
    server = aq.create(metadata=full, image=image)
    aq.run()
    assert aq.assert_registered(server)["personality"] == personality


def test_each_key_is_looked_for_in_both(aq):
    server = aq.create(
        metadata={"AQ_PERSONALITY": "by-server", "AQ_OS": "None", "aq_archetype": "lower"},
        image={"AQ_OS": "image-os", "AQ_OSVERSION": "9", "AQ_DOMAIN": "d", "AQ_PERSONALITY": "x"},
    )
    aq.run()
    record = aq.assert_registered(server)
    assert (record["personality"], record["osname"]) == ("by-server", "image-os")
    assert record["archetype"] == "lower"


def test_missing_keys_are_a_recorded_failure(aq):
    server = aq.create(metadata={"AQ_PERSONALITY": "p", "AQ_OS": "null"})
    fine = aq.create(address="10.77.0.6")
    aq.run()
    row = aq.row(server)
    assert row.state == "failed"
    for key in ("AQ_ARCHETYPE", "AQ_OS", "AQ_OSVERSION", "AQ_DOMAIN"):
        assert key in row.reason
    assert "AQ_PERSONALITY" not in row.reason
    assert aq.cloud.servers[server]["AQ_STATUS"] == "FAILED"
    assert "AQ_OSVERSION" in aq.cloud.servers[server]["AQ_STATUS_REASON"]
    aq.assert_registered(fine, "10.77.0.6")
    body, properties = aq.vhost.get(aquilon.QUEUE + ".failed")
    assert "AQ_OSVERSION" in properties.headers["x-packuilon-reason"]
    assert server in body.decode()


def test_networks_are_chosen_in_order(aq):
    aq.set(NETWORKS="Internal Services")
    wanted = aq.create(network="Services", address="10.77.0.9")
    unwanted = aq.create(network="Other", address="10.77.0.10")
    aq.run()
    aq.assert_registered(wanted, "10.77.0.9")
    assert "NETWORKS" in aq.row(unwanted).reason


# ---- messages that are none ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b'{"oslo.version": "2.0", "oslo.message": "not json"}',
        b'{"oslo.version": "2.0", "oslo.message": 7}',
        b'{"oslo.version": "2.0", "oslo.message": "{\\"payload\\": {}}"}',
        aquilon.envelope({"event_type": "compute.instance.create.end"}).encode(),
        aquilon.envelope({"event_type": "compute.instance.create.end", "payload": []}).encode(),
        aquilon.envelope(
            {"event_type": "compute.instance.create.end", "payload": {"instance_id": "../../x"}}
        ).encode(),
        b"\xff\xfe{}",
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b" " * (1024 * 1024 + 1),
    ],
    ids=range(12),
)
def test_what_is_no_notification_is_put_aside(aq, body):
    aq.send(body)
    fine = aq.create()
    aq.run()
    aq.assert_registered(fine)
    moved, properties = aq.vhost.get(aquilon.QUEUE + ".rejected")
    assert moved == body
    assert properties.headers["x-packuilon-reason"]
    assert aq.counts()["(rejected)"] == 1


def test_no_token_is_kept_or_said(aq):
    server = aq.create(metadata={"AQ_OS": "x"})
    result = aq.run()
    kept = "".join(str(dict(row)) for row in aq.rows()) + result.err
    body, _ = aq.vhost.get(aquilon.QUEUE + ".failed")
    for path in aq.site.state_dir.iterdir():
        kept += path.read_bytes().decode("latin-1")
    assert "a-token-that-must-not-leak" not in kept + body.decode()
    assert "openrc-password" not in kept
    assert server in kept


def test_by_the_real_oslo_messaging(aq):
    messaging = pytest.importorskip("oslo_messaging")
    config = pytest.importorskip("oslo_config.cfg")
    from rig.rabbit import PASSWORD, USER
    from urllib.parse import quote

    node = aq.vhost.node
    url = f"rabbit://{USER}:{quote(PASSWORD)}@127.0.0.1:{node.port}/{aq.vhost.name}"
    conf = config.ConfigOpts()
    conf([])
    transport = messaging.get_notification_transport(conf, url=url)
    conf.set_override("control_exchange", "nova")
    transport._driver._default_exchange = "nova"
    notifier = messaging.Notifier(
        transport, publisher_id="compute.hv1", driver="messagingv2", topics=["ral"]
    )
    daemon = aq.start()  # declares first; oslo's own declarations must agree with ours
    daemon.wait_log("connected to the queue")
    server = str(uuid.uuid4())
    document = aquilon.inner("compute.instance.create.end", server)
    notifier.info({}, "compute.instance.create.end", document["payload"])
    aq.wait(server, "registered")
    transport.cleanup()


# ---- the queue -------------------------------------------------------------------------------


def test_the_queue_is_made_as_oslo_would(aq):
    daemon = aq.start()
    daemon.wait_log("connected to the queue")
    publisher = aquilon.Publisher(aq.vhost)  # its declarations fail if ours differ
    server = str(uuid.uuid4())
    publisher.send(aquilon.created(server))
    publisher.close()
    aq.wait(server, "registered")


def test_a_queue_that_is_there_is_used_as_it_is(aq):
    with aq.vhost.channel as channel:
        channel.exchange_declare("nova", "topic", durable=True)
        channel.queue_declare(aquilon.QUEUE, durable=True)
        channel.queue_bind(aquilon.QUEUE, "nova", aquilon.QUEUE)
    aq._publisher = aquilon.Publisher(aq.vhost, declare=False)
    server = aq.create()
    aq.run()
    aq.assert_registered(server)


def test_another_rabbit_for_nova(aq, rabbit):
    other = rabbit.add_vhost()
    try:
        aq.set(RABBIT_VHOST=other.name)
        publisher = aquilon.Publisher(other)
        server = str(uuid.uuid4())
        publisher.send(aquilon.created(server))
        publisher.close()
        aq.run()
        aq.assert_registered(server)
    finally:
        other.delete()


def test_it_comes_back_after_the_connection_is_lost(aq):
    daemon = aq.start()
    daemon.wait_log("connected to the queue")
    first = aq.create()
    aq.wait(first, "registered")
    wait_for(lambda: aq.vhost.close_connections() or aq.vhost.connections(), "connections")
    aq._publisher = None
    second = aq.create(address="10.77.0.6")
    aq.wait(second, "registered")
    assert daemon.stop() == 0


# ---- the host's name -------------------------------------------------------------------------


def test_the_name_is_that_of_the_dns(aq):
    aq.set(HOST_NAME=None)
    aq.dns.names["10.77.0.5"] = "VM5.Example.ORG"
    server = aq.create()
    aq.run()
    assert aq.row(server).host == "vm5.example.org"
    assert aq.broker.host_of(server) == "vm5.example.org"


def test_a_name_may_come_late(aq):
    aq.set(HOST_NAME="dns")
    server = aq.create()
    daemon = aq.start()
    wait_for(lambda: (aq.row(server) or {}).get("reason"), "a first try")
    assert "no name in the DNS" in aq.row(server).reason
    aq.dns.names["10.77.0.5"] = "vm5.example.org"
    aq.wait(server, "registered")
    assert daemon.stop() == 0


def test_without_a_name_it_fails(aq):
    aq.set(HOST_NAME="dns", RETRY_FOR="2s")
    server = aq.create()
    aq.run()
    assert "no name in the DNS" in aq.row(server).reason
    assert aq.row(server).state == "failed"
    assert aq.cloud.servers[server]["AQ_STATUS"] == "FAILED"


@pytest.mark.parametrize("name", ["no-domain", "has_underscore.example.org", "a/../b.example.org"])
def test_a_strange_name_is_refused(aq, name):
    aq.set(HOST_NAME="dns", RETRY_FOR="0")
    aq.dns.names["10.77.0.5"] = name
    server = aq.create()
    aq.run()
    assert "not a host name" in aq.row(server).reason
    assert not aq.broker.called("PUT")
