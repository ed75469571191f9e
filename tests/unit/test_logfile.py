"""logfile: whole lines only, however badly the file can be written."""

import os
import re

import pytest

from penlib import logfile
from penlib.errors import PenError
from penlib.logfile import LogFile


class Later:
    """Stands in for the loop: `pass_time` does what was put off."""

    def __init__(self):
        self.timers = []

    def after(self, seconds, action):
        timer = Timer(action)
        self.timers.append(timer)
        return timer

    def pass_time(self):
        due, self.timers = self.timers, []
        for timer in due:
            if timer.action:
                timer.action()


class Timer:
    def __init__(self, action):
        self.action = action

    def cancel(self):
        self.action = None


class Listener:
    def __init__(self):
        self.said = []

    def warn(self, text):
        self.said.append(text)


class Fixture:
    def __init__(self, path):
        self.path, self.loop, self.reporter = path, Later(), Listener()
        self.log = LogFile(str(path), self.loop, self.reporter)


@pytest.fixture
def fixture(tmp_path):
    made = Fixture(tmp_path / "log")
    yield made
    made.log.close()


class Disk:
    """Stands in for os.write: `room` bytes fit."""

    def __init__(self, monkeypatch, room):
        self.room = room
        self.write_really = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        fits, self.room = min(self.room, len(data)), max(0, self.room - len(data))
        return self.write_really(fd, data[:fits])


def test_what_is_written_is_there_at_once(fixture):
    fixture.log.write(b"one\n")
    fixture.log.write(b"two\nthree\n")
    assert fixture.path.read_bytes() == b"one\ntwo\nthree\n"
    assert not fixture.loop.timers


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(PenError, match=re.escape("gone/log: No such file or directory")):
        LogFile(str(tmp_path / "gone" / "log"), Later(), Listener())


@pytest.mark.parametrize("room", range(0, 45, 4))
def test_a_full_disk_cuts_no_line_for_good(fixture, monkeypatch, room):
    disk = Disk(monkeypatch, room)
    lines = [b"line number %d\n" % number for number in range(4)]
    for line in lines:
        fixture.log.write(line)
    fixture.loop.pass_time()
    assert fixture.path.read_bytes() == b"".join(lines)[:room]
    disk.room = 1000
    fixture.loop.pass_time()
    assert fixture.path.read_bytes() == b"".join(lines)
    begin, end = fixture.reporter.said
    assert "No space left on device" in begin
    assert end.endswith("written again, lines lost: 0")
    assert not any(timer.action for timer in fixture.loop.timers)


def test_what_does_not_fit_in_memory_is_lost_by_the_line_and_counted(fixture, monkeypatch):
    monkeypatch.setattr(logfile, "ROOM", 40)
    disk = Disk(monkeypatch, 3)
    for number in range(10):
        fixture.log.write(b"line %d\nand\n" % number)
    disk.room = 1000
    fixture.loop.pass_time()
    fixture.log.write(b"after\n")
    assert fixture.path.read_bytes() == b"line 0\nand\nline 1\nand\nline 2\nand\nafter\n"
    assert fixture.reporter.said[-1].endswith("lines lost: 14")
    disk.room = 0
    fixture.log.write(b"again\n")
    disk.room = 1000
    fixture.loop.pass_time()
    assert fixture.reporter.said[-1].endswith("lines lost: 0")


def test_nothing_is_too_large_for_a_file_that_can_be_written(fixture, monkeypatch):
    monkeypatch.setattr(logfile, "ROOM", 40)
    fixture.log.write(b"x" * 99 + b"\n")
    assert fixture.path.stat().st_size == 100


def test_what_waits_at_the_end_is_counted(tmp_path, monkeypatch):
    fixture = Fixture(tmp_path / "log")
    Disk(monkeypatch, 0)
    fixture.log.write(b"one\ntwo\n")
    fixture.log.close()
    assert fixture.reporter.said[-1].endswith("lines lost: 2")


def test_reopened(fixture, tmp_path):
    fixture.log.write(b"before\n")
    fixture.path.rename(tmp_path / "moved")
    fixture.log.write(b"still\n")
    fixture.log.reopen()
    fixture.log.write(b"after\n")
    assert (tmp_path / "moved").read_bytes() == b"before\nstill\n"
    assert fixture.path.read_bytes() == b"after\n"


def test_a_removed_file_is_made_again(fixture):
    fixture.path.unlink()
    fixture.log.write(b"after\n")
    assert fixture.path.read_bytes() == b"after\n"


def test_where_no_new_file_can_be_made_the_old_one_is_used(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    fixture = Fixture(directory / "log")
    directory.rename(tmp_path / "moved")
    fixture.log.reopen()
    fixture.log.write(b"meanwhile\n")
    fixture.loop.pass_time()
    assert (tmp_path / "moved" / "log").read_bytes() == b"meanwhile\n"
    directory.mkdir()
    fixture.loop.pass_time()
    fixture.log.write(b"after\n")
    assert fixture.path.read_bytes() == b"after\n"
    assert len(fixture.reporter.said) == 2
    fixture.log.close()
