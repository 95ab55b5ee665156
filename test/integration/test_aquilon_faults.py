"""nova2aquilon when its neighbours fail, when it is killed, and when messages cross each other: every
server is registered once, or its failure is told."""

import itertools
import os
import re
import signal
import uuid

import pytest
from rig import aquilon
from rig.crash import run_to_crash
from rig.processes import BIN_DIR
from rig.registrations import DOMAIN, AquilonSite
from rig.waiting import SLOWNESS, wait_for
from test_crash import assert_sound

HOST = f"host-10-77-0-5.{DOMAIN}"


@pytest.fixture
def aq(rabbit_site):
    site = AquilonSite(rabbit_site)
    yield site
    site.close()


# The calls of a registration of a server whose address has an old record.
CALLS = {
    "find machine": "GET /find/machine",
    "find record": "GET /host/{host}",
    "delete host": "DELETE /host/{host}",
    "show machine": "GET /machine/[^/]+",
    "delete address": "DELETE /interface_address",
    "delete interface": "POST /interface/command/del",
    "delete machine": "DELETE /machine/[^/]+",
    "add machine": "PUT /next_machine/.*",
    "add interface": "PUT /machine/.*",
    "set interface": "POST /machine/.*",
    "add host": "PUT /host/{host}",
    "make": "POST /host/{host}/command/make",
}
# What goes wrong with it, and whether the call had its effect.
FAULTS = [
    (503, False),
    (503, True),
    (500, False),
    (400, False),
    (404, False),
    ("close", False),
    ("close", True),
    ("hang", False),
    ("hang", True),
]


def names(number):
    address = f"10.77.{number // 250}.{number % 250 + 1}"
    return address, f"host-{address.replace('.', '-')}.{DOMAIN}"


def old_server(number):
    return str(uuid.UUID(int=number))


def pattern_of(call, server, number):
    """Of one server's call: its own, or one about the record that it finds under its name."""
    _, host = names(number)
    whose = f"({server}|{old_server(number)}|None)"
    return "^" + CALLS[call].format(host=re.escape(host)) + f" of {whose}$"


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_each_call_fails_in_each_way(aq, call):
    aq.set(HTTP_TIMEOUT=f"{int(2 * SLOWNESS)}s")
    cases = {}
    for number, (what, done) in enumerate(FAULTS):
        server, (address, host) = str(uuid.uuid4()), names(number)
        aq.broker.put(host, f"{aquilon.PREFIX}old-{number}", old_server(number), address)
        if call in ("find record", "delete host", "add host", "make"):
            pattern = f"^{CALLS[call].format(host=re.escape(host))} of"
        else:
            pattern = pattern_of(call, server, number)
        cases[server] = (aq.broker.fail(pattern, what, done=done), address)
        if call == "find machine":
            cases[server][0].pattern = re.compile(f"^GET /find/machine of {server}$")
        aq.create(server, address=address)
    aq.run(deadline=90)
    for server, (fault, address) in cases.items():
        assert fault.hit, f"{fault.pattern} {fault.what}"
        if call == "make" and fault.what in (400, 404):
            assert aq.row(server).state == "failed"
            assert "make" in aq.row(server).reason
            assert aq.cloud.status_of(server) == "FAILED"
        else:
            assert aq.row(server).state == "registered", (fault.what, fault.done, aq.describe())
            aq.assert_registered(server, address)
            assert aq.cloud.status_of(server) == "SUCCESS"
    assert len(aq.broker.machines) == len(cases), "no old machine is left"
    assert not aq.broker.violations


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["find machine", "find host", "delete host", "show machine", "delete address",
             "delete interface", "delete machine"]
)  # fmt: skip
def test_each_call_of_a_removal_fails_in_each_way(aq, call):
    aq.set(HTTP_TIMEOUT=f"{int(2 * SLOWNESS)}s")
    calls = {**CALLS, "find host": "GET /find/host", "delete host": "DELETE /host/.*"}
    cases = []
    for number, (what, done) in enumerate(FAULTS):
        server, (address, host) = str(uuid.uuid4()), names(number)
        aq.broker.put(host, f"{aquilon.PREFIX}{number}", server, address)
        cases.append(aq.broker.fail(f"^{calls[call]} of {server}$", what, done=done))
        aq.delete(server)
    aq.run(deadline=90)
    assert [row.state for row in aq.rows()] == ["removed"] * len(FAULTS), aq.describe()
    assert all(fault.hit for fault in cases)
    assert not aq.broker.machines and not aq.broker.hosts


