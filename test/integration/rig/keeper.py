"""Runs a command for as long as another process lives: keeper.py PID COMMAND…

A test run that is killed thus leaves no server behind. TERM to the keeper ends the command too,
with all it started: nothing that runs here is worth an orderly end.
"""

import os
import select
import signal
import subprocess
import sys


def main():
    watched = os.pidfd_open(int(sys.argv[1]))
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    command = subprocess.Popen(sys.argv[2:], start_new_session=True)
    while command.poll() is None:
        ready, _, _ = select.select([watched, read_end], [], [])
        if watched in ready or signal.SIGTERM in os.read(read_end, 64):
            break
    try:
        os.killpg(command.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    command.wait()


if __name__ == "__main__":
    main()
