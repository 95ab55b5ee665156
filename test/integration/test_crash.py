"""Killed at each durable step, the scanner and the worker lose nothing and do nothing twice that was
done before.

A durable step is a call by which something leaves the process: a write or sync of a file, a rename,
a removal, bytes to the broker. The steps are counted as they happen (test/tools/crashpoint.c), so a
step that is added later is tested too. Each is tried in both ways: dying before it and, every other
time, in the middle of it, with half of the write done.
"""

import json
import os
import sqlite3

import pytest
from rig.crash import run_to_crash
from rig.processes import BIN_DIR
from rig.profiles import profile
from rig.scans import entry, recorded

pytestmark = pytest.mark.skipif(
    b"__asan_init" in (BIN_DIR / "rabbit2packer").read_bytes(),
    reason="the library that kills and the sanitizer's both want to be first; see the other builds",
)

# Steps are shared out, so that they run beside each other.
SHARES = 4
MOST_STEPS = 2000


def crash_points(share):
    """(step, torn), each once; with CRASH_ALL=1 both ways for each."""
    for step in range(1 + share, MOST_STEPS, SHARES):
        if os.environ.get("CRASH_ALL"):
            yield step, False
            yield step, True
        else:
            yield step, (step // SHARES) % 2 == 1


def assert_sound(path):
    connection = sqlite3.connect(path, timeout=10)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def succeeded_messages(site):
    return [build.message_id for build in site.builds("succeeded")]


# ---- the worker ------------------------------------------------------------------------------


def finish_work(site, names):
    result = site.program("rabbit2packer", "-c", site.config_path, "--until-idle")
    done = succeeded_messages(site)
    for name in names:
        assert done.count(name) == 1, f"{name} was built {done.count(name)} times\n{result}"
    assert not [build for build in site.builds() if not build.ended_ms]
    assert site.queue_count() == 0
    assert_sound(site.state_dir / "builds.db")
    for build in site.builds("succeeded"):
        assert site.exit_line(build)[1] == 0
    for path in (site.root / "build-files").iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
    assert site.leftovers() == []
    assert not list((site.state_dir / "tmp").iterdir())


def crash_worker(site, step, torn):
    names = [f"m{step}-{torn}-{which}" for which in ("a", "b")]
    for which, name in zip(("a", "b"), names):
        site.publish(profile(f"{which}{step}"), message_id=name)
    runs_before = len(site.packer_runs())
    crash = run_to_crash(site, "rabbit2packer", "--until-idle", at=step, torn=torn)
    if site.state_dir.exists() and (site.state_dir / "builds.db").exists():
        known = succeeded_messages(site)
    else:
        known = []
    recorded_runs = sum(name in known for name in names)
    finish_work(site, names)
    runs = len(site.packer_runs()) - runs_before
    # What the journal called done before the restart was not done again; one build at most was
    # under way without its end in the journal for each slot.
    assert runs <= recorded_runs + 2 * (len(names) - recorded_runs), crash.where
    return crash


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_worker_killed_at_each_step(site, share):
    """The first steps make the journal; then come the builds, and the end."""
    seen = []
    for step, torn in crash_points(share):
        crash = crash_worker(site, step, torn)
        if not crash.died:
            break
        seen.append(crash.where)
    print(*seen, sep="\n")
    assert len(seen) > 5, "the steps were counted"


@pytest.mark.slow
def test_worker_killed_while_it_makes_its_journal(make_site):
    """Each time from nothing."""
    for step in range(1, MOST_STEPS):
        site = make_site(f"site{step}")
        crash = run_to_crash(site, "rabbit2packer", "--until-idle", at=step, torn=step % 2 == 1)
        if not crash.died or step > 60:
            break
        site.publish(profile(), message_id="m")
        finish_work(site, ["m"])
    assert step > 10


# ---- the scanner -----------------------------------------------------------------------------


def messages_of(site, name):
    if site.vhost:
        return site.vhost.entries(site.config["global"]["QUEUE"]).count(entry(name))
    rows = site.query("SELECT entry FROM message")
    return [row.entry for row in rows].count(entry(name))


def crash_scan(site, step, torn):
    """One profile is new, one changed, one is gone, one as it was."""
    site.profiles.add(entry(f"new{step}"), profile(f"new{step}"), index=False)
    site.profiles.add(entry("changed"), profile("changed", **{"system/x": step}), index=False)
    site.profiles.remove(entry(f"new{step - SHARES}"))
    site.profiles.write_index()
    before = messages_of(site, "changed")
    crash = run_to_crash(site, "cdb2rabbit", at=step, torn=torn)
    died_with = recorded(site)
    changed_then = messages_of(site, "changed")
    result = site.scan()
    assert messages_of(site, f"new{step}") in (1, 2), f"{crash.where}\n{result}"
    assert messages_of(site, "changed") - before in (1, 2), f"{crash.where}\n{result}"
    if entry(f"new{step}") in died_with and died_with[entry(f"new{step}")] is None:
        # It was on record as dealt with: not sent again.
        assert messages_of(site, f"new{step}") == 1, crash.where
    assert changed_then - before in (0, 1)
    assert entry(f"new{step - SHARES}") not in recorded(site)
    again = site.scan()
    assert "0 changed, 0 queued" in again.err, f"{crash.where}\n{again}"
    assert_sound(site.state_dir / "profiles.db")
    return crash


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_scanner_killed_at_each_step(local_site, share):
    site = local_site
    site.profiles.add(entry("changed"), profile("changed"), index=False)
    site.profiles.add(entry("same"), profile("same"), index=False)
    site.profiles.add(entry(f"new{1 + share - SHARES}"), profile("old"), index=False)
    site.profiles.write_index()
    site.scan()
    seen = []
    for step, torn in crash_points(share):
        crash = crash_scan(site, step, torn)
        if not crash.died:
            break
        seen.append(crash.where)
    print(*seen, sep="\n")
    assert len(seen) > 5, "the steps were counted"
