"""rabbit2packer: builds that fail, are skipped or cannot be begun, and messages that are poison."""

import pytest

from rig.profiles import OS_KEY, pan_json, profile
from rig.site import QUEUE
from rig.waiting import wait_for

IMAGE = f"nubesvms-{OS_KEY}"


def test_failure_is_told_in_packers_words(site):
    site.template("managed", "launch", "fail Script exited with non-zero exit status: 3")
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("failed")
    assert build.exit_code == 1
    assert "Script exited with non-zero exit status: 3" in build.reason
    assert site.exit_line(build)[1] == 1
    assert not build.artifact


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("provisioner-failed", "Script exited with non-zero exit status: 3"),
        ("no-valid-host", "unexpected state 'ERROR'"),
        ("quota-instances", "Quota exceeded"),
        ("source-image-missing", "image"),
        ("ssh-timeout", "Timeout waiting for SSH"),
        ("template-invalid", "invalid character"),
    ],
)
def test_real_failures(local_site, packer_logs, log, words):
    local_site.template("managed", f"cat {packer_logs}/{log}.log", "exit 1")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert words in build.reason
    assert local_site.exit_line(build)[1] == 1


def test_refused_login_stops_the_taking_of_builds(local_site, packer_logs):
    """Every build would fail so: one is tried now and then, and none is lost."""
    local_site.set("rabbit2packer", RETRY_SECONDS=1)
    local_site.template("managed", f"cat {packer_logs}/auth-failed.log", "exit 1")
    worker = local_site.worker()
    local_site.publish_profile("one")
    local_site.publish_profile("two")
    worker.wait_log("taking no builds until this is mended")
    build = local_site.wait_build(lambda build: build.state == "queued" and build.reason)
    assert "Authentication failed" in build.reason
    local_site.template("managed", "succeed")
    assert {build.attempt for build in local_site.wait_state("succeeded", 2)} == {1}
    worker.wait_log("taking builds again")
    assert worker.log().count("taking no builds until this is mended") == 1


def test_real_success(local_site, packer_logs):
    local_site.template("managed", f"cat {packer_logs}/success.log", "exit 0")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert build.artifact == "2561d107-7585-4ed4-a269-1aedfb136bb6"


def test_exit_0_without_artifact_is_no_success(local_site):
    local_site.template("managed", "say nothing was built", "exit 0")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert "no artifact" in build.reason
    assert build.exit_code == 0


def test_packer_that_crashes(local_site):
    local_site.template("managed", "launch", "signal 11")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert build.exit_code == 128 + 11
    assert local_site.exit_line(build)[1] == 128 + 11


def test_failure_hurts_no_other_build(site):
    site.template("broken", "fail broken")
    site.template_map({"DEFAULT": ["managed.json"], IMAGE: ["broken.json"]})
    site.worker()
    for personality in ("one", "nubesvms", "two"):
        site.publish_profile(personality)
    site.wait_state("failed")
    assert {build.personality for build in site.wait_state("succeeded", 2)} == {"one", "two"}


# ---- further attempts ------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(site):
    site.set("rabbit2packer", RETRY_SECONDS=1)
    site.template("managed", "fail dial tcp 192.0.2.1:5000: connect: connection refused")
    site.worker()
    site.publish(profile(), message_id="the-message")
    (first,) = site.wait_state("failed")
    assert "attempt 2 follows" in first.reason
    site.template("managed")
    (second,) = site.wait_state("succeeded")
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.message_id == "the-message"


def test_given_up_after_max_attempts(site):
    site.set("rabbit2packer", RETRY_SECONDS=0, MAX_ATTEMPTS=2)
    site.template("managed", "fail dial tcp 192.0.2.1:5000: connect: connection refused")
    site.worker()
    site.publish(profile(), message_id="the-message")
    builds = site.wait_state("failed", 2)
    assert [build.attempt for build in builds] == [1, 2]
    wait_for(lambda: site.queue_count(".failed") == 1, "the message is kept for `packuilon retry`")
    assert len(site.builds()) == 2


