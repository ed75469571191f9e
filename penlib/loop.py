"""The event loop: which descriptor is ready, and whose business that is.

One thread, level-triggered.  A descriptor has a handler, `handler(fd, mask)`, looked up in a list by its
number; what a handler is *is* the state of its descriptor, so states change by watching with another
handler.  Three mechanisms (epoll, poll, select) stand behind one small face and use epoll's bits.

What must hold: descriptors are made only outside the batch of events, by work put off with `later`.  A
number closed and given out again within a batch would be hit by the old descriptor's events.

Not here: what is done with a descriptor; signals (process.Signals feeds a pipe watched like any other).
"""

import heapq
import select
from collections.abc import Callable

from penlib import clock

END = getattr(select, "EPOLLRDHUP", 0)
"""The other side will send nothing more; told with READ, where the system tells it."""
READ = 0x001 | END
WRITE = 0x004
ERROR = 0x008 | 0x010
"""EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; poll(2) has the same numbers on Linux."""

FD_SETSIZE = 1024
"""select(2) can not watch a descriptor of this number or more."""

Handler = Callable[[int, int], None]


class Timer:
    """Something to be done once, later.  `cancel` it, or let it come."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Never do it."""
        self.action = None

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when


class Loop:
    """Runs handlers for descriptors that are ready, work put off until after the batch, and timers.

    `on_fault(fd, exc)` is called with whatever a handler raises, so that a fault costs one connection and
    not the process.
    """

    def __init__(self, mechanism: str = "epoll") -> None:
        self.mechanism = mechanism
        self.handlers: list[Handler | None] = [None] * 64
        self.on_fault: Callable[[int, Exception], None] = _raise
        self._poller = MECHANISMS[mechanism]()
        self._watched: list[int] = [0] * 64
        self._hiding: set[int] = set()
        self._later: list[Callable[[], None]] = []
        self._timers: list[Timer] = []
        self._stopped = False
        self.closing: Callable[[int], None] = self._drop if mechanism == "epoll" else self.forget
        """As `forget`, for a descriptor closed right away, perhaps before it was ever watched: epoll forgets
        those by itself."""

    def watch(self, fd: int, mask: int, handler: Handler) -> None:
        """Call `handler(fd, ready)` whenever `fd` is ready for something in `mask`, or broken."""
        if fd >= len(self.handlers):
            room = 2 * fd + 1 - len(self.handlers)
            self.handlers += [None] * room
            self._watched += [0] * room
        self.handlers[fd] = handler
        self.want(fd, mask)

    def want(self, fd: int, mask: int) -> None:
        """Change what is waited for on a watched `fd`.

        0 takes it out of the poller altogether: an error or hang-up, which pollers report unasked, would
        otherwise be reported without end while nobody wants to read it.
        """
        before = self._watched[fd]
        if mask == before:
            return
        self._watched[fd] = mask
        if not before:
            self._poller.register(fd, mask)
        elif mask:
            self._poller.modify(fd, mask)
        else:
            self._poller.unregister(fd)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`, which is about to be closed or handed on."""
        self._hiding.discard(fd)
        if fd < len(self.handlers):
            if self._watched[fd]:
                self._watched[fd] = 0
                self._poller.unregister(fd)
            self.handlers[fd] = None

    def hides(self, fd: int, hides: bool) -> None:
        """Say whether bytes of a watched `fd` have been read from the kernel, but not yet by its handler: no
        poller sees them, and as long as there are any, `fd` counts as readable."""
        if hides:
            self._hiding.add(fd)
        else:
            self._hiding.discard(fd)

    def _drop(self, fd: int) -> None:
        self._hiding.discard(fd)
        if fd < len(self.handlers):
            self._watched[fd] = 0
            self.handlers[fd] = None

    def wanted(self, fd: int) -> int:
        """What is waited for on `fd`; 0 for nothing."""
        return self._watched[fd] if fd < len(self._watched) else 0

    def later(self, action: Callable[[], None]) -> None:
        """Do `action` after this batch of events."""
        self._later.append(action)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do `action` once, `seconds` from now."""
        timer = Timer(clock.monotonic() + seconds, action)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Let `run` return after this batch."""
        self._stopped = True

    def run(self) -> None:
        """Run until `stop`."""
        self._stopped = False
        handlers, hiding, wait = self.handlers, self._hiding, self._poller.poll
        while not self._stopped:
            fd = -1
            try:
                if self._later:
                    self._run_later()
                timeout = self._run_timers() if self._timers else None
                for fd, mask in self._wait_hiding(timeout) if hiding else wait(timeout):
                    handler = handlers[fd]
                    if handler is not None:
                        handler(fd, mask)
            except InterruptedError:
                continue
            except Exception as exc:
                self.on_fault(fd, exc)
        self._run_later()

    def _wait_hiding(self, timeout: float | None) -> list[tuple[int, int]]:
        """As the poller's `poll`, when some hide bytes from it."""
        readable = [fd for fd in self._hiding if self._watched[fd] & READ]
        ready = dict(self._poller.poll(0 if readable else timeout))
        for fd in readable:
            ready[fd] = ready.get(fd, 0) | READ
        return list(ready.items())

    def _run_later(self) -> None:
        while self._later:
            actions, self._later = self._later, []
            while actions:
                action = actions.pop(0)
                try:
                    action()
                except Exception as exc:
                    self.on_fault(-1, exc)

    def _run_timers(self) -> float | None:
        """Do what is due; answers how long the next wait may last, in the poller's unit."""
        now = clock.monotonic()
        while self._timers and self._timers[0].when <= now:
            action = heapq.heappop(self._timers).action
            if action is not None:
                action()
        if self._later or self._stopped:
            return 0
        return self._poller.duration(self._timers[0].when - now) if self._timers else None


def _raise(fd: int, exc: Exception) -> None:
    raise exc


class _Epoll:
    """epoll(7)."""

    def __init__(self) -> None:
        epoll = select.epoll()
        self.register = epoll.register
        self.modify = epoll.modify
        self.unregister = epoll.unregister
        self.poll = epoll.poll

    @staticmethod
    def duration(seconds: float) -> float:
        return seconds


class _Poll:
    """poll(2)."""

    def __init__(self) -> None:
        poll = select.poll()
        self.register = poll.register
        self.modify = poll.modify
        self.unregister = poll.unregister
        self.poll = poll.poll

    @staticmethod
    def duration(seconds: float) -> float:
        return seconds * 1000


class _Select:
    """select(2), where there is nothing better.  Errors show as readiness."""

    def __init__(self) -> None:
        self._reading: set[int] = set()
        self._writing: set[int] = set()

    def register(self, fd: int, mask: int) -> None:
        if fd >= FD_SETSIZE:
            raise OSError(24, f"select() can not watch descriptor {fd}")
        self.modify(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        for wanted, watched in ((mask & READ, self._reading), (mask & WRITE, self._writing)):
            if wanted:
                watched.add(fd)
            else:
                watched.discard(fd)

    def unregister(self, fd: int) -> None:
        self.modify(fd, 0)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        readable, writable, _ = select.select(self._reading, self._writing, (), timeout)
        ready = dict.fromkeys(readable, READ & ~END)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | WRITE
        return list(ready.items())

    @staticmethod
    def duration(seconds: float) -> float:
        return seconds


MECHANISMS: dict[str, Callable[[], "_Epoll | _Poll | _Select"]] = {
    name: kind
    for name, kind, exists in (
        ("epoll", _Epoll, hasattr(select, "epoll")),
        ("poll", _Poll, hasattr(select, "poll")),
        ("select", _Select, True),
    )
    if exists
}
"""The event mechanisms of this system, best first."""

BEST = next(iter(MECHANISMS))
