"""The script that configures the guest, with stand-ins for the quattor commands and Nova's metadata."""

import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rig.processes import REPOSITORY
from rig.waiting import SLOWNESS

SCRIPT = REPOSITORY / "data/guest/configure-with-quattor.sh"


class _Metadata(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        body = json.dumps({"uuid": "x", "meta": self.server.meta, "name": "build"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Guest:
    def __init__(self, root):
        self.bin, self.conf, self.calls = root / "bin", root / "ccm.conf", root / "calls"
        self.bin.mkdir()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
        self.server.meta = {"AQ_STATUS": "SUCCESS"}
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.command("hostname", "echo '10.0.0.5 fe80::1'")
        self.command("getent", "echo '10.0.0.5 vm5.example.org alias'")
        self.command("quattor-fetch", "exit 0")
        self.command("quattor-configure", "exit 0")

    def command(self, name, text):
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{text}\n')
        path.chmod(0o755)

    def called(self, name):
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(name + " ")]

    def run(self, shell="dash", **environment):
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PROFILE_URL": "http://aquilon.example.org/profiles/",
            "CCM_CONF": str(self.conf),
            "METADATA_URL": f"http://127.0.0.1:{self.server.server_port}/",
            "NAME_SECONDS": "2",
            "PROFILE_SECONDS": "2",
            "POLL_SECONDS": "0.1",
            **environment,
        }
        return subprocess.run(
            [shutil.which(shell), str(SCRIPT)], env=environment, capture_output=True, text=True,
            timeout=30 * SLOWNESS, check=False,
        )  # fmt: skip

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def guest(tmp_path):
    guest = Guest(tmp_path)
    yield guest
    guest.close()


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_it_configures_the_guest(guest, shell):
    result = guest.run(shell)
    assert result.returncode == 0, result.stderr
    lines = guest.conf.read_text().splitlines()
    assert "profile http://aquilon.example.org/profiles/vm5.example.org.json" in lines
    assert guest.called("quattor-configure") == ["quattor-configure --all"]


def test_the_name_that_it_was_registered_with_comes_first(guest):
    guest.server.meta["HOSTNAMES"] = "host-10-0-0-5.nubes.example.org,other.example.org"
    assert guest.run().returncode == 0
    assert "/host-10-0-0-5.nubes.example.org.json" in guest.conf.read_text()
    assert not guest.called("getent")


def test_it_waits_for_the_name(guest):
    guest.command("getent", f'[ "$(grep -c getent "{guest.calls}")" -ge 3 ] && echo "10.0.0.5 a.b.c"')
    assert guest.run().returncode == 0
    assert "/a.b.c.json" in guest.conf.read_text()


@pytest.mark.parametrize("name", ["", "localhost", "x y.example.org", "a.b/../c", "$(reboot).org"])
def test_without_a_name_it_fails(guest, name):
    guest.command("getent", f"echo '10.0.0.5 {name}'" if " " not in name else "exit 2")
    result = guest.run()
    assert result.returncode == 3 and "10.0.0.5" in result.stderr
    assert not guest.called("quattor-fetch")


def test_a_hostname_without_addresses(guest):
    """Busybox's."""
    guest.command("hostname", "exit 1")
    guest.command("ip", "echo '2: eth0    inet 10.0.0.7/24 brd 10.0.0.255 scope global eth0'")
    assert guest.run().returncode == 0
    assert guest.called("getent") == ["getent hosts 10.0.0.7"]


def test_it_waits_for_the_profile(guest):
    text = f'[ "$(grep -c fetch "{guest.calls}")" -ge 3 ] || exit 2'
    guest.command("quattor-fetch", text)
    assert guest.run().returncode == 0
    assert len(guest.called("quattor-fetch")) == 3


def test_a_profile_that_does_not_come(guest):
    guest.command("quattor-fetch", "exit 1")
    result = guest.run()
    assert result.returncode == 5 and "ended with 1" in result.stderr
    assert "AQ_STATUS: SUCCESS" in result.stderr
    assert not guest.called("quattor-configure")


def test_a_fetch_that_hangs_is_tried_again(guest):
    text = f'[ "$(grep -c fetch "{guest.calls}")" -ge 2 ] || exec sleep 600'
    guest.command("quattor-fetch", text)
    assert guest.run(FETCH_SECONDS="1", PROFILE_SECONDS="600").returncode == 0
    assert len(guest.called("quattor-fetch")) == 2


def test_a_registration_that_failed_ends_it_at_once(guest):
    guest.server.meta = {"AQ_STATUS": "FAILED", "AQ_STATUS_REASON": "missing: AQ_OS"}
    guest.command("quattor-fetch", "exit 2")
    result = guest.run(PROFILE_SECONDS="600")
    assert result.returncode == 4 and "missing: AQ_OS" in result.stderr
    assert len(guest.called("quattor-fetch")) == 1


def test_disabled_quattor_ends_it_at_once(guest):
    guest.command("quattor-fetch", "exit 3")
    assert guest.run(PROFILE_SECONDS="600").returncode == 5


@pytest.mark.parametrize("text", ["exit 255", "kill -9 $$"])
def test_a_configuration_that_fails_fails_the_build(guest, text):
    guest.command("quattor-configure", text)
    result = guest.run()
    assert result.returncode == 6 and "quattor-configure ended with" in result.stderr


def test_a_configuration_that_hangs_fails_the_build(guest):
    guest.command("quattor-configure", "exec sleep 600")
    assert guest.run(CONFIGURE_SECONDS="1").returncode == 6


def test_a_configuration_that_will_not_end_is_killed(guest):
    guest.command("quattor-configure", "trap '' TERM; exec sleep 600")
    result = guest.run(CONFIGURE_SECONDS="1")
    assert result.returncode == 6 and "ended with 137" in result.stderr


def test_without_metadata_service(guest):
    assert guest.run(METADATA_URL="").returncode == 0
    assert guest.run(METADATA_URL="http://127.0.0.1:1/").returncode == 0


def test_usage(guest):
    assert guest.run(PROFILE_URL="").returncode == 2


def test_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck")
    result = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert os.access(SCRIPT, os.X_OK)
