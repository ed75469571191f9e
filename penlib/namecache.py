"""Names remembered between runs, in an SQLite file that several runs may use at once.

Names confirmed by a forward lookup are kept apart from others: `-f` never takes what was not confirmed.
Answers are written in batches: a transaction an answer would wait for the disk each time.
"""

import sqlite3

from penlib import clock
from penlib.errors import PenError
from penlib.hostnames import is_host_name

BATCH = 5000
"""Answers held back: what a run that is killed may lose."""

PATIENCE = 30.0
"""Seconds to wait for another run that writes just now."""

_TABLE = """CREATE TABLE IF NOT EXISTS names (
    address BLOB, confirmed INTEGER, name BLOB, expires INTEGER NOT NULL,
    PRIMARY KEY (address, confirmed)) WITHOUT ROWID"""


class NameCache:
    """One such file, made if it is not there."""

    def __init__(self, path: str, confirmed: bool) -> None:
        """Raises PenError if it can't be opened, or is something else."""
        self._path = path
        self._confirmed = int(confirmed)
        self._news: list[tuple[bytes, int, bytes | None, int]] = []
        try:
            self._file = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            self._file.execute(_TABLE)
            self._file.execute("DELETE FROM names WHERE expires <= ?", (int(clock.now()),))
        except sqlite3.Error as exc:
            raise PenError(f"cache {path}: {exc}") from exc

    def get(self, address: bytes) -> tuple[bytes | None, int] | None:
        """Name (None: it has none) and expiry (epoch seconds) of a packed address; None if not known."""
        try:
            row = self._file.execute(
                "SELECT name, expires FROM names WHERE address = ? AND confirmed = ? AND expires > ?",
                (address, self._confirmed, int(clock.now())),
            ).fetchone()
        except sqlite3.Error as exc:
            raise PenError(f"cache {self._path}: {exc}") from exc
        return (row[0], row[1]) if row and _is_answer(*row) else None

    def put(self, address: bytes, name: bytes | None, expires: int) -> None:
        """Remember an answer; it is in the file after `BATCH` of them, or `flush`."""
        self._news.append((address, self._confirmed, name, expires))
        if len(self._news) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is new.  Raises PenError.  What ends it midway leaves all of that for the next time."""
        if not self._news:
            return
        try:
            with self._file:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?)", self._news)
        except sqlite3.Error as exc:
            raise PenError(f"cache {self._path}: {exc}") from exc
        self._news = []


def _is_answer(name: object, expires: object) -> bool:
    """Whether this can have been put there by us: others may write to the file, too."""
    return isinstance(expires, int) and (name is None or (isinstance(name, bytes) and is_host_name(name)))
