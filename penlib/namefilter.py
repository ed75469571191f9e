"""Text in, the same text out with names for the addresses at its lines' starts.

Text is read in chunks and cut into addresses and what is between them; whole lines are never looked at, so
their length does not matter.  What can't go out yet, because a name is still being looked up, waits in a
window; when that is full, reading pauses.  So memory does not grow with the text, only with the number of
different addresses.

Nothing here ever waits but the loop: while the reader of our output is slow, answers are still taken.

Not here: where names come from.  `ask` is called once for each address, and `found` is told.
"""

import os
import select
import stat
from collections import deque
from collections.abc import Callable

from penlib.errors import failed, reason
from penlib.hostnames import LEADING, LONGEST, packed
from penlib.loop import READ, WRITE, Loop
from penlib.progress import Progress
from penlib.report import Reporter

WINDOW_LINES = 100_000
"""Lines that wait at most."""

WINDOW_BYTES = 64 << 20
"""Bytes that wait at most, for lines that are long."""

OUT_BYTES = 1 << 20
"""Bytes that wait for a slow reader, beyond which reading pauses."""

ADDRESSES = 10_000
"""Addresses being looked up beyond which reading pauses, so that no text waits only for its turn to be asked
about; more, if so many may be asked about at a time."""

LEAST_ROOM = 4096
"""Lines or bytes of room under which reading is not worth the while."""

CHUNK = 1 << 16

GLANCE = 1.0
"""Seconds between two looks whether our output is still read."""

PIPE_BYTES = select.PIPE_BUF
"""What a pipe that is ready surely takes without making us wait, pipe(7)."""

STDIN, STDOUT = 0, 1


class _Block:
    """A chunk that waits: texts and addresses by turns, from `at` (an address) on not written."""

    __slots__ = ("at", "lines", "parts", "size")

    def __init__(self, parts: list[bytes], lines: int, size: int) -> None:
        self.parts = parts
        self.at = 1
        self.lines = lines
        self.size = size


