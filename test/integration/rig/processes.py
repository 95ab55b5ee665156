"""Starting programs so that each of their misdeeds fails the test: a crash, a sanitizer's report,
a process left behind."""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .waiting import DEADLINE, SLOWNESS, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
BIN_DIR = Path(os.environ.get("PACKUILON_BIN_DIR", REPOSITORY / "build")).resolve()
TOOL_DIR = BIN_DIR / "test" / "tools"

CRASHES = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
}
PR_SET_CHILD_SUBREAPER = 36


class Crash(AssertionError):
    pass


class Result:
    """Of a program that has ended."""

    def __init__(self, argv, code, out, err):
        self.argv, self.code, self.out, self.err = argv, code, out, err

    def __repr__(self):
        return (
            f"{' '.join(map(str, self.argv))}\nexit status {self.code}\n"
            f"--- stdout\n{self.out}\n--- stderr\n{self.err}"
        )


SANITIZER_WORDS = (": runtime error: ", "ERROR: AddressSanitizer", "ERROR: LeakSanitizer")


def check_crash(argv, code, err_text):
    if any(words in err_text for words in SANITIZER_WORDS):
        raise Crash(f"{argv[0]}:\n{err_text}")
    if code < 0 and -code in CRASHES:
        raise Crash(f"{argv[0]} ended by {signal.Signals(-code).name}\n{err_text}")


def sanitizer_environment(report_dir):
    """Reports go to files: a program's stderr may be nobody's, and a child's is Packer's log."""
    report_dir.mkdir(exist_ok=True)
    log = f"log_path={report_dir}/report"
    # Freed memory is kept for a while, 256 MB of it if nothing is said; tests measure how memory grows.
    kept = "quarantine_size_mb=4"
    return {
        "ASAN_OPTIONS": f"{log}:{kept}:abort_on_error=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": f"{log}:print_stacktrace=1:halt_on_error=1",
        "LSAN_OPTIONS": log,
    }


def sanitizer_reports(report_dir):
    return [path.read_text(errors="replace") for path in sorted(report_dir.glob("report*"))]


def run(argv, *, env=None, cwd=None, stdin=b"", deadline=DEADLINE):
    """Runs a program to its end."""
    argv = [str(argument) for argument in argv]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd
    )
    try:
        out, err = process.communicate(stdin, timeout=deadline * SLOWNESS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(
            f"not over after {deadline * SLOWNESS:g} s: {argv}\n{err.decode(errors='replace')}"
        ) from None
    out, err = out.decode(errors="replace"), err.decode(errors="replace")
    check_crash(argv, process.returncode, err)
    return Result(argv, process.returncode, out, err)


class Daemon:
    """A program that runs until it is told to stop; stdout and stderr go to one log file."""

    def __init__(self, argv, *, log, env, cwd=None):
        self.argv = [str(argument) for argument in argv]
        self.log_path = Path(log)
        self._notify_path = f"{log}.notify-{secrets.token_hex(4)}"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self._notify_path)
        self.notified = []
        # Read as it comes: a full socket would stop the program.
        self._reader = threading.Thread(target=self._read_notifications, daemon=True)
        self._reader.start()
        with open(log, "ab") as output:
            self.log_start = output.tell()
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**env, "NOTIFY_SOCKET": self._notify_path},
                cwd=cwd,
            )

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """What it has said since it was started."""
        with open(self.log_path, "rb") as file:
            file.seek(self.log_start)
            return file.read().decode(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def _read_notifications(self):
        while data := self._notify.recv(65536):
            self.notified += data.decode().splitlines()

    def is_ready(self):
        return "READY=1" in self.notified

    def status(self):
        """Its last STATUS= for systemd."""
        texts = [line[7:] for line in self.notified if line.startswith("STATUS=")]
        return texts[-1] if texts else ""

    def wait_ready(self, deadline=DEADLINE):
        wait_for(
            lambda: self.is_ready() or not self.is_running(), f"READY=1 of {self.argv[0]}", deadline
        )
        assert self.is_ready(), f"{self.argv[0]} ended ({self.process.returncode}):\n{self.log()}"
        return self

    def wait_log(self, text, deadline=DEADLINE):
        wait_for(
            lambda: text in self.log() or not self.is_running(),
            f"{text!r} in the log of {self.argv[0]}",
            deadline,
        )
        assert text in self.log(), f"no {text!r}:\n{self.log()}"

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, deadline=DEADLINE):
        """Its exit status."""
        try:
            code = self.process.wait(deadline * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.argv[0]} has not ended within {deadline * SLOWNESS:g} s\n{self.log()}"
            ) from None
        check_crash(self.argv, code, self.log())
        return code

    def stop(self, deadline=DEADLINE):
        """TERM; its exit status."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.is_running():
            self.kill()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._notify_path)  # the reader's end
        self._reader.join()
        self._notify.close()
        Path(self._notify_path).unlink(missing_ok=True)


# ---- what is left behind --------------------------------------------------------------------


def adopt_orphans():
    """Processes whose parent dies become our children, so that none of them is lost from sight."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _parents():
    """pid -> (parent, state, name)"""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:
            continue
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
        table[int(entry)] = (int(parent), state, name)
    return table


def descendants(known=()):
    """Living descendants of this process but the known ones and theirs: {pid: command line}."""
    table, found = _parents(), {}
    for pid in table:
        at = pid
        while at in table and at not in known and at != os.getpid():
            at = table[at][0]
        if at != os.getpid() or pid == at:
            continue
        _, state, name = table[pid]
        if state == "Z":
            continue
        try:
            line = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found[pid] = line or name
    return found


def reap_orphans(known=()):
    """Zombies that we adopted; those of Popen objects are theirs to reap."""
    for pid, (parent, state, _) in _parents().items():
        if parent == os.getpid() and state == "Z" and pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def listening_sockets():
    """Inodes of the TCP sockets that this process listens on."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(fields[9])
    own = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            own.add(target[8:-1])
    return own


def free_ports(number, kind=socket.SOCK_STREAM):
    """Ports of 127.0.0.1 that nobody uses now."""
    sockets = []
    for _ in range(number):
        sock = socket.socket(socket.AF_INET, kind)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
