"""packuilon and what all programs have in common on the command line."""

import gzip
import json
import os
import pty
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from rig.checks import check, fake_packer, words_of
from rig.processes import BIN_DIR
from rig.profiles import OS_KEY, pan_json, profile
from rig.site import SOURCE_IMAGE, USER
from rig.waiting import wait_for

PROGRAMS = ["cdb2rabbit", "rabbit2packer", "nova2aquilon", "packuilon"]
COMMANDS = ["status", "show", "log", "build", "cancel", "retry", "plan", "check", "registrations"]
IMAGE = f"nubesvms-{OS_KEY}"

BUILD_KEYS = {
    "id", "build_id", "state", "image", "template", "personality", "os", "source_image", "entry",
    "content_id", "message_id", "phase", "artifact", "reason", "log", "attempt", "queued_at",
    "started_at", "ended_at", "not_before", "pid", "exit_code", "changes",
}  # fmt: skip
ISO_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def build(site, personality="nubesvms", *, os_ver="8x", expect=0, **options):
    """packuilon build"""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return site.packuilon(
        "build", f"--personality={personality}", "--os=rocky", f"--os_ver={os_ver}", *arguments,
        expect=expect,
    )  # fmt: skip


def status(site, *arguments):
    return json.loads(site.packuilon("status", "--json", *arguments).out)


def work(site):
    """rabbit2packer until there is nothing more to do."""
    site.program("rabbit2packer", "-c", site.config_path, "--until-idle")


def on_terminal(site, *arguments, columns=None, env=None):
    """What packuilon writes to a terminal."""
    controller, terminal = pty.openpty()
    if columns:
        subprocess.run(["stty", "cols", str(columns)], stdin=terminal, check=True)
    process = subprocess.Popen(
        [BIN_DIR / "packuilon", *map(str, arguments), "-c", site.config_path],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.PIPE,
        env=site.environment(**{"TERM": "xterm", **(env or {})}),
    )  # fmt: skip
    os.close(terminal)
    out = b""
    try:
        while chunk := os.read(controller, 65536):
            out += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(controller)
    assert process.wait(20) == 0, process.stderr.read()
    process.stderr.close()
    return out.decode()


# ---- common to all -----------------------------------------------------------------------------


def every_command():
    return [[name] for name in PROGRAMS] + [["packuilon", command] for command in COMMANDS]


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_help(local_site, command):
    result = local_site.program(*command, "--help", env={})
    assert result.out.startswith(f"Usage: {' '.join(command)} ")
    for option in ["-c, --config=FILE", "-v, --verbose", "-h, --help", "--version"]:
        assert option in result.out
    assert max(map(len, result.out.splitlines())) <= 100
    assert not result.err


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_version(local_site, command):
    result = local_site.program(*command, "--version")
    assert re.fullmatch(rf"{' '.join(command)} \d+\.\d+\.\d+\n", result.out)


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_unknown_option(local_site, command):
    result = local_site.program(*command, "--no-such-option", expect=2)
    assert "--no-such-option" in result.err
    assert f"try '{' '.join(command)} --help'" in result.err


def test_usage_errors(local_site):
    for arguments, words in [
        ([], "which command?"),
        (["no-such"], "no such command: no-such"),
        (["show"], "missing argument: BUILD"),
        (["show", "1", "2"], "unexpected argument: 2"),
        (["status", "x"], "unexpected argument: x"),
        (["-c"], "requires an argument"),
        (["status", "--limit=many"], "--limit"),
        (["status", "--limit=-1"], "--limit"),
        (["status", "--state=happy"], "no state happy, only queued, building, "),
    ]:
        extra = ["-c", local_site.config_path] if arguments and arguments != ["-c"] else []
        result = local_site.program("packuilon", *extra, *arguments, expect=2)
        assert words in result.err, result
        assert "--help'" in result.err


@pytest.mark.parametrize("command", [["cdb2rabbit"], ["rabbit2packer"], ["packuilon", "status"]])
def test_configuration_errors(local_site, command):
    local_site.write_config("[global]\nQUEUE = a\nRABBIT_PORT = hare\n")
    result = local_site.program(*command, "-c", local_site.config_path, expect=2)
    assert f"{local_site.config_path}:3: [global] RABBIT_PORT" in result.err
    result = local_site.program(*command, "-c", "/no/such/file", expect=2)
    assert "/no/such/file" in result.err


def test_options_of_all_also_before_the_command(local_site):
    result = local_site.program("packuilon", "-c", local_site.config_path, "status")
    assert "No builds yet." in result.out


def test_warnings_of_the_configuration(local_site):
    local_site.set("rally-image-testing", ENABLED="yes")
    result = local_site.packuilon("status")
    assert re.search(r"config.ini:\d+: \[rally-image-testing\]", result.err)


def test_output_that_cannot_be_written(local_site):
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [BIN_DIR / "packuilon", "status", "-c", local_site.config_path],
            stdout=full, stderr=subprocess.PIPE, text=True, env=local_site.environment(),
        )  # fmt: skip
    assert process.returncode == 1
    assert "No space left" in process.stderr


