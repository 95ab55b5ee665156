"""cdb2rabbit: what is a change, and what is not."""

import gzip
import json
import shutil
import sqlite3

import pytest

from rig.processes import REPOSITORY
from rig.profiles import pan_json, profile
from rig.scans import add_profiles, baseline, cached, counts, entry, queued_entries, recorded

SAMPLES = REPOSITORY / "test" / "data" / "profiles"
BASE = SAMPLES / "compiled-aquilon" / "rocky-8-aq.cloud.template.json"


@pytest.fixture(params=["file", "http"])
def any_site(make_site, request):
    """With file:// URLs, and with a web server."""
    return make_site(web=request.param == "http")


# ---- verdicts --------------------------------------------------------------------------------


def test_first_scan_records(any_site):
    add_profiles(any_site, "a", "b")
    result = any_site.scan()
    assert counts(result) == {}
    assert "2 recorded as the baseline" in result.err
    assert any_site.queue_count() == 0
    assert recorded(any_site) == {entry("a"): None, entry("b"): None}
    assert counts(any_site.scan()) == {"unchanged": 2}


def test_first_scan_builds(any_site):
    any_site.set("cdb2rabbit", FIRST_RUN="build")
    add_profiles(any_site, "a", "b")
    assert counts(any_site.scan()) == {"changed": 2, "queued": 2}
    assert sorted(queued_entries(any_site)) == [entry("a"), entry("b")]
    assert counts(any_site.scan()) == {"unchanged": 2}


def test_recompiled_is_not_changed(any_site):
    baseline(any_site, "a", "b")
    any_site.profiles.recompile()
    assert counts(any_site.scan()) == {"unchanged": 2}


def test_other_order_of_the_index(any_site):
    baseline(any_site, *"abcdefgh")
    any_site.profiles.write_index()
    assert counts(any_site.scan()) == {"unchanged": 8}


@pytest.mark.parametrize(
    "path, value, word",
    [
        ("/software/packages/nginx", {}, "added"),
        ("/software/packages/bash", None, "removed"),
        ("/system/os/version/name", "9x", "changed"),
        ("/system/os/version/major", "8", "changed"),  # other type
        ("/software/groups/names", ["base", "core"], "/software/groups/names"),  # reordered
    ],
)
def test_change_is_queued(local_site, path, value, word):
    site = local_site
    baseline(site, "a", "b")
    document = site.profiles.change(entry("a"), path, value)
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1, "unchanged": 1}
    assert word in result.err and path in result.err
    (message,) = site.query("SELECT * FROM message")
    assert message.entry == entry("a")
    assert path in message.changes
    (body,) = site.query("SELECT content FROM body")
    assert bytes(body.content) == pan_json(document)
    assert counts(site.scan()) == {"unchanged": 2}


def test_message_on_rabbitmq(rabbit_site):
    site = rabbit_site
    baseline(site, "a")
    document = site.profiles.change(entry("a"), "/software/packages/nginx", {})
    site.scan()
    body, properties = site.vhost.get("build-queue")
    assert body == pan_json(document)
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id and properties.timestamp
    assert properties.headers["x-packuilon-entry"] == entry("a")
    assert len(properties.headers["x-packuilon-content-id"]) == 32
    assert "/software/packages/nginx" in properties.headers["x-packuilon-changes"]


def test_more_than_is_kept_in_memory(rabbit_site):
    """What waits for its confirm is limited to 16 MiB: then the scan goes on with each confirm."""
    site = rabbit_site
    site.set("cdb2rabbit", FIRST_RUN="build")
    names = [f"host-{n}" for n in range(40)]
    for name in names:
        site.profiles.add(entry(name), profile(name, **{"/software/filler": "x" * 1_000_000}), index=False)
    site.profiles.write_index()
    assert counts(site.scan()) == {"changed": 40, "queued": 40}
    assert site.vhost.count("build-queue") == 40
    assert counts(site.scan()) == {"unchanged": 40}