def test_what_stays_wrong_is_not_tried_again(site):
    site.set("rabbit2packer", RETRY_SECONDS=0)
    site.template("managed", "fail Script exited with non-zero exit status: 3")
    site.worker()
    site.publish_profile()
    site.wait_state("failed")
    wait_for(lambda: site.queue_count(".failed") == 1, "the message is kept for `packuilon retry`")
    assert len(site.builds()) == 1


# ---- skipped ---------------------------------------------------------------------------------


def test_no_source_image_is_skipped(site):
    site.source_images({"sl7x-x86_64": "x"})
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("skipped")
    assert OS_KEY in build.reason
    assert "source-images.json" in build.reason
    assert build.personality == "nubesvms"
    assert site.packer_runs() == []
    site.wait_queue_empty()


def test_no_template_is_skipped(local_site):
    local_site.template_map({"other": ["managed.json"]})
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("skipped")
    assert IMAGE in build.reason
    assert "DEFAULT" in build.reason


# ---- here something is broken, and the message is not to blame -------------------------------


def break_packer(site):
    site.packer.unlink()


def break_map(site):
    site.source_images('{"rocky8x-x86_64": }')


def break_auth_file(site):
    site.set("rabbit2packer", PACKER_AUTH_FILE=site.root / "no-such-openrc.sh")


def test_refused_login_keeps_the_message(site, packer_logs):
    """Every build would fail so: no attempt is spent, and they wait until the cloud lets us in."""
    site.template("managed", f"cat {packer_logs}/auth-failed.log", "exit 1")
    worker = site.worker()
    site.publish_profile()
    worker.wait_log("taking no builds until this is mended")
    assert "Authentication failed" in worker.log()
    (build,) = site.wait_state("queued")
    assert build.attempt == 1
    worker.stop()
    site.template("managed")
    site.worker()
    (build,) = site.wait_state("succeeded")
    assert build.attempt == 1


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (break_packer, ["PACKER_PATH", "packer"]),
        (break_map, ["source-images.json", "line 1"]),
        (break_auth_file, ["no-such-openrc.sh"]),
    ],
)
def test_broken_here_keeps_the_message(site, breakage, words):
    breakage(site)
    worker = site.worker()
    site.publish_profile()
    worker.wait_log("taking no builds until this is mended")
    for word in words:
        assert word in worker.log()
    assert site.builds("failed") == []
    assert worker.stop() == 0
    unfinished = [build for build in site.builds() if build.state == "queued"]
    assert site.queue_count() + len(unfinished) == 1


def test_mended_packer_builds_what_waited(site):
    target = site.packer.readlink()
    break_packer(site)
    worker = site.worker()
    site.publish_profile()
    worker.wait_log("taking no builds until this is mended")
    worker.stop()
    site.packer.symlink_to(target)
    site.worker()
    site.wait_state("succeeded")
    assert len(site.packer_runs()) == 1


# ---- poison ----------------------------------------------------------------------------------

POISON = {
    "not JSON": (b"hello", "line 1"),
    "truncated": (pan_json(profile())[:-200], "line"),
    "empty": (b"", ""),
    "an array": (b"[1, 2]", "object"),
    "a number": (b"7", "object"),
    "no personality": (b"{}", "/system/personality/name"),
    "personality is a list": (pan_json(profile(**{"/system/personality/name": ["x"]})), "name"),
    "personality is empty": (pan_json(profile("")), "/system/personality/name"),
    "newline in a value": (pan_json(profile("a\nb")), "/system/personality/name"),
    "NUL in a value": (pan_json(profile("a\0b")), "\\u0000"),
    "Packer would interpret it": (
        pan_json(profile('x{{env "OS_PASSWORD"}}')),
        "/system/personality/name",
    ),
    "over 255 bytes": (pan_json(profile("x" * 256)), "/system/personality/name"),
    "invalid UTF-8": (pan_json(profile("xyz")).replace(b"xyz", b"\xff\xfe"), "UTF-8"),
    "too deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "levels"),
    "key twice": (b'{"system": {}, "system": {}}', "twice"),
    "something behind": (pan_json(profile()) + b"x", "line"),
}


