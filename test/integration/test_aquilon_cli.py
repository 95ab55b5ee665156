"""What an operator sees of nova2aquilon: status, registrations, check."""

import json
import sqlite3
import uuid

import pytest
from rig import aquilon
from rig.checks import fake_packer
from rig.registrations import DOMAIN, AquilonSite
from rig.site import SOURCE_IMAGE
from rig.waiting import wait_for
from test_cli import ISO_TIME

HOST = f"host-10-77-0-5.{DOMAIN}"
KEYS = {
    "server", "state", "name", "build_id", "personality", "address", "host", "machine", "reason",
    "step", "begun_at", "changed_at", "not_before",
}  # fmt: skip


@pytest.fixture
def aq(rabbit_site):
    site = AquilonSite(rabbit_site)
    yield site
    site.close()


@pytest.fixture
def done(aq):
    """One that is registered, one that failed."""
    aq.good = aq.create(metadata={**aquilon.AQ, "PACKUILON_BUILD_ID": "b-1"})
    aq.bad = aq.create(metadata={"AQ_OS": "x"}, display_name="evil\x1b[31m name")
    aq.run()
    return aq


# ---- status ----------------------------------------------------------------------------------


def test_status_before_the_first_run(aq):
    assert "Registrations" not in aq.site.packuilon("status").out
    assert json.loads(aq.site.packuilon("status", "--json").out)["registrations"] is None


def test_status(done):
    out = done.site.packuilon("status").out
    assert "Registrations: 1 registered, 0 at work, 1 failed:" in out
    assert done.bad in out and "AQ_PERSONALITY" in out
    document = json.loads(done.site.packuilon("status", "--json").out)["registrations"]
    assert document["registered"] == 1 and document["failed"] == 1 and document["removed"] == 0
    assert [row["server"] for row in document["failing"]] == [done.bad]


# ---- registrations ---------------------------------------------------------------------------


def test_list(done):
    out = done.site.packuilon("registrations").out
    assert "Notifications read: 2" in out and "2  compute.instance.create.end" in out
    title = next(line for line in out.splitlines() if line.startswith("STATE"))
    assert title.split() == "STATE SERVER NAME HOST PERSONALITY CHANGED DETAIL".split()
    assert done.good in out and HOST in out and "nubesvms" in out
    assert "\x1b" not in out
    only = done.site.packuilon("registrations", "--state", "failed").out
    assert done.bad in only and done.good not in only
    assert "No registrations of that kind." in done.site.packuilon("registrations", "-s", "stuck").out
    newest = done.site.packuilon("registrations", "--limit=1").out
    assert done.bad in newest and done.good not in newest


def test_list_as_json(done):
    document = json.loads(done.site.packuilon("registrations", "--json").out)
    assert document["notifications"] == {"compute.instance.create.end": 2}
    bad, good = document["registrations"]
    assert set(good) == set(bad) == KEYS
    assert good["state"] == "registered" and good["host"] == HOST and good["build_id"] == "b-1"
    assert good["step"] is None and good["reason"] is None and good["not_before"] is None
    assert ISO_TIME.match(good["begun_at"]) and ISO_TIME.match(good["changed_at"])
    assert bad["state"] == "failed" and bad["host"] is None


@pytest.mark.parametrize("by", ["server", "name", "host"])
def test_one_server(done, by):
    wanted = {"server": done.good, "name": f"name of {done.good[:8]}", "host": HOST}[by]
    out = done.site.packuilon("registrations", wanted).out
    for words in (done.good, "registered", HOST, "vm-openstack-", "b-1", "History", "add machine: vm",
                  f"name host: {HOST}", "make", "told Nova"):  # fmt: skip
        assert words in out
    document = json.loads(done.site.packuilon("registrations", wanted, "--json").out)
    assert set(document) == KEYS | {"history"}
    steps = [event["what"] for event in document["history"]]
    assert steps[:2] == ["registering", "name host"] and steps[-1] == "told Nova"


