"""What all tools have in common: help, wrong usage, Ctrl-C at any moment, standard streams that are gone."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios

import pytest
from support import daemons, process
from support.network import mounted
from support.ports import free_port
from support.programs import ROOT, needs, tool
from support.waiting import PATIENCE, wait_until

from penlib.errors import shown

TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())
LINE = b'127.0.0.1 - - [01/Jan/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1\n'
TO_FILL_A_PIPE = 5000  # of those lines: several times what a pipe holds

NOT_FOR_EVERYBODY = {
    "argparse",
    "asyncio",
    "ctypes",
    "dataclasses",
    "ipaddress",
    "json",
    "logging",
    "sqlite3",
    "ssl",
}
"""Modules that are loaded by nobody, or by who has a use for them."""

FILTERS = {
    "mergelogs": ["-p", "empty", "127.0.0.1:log"],
    "webresolve": ["log"],
    "splitwr": ["-n2", "log"],
}


@pytest.fixture
def filters(lab):
    """Files that the filters can work on; 127.0.0.1 has a name or not, that is not ours to say."""
    lab.write("empty", "")
    (lab.directory / "log").write_bytes(LINE)
    return FILTERS


def pending(pipe):
    """Bytes that have been written to a pipe and not read yet."""
    answer = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return struct.unpack("i", answer)[0]


def refused(name, done, *words):
    """Exit 2; one line that names the words; then the short usage; nothing on stdout."""
    assert done.code == 2, done
    assert done.out == ""
    complaint, usage, *_ = done.err.splitlines()
    assert complaint.startswith(f"{name}: ")
    assert all(word in complaint for word in words), complaint
    assert usage == "Usage:"


@pytest.mark.parametrize("name", TOOLS)
class TestEachTool:
    def test_help_and_version(self, lab, name):
        done = lab.run(name, "--help")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{name} - ")
        done = lab.run(name, "--version")
        assert (done.code, done.err) == (0, "")
        assert done.out.split(" ")[0] == name

    def test_wrong_usage(self, lab, name):
        refused(name, lab.run(name, "--nonsense"), "unknown option --nonsense")
        refused(name, lab.run(name, "-@"), "unknown option -@")
        refused(name, lab.run(name, "--help=yes"), "--help takes no value")

    def test_what_was_typed_is_said_in_one_line(self, lab, name):
        refused(name, lab.run(name, "--non\nsense\t\x1b[1m"), r"--non\x0asense", r"\x1b[1m")
        words = [word.encode() for word in tool(name)]
        refused(name, lab.run_words([*words, b"--\xff"]), r"--\xff")

    @pytest.mark.parametrize("words", [["--help"], ["--version"]], ids=" ".join)
    def test_a_stdout_that_takes_nothing_is_a_failure(self, lab, name, words):
        full = lab.run_words(["sh", "-c", 'exec "$@" >/dev/full', "sh", *tool(name), *words])
        assert full == (1, "", f"{name}: standard output: No space left on device\n")
        closed = lab.run_words(["sh", "-c", 'exec "$@" >&-', "sh", *tool(name), *words])
        assert closed == (1, "", f"{name}: standard output: Bad file descriptor\n")

    @pytest.mark.parametrize("where", ["/dev/full", "&-"])
    def test_a_stderr_that_takes_nothing_changes_nothing(self, lab, name, where):
        words = ["sh", "-c", f'exec "$@" 2>{where}', "sh", *tool(name)]
        assert lab.run_words([*words, "--nonsense"]) == (2, "", "")
        assert lab.run_words([*words, "--help"]).code == 0

    def test_ctrl_c_while_it_is_being_loaded(self, lab, name):
        """A module of the standard library that every tool loads is in our hands."""
        lab.write("typing.py", "import os\nos.kill(os.getpid(), 2)\n")
        env = {**os.environ, "PYTHONPATH": str(lab.directory)}
        assert lab.run(name, "--help", env=env) == (130, "", "")

    def test_what_is_not_needed_is_not_loaded(self, lab, name):
        """Apache starts a penlog for each log, scripts start penctl in loops."""
        done = lab.run_words([sys.executable, "-X", "importtime", *tool(name)[-1:], "--version"])
        assert done.code == 0
        loaded = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
        assert "penlib.usage" in loaded
        assert not loaded & NOT_FOR_EVERYBODY

    def test_without_docstrings(self, lab, name):
        """As python -OO runs it."""
        done = lab.run(name, "--help", env={**os.environ, "PYTHONOPTIMIZE": "2"})
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{name} - ")


@pytest.mark.parametrize(
    ("name", "words", "named"),
    [
        ("mergelogs", ["127.0.0.1:log"], "option -p is missing"),
        ("mergelogs", ["-p"], "option -p needs a value"),
        ("mergelogs", ["-p", "", "127.0.0.1:log"], "option -p needs a value"),
        ("mergelogs", ["-p", "x", "-r", "", "127.0.0.1:log"], "option -r needs a value"),
        ("pen", ["-u", "", "10000", "127.0.0.1:1"], "option -u needs a value"),
        ("pen", ["-j", "", "10000", "127.0.0.1:1"], "option -j needs a value"),
        ("pen", ["-p", "", "10000", "127.0.0.1:1"], "option -p needs a value"),
        ("pen", ["-C", "", "10000", "127.0.0.1:1"], "option -C needs a value"),
        ("penlogd", ["-u", "", "10000"], "option -u needs a value"),
        ("penlogd", ["--allow=", "10000"], "option --allow needs a value"),
        ("penlogd", [], "too few arguments"),
        ("penlogd", ["1", "2", "3"], "wrong arguments: 1 2 3"),
        ("penlog", [], "too few arguments"),
        ("penlog", ["a", "1", "b", "2"], "wrong arguments: a 1 b 2"),
        ("penctl", [], "too few arguments"),
        ("penctl", ["127.0.0.1:1"], "too few arguments"),
        ("pen-ocsp", ["-t", "5"], "too few arguments"),
        ("webresolve", ["-c", ""], "option -c needs a value"),
        ("splitwr", ["-c", ""], "option -c needs a value"),
    ],
)
def test_what_is_missing_is_said(lab, name, words, named):
    refused(name, lab.run(name, *words), named)


class TestAddresses:
    """A bad one is an error that names it and what is wrong with it, exit 2, before anything is opened."""

    @pytest.mark.parametrize(
        "bad",
        ["", ":", "x", "x:", ":1:2", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:nosuch", "1.2.3:80", "[::1",
         "[::1]x:1", "[1.2.3.4]:1", "a b:1", "127.0.0.1:1:1", "::1:",
         "127.0.0.1:1\n", "[::1%]:1", "x" * 300 + ":1"],
    )  # fmt: skip
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("pen", ["-l", "pen.log", "BAD", "127.0.0.1:1"]),
            ("pen", ["-C", "BAD", "10000", "127.0.0.1:1"]),
            ("penctl", ["BAD", "servers"]),
            ("penlogd", ["-l", "pen.log", "BAD"]),
            ("penlog", ["BAD"]),
            ("pen-ocsp", ["-C", "BAD", "nosuchfile"]),
        ],
    )
    def test_bad(self, lab, name, words, bad):
        done = lab.run(name, *(bad if word == "BAD" else word for word in words))
        refused(name, done, shown(bad) if bad or "-C" not in words else "-C")
        assert not list(lab.directory.iterdir())

    @pytest.mark.parametrize(
        ("name", "words", "named"),
        [
            ("pen", ["-l", "127.0.0.1:99999"], "port 99999 is not between"),
            ("pen", ["-l", "127.0.0.1:1:2"], "host:port expected"),
            ("pen", ["-l", "loghost:"], "no port"),
            ("pen", ["-l", ":514"], "no host"),
        ],
    )
    def test_a_bad_target_of_the_log(self, lab, name, words, named):
        """Also where the start would fail for another reason, too."""
        refused(
            name, lab.run(name, "-p", "no/such.pid", *words, lab.backend(), "127.0.0.1:1"), words[-1], named
        )

    @pytest.mark.parametrize(
        ("name", "words", "named"),
        [
            ("penlogd", ["", "514"], "bad address"),
            ("penlog", ["", "514"], "bad address"),
            ("penlog", ["127.0.0.1", "514", "::1"], "bad address '::1'"),
            ("penlog", ["127.0.0.1:514", "localhost"], "bad address 'localhost'"),
            ("webresolve", ["-s", "/run/socket"], "bad address '/run/socket'"),
            ("webresolve", ["-s", "127.0.0.1:53:1"], "bad address '127.0.0.1:53:1'"),
            ("webresolve", ["-t", " 5"], "option -t: ' 5'"),
            ("webresolve", ["-t", "\u0665"], "option -t"),
            ("splitwr", ["-t", "1e3"], "option -t: '1e3'"),
            ("pen-ocsp", ["-t", "0", "x"], "option -t: '0'"),
        ],
    )
    def test_other_words(self, lab, name, words, named):
        refused(name, lab.run(name, *words), named)

    def test_host_and_port_may_be_two_words_whatever_the_host(self, lab):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("::1", 0))
            receiver.settimeout(PATIENCE)
            for host in ("::1", "[::1]"):
                done = lab.run("penlog", host, receiver.getsockname()[1], stdin=b"hello\n")
                assert done == (0, "", "")
                assert receiver.recv(100) == b"hello\n"

    def test_ipv4_in_the_form_of_ipv6_is_ipv4(self, lab):
        port = free_port()
        lab.pen(
            "-l",
            "pen.log",
            listen=f"[::ffff:127.0.0.1]:{port}",
            address=("127.0.0.1", port),
            servers=lab.backends(1),
        )

    def test_a_server_whose_name_is_no_text(self, lab):
        (lab.directory / "log").write_bytes(LINE)
        lab.write("empty", "")
        words = [word.encode() for word in tool("mergelogs")]
        done = lab.run_words([*words, b"-p", b"empty", b"\xff:log"])
        said = r"mergelogs: \xff: no host name, and no record names it: its lines keep their clients"
        assert done == (0, LINE.decode(), f"{said}\n")


class TestFilters:
    @pytest.mark.parametrize("name", FILTERS)
    def test_a_stdout_that_takes_nothing_is_a_failure(self, lab, filters, name):
        for where, why in [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")]:
            words = ["sh", "-c", f'exec "$@" >{where}', "sh", *tool(name), *filters[name]]
            assert lab.run_words(words) == (1, "", f"{name}: standard output: {why}\n")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("ignored", [False, True])
    @pytest.mark.parametrize("name", FILTERS)
    def test_signals(self, lab, filters, name, number, ignored):
        """They end it, unless somebody wanted them ignored: nohup, or a shell with background jobs."""
        lab.write("empty", "")
        words = [word.replace("log", "-") for word in filters[name]]
        trap = f"trap '' {number.name[3:]}; " if ignored else ""
        running = lab.spawn(
            ["sh", "-c", f'{trap}exec "$@"', "sh", *tool(name), *words], stdin=subprocess.PIPE
        )
        running.popen.stdin.write(LINE)
        running.popen.stdin.flush()
        wait_until(lambda: pending(running.popen.stdin) == 0, "it is at work")
        running.send_signal(number)
        if ignored:
            running.popen.stdin.close()
        assert running.wait() == (0 if ignored else 128 + number)
        assert running.err == ""
        assert len(running.out.splitlines()) == 1 or not ignored

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    @pytest.mark.parametrize("where", ["/dev/full", "&-"])
    def test_a_stderr_that_takes_nothing_changes_nothing(self, lab, filters, name, where):
        words = ["sh", "-c", f'exec "$@" 2>{where}', "sh", *tool(name), "-v"]
        assert lab.run_words([*words, "empty"]) == (0, "", "")
        assert lab.run_words([*words, "nosuchfile"]) == (1, "", "")

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("name", FILTERS)
    def test_a_stdout_that_does_not_block_loses_nothing(self, lab, filters, name, unbuffered):
        (lab.directory / "log").write_bytes(LINE * TO_FILL_A_PIPE)
        lab.write("hosts", "")
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        running = lab.spawn([*tool(name), *filters[name]], stdout=writing, env=env)
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert len(pipe.read().splitlines()) == TO_FILL_A_PIPE
        assert running.wait() == 0
        assert running.err == ""

    def test_penctl_writes_a_long_reply_to_a_stdout_that_does_not_block(self, lab):
        def talk(conn, backend):
            conn.recv(100)
            conn.sendall(b"x" * 300_000)

        server = lab.backend(talk)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        running = lab.spawn([*tool("penctl"), str(server), "x"], stdout=writing)
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read() == b"x" * 300_000
        assert running.wait() == 0


class Silent(socket.socket):
    """A name server that does not answer before it is told to; `wrap` are words to run a program with it."""

    def __init__(self, directory):
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 53))
        self.settimeout(PATIENCE)
        file = directory / "resolv.conf"
        file.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
        self.wrap = mounted(file, "/etc/resolv.conf")

    def question(self):
        """The next one, and where it came from."""
        return self.recvfrom(512)

    def answer(self, question, peer):
        """127.0.0.1 for an A, nothing for an AAAA (RFC 1035, 4.1)."""
        found = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if question[-4:-2] == b"\0\1" else b""
        counts = b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0"
        self.sendto(question[:2] + b"\x81\x80" + counts + question[12:] + found, peer)


@needs("root", "unshare", "mount")
class TestSlowNames:
    """libc's resolver does not stop for signals; we do."""

    @pytest.fixture
    def asked(self, lab, network):
        return lab.closing(Silent(lab.directory))

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("pen", ["-f", "127.0.0.1:8000", "slow.example:80"]),
            ("pen", ["-f", "slow.example:8000", "127.0.0.1:80"]),
            ("pen", ["127.0.0.1:8000", "slow.example:80"]),
            ("penctl", ["slow.example:80", "servers"]),
            ("penlogd", ["slow.example:80"]),
            ("penlog", ["slow.example:80"]),
            ("mergelogs", ["-p", "empty", "slow.example:log"]),
            ("webresolve", ["-s", "slow.example", "log"]),
            ("splitwr", ["-s", "slow.example", "log"]),
        ],
    )
    def test_ctrl_c(self, lab, asked, filters, name, words):
        running = lab.spawn([*asked.wrap, *tool(name), *words], stdin=subprocess.PIPE)
        assert b"slow" in asked.question()[0]
        assert daemons.called(running.pid) == name
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert (running.out, running.err) == ("", "")

    def test_ending_the_command_ends_the_daemon_that_has_not_started_yet(self, lab, asked):
        running = lab.spawn([*asked.wrap, *tool("pen"), "-p", "pen.pid", "127.0.0.1:8000", "slow.example:80"])
        asked.question()
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM
        assert not process.children() - lab.before - {running.pid}
        assert running.err == ""

    def test_a_daemon_that_is_killed_before_it_is_ready(self, lab, asked):
        running = lab.spawn([*asked.wrap, *tool("pen"), "127.0.0.1:8000", "slow.example:80"])
        asked.question()
        (child,) = process.children(running.pid)
        os.kill(child, signal.SIGKILL)
        assert running.wait() == 1
        assert running.err == "pen: killed by signal 9 before it was ready\n"

    def test_a_command_that_is_killed_leaves_the_daemon_to_start(self, lab, asked):
        running = lab.spawn([*asked.wrap, *tool("pen"), "-p", "pen.pid", "127.0.0.1:8000", "slow.example:80"])
        questions = [asked.question() for _ in range(2)]
        running.kill()
        for question in questions:
            asked.answer(*question)
        wait_until((lab.directory / "pen.pid").exists)
        assert daemons.end(int((lab.directory / "pen.pid").read_text())) == 0


