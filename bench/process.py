"""A program that runs beside the benchmark: started, waited for, its CPU time read, ended.

CPU time is user and system time of all processes of the program, the kernel's work for its system calls
included; it comes from the scheduler, in nanoseconds.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from penlib.errors import PenError

PATIENCE = 10.0
"""Seconds that a program has to listen, and to end."""
GLANCE = 0.02
"""Seconds between two looks at something that is waited for."""
QUIET = 0.001
"""CPU seconds within a GLANCE below which a program has nothing to do any more."""
LISTEN = "0A"
"""proc_net_tcp(5): the state column of a listening socket."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_running: set[subprocess.Popen[bytes]] = set()
"""All that was started and not yet ended, for the case that we are interrupted between the two."""


class Program:
    """A running program that listens on `port` of 127.0.0.1; `with Program(...) as program:` ends it.

    Its output is in DIRECTORY/output.  It is the leader of a session of its own, so that an interrupt from
    the terminal reaches nobody but us, and so that whoever it leaves behind can be ended as well.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        directory: Path,
        udp: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._listens = receives if udp else listens
        self.port = port
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self._popen = started(command, directory, env, output, output)
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        ended = self._popen.poll() is not None
        self.close()
        if ended and isinstance(exc, Exception):
            raise self._gone() from exc  # the reason for whatever went wrong

    def cpu(self) -> float:
        """CPU seconds used so far.  Raises PenError if it has ended."""
        if self._popen.poll() is not None:
            raise self._gone()
        return sum(cpu(pid) for pid in tree(self._popen.pid))

    def settled_cpu(self) -> float:
        """The same, once it has nothing to do any more: connections are closed after the last answer."""
        before = -1.0
        end = time.monotonic() + PATIENCE
        while (now := self.cpu()) - before > QUIET and time.monotonic() < end:
            before = now
            time.sleep(GLANCE)
        return now

    def memory(self) -> int:
        """Bytes of its own in memory, not of files; what its processes share counts once."""
        return sum(_own_memory(pid) for pid in tree(self._popen.pid))

    def close(self) -> None:
        """End it, and whoever of its session is left."""
        ended(self._popen)

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self._listens(self.port):
            if self._popen.poll() is not None:
                raise self._gone()
            if time.monotonic() > end:
                raise PenError(f"{self.name}: does not listen")
            time.sleep(GLANCE)

    def _gone(self) -> PenError:
        said = self._output.read_text("utf-8", "replace").strip() or "no message"
        return PenError(f"{self.name}: ended with status {self._popen.returncode}: {said}")


def started(
    command: list[str], directory: Path, env: dict[str, str] | None, output: IO[bytes], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    """A process in a session of its own, for `ended`."""
    with undisturbed():
        popen = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        _running.add(popen)
    return popen


def ended(popen: subprocess.Popen[bytes]) -> None:
    """End it, if it has not ended, and whoever of its session is left."""
    popen.terminate()
    with suppress(subprocess.TimeoutExpired):
        popen.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()
    _running.discard(popen)


def end_all() -> None:
    """End whatever still runs."""
    for popen in list(_running):
        ended(popen)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait until this is over."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


def cpu(pid: int) -> float:
    """CPU seconds of a process, all its threads together, those that have ended too.

    Its CPU clock, as clock_getcpuclockid(3) would answer it; Linux makes the number from the pid.
    """
    return time.clock_gettime((~pid << 3) | 2)


def tree(pid: int) -> list[int]:
    """A process and its living descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it has ended meanwhile
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += map(int, children.split())
    return found


def _own_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def receives(port: int) -> bool:
    """Whether anybody has this UDP port."""
    return bool(_udp(port))


def dropped(port: int) -> int:
    """Datagrams to this UDP port that did not fit into its buffer."""
    return sum(int(columns[-1]) for columns in _udp(port))


def _udp(port: int) -> list[list[str]]:
    """The lines about this UDP port in proc_net(5)'s tables, in columns."""
    lines = [
        line.split() for name in ("udp", "udp6") for line in Path("/proc/net", name).read_text().splitlines()
    ]
    return [line for line in lines if line[1].endswith(f":{port:04X}")]


def listens(port: int) -> bool:
    """Whether anybody listens on this TCP port of 127.0.0.1 or of all addresses."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == LISTEN and int(local.partition(":")[2], 16) == port:
            return True
    return False


def free_port() -> int:
    """A TCP port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(name: str) -> str:
    """The path of a program of the system, sbin included; "" if there is none."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))) or ""


def output_of(*command: str) -> str:
    """What a program that ends by itself says, on stdout or stderr."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
    )
    return done.stdout.decode("utf-8", "replace").strip()
