"""rabbit2packer: which builds run when."""

import signal

from rig.profiles import OS_KEY, pan_json, profile
from rig.site import QUEUE
from rig.waiting import wait_for

SHARED = "other workers share this queue"


def gate(site, name="go"):
    """A template whose builds wait until the gate is opened (its file touched)."""
    path = site.root / name
    site.template("managed", "launch", f"wait {path}", "succeed")
    return path


def overlaps(runs):
    """The greatest number of runs at one time."""
    ends = [(run.started, 1) for run in runs] + [(run.ended, -1) for run in runs]
    at_once = greatest = 0
    for _, step in sorted(ends):
        at_once += step
        greatest = max(greatest, at_once)
    return greatest


def test_no_more_builds_than_slots(site):
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=2)
    worker = site.worker()
    for number in range(6):
        site.publish_profile(f"p{number}")
    site.wait_packer(2)
    wait_for(lambda: "2 of 2 slots" in worker.status(), "all slots are busy")
    go.touch()
    site.wait_state("succeeded", 6)
    runs = site.packer_runs()
    assert len(runs) == 6
    assert overlaps(runs) == 2


def test_slots_are_used_at_once(site):
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=4)
    site.worker()
    for number in range(4):
        site.publish_profile(f"p{number}")
    site.wait_packer(4)  # none has ended
    go.touch()
    site.wait_state("succeeded", 4)


def test_one_image_is_never_built_twice_at_once(site):
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=4)
    site.worker()
    site.publish_profile("same")
    site.wait_packer(1)
    for number in range(3):
        site.publish(profile("same", **{"/software/number": number}))
    site.publish_profile("other")
    site.wait_packer(2)  # the other image does not wait for this one
    go.touch()
    site.wait_state("succeeded", 3)
    same = [run for run in site.packer_runs() if f"same-{OS_KEY}" in run.argv[-1]]
    assert overlaps(same) == 1
    wait_for(lambda: all(build.ended_ms for build in site.builds()), "all are over")


def test_two_templates_of_one_image_run_beside_each_other(site):
    go = gate(site)
    site.template("second", f"wait {go}", "succeed")
    site.template_map({"DEFAULT": ["managed.json", "second.json"]})
    site.worker()
    site.publish_profile()
    site.wait_packer(2)
    go.touch()
    site.wait_state("succeeded", 2)


def test_latest_wins(site):
    """The build that starts last covers what came for its image in the meantime."""
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=4)
    site.worker()
    site.publish(profile("same", **{"/software/number": 0}), message_id="m0")
    site.wait_packer(1)
    for number in (1, 2, 3):
        site.publish(profile("same", **{"/software/number": number}), message_id=f"m{number}")
    wait_for(lambda: len(site.builds()) == 4, "all messages are in the journal")
    go.touch()
    site.wait_state("succeeded", 2)
    states = {build.message_id: build.state for build in site.builds()}
    assert states == {
        "m0": "succeeded",
        "m1": "superseded",
        "m2": "superseded",
        "m3": "succeeded",
    }
    (covered, *_) = site.builds("superseded")
    assert "covered by build" in covered.reason
    assert len(site.packer_runs()) == 2


def test_latest_wins_with_one_slot(site):
    go = gate(site)
    site.set("rabbit2packer", THREAD_COUNT=1)
    site.worker()
    site.publish(profile("same"), message_id="m0")
    site.wait_packer(1)
    for number in (1, 2):
        site.publish(profile("same"), message_id=f"m{number}")
    site.wait_build(lambda build: build.state == "superseded")  # the last waits in the journal, though no slot is free
    go.touch()
    wait_for(
        lambda: len(site.builds()) == 3 and all(build.ended_ms for build in site.builds()),
        "all three messages are dealt with",
    )
    assert [build.state for build in site.builds()] == ["succeeded", "superseded", "succeeded"]


def test_message_that_comes_again_is_built_once(site):
    site.worker()
    site.publish(profile("one"), message_id="same-id")
    site.wait_state("succeeded")
    site.publish(profile("one"), message_id="same-id")
    site.publish(profile("two"), message_id="other-id")
    site.wait_build(lambda build: build.message_id == "other-id" and build.ended_ms)
    assert len(site.packer_runs()) == 2


def test_until_idle_ends_by_itself(site):
    for number in range(5):
        site.publish_profile(f"p{number}")
    worker = site.worker("--until-idle", ready=False)
    assert worker.wait() == 0
    assert len(site.builds("succeeded")) == 5
    assert site.queue_count() == 0