def test_formatting_is_not_a_change(local_site):
    site = local_site
    baseline(site, "a")
    document = site.profiles.read(entry("a"))
    reordered = dict(reversed(document.items()))
    site.profiles.add(entry("a"), json.dumps(reordered, separators=(",", ":")).encode())
    assert counts(site.scan()) == {"unchanged": 1}
    assert cached(site, "a") == json.dumps(reordered, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "variant, is_change",
    [
        ("branch-moved-to-sandbox", False),
        ("host-recreated-mac-serial-ip", False),
        ("buildstatus-ready", False),
        ("package-added", True),
        ("feature-removed", True),
        ("line-removed-only", True),
    ],
)
def test_compiled_variants(local_site, variant, is_change):
    site = local_site
    name = "rocky-8-aq.cloud.template.json"
    site.profiles.add(name, BASE.read_bytes())
    site.scan()
    text = SAMPLES / "compiled-variants" / name.replace(".json", f".{variant}.json")
    site.profiles.add(name, text.read_bytes())
    site.scan()
    assert site.queue_count() == is_change


def test_new_and_deleted(any_site):
    site = any_site
    baseline(site, "a", "b")
    site.profiles.remove(entry("b"))
    add_profiles(site, "c")
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1, "unchanged": 1, "deleted": 1}
    assert f"{entry('b')}: no longer in the index" in result.err
    assert queued_entries(site) == [entry("c")]
    assert recorded(site) == {entry("a"): None, entry("c"): None}
    assert cached(site, "b") is None and cached(site, "c")


def test_mtime_may_go_back(local_site):
    site = local_site
    baseline(site, "a")
    site.profiles.add(entry("a"), profile("a", **{"/software/x": 1}), compiled=1000)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_match(local_site):
    site = local_site
    baseline(site, "a")
    site.profiles.add("host.example.net.json", profile("host"))
    assert counts(site.scan()) == {"unchanged": 1}
    assert list(recorded(site)) == [entry("a")]
    site.set("cdb2rabbit", PROFILE_MATCH="")
    assert counts(site.scan()) == {"changed": 1, "queued": 1, "unchanged": 1}
    assert queued_entries(site) == ["host.example.net.json"]


def test_match_of_nothing_forgets_nothing(local_site):
    site = local_site
    baseline(site, "a")
    match = site.config["cdb2rabbit"]["PROFILE_MATCH"]
    site.set("cdb2rabbit", PROFILE_MATCH=".clod.template")
    assert "kept in mind" in site.scan().err
    site.set("cdb2rabbit", PROFILE_MATCH=match)
    assert counts(site.scan()) == {"unchanged": 1}


# ---- forms of index and profiles -----------------------------------------------------------


def test_scdb_index(local_site):
    site = local_site
    baseline(site, "a")
    site.set("cdb2rabbit", PROFILE_MATCH="")
    (site.profiles.folder / "clusters").mkdir()
    site.profiles.write_index(
        "<?xml version='1.0' encoding='utf-8'?>\n<profiles>\n"
        "<profile mtime='1627553908248'>a.cloud.template.json</profile>\n"
        "<profile mtime='1627553908248'>a.cloud.template.xml</profile>\n"
        "<profile mtime='1795416060796'>clusters</profile>\n</profiles>\n"
    )
    assert counts(site.scan()) == {"unchanged": 1}


def test_unescaped_names_and_folders(any_site):
    site = any_site
    names = ["a&b", "it's <one> 100% é", "clusters/x", "q?#"]
    baseline(site, *names)
    for name in names:
        site.profiles.change(entry(name), "/software/x", 1)
    assert counts(site.scan()) == {"changed": 4, "queued": 4}
    assert sorted(queued_entries(site)) == sorted(map(entry, names))


def gz_file(site, name, document):
    """What panc writes with gzip_output; the entry may come with or without .gz."""
    site.profiles.add(name, gzip.compress(pan_json(document)))


@pytest.mark.parametrize("encoding", [None, "gzip", "x-gzip"])
def test_gz_profiles(make_site, encoding):
    site = make_site(web=True)
    site.web.add_encoding = encoding
    gz_file(site, entry("a") + ".gz", profile("a"))
    site.scan()
    gz_file(site, entry("a") + ".gz", profile("a"))
    assert counts(site.scan()) == {"unchanged": 1}
    document = profile("a", **{"/software/x": 1})
    gz_file(site, entry("a") + ".gz", document)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}
    (body,) = site.query("SELECT content FROM body")
    assert json.loads(body.content) == document


def test_gz_profiles_as_files(local_site):
    site = local_site
    gz_file(site, entry("a") + ".gz", profile("a"))
    site.scan()
    gz_file(site, entry("a") + ".gz", profile("a", **{"/software/x": 1}))
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_compressed_replies(make_site):
    site = make_site(web=True)
    site.web.compress = True
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_site_starts_to_compress(local_site):
    """The same profiles under other entry names are the same profiles."""
    site = local_site
    baseline(site, "a")
    site.profiles.remove(entry("a"))
    gz_file(site, entry("a") + ".gz", profile("a"))
    assert counts(site.scan()) == {"unchanged": 1}


