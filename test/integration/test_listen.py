"""cdb2rabbit --listen: notifications, polling, and its end."""

import os
import signal
import socket
import threading

import pytest

from rig import processes
from rig.scans import baseline, entry, queued_entries, summaries
from rig.site import is_alive
from rig.waiting import wait_for
from rig.web import Fault

PACKET = b"cdb\x001486571445"
INDEX = "profiles-info.xml"


class Listener:
    """A site with a web server, listening on a port of its own."""

    def __init__(self, site, **config):
        self.site = site
        (self.port,) = processes.free_ports(1, socket.SOCK_DGRAM)
        values = {"CDP_LISTEN": f"127.0.0.1:{self.port}", "POLL_SECONDS": 0, **config}
        site.set("cdb2rabbit", **values)
        self.daemon = site.listener()

    def send(self, *packets, source="127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            for packet in packets:
                sender.sendto(packet, ("127.0.0.1", self.port))

    def n_scans(self):
        return len(summaries(self.daemon.log()))

    def wait_scans(self, number):
        wait_for(lambda: self.n_scans() >= number, f"{number} scans: {self.daemon.log()}")
        assert self.n_scans() == number, self.daemon.log()


@pytest.fixture
def listen(make_site):
    """listen(**config): a listener whose first scan is over."""

    def start(**config):
        site = make_site(web=True)
        baseline(site, "a")
        listener = Listener(site, **config)
        listener.wait_scans(1)
        return listener

    yield start


def test_packet_starts_a_scan(listen):
    listener = listen()
    for number, packet in enumerate((PACKET, b"ccm\x001486571445", PACKET + b"\n"), start=1):
        listener.site.profiles.change(entry("a"), "/software/x", number)
        listener.send(packet)
        listener.wait_scans(number + 1)
        assert len(queued_entries(listener.site)) == number
    assert "cdb packet from 127.0.0.1" in listener.daemon.log()


def test_other_packets_are_ignored(listen):
    """The last one shows that those before it have been looked at."""
    listener = listen()
    listener.send(
        b"",
        b"cdb",
        b"cdb|1486571445",
        b"cdb\x00",
        b"cdb\x0012x",
        b"xcdb\x001486571445",
        b"cdb\x001486571445\n\n",
        b"CDB\x001486571445",
        b"cdb\x00" + b"1" * 1000,
        b"\xff" * 60000,
    )
    listener.daemon.wait_log("packet from 127.0.0.1 ignored: not a CDP notification")
    listener.send(PACKET)
    listener.wait_scans(2)
    assert listener.daemon.log().count("ignored") <= 2, "garbage does not flood the log"


@pytest.mark.parametrize("allow, is_allowed", [("127.0.0.2", True), ("127.0.0.3, ::1", False)])
def test_allowed_senders(listen, allow, is_allowed):
    listener = listen(CDP_ALLOW=allow)
    listener.send(PACKET, source="127.0.0.2")
    if is_allowed:
        listener.wait_scans(2)
    else:
        listener.daemon.wait_log("packet from 127.0.0.2 ignored: CDP_ALLOW")
        assert listener.n_scans() == 1


def test_packets_during_a_scan_are_worth_one_more(listen):
    listener = listen()
    site = listener.site
    gate = site.web.gates[INDEX] = threading.Event()
    listener.send(PACKET)
    wait_for(lambda: site.web.requested(INDEX) == 3, "the scan has begun")
    for _ in range(20):
        listener.send(PACKET)
    wait_for(
        lambda: socket_is_empty(listener.port), "the packets are taken while the scan runs"
    )
    gate.set()
    listener.wait_scans(3)
    listener.send(PACKET)  # and it is awake
    listener.wait_scans(4)


def socket_is_empty(port):
    """The receive queue of the UDP socket, as the kernel tells it."""
    with open("/proc/net/udp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port:
                return int(fields[4].split(":")[1], 16) == 0
    raise AssertionError(f"nobody listens on port {port}")


def test_many_packets_at_once(listen):
    """Those that wait when it looks are one notification."""
    listener = listen()
    os.kill(listener.daemon.pid, signal.SIGSTOP)
    listener.send(*[PACKET] * 100)
    os.kill(listener.daemon.pid, signal.SIGCONT)
    listener.wait_scans(2)


def test_polling(listen):
    listener = listen(POLL_SECONDS=1)
    listener.site.profiles.change(entry("a"), "/software/x", 1)
    wait_for(lambda: queued_entries(listener.site), "the change is found unasked")


def test_failed_scan_does_not_end_it(listen):
    listener = listen()
    listener.site.web.faults[INDEX] = Fault.status(500)
    listener.send(PACKET)
    listener.daemon.wait_log("the server answered 500")
    listener.site.web.faults.clear()
    listener.site.profiles.change(entry("a"), "/software/x", 1)
    listener.wait_scans(2)
    listener.send(PACKET)
    wait_for(lambda: queued_entries(listener.site), "the change is queued")


def scan_pid():
    """Of the running scan."""
    (pid,) = (pid for pid, line in processes.descendants().items() if "/proc/self/exe" in line)
    return pid


def test_killed_scan_does_not_end_it(listen):
    listener = listen()
    site = listener.site
    gate = site.web.gates[INDEX] = threading.Event()
    listener.send(PACKET)
    wait_for(lambda: site.web.requested(INDEX) == 3, "the scan has begun")
    os.kill(scan_pid(), signal.SIGKILL)
    listener.daemon.wait_log("ended by signal 9")
    gate.set()
    listener.send(PACKET)
    listener.wait_scans(2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end(listen, number):
    listener = listen()
    listener.daemon.signal(number)
    assert listener.daemon.wait() == 0


def test_end_during_a_scan(listen):
    listener = listen()
    site = listener.site
    site.web.gates[INDEX] = threading.Event()
    listener.send(PACKET)
    wait_for(lambda: site.web.requested(INDEX) == 3, "the scan has begun")
    pid = scan_pid()
    assert listener.daemon.stop() == 0
    assert not is_alive(pid)


def test_scan_ends_with_a_killed_listener(listen):
    listener = listen()
    site = listener.site
    site.web.gates[INDEX] = threading.Event()
    listener.send(PACKET)
    wait_for(lambda: site.web.requested(INDEX) == 3, "the scan has begun")
    pid = scan_pid()
    listener.daemon.signal(signal.SIGKILL)
    listener.daemon.wait()
    wait_for(lambda: not is_alive(pid), "the scan has ended, too")


def test_port_in_use(listen):
    listener = listen()
    site = listener.site
    site.set("cdb2rabbit", CDP_LISTEN=f"127.0.0.1:{listener.port}")
    result = site.scan("--listen", expect=1)
    assert "is cdp-listend running?" in result.err


def test_bad_addresses(local_site):
    site = local_site
    site.set("cdb2rabbit", CDP_LISTEN="somewhere")
    assert "CDP_LISTEN" in site.scan("--listen", expect=2).err
    site.set("cdb2rabbit", CDP_LISTEN=None, CDP_ALLOW="example.net")
    assert "CDP_ALLOW" in site.scan("--listen", expect=2).err
