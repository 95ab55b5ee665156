"""rabbit2packer: what it does while builds.db refuses writes, and what it knows afterwards."""

import contextlib
import sqlite3

from rig.profiles import OS_KEY
from rig.waiting import wait_for


def open_journal(site):
    connection = sqlite3.connect(site.state_dir / "builds.db", timeout=30, isolation_level=None)
    return contextlib.closing(connection)


def refuse(site, what):
    """From here on such a statement fails, as on a disk that is full."""
    with open_journal(site) as journal:
        journal.execute(
            f"CREATE TRIGGER refusal BEFORE {what} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )


def allow(site):
    with open_journal(site) as journal:
        journal.execute("DROP TRIGGER refusal")


def gates(site, *before):
    """A template whose builds wait for the file go-IMAGE; returns a function that makes it."""
    site.template("managed", *before, f"wait {site.root}/go-$NAME", "launch", "succeed")
    return lambda personality: (site.root / f"go-{personality}-{OS_KEY}").touch()


def test_end_that_could_not_be_written_is_not_forgotten(local_site):
    """The end of one build is refused; then another build writes; then the first end is due."""
    site = local_site
    go = gates(site)
    site.set("rabbit2packer", RETRY_SECONDS=4)
    worker = site.worker()
    site.publish_profile("one")
    site.publish_profile("two")
    site.wait_state("building", 2)
    refuse(site, "UPDATE ON build WHEN NEW.state = 'succeeded'")
    go("one")
    worker.wait_log("cannot write the journal")
    allow(site)
    go("two")
    site.wait_state("succeeded", 2)
    assert [build.state for build in site.builds()] == ["succeeded"] * 2
    assert len(site.packer_runs()) == 2


def test_start_that_could_not_be_written_is_made_again(local_site):
    """The message goes back. The Packer that was started for it is told to end at once: it may do so
    before it can say anything, or take its time."""
    site = local_site
    go = gates(site, "ignore-term")
    site.set("rabbit2packer", RETRY_SECONDS=1, THREAD_COUNT=4)
    worker = site.worker()
    site.publish_profile("before")
    site.wait_state("building")
    refuse(site, "UPDATE ON build WHEN NEW.state = 'building'")
    site.publish_profile("one")
    worker.wait_log("taking no builds")
    allow(site)
    site.publish_profile("two")
    wait_for(lambda: len(site.builds()) == 3, "both messages are in the journal")
    for personality in ("before", "one", "two"):
        go(personality)
    site.wait_state("succeeded", 3)
    assert len(site.builds()) == 3
    assert "no longer in the journal" not in worker.log()
    assert "is over already" not in worker.log()


def test_journal_that_cannot_be_taken_up_is_an_error(local_site):
    site = local_site
    gates(site)
    worker = site.worker()
    site.publish_profile()
    site.wait_state("building")
    worker.kill()
    refuse(site, "INSERT ON build")
    again = site.worker(ready=False)
    assert again.wait() == 1
    assert "cannot take up what an earlier worker left" in again.log()
    assert "refused" in again.log()


def test_cancel_that_could_not_be_written_is_done_later(local_site):
    site = local_site
    go = gates(site)
    site.set("rabbit2packer", RETRY_SECONDS=1, THREAD_COUNT=1)
    worker = site.worker()
    site.publish_profile("one")
    site.wait_state("building")
    site.publish_profile("one")
    site.wait_state("queued")
    refuse(site, "UPDATE ON build WHEN NEW.state = 'cancelled'")
    site.packuilon("cancel", "2")
    worker.wait_log("taking no builds")
    allow(site)
    (cancelled,) = site.wait_state("cancelled")
    assert cancelled.id == 2
    go("one")
    site.wait_state("succeeded")
    assert len(site.packer_runs()) == 1
