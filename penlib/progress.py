"""Long work shows itself: one line on standard error, rewritten in place.

Only on a terminal, only once the work has lasted 2 s, and wiped away at the end: a script, a log or a quick
run never sees it.  Callers count in batches, so that counting costs nothing.

Not here: summaries, which are for `-v` and stay.
"""

import sys

from penlib import clock

FIRST = 2.0
"""Seconds of work before the line appears."""

PERIOD = 0.2
"""Seconds between two lines: a person reads no faster."""

ERASE = "\r\x1b[K"
"""To the left margin, and clear to the end of the line (ECMA-48)."""


class Progress:
    """What has been done of `total` bytes (None if that can't be known, as of a pipe).

    With `quiet`, or where standard error is no terminal, it only counts.  Use it in a `with`: at the end of
    that, however it ends, the line is gone.
    """

    def __init__(self, total: int | None, quiet: bool = False) -> None:
        self.total = total
        self.size = 0
        self.lines = 0
        self._began = clock.monotonic()
        self._next = self._began + FIRST if not quiet and _on_terminal() else float("inf")
        self._shown = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            _show("")
            self._shown = False

    def add(self, size: int, lines: int) -> None:
        """Another `size` bytes of input, `lines` lines, are done."""
        self.size += size
        self.lines += lines
        now = clock.monotonic()
        if now >= self._next:
            self._next = now + PERIOD
            self._shown = True
            _show(self.text(now - self._began))

    def text(self, seconds: float) -> str:
        """The line after `seconds` (over 0) of work."""
        rate = f"{self.lines / seconds:,.0f} lines/s"
        if not self.total:
            return f"{_megabytes(self.size)}, {rate}"
        part = min(self.size / self.total, 1.0)
        left = f", {_minutes(seconds / part - seconds)} left" if part else ""
        return f"{part:4.0%}, {_megabytes(self.size)} of {_megabytes(self.total)}, {rate}{left}"


def _on_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _show(text: str) -> None:
    try:
        sys.stderr.write(ERASE + text)
        sys.stderr.flush()
    except OSError:
        pass  # a terminal that is gone is no reason to stop


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