# ---- status ------------------------------------------------------------------------------------


def test_status_of_nothing(local_site):
    result = local_site.packuilon("status")
    assert "No builds yet." in result.out
    document = status(local_site)
    assert document["builds"] == []
    assert document["queue"] == {
        "name": "build-queue", "transport": "local", "waiting": 0, "error": None
    }  # fmt: skip
    assert document["profiles"] == {"known": 0, "failing": []}
    assert not local_site.state_dir.exists(), "looking must not make anything"


def test_status_counts_what_waits(site):
    build(site)
    build(site)
    assert status(site)["queue"]["waiting"] == 2
    assert ": 2 waiting" in site.packuilon("status").out


def test_status_of_builds(site):
    build(site)
    work(site)
    build(site, os_ver="99")
    work(site)
    document = status(site)
    assert [each["state"] for each in document["builds"]] == ["skipped", "succeeded"]
    assert all(set(each) == BUILD_KEYS for each in document["builds"])
    good = document["builds"][1]
    assert (good["image"], good["os"], good["source_image"]) == (IMAGE, OS_KEY, SOURCE_IMAGE)
    assert good["exit_code"] == 0 and good["artifact"] and good["pid"] is None
    assert all(ISO_TIME.match(good[key]) for key in ["queued_at", "started_at", "ended_at"])
    assert good["changes"] == ["asked for by hand (packuilon build)"]
    assert document["builds"][0]["started_at"] is None

    lines = site.packuilon("status").out.splitlines()
    title = next(n for n, line in enumerate(lines) if line.startswith("ID"))
    assert lines[title].split() == "ID STATE IMAGE TEMPLATE QUEUED TOOK DETAIL".split()
    assert re.match(rf" *1 +succeeded +{IMAGE} +managed +", lines[title + 2])
    assert "\033" not in "".join(lines)


def test_status_filters(local_site):
    build(local_site)
    build(local_site, "other")
    build(local_site, os_ver="99")
    work(local_site)

    def ids(*arguments):
        return [each["id"] for each in status(local_site, *arguments)["builds"]]

    assert len(ids()) == 3
    assert len(ids("--limit=2")) == 2
    assert ids("--limit=0") == []
    assert len(ids(f"--image={IMAGE}")) == 1
    assert len(ids("--state=succeeded")) == 2
    assert len(ids("--state=succeeded", "-n", "1")) == 1
    assert ids("--state=failed") == []
    assert "No builds of that kind." in local_site.packuilon("status", "-s", "failed").out


def test_status_shows_what_runs_first_and_what_waits_in_turn(local_site):
    local_site.set("rabbit2packer", THREAD_COUNT=1)
    build(local_site, "done")
    work(local_site)
    local_site.template("managed", "launch", f"wait {local_site.root}/go", "succeed")
    worker = local_site.worker()
    build(local_site, "runs")
    local_site.wait_packer(2)
    running = wait_for(
        lambda: [b for b in status(local_site)["builds"] if b["state"] == "building"],
        "a running build",
    )
    assert running[0]["personality"] == "runs"
    assert running[0]["pid"] and running[0]["ended_at"] is None
    states = [each["state"] for each in status(local_site)["builds"]]
    assert states == ["building", "succeeded"]
    wait_for(lambda: status(local_site)["builds"][0]["phase"], "a phase")
    phase = status(local_site)["builds"][0]["phase"]
    assert re.search(rf"building +runs-{OS_KEY} .*{phase}", local_site.packuilon("status").out)
    (local_site.root / "go").touch()
    local_site.wait_state("succeeded", 2)
    worker.signal(signal.SIGTERM)
    worker.wait(10)


def test_status_of_another_attempt(local_site):
    local_site.set("rabbit2packer", RETRY_SECONDS=3600)
    local_site.template("managed", "launch", "fail Quota exceeded for instances")
    worker = local_site.worker()
    build(local_site)
    local_site.wait_state("queued")
    out = local_site.packuilon("status").out
    assert re.search(rf" 2 +queued +{IMAGE} .* attempt 2 in (\d+h )?\d+m", out), out
    assert ISO_TIME.match(status(local_site, "--state=queued")["builds"][0]["not_before"])
    assert re.search(r"^Not before +\d{4}-", local_site.packuilon("show", "2").out, re.M)
    worker.signal(signal.SIGTERM)
    worker.wait(10)


