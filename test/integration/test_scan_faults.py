"""cdb2rabbit: what is wrong with one profile never hurts another; what is wrong with the index
never makes it forget one."""

import gzip
import os

import pytest

from rig.profiles import pan_json, profile
from rig.scans import (
    add_profiles,
    baseline,
    cached,
    counts,
    entry,
    queued_entries,
    recorded,
)
from rig.web import Fault


@pytest.fixture
def web_site(make_site):
    site = make_site(web=True)
    site.set("cdb2rabbit", HTTP_TIMEOUT="1s", MAX_PROFILE_BYTES="64k", MAX_INDEX_BYTES="64k")
    return site


def bomb(n_bytes):
    return gzip.compress(b'{"a": "' + b"x" * n_bytes + b'"}')


PROFILE_FAULTS = {
    "missing": (Fault.status(404), "the server answered 404"),
    "forbidden": (Fault.status(403), "the server answered 403"),
    "server error": (Fault.status(500), "the server answered 500"),
    "truncated": (Fault.truncate(40), "bytes remaining"),
    "half copied": (Fault.half(0.5), "not a JSON profile"),
    "empty": (Fault.replace(b""), "not a JSON profile"),
    "not JSON": (Fault.replace(b"<html>hello</html>"), "not a JSON profile: line 1"),
    "not an object": (Fault.replace(b"[1, 2]"), "not a JSON profile"),
    "not UTF-8": (Fault.replace(b'{"a": "\xff"}'), "not a JSON profile"),
    "too big": (Fault.replace(b'{"a": "' + b"x" * 70000 + b'"}'), "65536 bytes"),
    "gz bomb": (Fault.replace(bomb(50_000_000)), "65536 bytes"),
    "coded gz bomb": (Fault.replace(bomb(50_000_000), Content_Encoding="gzip"), "65536 bytes"),
    "broken gz": (Fault.replace(b"\x1f\x8b\x08 broken"), "gz"),
    "slow": (Fault.hang, "timed out"),
    "not HTTP": (Fault.garbage, ""),
    "hung up": (Fault.disconnect, ""),
    "file redirect": (
        lambda handler, body: handler.reply(302, b"", {"Location": "file:///etc/passwd"}),
        "",
    ),
    "nested": (Fault.replace(b'{"a":' * 3000 + b"1" + b"}" * 3000), "not a JSON profile"),
}


@pytest.mark.parametrize("name", PROFILE_FAULTS)
def test_bad_profile(web_site, name):
    site = web_site
    fault, words = PROFILE_FAULTS[name]
    baseline(site, "bad", "good", "other")
    before = cached(site, "bad")
    site.profiles.change(entry("bad"), "/software/x", 1)
    site.profiles.change(entry("good"), "/software/x", 1)
    site.web.faults[entry("bad")] = fault
    for changed in (1, 0):  # the second time only the bad one is left to do
        result = site.scan(expect=1)
        done = {"changed": 1, "queued": 1} if changed else {}
        assert counts(result) == {**done, "unchanged": 2 - changed, "failed": 1}
        (line,) = [line for line in result.err.splitlines() if "to be tried again" in line]
        assert entry("bad") in line and words in line
        assert queued_entries(site) == [entry("good")]
        assert recorded(site)[entry("bad")]
        assert cached(site, "bad") == before
    site.web.faults.clear()
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 2}
    assert queued_entries(site) == [entry("good"), entry("bad")]
    assert recorded(site)[entry("bad")] is None


def test_bad_profile_is_retried_when_the_index_is_not_modified(web_site):
    site = web_site
    baseline(site, "bad")
    site.profiles.change(entry("bad"), "/software/x", 1)
    site.web.once[entry("bad")] = Fault.status(404)
    site.scan(expect=1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_bad_new_profile(web_site):
    site = web_site
    baseline(site, "a")
    site.web.once[entry("new")] = Fault.half(0.5)
    add_profiles(site, "new")
    assert counts(site.scan(expect=1)) == {"unchanged": 1, "failed": 1}
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 1}


