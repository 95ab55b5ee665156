"""The units: that they say of the programs what is true, and that the programs do under them what
they do otherwise. No service manager runs here; its part is played."""

import configparser
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from rig.processes import BIN_DIR, REPOSITORY, Daemon
from rig.profiles import OS_KEY, profile
from rig.waiting import SLOWNESS, wait_for

UNITS = ["rabbit2packer", "cdb2rabbit", "cdb2rabbit-scan", "nova2aquilon"]
SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def unit(name):
    path = BIN_DIR / "data" / f"{name}.service"
    if not path.exists():
        pytest.skip("no units built")
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(path)
    return parser["Service"]


def seconds(text):
    number, of = re.fullmatch(r"(\d+)\s*(\w*)", text).groups()
    return int(number) * SECONDS[of]


def default_of(key):
    """As the sample configuration shows it."""
    text = (REPOSITORY / "data/config.ini").read_text()
    return re.search(rf"^#?{key} = (.*)$", text, re.M)[1]


# ---- what the units say ----------------------------------------------------------------------


def test_worker_has_time_to_stop():
    """First the drain, then the clean-up of builds that did not end, each within TimeoutStopSec."""
    service = unit("rabbit2packer")
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed", "TERM goes to the worker alone"
    assert service["FinalKillSignal"] == "SIGTERM", "a KILL would leave servers behind"
    assert seconds(service["TimeoutStopSec"]) >= seconds(default_of("STOP_GRACE")) + 60
    assert "HUP" in service["ExecReload"]
    assert "SendSIGKILL" not in service or service["SendSIGKILL"] == "yes"


@pytest.mark.parametrize("name", UNITS)
def test_unit_keeps_to_itself(name):
    service = unit(name)
    assert service["User"] == service["Group"] == "packuilon"
    assert f"u {service['User']} " in (REPOSITORY / "data/systemd/packuilon.sysusers").read_text()
    assert service["UMask"] == "0027"
    assert service["StateDirectory"] == "packuilon"
    assert default_of("STATE_DIR") == f"/var/lib/{service['StateDirectory']}"
    assert service["StateDirectoryMode"] == "0750"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    if "LogsDirectory" in service:
        assert service["LogsDirectoryMode"] == "0750"
        assert default_of("LOG_DIR") == f"/var/log/{service['LogsDirectory']}"


@pytest.mark.parametrize("name", UNITS)
def test_unit_exposes_little(name, tmp_path):
    """By systemd's own measure."""
    analyze = shutil.which("systemd-analyze")
    text = "\n".join(f"{key}={value}" for key, value in unit(name).items() if key != "ExecStart")
    path = tmp_path / f"{name}.service"
    path.write_text(f"[Service]\nExecStart=/bin/true\n{text}\n")
    command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=50", path]
    if not analyze or b"--offline" not in subprocess.check_output([analyze, "--help"]):
        pytest.skip("no systemd-analyze that reads files")
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-300:] + result.stderr


@pytest.mark.parametrize("name", ["rabbit2packer", "cdb2rabbit", "nova2aquilon"])
def test_no_restart_for_a_configuration_that_is_wrong(local_site, name):
    local_site.write_config("[global]\nTRANSPORT = pigeon\n")
    result = local_site.program(name, "-c", local_site.config_path, expect=None)
    assert str(result.code) == unit(name)["RestartPreventExitStatus"]


# ---- what the programs say -------------------------------------------------------------------


def watched(site, name, *arguments, usec=1_000_000):
    environment = site.environment()
    environment["WATCHDOG_USEC"] = str(usec)
    site.environment = lambda **extra: {**environment, **extra}
    return site.daemon(name, *arguments)


def feedings(daemon):
    return daemon.notified.count("WATCHDOG=1")


def test_worker_feeds_the_watchdog(local_site):
    """Idle as well as with a Packer that never stops talking, who knows nothing of it."""
    local_site.set("rabbit2packer", MAX_LOG_BYTES=100_000)
    go = local_site.root / "go"
    local_site.template("managed", f"wait {go}", "flood 200000000", "succeed")
    worker = watched(local_site, "rabbit2packer")
    wait_for(lambda: feedings(worker) >= 3, "it is fed while nothing happens")
    local_site.publish_profile()
    (packer,) = local_site.wait_packer()
    assert "WATCHDOG_USEC" not in packer.env and "NOTIFY_SOCKET" not in packer.env
    go.touch()
    local_site.wait_state("succeeded")
    before = feedings(worker)
    wait_for(lambda: feedings(worker) > before, "and afterwards")


def test_listener_feeds_the_watchdog(local_site):
    local_site.profiles.write_index()
    local_site.set("cdb2rabbit", CDP_LISTEN="127.0.0.1:0")
    listener = watched(local_site, "cdb2rabbit", "--listen")
    wait_for(lambda: feedings(listener) >= 3, "it is fed")
    assert seconds(unit("cdb2rabbit")["WatchdogSec"]) > 1


