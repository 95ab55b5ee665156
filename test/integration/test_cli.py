"""packuilon: what the operator sees and does."""

import json
import shutil
import subprocess

import pytest

from rig.processes import BIN_DIR
from rig.profiles import OS_KEY, pan_json, profile
from rig.waiting import wait_for

ENTRY = "nubes.cloud.template.json"
IMAGE = f"nubesvms-{OS_KEY}"


# ---- status, show, log -----------------------------------------------------------------------


def test_nothing_yet(site):
    assert "No builds yet" in site.packuilon("status").out
    document = json.loads(site.packuilon("status", "--json").out)
    assert document["builds"] == []
    result = site.packuilon("show", "1", expect=1)
    assert "1" in result.err


def test_status_says_what_runs_and_what_waits(site):
    go = site.root / "go"
    site.template("managed", "launch", f"wait {go}", "succeed")
    site.set("rabbit2packer", THREAD_COUNT=1)
    site.worker()
    site.publish_profile("running")
    site.wait_packer()
    site.publish_profile("waiting")
    wait_for(
        lambda: (
            "provision" in site.packuilon("status").out
        ),
        "the phase is shown",
    )
    document = json.loads(site.packuilon("status", "--json").out)
    assert [build["state"] for build in document["builds"]][0] == "building"
    go.touch()
    site.wait_state("succeeded", 2)
    lines = site.packuilon("status").out.splitlines()
    assert sum("succeeded" in line for line in lines) == 2
    assert f"running-{OS_KEY}" in site.packuilon("status", "--image", f"running-{OS_KEY}").out
    assert f"waiting-{OS_KEY}" not in site.packuilon("status", "--image", f"running-{OS_KEY}").out
    assert "No builds of that kind" in site.packuilon("status", "--state", "failed").out
    site.packuilon("status", "--state", "nonsense", expect=2)


def test_status_while_the_broker_is_down(rabbit_site):
    """The history is on this host, and is shown all the same."""
    rabbit_site.worker()
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")
    rabbit_site.set("global", RABBIT_PORT=1)
    result = rabbit_site.packuilon("status", expect=1)
    assert IMAGE in result.out
    assert "127.0.0.1" in result.err


def test_show_tells_the_whole_story(local_site):
    local_site.template("managed", "launch", "fail Quota exceeded for instances")
    local_site.worker()
    local_site.publish(profile(), message_id="the-message", entry=ENTRY)
    (build,) = local_site.wait_state("failed")
    out = local_site.packuilon("show", build.id).out
    for word in ("failed", IMAGE, "Quota exceeded", "the-message", ENTRY, build.log_path,
                 build["build_id"], "managed.json", "building", "provision"):  # fmt: skip
        assert word in out
    document = json.loads(local_site.packuilon("show", "--json", build.id).out)
    assert document["image"] == IMAGE
    assert document["state"] == "failed"


def test_log_follows_to_the_end(site):
    go = site.root / "go"
    site.template("managed", "say early", f"wait {go}", "say late", "succeed")
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("building")
    with subprocess.Popen(
        [BIN_DIR / "packuilon", "log", "-c", site.config_path, "-f", str(build.id)],
        stdout=subprocess.PIPE,
        text=True,
        env=site.environment(),
    ) as follower:
        assert follower.stdout.readline() == "early\n"
        go.touch()
        rest, _ = follower.communicate(timeout=20)
    assert follower.returncode == 0
    assert "late\n" in rest
    assert "Build finished at" in rest.splitlines()[-1]


def test_log_of_nothing(local_site):
    local_site.packuilon("log", "77", expect=1)
    local_site.packuilon("log", "seventy", expect=None).code in (1, 2)


def test_terminal_escapes_stay_in_the_log(local_site):
    """What a guest prints may not drive the operator's terminal."""
    local_site.template("managed", "say \x1b]0;owned\x07 \x1b[2J", "fail \x1b[31mred")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    for command in (["status"], ["show", build.id]):
        assert "\x1b" not in local_site.packuilon(*command).out


