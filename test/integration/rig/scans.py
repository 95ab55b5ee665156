"""What a scan said and left."""

import re
import sqlite3
import subprocess

from .processes import BIN_DIR
from .profiles import profile

SUMMARY = re.compile(
    r"(?P<changed>\d+) changed, (?P<queued>\d+) queued, (?P<unchanged>\d+) unchanged, "
    r"(?P<deleted>\d+) deleted, (?P<failed>\d+) failed in \d"
)


def entry(name):
    """The name in the index of a profile that the test sites' PROFILE_MATCH selects."""
    return f"{name}.cloud.template.json"


def summaries(text):
    """The numbers of each summary line."""
    return [{k: int(v) for k, v in m.groupdict().items()} for m in SUMMARY.finditer(text)]


def counts(result):
    """The numbers of a scan's summary that are not zero."""
    (found,) = summaries(result.err)
    return {key: value for key, value in found.items() if value}


def add_profiles(site, *names):
    for name in names:
        site.profiles.add(entry(name), profile(name), index=False)
    site.profiles.write_index()


def baseline(site, *names):
    """A site whose first scan is over."""
    add_profiles(site, *names)
    site.scan()
    assert site.queue_count() == 0


def queued_entries(site):
    """Entry names of the messages in a local queue, in their order."""
    return [row.entry for row in site.query("SELECT entry FROM message ORDER BY id")]


def recorded(site):
    """name -> error of each profile in the scanner's store."""
    path = site.state_dir / "profiles.db"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return dict(connection.execute("SELECT name, error FROM profile"))
    finally:
        connection.close()


def cached(site, name):
    path = site.root / "cache" / entry(name)
    return path.read_bytes() if path.exists() else None


def start_scan(site, *arguments):
    """A scan in the background; the test ends it."""
    return subprocess.Popen(
        [BIN_DIR / "cdb2rabbit", "-c", site.config_path, *arguments],
        env=site.environment(),
        cwd=site.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