def test_ages_and_durations(local_site):
    """Of builds that take longer than tests do: their rows are written here."""
    for _ in range(5):
        build(local_site)
        work(local_site)
    now = int(time.time() * 1000)
    minute, hour, day = 60_000, 3_600_000, 86_400_000
    with sqlite3.connect(local_site.state_dir / "builds.db") as database:
        for number, (age, took) in enumerate(
            [
                (3 * day + 5 * hour, 2 * day + 4 * hour),
                (20 * hour, 3 * hour + 7 * minute),
                (2 * hour, 12 * minute + 5_000),
                (30 * minute, 38_000),
                (minute, 400),
            ],
            start=1,
        ):
            database.execute(
                "UPDATE build SET queued_ms = ?, started_ms = ?, ended_ms = ?, image = ? WHERE id = ?",
                (now - age, now - age, now - age + took, f"image-{number}", number),
            )
    out = local_site.packuilon("status").out
    for number, words in [
        (1, "3d 05h ago +2d 04h"),
        (2, "20h 00m ago +3h 07m"),
        (3, "2h 00m ago +12m 05s"),
        (4, "30m 0.s ago +38s"),
        (5, "1m 0.s ago +0.4s"),
    ]:
        assert re.search(rf"image-{number} +managed +{words}", out), out
    assert re.search(r"^Took +12m 05s$", local_site.packuilon("show", "3").out, re.M)


def test_text_that_is_not_utf8(local_site):
    build(local_site)
    work(local_site)
    with sqlite3.connect(local_site.state_dir / "builds.db") as database:
        database.execute("UPDATE build SET reason = CAST(x'ff41' AS TEXT)")
    assert status(local_site)["builds"][0]["reason"] == "\\xffA"


def test_status_on_a_terminal(local_site):
    build(local_site)
    work(local_site)
    assert "\033[32msucceeded\033[0m" in on_terminal(local_site, "status")
    assert "\033[32msucceeded\033[0m" in on_terminal(local_site, "show", "1")
    assert "\033" not in on_terminal(local_site, "status", env={"TERM": "dumb"})
    assert "\033" not in on_terminal(local_site, "status", env={"NO_COLOR": "1"})
    narrow = on_terminal(local_site, "status", columns=80, env={"NO_COLOR": "1"})
    assert max(len(line) for line in narrow.splitlines()) <= 80
    wide = on_terminal(local_site, "status", columns=300, env={"NO_COLOR": "1"})
    assert "…" not in wide


def test_status_without_broker(local_site):
    build(local_site)
    work(local_site)
    local_site.set("global", TRANSPORT="amqp", RABBIT_HOST="127.0.0.1", RABBIT_PORT=1)
    result = local_site.packuilon("status", expect=1)
    assert "127.0.0.1" in result.err
    assert "succeeded" in result.out, "the builds are shown all the same"
    document = json.loads(local_site.packuilon("status", "--json", expect=1).out)
    assert document["queue"]["waiting"] is None
    assert "127.0.0.1" in document["queue"]["error"]


def test_status_names_profiles_that_fail(local_site):
    local_site.profiles.add("good.cloud.template.json", profile())
    local_site.scan()
    local_site.profiles.add("bad.cloud.template.json", b"{")
    local_site.scan(expect=1)
    document = status(local_site)["profiles"]
    assert document["known"] == 2
    assert [each["entry"] for each in document["failing"]] == ["bad.cloud.template.json"]
    result = local_site.packuilon("status")
    assert "2 known, 1 to be tried again" in result.out
    assert re.search(r"  bad\.cloud\.template\.json: .+", result.out)
    for number in range(9):
        local_site.profiles.add(f"bad-{number}.cloud.template.json", b"{")
    local_site.scan(expect=1)
    assert "and 5 more" in local_site.packuilon("status").out
    assert len(status(local_site)["profiles"]["failing"]) == 10


# ---- show --------------------------------------------------------------------------------------


def test_show(local_site):
    name = "rocky.cloud.template.json"
    local_site.profiles.add(name, profile())
    local_site.scan()
    local_site.profiles.change(name, "software/packages/nginx", {})
    local_site.scan()
    work(local_site)
    result = local_site.packuilon("show", "1")
    assert re.search(r"^State +succeeded$", result.out, re.M)
    assert re.search(rf"^Image +{IMAGE}$", result.out, re.M)
    assert re.search(rf"^Profile +{name}$", result.out, re.M)
    assert re.search(r"^Because of\n  added /software/packages/nginx", result.out, re.M)
    assert re.search(r"^History\n.*queued\n.*building\n(.*\n)*.*succeeded", result.out, re.M)
    by_name = local_site.packuilon("show", IMAGE)
    assert by_name.out == result.out

    document = json.loads(local_site.packuilon("show", "1", "--json").out)
    assert set(document) == BUILD_KEYS | {"history"}
    assert document["changes"][0].startswith("added /software/packages/nginx")
    whats = [event["what"] for event in document["history"] if event["what"] != "phase"]
    assert whats == ["queued", "building", "succeeded"]
    assert all(ISO_TIME.match(event["at"]) for event in document["history"])


def test_show_takes_the_newest_build_of_an_image(local_site):
    build(local_site)
    work(local_site)
    build(local_site)
    work(local_site)
    assert json.loads(local_site.packuilon("show", IMAGE, "--json").out)["id"] == 2