def test_two_hosts_share_one_queue(make_site, vhost):
    sites = [make_site(name, vhost=vhost) for name in ("a", "b")]
    gates = [gate(site) for site in sites]
    for site in sites:
        site.set("rabbit2packer", THREAD_COUNT=1)
        site.worker()
    for number in range(2):
        sites[0].publish_profile(f"p{number}")
    for site in sites:
        site.wait_packer(1)  # each has one of the two
    for path in gates:
        path.touch()
    for site in sites:
        site.wait_state("succeeded")


def test_two_hosts_never_build_one_image_at_once(make_site, vhost):
    sites = [make_site(name, vhost=vhost) for name in ("a", "b")]
    gates = [gate(site) for site in sites]
    workers = [site.worker("-v") for site in sites]
    sites[0].publish(profile("same"), message_id="m0")
    first = wait_for(lambda: next((s for s in sites if s.packer_runs()), None), "one host builds")
    other = sites[1 - sites.index(first)]
    for worker in workers:
        worker.wait_log(SHARED)  # stopped before that, the first would be waited for
    # The next message of that image goes to the other host.
    first.daemons[-1].signal(signal.SIGSTOP)
    other.publish(profile("same"), message_id="m1")
    workers[sites.index(other)].wait_log("another host builds that image")
    assert not other.packer_runs()
    first.daemons[-1].signal(signal.SIGCONT)
    for go in gates:
        go.touch()
    first.wait_state("succeeded")
    other.wait_state("succeeded")
    assert first.packer_runs()[0].ended <= other.packer_runs()[0].started


def test_what_a_host_builds_stays_its_own_when_others_come_and_connections_go(make_site, vhost):
    first, other = [make_site(name, vhost=vhost) for name in ("a", "b")]
    gates = [gate(site) for site in (first, other)]
    worker = first.worker()
    first.publish(profile("same"), message_id="m0")
    first.wait_packer()
    second = other.worker("-v")
    for each in (worker, second):
        each.wait_log(SHARED)
    worker.signal(signal.SIGSTOP)  # it cannot come back
    vhost.close_connections()
    other.publish(profile("same"), message_id="m1")
    second.wait_log("another host builds that image")
    assert not other.packer_runs()
    worker.signal(signal.SIGCONT)
    for go in gates:
        go.touch()
    first.wait_state("succeeded")
    other.wait_state("succeeded")
    assert first.packer_runs()[0].ended <= other.packer_runs()[0].started


def test_hosts_whose_leases_differ_work_together(make_site, vhost):
    sites = [make_site(name, vhost=vhost) for name in ("a", "b")]
    sites[1].set("rabbit2packer", LEASE=60)
    workers = [site.worker() for site in sites]
    for worker in workers:
        worker.wait_log(SHARED)
    workers[0].stop()
    sites[1].publish_profile()
    sites[1].wait_state("succeeded")


def test_a_host_that_was_stopped_is_not_waited_for(make_site, vhost):
    sites = [make_site(name, vhost=vhost) for name in ("a", "b")]
    assert sites[0].worker().stop() == 0
    sites[1].publish_profile()
    sites[1].worker()
    sites[1].wait_state("succeeded")


def test_a_host_that_does_not_answer_is_waited_for_and_that_is_said(make_site, vhost):
    first, other = [make_site(name, vhost=vhost) for name in ("a", "b")]
    silent = first.worker()
    first.publish(profile("one"), message_id="m0")
    first.wait_state("succeeded")
    silent.signal(signal.SIGSTOP)
    other.publish(profile("two"), message_id="m1")
    worker = other.worker()
    worker.wait_log("the other workers on this queue do not answer")
    assert not other.packer_runs()
    silent.signal(signal.SIGCONT)
    for each in (silent, worker):
        each.wait_log(SHARED)
    wait_for(lambda: len(first.packer_runs() + other.packer_runs()) == 2, "the second is built")


def test_message_from_before_a_build_is_covered_by_it(rabbit_site):
    """The guest has fetched what it is about. A minute is for clocks that differ."""
    rabbit_site.worker()
    rabbit_site.publish_profile()
    (done,) = rabbit_site.wait_state("succeeded")
    started = done.started_ms // 1000
    for name, sent in (("old", started - 70), ("new", started - 30)):
        rabbit_site.vhost.publish(QUEUE, pan_json(profile()), message_id=name, timestamp=sent)
    old = rabbit_site.wait_build(lambda build: build.message_id == "old" and build.ended_ms)
    assert old.state == "superseded"
    assert old.reason == "covered by build 1, which started after the message was sent"
    new = rabbit_site.wait_build(lambda build: build.message_id == "new" and build.ended_ms)
    assert new.state == "succeeded"
