"""Input that is wrong: each gets an error that names file, line, key or profile, and nothing is
lost by it. Messages and templates are in test_builder_outcomes.py."""

import gzip
import socket
import threading
import time

import pytest

from rig.processes import free_ports
from rig.profiles import OS_KEY, pan_json, profile
from rig.site import is_alive, resident_bytes
from rig.waiting import wait_for
from rig.web import Fault

GOOD, BAD = "good.cloud.template.json", "bad.cloud.template.json"


# ---- config.ini ------------------------------------------------------------------------------

BAD_CONFIG = {
    "no section": ("QUEUE = x\n", ["config.ini:1"]),
    "no equals sign": ("[global]\n\nQUEUE\n", ["config.ini:3"]),
    "section not closed": ("[global\nQUEUE = x\n", ["config.ini:1"]),
    "port is a word": ("[global]\nRABBIT_PORT = many\n", ["config.ini:2", "RABBIT_PORT", "many"]),
    "port out of range": ("[global]\nRABBIT_PORT = 70000\n", ["config.ini:2", "RABBIT_PORT"]),
    "unknown transport": ("[global]\nTRANSPORT = pigeon\n", ["config.ini:2", "TRANSPORT"]),
    "no slots": ("[rabbit2packer]\nTHREAD_COUNT = 0\n", ["config.ini:2", "THREAD_COUNT"]),
    "negative": ("[rabbit2packer]\nBUILD_TIMEOUT = -5\n", ["config.ini:2", "BUILD_TIMEOUT"]),
    "URL": ("[cdb2rabbit]\nPROFILE_INFO_URL = gopher://x\n", ["config.ini:2", "PROFILE_INFO_URL"]),
    "NUL": ("[global]\nQUEUE = a\0b\n", ["config.ini:2"]),
    "pattern": ("[rabbit2packer]\nIMAGE_NAME = ${nonsense}\n", ["config.ini:2", "nonsense"]),
    "ignored path": ("[cdb2rabbit]\nIGNORE_PATHS = system\n", ["config.ini:2", "IGNORE_PATHS"]),
}


@pytest.mark.parametrize("what", BAD_CONFIG)
@pytest.mark.parametrize("name", ["cdb2rabbit", "rabbit2packer"])
def test_bad_config(local_site, name, what):
    text, words = BAD_CONFIG[what]
    local_site.write_config(text)
    result = local_site.program(name, "-c", local_site.config_path, expect=2)
    for word in words:
        assert word in result.err


def test_missing_config(local_site):
    for name in ("cdb2rabbit", "rabbit2packer"):
        result = local_site.program(name, "-c", "no-such.ini", expect=2)
        assert "no-such.ini" in result.err


def test_unknown_keys_are_warnings(local_site):
    local_site.config["rally-image-testing"] = {"RALLY_DIR": "/x"}
    local_site.set("cdb2rabbit", PROFLIE_MATCH="typo")
    local_site.profiles.add(GOOD, profile())
    result = local_site.scan()
    assert "rally-image-testing" in result.err
    assert "PROFLIE_MATCH" in result.err
    assert "config.ini:" in result.err


def test_huge_config(local_site):
    local_site.write_config("[global]\n# " + "x" * 20_000_000 + "\n")
    local_site.program("cdb2rabbit", "-c", local_site.config_path, expect=2)


@pytest.mark.parametrize("name", ["cdb2rabbit", "rabbit2packer", "packuilon"])
def test_usage(local_site, name):
    assert "Usage" in local_site.program(name, "--help").out
    assert local_site.program(name, "--version").out.strip()
    result = local_site.program(name, "--no-such-option", expect=2)
    assert "no-such-option" in result.err


# ---- maps ------------------------------------------------------------------------------------

