"""The only reader of time.

Everything below the I/O floors takes `now` as an argument; what does read a clock reads it here, so that it
is plain which of the two is meant.  Both are answered by the vDSO: no system call on Linux.
"""

import time

now = time.time
"""Seconds since the epoch (float): for log lines and for what a person reads."""

monotonic = time.monotonic
"""Seconds since some start (float), never set back: for every timeout and age."""


def date(when: float) -> str:
    """Epoch seconds as local `YYYY-MM-DD HH:MM:SS`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
