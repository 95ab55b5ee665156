"""Waiting for something to happen, with a deadline; nothing in the tests sleeps and hopes."""

import os
import time

# Sanitizers and valgrind slow everything down: PACKUILON_TEST_SLOWNESS=5 stretches all deadlines.
SLOWNESS = float(os.environ.get("PACKUILON_TEST_SLOWNESS", "1"))
DEADLINE = 30.0
POLL = 0.01


class DeadlineExceeded(AssertionError):
    pass


def wait_for(predicate, what, deadline=DEADLINE):
    """The first true value of predicate(); `what` says in the error what did not come."""
    end = time.monotonic() + deadline * SLOWNESS
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise DeadlineExceeded(f"not within {deadline * SLOWNESS:g} s: {what}")
        time.sleep(POLL)
