"""What webresolve and splitwr have in common: a filter, and behind it hosts file, cache and whoever asks.

    NameFilter -> Naming -> hosts file, cache, then `ask` (Lookups, or the workers of splitwr)

Not here: which of the two asks.
"""

import gc
import os
import re
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from penlib.errors import PenError, UsageError
from penlib.hostnames import read_hosts
from penlib.loop import BEST, Loop
from penlib.namefilter import NameFilter
from penlib.process import exit_when_told
from penlib.progress import Progress
from penlib.report import Reporter
from penlib.usage import Args

if TYPE_CHECKING:
    from penlib.namecache import NameCache

T = TypeVar("T")

SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?|\.[0-9]{1,6}", re.ASCII)

COLLECTED = 50_000
"""Objects made before Python looks for such as refer to themselves: nothing that comes with each address
does, and by default a tenth of the time goes into looking."""

Form = Callable[[bytes, bytes | None, int], bytes | None]
"""What is written for a packed address, its name and expiry; None: what was read."""


def plain(address: bytes, name: bytes | None, expires: int) -> bytes | None:
    """The name, if there is one."""
    return name


class Naming:
    """One run.  Set `ask` before `run`; it must end in a call of `found` for each address."""

    def __init__(self, tool: str, args: Args, lookups: int, form: Form = plain) -> None:
        """`lookups`: how many addresses `ask` can work on at a time.  Raises PenError if the cache can't be
        used."""
        self.loop = Loop(BEST)
        self.counts = dict.fromkeys(("hosts", "cache", "asked", "named", "unanswered"), 0)
        self.ask: Callable[[bytes], None] = self._nobody
        self._reporter = Reporter(tool, waits=True)
        self._form = form
        self._verbose = bool(args["-v"])
        self._files: list[str] = args["<file>"]
        self._hosts = read_hosts()
        self._cache = _cache(args)
        self._progress = Progress(_size(self._files), bool(args["-q"]))
        self._filter = NameFilter(self._reporter, self._files, self.loop, self._progress, lookups, self._find)
        self._status = 0

    def run(self) -> int:
        """Until all is written; what was found is kept however it ends.  The exit status."""
        exit_when_told()
        gc.set_threshold(COLLECTED)
        try:
            with self._progress:
                status = self._filter.run()
        finally:
            self._use_cache(lambda cache: cache.flush())
        if self._verbose:
            self._reporter.warn(self.summary())
        return status or self._status

    def found(self, address: bytes, name: bytes | None, expires: int) -> None:
        """An answer, to be kept until `expires` (epoch seconds; 0: not at all)."""
        if expires:
            self._use_cache(lambda cache: cache.put(address, name, expires))
        else:
            self.counts["unanswered"] += name is None
        self._tell(address, name, expires)

    def summary(self) -> str:
        """One line of numbers."""
        many = self.counts
        all_of_them = many["hosts"] + many["cache"] + many["asked"]
        return (
            f"{self._filter.lines:,} lines, {all_of_them:,} addresses, {many['named']:,} with a name; "
            f"hosts file {many['hosts']:,}, cache {many['cache']:,}, asked {many['asked']:,}, "
            f"unanswered {many['unanswered']:,}"
        )

    def _find(self, address: bytes) -> None:
        if name := self._hosts.get(address):
            self.counts["hosts"] += 1
            self._tell(address, name, 0)
        elif kept := self._use_cache(lambda cache: cache.get(address)):
            self.counts["cache"] += 1
            self._tell(address, *kept)
        else:
            self.counts["asked"] += 1
            self.ask(address)

    def _tell(self, address: bytes, name: bytes | None, expires: int) -> None:
        self.counts["named"] += name is not None
        self._filter.found(address, self._form(address, name, expires))

    def _use_cache(self, use: "Callable[[NameCache], T]") -> T | None:
        """Do something with the cache, if there is one.  When it fails, the work goes on without it."""
        if self._cache is None:
            return None
        try:
            return use(self._cache)
        except PenError as exc:
            self._reporter.warn(str(exc))
            self._cache, self._status = None, 1
            return None

    @staticmethod
    def _nobody(address: bytes) -> None:
        raise AssertionError("nobody to ask")


def _cache(args: Args) -> "NameCache | None":
    """Names kept from run to run, if that is wanted: who does not want it does not load SQLite."""
    if not args["-c"]:
        return None
    from penlib.namecache import NameCache

    return NameCache(args["-c"], bool(args["-f"]))


def _size(files: list[str]) -> int | None:
    """Bytes of all files together; None if one of them is no plain file."""
    total = 0
    for name in files or ["-"]:
        try:
            status = os.fstat(0) if name == "-" else os.stat(name)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def number(args: Args, option: str, least: int, most: int) -> int:
    """The whole number that an option has.  Raises UsageError."""
    word = args[option]
    if not (word.isascii() and word.isdigit() and len(word) < 9 and least <= int(word) <= most):
        raise UsageError(f"option {option}: '{word}' is not a number from {least} to {most}")
    return int(word)


def seconds(args: Args, option: str) -> float:
    """The positive number of seconds that an option has.  Raises UsageError."""
    word = args[option]
    if not (SECONDS.fullmatch(word) and 0.01 <= float(word) <= 3600):
        raise UsageError(f"option {option}: '{word}' is not a number of seconds from 0.01 to 3600")
    return float(word)