def test_bad_profile_in_the_first_scan_is_baseline_later(web_site):
    site = web_site
    add_profiles(site, "a", "bad")
    site.web.once[entry("bad")] = Fault.status(503)
    result = site.scan(expect=1)
    assert counts(result) == {"failed": 1}
    assert "1 recorded as the baseline" in result.err
    result = site.scan()
    assert counts(result) == {"unchanged": 1}
    assert "1 recorded as the baseline" in result.err
    assert site.queue_count() == 0


def test_bad_profile_in_the_first_scan_recompiled_before_it_was_seen(web_site):
    """It may have changed: better built than lost."""
    site = web_site
    add_profiles(site, "bad")
    site.web.once[entry("bad")] = Fault.status(503)
    site.scan(expect=1)
    site.profiles.recompile()
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_bad_profile_in_a_first_scan_that_builds(web_site):
    site = web_site
    site.set("cdb2rabbit", FIRST_RUN="build")
    add_profiles(site, "a", "bad")
    site.web.once[entry("bad")] = Fault.status(503)
    site.scan(expect=1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 1}
    assert sorted(queued_entries(site)) == [entry("a"), entry("bad")]


def test_profile_is_gone_but_listed(local_site):
    site = local_site
    baseline(site, "a", "b")
    (site.profiles.folder / entry("a")).unlink()
    site.profiles.mtimes[entry("a")] += 1
    site.profiles.write_index()
    assert counts(site.scan(expect=1)) == {"unchanged": 1, "failed": 1}
    site.profiles.remove(entry("a"))
    assert counts(site.scan()) == {"unchanged": 1, "deleted": 1}


def test_files_that_are_no_profiles(local_site):
    site = local_site
    baseline(site, "a")
    folder = site.profiles.folder
    (folder / entry("folder")).mkdir()
    os.mkfifo(folder / entry("fifo"))
    (folder / entry("link")).symlink_to("nowhere")
    for name in ("folder", "fifo", "link"):
        site.profiles.mtimes[entry(name)] = 1
    site.profiles.write_index()
    assert counts(site.scan(expect=1)) == {"unchanged": 1, "failed": 3}


# ---- the index -----------------------------------------------------------------------------


def index_of(*lines):
    return "<?xml version='1.0' encoding='utf-8'?>\n<profiles>\n" + "\n".join(lines) + "\n</profiles>"


INDEX_FAULTS = {
    "missing": (Fault.status(404), "the server answered 404"),
    "server error": (Fault.status(503), "the server answered 503"),
    "truncated": (Fault.truncate(100), "bytes remaining"),
    "half written": (Fault.half(0.6), "cut short"),
    "empty": (Fault.replace(b""), "not a profile index"),
    "error page": (Fault.replace(b"<!DOCTYPE html><html>Sign in</html>"), "not a profile index"),
    "too big": (Fault.replace(b"<profiles>" + b"\n" * 70000 + b"</profiles>"), "65536 bytes"),
    "gz bomb": (Fault.replace(gzip.compress(b" " * 100_000_000)), "65536 bytes"),
    "slow": (Fault.hang, "timed out"),
    "not modified, unasked": (Fault.status(304), "304"),
    "hung up": (Fault.disconnect, ""),
}


@pytest.mark.parametrize("name", INDEX_FAULTS)
def test_bad_index_is_refused_as_a_whole(web_site, name):
    site = web_site
    fault, words = INDEX_FAULTS[name]
    site.web.validators = False  # else 304 would be right
    baseline(site, "a", "b", "c")
    before = recorded(site)
    site.profiles.change(entry("a"), "/software/x", 1)
    site.web.faults["profiles-info.xml"] = fault
    result = site.scan(expect=1)
    assert words in result.err
    assert "profiles-info.xml" in result.err
    assert recorded(site) == before
    site.web.faults.clear()
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 2}


def test_broken_index_file(local_site):
    site = local_site
    baseline(site, "a")
    site.profiles.write_index(index_of("<profile mtime='1'>x</profile>")[:-3])
    assert "cut short" in site.scan(expect=1).err
    (site.profiles.folder / "profiles-info.xml").unlink()
    assert "profiles-info.xml" in site.scan(expect=1).err
    site.profiles.write_index()
    assert counts(site.scan()) == {"unchanged": 1}


