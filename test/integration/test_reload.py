"""rabbit2packer: SIGHUP reads the configuration again; SIGTERM with an end that is not on disk yet."""

import os
import signal
import sqlite3

import pytest
from rig.profiles import OS_KEY
from rig.site import QUEUE
from rig.waiting import SLOWNESS, wait_for

READ = "the configuration was read again"
KEPT = "the configuration stays as it was"
STAYS_SECONDS = 10  # twice as long as a locked journal holds up one write


def gate(site, name="go"):
    path = site.root / name
    site.template("managed", "launch", f"wait {path}", "succeed")
    return path


def reload(worker, text=READ):
    before = worker.log().count(text)
    worker.signal(signal.SIGHUP)
    wait_for(lambda: worker.log().count(text) > before, f"{text}\n{worker.log()}")


# ---- what a reload changes ------------------------------------------------------------------


def test_more_slots(site):
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=1)
    worker = site.worker()
    for name in ("one", "two", "three"):
        site.publish_profile(name)
    site.wait_packer(1)
    site.set("rabbit2packer", THREAD_COUNT=2)
    reload(worker)
    site.wait_packer(2)  # beside the first
    wait_for(lambda: "2 of 2 slots" in worker.status(), "two slots are busy")
    go.touch()
    site.wait_state("succeeded", 3)
    site.wait_queue_empty()
    assert len(site.packer_runs()) == 3, "nothing was built twice"


def test_fewer_slots(site):
    """Builds that run go on; the next begins when they are few enough."""
    gates = [gate(site, "go-one")]
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building", 1)
    gates.append(gate(site, "go-two"))
    site.publish_profile("two")
    site.wait_packer(2)
    site.set("rabbit2packer", THREAD_COUNT=1)
    reload(worker)
    site.publish_profile("three")
    gates[0].touch()
    site.wait_state("succeeded")
    assert len(site.packer_runs()) == 2, "the second still has the only slot"
    gates[1].touch()
    site.wait_state("succeeded", 3)


def test_next_build_uses_the_new_keys(site):
    """Those of a build that runs stay as they were."""
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building")
    site.openrc(OS_PASSWORD="new-password")
    site.set(
        "rabbit2packer",
        IMAGE_NAME="new-${personality}",
        LOG_DIR=site.root / "new-logs",
        BUILD_FILE_DIR=site.root / "new-build-files",
        MAX_LOG_BYTES=100_000,
    )
    reload(worker)
    site.publish_profile("two")
    site.wait_packer(2)
    go.touch()
    one, two = site.wait_state("succeeded", 2)
    assert one.image == f"one-{OS_KEY}" and two.image == "new-two"
    assert one.log_path.startswith(f"{site.log_dir}/")
    assert two.log_path.startswith(f"{site.root}/new-logs/")
    assert site.exit_line(one)[1] == site.exit_line(two)[1] == 0
    first, second = site.packer_runs()
    assert "OS_PASSWORD" not in first.env and second.env["OS_PASSWORD"] == "new-password"
    assert second.argv[-1].startswith(f"{site.root}/new-build-files/")


def test_new_time_limit_is_for_new_builds(local_site):
    gate(local_site)
    worker = local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_state("building")
    local_site.set("rabbit2packer", BUILD_TIMEOUT=1)
    reload(worker)
    local_site.publish_profile("two")
    (failed,) = local_site.wait_state("failed")
    assert failed.personality == "two" and "BUILD_TIMEOUT (1 s)" in failed.reason
    (running,) = local_site.builds("building")
    assert running.personality == "one"
    (local_site.root / "go").touch()
    local_site.wait_state("succeeded")


def test_other_queue(site):
    """Builds that run go on; messages come from the other queue, and the old one keeps its own."""
    go = gate(site)
    worker = site.worker()
    site.publish_profile("old")
    site.wait_state("building")
    site.set("global", QUEUE="other-queue")
    site.publish_profile("new")  # is there before the worker is
    reload(worker)
    worker.wait_log("connected to the queue other-queue")
    site.wait_packer(2)
    site.set("global", QUEUE=QUEUE)
    site.publish_profile("left-alone")
    go.touch()
    done = site.wait_state("succeeded", 2)
    assert {build.personality for build in done} == {"old", "new"}
    # Beside the message of a build that was taken but not yet acknowledged when the queue changed.
    assert site.queue_count() >= 1, "the message in the old queue stays there"
    reload(worker)
    site.wait_state("succeeded", 3)
    site.wait_queue_empty()
    assert len(site.packer_runs()) == 3, "and what was known is not built again"