def test_hanging_worker_is_noticed(local_site):
    """The food stops when the loop does."""
    worker = watched(local_site, "rabbit2packer", usec=400_000)
    wait_for(lambda: feedings(worker) >= 2, "it is fed")
    worker.signal(signal.SIGSTOP)
    before = feedings(worker)
    try:
        with pytest.raises(AssertionError):
            wait_for(lambda: feedings(worker) > before + 1, "more food", 1.0 / SLOWNESS)
    finally:
        worker.signal(signal.SIGCONT)
    wait_for(lambda: feedings(worker) > before + 1, "it goes on")


def test_status_tells_what_goes_on(local_site):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: "1 of 2 slots building" in worker.status(), "the status of a build")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "STOPPING=1" in worker.notified, "it says that it stops")
    wait_for(lambda: worker.status().startswith("draining: 1 of 2"), "the status of a drain")
    go.touch()
    assert worker.wait() == 0


def test_status_is_not_told_at_every_step(local_site):
    """Hundreds of short builds would have the service manager read as many texts that nobody sees."""
    local_site.template("managed", "succeed")
    for number in range(60):
        local_site.publish_profile(f"p{number}")
    before = time.monotonic()
    worker = local_site.worker("--until-idle", ready=False)
    assert worker.wait() == 0
    took = time.monotonic() - before
    said = [line for line in worker.notified if line.startswith("STATUS=")]
    assert said and len(said) <= 5 * took + 3
    assert all(one != next for one, next in itertools.pairwise(said))


# ---- in the sandbox --------------------------------------------------------------------------

# What the rabbit2packer unit means for files, user and capabilities. Its other protections take
# system calls and kernel files away that neither the worker nor Packer's own parts use.
SANDBOX = """\
#!/bin/sh
set -e
mount --make-rprivate /
mount --bind {state} {state}
mount --bind {logs} {logs}
mount -o remount,bind,ro /
awk '$5 != "/" && $5 !~ "^/(proc|sys|dev)" {{ print $5 }}' /proc/self/mountinfo | while read -r at; do
    case $at in {state} | {logs}) ;; *) mount -o remount,bind,ro "$at" ;; esac
done
umask 0027
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all {program} "$@"
"""


@pytest.fixture
def sandboxed(local_site):
    """A worker as its unit would run it: nobody's rights, and two folders that it may write."""
    site = local_site
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode != 0:
        pytest.skip("only root can make a sandbox")
    site.set("rabbit2packer", BUILD_FILE_DIR=site.state_dir / "build-files")
    script = site.root / "sandbox.sh"
    program = BIN_DIR / "rabbit2packer"
    script.write_text(SANDBOX.format(state=site.state_dir, logs=site.log_dir, program=program))
    script.chmod(0o755)
    for folder in (site.root.parent, site.root):
        folder.chmod(0o755)
    site.config_path.chmod(0o644)
    for folder in (site.state_dir, site.log_dir, site.record):
        folder.mkdir(exist_ok=True)
        os.chown(folder, 65534, 65534)

    def start():
        daemon = Daemon(
            ["unshare", "-m", script, "-c", site.config_path],
            log=site.root / "rabbit2packer.log",
            env={**site.environment(), "HOME": str(site.state_dir), "TMPDIR": "/nonexistent"},
            cwd="/",
        )
        os.chmod(daemon._notify_path, 0o777)
        site.daemons.append(daemon)
        return daemon.wait_ready()

    return site, start


def publish_as_root(site, personality):
    """The queue's files stay the worker's."""
    site.publish(profile(personality))
    for path in site.state_dir.iterdir():
        os.chown(path, 65534, 65534)


def test_real_packer_builds_in_the_sandbox(sandboxed):
    site, start = sandboxed
    site.use_real_packer()
    script = site.root / "provision.sh"
    script.write_text("#!/bin/sh\nid -u\ntouch /etc/packuilon-was-here 2>&1 || true\n")
    script.chmod(0o755)
    template = {
        "builders": [{"type": "file", "target": str(site.state_dir / "$NAME"), "content": "x"}],
        "post-processors": [{"type": "shell-local", "script": str(script)}],
    }
    site.template("managed", text=json.dumps(template))
    publish_as_root(site, "one")
    worker = start()
    site.wait_build(lambda build: build.ended_ms)
    (build,) = site.builds()
    text = site.log_text(build)
    assert "65534" in text, text
    assert "Read-only file system" in text or "Permission denied" in text
    assert (site.state_dir / f"one-{OS_KEY}").read_text() == "x"
    assert worker.stop() == 0


def test_stop_and_start_again_in_the_sandbox(sandboxed):
    """A second TERM, and the next start: Packer is reached without any rights over others."""
    site, start = sandboxed
    site.set("rabbit2packer", STOP_GRACE=20)
    site.template("managed", "launch", "hang")
    publish_as_root(site, "one")
    worker = start()
    site.wait_state("building")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    (interrupted,) = site.builds("interrupted")
    assert "Cleanly cancelled builds" in site.log_text(interrupted)
    site.template("managed", "succeed")
    start()
    site.wait_state("succeeded")
