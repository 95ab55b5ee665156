"""The programs on a host in trouble: disks that are full or read-only, a journal that somebody else
has locked, a clock that is set back. Every message is built, and nothing twice."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from rig.processes import TOOL_DIR
from rig.profiles import profile
from rig.scans import entry
from rig.waiting import wait_for

DAY = 24 * 3600


class Disk:
    """A small file system of its own, which can be filled."""

    def __init__(self, path):
        self.path = Path(path)
        self.ballast = self.path / "ballast"

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def free(self):
        self.ballast.unlink()

    def remount(self, mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True)


@pytest.fixture
def disk():
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path = tempfile.mkdtemp(prefix="pk-disk-")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", path], capture_output=True
    )
    if mounted.returncode != 0:
        os.rmdir(path)
        pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
    yield Disk(path)
    subprocess.run(["umount", path], check=True)
    shutil.rmtree(path)


def state_on(site, disk):
    site.state_dir = disk.path / "state"
    site.set("global", STATE_DIR=site.state_dir)


def gate(site):
    path = site.root / "go"
    site.template("managed", "launch", f"wait {path}", "succeed")
    return path


def assert_history(site, names):
    """Each was built once, and the journal is sound."""
    wait_for(lambda: all(build.ended_ms for build in site.builds()), "all builds are over")
    done = [build.personality for build in site.builds("succeeded")]
    assert sorted(done) == sorted(names), site.describe()
    for build in site.builds("succeeded"):
        what = [event["what"] for event in site.events(build) if event["what"] != "phase"]
        assert what[0] == "queued" and what[-1] == "succeeded", what
        assert build.artifact
    connection = sqlite3.connect(site.state_dir / "builds.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    site.wait_queue_empty()


# ---- full ------------------------------------------------------------------------------------


def test_state_disk_fills_while_builds_run(disk, site):
    """The builds' ends cannot be written, until there is room again; they are not built anew."""
    state_on(site, disk)
    site.set("rabbit2packer", RETRY_SECONDS=1)
    go = gate(site)
    worker = site.worker()
    for name in ("one", "two"):
        site.publish_profile(name)
    site.wait_packer(2)
    wait_for(lambda: len(site.builds("building")) == 2, "both are in the journal")
    disk.fill()
    go.touch()
    worker.wait_log("taking no builds until this is mended")
    assert "full" in worker.log() or "No space left" in worker.log()
    wait_for(lambda: all(run.ended for run in site.packer_runs()), "Packer has ended")
    disk.free()
    worker.wait_log("taking builds again")
    assert_history(site, ["one", "two"])
    assert len(site.packer_runs()) == 2
    site.publish_profile("three")
    site.wait_state("succeeded", 3)


def test_state_disk_is_full_when_messages_come(disk, rabbit_site):
    """They stay the broker's."""
    state_on(rabbit_site, disk)
    rabbit_site.set("rabbit2packer", RETRY_SECONDS=1)
    worker = rabbit_site.worker()
    disk.fill()
    names = [f"p{number}" for number in range(5)]
    for name in names:
        rabbit_site.publish_profile(name)
    worker.wait_log("taking no builds until this is mended")
    assert worker.log().count("taking no builds until this is mended") < 5
    disk.free()
    rabbit_site.wait_state("succeeded", len(names))
    assert_history(rabbit_site, names)


def test_worker_starts_on_a_full_disk_and_says_so(disk, local_site):
    state_on(local_site, disk)
    disk.fill()
    worker = local_site.worker(ready=False)
    assert worker.wait() == 1
    assert str(local_site.state_dir) in worker.log()
    assert "full" in worker.log() or "No space left" in worker.log()
    disk.free()
    local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_state("succeeded")


def test_log_disk_is_full(disk, site):
    """The log is a loss, the image is none."""
    site.set("rabbit2packer", LOG_DIR=disk.path)
    go = site.root / "go"
    site.template("managed", "launch", f"wait {go}", "flood 100000", "succeed")
    worker = site.worker()
    site.publish_profile("one")
    site.wait_packer()
    site.wait_state("building")
    disk.fill()
    go.touch()
    site.wait_state("succeeded")
    worker.wait_log("is not complete: No space left")
    disk.free()
    site.publish_profile("two")
    assert len(site.wait_state("succeeded", 2)) == 2
    assert site.exit_line(site.builds()[-1])[1] == 0


def test_build_file_disk_is_full(disk, site):
    site.set("rabbit2packer", BUILD_FILE_DIR=disk.path, RETRY_SECONDS=1)
    worker = site.worker()
    disk.fill()
    site.publish_profile("one")
    worker.wait_log("taking no builds until this is mended")
    assert str(disk.path) in worker.log() and "No space left" in worker.log()
    assert site.packer_runs() == []
    disk.free()
    site.wait_state("succeeded")
    assert_history(site, ["one"])
    assert [path.name for path in disk.path.iterdir() if path.name.startswith(".tmp")] == []


# The scanner: what it could not record it does again, what it recorded was sent.


def scan_until_room(disk, site, names):
    site.set("cdb2rabbit", FIRST_RUN="build", CACHE_DIR=disk.path / "cache")
    for name in names:
        site.profiles.add(entry(name), profile(name), index=False)
    site.profiles.write_index()
    disk.fill()
    failed = site.scan(expect=1)
    assert "full" in failed.err or "No space left" in failed.err, failed
    disk.free()
    site.scan()
    assert "0 queued" in site.scan().err
    site.worker()
    # One that was sent before the disk was found full may have been sent twice.
    wait_for(
        lambda: {build.personality for build in site.builds("succeeded")} == set(names),
        "each is built",
    )