def test_show_of_what_failed(local_site):
    local_site.template("managed", "launch", "fail No valid host was found")
    local_site.set("rabbit2packer", MAX_ATTEMPTS=1)
    build(local_site)
    work(local_site)
    result = local_site.packuilon("show", "1")
    assert re.search(r"^State +failed$", result.out, re.M)
    assert re.search(r"^Reason +.*No valid host", result.out, re.M)
    assert re.search(r"^Exit code +1$", result.out, re.M)


@pytest.mark.parametrize("command", ["show", "log", "cancel"])
def test_unknown_build(local_site, command):
    for _ in range(2):
        result = local_site.packuilon(command, "7", expect=1)
        assert "no build" in result.err and "7" in result.err
        build(local_site)
        work(local_site)
    local_site.packuilon(command, "no-such-image", expect=1)


# ---- log ---------------------------------------------------------------------------------------


def test_log(local_site):
    build(local_site)
    work(local_site)
    (log,) = local_site.logs()
    assert local_site.packuilon("log", "1").out == log.read_text()
    assert local_site.packuilon("log", IMAGE).out == log.read_text()
    log.unlink()
    assert "is gone" in local_site.packuilon("log", "1", expect=1).err


def test_log_of_a_build_without_one(local_site):
    build(local_site, os_ver="99")
    work(local_site)
    assert "has no log" in local_site.packuilon("log", "1", expect=1).err


def test_log_follows_to_the_end(local_site):
    go = local_site.root / "go"
    local_site.template("managed", "launch", "say first-part", f"wait {go}", "say last-part")
    worker = local_site.worker()
    build(local_site)
    local_site.wait_packer()
    local_site.wait_state("building")
    follower = subprocess.Popen(
        [BIN_DIR / "packuilon", "log", "-f", "1", "-c", local_site.config_path],
        stdout=subprocess.PIPE, env=local_site.environment(),
    )  # fmt: skip
    seen = b""
    while b"first-part" not in seen:
        line = follower.stdout.readline()
        assert line, "the follower has ended too early"
        seen += line
    assert follower.poll() is None and b"last-part" not in seen
    go.touch()
    rest, _ = follower.communicate(timeout=20)
    assert follower.returncode == 0
    (log,) = local_site.logs()
    assert seen + rest == log.read_bytes()
    assert b"Build finished at" in rest
    worker.signal(signal.SIGTERM)
    worker.wait(10)


def test_log_waits_for_the_start(local_site):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "say the-end")
    worker = local_site.worker()
    build(local_site)
    local_site.wait_state("building")
    build(local_site)  # of the same image: it waits for the first
    local_site.wait_state("queued")
    assert "-f waits for it" in local_site.packuilon("log", "2", expect=1).err
    follower = subprocess.Popen(
        [BIN_DIR / "packuilon", "log", "-f", "2", "-c", local_site.config_path],
        stdout=subprocess.PIPE, env=local_site.environment(),
    )  # fmt: skip
    go.touch()
    out, _ = follower.communicate(timeout=20)
    assert follower.returncode == 0
    log = json.loads(local_site.packuilon("show", "2", "--json").out)["log"]
    assert out.decode() == Path(log).read_text() and b"the-end" in out
    worker.signal(signal.SIGTERM)
    worker.wait(10)


def test_log_keeps_escape_sequences_from_the_terminal(local_site):
    local_site.template("managed", "launch", "say \033]0;title\007", "succeed")
    build(local_site)
    work(local_site)
    assert "\033]0;title" in local_site.packuilon("log", "1").out
    shown = on_terminal(local_site, "log", "1")
    assert "\033" not in shown and "\\x1b]0;title" in shown


def test_a_guests_words_keep_from_driving_the_terminal(local_site):
    local_site.template("managed", "launch", "fail \033[31mred")
    local_site.set("rabbit2packer", MAX_ATTEMPTS=1)
    build(local_site)
    work(local_site)
    for command in (["status"], ["show", "1"]):
        result = local_site.packuilon(*command)
        assert "red" in result.out and "\033" not in result.out


# ---- build -------------------------------------------------------------------------------------


def test_build_defaults_are_upstreams(site):
    site.source_images({"sl7x-x86_64": SOURCE_IMAGE})
    site.packuilon("build", "--personality", "image-factory")
    work(site)
    (run,) = site.packer_runs()
    (builder,) = run.build_file["builders"]
    metadata = builder["instance_metadata"]
    assert builder["image_name"] == "image-factory-sl7x-x86_64"
    assert metadata.pop("PACKUILON_BUILD_ID") == status(site)["builds"][0]["build_id"]
    assert metadata == {
        "AQ_PERSONALITY": "image-factory", "AQ_ARCHETYPE": "ral-tier1", "AQ_OS": "sl",
        "AQ_OSVERSION": "7x-x86_64", "AQ_DOMAIN": "prod",
    } | {"AQ_OSVERSION": metadata["AQ_OSVERSION"]}  # fmt: skip
    assert metadata["AQ_OSVERSION"].startswith("7x")


