"""Waiting for what another process does: never a bare sleep, always a condition and a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds after which a condition counts as never true: long, because the machine may be busy."""
FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05


def wait_until(condition: Callable[[], T], what: str = "", seconds: float = PATIENCE) -> T:
    """Ask `condition` again and again; its first true value, or AssertionError with `what`."""
    end = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}; last seen: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return value


def let_pass(seconds: float) -> None:
    """Let time go by, where the time itself is what is tested: an expiry, a limit of idleness."""
    time.sleep(seconds)


def stays(condition: Callable[[], T], seconds: float, what: str = "") -> T:
    """See that `condition` is true the whole time; its last value.  For things that must *not* happen."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        assert value, f"no longer true: {what or condition}"
        if time.monotonic() > end:
            return value
        time.sleep(FIRST_PAUSE * 5)
