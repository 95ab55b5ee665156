"""rabbit2packer: orders that meet other orders: cancel, stop, reload, --until-idle."""

import signal
from pathlib import Path

import pytest

from rig.profiles import OS_KEY, profile
from rig.waiting import wait_for


def gate(site, *before):
    path = site.root / "go"
    site.template("managed", *before, "launch", f"wait {path}", "succeed")
    return path


def write_calls(pid):
    """How often a process has called write(2) and its like."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["syscw"])


def test_until_idle_lets_builds_end_when_something_breaks(local_site):
    site = local_site
    go = gate(site)
    worker = site.worker("--until-idle", ready=False)
    site.publish_profile("one")
    site.wait_state("building")
    site.source_images("{")
    site.publish_profile("two")
    worker.wait_log("taking no builds")
    go.touch()
    assert worker.wait() == 1
    (build,) = site.builds()
    assert build.state == "succeeded"
    assert site.queue_count() == 1