@pytest.mark.parametrize("what", POISON)
def test_poison_is_put_aside_with_the_reason(rabbit_site, what):
    body, word = POISON[what]
    worker = rabbit_site.worker()
    rabbit_site.vhost.publish(QUEUE, body, message_id="poison")
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")
    worker.wait_log(f"{QUEUE}.rejected")
    rejected, properties = rabbit_site.vhost.get(f"{QUEUE}.rejected")
    assert rejected == body
    assert word in properties.headers["x-packuilon-reason"]
    assert properties.message_id == "poison"
    assert properties.delivery_mode == 2
    rabbit_site.wait_queue_empty()
    assert len(rabbit_site.packer_runs()) == 1


def test_poison_in_the_local_queue(local_site):
    local_site.worker()
    local_site.publish(b"hello")
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    wait_for(lambda: local_site.queue_count(".rejected") == 1, "the poison is put aside")
    local_site.wait_queue_empty()


def test_huge_message_is_put_aside(rabbit_site):
    body = b'{"x": "' + b"y" * (20 * 1024 * 1024) + b'"}'
    worker = rabbit_site.worker()
    rabbit_site.vhost.publish(QUEUE, body)
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")
    worker.wait_log(f"{QUEUE}.rejected")
    assert len(rabbit_site.vhost.get(f"{QUEUE}.rejected")[0]) == len(body)


NASTY = [
    'quo"te',
    "apo's",
    "$NAME",
    "${IMAGE}",
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a b",
    "../../escape",
    "/etc/passwd",
    "back\\slash",
    "-var-file=x",
    "naïve-☃",
    "<b>&amp;</b>",
    "%s%n",
    "{{",
]


@pytest.mark.parametrize("personality", NASTY)
def test_nasty_values_land_as_they_are_or_not_at_all(local_site, personality):
    worker = local_site.worker()
    local_site.publish_profile(personality)
    local_site.publish_profile("after")
    local_site.wait_build(lambda build: build.personality == "after" and build.ended_ms)
    runs = [run for run in local_site.packer_runs() if "after" not in run.build_file_text]
    if runs:
        builder = runs[0].build_file["builders"][0]
        assert builder["image_name"] == f"{personality}-{OS_KEY}"
        assert builder["instance_metadata"]["AQ_PERSONALITY"] == personality
        assert builder["instance_metadata"]["AQ_ARCHETYPE"] == "cloud"
        assert runs[0].argv[-1].startswith(str(local_site.root / "build-files"))
        assert "/" not in runs[0].argv[-1][len(str(local_site.root / "build-files")) + 1 :]
    else:
        assert local_site.queue_count(".rejected") == 1
        assert "/system/personality/name" in worker.log()
    assert not list(local_site.root.rglob("pwned"))
    assert {log.parent for log in local_site.logs()} == {local_site.log_dir}


# ---- templates that cannot be used -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"builders": [ }', ["managed.json", "line 1"]),
        ('{\n "a": "$NAME" "b"\n}', ["managed.json", "line 2"]),
        ("", ["managed.json"]),
        ("\xff\xfe", ["managed.json"]),
    ],
)
def test_broken_template_fails_the_build_before_packer(local_site, text, words):
    (local_site.root / "managed.json").write_bytes(text.encode("latin1"))
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    for word in words:
        assert word in build.reason
    assert local_site.packer_runs() == []


def test_missing_template_fails_the_build(local_site):
    local_site.template_map({"DEFAULT": ["gone.json"]})
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert "gone.json" in build.reason