def test_scan_on_a_full_disk_from_the_start(disk, site):
    state_on(site, disk)
    scan_until_room(disk, site, ["one", "two"])


def test_scan_on_a_disk_that_is_full_now(disk, site):
    state_on(site, disk)
    site.profiles.write_index()
    site.scan()
    scan_until_room(disk, site, ["one", "two"])


def test_cache_disk_is_full(disk, site):
    """It only serves to tell what changed: that is said, and the change is queued."""
    site.set("cdb2rabbit", FIRST_RUN="build", CACHE_DIR=disk.path / "cache")
    site.profiles.add(entry("one"), profile("one"))
    disk.fill()
    result = site.scan()
    assert "No space left" in result.err and "1 queued" in result.err
    assert "0 queued" in site.scan().err
    site.worker()
    site.wait_state("succeeded")


# ---- read-only -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["LOG_DIR", "BUILD_FILE_DIR"])
def test_read_only_folder(disk, local_site, key):
    local_site.set("rabbit2packer", **{key: disk.path}, RETRY_SECONDS=1)
    disk.remount("ro")
    worker = local_site.worker()
    local_site.publish_profile("one")
    worker.wait_log("taking no builds until this is mended")
    assert str(disk.path) in worker.log() and "Read-only file system" in worker.log()
    disk.remount("rw")
    local_site.wait_state("succeeded")
    assert_history(local_site, ["one"])


def test_read_only_state(disk, local_site):
    state_on(local_site, disk)
    local_site.publish_profile("one")
    disk.remount("ro")
    worker = local_site.worker(ready=False)
    assert worker.wait() == 1
    assert str(local_site.state_dir) in worker.log()
    disk.remount("rw")
    local_site.worker()
    local_site.wait_state("succeeded")


# ---- locked ----------------------------------------------------------------------------------


def test_journal_locked_for_longer_than_anybody_should(site):
    """Somebody opened builds.db by hand, began a transaction and went for a coffee."""
    site.set("rabbit2packer", RETRY_SECONDS=1)
    go = gate(site)
    worker = site.worker()
    for name in ("one", "two"):
        site.publish_profile(name)
    wait_for(
        lambda: [build.phase for build in site.builds("building")] == ["provision"] * 2,
        "both are in the journal",
    )
    connection = sqlite3.connect(site.state_dir / "builds.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    go.touch()
    worker.wait_log("taking no builds until this is mended")
    assert "locked" in worker.log()
    wait_for(lambda: all(run.ended for run in site.packer_runs()), "Packer has ended")
    connection.execute("ROLLBACK")
    connection.close()
    assert_history(site, ["one", "two"])
    assert len(site.packer_runs()) == 2
    worker.wait_log("taking builds again")


# ---- the clock -------------------------------------------------------------------------------


class Clock:
    """The wall clock of a site's programs."""

    def __init__(self, site):
        self.file = site.root / "clock-offset"
        environment = site.environment()
        environment["LD_PRELOAD"] = str(TOOL_DIR / "clockshift.so")
        environment["CLOCKSHIFT_FILE"] = str(self.file)
        environment["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        site.environment = lambda **extra: {**environment, **extra}

    def set(self, seconds):
        part = self.file.with_suffix(".part")
        part.write_text(str(seconds))
        part.rename(self.file)


def test_change_after_the_clock_was_set_back_is_built(site):
    """By the clock its message is older than the build before it."""
    clock = Clock(site)
    clock.set(DAY)
    site.worker()
    site.publish(profile("same"), message_id="before")
    site.wait_state("succeeded")
    clock.set(0)
    site.publish(profile("same", **{"/software/number": 1}), message_id="after")
    site.wait_build(lambda build: build.message_id == "after" and build.ended_ms)
    assert [build.state for build in site.builds()] == ["succeeded", "succeeded"]


def test_attempt_does_not_wait_for_a_time_that_was_set_back(local_site):
    clock = Clock(local_site)
    clock.set(DAY)
    local_site.set("rabbit2packer", RETRY_SECONDS=1)
    local_site.template("managed", "fail dial tcp 192.0.2.1:5000: connect: connection refused")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_build(lambda build: build.attempt == 2, "the second attempt waits")
    clock.set(0)
    local_site.template("managed", "succeed")
    local_site.wait_state("succeeded")


def test_clock_set_back_during_a_build(local_site):
    """The history keeps its order, and no duration is less than nothing."""
    clock = Clock(local_site)
    clock.set(DAY)
    go = gate(local_site)
    local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_packer()
    local_site.wait_state("building")
    clock.set(0)
    assert no_time_is_negative(local_site), "while it runs"
    go.touch()
    local_site.wait_state("succeeded")
    assert no_time_is_negative(local_site), "when it is over"
    (build,) = local_site.builds()
    what = [event["what"] for event in local_site.events(build) if event["what"] != "phase"]
    assert what == ["queued", "building", "succeeded"]
    assert local_site.exit_line(build)[1] == 0


def no_time_is_negative(site):
    text = site.packuilon("status").out + site.packuilon("show", "1").out
    return not re.search(r"(^|\s)-\d", text)