def test_build_takes_upstreams_options(site):
    build(site, archetype="cloud", arch="aarch64", sandbox="jbloggs/test", expect=0)
    site.source_images({"rocky8x-aarch64": SOURCE_IMAGE})
    work(site)
    (run,) = site.packer_runs()
    metadata = run.build_file["builders"][0]["instance_metadata"]
    assert metadata["AQ_ARCHETYPE"] == "cloud"
    assert metadata["AQ_SANDBOX"] == "jbloggs/test"
    assert "AQ_DOMAIN" not in metadata


def test_build_sends_upstreams_message(rabbit_site):
    result = build(rabbit_site, domain="test")
    body, properties = rabbit_site.vhost.get("build-queue")
    assert json.loads(body) == {
        "metadata": {"template": {"branch": {"name": "test", "type": "domain"}}},
        "system": {
            "archetype": {"name": "ral-tier1"},
            "os": {
                "architecture": "x86_64",
                "distribution": {"name": "rocky"},
                "version": {"name": "8x"},
            },
            "personality": {"name": "nubesvms"},
        },
    }
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.message_id in result.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "--personality is missing"),
        (["--personality=x", "--domain=a", "--sandbox=b/c"], "exclude each other"),
        (["--personality=x", "--sandbox=noslash"], "noslash"),
        (["--personality="], "personality"),
        (["--personality=a\nb"], "personality"),
        (["--personality=x", "y"], "unexpected argument: y"),
    ],
)
def test_build_refuses(local_site, arguments, words):
    result = local_site.packuilon("build", *arguments, expect=2)
    assert words in result.err
    assert status(local_site)["queue"]["waiting"] == 0


def test_build_without_broker(local_site):
    local_site.set("global", TRANSPORT="amqp", RABBIT_HOST="127.0.0.1", RABBIT_PORT=1)
    result = build(local_site, expect=1)
    assert "nothing was queued" in result.err and "127.0.0.1" in result.err


# ---- cancel ------------------------------------------------------------------------------------


def test_cancel(local_site):
    local_site.set("rabbit2packer", THREAD_COUNT=1)
    local_site.template("managed", "launch", "hang")
    worker = local_site.worker()
    build(local_site, "runs")
    local_site.wait_packer()
    local_site.wait_state("building")
    result = local_site.packuilon("cancel", "1")
    assert f"build 1 (runs-{OS_KEY}, building)" in result.out
    local_site.wait_state("cancelled")
    shown = json.loads(local_site.packuilon("show", "1", "--json").out)
    assert shown["reason"] == f"cancelled by {pwd.getpwuid(os.getuid()).pw_name}"
    result = local_site.packuilon("cancel", "1", expect=1)
    assert "build 1 (cancelled) is over" in result.err
    worker.signal(signal.SIGTERM)
    worker.wait(10)


def test_cancel_of_several_stops_at_the_first_fault(local_site):
    local_site.set("rabbit2packer", THREAD_COUNT=2)
    local_site.template("managed", "launch", "hang")
    worker = local_site.worker()
    for personality in ("one", "two"):
        build(local_site, personality)
    local_site.wait_state("building", 2)
    result = local_site.packuilon("cancel", f"one-{OS_KEY}", "77", f"two-{OS_KEY}", expect=1)
    assert "77" in result.err
    (cancelled,) = local_site.wait_state("cancelled")
    assert cancelled.personality == "one"
    local_site.packuilon("cancel", f"two-{OS_KEY}")
    local_site.wait_state("cancelled", 2)
    worker.signal(signal.SIGTERM)
    worker.wait(10)


# ---- plan --------------------------------------------------------------------------------------


def plan(site, *arguments, expect=0):
    return json.loads(site.packuilon("plan", "--json", *arguments, expect=expect).out)


@pytest.fixture
def entry(local_site):
    name = "rocky.cloud.template.json"
    local_site.profiles.add(name, profile())
    return name


def test_plan_of_an_entry(local_site, entry):
    result = local_site.packuilon("plan", entry)
    assert f"{entry}: would be built by 1 template" in result.out
    for words in [IMAGE, SOURCE_IMAGE, "nubesvms", "/system/personality/name", "managed.json"]:
        assert words in result.out
    (document,) = plan(local_site, entry)
    assert document["verdict"] == "build" and document["image"] == IMAGE
    assert document["source_image"] == SOURCE_IMAGE and document["domain"] == "prod"
    assert [each["error"] for each in document["builds"]] == [None]
    assert not local_site.state_dir.exists(), "a plan has no effects"


def test_plan_of_files(local_site, tmp_path):
    plain, packed = tmp_path / "a.json", tmp_path / "b.json.gz"
    plain.write_bytes(pan_json(profile("one")))
    packed.write_bytes(gzip.compress(pan_json(profile("two"))))
    documents = plan(local_site, plain, packed)
    assert [each["personality"] for each in documents] == ["one", "two"]


