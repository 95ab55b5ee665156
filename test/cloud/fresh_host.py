"""A host of its own on which somebody types, and the page that says what."""

import re
import secrets
import selectors
import subprocess
import time
from pathlib import Path

from rig.processes import REPOSITORY
from rig.waiting import SLOWNESS

ENTER = Path(__file__).resolve().parent / "fresh/enter"
COMMAND_SECONDS = 5 * 60
SHOWN = 4000  # characters of what each command says


class FreshHost:
    """A shell of root's, on this machine's programs and network; all that it installs, starts or
    configures is gone when it is closed."""

    def __init__(self, folder):
        self.sources = Path(folder, "packuilon")
        self.sources.mkdir()
        copy_sources(self.sources)
        memory = Path(folder, "memory")
        memory.mkdir()
        self.transcript = ""
        self._shell = subprocess.Popen(
            [ENTER, memory, "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.sources,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "LC_ALL": "C.UTF-8",
            },
        )

    def type(self, line, then_type=None):
        """(exit status, output) of one command; then_type answers what it asks."""
        mark = f"--- {secrets.token_hex(8)}"
        # Nothing but what it asks for: the rest of the input is the shell's.
        text = f"{line}\n{then_type}\n" if then_type else f"{{ {line}\n}} </dev/null\n"
        text += f"echo '{mark}' $?\n"
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()
        output = self._read_until(mark)
        output, _, status = output.rpartition(mark)
        self.transcript += f"# {line}\n{output[-SHOWN:]}"
        return int(status), output

    def run(self, line, then_type=None):
        """The output of a command that must succeed."""
        status, output = self.type(line, then_type)
        assert status == 0, f"exit status {status}\n{self.transcript[-6000:]}"
        return output

    def _read_until(self, mark):
        output = b""
        end = time.monotonic() + COMMAND_SECONDS * SLOWNESS
        ended = re.compile(mark.encode() + rb" \d+\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while not ended.search(output):
                assert selector.select(end - time.monotonic()), f"it hangs:\n{output.decode()}"
                data = self._shell.stdout.read1()
                assert data, f"the shell has ended:\n{output.decode()}"
                output += data
        return output.decode(errors="replace")

    def close(self):
        """With the shell's parent, which holds the namespace, everything in it ends."""
        self._shell.kill()
        self._shell.communicate()


def copy_sources(target):
    """What git knows, as it is now."""
    git = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", REPOSITORY]
    names = subprocess.check_output([*git, "ls-files", "-z", "-c", "-o", "--exclude-standard"])
    tar = ["tar", "-C", REPOSITORY, "--null", "--ignore-failed-read", "-T", "-", "-cf", "-"]
    archive = subprocess.run(tar, input=names, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-C", target, "-xf", "-"], input=archive, check=True)


class Page:
    """The blocks of code of a page, to be taken in their order, each of them."""

    def __init__(self, path):
        self.path, self._blocks, block = path, [], []
        for line in [*path.read_text().splitlines(), ""]:
            if line.startswith("    "):
                block.append(line)
            elif block:
                self._blocks.append(block)
                block = []

    def block(self, begin, **values):
        """The next block, which begins so, with values for its words in capitals, whose dashes
        are underscores here."""
        assert self._blocks, f"{self.path} ends before {begin!r}"
        block = self._blocks.pop(0)
        text = "\n".join(line.strip() for line in block)
        assert text.startswith(begin), f"{self.path} goes on otherwise:\n{text}"
        for name, value in values.items():
            whole = name.replace("_", "-")
            word = re.compile(rf"(?<![A-Z_])(?<![A-Z]-){whole}(?![A-Z_]|-[A-Z])")
            text, number = word.subn(lambda _, value=value: str(value), text)
            assert number, f"{self.path}: no {name} in\n{text}"
        return text

    def commands(self, begin, **values):
        """The lines of the next block."""
        return self.block(begin, **values).replace("\\\n", " ").splitlines()

    def check_is_over(self):
        assert not self._blocks, f"{self.path}: nobody has done {self._blocks[0]}"
