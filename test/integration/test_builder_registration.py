"""A build and the registration of its server with Aquilon: it is in the history, and one that has
failed ends the build."""

import itertools

import pytest
from rig.cloud import Cloud
from rig.waiting import wait_for

SERVER = "6488693d-96fa-47d4-ba80-59f18bf0136e"  # the fake Packer's


@pytest.fixture
def cloud(local_site):
    server = Cloud()
    local_site.openrc(
        OS_AUTH_URL=server.url, OS_PASSWORD="openrc-password", OS_PROJECT_NAME="images",
        OS_REGION_NAME="RegionOne",
    )  # fmt: skip
    local_site.set("rabbit2packer", AQ_STATUS_SECONDS=1)
    yield server
    server.close()


def registration(site, build):
    return [event.detail for event in site.events(build) if event.what == "registration"]


def test_a_failed_registration_ends_the_build(local_site, cloud):
    local_site.set("rabbit2packer", MAX_ATTEMPTS=1)
    local_site.template("managed", "launch", "hang")
    cloud.servers[SERVER] = {"AQ_PERSONALITY": "p"}
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: any("metadata" in path for _, path in cloud.calls), "the metadata is read")
    cloud.servers[SERVER].update(AQ_STATUS="FAILED", AQ_STATUS_REASON="missing: AQ_OS")
    build = local_site.wait_build()
    assert build.state == "failed"
    assert build.reason == (
        f"the registration with Aquilon of server {SERVER} has failed: missing: AQ_OS"
    )
    assert registration(local_site, build) == [build.reason]
    assert build.failure.startswith("registration ")
    assert local_site.packer_runs()[0].ended, "Packer has cleaned up"
    assert worker.stop() == 0


def test_it_is_tried_once_more(local_site, cloud):
    local_site.set("rabbit2packer", RETRY_SECONDS=0)
    local_site.template("managed", "launch", "hang")
    cloud.servers[SERVER] = {"AQ_STATUS": "FAILED"}
    local_site.publish_profile()
    local_site.worker("--until-idle", ready=False).wait(60)
    assert [build.state for build in local_site.builds()] == ["failed", "failed"]
    assert "no reason is given" in local_site.builds()[1].reason


def test_a_registration_is_in_the_history(local_site, cloud):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.servers[SERVER] = {"AQ_STATUS": "SUCCESS", "HOSTNAMES": "h.example.org"}
    local_site.worker()
    local_site.publish_profile()
    build = local_site.wait_state("building")[0]
    wait_for(lambda: registration(local_site, build), "it is in the history")
    go.touch()
    local_site.wait_state("succeeded")
    assert registration(local_site, build) == [
        f"server {SERVER} is registered with Aquilon as h.example.org"
    ]
    assert "as h.example.org" in local_site.packuilon("show", str(build.id)).out
    calls = len(cloud.calls)
    assert sum("metadata" in path for _, path in cloud.calls[:calls]) < 5, "not asked for ever"


@pytest.mark.parametrize("trouble", ["login", "broken", "gone", "silent"])
def test_a_build_does_not_depend_on_it(local_site, cloud, trouble):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.refuse_login = trouble == "login"
    cloud.broken = 503 if trouble == "broken" else None
    if trouble == "gone":
        cloud.gone.add(SERVER)
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: len(cloud.calls) >= 2, "it was asked")
    go.touch()
    build = local_site.wait_build()
    assert build.state == "succeeded" and not registration(local_site, build)
    assert worker.stop() == 0


def test_a_login_that_fails_is_tried_more_and_more_rarely(local_site, cloud):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.servers[SERVER] = {"AQ_PERSONALITY": "p"}
    cloud.refuse_login = True
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: len(cloud.login_times) == 4, "four logins")
    gaps = [later - earlier for earlier, later in itertools.pairwise(cloud.login_times)]
    assert gaps[1] >= 1.5 and gaps[2] >= 3
    said = [line for line in worker.log().splitlines() if "registrations are not known" in line]
    assert len(said) == 1 and "refuses the login" in said[0]
    go.touch()
    assert local_site.wait_build().state == "succeeded"
    assert worker.stop() == 0


def test_it_can_be_switched_off(local_site, cloud):
    local_site.set("rabbit2packer", AQ_STATUS_SECONDS=0)
    cloud.servers[SERVER] = {"AQ_STATUS": "FAILED"}
    local_site.template("managed", "launch", "work 300", "succeed")
    local_site.publish_profile()
    local_site.worker("--until-idle", ready=False).wait(60)
    assert local_site.builds()[0].state == "succeeded"
    assert not cloud.calls