def test_service_manager_is_told(local_site):
    worker = local_site.worker()
    before = len(worker.notified)
    reload(worker)
    wait_for(lambda: "READY=1" in worker.notified[before:], "it is ready again")
    said = worker.notified[before:]
    assert said.index("RELOADING=1") < said.index("READY=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in said)


def test_reload_again_and_again(site):
    """While messages come and builds run: each is built once."""
    worker = site.worker()
    names = [f"p{number}" for number in range(12)]
    for number, name in enumerate(names):
        site.publish_profile(name)
        if number % 3 == 0:
            reload(worker)
    site.wait_state("succeeded", len(names))
    assert sorted(build.personality for build in site.builds()) == sorted(names)
    site.wait_queue_empty()
    assert len(site.packer_runs()) == len(names)


# ---- what it refuses ------------------------------------------------------------------------


def broken_line(site):
    site.write_config("[global]\nTRANSPORT = pigeon\n")
    return "config.ini:2: [global] TRANSPORT"


def missing_key(site):
    site.set("rabbit2packer", IMAGES_CONFIG=None)
    return "IMAGES_CONFIG"


def missing_file(site):
    site.config_path.unlink()
    return "config.ini"


def other_state_dir(site):
    site.set("global", STATE_DIR=site.root / "elsewhere")
    return "another STATE_DIR needs a restart"


def impossible_folder(site):
    (site.root / "file").touch()
    site.set("rabbit2packer", LOG_DIR=site.root / "file" / "logs")
    return "file"


@pytest.mark.parametrize(
    "damage", [broken_line, missing_key, missing_file, other_state_dir, impossible_folder]
)
def test_refused_configuration_changes_nothing(local_site, damage):
    go = gate(local_site)
    worker = local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_state("building")
    good = local_site.config_path.read_text()
    text = damage(local_site)
    reload(worker, KEPT)
    (line,) = [line for line in worker.log().splitlines() if KEPT in line]
    assert text in line
    assert not (local_site.root / "elsewhere").exists()
    local_site.config_path.write_text(good)
    local_site.publish_profile("two")
    local_site.wait_packer(2)
    go.touch()
    local_site.wait_state("succeeded", 2)
    assert {build.log_path.rsplit("/", 1)[0] for build in local_site.builds()} == {
        str(local_site.log_dir)
    }
    reload(worker)


def test_broker_that_cannot_be_reached_after_a_reload(rabbit_site):
    """What runs goes on, and the next reload puts it right."""
    site = rabbit_site
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building")
    site.set("global", RABBIT_PORT=1, RABBIT_TLS="yes", RABBIT_TLS_CA=site.root / "no-such-ca.pem")
    reload(worker)
    worker.wait_log("queue: ")
    go.touch()
    site.wait_state("succeeded")
    site.set("global", RABBIT_PORT=site.vhost.node.port, RABBIT_TLS=None, RABBIT_TLS_CA=None)
    reload(worker)
    site.publish_profile("two")
    site.wait_state("succeeded", 2)
    site.wait_queue_empty()
    assert len(site.packer_runs()) == 2


# ---- the end --------------------------------------------------------------------------------


@pytest.mark.slow
def test_drain_waits_for_the_journal(local_site):
    """A build's end that is not on disk would be built once more: the worker stays until it is."""
    site = local_site
    site.set("rabbit2packer", RETRY_SECONDS=1)
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    wait_for(
        lambda: [build.phase for build in site.builds("building")] == ["provision"], "it builds"
    )
    connection = sqlite3.connect(site.state_dir / "builds.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    go.touch()
    worker.wait_log("taking no builds until this is mended")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    with pytest.raises(AssertionError):
        wait_for(lambda: not worker.is_running(), "its end", STAYS_SECONDS / SLOWNESS)
    connection.execute("ROLLBACK")
    connection.close()
    assert worker.wait() == 0
    (build,) = site.builds()
    assert build.state == "succeeded"
    site.worker()
    site.publish_profile("two")
    site.wait_state("succeeded", 2)
    assert len(site.packer_runs()) == 2


@pytest.mark.slow
def test_second_term_does_not_wait_for_the_journal(local_site):
    site = local_site
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    wait_for(
        lambda: [build.phase for build in site.builds("building")] == ["provision"], "it builds"
    )
    connection = sqlite3.connect(site.state_dir / "builds.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    go.touch()
    worker.wait_log("taking no builds until this is mended")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    connection.execute("ROLLBACK")
    connection.close()
    site.worker()
    site.wait_state("succeeded")  # once more, and not lost


def test_second_term_and_a_packer_that_does_not_end(site):
    """STOP_GRACE holds here, too; the build is done again, and nothing is left."""
    site.set("rabbit2packer", STOP_GRACE=1)
    site.template("managed", "ignore-term", "launch", "hang")
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building")
    (packer,) = site.wait_packer()
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    worker.wait_log("stopping 1 builds")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not os.path.exists(f"/proc/{packer.pid}/exe")
    (interrupted,) = site.builds("interrupted")
    assert "STOP_GRACE" in site.log_text(interrupted)
    site.template("managed", "succeed")
    site.worker()
    site.wait_state("succeeded")
    site.wait_queue_empty()


def test_drain_leaves_waiting_builds_to_the_next_start(site, packer_logs):
    """One waits for its next attempt, one for its image; neither holds up the end."""
    site.set("rabbit2packer", RETRY_SECONDS="1h")
    site.template("fails", f"cat {packer_logs}/no-valid-host.log", "exit 1")
    site.template_map({"DEFAULT": ["managed.json"], f"bad-{OS_KEY}": ["fails.json"]})
    go = gate(site)
    worker = site.worker()
    site.publish_profile("bad")
    site.wait_build(lambda build: build.attempt == 2, "the second attempt waits")
    site.publish_profile("same")
    site.wait_packer(2)
    site.publish_profile("same")
    wait_for(lambda: len(site.builds("queued")) == 2, "both wait")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    go.touch()
    assert worker.wait() == 0
    assert len(site.builds("queued")) == 2
    site.template("fails", "succeed")
    site.worker()
    site.wait_state("succeeded", 2)
    (waiting,) = site.builds("queued")
    assert waiting.attempt == 2 and waiting.image == f"bad-{OS_KEY}"