# ---- build -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "personality"),
        (["--personality", ""], "personality"),
        (["--personality", "a", "--domain", "x", "--sandbox", "y/z"], "sandbox"),
        (["--personality", "a", "--sandbox", "noslash"], "sandbox"),
        (["--personality", "a\nb"], "personality"),
        (["--personality", "a", "surplus"], "surplus"),
        (["--personality"], "personality"),
    ],
)
def test_build_refuses_nonsense(local_site, arguments, word):
    result = local_site.packuilon("build", *arguments, expect=2)
    assert word in result.err
    assert local_site.queue_count() == 0


def test_build_without_a_broker(rabbit_site):
    rabbit_site.set("global", RABBIT_PORT=1)
    result = rabbit_site.packuilon("build", "--personality", "x", expect=1)
    assert "nothing was queued" in result.err
    assert "127.0.0.1" in result.err


# ---- plan ------------------------------------------------------------------------------------


def test_plan_builds_nothing(local_site):
    path = local_site.root / "profile.json"
    path.write_bytes(pan_json(profile()))
    out = local_site.packuilon("plan", path).out
    assert IMAGE in out
    assert "managed.json" in out
    assert local_site.builds() == []
    assert local_site.packer_runs() == []


def test_plan_says_what_changed(make_site):
    site = make_site(web=True)
    site.set("cdb2rabbit", FIRST_RUN="build")
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.profiles.change(ENTRY, "/software/packages/nginx", {})
    assert "/software/packages/nginx" in site.packuilon("plan", ENTRY).out


def test_plan_of_what_would_be_refused(local_site):
    path = local_site.root / "profile.json"
    path.write_bytes(b"{}")
    result = local_site.packuilon("plan", path, expect=None)
    assert "/system/personality/name" in result.out + result.err


# ---- check -----------------------------------------------------------------------------------


@pytest.fixture
def checked_site(make_site, vhost):
    site = make_site(vhost=vhost, web=True)
    site.use_real_packer()
    site.file_template()
    site.openrc(OS_PASSWORD="secret-password", OS_PROJECT_NAME="images")
    site.profiles.add(ENTRY, profile())
    for name in ("state", "logs", "cache", "build-files"):
        (site.root / name).mkdir(exist_ok=True)
    return site


def failures(result):
    return [line for line in result.out.splitlines() if line.startswith("FAIL")]


def test_check_of_a_good_site(checked_site):
    """Only the cloud is missing here."""
    result = checked_site.packuilon("check", expect=None, deadline=60)
    assert [line for line in failures(result) if "openstack" not in line] == []
    for word in ("config.ini", "profiles-info.xml", "build-queue", "1.6.6", "source-images.json",
                 "template-map.json", "managed.json"):  # fmt: skip
        assert word in result.out
    assert "secret-password" not in result.out + result.err


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda site: site.set("global", RABBIT_PW="wrong"), ["broker"]),
        (lambda site: site.set("global", RABBIT_VHOST="gone"), ["broker", "gone"]),
        (lambda site: site.set("global", RABBIT_PORT=1), ["broker", "127.0.0.1"]),
        (lambda site: site.web.close(), ["profile index"]),
        (lambda site: site.set("rabbit2packer", PACKER_PATH="/no/packer"), ["packer", "/no/packer"]),
        (lambda site: site.source_images("{"), ["source images", "source-images.json"]),
        (lambda site: site.template_map("{"), ["template map", "template-map.json"]),
        (lambda site: site.template("managed", text="{"), ["template", "managed.json"]),
        (lambda site: (site.root / "openrc.sh").unlink(), ["auth file", "openrc.sh"]),
        (lambda site: (shutil.rmtree(site.log_dir), site.log_dir.touch()), ["LOG_DIR"]),
    ],
)
def test_check_finds_the_fault(checked_site, breakage, words):
    breakage(checked_site)
    result = checked_site.packuilon("check", expect=1, deadline=60)
    found = "\n".join(failures(result))
    for word in words:
        assert word in found
