"""Programs that die at a chosen one of their durable steps (test/tools/crashpoint.c)."""

import signal

from .processes import BIN_DIR, TOOL_DIR, run

LIBRARY = TOOL_DIR / "crashpoint.so"


class Crash:
    """How a run ended."""

    def __init__(self, result, steps):
        self.result, self.steps = result, steps
        self.died = result.code == -signal.SIGKILL

    @property
    def where(self):
        return self.steps[-1] if self.steps else "before the first step"


def run_to_crash(site, name, *arguments, at=None, torn=False):
    """Runs a program until its step number `at`, where it is killed; None: to its end."""
    log = site.root / "steps"
    log.unlink(missing_ok=True)
    environment = site.environment(
        LD_PRELOAD=str(LIBRARY), CRASHPOINT_PROGRAM=name, CRASHPOINT_LOG=str(log)
    )
    if at is not None:
        environment["CRASHPOINT_AT"] = str(at)
    if torn:
        environment["CRASHPOINT_TORN"] = "1"
    result = run(
        [BIN_DIR / name, "-c", site.config_path, *arguments], env=environment, cwd=site.root
    )
    return Crash(result, log.read_text().splitlines() if log.exists() else [])
