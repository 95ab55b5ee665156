"""Builds that fail: which are tried again, which are put aside, and how they come back."""

import pytest
from rig.profiles import OS_KEY
from rig.waiting import wait_for

IMAGE = f"nubesvms-{OS_KEY}"


def fail_with(site, packer_logs, log):
    site.template("managed", f"cat {packer_logs}/{log}.log", "exit 1")


def test_quota_is_tried_again_until_it_works(site, packer_logs):
    site.set("rabbit2packer", RETRY_SECONDS=1, MAX_ATTEMPTS=5)
    fail_with(site, packer_logs, "quota-instances")
    site.worker()
    site.publish_profile()
    (first,) = site.wait_state("failed")
    assert "Quota exceeded" in first.reason and "attempt 2 follows in" in first.reason
    site.template("managed", "succeed")
    (done,) = site.wait_state("succeeded")
    assert done.attempt == len(site.builds())
    assert done.message_id == first.message_id
    # RETRY_SECONDS, five times for a quota, spread by half.
    assert 2400 <= site.builds()[1].not_before_ms - first.ended_ms <= 7600
    assert site.builds()[1].started_ms >= site.builds()[1].not_before_ms
    assert site.queue_count(".failed") == 0


def test_failed_provisioner_is_not_tried_again(local_site, packer_logs):
    site = local_site
    fail_with(site, packer_logs, "provisioner-failed")
    site.worker()
    site.publish_profile()
    (failed,) = site.wait_state("failed")
    assert "follows" not in failed.reason
    wait_for(lambda: site.queue_count(".failed") == 1, "the message is put aside")
    assert len(site.builds()) == 1


def test_max_attempts(local_site, packer_logs):
    local_site.set("rabbit2packer", RETRY_SECONDS=0, MAX_ATTEMPTS=3)
    fail_with(local_site, packer_logs, "no-valid-host")
    local_site.worker()
    local_site.publish_profile()
    builds = local_site.wait_state("failed", 3)
    assert [build.attempt for build in builds] == [1, 2, 3]
    wait_for(lambda: local_site.queue_count(".failed") == 1, "the message is put aside")
    assert len(local_site.builds()) == 3


def test_retry_brings_it_back(local_site, packer_logs):
    site = local_site
    fail_with(site, packer_logs, "provisioner-failed")
    site.worker()
    site.publish_profile()
    site.publish_profile("other")
    site.wait_state("failed", 2)
    wait_for(lambda: site.queue_count(".failed") == 2, "both messages are put aside")
    site.template("managed", "succeed")
    result = site.packuilon("retry", IMAGE)
    assert "1 message is back" in result.out
    (done,) = site.wait_state("succeeded")
    assert done.image == IMAGE
    assert site.queue_count(".failed") == 1
    result = site.packuilon("retry", IMAGE, expect=1)
    assert "only a failed build can be tried again" in result.err
    result = site.packuilon("retry", "1", expect=1)
    assert "tried again already?" in result.err
    assert "1 message is back" in site.packuilon("retry", "--all").out
    site.wait_state("succeeded", 2)
    assert "0 messages are back" in site.packuilon("retry", "--all").out


def test_retry_of_what_was_rejected(site):
    """Whatever it was, somebody thinks it can be read now; if not, it is rejected once more."""
    worker = site.worker()
    site.publish(b"not a profile")
    wait_for(lambda: site.queue_count(".rejected") == 1, "the poison is put aside")
    assert "1 message is back" in site.packuilon("retry", "--all", "--rejected").out
    wait_for(lambda: worker.log().count("is rejected") == 2, "it is looked at again")
    wait_for(lambda: site.queue_count(".rejected") == 1, "and put aside again")


@pytest.mark.parametrize("arguments", [[], ["--all", "1"], ["--rejected", "1"]])
def test_retry_of_nothing(local_site, arguments):
    assert "--all" in local_site.packuilon("retry", *arguments, expect=2).err


def test_retry_of_a_build_that_did_not_fail(local_site):
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    result = local_site.packuilon("retry", "1", expect=1)
    assert "build 1 is succeeded" in result.err


def test_failures_alike_open_the_breaker(local_site, packer_logs):
    local_site.set("rabbit2packer", RETRY_SECONDS=0, MAX_ATTEMPTS=10, BREAKER_FAILURES=3)
    fail_with(local_site, packer_logs, "no-valid-host")
    local_site.worker()
    local_site.publish_profile()
    builds = local_site.wait_state("failed", 3)
    wait_for(lambda: local_site.queue_count(".failed") == 1, "the message is put aside")
    assert len(local_site.builds()) == 3
    assert "BREAKER_FAILURES" in builds[-1].reason
    # A changed profile closes it.
    local_site.template("managed", "succeed")
    local_site.publish_profile()
    local_site.wait_state("succeeded")


def test_retry_survives_a_restart(site, packer_logs):
    site.set("rabbit2packer", RETRY_SECONDS=1)
    fail_with(site, packer_logs, "no-valid-host")
    worker = site.worker()
    site.publish_profile()
    site.wait_build(lambda build: build.attempt == 2, "the second attempt waits")
    worker.kill()
    site.template("managed", "succeed")
    site.worker()
    (done,) = site.wait_state("succeeded")
    assert done.attempt == 2
    assert done.started_ms >= done.not_before_ms


def test_newer_message_takes_the_place_of_a_retry(local_site, packer_logs):
    local_site.set("rabbit2packer", RETRY_SECONDS="1h")
    fail_with(local_site, packer_logs, "no-valid-host")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_build(lambda build: build.attempt == 2, "the second attempt waits")
    local_site.template("managed", "succeed")
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    assert [build.state for build in local_site.builds()] == ["failed", "superseded", "succeeded"]
