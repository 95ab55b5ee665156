"""rabbit2packer: stopping, dying and starting again; time limits; a queue that goes away."""

import os
import signal

import pytest

from rig.profiles import profile
from rig.site import QUEUE, is_alive
from rig.waiting import wait_for


def gate(site, *before):
    path = site.root / "go"
    site.template("managed", *before, "launch", f"wait {path}", "succeed")
    return path


# ---- time limits -----------------------------------------------------------------------------


def test_build_timeout_cancels(site):
    site.set("rabbit2packer", BUILD_TIMEOUT=1)
    site.template("managed", "launch", "hang")
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("failed")
    assert "BUILD_TIMEOUT" in build.reason
    assert "provision" in build.reason
    assert "Cleanly cancelled builds" in site.log_text(build)
    assert site.exit_line(build)[1] == 1
    assert build.ended_ms - build.started_ms >= 900


def test_packer_that_ignores_term_is_killed(local_site):
    local_site.set("rabbit2packer", BUILD_TIMEOUT=1, STOP_GRACE=1)
    local_site.template("managed", "ignore-term", "launch", "hang")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert "STOP_GRACE" in local_site.log_text(build)
    assert local_site.exit_line(build)[1] == 128 + signal.SIGKILL
    (packer,) = local_site.packer_runs()
    assert not is_alive(packer.pid)


def test_orphan_does_not_hold_the_build(local_site):
    """A script that outlives Packer keeps its output open."""
    local_site.template("managed", f"orphan {local_site.root}/never", "launch", "succeed")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")


# ---- orderly stops ---------------------------------------------------------------------------


def test_idle_worker_stops(site):
    worker = site.worker()
    assert worker.stop(deadline=5) == 0


def test_term_drains(site):
    go = gate(site)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_packer(1)
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    site.publish_profile("two")
    go.touch()
    assert worker.wait() == 0
    assert [build.personality for build in site.builds("succeeded")] == ["one"]
    site.worker()
    assert len(site.wait_state("succeeded", 2)) == 2
    assert len(site.packer_runs()) == 2


def test_second_term_cancels_and_the_next_start_builds_again(site):
    go = gate(site)
    worker = site.worker()
    site.publish_profile()
    site.wait_packer(1)
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    (first,) = site.builds("interrupted")
    assert "Cleanly cancelled builds" in site.log_text(first)
    go.touch()
    site.worker()
    (again,) = site.wait_state("succeeded")
    assert again.attempt == 1, "the build was not to blame"
    assert len(site.packer_runs()) == 2


def test_packer_cancelled_from_outside(local_site):
    local_site.template("managed", "launch", "hang")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_packer()
    (build,) = local_site.wait_state("building")
    os.kill(build.pid, signal.SIGTERM)
    (build,) = local_site.wait_state("cancelled")
    assert "outside" in build.reason
    assert local_site.exit_line(build)[1] == 1


# ---- sudden ends -----------------------------------------------------------------------------


def test_killed_worker_builds_again_after_packer_has_cleaned_up(site):
    go = gate(site)
    worker = site.worker()
    site.publish(profile(), message_id="the-message")
    site.wait_packer(1)
    (build,) = site.wait_state("building")
    worker.kill()
    wait_for(lambda: not is_alive(build.pid), "Packer cancels itself when the worker dies")
    go.touch()
    site.worker()
    (again,) = site.wait_state("succeeded")
    (interrupted,) = site.builds("interrupted")
    assert again.attempt == 1, "the build was not to blame"
    assert again.message_id == interrupted.message_id == "the-message"
    assert "rabbit2packer ended" in interrupted.reason
    site.wait_queue_empty()
    assert len(site.packer_runs()) == 2


def test_restart_waits_for_the_old_packer(local_site):
    """Two builds of one image never run at once, not even over a crash."""
    slow = local_site.root / "cleaned-up"
    local_site.template("managed", "ignore-term", "launch", f"wait {slow}", "succeed")
    worker = local_site.worker()
    local_site.publish_profile()
    local_site.wait_packer(1)
    local_site.wait_state("building")
    worker.kill()
    second = local_site.worker()
    second.wait_log("left processes behind")
    assert len(local_site.packer_runs()) == 1
    slow.touch()
    local_site.wait_state("succeeded")
    first, again = local_site.packer_runs()
    assert first.ended <= again.started


