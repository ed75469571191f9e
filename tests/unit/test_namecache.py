"""namecache: answers kept in a file, until they expire, by several runs at once."""

import sqlite3

import pytest

from penlib import clock
from penlib.errors import PenError
from penlib.namecache import BATCH, NameCache

ADDRESS, OTHER = b"\xc0\0\2\1", b"\xc0\0\2\2"
NOW = 1_700_000_000


@pytest.fixture
def now(monkeypatch):
    """The time; set it with `now[0] = ...`."""
    time = [NOW]
    monkeypatch.setattr(clock, "now", lambda: time[0])
    return time


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cache")


def test_what_was_put_there_is_there_in_the_next_run(path, now):
    cache = NameCache(path, confirmed=False)
    cache.put(ADDRESS, b"one.example", NOW + 60)
    cache.put(OTHER, None, NOW + 900)
    cache.flush()
    again = NameCache(path, confirmed=False)
    assert again.get(ADDRESS) == (b"one.example", NOW + 60)
    assert again.get(OTHER) == (None, NOW + 900)
    assert again.get(b"\xc0\0\2\3") is None


def test_it_expires(path, now):
    cache = NameCache(path, confirmed=False)
    cache.put(ADDRESS, b"one.example", NOW + 60)
    cache.flush()
    now[0] = NOW + 59
    assert cache.get(ADDRESS)
    now[0] = NOW + 60
    assert cache.get(ADDRESS) is None
    NameCache(path, confirmed=False)
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM names").fetchone() == (0,)


def test_confirmed_names_stand_apart(path, now):
    for confirmed, name in ((False, b"said.example"), (True, b"sure.example")):
        cache = NameCache(path, confirmed)
        assert cache.get(ADDRESS) is None
        cache.put(ADDRESS, name, NOW + 60)
        cache.flush()
    assert NameCache(path, confirmed=False).get(ADDRESS) == (b"said.example", NOW + 60)
    assert NameCache(path, confirmed=True).get(ADDRESS) == (b"sure.example", NOW + 60)


def test_a_batch_is_written_without_being_asked(path, now):
    cache, other = NameCache(path, confirmed=False), NameCache(path, confirmed=False)
    for number in range(BATCH):
        assert other.get(b"%4d" % 0) is None
        cache.put(b"%4d" % number, b"h.example", NOW + 60)
    assert other.get(b"%4d" % 0)


def test_what_fails_midway_is_written_the_next_time(path, now, monkeypatch):
    """An interrupt may come while the file is written; what was found is written at the end."""

    class Interrupted:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self.file.__enter__()

        def __exit__(self, *reason):
            return self.file.__exit__(*reason)

        def executemany(self, *_):
            raise SystemExit(143)

    cache = NameCache(path, confirmed=False)
    cache.put(ADDRESS, b"one.example", NOW + 60)
    file = cache._file
    cache._file = Interrupted(file)
    with pytest.raises(SystemExit):
        cache.flush()
    cache._file = file
    cache.flush()
    assert NameCache(path, confirmed=False).get(ADDRESS) == (b"one.example", NOW + 60)


def test_a_table_of_somebody_else(path):
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE names (what TEXT)")
    with pytest.raises(PenError, match=r"cache .*: no such column"):
        NameCache(path, confirmed=False)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(PenError, match="unable to open"):
        NameCache(str(tmp_path / "none" / "cache"), confirmed=False)
