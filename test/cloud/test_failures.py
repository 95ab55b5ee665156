"""Failures as they really look: what the history says, and what is left in the cloud."""

import re
import secrets

import pytest
from cloud_site import BUILD_SECONDS
from rig.profiles import OS_KEY
from rig.site import is_alive
from rig.waiting import wait_for
from running_cloud import SERVER_SECONDS

IMAGE = f"nubesvms-{OS_KEY}"
HANGS = ["echo hanging; sleep 600"]


def shown(site, build):
    """What `packuilon show` tells the operator."""
    return site.packuilon("show", build.id).out


def check_failure(site, build, words, phases):
    text = shown(site, build)
    assert words in build.reason
    assert words in text
    for phase in phases:
        assert re.search(rf"^  \S+ \S+ +[0-9.hms ]+s  phase: {phase}$", text, re.M), text
    assert [name for name, _ in site.phases(build)] == phases
    assert site.exit_line(build)[1] == build.exit_code == 1
    assert build.artifact is None


# ---- before a server runs --------------------------------------------------------------------


def test_keystone_is_down(site, cloud):
    cloud.kill_service("keystone")
    site.begin_build()
    (build,) = site.wait_state("failed")
    check_failure(site, build, "dial tcp", [])


def test_missing_image(site, cloud):
    missing = "deadbeef-0000-4000-8000-000000000000"
    site.source_images({OS_KEY: missing})
    site.begin_build()
    (build,) = site.wait_state("failed")
    check_failure(site, build, "Can not find requested image", ["launch", "clean up"])
    assert cloud.left() == []


def test_missing_flavor(site, cloud):
    site.json_template(flavor="m9.nope")
    site.begin_build()
    (build,) = site.wait_state("failed")
    check_failure(site, build, "flavor", ["launch"])
    assert cloud.left() == []


def test_quota(site, cloud):
    with cloud.quota(instances=0):
        site.begin_build()
        (build,) = site.wait_state("failed")
    check_failure(site, build, "Quota exceeded for instances", ["launch", "clean up"])
    assert cloud.left() == []


def test_no_valid_host(site, cloud):
    """The server goes to ERROR, which is all that Packer tells."""
    name = f"huge-{secrets.token_hex(4)}"
    flavor = cloud.admin.compute.create_flavor(name=name, ram=1 << 24, vcpus=1, disk=1)
    try:
        site.json_template(flavor=name)
        with cloud.quota(ram=-1):
            site.begin_build()
            (build,) = site.wait_state("failed")
    finally:
        cloud.admin.compute.delete_flavor(flavor)
    check_failure(site, build, "unexpected state 'ERROR'", ["launch", "boot", "clean up"])
    assert cloud.left() == []


def test_wrong_password(site, cloud):
    """No build's fault: it waits, and nothing else is taken."""
    openrc = (cloud.dir / "openrc").read_text()
    site.openrc()
    path = site.root / "openrc.sh"
    path.write_text(openrc.replace(cloud.auth["password"], "wrong"))
    site.set("rabbit2packer", RETRY_SECONDS=1)
    site.json_template(flavor="m9.nope")
    site.add_personalities("nubesvms")
    site.change("nubesvms")
    worker = site.worker()
    worker.wait_log("taking no builds until this is mended")
    # Between two attempts, which are a second apart.
    build = site.wait_build(lambda build: build.state == "queued" and build.reason)
    assert "Authentication failed" in build.reason
    path.write_text(openrc)
    (build,) = site.wait_state("failed")
    assert "flavor" in build.reason
    assert build.attempt == 1


# ---- while it runs ---------------------------------------------------------------------------


def test_ssh_timeout(site, cloud):
    site.json_template(ssh_port=2222, ssh_timeout="5s")
    site.begin_build()
    (build,) = site.wait_state("failed")
    check_failure(
        site, build, "Timeout waiting for SSH", ["launch", "boot", "connect", "clean up"]
    )
    assert cloud.left() == []


def test_failing_provisioner(site, cloud):
    site.json_template(script=["echo the last words", "exit 3"])
    site.begin_build()
    (build,) = site.wait_state("failed")
    check_failure(
        site,
        build,
        "non-zero exit status: 3",
        ["launch", "boot", "connect", "provision", "clean up"],
    )
    assert "the last words" in site.log_text(build)
    assert cloud.left() == []
    assert cloud.images() == []


