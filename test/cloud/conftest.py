"""Fixtures of the tests on a real cloud. They stand on the rig of the integration tests."""

import importlib.util
import sys
from pathlib import Path

import pytest

INTEGRATION = Path(__file__).resolve().parents[1] / "integration"
sys.path.insert(0, str(INTEGRATION))
_spec = importlib.util.spec_from_file_location("integration_conftest", INTEGRATION / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
for _name in (
    "pytest_configure",
    "pytest_runtest_makereport",
    "leftovers",
    "rabbit",
    "vhost",
    "make_site",
):
    globals()[_name] = getattr(_conftest, _name)

from cloud_site import CloudSite  # noqa: E402 (the rig's folder had to be on the path)
from running_cloud import RunningCloud  # noqa: E402


@pytest.fixture(scope="session")
def running_cloud():
    try:
        return RunningCloud()
    except RuntimeError as error:
        pytest.exit(str(error), 1)


@pytest.fixture
def cloud(running_cloud):
    """The cloud; what the test changed in it is undone."""
    yield running_cloud
    running_cloud.restore()


@pytest.fixture
def site(make_site, vhost, cloud):
    """A whole site: web server, RabbitMQ, the real Packer and a template for the cloud."""
    return CloudSite(make_site(vhost=vhost, web=True), cloud)
