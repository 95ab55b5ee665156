"""cdb2rabbit against curl, against publishing alone, and against upstream's way."""

import os
import random
import shutil
import sys
from pathlib import Path

from benchlib import (
    BIN_DIR,
    FAST,
    MIB,
    RUNS,
    TOOLS,
    measure,
    median,
    milliseconds,
    shell,
    wait_quiet,
)
from rig.profiles import pan_json, profile
from rig.rabbit import PASSWORD, USER
from rig.site import QUEUE, Site
from servers import Nginx

CHANGED = 1000
UPSTREAM_CHANGED = 50
PROFILE_BYTES = 100_000
UPSTREAM = Path(__file__).with_name("upstream.py")


class Tree:
    """A folder with an index of n entries, of which the first `real` are there."""

    def __init__(self, folder, n, real=0):
        self.folder, self.n, self.real = Path(folder), n, real
        self.folder.mkdir(exist_ok=True)
        self.mtimes = [1_600_000_000 + at * 7 % 50_000_000 for at in range(n)]
        self.random = random.Random(7)
        self.clock = 1_700_000_000
        self.order = list(range(n))
        self.write_index()

    def name(self, at):
        return f"host-{at:06d}.cloud.template.json"

    def write_index(self, shuffle=True):
        if shuffle:
            self.random.shuffle(self.order)
        lines = [f"<profile mtime='{self.mtimes[at]}'>{self.name(at)}</profile>" for at in self.order]
        text = "\n".join(["<?xml version='1.0' encoding='utf-8'?>", "<profiles>", *lines, "</profiles>"])
        part = self.folder / "part"
        part.write_text(text)
        self.clock += 10
        os.utime(part, (self.clock, self.clock))
        part.rename(self.folder / "profiles-info.xml")

    def compile(self, generation):
        """New content and mtime for those that are there."""
        packages = {f"package-{at:04d}": {"version": f"1.{at}-{at % 7}.el8"} for at in range(1500)}
        for at in range(self.real):
            document = profile(f"personality-{at}", **{"/software/packages": packages})
            document["software"]["generation"] = f"generation {generation}"
            text = pan_json(document)
            if len(text) < PROFILE_BYTES:
                document["software"]["filler"] = "x" * (PROFILE_BYTES - len(text))
                text = pan_json(document)
            part = self.folder / "part"
            part.write_bytes(text)
            part.rename(self.folder / self.name(at))
            self.mtimes[at] += 1
        self.write_index()


