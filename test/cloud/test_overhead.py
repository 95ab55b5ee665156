"""What the chain costs beside the bare `packer build` of the same file."""

import os
import random
import re
import resource
import shlex
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from cloud_site import BUILD_SECONDS, entry_of
from rig.profiles import OS_KEY
from rig.waiting import wait_for

PAIRS = int(os.environ.get("PACKUILON_OVERHEAD_PAIRS", "6"))
WALL_SHARE_BAR = 0.01
CPU_SECONDS_BAR = 0.020
# On a busy machine a bar may be missed, and is told; a chain that is in the way misses it by far.
FAR = 4
PERSONALITY = "nubesvms"
UNITS = {"hour": 3600, "minute": 60, "second": 1, "millisecond": 1e-3, "microsecond": 1e-6}


def packer_seconds(output):
    """What Packer says that its build took."""
    (text,) = re.findall(r"==> Wait completed after (.*)", output)
    return sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (\w+?)s?\b", text))


def worker_cpu_seconds(worker):
    """Of its one thread, without Packer, by the scheduler's nanoseconds."""
    return int(Path(f"/proc/{worker.pid}/schedstat").read_text().split()[0]) / 1e9


def children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Run(NamedTuple):
    wall: float
    inner: float  # by Packer's own account
    phases: dict
    scan_cpu: float = 0.0  # of cdb2rabbit
    worker_cpu: float = 0.0  # of rabbit2packer, without Packer

    @property
    def cpu(self):
        return self.scan_cpu + self.worker_cpu


def ours(chain, bare):
    """Seconds outside of Packer's build that the chain takes more."""
    return (chain.wall - chain.inner) - (bare.wall - bare.inner)


def has_built(worker, said):
    """By what it tells systemd: to ask the journal all the time would cost what is measured."""
    told = [line for line in worker.notified[said:] if line.startswith("STATUS=")]
    return any("=1 of" in line for line in told) and "=0 of" in told[-1]


def chain_build(site, worker, number):
    """From the profile's change to the journal's last word."""
    site.profiles.change(entry_of(PERSONALITY), "/software/packages/nginx", {"n": str(number)})
    worker_cpu, scan_cpu = -worker_cpu_seconds(worker), -children_cpu_seconds()
    said = len(worker.notified)
    begun = time.monotonic()
    site.scan()
    scan_cpu += children_cpu_seconds()
    wait_for(lambda: has_built(worker, said), f"the end of build {number}", BUILD_SECONDS)
    builds = wait_for(
        lambda: len(site.builds("succeeded")) == number and site.builds(),
        f"build {number} in the journal",
    )
    wall = time.monotonic() - begun
    inner = packer_seconds(site.log_text(builds[-1]))
    worker_cpu += worker_cpu_seconds(worker)
    return Run(wall, inner, dict(site.phases(builds[-1])), scan_cpu, worker_cpu)


class Bare:
    """Packer's words as they come, read like the worker reads them: when each phase began."""

    OPENS = {
        "Loading flavor": "launch",
        "Waiting for server to become ready": "boot",
        "Using ssh communicator": "connect",
        "Connected to SSH!": "provision",
        "Stopping server": "stop",
        "Creating the image": "save",
        "Terminating the source server": "clean up",
    }

    def __init__(self, process):
        self.text, self.begun = "", {}
        for line in process.stdout:
            now = time.monotonic()
            self.text += line
            for words, phase in self.OPENS.items():
                if line.startswith("==>") and f": {words}" in line:
                    self.begun.setdefault(phase, now)
        self.ended = time.monotonic()

    def phases(self):
        ends = [*self.begun.values(), self.ended][1:]
        return {phase: end - at for (phase, at), end in zip(self.begun.items(), ends)}


def bare_build(site):
    """The file that rabbit2packer gave to Packer, built by hand."""
    (build_file,) = (site.root / "build-files").glob(f"{PERSONALITY}-{OS_KEY}*")
    script = f". {shlex.quote(str(site.cloud.dir / 'openrc'))}; exec packer build -color=false "
    begun = time.monotonic()
    with subprocess.Popen(
        ["bash", "-c", script + shlex.quote(str(build_file))],
        cwd=site.root,
        env=site.environment(CHECKPOINT_DISABLE="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output = Bare(process)
    wall = time.monotonic() - begun
    assert process.returncode == 0, output.text
    return Run(wall, packer_seconds(output.text), output.phases())


def by_turns(pairs):
    """In which pairs the chain is first: half of them, by lot."""
    turns = [at % 2 == 0 for at in range(pairs)]
    random.shuffle(turns)
    return turns


def measure_pair(site, worker, number, chain_first):
    """(chain, bare)"""
    if chain_first:
        return chain_build(site, worker, number), bare_build(site)
    bare = bare_build(site)
    return chain_build(site, worker, number), bare


def test_overhead(site, cloud, capsys):
    """Packer tries SSH every 5 to 7 s, so whole builds differ by as much without any cause. What
    decides is the time outside its build: before and after it, in the chain and by hand."""
    site.add_personalities(PERSONALITY)
    worker = site.worker()
    chain_build(site, worker, 1)  # the first on this cloud is slower, whoever does it
    pairs = []
    for number, chain_first in enumerate(by_turns(PAIRS), 1):
        chain, bare = measure_pair(site, worker, number + 1, chain_first)
        pairs.append((chain, bare))
        report(
            capsys,
            f"pair {number}, {'chain' if chain_first else 'bare'} first: "
            f"chain {chain.wall:.2f} s, bare {bare.wall:.2f} s; "
            f"ours {ours(chain, bare) * 1000:.0f} ms ({ours(chain, bare) / bare.wall:.2%}), "
            f"CPU {chain.scan_cpu * 1000:.1f} + {chain.worker_cpu * 1000:.1f} ms",
        )
    share = statistics.median(ours(*pair) / pair[1].wall for pair in pairs)
    cpu = statistics.median(chain.cpu for chain, _ in pairs)
    whole = statistics.median(chain.wall / bare.wall - 1 for chain, bare in pairs)
    report(
        capsys,
        f"median of {PAIRS} pairs: {share:.2%} more wall time, CPU {cpu * 1000:.1f} ms "
        f"(whole builds, with the luck of Packer's SSH attempts: {whole:+.1%})",
    )
    for phase in pairs[0][1].phases:
        times = [statistics.median(run.phases[phase] for run in runs) for runs in zip(*pairs)]
        report(capsys, f"  {phase:9} chain {times[0]:5.2f} s, bare {times[1]:5.2f} s")
    for what, value, bar in (
        ("wall time", share, WALL_SHARE_BAR),
        ("CPU seconds", cpu, CPU_SECONDS_BAR),
    ):
        held = "held" if value < bar else f"MISSED, {value / bar:.2f} times as much"
        report(capsys, f"bar for {what}, {bar:g}: {held}")
    assert share < FAR * WALL_SHARE_BAR
    assert cpu < FAR * CPU_SECONDS_BAR
    assert cloud.left() == []


def report(capsys, text):
    with capsys.disabled():
        print(f"\noverhead: {text}", end="", flush=True)