def test_not_found_may_be_404_or_400(aq):
    aq.broker.missing_status = 404
    server = aq.create()
    aq.delete(str(uuid.uuid4()))
    aq.run()
    aq.assert_registered(server)
    assert [row.state for row in aq.rows()] == ["registered", "removed"]


# ---- what is given up ------------------------------------------------------------------------


def test_a_refusal_is_a_failure_at_once(aq):
    server = aq.create(metadata={**aquilon.AQ, "AQ_PERSONALITY": "unknown-one"})
    aq.run()
    row = aq.row(server)
    assert row.state == "failed" and "Personality unknown-one not found." in row.reason
    assert aq.cloud.servers[server]["AQ_STATUS_REASON"] == row.reason
    assert aq.vhost.count(aquilon.QUEUE + ".failed") == 1
    aq.delete(server)
    aq.run()
    assert aq.row(server).state == "removed"
    assert not aq.broker.machines, "what was made of it"


def test_a_broker_that_stays_away_is_given_up_in_the_end(aq):
    aq.set(RETRY_FOR="3s")
    fault = aq.broker.fail("PUT /host/", 503, times=1000, text="<html>busy</html>\nmore")
    server = aq.create()
    aq.run()
    row = aq.row(server)
    assert row.state == "failed" and "503" in row.reason and "more" not in row.reason
    assert fault.hit >= 2
    _, properties = aq.vhost.get(aquilon.QUEUE + ".failed")
    assert "503" in properties.headers["x-packuilon-reason"]
    assert aq.cloud.status_of(server) == "FAILED"


def test_nova_is_told_again_of_what_was_given_up(aq):
    aq.set(RETRY_FOR=f"{int(4 * SLOWNESS)}s")
    aq.broker.fail("PUT /host/", 503, times=1000)
    aq.cloud.broken = 503
    server = aq.create()
    daemon = aq.start()
    wait_for(lambda: aq.cloud.calls, "Nova is told in vain", 30)
    aq.cloud.broken = None
    aq.wait(server, "failed")
    assert aq.cloud.status_of(server) == "FAILED"
    assert daemon.stop() == 0


def test_many_at_once_without_a_way_to_the_name_server(aq):
    """Each question is answered before it is asked, as it were."""
    aq.set(HOST_NAME="dns", DNS_SERVERS="255.255.255.255", NOVA_AUTH_FILE=None)
    for number in range(2500):
        aq.create(str(uuid.UUID(int=number + 1)))
    sql = "SELECT count(*) AS n FROM registration WHERE attempt > 0 AND reason LIKE '%in the DNS%'"
    daemon = aq.start()
    wait_for(lambda: (aq.query(sql) or [None])[0] and aq.query(sql)[0].n == 2500, "all wait", 60)
    assert daemon.stop() == 0
    daemon = aq.start()
    assert daemon.stop() == 0


