"""What -ddd shows: a dump of everything that passes, in hex or (-a) ASCII."""

from penlib.balancer.pairs import Tap
from penlib.balancer.settings import Settings
from penlib.report import Reporter

DUMP_LEVEL = 3
"""Debug level at which what passes is dumped."""

ROW = 32
"""Bytes on one line of a hex dump."""

_LINES = bytes(c if 0x20 <= c <= 0x7E or c == 0x0A else 0x2E for c in range(256))


class DumpTap:
    """Dumps one direction of one connection."""

    def __init__(self, reporter: Reporter, settings: Settings, title: str) -> None:
        self._reporter = reporter
        self._settings = settings
        self._title = title

    def feed(self, data: bytes) -> bytes:
        """Dump one chunk."""
        self._reporter.debug(DUMP_LEVEL, f"{self._title}: {len(data)} bytes")
        for line in ascii_lines(data) if self._settings.ascii else hex_lines(data):
            self._reporter.debug(DUMP_LEVEL, line)
        return data

    def answered(self) -> None:
        """No matter."""

    def unseen(self) -> int:
        """None: that is what it is for."""
        return 0

    def skip(self, size: int) -> None:
        """Never."""

    def finish(self) -> None:
        """Nothing is left."""


class Taps:
    """Several taps on one side."""

    def __init__(self, *taps: Tap) -> None:
        self._taps = taps

    def feed(self, data: bytes) -> bytes:
        """Through each."""
        for tap in self._taps:
            data = tap.feed(data)
        return data

    def answered(self) -> None:
        """To each."""
        for tap in self._taps:
            tap.answered()

    def unseen(self) -> int:
        """What all agree on."""
        return min(tap.unseen() for tap in self._taps)

    def skip(self, size: int) -> None:
        """To each."""
        for tap in self._taps:
            tap.skip(size)

    def finish(self) -> None:
        """Each."""
        for tap in self._taps:
            tap.finish()


def hex_lines(data: bytes) -> list[str]:
    """`data` in rows of offset and hex; as in the C pen the text is for -a."""
    return [f"{at:06x}  {data[at : at + ROW].hex(' ')}" for at in range(0, len(data), ROW)]


def ascii_lines(data: bytes) -> list[str]:
    """`data` as text, line by line, with a dot for what can't be shown."""
    return data.translate(_LINES).decode().splitlines()
