"""What all tools have in common: help, wrong usage, Ctrl-C at any moment, standard streams that are gone."""

import fcntl
import os

import pytest
from support.programs import ROOT, tool

TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())
LINE = b'127.0.0.1 - - [01/Jan/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1\n'
TO_FILL_A_PIPE = 5000  # of those lines: several times what a pipe holds

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


class TestFilters:
    @pytest.mark.parametrize("name", FILTERS)
    def test_a_stdout_that_takes_nothing_is_a_failure(self, lab, filters, name):
        for where, why in [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")]:
            words = ["sh", "-c", f'exec "$@" >{where}', "sh", *tool(name), *filters[name]]
            assert lab.run_words(words) == (1, "", f"{name}: standard output: {why}\n")

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
