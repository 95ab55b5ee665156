"""scripts/demo, which README.md promises."""

import os
import shutil
import time

import pytest

from rig.processes import BIN_DIR, REPOSITORY, run
from rig.waiting import SLOWNESS

SECONDS = 5


def demo(tmp_path, bin_dir=BIN_DIR):
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    # Packer's sockets are in there, and their paths have to be short.
    short = f"/tmp/demo-{os.getpid()}"
    os.symlink(tmp, short)
    try:
        result = run(
            [REPOSITORY / "scripts" / "demo", bin_dir],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": short},
            cwd=tmp_path,
            deadline=60,
        )
    finally:
        os.unlink(short)
    assert list(tmp.iterdir()) == [], "the demo leaves nothing behind"
    return result


def test_demo(tmp_path):
    start = time.monotonic()
    result = demo(tmp_path)
    assert result.code == 0, result
    assert time.monotonic() - start < SECONDS * SLOWNESS
    steps = [line for line in result.out.splitlines() if line.startswith("== ")]
    assert len(steps) >= 6
    for words in [
        "2 recorded as the baseline",
        "rocky-8-aq.cloud.template.json: changed, would be queued",
        "added /software/packages/nginx",
        "1 changed, 1 queued, 1 unchanged",
        "succeeded  nubesvms-rocky8x-x86_64",
        "Build finished at",
    ]:
        assert words in result.out, result
    assert result.out.endswith("demo: all as promised.\n")


@pytest.fixture
def bin_dir(tmp_path):
    """The programs, one of which a test can replace."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ["cdb2rabbit", "rabbit2packer", "packuilon"]:
        (folder / name).symlink_to(BIN_DIR / name)
    return folder


@pytest.mark.parametrize("program", ["cdb2rabbit", "rabbit2packer", "packuilon"])
@pytest.mark.parametrize("instead", ["true", "false"])
def test_demo_fails_loudly(tmp_path, bin_dir, program, instead):
    (bin_dir / program).unlink()
    shutil.copy(shutil.which(instead), bin_dir / program)
    result = demo(tmp_path, bin_dir)
    assert result.code == 1, result
    assert "demo: NOT AS PROMISED:" in result.err
    assert "all as promised" not in result.out
