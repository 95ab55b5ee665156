"""rabbit2packer: orders that meet other orders: cancel, stop, reload, --until-idle."""

import signal
from pathlib import Path

import pytest

from rig.profiles import OS_KEY, profile
from rig.waiting import wait_for


def gate(site, *before):
    path = site.root / "go"
    site.template("managed", *before, "launch", f"wait {path}", "succeed")
    return path


def write_calls(pid):
    """How often a process has called write(2) and its like."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["syscw"])


def test_cancelled_build_is_not_built_again_after_a_stop(local_site):
    """Packer takes its time; meanwhile the worker is stopped too."""
    site = local_site
    go = site.root / "go"
    site.template("managed", "ignore-term", "launch", f"wait {go}", "fail at once")
    worker = site.worker()
    site.publish_profile()
    (build,) = site.wait_state("building")
    site.packuilon("cancel", str(build.id))
    wait_for(lambda: "cancelled by" in site.log_text(build), "Packer is told")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    worker.wait_log("stopping 1 builds")
    go.touch()
    assert worker.wait() == 0
    assert [build.state for build in site.builds()] == ["cancelled"]


def test_cancelled_build_is_not_built_again_after_a_crash(local_site):
    site = local_site
    go = gate(site, "ignore-term")
    worker = site.worker()
    site.publish_profile()
    (build,) = site.wait_state("building")
    site.packuilon("cancel", str(build.id))
    wait_for(lambda: "cancelled by" in site.log_text(build), "Packer is told")
    worker.kill()
    go.touch()
    site.worker()
    (cancelled,) = site.wait_state("cancelled")
    assert "cancelled by" in cancelled.reason
    assert len(site.builds()) == 1


def test_image_that_was_made_in_spite_of_a_stop_counts(local_site):
    site = local_site
    go = gate(site, "ignore-term")
    worker = site.worker()
    site.publish_profile()
    (build,) = site.wait_state("building")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    worker.wait_log("stopping 1 builds")
    go.touch()
    assert worker.wait() == 0
    (build,) = site.builds()
    assert build.state == "succeeded"
    assert build.artifact


def test_reload_while_blocked_leaves_the_queue_alone(site):
    """A message that cannot be built goes back once, not round and round."""
    site.source_images("{")
    site.set("rabbit2packer", RETRY_SECONDS=3)
    worker = site.worker()
    site.publish_profile()
    worker.wait_log("taking no builds")
    before = write_calls(worker.pid)
    worker.signal(signal.SIGHUP)
    worker.wait_log("the configuration was read again")
    site.source_images({OS_KEY: "11111111-2222-3333-4444-555555555555"})
    site.wait_state("succeeded")
    assert write_calls(worker.pid) - before < 1000


def test_reload_while_draining_takes_nothing(site):
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    site.publish_profile("two")
    before = write_calls(worker.pid)
    worker.signal(signal.SIGHUP)
    worker.wait_log("the configuration was read again")
    wait_for(lambda: worker.log().count("connected to the queue") == 2, "it is connected again")
    assert write_calls(worker.pid) - before < 1000
    go.touch()
    assert worker.wait() == 0
    assert [build.personality for build in site.builds()] == ["one"]
    # That of "one", too, if the connection was made anew before it was acked; it is known by its id.
    assert site.queue_count() in (1, 2)
    site.program("rabbit2packer", "-c", site.config_path, "--until-idle")
    assert [build.personality for build in site.builds()] == ["one", "two"]


def test_until_idle_lets_builds_end_when_something_breaks(local_site):
    site = local_site
    go = gate(site)
    worker = site.worker("--until-idle", ready=False)
    site.publish_profile("one")
    site.wait_state("building")
    site.source_images("{")
    site.publish_profile("two")
    worker.wait_log("taking no builds")
    go.touch()
    assert worker.wait() == 1
    (build,) = site.builds()
    assert build.state == "succeeded"
    assert site.queue_count() == 1


@pytest.mark.parametrize("slots", [1, 2])
def test_build_covers_the_retry_that_waits(local_site, slots, packer_logs):
    """The next attempt of a failed build is not made when a newer message is built anyway."""
    site = local_site
    site.set("rabbit2packer", RETRY_SECONDS=1, THREAD_COUNT=slots)
    go = site.root / "go"
    site.template("managed", f"wait {go}", f"cat {packer_logs}/no-valid-host.log", "exit 1")
    site.worker()
    site.publish(profile("same"), message_id="m0")
    site.wait_state("building")
    site.publish(profile("same"), message_id="m1")
    site.wait_state("queued")
    site.template("managed", "succeed")
    go.touch()
    wait_for(
        lambda: len(site.builds()) == 3 and all(build.ended_ms for build in site.builds()),
        "all are over",
    )
    assert [build.state for build in site.builds()] == ["failed", "succeeded", "superseded"]
    assert len(site.packer_runs()) == 2


def test_waiting_build_that_is_refused_now_is_kept_for_a_retry(local_site):
    site = local_site
    go = gate(site)
    worker = site.worker()
    site.publish(profile("same"), message_id="m0")
    site.wait_state("building")
    site.publish(profile("same"), message_id="m1")
    site.wait_state("queued")
    # The profile names none.
    site.set("rabbit2packer", IMAGE_NAME="${personality}-${sandbox}")
    worker.signal(signal.SIGHUP)
    worker.wait_log("the configuration was read again")
    go.touch()
    (failed,) = site.wait_state("failed")
    assert failed.message_id == "m1"
    assert site.queue_count(".failed") == 1