def test_plan_says_why_not(local_site, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(pan_json(profile(**{"system/os/version/name": "99",
                                         "system/archetype/model": "99"})))  # fmt: skip
    result = local_site.packuilon("plan", path)
    assert "would be skipped: no source image for rocky99-x86_64" in result.out
    path.write_bytes(pan_json(profile("{{env `HOME`}}")))
    result = local_site.packuilon("plan", path, expect=1)
    assert "would be rejected:" in result.out and "personality" in result.out
    path.write_bytes(b"{")
    result = local_site.packuilon("plan", path, expect=1)
    assert "would be rejected:" in result.out
    result = local_site.packuilon("plan", tmp_path / "none.json", expect=1)
    assert "none.json" in result.err
    result = local_site.packuilon("plan", "../config.ini", expect=1)
    assert "config.ini" in result.err


def test_plan_renders_what_packer_gets(local_site, entry):
    (document,) = plan(local_site, entry, "--render")
    planned = document["builds"][0]["build_file"]
    local_site.scan()
    local_site.profiles.change(entry, "software/packages/nginx", {})
    local_site.scan()
    work(local_site)
    (run,) = local_site.packer_runs()
    real = run.build_file
    for file in (planned, real):
        file["builders"][0]["instance_metadata"].pop("PACKUILON_BUILD_ID")
    assert planned == real
    text = local_site.packuilon("plan", "--render", entry).out
    assert f'| ' in text and f'"image_name": "{IMAGE}"' in text


def test_plan_says_what_changed_since_the_last_scan(local_site, entry):
    assert plan(local_site, entry)[0]["scan"] is None
    local_site.scan()
    assert plan(local_site, entry)[0]["scan"] == "unchanged"
    local_site.profiles.change(entry, "software/packages/nginx", {})
    (document,) = plan(local_site, entry)
    assert document["scan"] == "changed"
    assert document["changes"][0].startswith("added /software/packages/nginx")
    assert "added /software/packages/nginx" in local_site.packuilon("plan", entry).out
    local_site.profiles.add("new.cloud.template.json", profile("new"))
    assert plan(local_site, "new.cloud.template.json")[0]["scan"] == "added"
    local_site.scan()
    assert plan(local_site, entry)[0]["scan"] == "unchanged", "a plan remembers nothing"


def test_plan_with_an_hcl2_template(local_site, entry):
    (local_site.root / "modern.pkr.hcl").write_text(
        'variable "name" {\n  type = string\n}\nvariable "metadata" {\n  type = map(string)\n}\n'
    )
    local_site.template_map({"DEFAULT": ["managed.json", "modern.pkr.hcl"]})
    (document,) = plan(local_site, entry, "--render")
    assert document["builds"][1]["variables"]["name"] == IMAGE
    assert document["builds"][1]["variables"]["metadata"]["AQ_PERSONALITY"] == "nubesvms"
    out = local_site.packuilon("plan", entry, "--render").out
    assert "would be built by 2 templates" in out and "is used in place" in out


def test_plan_without_a_profile_folder(local_site):
    local_site.set("cdb2rabbit", PROFILE_DIR_URL=None)
    result = local_site.packuilon("plan", "some.json", expect=1)
    assert "PROFILE_DIR_URL" in result.err


def test_plan_of_a_damaged_file(local_site, tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(pan_json(profile()))[:50])
    assert "a.json.gz" in local_site.packuilon("plan", path, expect=1).err
    path.write_bytes(b"")
    assert "would be rejected" in local_site.packuilon("plan", path, expect=1).out


def test_plan_of_a_broken_template(local_site, entry):
    local_site.template("managed", text="{ nonsense $NAME")
    result = local_site.packuilon("plan", entry, expect=1)
    assert re.search(r"cannot be used: .*managed\.json", result.out)


# ---- check -------------------------------------------------------------------------------------


@pytest.fixture
def real_site(local_site):
    local_site.use_real_packer()
    local_site.file_template("managed")
    local_site.profiles.add("rocky.cloud.template.json", profile())
    return local_site


def test_check_of_a_good_site(real_site):
    lines = check(real_site)
    assert {word for each in lines.values() for word, _ in each} <= {"ok", "warn"}
    assert lines["packer"][0][1].startswith("Packer v")
    assert words_of(lines, "openstack builder") == ["ok"]
    assert "selects 1 of 1" in lines["profile index"][0][1]
    assert words_of(lines, "template") == ["ok"]
    assert words_of(lines, "auth file") == ["warn"]
    assert not real_site.state_dir.exists(), "a check makes nothing"


def test_check_of_a_site_with_broker(rabbit_site):
    rabbit_site.use_real_packer()
    rabbit_site.file_template("managed")
    rabbit_site.profiles.add("rocky.cloud.template.json", profile())
    lines = check(rabbit_site)
    assert words_of(lines, "broker") == ["ok"]
    for values, words in [({"RABBIT_PW": "wrong"}, USER), ({"RABBIT_VHOST": "gone"}, "gone")]:
        before = dict(rabbit_site.config["global"])
        rabbit_site.set("global", **values)
        lines = check(rabbit_site, expect=1)
        assert words_of(lines, "broker") == ["FAIL"]
        assert words in lines["broker"][0][1]
        rabbit_site.config["global"] = before


def break_index(site):
    site.set("cdb2rabbit", PROFILE_INFO_URL=f"file://{site.root}/none.xml")


def stop_web_server(site):
    site.set("cdb2rabbit", PROFILE_INFO_URL="http://127.0.0.1:1/profiles-info.xml")


def break_index_text(site):
    site.profiles.write_index("<html>It works!</html>")


def break_queue(site):
    site.set("global", TRANSPORT="amqp", RABBIT_HOST="127.0.0.1", RABBIT_PORT=1)


def break_images(site):
    site.source_images("{")


def break_map(site):
    site.template_map('{"DEFAULT": 7}')


def break_template(site):
    site.template("managed", text='{"builders": [ $NAME ]}')


def break_template_for_packer(site):
    site.template("managed", text='{"builders": [{"type": "no-such-builder"}]}')


def remove_template(site):
    (site.root / "managed.json").unlink()


def break_packer(site):
    site.set("rabbit2packer", PACKER_PATH="/no/such/packer")


def wrong_packer(site):
    site.set("rabbit2packer", PACKER_PATH="/bin/echo")


def long_state_dir(site):
    site.set("global", STATE_DIR="/tmp/" + 80 * "x")


def file_for_folder(site):
    (site.root / "logs").write_text("a file")


def break_auth(site):
    site.set("rabbit2packer", PACKER_AUTH_FILE=site.root / "none.sh")


def break_state(site):
    site.state_dir.mkdir()
    (site.state_dir / "builds.db").write_text("this is no database, but it is long enough" * 99)


@pytest.mark.parametrize(
    "breaker, what, words",
    [
        (break_index, "profile index", "none.xml"),
        (stop_web_server, "profile index", "127.0.0.1"),
        (break_index_text, "profile index", "profiles-info.xml"),
        (break_queue, "broker", "127.0.0.1"),
        (break_images, "source images", "source-images.json"),
        (break_map, "template map", "template-map.json"),
        (break_template, "template", "managed.json"),
        (break_template_for_packer, "template", "no-such-builder"),
        (remove_template, "template map", "managed.json"),
        (break_packer, "packer", "PACKER_PATH"),
        (wrong_packer, "packer", "PACKER_PATH"),
        (long_state_dir, "STATE_DIR", "shorter"),
        (file_for_folder, "LOG_DIR", "not a folder"),
        (break_auth, "auth file", "none.sh"),
        (break_state, "builds.db", "builds.db"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_check_finds(real_site, breaker, what, words):
    breaker(real_site)
    lines = check(real_site, expect=None)
    shutil.rmtree(real_site.state_dir, ignore_errors=True)  # what is broken hinders the rig, too
    assert "FAIL" in words_of(lines, what)
    assert any(words in text for word, text in lines[what] if word == "FAIL"), lines[what]
    others = {key for key, value in lines.items() if any(word == "FAIL" for word, _ in value)}
    assert others - {"local queue"} == {what}, "one fault, one line"


def test_check_tries_the_credentials(real_site):
    real_site.openrc(
        OS_AUTH_URL="http://127.0.0.1:1/v3", OS_PASSWORD="geheim-geheim", OS_PROJECT_NAME="p",
        OS_USER_DOMAIN_NAME="Default", OS_PROJECT_DOMAIN_NAME="Default",
    )  # fmt: skip
    lines = check(real_site, expect=1)
    assert words_of(lines, "auth file") == ["ok"]
    assert words_of(lines, "openstack login") == ["FAIL"]
    assert "127.0.0.1:1" in lines["openstack login"][0][1]
    assert "geheim-geheim" not in str(lines)


def test_check_warns(real_site):
    real_site.openrc(OS_PASSWORD="geheim-geheim")
    (real_site.root / "openrc.sh").chmod(0o644)
    real_site.set("rally-image-testing", ENABLED="yes")
    real_site.source_images({})
    real_site.set("cdb2rabbit", PROFILE_MATCH=".no.such.name")
    lines = check(real_site, expect=1)
    assert "warn" in words_of(lines, "auth file")
    assert "warn" in words_of(lines, "configuration")
    assert words_of(lines, "source images") == ["warn"]
    assert words_of(lines, "profile index") == ["warn"]


def test_check_finds_what_is_still_the_samples(real_site):
    real_site.source_images({"rocky": {"8x-x86_64": "REPLACE-WITH-THE-ID-OF-A-ROCKY-8-IMAGE"}})
    path = real_site.root / "managed.json"
    path.write_text(path.read_text().replace("$IMAGE", "$IMAGE REPLACE-WITH-SOMETHING"))
    lines = check(real_site)
    for what in ("source images", "template"):
        assert words_of(lines, what) == ["ok", "warn"]
        assert "REPLACE-WITH" in lines[what][1][1]


def test_check_of_half_a_site(real_site):
    del real_site.config["cdb2rabbit"]
    real_site.write_config()
    assert words_of(check(real_site), "cdb2rabbit") == ["warn"]
    del real_site.config["rabbit2packer"]
    real_site.write_config()
    assert words_of(check(real_site), "rabbit2packer") == ["warn"]


def test_check_of_a_packer_without_openstack(real_site):
    words = "Error: The builder openstack is unknown by Packer, and is likely part of a plugin"
    fake_packer(
        real_site,
        validate=f"grep -q openstack $2 || exit 0; echo '{words}'; exit 1",
    )
    lines = check(real_site)
    assert words_of(lines, "openstack builder") == ["warn"]
    assert "plugins install" in lines["openstack builder"][0][1]
    real_site.openrc()
    lines = check(real_site, expect=1)
    assert words_of(lines, "openstack builder") == ["FAIL"]
    assert "openstack login" not in lines


def test_check_of_a_strange_packer(real_site):
    fake_packer(real_site, validate="echo a strange fault $(seq 1000); exit 1")
    lines = check(real_site, expect=1)
    assert words_of(lines, "openstack builder") == ["FAIL"]
    assert "a strange fault" in lines["openstack builder"][0][1]
    assert words_of(lines, "template") == ["FAIL"]
    assert all(len(text) < 700 for _, text in lines["template"])


def test_check_of_a_login_that_works(real_site):
    fake_packer(
        real_site,
        validate='test -n "$OS_AUTH_URL" || '
        '{ echo "1 error(s) occurred: * Missing input for argument [auth_url]"; exit 1; }',
    )
    real_site.openrc()
    lines = check(real_site)
    assert words_of(lines, "openstack builder") == ["ok"]
    assert words_of(lines, "openstack login") == ["ok"]


def test_check_without_a_map(real_site):
    real_site.set(
        "rabbit2packer", PACKER_TEMPLATE_MAP=None, PACKER_TEMPLATE=real_site.root / "managed.json"
    )
    lines = check(real_site)
    assert words_of(lines, "template") == ["ok"]
    real_site.set("rabbit2packer", PACKER_TEMPLATE=None, PACKER_TEMPLATE_MAP="template-map.json")
    real_site.template_map({})
    assert words_of(check(real_site), "template map") == ["warn"]


def test_check_of_several_templates(real_site):
    real_site.file_template("other")
    real_site.template_map({"DEFAULT": ["managed.json", "other.json"], "x": "other.json"})
    lines = check(real_site)
    assert words_of(lines, "template") == ["ok", "ok"], "each once"


def test_check_of_a_site_half_configured(real_site):
    real_site.set("cdb2rabbit", PROFILE_INFO_URL=None)
    real_site.set("rabbit2packer", IMAGES_CONFIG=None)
    lines = check(real_site, expect=1)
    assert "PROFILE_INFO_URL" in lines["cdb2rabbit"][0][1]
    assert "IMAGES_CONFIG" in lines["rabbit2packer"][0][1]


def test_check_of_an_index_with_bad_entries(real_site):
    entries = ["../evil.cloud.template.json", "rocky.cloud.template.json"]
    lines = [f"<profile mtime='1'>{entry}</profile>" for entry in entries]
    real_site.profiles.write_index("\n".join(["<profiles>", *lines, "</profiles>"]))
    found = check(real_site)["profile index"]
    assert [word for word, _ in found] == ["warn", "ok"]
    assert "evil" in found[0][1] or "line 2" in found[0][1] or "1 entries" in found[0][1]


def test_check_after_the_first_build(real_site):
    build(real_site)
    work(real_site)
    build(real_site)
    lines = check(real_site)
    assert lines["local queue"] == [("ok", "queue build-queue, 1 waiting")]
    assert words_of(lines, "LOG_DIR") == ["ok"]
    assert lines["LOG_DIR"][0][1] == str(real_site.log_dir)


def check_as_nobody(site, **env):
    """packuilon check as a user who may read the site, and no more."""
    for folder in [site.root, *site.root.parents[:-1]]:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    counts = site.root / "coverage"  # where a build for coverage may write
    counts.mkdir()
    counts.chmod(0o777)
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         BIN_DIR / "packuilon", "check", "-c", site.config_path],
        env={**site.environment(), "TMPDIR": "/tmp", "GCOV_PREFIX": str(counts), **env},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_check_as_another_user(real_site):
    locked = real_site.root / "locked"
    locked.mkdir(mode=0o700)
    real_site.set("global", STATE_DIR=locked / "state")
    real_site.set("rabbit2packer", LOG_DIR=locked)
    result = check_as_nobody(real_site)
    assert result.returncode == 1, result
    assert re.search(r"^FAIL +LOG_DIR: .* cannot be used by this user", result.stdout, re.M), result
    assert re.search(r"^FAIL +STATE_DIR: ", result.stdout, re.M), result


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_check_with_a_home_of_somebody_else(real_site):
    home = real_site.root / "home"
    home.mkdir(mode=0o700)
    result = check_as_nobody(real_site, HOME=str(home))
    assert re.search(rf"^FAIL +packer: .*HOME \({home}\)", result.stdout, re.M), result
