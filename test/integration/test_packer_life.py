"""rabbit2packer and the life of Packer's processes: the real one with scripts that hang or ignore
TERM, one that says far too much, and ones that leave something running."""

import json
import os
import signal
import time

import pytest
from rig.profiles import OS_KEY
from rig.site import is_alive, read_file
from rig.waiting import SLOWNESS, wait_for

MIB = 1024 * 1024
GIB = 1024 * MIB
QUICK_BUILDS = 5

HANG = "echo $$ >{pid_file}\nsleep 1000\n"
IGNORE_TERM = "trap '' TERM INT HUP\necho $$ >{pid_file}\nwhile :; do sleep 1; done\n"
FLOOD = "echo $$ >{pid_file}\nexec yes 'the quick brown fox jumps over the lazy dog'\n"


# The docker command as Packer's docker builder calls it. `docker run` and `docker kill` stand for
# the creation and the deletion of a build's server.
DOCKER = """\
#!/bin/sh
case $1 in
-v) echo "Docker version 20.10.0, build 1" ;;
run) touch {root}/server && echo 0123456789ab ;;
kill) {before_kill} rm {root}/server ;;
esac
"""


class RealPacker:
    """The real Packer, building on a server whose only provisioner is a script on this host."""

    def __init__(self, site, script, before_kill=""):
        self.site = site
        self.pid_file = site.root / "script.pid"
        self.server = site.root / "server"
        site.use_real_packer()
        docker = DOCKER.format(root=site.root, before_kill=before_kill)
        (site.bin_dir / "docker").write_text(docker)
        (site.bin_dir / "docker").chmod(0o755)
        environment = site.environment()
        environment["PATH"] = f"{site.bin_dir}:{environment['PATH']}"
        site.environment = lambda **extra: {**environment, **extra}
        path = site.root / "provision.sh"
        path.write_text("#!/bin/sh\n" + script.format(pid_file=self.pid_file))
        path.chmod(0o755)
        template = {
            "builders": [{"type": "docker", "image": "$IMAGE", "pull": False, "discard": True}],
            "provisioners": [{"type": "shell-local", "script": str(path)}],
        }
        site.template("managed", text=json.dumps(template))

    def wait_script(self):
        """The provisioner's process, once it runs."""
        wait_for(
            lambda: self.pid_file.exists() and self.pid_file.read_text().endswith("\n"),
            "the provisioner runs",
        )
        assert self.server.exists()
        return int(self.pid_file.read_text())

    def wait_gone(self):
        wait_for(lambda: processes_of(self.site) == {}, "all that was started has ended")


def processes_of(site):
    """{pid: command line} of what was started for this site's builds."""
    found = {}
    mark = f"PACKUILON_STATE_DIR={site.state_dir}".encode()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                ours = mark in file.read().split(b"\0")
        except OSError:
            continue
        if ours and is_alive(int(entry)):
            found[int(entry)] = read_file(f"/proc/{entry}/cmdline").replace("\0", " ")
    return found


def status_bytes(pid, field):
    for line in read_file(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} of process {pid}")


# ---- the ladder, on the real Packer ------------------------------------------------------------


def test_build_timeout_stops_a_hanging_script(local_site):
    local_site.set("rabbit2packer", BUILD_TIMEOUT=4)
    packer = RealPacker(local_site, HANG)
    local_site.worker()
    local_site.publish_profile()
    script = packer.wait_script()
    assert script in processes_of(local_site)
    (build,) = local_site.wait_state("failed")
    assert "BUILD_TIMEOUT (4 s)" in build.reason
    assert not packer.server.exists(), "Packer cleaned up"
    assert not is_alive(script)
    assert "STOP_GRACE" not in local_site.log_text(build), "TERM was enough"
    assert local_site.exit_line(build)[1] == 1
    packer.wait_gone()


def test_script_that_ignores_term_does_not_outlive_its_build(local_site):
    """Packer leaves it running; the group is killed when Packer has ended."""
    packer = RealPacker(local_site, IGNORE_TERM)
    local_site.worker()
    local_site.publish_profile()
    script = packer.wait_script()
    (build,) = local_site.wait_state("building")
    local_site.packuilon("cancel", "1")
    (build,) = local_site.wait_state("cancelled")
    assert not packer.server.exists(), "Packer cleaned up"
    wait_for(lambda: not is_alive(script), "the script is gone")
    packer.wait_gone()
    assert not list((local_site.state_dir / "tmp").glob("*/*"))


def test_real_packer_that_cannot_end_is_killed_with_all_it_started(local_site):
    """Its clean-up hangs, as the deletion of a server does; TERM was sent once, STOP_GRACE passes,
    KILL goes to the group."""
    local_site.set("rabbit2packer", STOP_GRACE=2)
    begun = local_site.root / "deleting"
    packer = RealPacker(local_site, HANG, before_kill=f"trap '' TERM; touch {begun}; sleep 1000;")
    local_site.worker()
    local_site.publish_profile()
    packer.wait_script()
    local_site.wait_state("building")
    local_site.packuilon("cancel", "1")
    wait_for(begun.exists, "the clean-up has begun")
    asked = time.monotonic()
    (build,) = local_site.wait_state("cancelled")
    assert time.monotonic() - asked >= 1
    assert "did not end within STOP_GRACE" in local_site.log_text(build)
    assert local_site.exit_line(build)[1] == 128 + signal.SIGKILL
    packer.wait_gone()