@needs("strace")
class TestNoMoreProcesses:
    """Neither a process nor a thread is to be had."""

    WRAP = ("strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=fork,vfork,clone,clone3:error=EAGAIN")

    @pytest.mark.parametrize(
        ("name", "words"), [("pen", ["10000", "127.0.0.1:1"]), ("penlogd", ["-l", "x", "10000"])]
    )
    def test_a_daemon_says_so(self, lab, name, words):
        done = lab.run_words([*self.WRAP, *tool(name), *words])
        assert done == (1, "", f"{name}: into the background: Resource temporarily unavailable\n")

    def test_names_are_looked_up_at_start_and_refused_later(self, lab):
        pen = lab.pen(servers=[f"localhost:{lab.backend().port}"], wrap=self.WRAP)
        assert pen.ask() == "s0"
        assert "localhost: can't start new thread" in pen.command("server 0 address localhost")
        assert pen.ask() == "s0"


@needs("root")
@pytest.mark.parametrize(
    ("name", "words"), [("pen", ["-f", "-C", "./ctl", "./in", "127.0.0.1:1"]), ("penlogd", ["-f", "PORT"])]
)
def test_signals_that_come_between_listening_and_serving_wait(lab, name, words):
    """HUP is no reason to die, TERM one to end in good order: what was made is removed."""
    lab.write(
        "threading.py",  # is loaded last before a jail or another user; the true one is loaded then
        "import os, sys\n"
        "for number in (1, 15):\n"
        "    os.kill(os.getpid(), number)\n"
        f"sys.path.remove({str(lab.directory)!r})\n"
        "del sys.modules['threading']\n"
        "import threading\n"
        "open('loaded', 'w').close()\n",
    )
    typed = [f"127.0.0.1:{free_port()}" if word == "PORT" else word for word in words]
    env = {**os.environ, "PYTHONPATH": str(lab.directory)}
    done = lab.run(name, "-u", "root", "-p", "x.pid", *typed, env=env)
    assert (done.code, done.out) == (0, "")
    assert "Traceback" not in done.err
    left = {path.name for path in lab.directory.iterdir()} - {"threading.py", "__pycache__"}
    assert left == {"loaded"}


@pytest.mark.parametrize(
    ("name", "words"), [("pen", ["-f", "127.0.0.1:PORT"]), ("penlogd", ["-f", "127.0.0.1:PORT"])]
)
def test_signals_that_come_while_it_ends_change_nothing(lab, name, words):
    """Whoever is in a hurry says it twice."""
    lab.write(
        "sitecustomize.py",
        "import atexit, os\n"
        "def hurry():\n"
        "    for number in (1, 15, 2):\n"
        "        os.kill(os.getpid(), number)\n"
        "atexit.register(hurry)\n",
    )
    typed = [word.replace("PORT", str(free_port())) for word in words]
    env = {**os.environ, "PYTHONPATH": str(lab.directory)}
    running = lab.spawn([*tool(name), "-p", "x.pid", *typed], env=env)
    wait_until((lab.directory / "x.pid").exists)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.err == ""