BAD_MAPS = {
    "source-images.json": [
        ("{\n  \"a\": \"b\"\n  \"c\": \"d\"\n}", ["line 3"]),
        ("[]", ["object"]),
        ('{"rocky8x-x86_64": 7}', [OS_KEY]),
        ('{"rocky": {"8x-x86_64": ["x"]}}', ["8x-x86_64"]),
        ("", []),
    ],
    "template-map.json": [
        ("{\n  \"DEFAULT\": [\"a\"\n}", ["line 3"]),
        ("[]", ["object"]),
        ('{"DEFAULT": {"a": 1}}', ["DEFAULT"]),
        ('{"DEFAULT": [7]}', ["DEFAULT"]),
        ("\xff", []),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [(name, text, words) for name, cases in BAD_MAPS.items() for text, words in cases],
)
def test_bad_map_stops_building_and_loses_nothing(local_site, name, text, words):
    path = local_site.root / name
    good = path.read_bytes()
    path.write_bytes(text.encode("latin1"))
    check = local_site.packuilon("check", expect=1)
    worker = local_site.worker()
    local_site.publish_profile()
    worker.wait_log("taking no builds until this is mended")
    for word in [name, *words]:
        assert word in worker.log()
        assert word in check.out + check.err
    worker.stop()
    path.write_bytes(good)
    local_site.worker()
    local_site.wait_state("succeeded")


# ---- index -----------------------------------------------------------------------------------


@pytest.fixture
def web_site(make_site):
    """Over HTTP, with a baseline recorded."""
    site = make_site(web=True)
    site.profiles.add(GOOD, profile("good"), index=False)
    site.profiles.add(BAD, profile("bad"))
    site.scan()
    return site


def index(*lines):
    return "\n".join(["<?xml version='1.0' encoding='utf-8'?>", "<profiles>", *lines, "</profiles>"])


BAD_ENTRIES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b.cloud.template.json",
    "..",
    "a\x01b.cloud.template.json",
    "a\tb.cloud.template.json",
    "",
    "x" * 5000 + ".cloud.template.json",
    "\xff\xfe.cloud.template.json",
]


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_bad_names_are_refused_and_hurt_no_other(web_site, name):
    site = web_site
    site.profiles.change(GOOD, "/software/x", "1")
    lines = [f"<profile mtime='{mtime}'>{entry}</profile>" for entry, mtime in site.profiles.mtimes.items()]
    site.profiles.write_index(
        index(f"<profile mtime='1'>{name}</profile>", *lines).encode("latin1")
    )
    site.web.forget_requests()
    site.scan(expect=None)
    assert site.queue_count() == 1
    assert set(site.web.requested()) == {"profiles-info.xml", GOOD}


def test_repeated_name_is_refused(web_site):
    site = web_site
    site.profiles.change(GOOD, "/software/x", "1")
    lines = [f"<profile mtime='{mtime}'>{entry}</profile>" for entry, mtime in site.profiles.mtimes.items()]
    site.profiles.write_index(index(*lines, f"<profile mtime='7'>{BAD}</profile>"))
    result = site.scan(expect=None)
    assert BAD in result.err
    assert site.queue_count() == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html><body>It works!</body></html>",
        b"\x00\x01\x02",
        b"\x1f\x8b\x08garbage",
        b"<profiles>",
        b"<profiles>\n<profile mtime='1'>a.cloud.template.json</prof",
        b"<profiles>\n<profile mtime='x'>a.cloud.template.json</profile>\n",
    ],
)
def test_bad_index_is_no_reason_to_forget_anything(web_site, text):
    """Cut short or no index at all: nobody was deleted, and the next good one goes on as before."""
    site = web_site
    site.web.faults["profiles-info.xml"] = Fault.replace(text)
    result = site.scan(expect=1)
    assert "profiles-info.xml" in result.err
    site.web.faults.clear()
    site.profiles.change(GOOD, "/software/x", "1")
    site.scan()
    assert site.queue_count() == 1


def test_huge_index(web_site):
    web_site.set("cdb2rabbit", MAX_INDEX_BYTES="2K")
    web_site.profiles.write_index(index(*["<profile mtime='1'>x.json</profile>"] * 100))
    result = web_site.scan(expect=1)
    assert "MAX_INDEX_BYTES" in result.err


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(404),
        Fault.status(500),
        Fault.status(403),
        Fault.truncate(40),
        Fault.garbage,
        Fault.disconnect,
    ],
)
def test_index_that_cannot_be_had(web_site, fault):
    site = web_site
    site.web.faults["profiles-info.xml"] = fault
    result = site.scan(expect=1)
    assert f"{site.url}/profiles-info.xml" in result.err
    site.web.faults.clear()
    site.profiles.change(GOOD, "/software/x", "1")
    site.scan()
    assert site.queue_count() == 1


def test_index_that_hangs(web_site):
    site = web_site
    site.set("cdb2rabbit", HTTP_TIMEOUT=1)
    site.web.faults["profiles-info.xml"] = Fault.hang
    before = time.monotonic()
    result = site.scan(expect=1)
    assert time.monotonic() - before < 10
    assert "profiles-info.xml" in result.err


def test_web_server_that_is_not_there(web_site):
    web_site.web.close()
    result = web_site.scan(expect=1)
    assert "127.0.0.1" in result.err


# ---- profiles --------------------------------------------------------------------------------