def test_while_it_is_tried_again(aq):
    aq.broker.fail("PUT /host/", 503, times=1000)
    server = aq.create()
    aq.start()
    wait_for(lambda: (aq.row(server) or {}).get("attempt"), "a try")
    row = json.loads(aq.site.packuilon("registrations", "--json").out)["registrations"][0]
    assert row["state"] == "registering" and row["step"] in ("add host", "look for host")
    assert "503" in row["reason"] and ISO_TIME.match(row["not_before"])
    assert ", try " in aq.site.packuilon("registrations").out
    assert "1 at work" in aq.site.packuilon("status").out


def test_what_is_not_there(aq, done):
    result = done.site.packuilon("registrations", "nobody", expect=1)
    assert "there is no server nobody" in result.err
    assert "no state flying" in done.site.packuilon("registrations", "-s", "flying", expect=2).err


def test_where_it_never_ran(local_site):
    result = local_site.packuilon("registrations", expect=1)
    assert "nova2aquilon never ran" in result.err and str(local_site.state_dir) in result.err


# ---- retry -----------------------------------------------------------------------------------


def test_retry_brings_registrations_back(aq):
    fault = aq.broker.fail("PUT /host/", 400, times=1000, text="Personality nubesvms not found.")
    server, gone = aq.create(), aq.create(address="10.77.0.6")
    aq.run()
    assert {row.state for row in aq.rows()} == {"failed"}
    fault.times = 0
    aq.delete(gone)
    aq.run()
    out = aq.site.packuilon("retry", "--all", "--registrations").out
    assert out == "2 messages are back in the queue ral.info\n"
    assert aq.vhost.count(aquilon.QUEUE + ".failed") == 0
    aq.run()
    aq.assert_registered(server)
    assert aq.row(gone).state == "removed", "what was deleted since stays so"


def test_retry_brings_removals_back(aq):
    aq.set(RETRY_FOR="1s")
    server = aq.create()
    aq.run()
    fault = aq.broker.fail("DELETE /machine/", 400, times=1000, text="It is still in use.")
    aq.delete(server)
    aq.run()
    assert aq.row(server).state == "stuck" and aq.row(server).address == "10.77.0.5"
    fault.times = 0
    out = aq.site.packuilon("retry", "--all", "--registrations").out
    assert out == "1 message is back in the queue ral.info\n"
    aq.run()
    assert aq.row(server).state == "removed" and not aq.broker.machines


def test_retry_needs_all(aq):
    assert "needs --all" in aq.site.packuilon("retry", "--registrations", "1", expect=2).err
    result = aq.site.packuilon("retry", "--all", "--registrations", expect=1)
    assert "start nova2aquilon first" in result.err


# ---- check -----------------------------------------------------------------------------------


def lines(aq):
    """The lines of `packuilon check` about nova2aquilon's neighbours, and the rest of it."""
    out = aq.site.packuilon("check", expect=None).out
    found = {}
    for line in out.splitlines():
        word, what = line.split(None, 1)
        found[what.split(":")[0]] = (word, what)
    return found


def test_check_of_a_good_site(aq):
    aq.publisher  # declares the queue
    found = lines(aq)
    assert found["notifications"] == ("ok", f"notifications: queue {aquilon.QUEUE}, 0 waiting")
    assert found["Aquilon broker"][0] == "ok" and aq.broker.url in found["Aquilon broker"][1]
    assert found["Nova"][0] == "ok" and str(aq.openrc) in found["Nova"][1]
    assert "Kerberos" not in found
    assert [repr(call) for call in aq.broker.calls] == ["GET /status/server"]


def test_check_says_nothing_of_a_site_without(local_site):
    out = local_site.packuilon("check", expect=None).out
    assert "Aquilon" not in out and "Nova" not in out and "notifications" not in out


