"""A program that ends by itself: what it used until then."""

import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.interpreter import environment
from bench.process import GLANCE, ended, started
from penlib.errors import PenError

PATIENCE = 300.0
"""Seconds; whoever needs more never ends."""


class Used(NamedTuple):
    """CPU seconds, seconds on the wall, the most bytes in memory that were seen."""

    cpu: float
    wall: float
    memory: float


def ran(command: list[str], directory: Path, output: Path | None = None) -> Used:
    """Run it to its end, with nothing to read and its output in a file.  Raises PenError if it fails."""
    errors = directory / "errors"
    with open(output or os.devnull, "wb") as out, errors.open("wb") as err:
        begun = time.monotonic()
        popen = started(command, directory, environment(), out, err)
        try:
            memory = _watched(popen.pid, begun + PATIENCE)
            _, status, usage = os.wait4(popen.pid, 0)
            wall = time.monotonic() - begun
            popen.returncode = os.waitstatus_to_exitcode(status)
        finally:
            ended(popen)
    if popen.returncode:
        said = errors.read_text("utf-8", "replace").strip() or "no message"
        raise PenError(f"ended with status {popen.returncode}: {said}")
    return Used(usage.ru_utime + usage.ru_stime, wall, memory)


def _watched(pid: int, until: float) -> int:
    """Wait for its end; the most memory it was seen with.  wait4(2)'s figure would be ours, before exec."""
    pidfd = os.pidfd_open(pid)
    most = 0
    try:
        while not select.select([pidfd], [], [], GLANCE)[0]:
            most = max(most, _most_resident(pid))
            if time.monotonic() > until:
                raise PenError(f"does not end within {PATIENCE:.0f} s")
    finally:
        os.close(pidfd)
    return most


def _most_resident(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