BAD_PROFILES = {
    "not found": Fault.status(404),
    "server error": Fault.status(500),
    "cut in transit": Fault.truncate(100),
    "half copied": Fault.half(0.5),
    "empty": Fault.replace(b""),
    "not JSON": Fault.replace(b"<html>busy</html>"),
    "an array": Fault.replace(b"[]"),
    "invalid UTF-8": Fault.replace(pan_json(profile("bad", y="xyz")).replace(b"xyz", b"\xff\xfe")),
    "too deep": Fault.replace(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "gzip garbage": Fault.replace(b"\x1f\x8b\x08\x00garbage"),
    "gzip header only": Fault.replace(b"hello", Content_Encoding="gzip"),
    "bomb": Fault.replace(gzip.compress(b" " * 300_000_000), Content_Encoding="gzip"),
    "opaque bomb": Fault.replace(gzip.compress(b" " * 300_000_000)),
    "garbage": Fault.garbage,
    "disconnect": Fault.disconnect,
}


@pytest.mark.parametrize("what", BAD_PROFILES)
def test_one_bad_profile_hurts_no_other_and_is_tried_again(web_site, what):
    site = web_site
    for name in (GOOD, BAD):
        site.profiles.change(name, "/software/x", "1")
    site.web.faults[BAD] = BAD_PROFILES[what]
    result = site.scan(expect=1)
    assert BAD in result.err
    assert site.queue_count() == 1, "the good one"
    assert BAD in site.packuilon("status").out

    site.scan(expect=1)
    assert site.queue_count() == 1, "still bad, and the good one is not queued again"

    site.web.faults.clear()
    site.scan()
    assert site.queue_count() == 2
    assert BAD not in site.packuilon("status").out


def test_profile_that_hangs(web_site):
    site = web_site
    site.set("cdb2rabbit", HTTP_TIMEOUT=1)
    for name in (GOOD, BAD):
        site.profiles.change(name, "/software/x", "1")
    site.web.faults[BAD] = Fault.hang
    result = site.scan(expect=1)
    assert BAD in result.err
    assert site.queue_count() == 1


def test_huge_profile(web_site):
    """100 MB: refused by the limit, or queued if the site allows it; never a crash."""
    site = web_site
    huge = pan_json(profile("bad", **{"/software/x": "y" * 100_000_000}))
    site.profiles.change(GOOD, "/software/x", "1")
    site.profiles.add(BAD, huge)
    result = site.scan(expect=1)
    assert BAD in result.err
    assert "MAX_PROFILE_BYTES" in result.err
    assert site.queue_count() == 1

    site.set("cdb2rabbit", MAX_PROFILE_BYTES=200_000_000)
    site.scan(deadline=60)
    assert site.queue_count() == 2


def test_scanner_is_killed_between_two_profiles(web_site):
    """What was queued is known to be, and the rest is done by the next scan."""
    site = web_site
    gate = site.web.gates[BAD] = threading.Event()
    for name in (GOOD, BAD):
        site.profiles.change(name, "/software/x", "1")
    scanner = site.daemon("cdb2rabbit", ready=False)
    wait_for(lambda: site.web.requested(BAD) == 2, "the profile is being fetched")
    scanner.kill()
    gate.set()
    site.scan()
    assert site.queue_count() in (2, 3), "nothing is lost; at most one is there twice"
    site.set("rabbit2packer", THREAD_COUNT=1)
    worker = site.worker("--until-idle", ready=False)
    assert worker.wait() == 0
    assert {build.personality for build in site.builds("succeeded")} == {"good", "bad"}


def test_broker_refuses(make_site, vhost):
    """Not confirmed is not done: the next scan queues it."""
    site = make_site(vhost=vhost, web=True)
    site.profiles.add(GOOD, profile("good"))
    site.scan()
    site.profiles.change(GOOD, "/software/x", "1")
    vhost.node.set_permissions(vhost.name, "packuilon", write="^$")
    result = site.scan(expect=1)
    assert vhost.name in result.err
    assert "packuilon" in result.err
    vhost.node.set_permissions(vhost.name, "packuilon")
    site.scan()
    assert site.queue_count() == 1


def test_broker_is_not_there(make_site, vhost):
    site = make_site(vhost=vhost, web=True)
    site.profiles.add(GOOD, profile("good"))
    site.scan()
    site.profiles.change(GOOD, "/software/x", "1")
    right = site.config["global"]["RABBIT_PORT"]
    site.set("global", RABBIT_PORT=1)
    result = site.scan(expect=1)
    assert "127.0.0.1" in result.err
    site.set("global", RABBIT_PORT=right)
    site.scan()
    assert site.queue_count() == 1


# ---- CDP packets -----------------------------------------------------------------------------


def test_garbage_packets_do_nothing(web_site):
    site = web_site
    (port,) = free_ports(1, socket.SOCK_DGRAM)
    site.set("cdb2rabbit", CDP_LISTEN=f"127.0.0.1:{port}", POLL_SECONDS=0)
    listener = site.listener()
    wait_for(lambda: site.web.requested("profiles-info.xml") >= 2, "the scan at the start")
    site.web.forget_requests()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (b"", b"cdb", b"cdb|12", b"cdb\0", b"cdb\0abc", b"CDB\x0012", b"x" * 60000,
                     b"cdb\0" + b"9" * 5000, b"\0" * 100, b"cdb\x0012\0"):  # fmt: skip
            sender.sendto(data, ("127.0.0.1", port))
        assert site.web.requested() == []
        sender.sendto(b"cdb\x001486571445", ("127.0.0.1", port))
        wait_for(lambda: site.web.requested("profiles-info.xml"), "the scan after a good packet")
    assert is_alive(listener.pid)
    assert resident_bytes(listener.pid) < 64 * 1024 * 1024
    assert site.web.requested("profiles-info.xml") == 1
    assert listener.stop() == 0
