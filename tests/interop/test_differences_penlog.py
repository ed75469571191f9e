"""What penlog's page lists as different from pen 0.34.1."""

import pytest
from support.differences import Differences
from support.loghost import LogHost
from support.ports import free_port
from support.process import run
from support.programs import original, tool

difference = Differences("penlog")


@pytest.fixture
def loghost(lab):
    return lab.closing(LogHost("127.0.0.1", free_port()))


def both(*words, stdin=b"line\n"):
    """How the two end."""
    return [
        run([*program, *map(str, words)], stdin=stdin) for program in (original("penlog"), tool("penlog"))
    ]


@difference("Wrong usage")
def test_wrong_usage():
    theirs, ours = both()
    assert (theirs.code, ours.code) == (1, 2)
    assert ours.err.startswith("penlog: ")


@difference("Long lines")
def test_long_lines(loghost):
    line = b"x" * 3000 + b"\n"
    both("127.0.0.1", loghost.port, stdin=line)
    assert list(map(len, loghost.wait(4))) == [1023, 1023, 955, 3001]


@difference("The last newline")
def test_the_last_newline(loghost):
    both("127.0.0.1", loghost.port, stdin=b"line")
    assert loghost.wait(2) == [b"line", b"line\n"]


@difference("Any bytes")
def test_any_bytes(loghost):
    both("127.0.0.1", loghost.port, stdin=b"a\0b\n")
    assert loghost.wait(2) == [b"a", b"a\0b\n"]


@difference("host:port")
def test_host_and_port_in_one_word(loghost):
    theirs, ours = both(f"127.0.0.1:{loghost.port}")
    assert (theirs.code, ours.code) == (1, 0)
    assert loghost.wait(1) == [b"line\n"]


@difference("Names that do not resolve")
def test_names_that_do_not_resolve():
    theirs, ours = both("nowhere.invalid", 10000)
    assert theirs.code == 1
    assert ours.code == 0
    assert ours.err.startswith("penlog: nowhere.invalid: ")


@difference("Reports")
def test_reports(lab):
    """Of lines that nobody takes."""
    nobody = lab.closing(LogHost("127.0.0.1", free_port()))
    nobody.close()
    theirs, ours = both("127.0.0.1", nobody.port, stdin=b"line\n" * 20)
    assert (theirs.code, theirs.err) == (0, "")
    assert ours.code == 0
    assert "Connection refused" in ours.err


difference.complete()
