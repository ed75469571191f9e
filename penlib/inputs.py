"""Logs to read, compressed or not: files, and standard input as `-`.

What a file is, its first bytes say, not its name: gzip, bzip2, xz and zstd are told by their magic numbers
(RFC 1952, the bzip2 and xz file formats, RFC 8878).  Their modules are loaded when they are needed.

A file that can't be opened fails at once; one that turns out to be damaged, when the damage is reached, and
what came before that has been read.  Lines are bytes, of any length, without their newline.
"""

import io
import os
import stat
from typing import Any

from penlib.errors import PenError, reason

STDIN = "-"

CHUNK = 1 << 16
"""Bytes read at a time, uncompressed."""

_LONGEST_MAGIC = 6


class Unreadable(PenError):
    """A log that can't be read, or not to its end."""


class Input:
    """One log.  `done` is true once all of it, or all of it that can be read, was read."""

    def __init__(self, name: str) -> None:
        """Open it.  Raises Unreadable."""
        self.name = name
        self.done = False
        self._rest: list[bytes] = []  # the beginning of a line that is not all there yet
        self._position = 0
        try:
            self._raw = io.BufferedReader(io.FileIO(0 if name == STDIN else name, closefd=name != STDIN))
            self._stream = _uncompressed(self._raw, self.label)
        except (OSError, EOFError) as exc:
            raise _failed(self.label, exc) from exc

    @property
    def label(self) -> str:
        """What messages call it."""
        return "standard input" if self.name == STDIN else self.name

    @property
    def size(self) -> int | None:
        """Its bytes as stored; None if that can't be known."""
        status = os.fstat(self._raw.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def advance(self) -> int:
        """How many bytes, as stored, were taken since this was last asked."""
        try:
            position = self._raw.raw.tell()
        except OSError:  # a pipe
            return 0
        taken, self._position = position - self._position, position
        return taken

    def lines(self) -> list[bytes]:
        """Some more lines, perhaps none; also the last one, if it has no newline.

        Raises Unreadable if no more can be read; then it is `done`, too.
        """
        return self.text().split(b"\n")[:-1]

    def text(self) -> bytes:
        """The same lines in one piece, each with a newline."""
        try:
            data = self._stream.read1(CHUNK)
        except Exception as exc:  # each format has an error class of its own
            self.done = True
            raise _failed(self.label, exc) from exc
        if not data:
            self.done = True
            rest, self._rest = b"".join(self._rest), []
            return rest and rest + b"\n"
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest.append(data)
            return b""
        text, self._rest = b"".join((*self._rest, data[:end])), [data[end:]]
        return text


def _uncompressed(raw: Any, label: str) -> Any:
    magic = raw.peek(_LONGEST_MAGIC)
    if magic.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(raw)
    if magic.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.LZMAFile(raw)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(label).ZstdFile(raw)
    return raw


def _zstd(label: str) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise Unreadable(f"{label}: zstd needs the Python module backports.zstd") from None
    return zstd


def _failed(label: str, exc: BaseException) -> Unreadable:
    why = reason(exc) if isinstance(exc, OSError) and exc.errno else f"damaged: {exc}"
    return Unreadable(f"{label}: {why}")
