"""Measuring, comparing and telling."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BIN_DIR = Path(os.environ.get("PACKUILON_BIN_DIR", REPOSITORY / "build")).resolve()
TOOLS = BIN_DIR / "bench"
FAST = os.environ.get("BENCH_FAST", "") not in ("", "0")
RUNS = 3 if FAST else 5
MIB = 1024 * 1024
QUIET_SECONDS, QUIET_CPU = 0.3, 0.01

sys.path.insert(0, str(REPOSITORY / "test" / "integration"))


class Run:
    def __init__(self, wall, cpu, resident):
        self.wall, self.cpu, self.resident = wall, cpu, resident


def measure(root, argv, expect=0, **options):
    """Runs a command in a small parent; seconds, CPU seconds, greatest resident bytes."""
    result = Path(root) / "measured"
    done = subprocess.run(
        [TOOLS / "measure", result, *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv}: {done.stderr}")
    wall, cpu, resident, code = map(int, result.read_text().split())
    if code != expect:
        raise RuntimeError(f"{argv[0]}: exit status {code}\n{done.stderr[-3000:]}")
    return Run(wall / 1e9, cpu / 1e9, resident)


def shell(root, script):
    return measure(root, ["sh", "-c", script])


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_quiet(pid):
    """Until a process has had nothing to do for a moment: what it still does for the last
    measurement is no part of the next."""
    before = None
    while before is None or cpu_seconds(pid) - before > QUIET_CPU:
        before = cpu_seconds(pid)
        time.sleep(QUIET_SECONDS)


def median(values):
    return statistics.median(values)


def spread(values):
    return f"{min(values):.4g} to {max(values):.4g}"


def milliseconds(values):
    values = [value * 1000 for value in values]
    return f"{median(values):.1f} ms ({spread(values)})"


class Report:
    """A line for each bar. A miss is told, and is no failure of the benchmark."""

    def __init__(self):
        self.lines, self.missed = [], 0

    def bar(self, work, value, limit, unit, *, at_least=False, detail=""):
        holds = value >= limit if at_least else value <= limit
        self.missed += not holds
        self._say(
            "PASS" if holds else "MISS",
            f"{work}: {value:.3g} {unit} ({'at least' if at_least else 'at most'} {limit:g})",
            detail,
        )

    def note(self, work, detail):
        self._say("    ", work, detail)

    def _say(self, word, text, detail):
        line = f"{word}  {text}" + (f"\n          {detail}" if detail else "")
        self.lines.append(line)
        print(line, flush=True)

    def end(self):
        n = sum(line.startswith(("PASS", "MISS")) for line in self.lines)
        print(f"\n{n} bars: {n - self.missed} held, {self.missed} missed")
