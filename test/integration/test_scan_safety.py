"""cdb2rabbit: nothing is lost, whatever happens to it or to the broker; and nothing is changed by
those who only look."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from rig.profiles import pan_json, profile
from rig.rabbit import Vhost
from rig.scans import (
    add_profiles,
    baseline,
    cached,
    counts,
    entry,
    queued_entries,
    recorded,
    start_scan,
)
from rig.waiting import wait_for


def state_of(site):
    """All that a scan could change."""
    return {
        str(path.relative_to(site.root)): path.read_bytes()
        for folder in (site.state_dir, site.root / "cache")
        if folder.exists()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


def end(process, deadline=30):
    out, err = process.communicate(timeout=deadline)
    return process.returncode, out, err


# ---- a dry run -------------------------------------------------------------------------------


def test_dry_run(local_site):
    site = local_site
    baseline(site, "a", "b", "c", "d")
    site.profiles.change(entry("a"), "/software/packages/nginx", {})
    site.profiles.recompile(entry("b"))
    site.profiles.remove(entry("c"))
    add_profiles(site, "new")
    before = state_of(site)
    result = site.scan("--dry-run")
    assert result.out.splitlines()[0] == f"{entry('a')}: changed, would be queued"
    assert "/software/packages/nginx" in result.out.splitlines()[1]
    assert result.out.splitlines()[2:] == [f"{entry('new')}: added, would be queued"]
    assert counts(result) == {"changed": 2, "unchanged": 2, "deleted": 1}
    assert "dry run" in result.err
    assert state_of(site) == before
    assert site.scan("--dry-run").out == result.out
    assert counts(site.scan()) == {"changed": 2, "queued": 2, "unchanged": 2, "deleted": 1}


def test_dry_run_before_the_first_scan(local_site):
    site = local_site
    add_profiles(site, "a", "b")
    assert "2 profiles would be recorded, none queued" in site.scan("--dry-run").out
    assert not site.state_dir.exists() and not (site.root / "cache").exists()
    site.set("cdb2rabbit", FIRST_RUN="build")
    result = site.scan("--dry-run")
    assert len(result.out.splitlines()) == 2
    assert not site.state_dir.exists() and not (site.root / "cache").exists()


def test_dry_run_tells_failures(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.profiles.add(entry("a"), b"{")
    before = state_of(site)
    assert counts(site.scan("--dry-run", expect=1)) == {"failed": 1}
    assert state_of(site) == before


def test_dry_run_does_not_wait_for_a_scan(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    gate = site.web.gates[entry("a")] = threading.Event()
    scan = start_scan(site)
    wait_for(lambda: site.web.requested(entry("a")) == 2, "the scan asks for the profile")
    del site.web.gates[entry("a")]
    assert "would be queued" in site.scan("--dry-run").out
    gate.set()
    assert end(scan)[0] == 0
    assert site.queue_count() == 1


# ---- one at a time ---------------------------------------------------------------------------


def test_two_scans_do_not_overlap(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    gate = site.web.gates[entry("a")] = threading.Event()
    first = start_scan(site)
    wait_for(lambda: site.web.requested(entry("a")) == 2, "the first asks for the profile")
    second = start_scan(site)
    assert "waiting for another scan" in second.stderr.readline()
    assert site.web.requested("profiles-info.xml") == 2, "the second has not begun"
    gate.set()
    assert end(first)[0] == 0
    code, _, err = end(second)
    assert code == 0
    assert "0 changed, 0 queued, 1 unchanged" in err
    assert site.queue_count() == 1


def test_lock_ends_with_its_holder(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    site.web.gates[entry("a")] = threading.Event()
    first = start_scan(site)
    wait_for(lambda: site.web.requested(entry("a")) == 2, "the first asks for the profile")
    first.kill()
    end(first)
    site.web.gates.pop(entry("a")).set()
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


# ---- killed ----------------------------------------------------------------------------------


def test_killed_anywhere(make_site):
    """Whenever it is killed, the next scan does the rest: all changed profiles are queued, and
    twice at most those of the last moment."""
    site = make_site(web=True)
    names = [f"p{number:03}" for number in range(150)]
    baseline(site, *names)
    pause = random.Random(5)
    for number in range(8):
        for name in names:
            site.profiles.add(
                entry(name), profile(name, **{"/software/x": number}), index=False
            )
        site.profiles.write_index()
        scan = start_scan(site)
        try:
            scan.wait(pause.uniform(0.01, 0.25))
        except subprocess.TimeoutExpired:
            scan.kill()
        end(scan)
    site.scan()
    assert counts(site.scan()) == {"unchanged": len(names)}
    rows = site.query("SELECT entry, content FROM message JOIN body ON body.id = message.body")
    newest = {row.entry for row in rows if b'"x": 7' in bytes(row.content)}
    assert newest == {entry(name) for name in names}
    for name in names:
        assert cached(site, name) == (site.profiles.folder / entry(name)).read_bytes()


def test_killed_in_the_first_scan(make_site):
    site = make_site(web=True)
    add_profiles(site, "a", "b")
    gate = site.web.gates[entry("b")] = threading.Event()
    scan = start_scan(site)
    wait_for(lambda: site.web.requested(entry("b")), "it asks for b")
    scan.send_signal(signal.SIGTERM)
    end(scan)
    gate.set()
    result = site.scan()
    assert site.queue_count() == 0
    assert "recorded as the baseline" in result.err
    site.profiles.change(entry("b"), "/software/x", 1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 1}


def test_what_a_cut_short_scan_left_is_found(make_site):
    """The index is again as it was before the scan that was killed: still the change is seen."""
    site = make_site(web=True)
    baseline(site, "a", "b")
    index = site.profiles.folder / "profiles-info.xml"
    old = index.read_bytes()
    site.profiles.change(entry("a"), "/software/x", 1)
    site.profiles.change(entry("b"), "/software/x", 1)
    gate = site.web.gates[entry("b")] = threading.Event()
    scan = start_scan(site)
    wait_for(lambda: recorded_mtime(site, "a") > 1627553915, "a is committed", deadline=10)
    scan.kill()
    end(scan)
    gate.set()
    index.write_bytes(old)
    assert counts(site.scan())["unchanged"] >= 1
    assert entry("a") in site.web.requested()[-2:]


def recorded_mtime(site, name):
    connection = sqlite3.connect(f"file:{site.state_dir}/profiles.db?mode=ro", uri=True)
    try:
        query = "SELECT mtime FROM profile WHERE name = ?"
        return connection.execute(query, (entry(name),)).fetchone()[0]
    finally:
        connection.close()


# ---- the broker --------------------------------------------------------------------------------


def test_broker_is_down(rabbit_site):
    site = rabbit_site
    baseline(site, "a", "b")
    port = site.config["global"]["RABBIT_PORT"]
    site.set("global", RABBIT_PORT=1)
    assert counts(site.scan()) == {"unchanged": 2}, "nobody asks for the broker in vain"
    site.profiles.change(entry("a"), "/software/x", 1)
    before = recorded(site), cached(site, "a")
    result = site.scan(expect=1)
    assert "what changed cannot be queued" in result.err
    assert "127.0.0.1" in result.err
    assert (recorded(site), cached(site, "a")) == before
    site.set("global", RABBIT_PORT=port)
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 1}
    assert site.queue_count() == 1


def test_wrong_password(rabbit_site):
    site = rabbit_site
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    site.set("global", RABBIT_PW="hunter2")
    result = site.scan(expect=1)
    assert "RABBIT_PW" in result.err or "password" in result.err
    assert "hunter2" not in result.err


@pytest.mark.slow
def test_broker_dies_in_the_middle(own_rabbit, make_site):
    vhost = own_rabbit.add_vhost()
    site = make_site(vhost=vhost, web=True)
    names = [f"p{number:03}" for number in range(40)]
    baseline(site, *names)
    for name in names:
        site.profiles.add(entry(name), profile(name, **{"/software/x": 1}), index=False)
    site.profiles.write_index()
    gate = site.web.gates[entry(names[20])] = threading.Event()
    site.set("cdb2rabbit", PARALLEL=1)
    scan = start_scan(site)
    wait_for(lambda: site.web.requested(entry(names[20])) == 2, "it is in the middle")
    own_rabbit.stop()
    gate.set()
    code, _, err = end(scan, 60)
    assert code == 1, err
    own_rabbit.spawn(os.getpid())
    site.scan()
    assert counts(site.scan()) == {"unchanged": len(names)}
    seen = set()
    after = Vhost(own_rabbit, vhost.name)  # with a connection to the node as it is now
    while message := after.get("build-queue"):
        seen.add(message[1].headers["x-packuilon-entry"])
    assert seen == {entry(name) for name in names}


def test_many_on_rabbitmq(rabbit_site):
    site = rabbit_site
    names = [f"p{number:03}" for number in range(400)]  # more than are unconfirmed at a time
    baseline(site, *names)
    for name in names:
        site.profiles.add(entry(name), profile(name, **{"/software/x": 1}), index=False)
    site.profiles.write_index()
    assert counts(site.scan()) == {"changed": 400, "queued": 400}
    assert site.queue_count() == 400


# ---- from the Python script, and back ----------------------------------------------------------


@pytest.fixture
def python_site(local_site):
    """A site whose Python script has run: `known` has a cached body, `seen` has none."""
    site = local_site
    add_profiles(site, "known", "seen")
    cache = site.root / "cache"
    cache.mkdir()
    shutil.copy(site.profiles.folder / "profiles-info.xml", cache / "cached_info.xml")
    shutil.copy(site.profiles.folder / entry("known"), cache)
    return site


@pytest.mark.parametrize("first_run", ["record", "build"])
def test_migration_rebuilds_nothing(python_site, first_run):
    site = python_site
    site.set("cdb2rabbit", FIRST_RUN=first_run)
    result = site.scan()
    assert "took over 2 profiles" in result.err
    assert site.queue_count() == 0
    site.profiles.recompile()
    assert counts(site.scan()) == {"unchanged": 2}


def test_migration_finds_what_changed_meanwhile(python_site):
    site = python_site
    site.profiles.change(entry("known"), "/software/packages/nginx", {})
    add_profiles(site, "new")
    result = site.scan()
    assert "/software/packages/nginx" in result.err
    assert counts(result) == {"changed": 2, "queued": 2}
    assert "1 recorded as the baseline" in result.err
    assert sorted(queued_entries(site)) == [entry("known"), entry("new")]


def test_dry_run_of_the_migration(python_site):
    site = python_site
    site.profiles.change(entry("known"), "/software/packages/nginx", {})
    result = site.scan("--dry-run")
    assert result.out.startswith(f"{entry('known')}: changed, would be queued\n")
    assert not site.state_dir.exists()


def test_damaged_cache_is_a_first_scan(local_site):
    site = local_site
    add_profiles(site, "a")
    (site.root / "cache").mkdir()
    (site.root / "cache" / "cached_info.xml").write_text("<profiles>")
    result = site.scan()
    assert "cannot be taken over" in result.err
    assert "1 recorded as the baseline" in result.err


def test_back_to_the_python_script(local_site):
    """It finds what it would have left itself."""
    site = local_site
    baseline(site, "a", "b")
    site.profiles.change(entry("a"), "/software/x", 1)
    site.scan()
    cache = site.root / "cache"
    assert {path.name for path in cache.iterdir()} == {"cached_info.xml", entry("a"), entry("b")}
    lines = (cache / "cached_info.xml").read_text()
    index = (site.profiles.folder / "profiles-info.xml").read_text()
    assert all(line in lines for line in index.splitlines())
    for name in "ab":
        assert cached(site, name) == (site.profiles.folder / entry(name)).read_bytes()


def test_index_is_not_cached_while_something_is_left_to_do(local_site):
    """Else the Python script would never fetch it."""
    site = local_site
    baseline(site, "a", "b")
    before = (site.root / "cache" / "cached_info.xml").read_bytes()
    site.profiles.add(entry("a"), b"broken")
    site.scan(expect=1)
    assert (site.root / "cache" / "cached_info.xml").read_bytes() == before


# ---- the command line ---------------------------------------------------------------------------


def test_listen_and_dry_run_exclude_each_other(local_site):
    assert "exclude" in local_site.scan("--listen", "--dry-run", expect=2).err


def test_urls_must_be_given(local_site):
    local_site.set("cdb2rabbit", PROFILE_INFO_URL=None)
    assert "PROFILE_INFO_URL" in local_site.scan(expect=2).err


def test_summary_tells_the_time(local_site):
    site = local_site
    baseline(site, "a")
    start = time.monotonic()
    result = site.scan()
    seconds = float(result.err.rsplit(" in ", 1)[1].split()[0])
    assert seconds <= time.monotonic() - start + 0.01


def test_large_profile(local_site):
    site = local_site
    baseline(site, "a")
    document = profile("a", **{"/software/filler": "x" * 30_000_000})
    site.profiles.add(entry("a"), pan_json(document))
    assert counts(site.scan()) == {"changed": 1, "queued": 1}