class NameFilter:
    """Copies `files` ("-": standard input) to standard output; `run` answers the exit status.

    `ask(address)` is called once for each packed address that is met; `found` must then be called, once.
    `lookups` is how many addresses can be looked up at a time.
    """

    def __init__(
        self,
        reporter: Reporter,
        files: list[str],
        loop: Loop,
        progress: Progress,
        lookups: int,
        ask: Callable[[bytes], None],
    ) -> None:
        self.lines = 0
        self._reporter = reporter
        self._files = deque(files or ["-"])
        self._loop = loop
        self._progress = progress
        self._ask = ask
        self._most_addresses = max(ADDRESSES, 2 * lookups)
        self._names: dict[bytes, bytes] = {}  # text of an address -> what is written
        self._texts: dict[bytes, list[bytes]] = {}  # packed address being looked up -> its texts
        self._window: deque[_Block] = deque()
        self._waiting_lines = 0
        self._waiting_bytes = 0
        self._status = 0
        self._fd = -1  # of the file that is read
        self._source = -1  # what says when to read it
        self._file = ""
        self._mid_line = False
        self._rest = b""  # the begin of a line that may be an address cut in two
        self._paused = False
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._out_waits = not _takes_all(STDOUT)
        # Stands in for files, which are always ready and which epoll does not take.
        self._ready, writable = os.pipe()
        os.write(writable, b"!")

    def run(self) -> int:
        """Until all is written.  0, or 1 if a file could not be read."""
        self._loop.later(self._open_next)
        if self._out_waits:
            self._look_for_reader()
        self._loop.run()
        return self._status

    def _look_for_reader(self) -> None:
        """End if nobody reads our output any more, also while there is nothing to write."""
        poll = select.poll()
        poll.register(STDOUT, 0)  # which reports errors only
        if poll.poll(0):
            raise BrokenPipeError
        self._loop.after(GLANCE, self._look_for_reader)

    def found(self, address: bytes, written: bytes | None) -> None:
        """What is to be written for a packed address; None: what was read."""
        for text in self._texts.pop(address):
            self._names[text] = text if written is None else written
        head = self._window[0] if self._window else None
        if head and head.parts[head.at] in self._names:
            self._loop.later(self._advance)
        elif self._paused and len(self._texts) == self._most_addresses - 1:
            self._loop.later(self._go_on)

    def _open_next(self) -> None:
        if not self._files:
            self._finish()
            return
        self._file = self._files.popleft()
        try:
            self._fd = STDIN if self._file == "-" else os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            self._complain(exc)
            self._loop.later(self._open_next)
            return
        self._mid_line, self._rest = False, b""
        self._listen()

    def _listen(self) -> None:
        """Read as soon as there is something."""
        self._paused = False
        try:
            self._loop.watch(self._fd, READ, self._read)
            self._source = self._fd
        except PermissionError:
            self._loop.closing(self._fd)
            self._loop.watch(self._ready, READ, self._read)
            self._source = self._ready

    def _pause(self) -> None:
        self._paused = True
        self._loop.want(self._source, 0)

    def _room(self) -> int:
        """Bytes that may be read: a line has at least one, so never more lines than fit come in."""
        if self._out_bytes >= OUT_BYTES or len(self._texts) >= self._most_addresses:
            return 0
        return min(WINDOW_LINES - self._waiting_lines, WINDOW_BYTES - self._waiting_bytes, CHUNK)

    def _read(self, fd: int, mask: int) -> None:
        room = self._room()
        if room < LEAST_ROOM:
            self._pause()
            return
        try:
            data = os.read(self._fd, room)
        except BlockingIOError:
            return
        except OSError as exc:
            self._complain(exc)
            data = b""
        self._progress.add(len(data), data.count(b"\n"))
        if data:
            self._take(self._rest + data)
        else:
            self._end_of_file()

    def _end_of_file(self) -> None:
        self._loop.forget(self._source)
        if self._fd != STDIN:
            os.close(self._fd)
        self._fd = -1
        if self._rest:
            self._take(self._rest, last=True)
        self._loop.later(self._open_next)

    def _complain(self, exc: OSError) -> None:
        name = "standard input" if self._file == "-" else self._file
        self._reporter.warn(f"{name}: {reason(exc)}")
        self._status = 1

    def _take(self, data: bytes, last: bool = False) -> None:
        """Cut a chunk up; what may be the beginning of an address waits for the next one."""
        self._rest = b""
        if not last:
            start = data.rfind(b"\n") + 1
            if len(data) - start <= LONGEST and (start or not self._mid_line):
                data, self._rest = data[:start], data[start:]
        if not data:
            return
        self.lines += data.count(b"\n") + (last and not data.endswith(b"\n"))
        begun, self._mid_line = self._mid_line, not data.endswith(b"\n")
        head = data.find(b"\n") + 1 or len(data) if begun else 0
        parts = LEADING.split(data[head:])
        parts[0] = data[:head] + parts[0]
        self._resolve(parts, data)

    def _resolve(self, parts: list[bytes], data: bytes) -> None:
        names = self._names
        addresses = parts[1::2]
        for text in dict.fromkeys(addresses):
            if text not in names:
                self._wanted(text)
        if not self._window and all(text in names for text in addresses):
            parts[1::2] = [names[text] for text in addresses]
            self._write(b"".join(parts))
            return
        block = _Block(parts, data.count(b"\n") + 1, len(data))
        self._window.append(block)
        self._waiting_lines += block.lines
        self._waiting_bytes += block.size
        self._advance()

    def _wanted(self, text: bytes) -> None:
        address = packed(text)
        if address is None:
            self._names[text] = text
        elif address in self._texts:
            if text not in self._texts[address]:
                self._texts[address].append(text)
        else:
            self._texts[address] = [text]
            self._ask(address)

    def _advance(self) -> None:
        """Write what no longer waits."""
        while self._window:
            block = self._window[0]
            if not self._write_known(block):
                break
            self._window.popleft()
            self._waiting_lines -= block.lines
            self._waiting_bytes -= block.size
        self._go_on()

    def _write_known(self, block: _Block) -> bool:
        """Write the block as far as its names are known; whether that is all of it."""
        parts, names = block.parts, self._names
        start = at = block.at
        while at < len(parts) and (name := names.get(parts[at])) is not None:
            parts[at] = name
            at += 2
        if start == 1 and parts[0]:
            self._write(parts[0])
            parts[0] = b""
        if at > start:
            self._write(b"".join(parts[start:at]))
            block.at = at
        return at >= len(parts)

    def _go_on(self) -> None:
        if self._paused and self._fd >= 0 and self._room() >= LEAST_ROOM:
            self._listen()
        self._finish()

    def _finish(self) -> None:
        """Stop once nothing is left to be read, found and written."""
        if not self._files and self._fd < 0 and not self._window and not self._out:
            self._loop.after(0, self._loop.stop)  # as a timer, which also ends the loop's wait

    def _write(self, data: bytes) -> None:
        if not self._out_waits:
            _write_all(data)
            return
        if data:
            self._out.append(data)
            self._out_bytes += len(data)
            self._loop.watch(STDOUT, WRITE, self._writable)

    def _writable(self, fd: int, mask: int) -> None:
        data = self._out.popleft()
        while len(data) < PIPE_BYTES and self._out:
            data += self._out.popleft()
        written = _write_some(data[:PIPE_BYTES])
        self._out_bytes -= written
        if written < len(data):
            self._out.appendleft(data[written:])
        if not self._out:
            self._loop.want(STDOUT, 0)
        self._go_on()


def _takes_all(fd: int) -> bool:
    """Whether it is a file (or a device like /dev/null): written to at once, and not for epoll."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError as exc:
        raise failed("standard output", exc) from exc
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd)) or stat.S_ISBLK(mode)


def _write_all(data: bytes) -> None:
    while data:
        data = data[_write_some(data) :]


def _write_some(data: bytes) -> int:
    try:
        return os.write(STDOUT, data)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise failed("standard output", exc) from exc