@pytest.mark.parametrize("number", [1, 5])
def test_kill_at_any_moment_loses_nothing(site, number):
    """Kills while messages stream in: each ends in a build or is still there."""
    site.set("rabbit2packer", THREAD_COUNT=4)
    for at in range(number * 4):
        site.publish(profile(f"p{at}"), message_id=f"m{at}")
    for round_ in range(number):
        worker = site.worker()
        wait_for(
            lambda: len(site.packer_runs()) > round_ * 2 or site.queue_count() == 0, "some builds"
        )
        worker.kill()
    worker = site.worker("--until-idle", ready=False)
    assert worker.wait() == 0
    built = {build.personality for build in site.builds("succeeded")}
    assert built == {f"p{at}" for at in range(number * 4)}
    site.wait_queue_empty()


def test_one_worker_a_state_dir(site):
    site.worker()
    second = site.worker(ready=False)
    assert second.wait() == 1
    assert "another rabbit2packer" in second.log()
    assert str(site.state_dir) in second.log()


def test_queued_builds_survive_a_restart(site):
    """Both of one image: the second waits in the journal."""
    go = gate(site)
    worker = site.worker()
    site.publish(profile("same", **{"/software/number": 1}))
    site.wait_packer(1)
    site.publish(profile("same", **{"/software/number": 2}))
    wait_for(lambda: len(site.builds()) == 2, "the second is in the journal")
    worker.kill()
    go.touch()
    site.worker()
    wait_for(
        lambda: all(build.ended_ms for build in site.builds()) and site.builds("succeeded"),
        "both messages are dealt with",
    )


# ---- the queue goes away ---------------------------------------------------------------------


def test_thrown_out_by_the_broker(rabbit_site):
    worker = rabbit_site.worker()
    wait_for(rabbit_site.vhost.connections, "the worker's connection is listed")
    rabbit_site.vhost.close_connections()
    worker.wait_log("queue: ")
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")


def test_connection_lost_during_a_build(rabbit_site):
    go = gate(rabbit_site)
    rabbit_site.worker()
    rabbit_site.publish_profile("one")
    rabbit_site.wait_packer(1)
    wait_for(rabbit_site.vhost.connections, "the worker's connection is listed")
    rabbit_site.vhost.close_connections()
    go.touch()
    rabbit_site.wait_state("succeeded")
    rabbit_site.publish_profile("two")
    rabbit_site.wait_state("succeeded", 2)
    assert len(rabbit_site.packer_runs()) == 2, "what was acknowledged did not come again"


@pytest.mark.slow
def test_broker_restarts(make_site, own_rabbit):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("succeeded")
    own_rabbit.kill()
    worker.wait_log("queue: ")
    own_rabbit.spawn(os.getpid())
    vhost.publish(QUEUE, b"poison")
    site.publish_profile("two")
    site.wait_state("succeeded", 2, deadline=90)
    wait_for(lambda: vhost.count(f"{QUEUE}.rejected") == 1, "the poison is put aside")


@pytest.mark.slow
def test_worker_waits_for_a_broker_that_is_not_up_yet(make_site, own_rabbit):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost)
    own_rabbit.stop()
    worker = site.worker(ready=False)
    worker.wait_log("queue: ")
    assert f"{own_rabbit.port}" in worker.log()
    own_rabbit.spawn(os.getpid())
    site.publish_profile()
    site.wait_state("succeeded", deadline=90)


def test_wrong_password(rabbit_site):
    rabbit_site.set("global", RABBIT_PW="wrong")
    worker = rabbit_site.worker(ready=False)
    worker.wait_log("queue: ")
    assert "RABBIT_PW" in worker.log() or "password" in worker.log().lower()
    assert worker.stop(deadline=5) == 0


def test_missing_vhost(rabbit_site):
    rabbit_site.set("global", RABBIT_VHOST="no-such-vhost")
    worker = rabbit_site.worker(ready=False)
    worker.wait_log("no-such-vhost")
    assert worker.stop(deadline=5) == 0


def test_queue_declared_otherwise_is_used_as_it_is(rabbit_site):
    rabbit_site.vhost.declare(QUEUE, arguments={"x-max-length": 1000})
    rabbit_site.worker()
    with rabbit_site.vhost.channel as channel:
        channel.basic_publish("", QUEUE, b"not a profile")
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")


def test_tls(rabbit_site):
    node = rabbit_site.vhost.node
    rabbit_site.set(
        "global", RABBIT_PORT=node.tls_port, RABBIT_TLS="yes", RABBIT_TLS_CA=node.ca
    )
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")


def test_tls_of_an_unknown_authority_is_refused(rabbit_site, tmp_path):
    node = rabbit_site.vhost.node
    rabbit_site.set("global", RABBIT_PORT=node.tls_port, RABBIT_TLS="yes")
    worker = rabbit_site.worker(ready=False)
    worker.wait_log("queue: ")
    assert "certificate" in worker.log().lower() or "TLS" in worker.log()
    assert worker.stop(deadline=5) == 0