def test_empty_index_forgets_nothing(local_site):
    site = local_site
    baseline(site, "a", "b")
    site.profiles.write_index("<?xml version='1.0' encoding='utf-8'?>\n<profiles>\n</profiles>")
    assert "2 known profiles are kept in mind" in site.scan().err
    site.profiles.write_index()
    assert counts(site.scan()) == {"unchanged": 2}


@pytest.mark.parametrize(
    "line",
    [
        "<profile mtime='1'>../evil.cloud.template.json</profile>",
        "<profile mtime='1'>/tmp/evil.cloud.template.json</profile>",
        "<profile mtime='1'>x/../../evil.cloud.template.json</profile>",
        "<profile mtime='1'>x\\evil.cloud.template.json</profile>",
        "<profile mtime='1'>ev\x07il.cloud.template.json</profile>",
        "<profile mtime='1'>ev\nil.cloud.template.json</profile>",
        "<profile mtime='1'>ev\0il.cloud.template.json</profile>",
        "<profile mtime='soon'>evil.cloud.template.json</profile>",
        "<profile>evil.cloud.template.json</profile>",
        "<profile mtime='1'>evil.cloud.template.json",
        f"<profile mtime='1'>{'x' * 600}.cloud.template.json</profile>",
        "rubbish",
    ],
)
def test_entry_is_refused_alone(local_site, line):
    site = local_site
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    (site.root / "evil.cloud.template.json").write_bytes(pan_json(profile("evil")))
    good = f"<profile mtime='99'>{entry('a')}</profile>"
    site.profiles.write_index(index_of(line, good))
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1}
    assert "entry refused: line 3 of the index" in result.err
    assert "refused" in result.err.splitlines()[-1]
    assert queued_entries(site) == [entry("a")]
    assert list(recorded(site)) == [entry("a")]


def test_repeated_entry(local_site):
    site = local_site
    baseline(site, "a")
    lines = [f"<profile mtime='{mtime}'>{entry('a')}</profile>" for mtime in (5, 9, 7)]
    site.profiles.change(entry("a"), "/software/x", 1)
    site.profiles.write_index(index_of(*lines))
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1}
    assert f"{entry('a')} is in the index more than once" in result.err
    site.profiles.write_index(index_of(*reversed(lines)))
    assert counts(site.scan()) == {"unchanged": 1}


def test_many_refused_entries_do_not_flood(local_site):
    site = local_site
    site.profiles.write_index(index_of(*["rubbish"] * 10_000))
    result = site.scan()
    assert len(result.err.splitlines()) < 50
    assert "10000 entries refused" in result.err


def test_only_other_kinds_match(local_site):
    site = local_site
    site.profiles.write_index(index_of("<profile mtime='1'>a.cloud.template.json.xml</profile>"))
    assert "none of them a JSON profile" in site.scan().err


# ---- the neighbourhood -----------------------------------------------------------------------


def test_nobody_answers(local_site):
    site = local_site
    site.set("cdb2rabbit", PROFILE_INFO_URL="http://user:secret@127.0.0.1:1/profiles-info.xml")
    result = site.scan(expect=1)
    assert "http://127.0.0.1:1/profiles-info.xml" in result.err
    assert "secret" not in result.err


def test_cache_cannot_be_written(local_site):
    """It only explains."""
    site = local_site
    baseline(site, "a")
    cache = site.root / "cache"
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("in the way")
    site.profiles.change(entry("a"), "/software/x", 1)
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1}
    assert "cannot be explained" in result.err
    site.profiles.change(entry("a"), "/software/x", 2)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_state_cannot_be_written(local_site):
    site = local_site
    site.state_dir.write_text("in the way")
    assert str(site.state_dir) in site.scan(expect=1).err


def test_names_that_collide_in_the_cache(web_site):
    site = web_site
    names = [entry("x"), f"{entry('x')}/{entry('y')}"]
    site.web.faults[names[1]] = Fault.replace(pan_json(profile("y")))
    add_profiles(site, "x")
    site.profiles.mtimes[names[1]] = 1
    site.profiles.write_index()
    result = site.scan()
    assert "cannot be explained" in result.err
    assert recorded(site) == dict.fromkeys(names)
