"""A program that a test runs: to its end (`run`), or at the test's side (`Process`)."""

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from support.waiting import PATIENCE, wait_until

GRACE = 5.0
"""Seconds between TERM and KILL."""
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
TICKS = os.sysconf("SC_CLK_TCK")


class Result(NamedTuple):
    """How a program ended: exit status (negative: the signal), stdout and stderr."""

    code: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = 2 * PATIENCE,
) -> Result:
    """Run to the end.  A program that leaves somebody with its stdout or stderr open hangs, and fails."""
    done = subprocess.run(
        argv, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=seconds, check=False
    )
    return Result(done.returncode, text(done.stdout), text(done.stderr))


def text(data: bytes) -> str:
    """Bytes of any program as text that loses nothing."""
    return data.decode("utf-8", "surrogateescape")


class Process:
    """A program running beside the test, its stdout and stderr in files of `directory`."""

    def __init__(
        self,
        argv: Sequence[str],
        directory: Path,
        name: str,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.out_file = directory / f"{name}.out"
        self.err_file = directory / f"{name}.err"
        with self.out_file.open("ab") as out, self.err_file.open("ab") as err:
            self.popen = subprocess.Popen(
                self.argv,
                cwd=cwd or directory,
                env=env,
                stdin=stdin,
                stdout=stdout or out,
                stderr=stderr or err,
            )
        self.pid = self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def out(self) -> str:
        return text(self.out_file.read_bytes())

    @property
    def err(self) -> str:
        return text(self.err_file.read_bytes())

    def says(self, pattern: str, times: int = 1) -> None:
        """Wait until stderr has `pattern` at least that many times."""
        wait_until(
            lambda: len(re.findall(pattern, self.err, re.MULTILINE)) >= times,
            f"{self.name}'s stderr has {pattern!r} {times} times",
        )

    def send_signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status once it has ended."""
        return self.popen.wait(seconds)

    def stop(self) -> int:
        """TERM, then KILL if that is not heeded; the exit status."""
        if self.alive:
            self.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        if self.popen.stdin:
            self.popen.stdin.close()
        return self.popen.wait()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def kill_tree(self) -> None:
        """Kill it and all that it has started, as when the machine goes: none sees another one die, and when
        this returns their sockets are closed."""
        tree = _stop(self.pid)
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()
        for pid in tree[1:]:
            reap(pid)

    def describe(self) -> str:
        """What to show of it when the test failed."""
        state = "running" if self.alive else f"ended with {self.popen.returncode}"
        return f"$ {' '.join(self.argv)}\n[pid {self.pid}, {state}]\n{_tail(self.out)}{_tail(self.err)}"


def _tail(output: str, limit: int = 6000) -> str:
    return output if len(output) <= limit else f"[...]{output[-limit:]}"


def rss(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def peak_rss(argv: Sequence[str], cwd: Path) -> int:
    """Run to the end, without output; the most bytes of memory that were resident.  It must exit with 0.

    Run by a small process: a child's peak begins with the memory of the process that started it.
    """
    done = run([sys.executable, "-c", PEAK, *argv], cwd=cwd, seconds=60)
    assert done.code == 0, done
    return int(done.out)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def naps(pid: int) -> int:
    """How often a process has gone to sleep, and so was woken."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["voluntary_ctxt_switches"])


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # closed while we looked
    return found


def end(pid: int) -> None:
    """End a process that we did not start ourselves, by pidfd so that nobody else can be hit, and reap it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                break
            if _ended(fd):
                break
    finally:
        os.close(fd)
    reap(pid)


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(GRACE * 1000))


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind: so daemons are ended, their status seen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def runs(pid: int) -> bool:
    """Whether a process, not ours to reap, is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def reap(pid: int) -> int | None:
    """The exit status of a child that has ended, and of an orphan that came to us; None if it is not ours."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def children(of: int = 0) -> set[int]:
    """The processes whose parent is `of`, or we: then orphans of our children included."""
    parent = str(of or os.getpid())
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "stat").read_text().rpartition(")")[2].split()[1] == parent:
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _stop(pid: int) -> list[int]:
    """Stop a process, then its children, theirs, and so on; all of them, parents first: so each is ours to
    reap once those before it are reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    return [pid, *(one for child in children(pid) for one in _stop(child))]