def test_check_finds_what_is_wrong(aq):
    aq.broker.authorization = "Bearer x"
    aq.cloud.refuse_login = True
    found = lines(aq)
    assert found["notifications"][0] == "warn" and "topics" in found["notifications"][1]
    assert found["Aquilon broker"][0] == "FAIL" and "set AQ_AUTH" in found["Aquilon broker"][1]
    assert found["Nova"][0] == "FAIL" and "refuses the login" in found["Nova"][1]


def test_check_of_neighbours_that_are_away(aq):
    aq.set(AQ_URL="http://127.0.0.1:1/aq", RABBIT_HOST="127.0.0.1", RABBIT_PORT=1)
    aq.write_openrc(OS_AUTH_URL="http://127.0.0.1:1/v3")
    found = lines(aq)
    assert found["Aquilon broker"][0] == found["Nova"][0] == found["notifications"][0] == "FAIL"


def test_check_of_kerberos_and_nova(aq, tmp_path):
    aq.set(AQ_AUTH="negotiate", KRB5_CCACHE=f"FILE:{tmp_path}/none", NOVA_AUTH_FILE=None)
    found = lines(aq)
    assert found["Kerberos"][0] == "FAIL" and "kinit" in found["Kerberos"][1]
    assert found["Nova"][0] == "warn"


def test_check_of_half_a_configuration(aq):
    aq.set(AQ_AUTH="basic")
    found = lines(aq)
    assert found["nova2aquilon"][0] == "FAIL" and "AQ_USER" in found["nova2aquilon"][1]
    assert not aq.broker.calls


# ---- the daemon ------------------------------------------------------------------------------


def test_one_at_a_time_for_a_state_dir(aq):
    aq.start()
    result = aq.site.program("nova2aquilon", "-c", aq.site.config_path, expect=1)
    assert "another nova2aquilon works on" in result.err


def test_it_tells_the_service_manager(aq):
    daemon = aq.start()
    aq.wait(aq.create(), "registered")
    wait_for(lambda: daemon.status() == "0 registrations at work, 0 to do", "the status")
    assert daemon.stop() == 0
    assert "STOPPING=1" in daemon.notified


def test_old_registrations_are_forgotten(aq):
    aq.set(KEEP_DAYS=1)
    server = str(uuid.uuid4())
    aq.delete(server)
    kept = aq.create()
    aq.run()
    with sqlite3.connect(aq.site.state_dir / "registrations.db") as connection:
        connection.execute("UPDATE registration SET changed_ms = 5")
    connection.close()
    aq.run()
    assert aq.row(server) is None and aq.row(kept).state == "registered"


def test_a_journal_that_cannot_be_written_ends_it_and_loses_nothing(aq):
    aq.run()
    path = aq.site.state_dir / "registrations.db"

    def execute(sql):
        with sqlite3.connect(path) as connection:
            connection.execute(sql)
        connection.close()

    execute(
        "CREATE TRIGGER full BEFORE INSERT ON registration"
        " BEGIN SELECT RAISE(ABORT, 'no room left'); END"
    )
    server = aq.create()
    result = aq.run(expect=1)
    assert "cannot go on without the journal" in result.err and "no room left" in result.err
    assert not aq.broker.calls
    execute("DROP TRIGGER full")
    aq.run()
    aq.assert_registered(server)


def test_check_logs_in_once(aq):
    """The builds' auth file and nova2aquilon's are one."""
    fake_packer(aq.site)
    aq.site.set("rabbit2packer", PACKER_AUTH_FILE=aq.openrc)
    aq.cloud.add_image(SOURCE_IMAGE)
    found = lines(aq)
    assert found["openstack login"][0] == found["Glance"][0] == found["Nova"][0] == "ok"
    assert len(aq.cloud.logins) == 1
    aq.cloud.services.discard("compute")
    assert "no compute service" in lines(aq)["Nova"][1]
    aq.set(NOVA_AUTH_FILE=aq.site.root / "gone.sh")
    assert "gone.sh" in lines(aq)["Nova"][1]
