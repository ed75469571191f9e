"""What mergelogs' page lists as different from pen 0.34.1."""

import gzip
import os

import pytest
from support.differences import Differences
from support.programs import original, tool

difference = Differences("mergelogs")

SERVER, PEN = "192.0.2.21", "192.0.2.1"
TIMES = ["14/Nov/2023:22:13:20", "14/Nov/2023:22:13:25", "14/Nov/2023:22:13:30"]


def record(client, request, after=0):
    return f"{client} {1700000000 + after} {SERVER} GET {request} HTTP/1.1\n"


def line(request, when=0, client=PEN, size=5):
    return f'{client} - - [{TIMES[when]} +0000] "GET {request} HTTP/1.1" 200 {size}\n'


@pytest.fixture
def both(lab):
    """The two on the same logs."""

    def run(records, lines, *words, name="log", zone="UTC", logs=(f"{SERVER}:log",)):
        lab.write("pen.log", records)
        lab.write(name, lines) if isinstance(lines, str) else (lab.directory / name).write_bytes(lines)
        env = {**os.environ, "TZ": zone}
        return [
            lab.run_words([*program, *words, "-p", "pen.log", *logs], env=env)
            for program in (original("mergelogs"), tool("mergelogs"))
        ]

    return run


def clients(done):
    assert done.code == 0, done
    return [line.split()[0] for line in done.out.splitlines()]


@difference("Wrong usage")
def test_wrong_usage(both):
    theirs, ours = both("", "", "--frobnicate")
    assert (theirs.code, ours.code) == (0, 2)


@difference("One record, one line")
def test_one_record_one_line(both):
    theirs, ours = both(
        record("10.0.0.1", "/") + record("10.0.0.2", "/"), line("/", size=1) + line("/", size=2)
    )
    assert clients(theirs) == ["10.0.0.1", "10.0.0.1"]
    assert clients(ours) == ["10.0.0.1", "10.0.0.2"]


@difference("Lines without a record")
def test_lines_without_a_record(both):
    theirs, ours = both("", line("/", client="10.0.0.9"))
    assert clients(theirs) == [SERVER]
    assert clients(ours) == ["10.0.0.9"]


@difference("An hour")
def test_an_hour(both):
    """The second line of a run comes out with another time."""
    lines = line("/1") + line("/2") + line("/3")
    theirs, ours = both("".join(record("10.0.0.1", f"/{number}") for number in (1, 2, 3)), lines)
    assert [out.count("[14/Nov/2023:21:13:20 +0000]") for out in (theirs.out, ours.out)] == [1, 0]
    assert ours.out == lines.replace(PEN, "10.0.0.1")


@difference("Time zones")
def test_time_zones(both):
    theirs, ours = both(
        record("10.0.0.1", "/1") + record("10.0.0.3", "/3", 10),
        line("/1") + line("/1", 1) + line("/3", 2),
        zone="Asia/Tokyo",
    )
    assert clients(theirs)[-1] == SERVER
    assert clients(ours)[-1] == "10.0.0.3"


@difference("Order")
def test_order(both):
    """A line that was written late, because the request took long."""
    theirs, ours = both("", line("/1") + line("/2") + line("/4", 2) + line("/3", 1))
    found = [[line.split()[6] for line in out.splitlines()] for out in (theirs.out, ours.out)]
    assert found == [["/1", "/2", "/4", "/3"], ["/1", "/2", "/3", "/4"]]


@difference("Lines that can't be parsed")
def test_lines_that_cant_be_parsed(both):
    theirs, ours = both("", "frobnicate\n" + line("/"))
    assert theirs.err == ""
    assert ours.err == "mergelogs: 1 lines could not be parsed and were left out; -r FILE keeps them\n"


@difference("What web servers escape")
def test_what_web_servers_escape(both):
    theirs, ours = both(record("10.0.0.1", '/"x"'), line(r"/\"x\""))
    assert clients(theirs) == [SERVER]
    assert clients(ours) == ["10.0.0.1"]


@difference("Compressed logs")
def test_compressed_logs(both):
    compressed = gzip.compress(line("/").encode())
    theirs, ours = both(record("10.0.0.1", "/"), compressed)
    assert theirs.out == ""
    assert clients(ours) == ["10.0.0.1"]


@difference("Logs that are found")
def test_logs_that_are_found(both):
    theirs, ours = both(record("10.0.0.1", "/"), line("/"), name=f"access_log.{SERVER}", logs=())
    assert theirs.out.startswith("Usage:")
    assert clients(ours) == ["10.0.0.1"]


@difference("New options")
def test_new_options(both):
    theirs, ours = both("", line("/"), "-q", "--keep-zone", "--unmatched-server")
    assert "invalid option" in theirs.err
    assert clients(ours) == [SERVER]


difference.complete()
