"""pen's command line: help, version, what is wrong usage and how that is said."""

import re
import socket

import pytest
from support.pen import control_options
from support.ports import free_port, listens
from support.process import Result
from support.programs import tool

OBSOLETE = [["-Q"], ["-D"], ["-n"], ["-S", "3"]]


def refused(done: Result, *words: str) -> None:
    """Exit 2; one line that names the words; then the short usage; nothing on stdout."""
    assert done.code == 2, done
    assert done.out == ""
    complaint, usage, *_ = done.err.splitlines()
    assert complaint.startswith("pen: ")
    for word in words:
        assert word in complaint
    assert usage.lower().startswith("usage:")
    assert "Traceback" not in done.err


def as_typed(lab, *words):
    """pen with these words, LISTEN filled in, and a control socket before them."""
    listen = f"127.0.0.1:{free_port()}"
    typed = [listen if word == "LISTEN" else word for word in words]
    control = str(lab.directory / "ctl")
    return lab.pen_as_typed(*control_options(control), *typed, listen=listen, control=control)


def test_help_goes_to_stdout(lab):
    done = lab.run("pen", "--help")
    assert (done.code, done.err) == (0, "")
    assert "usage:" in done.out.lower()
    for letter in "BCFNOPTUWXabcdefhjlmpqrstuwx":
        assert re.search(rf"\n  (-\w, )?-{letter}\b", done.out), f"-{letter} is not explained"


def test_version(lab):
    done = lab.run("pen", "--version")
    assert (done.code, done.err) == (0, "")
    name, version = done.out.rstrip("\n").split(" ")
    assert name == "pen"
    assert version[0].isdigit()


def test_help_wins_over_what_else_is_wrong(lab):
    assert lab.run("pen", "--help", "-y").code == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], []),
        (["-y", "10000", "127.0.0.1:1"], ["-y"]),
        (["--nonsense", "10000", "127.0.0.1:1"], ["--nonsense"]),
        (["10000", "127.0.0.1:1", "-t"], ["-t"]),
        (["-t", "x", "10000", "127.0.0.1:1"], ["-t", "x"]),
        (["-c", "-1", "10000", "127.0.0.1:1"], ["-c", "-1"]),
        (["-b", "long", "10000", "127.0.0.1:1"], ["-b", "long"]),
        (["-T", "", "10000", "127.0.0.1:1"], ["-T"]),
        (["-x", "9" * 30, "10000", "127.0.0.1:1"], ["-x", "too large"]),
        (["-r=1", "10000", "127.0.0.1:1"], ["-="]),
    ],
)
def test_wrong_usage(lab, words, named):
    refused(lab.run("pen", *words), *named)


@pytest.mark.parametrize("words", [["service"], [], ["-f", "10000"]], ids=" ".join)
def test_windows_services_are_not_supported(lab, words):
    refused(lab.run("pen", "-i", *words), "-i", "not supported")


@pytest.mark.parametrize("words", OBSOLETE, ids=" ".join)
def test_obsolete_options_are_accepted_with_a_line(lab, words):
    pen = lab.pen(*words, servers=lab.backends(1))
    assert pen.ask() == "s0"
    lines = [line for line in pen.err.splitlines() if words[0] in line]
    assert len(lines) == 1
    assert "obsolete" in lines[0]


@pytest.mark.parametrize(
    "options", [["-df"], ["-d", "-f"], ["-fd"], ["-dd", "-f"], ["-d", "-d", "-f"]], ids=" ".join
)
def test_options_combine_and_repeat(lab, options):
    server = lab.backend()
    level = "".join(options).count("d")
    pen = as_typed(lab, *options, "LISTEN", server)
    assert pen.command("debug") == f"{level}\n"
    assert pen.ask() == "s0"


def test_options_may_follow_positionals(lab):
    pen = as_typed(lab, "LISTEN", "-f", lab.backend(), "-t1")
    assert pen.ask() == "s0"
    assert pen.command("timeout") == "1\n"