def test_real_packer_cleans_up_when_the_worker_is_killed(local_site):
    """Nobody reads its output then, nobody waits for it; what it leaves running is swept at the
    next start, and the image is built again."""
    packer = RealPacker(local_site, IGNORE_TERM)
    worker = local_site.worker()
    local_site.publish_profile()
    script = packer.wait_script()
    (build,) = local_site.wait_state("building")
    worker.kill()
    wait_for(lambda: not packer.server.exists(), "Packer cleans up by itself")
    wait_for(lambda: not is_alive(build.pid), "Packer ends")
    assert is_alive(script), "an orphan, which only the next start can find"
    local_site.use_real_packer()
    local_site.file_template()
    local_site.worker()
    wait_for(lambda: not is_alive(script), "the next start ends it")
    local_site.wait_state("succeeded")
    (interrupted,) = local_site.builds("interrupted")
    assert interrupted.id == build.id
    packer.wait_gone()
    assert not list((local_site.state_dir / "tmp").glob("*/*"))


def test_talkative_packer_cleans_up_when_the_worker_is_killed(local_site):
    """More than the pipe holds: it must not wait for ever for a reader."""
    packer = RealPacker(local_site, FLOOD)
    worker = local_site.worker()
    local_site.publish_profile()
    packer.wait_script()
    (build,) = local_site.wait_state("building")
    worker.kill()
    local_site.file_template()
    local_site.worker()
    wait_for(lambda: not packer.server.exists(), "Packer cleans up")
    wait_for(lambda: not is_alive(build.pid), "Packer ends")
    local_site.wait_state("succeeded")
    packer.wait_gone()


def test_next_worker_does_not_disturb_the_clean_up(local_site):
    """It tells Packer once more to stop, not the command that deletes the server."""
    begun, go = local_site.root / "deleting", local_site.root / "go"
    until_told = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done;"
    packer = RealPacker(local_site, HANG, before_kill=until_told)
    worker = local_site.worker()
    local_site.publish_profile()
    packer.wait_script()
    (build,) = local_site.wait_state("building")
    worker.kill()
    wait_for(begun.exists, "the clean-up has begun")
    local_site.file_template()
    local_site.worker()
    local_site.wait_state("queued")
    assert is_alive(build.pid)
    go.touch()
    wait_for(lambda: not packer.server.exists(), "Packer cleans up")
    local_site.wait_state("succeeded")
    packer.wait_gone()


# ---- what does not stay in Packer's session ---------------------------------------------------


def test_daemon_of_a_script_does_not_hold_the_build(local_site):
    """A script starts a daemon, in a session of its own, that keeps the output open (as ssh does
    for Ansible's ControlPersist)."""
    stop = local_site.root / "stop"
    local_site.template("managed", f"daemon {stop}", "launch", "succeed")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert local_site.exit_line(build)[1] == 0
    local_site.publish_profile("other")
    local_site.wait_state("succeeded", 2)
    stop.touch()


# ---- floods ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_flood_of_a_gigabyte(local_site):
    """From three at once, so that there is always something to read. Memory stays where it was,
    other builds go on as if nothing was, and the log ends where its limit is."""
    limit = 2 * MIB
    local_site.set("rabbit2packer", MAX_LOG_BYTES=limit, THREAD_COUNT=4)
    local_site.openrc(OS_PASSWORD="a-password-to-look-for")
    go, enough = local_site.root / "go", local_site.root / "enough"
    local_site.template(
        "flood", f"wait {go}", f"flood {GIB // 3}", f"flood-until {enough}", "succeed"
    )
    local_site.template("quick", "succeed")
    floods = ["nubesvms", "flood2", "flood3"]
    local_site.template_map(
        {"DEFAULT": ["quick.json"]} | {f"{name}-{OS_KEY}": ["flood.json"] for name in floods}
    )
    worker = local_site.worker()
    for name in floods:
        local_site.publish_profile(name)
    local_site.wait_packer(3)
    before = status_bytes(worker.pid, "VmHWM")
    go.touch()
    seconds = []
    for number in range(1, QUICK_BUILDS + 1):
        published = time.monotonic()
        local_site.publish_profile(f"quick{number}")
        local_site.wait_state("succeeded", number, deadline=60)
        seconds.append(time.monotonic() - published)
    enough.touch()
    builds = local_site.wait_state("succeeded", 3 + QUICK_BUILDS, deadline=300)
    assert max(seconds) < SLOWNESS, "what else there is to do does not wait for silence"
    for build in [build for build in builds if build.image.startswith(tuple(floods))]:
        assert build.artifact, "what comes behind the limit is still read"
        assert "MAX_LOG_BYTES" in local_site.log_text(build)
        assert limit <= os.stat(build.log_path).st_size < limit + 1000
        assert local_site.exit_line(build)[1] == 0
    assert status_bytes(worker.pid, "VmHWM") - before < 16 * MIB


def test_line_without_end(local_site):
    """64 MB without a newline: neither the log nor what reads the output waits for one."""
    data = local_site.root / "line"
    with open(data, "wb") as file:
        file.truncate(64 * MIB)
    local_site.set("rabbit2packer", MAX_LOG_BYTES=MIB)
    local_site.template("managed", f"cat {data}", "succeed")
    worker = local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    assert status_bytes(worker.pid, "VmHWM") < 64 * MIB