def test_keystone_goes_down(site, cloud):
    """The other services remember Packer's token: the build goes on."""
    site.json_template(script=["sleep 5"])
    site.begin_build()
    site.wait_phase("provision")
    cloud.kill_service("keystone")
    (build,) = site.wait_state("succeeded")
    cloud.start_service("keystone")
    assert cloud.image(build.artifact).status == "active"
    assert cloud.left() == []


def test_nova_goes_down(site, cloud):
    """Packer can then not even clean up: the server and its keypair are left."""
    site.json_template(script=["sleep 5"])
    server_name = site.begin_build()
    site.wait_phase("provision")
    cloud.kill_service("nova-api")
    (build,) = site.wait_state("failed")
    cloud.start_service("nova-api")
    check_failure(
        site,
        build,
        "connection refused",
        ["launch", "boot", "connect", "provision", "stop", "clean up"],
    )
    assert any(server_name in line for line in cloud.left())
    assert any(line.startswith("keypair") for line in cloud.left())
    assert cloud.images() == []


# ---- stopped ---------------------------------------------------------------------------------

STOPPED_IN = ["launch", "boot", "connect", "provision", "stop", "save", "clean up"]
# What stands still meanwhile, so that the phase does not end.
HELD_BY = {
    "launch": "nova-api",
    "stop": "nova-compute",
    "save": "nova-compute",
    "clean up": "nova-compute",
}
LAST_WORDS = {"launch": "Launching server", "save": "Image: "}


def build_up_to(site, cloud, phase):
    """A build that is in that phase, and stays there for a while."""
    if phase == "provision":
        site.json_template(script=HANGS)
    site.begin_build()
    if phase == "stop":
        site.wait_phase("provision")
        cloud.freeze("nova-compute")
    build = site.wait_phase(phase)
    if phase == "launch":
        wait_said(site, build, LAST_WORDS[phase])
    if phase in HELD_BY and phase != "stop":
        cloud.freeze(HELD_BY[phase])
    wait_said(site, build, LAST_WORDS.get(phase, ""))
    assert site.builds()[0].phase == phase
    return build


def wait_said(site, build, words):
    wait_for(lambda: words in site.log_text(build), f"{words!r} in the log", BUILD_SECONDS)


def check_left(cloud, phase, log):
    """Server and keypair are gone. An image whose saving had begun is left, unless Nova saw its
    server go and removed it, and a finished one is: the log says which."""
    assert cloud.left() == []
    images = cloud.images()
    assert len(images) <= (phase in ("save", "clean up"))
    assert phase != "clean up" or images[0].status == "active"
    for image in images:
        assert image.name == IMAGE
        assert image.id in log


@pytest.mark.parametrize("phase", STOPPED_IN)
def test_cancel(site, cloud, phase):
    build = build_up_to(site, cloud, phase)
    site.packuilon("cancel", build.id)
    wait_said(site, build, "Cancelling build")
    cloud.thaw_all()
    (build,) = site.wait_state("cancelled")
    assert "cancel" in build.reason
    assert "Cleanly cancelled builds" in site.log_text(build)
    assert phase in [name for name, _ in site.phases(build)]
    check_left(cloud, phase, build.reason)


@pytest.mark.parametrize("phase", STOPPED_IN)
def test_killed_worker(site, cloud, phase):
    """Its Packer cancels itself."""
    build = build_up_to(site, cloud, phase)
    packer = build.pid
    site.daemons[0].kill()
    if phase in ("stop", "save"):  # Packer has seen it
        wait_for(lambda: cloud.servers()[0].task_state == "deleting", "deleting", SERVER_SECONDS)
    cloud.thaw_all()
    wait_for(lambda: not is_alive(packer), "the end of Packer", BUILD_SECONDS)
    wait_for(lambda: not cloud.servers(), "the server's end", SERVER_SECONDS)
    check_left(cloud, phase, site.log_text(build))


def test_timeout_while_saving(site, cloud):
    """Packer would wait for ever."""
    site.set("rabbit2packer", BUILD_TIMEOUT=90)
    build = build_up_to(site, cloud, "save")
    wait_said(site, build, "BUILD_TIMEOUT")
    cloud.thaw_all()
    (build,) = site.wait_state("failed")
    assert "BUILD_TIMEOUT (90 s), while in phase save" in build.reason
    assert "being saved and may be left" in build.reason
    check_left(cloud, "save", build.reason)