def test_tries_grow_rarer(aq):
    aq.set(RETRY_FOR="8s")
    aq.broker.fail("PUT /host/", 503, times=1000)
    aq.create()
    aq.run(deadline=60)
    times = [call.at for call in aq.broker.called("PUT /host/")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 0.75 and gaps[1] >= 1.5 and gaps[2] >= 3


def test_a_failed_one_can_be_sent_again(aq):
    server = aq.create(metadata={**aquilon.AQ, "AQ_PERSONALITY": "unknown-one"})
    aq.run()
    assert aq.row(server).state == "failed"
    body, _ = aq.vhost.get(aquilon.QUEUE + ".failed")
    aq.send(body.decode().replace("unknown-one", "known-one"))
    aq.run()
    assert aq.assert_registered(server)["personality"] == "known-one"
    assert aq.cloud.servers[server]["AQ_STATUS"] == "SUCCESS"
    assert aq.cloud.servers[server]["AQ_STATUS_REASON"] == ""


def test_make_may_be_allowed_to_fail(aq):
    aq.set(MAKE_MUST_SUCCEED="no")
    aq.broker.fail("/make", 400, text="does not compile")
    server = aq.create()
    aq.run()
    row = aq.row(server)
    assert row.state == "registered" and "does not compile" in row.reason


def test_a_machine_that_is_not_ours_is_left_alone(aq):
    aq.broker.put(HOST, "rack7-node3", "SN-1234", "10.77.0.5")
    server = aq.create()
    aq.run()
    assert "rack7-node3" in aq.row(server).reason
    assert HOST in aq.broker.hosts and "rack7-node3" in aq.broker.machines
    assert not aq.broker.called("DELETE|PUT|POST")


# ---- once ------------------------------------------------------------------------------------


def test_the_same_message_again_changes_nothing(aq):
    server = aq.create()
    aq.run()
    calls = len(aq.broker.calls)
    aq.create(server)
    aq.create(server)
    aq.run()
    assert len(aq.broker.calls) == calls
    aq.assert_registered(server)


def test_old_records_of_the_server_and_of_the_name_are_deleted(aq):
    server = str(uuid.uuid4())
    aq.broker.put("other-name.example.org", f"{aquilon.PREFIX}90", server, "10.77.0.99")
    aq.broker.put(HOST, f"{aquilon.PREFIX}91", "another", "10.77.0.5")
    aq.create(server)
    aq.run()
    aq.assert_registered(server)
    assert list(aq.broker.hosts) == [HOST] and len(aq.broker.machines) == 1


# ---- killed ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("call", [c for c in CALLS if not c.startswith(("delete", "show"))])
def test_killed_at_a_call(aq, call, done):
    server = str(uuid.uuid4())
    pattern = CALLS[call].format(host=re.escape(HOST))
    fault = aq.broker.fail(f"^{pattern} of", "hang", done=done)
    aq.create(server)
    daemon = aq.start()
    wait_for(lambda: fault.hit, f"the call {pattern}")
    daemon.kill()
    before = aq.broker.machine_of(server)
    aq.run()
    aq.assert_registered(server)
    if before and call in ("add interface", "set interface", "add host", "make"):
        assert aq.broker.machine_of(server) == before, "it went on where it stopped"
    assert aq.cloud.status_of(server) == "SUCCESS"
    assert_sound(aq.site.state_dir / "registrations.db")


SHARES = 2
MOST_STEPS = 400


@pytest.mark.slow
@pytest.mark.skipif(
    b"__asan_init" in (BIN_DIR / "nova2aquilon").read_bytes(),
    reason="the library that kills and the sanitizer's both want to be first; see the other builds",
)
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_each_step(aq, share):
    seen = []
    for step in range(1 + share, MOST_STEPS, SHARES):
        server, other = str(uuid.uuid4()), str(uuid.uuid4())
        address, _ = names(step)
        aq.create(server, address=address)
        aq.create(other, metadata={"AQ_OS": "only"})
        crash = run_to_crash(aq.site, "nova2aquilon", "--until-idle", at=step, torn=step % 4 > 1)
        aq.run()
        aq.assert_registered(server, address)
        assert aq.row(other).state == "failed", crash.where
        assert aq.cloud.status_of(server) == "SUCCESS", crash.where
        assert aq.cloud.status_of(other) == "FAILED", crash.where
        assert_sound(aq.site.state_dir / "registrations.db")
        if not crash.died:
            break
        seen.append(crash.where)
    print(*seen, sep="\n")
    assert len(seen) > 5, "the steps were counted"
    failed = aq.vhost.count(aquilon.QUEUE + ".failed")
    # Sent again when it was killed between the sending and the confirm's record.
    assert len(seen) < failed <= 2 * (len(seen) + 1)


def test_stopped_in_the_middle(aq):
    fault = aq.broker.fail("PUT /host/", "wait")
    server = aq.create()
    daemon = aq.start()
    wait_for(lambda: fault.hit, "the call")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("stopping")
    fault.released.set()
    assert daemon.wait() == 0
    assert aq.row(server).state == "registering"
    assert not aq.broker.called("/make")
    aq.run()
    aq.assert_registered(server)
    assert len(aq.broker.called("PUT /host/")) == 1


# ---- crossing --------------------------------------------------------------------------------


def test_deleted_before_it_was_created(aq):
    server = str(uuid.uuid4())
    aq.delete(server)
    aq.create(server)
    aq.run()
    assert aq.row(server).state == "removed"
    aq.create(server)
    aq.run()
    assert aq.row(server).state == "removed"
    assert not aq.broker.hosts and not aq.broker.called("PUT")


@pytest.mark.parametrize("call", ["find machine", "add machine", "add host", "make"])
def test_deleted_while_it_is_registered(aq, call):
    fault = aq.broker.fail(CALLS[call].format(host=re.escape(HOST)), "wait")
    server = aq.create()
    daemon = aq.start()
    wait_for(lambda: fault.hit, "the call")
    aq.delete(server)
    wait_for(lambda: aq.row(server).state == "removing", "the deletion was read")
    fault.released.set()
    aq.wait(server, "removed")
    assert not aq.broker.machines and not aq.broker.hosts
    assert daemon.stop() == 0
    assert server not in aq.cloud.servers


def test_an_address_that_goes_to_another_server(aq):
    """Its first server's deletion comes late, and is slow: it must not take the new record."""
    first = aq.create()
    aq.run()
    aq.set(PARALLEL=4)
    second = str(uuid.uuid4())
    fault = aq.broker.fail(f"DELETE /host/{HOST}", "wait")
    aq.delete(first)
    daemon = aq.start()
    wait_for(lambda: fault.hit, "the deletion")
    aq.create(second)
    other = aq.create(address="10.77.0.6")
    aq.wait(other, "registered")
    assert aq.row(second).state == "registering"
    assert not [call for call in aq.broker.calls if call.query.get("serial") == second]
    fault.released.set()
    aq.wait(second, "registered")
    aq.wait(first, "removed")
    aq.assert_registered(second)
    assert len(aq.broker.machines) == 2
    assert daemon.stop() == 0


def test_a_late_deletion_leaves_the_new_server_of_the_address(aq):
    first = aq.create()
    aq.run()
    second = aq.create()
    aq.run()
    aq.delete(first)
    aq.run()
    aq.assert_registered(second)
    assert aq.row(first).state == "removed"


# ---- Nova ------------------------------------------------------------------------------------


def test_nova_is_told_when_it_is_back(aq):
    aq.cloud.broken = 503
    server = aq.create()
    daemon = aq.start()
    wait_for(lambda: (aq.row(server) or {}).get("state") == "registered", "registered")
    wait_for(lambda: aq.row(server).attempt, "a try")
    aq.cloud.broken = None
    aq.wait(server, "registered")
    assert aq.cloud.status_of(server) == "SUCCESS"
    assert daemon.stop() == 0


def test_a_token_that_is_refused_is_renewed(aq):
    daemon = aq.start()
    aq.wait(aq.create(), "registered")
    aq.cloud.tokens.clear()
    second = aq.create(address="10.77.0.6")
    aq.wait(second, "registered")
    assert aq.cloud.status_of(second) == "SUCCESS"
    assert len(aq.cloud.logins) == 2
    assert daemon.stop() == 0


def test_a_server_that_is_gone_is_not_told(aq):
    server = str(uuid.uuid4())
    aq.cloud.gone.add(server)
    aq.create(server)
    aq.run()
    assert aq.row(server).state == "registered"
    assert "not told Nova" in aq.steps(server)


def test_without_an_auth_file_nova_is_not_told(aq):
    aq.set(NOVA_AUTH_FILE=None)
    server = aq.create()
    aq.run()
    aq.assert_registered(server)
    assert not aq.cloud.calls


def test_by_application_credential(aq):
    aq.write_openrc(
        OS_USERNAME=None, OS_PASSWORD=None, OS_PROJECT_NAME=None,
        OS_AUTH_TYPE="v3applicationcredential",
        OS_APPLICATION_CREDENTIAL_ID="cred", OS_APPLICATION_CREDENTIAL_SECRET="s3cret",
    )  # fmt: skip
    server = aq.create()
    aq.run()
    assert aq.cloud.status_of(server) == "SUCCESS"
    assert aq.cloud.logins == [
        {"identity": {"methods": ["application_credential"],
                      "application_credential": {"id": "cred", "secret": "s3cret"}}}
    ]  # fmt: skip


def test_by_clouds_yaml(aq):
    clouds = aq.site.root / "clouds.yaml"
    clouds.write_text(
        f"clouds: {{site: {{region_name: RegionOne, auth: {{auth_url: '{aq.cloud.url}',"
        " username: image, password: yaml-password, project_name: images}}}"
    )
    clouds.chmod(0o600)
    aq.openrc.write_text(f"export OS_CLOUD=site OS_CLIENT_CONFIG_FILE={clouds}\n")
    server = aq.create()
    aq.run()
    assert aq.cloud.status_of(server) == "SUCCESS"
    assert aq.cloud.logins[0]["identity"]["password"]["user"]["password"] == "yaml-password"


def test_a_refused_login_is_said(aq):
    aq.set(RETRY_FOR="2s")
    aq.cloud.refuse_login = True
    server = aq.create()
    result = aq.run()
    assert aq.row(server).state == "registered"
    assert "Keystone refuses the login" in result.err
    assert str(aq.openrc) in result.err


# ---- many ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_servers_at_once(aq):
    number = 1000
    servers = {str(uuid.uuid4()): names(n)[0] for n in range(number)}
    for at, (server, address) in enumerate(servers.items()):
        aq.create(server, address=address)
        if at % 10 == 0:
            aq.send(b"{ this is no notification")
            aq.create(metadata={"AQ_OS": "alone"})
            aq.send(aquilon.envelope(aquilon.inner("compute.instance.update", server)))
    daemon = aq.start()
    wait_for(lambda: len(aq.rows("registered")) == number, "all are registered", 120)
    aq.wait_quiet()
    peak = re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{daemon.pid}/status").read())[1]
    clock = os.sysconf("SC_CLK_TCK")
    times = open(f"/proc/{daemon.pid}/stat").read().rsplit(")", 1)[1].split()
    cpu = (int(times[11]) + int(times[12])) / clock
    first, last = aq.broker.calls[0].at, aq.broker.calls[-1].at
    print(
        f"\n{number} servers in {last - first:.1f} s ({number / (last - first):.0f} a second), "
        f"{len(aq.broker.calls)} calls, at most {aq.broker.most_running} at once; nova2aquilon used "
        f"{cpu:.2f} s of CPU and {int(peak) / 1024:.1f} MiB of memory"
    )
    assert aq.broker.most_running <= 8
    for server, address in servers.items():
        aq.assert_registered(server, address)
    assert len(aq.broker.machines) == number
    assert len(aq.rows("failed")) == number // 10
    assert aq.vhost.count(aquilon.QUEUE + ".failed") == number // 10
    assert aq.vhost.count(aquilon.QUEUE + ".rejected") == number // 10
    assert sum(aq.cloud.status_of(s) == "SUCCESS" for s in servers) == number
    assert daemon.stop() == 0
