"""Fixtures. Tests run beside each other (pytest -n 4): each has its own folder, and its own virtual
host on a RabbitMQ node that all share."""

import fcntl
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from rig import processes
from rig.rabbit import RabbitNode
from rig.site import Site
from rig.waiting import wait_for
from rig.web import WebServer

DATA = processes.REPOSITORY / "test" / "data"

processes.adopt_orphans()
_session_pids = set()  # keepers of servers that outlive a test


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)
    if report.failed:
        for site in getattr(item, "sites", []):
            report.sections.append((f"site {site.root}", site.describe()))


# ---- what a test leaves behind ---------------------------------------------------------------


@pytest.fixture(autouse=True)
def leftovers():
    """Comes first, so that it is torn down last: nothing that the test started is left."""
    listening = processes.listening_sockets()
    before = set(processes.descendants(_session_pids))
    yield

    def left():
        processes.reap_orphans(_session_pids)
        found = processes.descendants(_session_pids)
        return {pid: line for pid, line in found.items() if pid not in before}

    try:
        wait_for(lambda: not left(), "", deadline=3)
    except AssertionError:
        found = left()
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"processes left behind: {found}")
    assert processes.listening_sockets() <= listening, "a server was left listening"


# ---- servers ---------------------------------------------------------------------------------


def _shared_folder(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _controller_pid():
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory):
    """The node that all tests share; the first to need it starts it."""
    folder = _shared_folder(tmp_path_factory)
    info = folder / "rabbit.json"
    with open(folder / "rabbit.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not info.exists():
            node = RabbitNode.start(folder / "rabbit", _controller_pid())
            _session_pids.add(node.keeper_pid)
            info.write_text(json.dumps([str(node.root), node.ports, node.keeper_pid]))
    node = RabbitNode(*json.loads(info.read_text()))
    yield node
    if "PYTEST_XDIST_WORKER" not in os.environ:
        node.kill()


@pytest.fixture
def own_rabbit(tmp_path):
    """A node of the test's own, to stop, kill and start again. Takes some seconds."""
    node = RabbitNode.start(tmp_path / "own-rabbit", os.getpid())
    yield node
    node.kill()


@pytest.fixture
def vhost(rabbit):
    vhost = rabbit.add_vhost()
    yield vhost
    vhost.delete()


# ---- sites -----------------------------------------------------------------------------------


@pytest.fixture
def make_site(request):
    """make_site(name="site", vhost=None, web=False): a Site, closed and removed at the end, kept
    when the test failed."""
    sites = request.node.sites = []
    # Packer makes UNIX sockets in its TMPDIR, below: pytest's own paths are too long for them.
    root = Path(tempfile.mkdtemp(prefix="pk-"))

    def make(name="site", *, vhost=None, web=False):
        site = Site(root / name, vhost=vhost, web=WebServer if web else None)
        sites.append(site)
        return site

    yield make
    complaints = [complaint for site in sites for complaint in site.close()]
    report = getattr(request.node, "report_call", None)
    if report and not report.failed and not complaints:
        shutil.rmtree(root)
    if complaints:
        pytest.fail("\n".join(complaints))


@pytest.fixture(params=["local", "amqp"])
def transport(request):
    return request.param


@pytest.fixture
def site(make_site, transport, request):
    """A site with the fake Packer; each test runs with the local queue and with RabbitMQ."""
    vhost = request.getfixturevalue("vhost") if transport == "amqp" else None
    return make_site(vhost=vhost)


@pytest.fixture
def local_site(make_site):
    """For tests to which the queue does not matter."""
    return make_site()


@pytest.fixture
def rabbit_site(make_site, vhost):
    return make_site(vhost=vhost)


# ---- sample data -----------------------------------------------------------------------------


@pytest.fixture
def sample_profile():
    """Bytes of a profile that the real pan compiler made."""
    return (DATA / "profiles/compiled-aquilon/rocky-8-aq.cloud.template.json").read_bytes()


@pytest.fixture
def packer_logs():
    """Folder of outputs of the real Packer on a real OpenStack."""
    return DATA / "packer-logs/openstack-zed"