class ScanBench:
    def __init__(self, root, rabbit, report):
        self.root, self.report = Path(root), report
        self.vhost = rabbit.add_vhost()
        self.rabbit = rabbit
        self.web_root = self.root / "web"
        self.web_root.mkdir()
        (self.web_root / "any.json").write_bytes(pan_json(profile("any")))
        self.nginx = Nginx(self.root, self.web_root, os.getpid())

    def close(self):
        self.nginx.close()

    def site(self, name, tree, **scan):
        site = Site(self.root / f"site-{name}", vhost=self.vhost)
        url = f"{self.nginx.url}/{tree.folder.name}"
        site.set(
            "cdb2rabbit",
            PROFILE_INFO_URL=f"{url}/profiles-info.xml",
            PROFILE_DIR_URL=url,
            **scan,
        )
        site.set("global", QUEUE=name)
        site.index_url = f"{url}/profiles-info.xml"
        site.profile_url = url
        return site

    def scan(self, site):
        return measure(self.root, [BIN_DIR / "cdb2rabbit", "-c", site.config_path], cwd=site.root)

    def purge(self, queue):
        with self.vhost.channel as channel:
            channel.queue_declare(queue, durable=True)
            channel.queue_purge(queue)
        # A hundred megabytes of messages take it longer to delete than to receive.
        wait_quiet(self.rabbit.beam_pid())

    # ---- the index alone --------------------------------------------------------------------

    def reordered(self, n):
        """Scans of an index that was rewritten in another order; and curl | sha256sum on it."""
        tree = Tree(self.web_root / f"index-{n}", n)
        site = self.site(f"index-{n}", tree, CACHE_DIR=None)
        self.scan(site)  # the baseline: fetches each
        ours, curls = [], []
        for at in range(RUNS + 1):
            tree.write_index()
            curl = shell(self.root, f"curl -s {site.index_url} | sha256sum")
            scan = self.scan(site)
            if at:  # the first warms the caches of both
                ours.append(scan)
                curls.append(curl)
        return tree, site, ours, curls

    def index(self):
        n = 50_000
        tree, site, ours, curls = self.reordered(n)
        times, curl_times = [run.wall for run in ours], [run.wall for run in curls]
        self.report.bar(
            f"scan, {n:,} entries in another order, nothing changed",
            median(times) / median(curl_times),
            3,
            "x of curl | sha256sum",
            detail=f"{milliseconds(times)}; curl | sha256sum {milliseconds(curl_times)}",
        )
        self.report.bar(
            "   memory", max(run.resident for run in ours) / MIB, 64, "MiB at its peak"
        )
        self.not_modified(site)
        if not FAST:  # takes a minute
            self.upstream_index(tree, site, median(times))
        return median(times)

    def not_modified(self, site):
        headers = self.root / "headers"
        shell(self.root, f"curl -s -D {headers} -o /dev/null {site.index_url}")
        etag = next(
            line.split(":", 1)[1].strip()
            for line in headers.read_text().splitlines()
            if line.lower().startswith("etag:")
        )
        self.scan(site)
        ours, curls = [], []
        for _ in range(RUNS * 4):  # of some milliseconds each
            curls.append(
                measure(self.root, ["curl", "-s", "-f", "-H", f"If-None-Match: {etag}", site.index_url]).wall
            )
            ours.append(self.scan(site).wall)
        self.report.bar(
            "   the same, index not modified (304)",
            median(ours) / median(curls),
            2,
            "x of a bare curl that gets a 304",
            detail=f"{milliseconds(ours)}; curl {milliseconds(curls)}",
        )

    def upstream(self, site, cache):
        return measure(
            self.root,
            [
                sys.executable, UPSTREAM, site.index_url, site.profile_url, cache,
                self.rabbit.host, str(self.rabbit.port), self.vhost.name, USER, PASSWORD, "upstream",
            ],
        ).wall  # fmt: skip

    def upstream_index(self, tree, site, ours):
        cache = self.root / "upstream-index"
        cache.mkdir()
        self.upstream(site, cache)
        tree.write_index()
        wall = self.upstream(site, cache)
        self.report.note(
            f"   upstream's way: {wall:.1f} s, {wall / ours:,.0f} x of ours",
            "one run; each line of the index is searched in the whole old index",
        )

    def growth(self, small):
        n = 500_000
        *_, ours, curls = self.reordered(n)
        times = [run.wall for run in ours]
        self.report.bar(
            f"growth: {n:,} entries against 50,000",
            median(times) / small,
            11,
            "x",
            detail=f"{milliseconds(times)}, {max(run.resident for run in ours) / MIB:.0f} MiB; "
            f"curl | sha256sum {milliseconds([run.wall for run in curls])}",
        )

    # ---- changed profiles -------------------------------------------------------------------

    def download_alone(self, tree, site):
        out = self.root / "downloaded"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        config = self.root / "curl.config"
        config.write_text(
            "".join(
                f'url = "{site.profile_url}/{tree.name(at)}"\noutput = "{out}/{tree.name(at)}"\n'
                for at in range(tree.real)
            )
        )
        return measure(self.root, ["curl", "-s", "--parallel", "-K", config]).wall

    def publish_alone(self, tree):
        self.purge("alone")
        names = self.root / "names"
        names.write_text(
            "".join(f"{tree.folder}/{tree.name(at)}\n" for at in range(tree.real)) + "=\n"
        )
        with open(names) as stdin:
            wall = measure(
                self.root,
                [
                    TOOLS / "publish", self.rabbit.host, str(self.rabbit.port), self.vhost.name,
                    USER, PASSWORD, "alone",
                ],
                stdin=stdin,
            ).wall  # fmt: skip
        self.purge("alone")
        return wall

    def changed(self):
        tree = Tree(self.web_root / "changed", 50_000, real=CHANGED)
        site = self.site("changed", tree)
        self.scan(site)
        ours, downloads, publishes, memory = [], [], [], []
        for generation in range(RUNS + 1):
            tree.compile(generation)
            self.purge("changed")
            download = self.download_alone(tree, site)
            publish = self.publish_alone(tree)
            scan = self.scan(site)
            queued = self.vhost.count("changed")
            if queued != CHANGED:
                raise RuntimeError(f"{queued} messages instead of {CHANGED}")
            if generation:  # before the first, our scanner knew none of the profiles
                ours.append(scan.wall)
                memory.append(scan.resident)
                downloads.append(download)
                publishes.append(publish)
        self.purge("changed")
        self.report.bar(
            f"scan with {CHANGED:,} changed profiles of {PROFILE_BYTES // 1000} kB, each confirmed",
            median(ours) / max(median(downloads), median(publishes)),
            2,
            "x of the longer of downloading and publishing alone",
            detail=f"{milliseconds(ours)}; curl --parallel {milliseconds(downloads)}, "
            f"publishing with confirms {milliseconds(publishes)}; {max(memory) / MIB:.0f} MiB",
        )
        self.upstream_changed(median(ours))

    def upstream_changed(self, ours):
        """Few profiles and an index of them alone, so that its quadratic search stays out of it."""
        n = UPSTREAM_CHANGED
        small = Tree(self.web_root / "upstream", n, real=n)
        site = self.site("upstream", small)
        cache = self.root / "upstream-changed"
        cache.mkdir()
        self.upstream(site, cache)
        small.compile(0)
        self.upstream(site, cache)
        small.compile(1)
        wall = self.upstream(site, cache)
        self.purge("upstream")
        each, our_each = wall / n * 1000, ours / CHANGED * 1000
        self.report.note(
            f"   upstream's way: {each:.1f} ms a profile, {each / our_each:,.1f} x of ours",
            f"one run with {n} profiles and an index of them alone, nothing confirmed",
        )

    def run(self):
        small = self.index()
        self.changed()
        if FAST:
            self.report.note("growth", "left out (BENCH_FAST)")
        else:
            self.growth(small)
