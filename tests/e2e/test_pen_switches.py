"""What commands change while pen runs, each seen by its effect: those that have no file of their own."""

import contextlib
import signal

import pytest
from support.programs import needs
from support.waiting import let_pass

A, B = "127.0.0.21", "127.0.0.22"


def say(pen, word):
    """A client comes, says that word and goes."""
    with pen.client() as client:
        client.line()
        client.talk(word)


def hexed(word):
    return " ".join(f"{byte:02x}" for byte in word)


class TestDumps:
    def test_ascii_and_no_ascii(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        for command, word in (("ascii", b"first"), ("no ascii", b"second"), ("ascii", b"third")):
            pen.command("debug 3")
            pen.command(command)
            say(pen, word)
            pen.command("debug 0")
            pen.says(f": {word.decode()}$" if command == "ascii" else f": 000000  {hexed(word)}$")
        pen.says(": 000000  73 30 0a$")
        assert "second" not in pen.err
        assert hexed(b"first") not in pen.err
        assert hexed(b"third") not in pen.err

    def test_debug(self, lab):
        pen = lab.pen("-a", servers=lab.backends(1))
        for level, word in ((3, b"first"), (2, b"second"), (3, b"third")):
            pen.command(f"debug {level}")
            say(pen, word)
        pen.says("third")
        assert "first" in pen.err
        assert "second" not in pen.err


class TestAbort:
    """An internal error is brought about by strace, which lets one wait for events fail."""

    BREAKS = ("strace", "-D", "-f", "-o", "trace", "-e", "trace=epoll_wait,epoll_pwait",
              "-e", "inject=epoll_wait,epoll_pwait:error=ENOMEM:when=60")  # fmt: skip

    def start(self, lab, *options):
        return lab.pen(*options, servers=lab.backends(1), wrap=self.BREAKS)

    @needs("strace")
    def test_abort_on_error(self, lab):
        pen = self.start(lab, "-O", "abort_on_error")
        with contextlib.suppress(OSError):  # none gets a connection when it is gone
            pen.asks(60)
        assert pen.wait() == -signal.SIGABRT

    @needs("strace")
    def test_no_abort_on_error(self, lab):
        """The error is said, and that is all."""
        pen = self.start(lab, "-O", "abort_on_error", "-O", "no abort_on_error")
        for _ in range(60):
            assert pen.ask() == "s0"
        pen.says("internal error: OSError: .*Cannot allocate memory")
        assert pen.ask() == "s0"


@pytest.mark.parametrize("command", ["block", "no block", "delayed_forward", "no delayed_forward"])
def test_obsolete_commands_change_nothing(lab, command):
    pen = lab.pen(servers=lab.backends(1))

    def written():
        assert pen.command("write saved.cfg") == ""
        return [line for line in (lab.directory / "saved.cfg").read_text().splitlines() if "# W" not in line]

    before = written()
    assert pen.command(command) == ""
    assert written() == before
    assert pen.ask() == "s0"
    assert pen.err == ""


class TestNumbers:
    def test_tracking(self, lab):
        pen = lab.pen(servers=lab.backends(3))
        assert [pen.ask(A), pen.ask(A)] == ["s0", "s0"]
        assert pen.command("tracking 1") == "1\n"
        let_pass(1.1)
        assert pen.ask(A) == "s1", "it is forgotten"
        assert pen.command("tracking 0") == "0\n"
        let_pass(1.1)
        assert pen.ask(A) == "s1"

    def test_clients_max(self, lab):
        pen = lab.pen("-c", "1", servers=lab.backends(3))
        assert [pen.ask(A), pen.ask(B), pen.ask(A)] == ["s0", "s1", "s2"], "each throws the other out"
        assert pen.command("clients_max 2") == "2\n"
        assert [pen.ask(A), pen.ask(B), pen.ask(A)] == ["s2", "s0", "s2"]


def test_help(lab):
    """In the words of the reference."""
    lines = lab.pen().command("help").splitlines()
    assert "blacklist [N]" in [line[:13] for line in lines]
    assert any(line.endswith("  seconds that a failed server is left alone") for line in lines)
    names = [line.removeprefix("no ").split()[0] for line in lines if not line.startswith(" ")]
    assert names == sorted(names)
