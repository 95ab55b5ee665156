"""What the chain costs beside the bare `packer build` of the same file."""

import os
import re
import resource
import shlex
import statistics
import subprocess
import time
from pathlib import Path

from cloud_site import BUILD_SECONDS, entry_of
from rig.profiles import OS_KEY
from rig.waiting import wait_for

PAIRS = int(os.environ.get("PACKUILON_OVERHEAD_PAIRS", "5"))
WALL_SHARE_MAX = 0.01
CPU_SECONDS_MAX = 0.020
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


def chain_build(site, worker, number):
    """From the profile's change to the journal's last word: (wall, Packer's own, our CPU)."""
    site.profiles.change(entry_of(PERSONALITY), "/software/packages/nginx", {"n": str(number)})
    cpu = -worker_cpu_seconds(worker) - children_cpu_seconds()
    begun = time.monotonic()
    site.scan()
    cpu += children_cpu_seconds()
    builds = wait_for(
        lambda: len(site.builds("succeeded")) == number and site.builds(),
        f"build {number}",
        BUILD_SECONDS,
    )
    wall = time.monotonic() - begun
    return wall, packer_seconds(site.log_text(builds[-1])), cpu + worker_cpu_seconds(worker)


def bare_build(site):
    """The file that rabbit2packer gave to Packer, built by hand: (wall, Packer's own)."""
    (build_file,) = (site.root / "build-files").glob(f"{PERSONALITY}-{OS_KEY}*")
    script = f". {shlex.quote(str(site.cloud.dir / 'openrc'))}; exec packer build -color=false "
    begun = time.monotonic()
    result = subprocess.run(
        ["bash", "-c", script + shlex.quote(str(build_file))],
        cwd=site.root,
        env=site.environment(CHECKPOINT_DISABLE="1"),
        capture_output=True,
        text=True,
    )
    wall = time.monotonic() - begun
    assert result.returncode == 0, result.stdout + result.stderr
    return wall, packer_seconds(result.stdout)


def test_overhead(site, cloud, capsys):
    """Packer tries SSH every 5 to 7 s, so whole builds differ by as much without any cause. What
    decides is the time outside its build: before and after it, in the chain and by hand."""
    site.add_personalities(PERSONALITY)
    worker = site.worker()
    shares, differences, cpus = [], [], []
    for number in range(1, PAIRS + 1):
        wall, inner, cpu = chain_build(site, worker, number)
        bare_wall, bare_inner = bare_build(site)
        own = (wall - inner) - (bare_wall - bare_inner)
        shares.append(own / bare_wall)
        differences.append((wall - bare_wall) / bare_wall)
        cpus.append(cpu)
        report(
            capsys,
            f"pair {number}: chain {wall:.2f} s, bare {bare_wall:.2f} s; "
            f"ours {own * 1000:.0f} ms ({shares[-1]:.2%}), CPU {cpu * 1000:.1f} ms",
        )
    report(
        capsys,
        f"median of {PAIRS} pairs: {statistics.median(shares):.2%} more wall time "
        f"(whole builds, with the luck of Packer's SSH attempts: "
        f"{statistics.median(differences):+.1%}), "
        f"CPU {statistics.median(cpus) * 1000:.1f} ms",
    )
    assert statistics.median(shares) < WALL_SHARE_MAX
    assert statistics.median(cpus) < CPU_SECONDS_MAX
    assert cloud.left() == []


def report(capsys, text):
    with capsys.disabled():
        print(f"\noverhead: {text}", end="", flush=True)