def test_both_forms_listed(local_site):
    site = local_site
    gz_file(site, entry("a") + ".gz", profile("a"))
    add_profiles(site, "a")
    site.scan()
    assert counts(site.scan()) == {"unchanged": 1}


@pytest.mark.parametrize("web", [False, True])
def test_gz_index(make_site, web):
    site = make_site(web=web)
    site.set("cdb2rabbit", PROFILE_INFO_URL=f"{site.url}/profiles-info.xml.gz")
    gz = site.profiles.folder / "profiles-info.xml.gz"

    def compress():
        gz.write_bytes(gzip.compress((site.profiles.folder / "profiles-info.xml").read_bytes()))

    add_profiles(site, "a")
    compress()
    site.scan()
    site.profiles.change(entry("a"), "/software/x", 1)
    compress()
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


# ---- IGNORE_PATHS --------------------------------------------------------------------------


def test_ignored_paths(local_site):
    site = local_site
    site.set("cdb2rabbit", IGNORE_PATHS="/software/noise, /software/*/stamp")
    baseline(site, "a")
    for path in ("/software/noise", "/software/packages/stamp"):
        site.profiles.change(entry("a"), path, 1)
        assert counts(site.scan()) == {"unchanged": 1}
    site.profiles.change(entry("a"), "/software/other", 1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_other_ignored_paths_do_not_rebuild_the_world(local_site):
    site = local_site
    baseline(site, "a", "b", "c")
    site.set("cdb2rabbit", IGNORE_PATHS="+ /software/noise")
    assert counts(site.scan()) == {"unchanged": 3}
    site.profiles.change(entry("a"), "/software/noise", 1)
    site.profiles.change(entry("b"), "/software/signal", 1)
    site.profiles.recompile(entry("c"))
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1, "unchanged": 2}
    assert "/software/signal" in result.err
    assert queued_entries(site) == [entry("b")]


def test_records_of_the_first_version_do_not_rebuild_the_world(local_site):
    """Their content ids were others, and the table had a column less."""
    site = local_site
    baseline(site, "a", "b", "c")
    with sqlite3.connect(site.state_dir / "profiles.db") as connection:
        connection.execute("UPDATE profile SET content = zeroblob(32)")
        connection.execute("ALTER TABLE profile DROP COLUMN in_order")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert counts(site.scan()) == {"unchanged": 3}
    site.profiles.change(entry("a"), "/software/signal", 1)
    site.profiles.recompile(entry("b"), entry("c"))
    site.profiles.add(entry("c"), json.dumps(site.profiles.read(entry("c"))).encode())
    result = site.scan()
    assert counts(result) == {"changed": 1, "queued": 1, "unchanged": 2}
    assert "added /software/signal" in result.err
    assert queued_entries(site) == [entry("a")]


# ---- asking for less -------------------------------------------------------------------------


def test_conditional_request(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.web.forget_requests()
    assert counts(site.scan()) == {"unchanged": 1}
    assert site.web.requested() == ["profiles-info.xml"]
    (_, headers) = site.web.requests[0]
    assert "If-None-Match" in headers and "If-Modified-Since" in headers


def test_unchanged_profiles_are_not_fetched(make_site):
    site = make_site(web=True)
    baseline(site, "a", "b", "c")
    site.profiles.change(entry("b"), "/software/x", 1)
    site.web.forget_requests()
    site.scan()
    assert site.web.requested() == ["profiles-info.xml", entry("b")]


def test_server_without_validators(make_site):
    site = make_site(web=True)
    site.web.validators = False
    baseline(site, "a")
    assert counts(site.scan()) == {"unchanged": 1}
    site.profiles.change(entry("a"), "/software/x", 1)
    assert counts(site.scan()) == {"changed": 1, "queued": 1}


def test_other_index_url_is_read_anew(make_site):
    site = make_site(web=True)
    baseline(site, "a")
    site.profiles.change(entry("a"), "/software/x", 1)
    shutil.copy2(site.profiles.folder / "profiles-info.xml", site.profiles.folder / "other.xml")
    site.scan()
    site.set("cdb2rabbit", PROFILE_INFO_URL=f"{site.url}/other.xml")
    site.web.forget_requests()
    assert counts(site.scan()) == {"unchanged": 1}
    assert "If-None-Match" not in site.web.requests[0][1]