def test_two_dashes_end_the_options(lab):
    refused(lab.run("pen", "-f", "--", "10000", "-r"), "-r")
    pen = as_typed(lab, "-f", "--", "LISTEN", lab.backend())
    assert pen.ask() == "s0"


@pytest.mark.parametrize(("option", "command", "least"), [("-t", "timeout", 1), ("-x", "conn_max", 1)])
def test_less_than_the_least_is_the_least(lab, option, command, least):
    pen = lab.pen(option, "0", servers=lab.backends(1))
    assert pen.command(command) == f"{least}\n"


@pytest.mark.parametrize("option", ["-O", "-o"])
def test_a_wrong_command_is_reported_and_the_others_count(lab, option):
    pen = lab.pen(option, "frobnicate 3", option, "acl 11 permit 1.2.3.4", option, "timeout 9")
    assert "do_cmd: ignoring command starting with 'frobnicate'" in pen.err
    assert "11" in pen.err.splitlines()[1]
    assert pen.command("timeout") == "9\n"


@pytest.mark.parametrize("first", ["-O", "-o"])
@pytest.mark.parametrize("second", ["-O", "-o"])
def test_commands_are_carried_out_as_they_were_typed(lab, first, second):
    pen = lab.pen(first, "timeout 7", second, "timeout 9")
    assert pen.command("timeout") == "9\n"


def test_the_last_of_an_option_counts(lab):
    pen = lab.pen("-t", "9", "-t", "2", servers=lab.backends(1))
    assert pen.command("timeout") == "2\n"


def test_a_closed_stdout_is_no_tragedy(lab):
    reading, writing = socket.socketpair()
    reading.close()
    pen = lab.spawn([*tool("pen"), "--help"], stdout=writing)
    writing.close()
    pen.wait()
    assert "Traceback" not in pen.err
    assert "Error" not in pen.err


def test_no_server_at_all_is_fine(lab):
    """`pen -df 2323`: the servers are to come through penctl."""
    pen = lab.pen()
    assert pen.ask() == ""
    server = lab.backend()
    pen.command(f"server 0 address {server.host} port {server.port}")
    assert pen.ask() == "s0"


def test_nothing_is_opened_when_the_usage_is_wrong(lab):
    port = free_port()
    refused(lab.run("pen", "-l", "pen.log", "-p", "pen.pid", f"127.0.0.1:{port}", "127.0.0.1:99999"), "99999")
    assert not (lab.directory / "pen.log").exists()
    assert not (lab.directory / "pen.pid").exists()


class TestPidFileWithoutName:
    """`-p`'s file may be left out; then it is pen.pid."""

    @pytest.mark.parametrize(
        ("words", "file"),
        [
            (["-p", "-r", "LISTEN"], "pen.pid"),
            (["-p", "LISTEN"], "pen.pid"),
            (["-p", "PORT"], "pen.pid"),
            (["-r", "-p", "[::1]:PORT"], "pen.pid"),
            (["LISTEN", "SERVER", "-p"], "pen.pid"),
            (["-p", "other.pid", "LISTEN"], "other.pid"),
            (["-pother.pid", "LISTEN"], "other.pid"),
            (["-p", "pid", "LISTEN"], "pid"),
            (["-p", "DIR/80", "LISTEN"], "80"),
            (["-p", "./80:80", "LISTEN"], "80:80"),
            (["-rp", "LISTEN"], "pen.pid"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_forms(self, lab, words, file):
        port, server = free_port(), lab.backend()
        meant = {"LISTEN": f"127.0.0.1:{port}", "PORT": str(port), "SERVER": str(server)}
        meant |= {"[::1]:PORT": f"[::1]:{port}", "DIR/80": f"{lab.directory}/80"}
        typed = [meant.get(word, word) for word in words]
        pid = lab.daemon(*typed, *([] if "SERVER" in words else [server]), pid_file=file)
        assert listens(pid, port)
