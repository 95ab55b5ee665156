"""rabbit2packer: how soon, how fast, how quietly."""

import shutil
import subprocess
import time
from pathlib import Path

from benchlib import FAST, MIB, RUNS, TOOLS, median
from rig.profiles import pan_json, profile
from rig.rabbit import PASSWORD, USER
from rig.site import Site, resident_bytes
from rig.waiting import wait_for

SAMPLES = 100 if FAST else 400
DRAIN = 1000 if FAST else 5000
IDLE_SECONDS = 10 if FAST else 60
SLOTS = 4


class Publisher:
    """The publish program, kept open."""

    def __init__(self, rabbit, vhost, queue):
        self.process = subprocess.Popen(
            [
                TOOLS / "publish", rabbit.host, str(rabbit.port), vhost.name, USER, PASSWORD, queue,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def send(self, path):
        """CLOCK_MONOTONIC nanoseconds just before it went out."""
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait_confirmed(self):
        self.process.stdin.write("=\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "=\n"

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class WorkerBench:
    def __init__(self, root, rabbit, report):
        self.root, self.rabbit, self.report = Path(root), rabbit, report
        self.vhost = rabbit.add_vhost()
        self.bodies = self.root / "bodies"
        self.bodies.mkdir()

    def site(self, name):
        site = Site(self.root / f"site-{name}", vhost=self.vhost)
        site.packer.unlink()
        shutil.copy(TOOLS / "stub-packer", site.packer)
        site.set("global", QUEUE=name)
        site.set("rabbit2packer", THREAD_COUNT=SLOTS)
        site.starts = Path(f"{site.packer}.starts")
        site.starts.touch()
        return site

    def body(self, number):
        path = self.bodies / f"{number}.json"
        if not path.exists():
            path.write_bytes(pan_json(profile(f"p{number}")))
        return path

    def starts(self, site):
        """[(started, ended)] in nanoseconds, in the order of their ends."""
        return [
            (int(started), int(ended))
            for started, ended, *_ in map(str.split, site.starts.read_text().splitlines())
        ]

    # ---- how soon -----------------------------------------------------------------------------

    def latency(self):
        site = self.site("latency")
        site.worker()
        publisher = Publisher(self.rabbit, self.vhost, "latency")
        latencies = []
        size = site.starts.stat().st_size
        for number in range(SAMPLES + 10):
            sent = publisher.send(self.body(number))
            wait_for(lambda: site.starts.stat().st_size > size, "the stub has started")
            size = site.starts.stat().st_size
            started = self.starts(site)[-1][0]
            if number >= 10:  # the first warm the caches
                latencies.append((started - sent) / 1e6)
            # Unloaded: the next is sent when this one is dealt with.
            time.sleep(0.005)
        publisher.close()
        site.close()
        latencies.sort()
        p99 = latencies[int(len(latencies) * 0.99)]
        detail = f"{len(latencies)} messages, {latencies[0]:.2f} to {latencies[-1]:.2f} ms"
        self.report.bar(
            "message published -> Packer started, median", median(latencies), 5, "ms", detail=detail
        )
        self.report.bar("   99th percentile", p99, 20, "ms")

    # ---- how quietly --------------------------------------------------------------------------

    def idle(self):
        site = self.site("idle")
        worker = site.worker()
        publisher = Publisher(self.rabbit, self.vhost, "idle")
        for number in range(20):  # it has worked before, as a real one has
            publisher.send(self.body(number))
        publisher.close()
        site.wait_state("succeeded", 20)
        wait_for(lambda: "0 of 4 slots" in worker.status(), "all is quiet")
        schedstat = Path(f"/proc/{worker.pid}/schedstat")
        before = int(schedstat.read_text().split()[0])
        time.sleep(IDLE_SECONDS)
        cpu = (int(schedstat.read_text().split()[0]) - before) / 1e6
        resident = resident_bytes(worker.pid) / MIB
        site.close()
        self.report.bar(
            f"idle rabbit2packer, {SLOTS} slots, {IDLE_SECONDS} s: resident", resident, 10, "MiB"
        )
        self.report.bar("   CPU", cpu, 10 * IDLE_SECONDS / 60, "ms")

    # ---- how fast -----------------------------------------------------------------------------
    # Nothing is removed between the runs: for some seconds ext4 does not use the inodes of files
    # that were just removed, and looks at each of them for every file that is made.

    def drain_ours(self, run):
        site = self.site(f"drain-{run}")
        publisher = Publisher(self.rabbit, self.vhost, f"drain-{run}")
        for number in range(DRAIN):
            publisher.send(self.body(number))
        publisher.wait_confirmed()
        publisher.close()
        before = time.monotonic_ns()
        worker = site.worker("--until-idle", ready=False)
        code = worker.wait(deadline=600)
        starts = self.starts(site)
        if code != 0 or len(starts) != DRAIN:
            raise RuntimeError(f"exit status {code}, {len(starts)} builds\n{worker.log()[-3000:]}")
        succeeded = len(site.builds("succeeded"))
        if succeeded != DRAIN:
            raise RuntimeError(f"{succeeded} of {DRAIN} builds succeeded")
        rate = DRAIN / ((max(end for _, end in starts) - before) / 1e9)
        site.close()
        return rate

    def drain_xargs(self, run):
        folder = self.root / f"xargs-{run}"
        for name in ("logs", "build-files"):
            (folder / name).mkdir(parents=True)
        stub = folder / "packer"
        shutil.copy(TOOLS / "stub-packer", stub)
        names = folder / "names"
        names.write_text("".join(f"p{number}-rocky8x-x86_64\n" for number in range(DRAIN)))
        template = self.site(f"template-{run}").template("managed")
        before = time.monotonic_ns()
        with open(names) as stdin:
            subprocess.run(
                [
                    "xargs", f"-P{SLOTS}", "-n1", stub, "--alone", template, folder / "logs",
                    folder / "build-files",
                ],
                stdin=stdin,
                check=True,
            )  # fmt: skip
        wall = (time.monotonic_ns() - before) / 1e9
        n = len((folder / "packer.starts").read_text().splitlines())
        if n != DRAIN or len(list((folder / "logs").iterdir())) != DRAIN:
            raise RuntimeError(f"xargs: {n} of {DRAIN}")
        return DRAIN / wall

    def drain(self):
        ours, xargs = [], []
        for run in range(RUNS):
            xargs.append(self.drain_xargs(run))
            ours.append(self.drain_ours(run))
        self.report.bar(
            f"drain of {DRAIN:,} queued stub builds, {SLOTS} slots",
            median(ours) / median(xargs),
            0.7,
            f"x the rate of xargs -P{SLOTS}",
            at_least=True,
            detail=f"{median(ours):.0f} a second ({min(ours):.0f} to {max(ours):.0f}); "
            f"xargs {median(xargs):.0f} ({min(xargs):.0f} to {max(xargs):.0f})",
        )

    def run(self):
        self.latency()
        self.drain()
        self.idle()


