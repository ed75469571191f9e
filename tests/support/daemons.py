"""What can be seen of a process that is not our child: its rights, its place, its end."""

import os
import signal
from pathlib import Path
from typing import NamedTuple

from support import process
from support.waiting import wait_until


class Rights(NamedTuple):
    """Ids of a process, as /proc has them: real, effective, saved and filesystem, and the groups."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]


def rights(pid: int) -> Rights:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    numbers = [tuple(map(int, fields[name].split())) for name in ("Uid", "Gid", "Groups")]
    return Rights(*numbers)


def capabilities(pid: int) -> int:
    """Its effective capabilities."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["CapEff"], 16)


def root_directory(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/root")


def working_directory(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/cwd")


def called(pid: int) -> str:
    """The name that killall and pgrep look for."""
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def standard_streams(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end(pid: int, number: int = signal.SIGTERM) -> int | None:
    """Send a signal, wait for the end, and give the exit status (the daemon came to us as an orphan)."""
    os.kill(pid, number)
    wait_until(lambda: not alive(pid), f"process {pid} ends by signal {number}")
    return process.reap(pid)


def with_capability(name: str) -> list[str]:
    """Words to run a program under, as nobody with just this capability (net_raw, ...)."""
    given = ["--inh-caps", f"+{name}", "--ambient-caps", f"+{name}"]
    return ["setpriv", "--reuid", "nobody", "--clear-groups", *given]
