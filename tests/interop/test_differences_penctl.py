"""What penctl's page lists as different from pen 0.34.1: the control protocol, and penctl itself."""

import contextlib
import socket

import pytest
from support.client import Client
from support.differences import Differences
from support.process import run
from support.programs import original, tool
from support.waiting import PATIENCE, wait_until

difference = Differences("penctl")


@pytest.fixture
def pens(lab):
    """The original and ours, in front of a server."""
    server = lab.backend(name="server")

    def start(*options):
        for program in (original("pen"), tool("pen")):
            yield lab.pen(*options, servers=[server], program=program)

    return start


def ctl(*words):
    """How the two penctls end."""
    return [run([*program, *words]) for program in (original("penctl"), tool("penctl"))]


@difference("Wrong usage")
def test_wrong_usage():
    theirs, ours = ctl()
    assert theirs.code == 0
    assert ours.code == 2


@difference("Exit status")
def test_exit_status(lab):
    pen = lab.pen()
    theirs, ours = ctl(pen.control, "frobnicate")
    assert theirs == (0, "do_cmd: ignoring command starting with 'frobnicate'\n", "")
    assert ours == (1, theirs.out, "")


@difference("A pen that does not answer")
def test_a_pen_that_does_not_answer(lab):
    listener = lab.closing(socket.create_server(("127.0.0.1", 0)))
    words = [f"127.0.0.1:{listener.getsockname()[1]}", "pid"]
    theirs = lab.spawn([*original("penctl"), *words])
    ours = lab.spawn([*tool("penctl"), *words])
    assert ours.wait(2 * PATIENCE) == 1
    assert theirs.alive


@difference("Wrong commands")
def test_wrong_commands(pens):
    """The original did something else instead, and said nothing."""
    theirs, ours = pens()
    with theirs.client() as client:
        client.line()
        assert theirs.command("close x") == "Forcibly closing connection 0\n"
        assert client.ended()
    assert theirs.command("timeout x") == "0\n"
    assert theirs.command("acl 11 permit 10.0.0.1") == ""
    with ours.client() as client:
        client.line()
        assert ours.command("close x") == "do_cmd: close: 'x' is not a number\n"
        assert client.talk(b"still here") == b"still here"
    assert ours.command("timeout x") == "do_cmd: timeout: 'x' is not a number\n"
    assert ours.command("timeout") == "3\n"
    assert ours.command("acl 11 permit 10.0.0.1").startswith("do_cmd: acl: '11' is not a list number")


@difference("Commands in files")
def test_commands_in_files(lab, pens):
    lab.write("pen.cfg", "frobnicate\nblacklist 7\n")
    theirs, ours = pens("-F", "pen.cfg")
    assert [pen.command("blacklist") for pen in (theirs, ours)] == ["7\n", "7\n"]
    assert "pen.cfg:1" not in theirs.err
    assert ours.err == "pen: pen.cfg:1: do_cmd: ignoring command starting with 'frobnicate'\n"


@difference("Networks")
def test_networks(pens):
    found = []
    for pen in pens():
        pen.command("acl 1 deny 127.0.9.0/24")
        pen.command("client_acl 1")
        found.append([pen.ask("127.0.9.1"), pen.ask("127.0.8.1")])
    assert found == [["server", "server"], ["", "server"]]


@difference("write")
def test_write(pens, lab):
    found = []
    for pen in pens():
        pen.command("server 0 weight 3 prio 4")
        pen.command(f"write {lab.directory}/written.cfg")
        found.append(" weight 3 prio 4\n" in (lab.directory / "written.cfg").read_text())
    assert found == [False, True]


@difference("listen")
def test_listen(pens):
    """To an address that it can't have."""
    theirs, ours = pens()
    theirs.command("listen 203.0.113.9:80")
    with pytest.raises(ConnectionRefusedError):
        theirs.ask()
    assert ours.command("listen 203.0.113.9:80").endswith(": Cannot assign requested address\n")
    assert ours.ask() == "server"


@difference("Silent clients")
def test_silent_clients(pens):
    """One that connects and says nothing."""
    theirs, ours = pens()
    for pen in (theirs, ours):
        pen.closing = Client(pen.control)
    with theirs.client(seconds=1) as client, pytest.raises(TimeoutError):
        client.line()
    assert ours.ask() == "server"
    for pen in (theirs, ours):
        pen.closing.close()


@difference("status")
def test_status(pens):
    theirs, ours = pens()
    assert theirs.command("status") == "Unable to create webstats\n"
    assert ours.command("status").startswith("<!DOCTYPE html>")


@difference("idlers")
def test_idlers(pens):
    theirs, ours = pens()
    assert [pen.command("idlers 2") for pen in (theirs, ours)] == ["Idlers: 0/2\n"] * 2
    wait_until(lambda: not theirs.alive, "the original has died")
    wait_until(lambda: ours.command("idlers") == "Idlers: 2/2\n", "ours has two")


@difference("ssl_client_renegotiation_interval")
def test_ssl_client_renegotiation_interval(pens):
    theirs, ours = pens()
    theirs.command("ssl_client_renegotiation_interval")
    wait_until(lambda: not theirs.alive, "the original has died")
    assert ours.command("ssl_client_renegotiation_interval") == "0\n"


@difference("dsr_if")
def test_dsr_if(pens):
    theirs, ours = pens()
    theirs.command("dsr_if nosuch0")

    def dies():
        with contextlib.suppress(OSError):
            Client(theirs.address).close()
        return not theirs.alive

    wait_until(dies, "the original dies, at the latest of its next client")
    assert "start-up" in ours.command("dsr_if nosuch0")
    assert ours.ask() == "server"


@difference("block and delayed_forward")
def test_block_and_delayed_forward(pens):
    theirs, ours = pens()
    for command in ("block", "delayed_forward"):
        assert theirs.command(command) == f"do_cmd: ignoring command starting with '{command}'\n"
        assert ours.command(command) == ""


@difference("The last newline")
def test_the_last_newline(pens):
    theirs, ours = pens()
    assert theirs.command("tarpit_acl") == "tarpit_acl = -1"
    assert ours.command("tarpit_acl") == "tarpit_acl = -1\n"
    assert theirs.command("source x") == "unable to set source address to 'x'"
    assert ours.command("source x") == "unable to set source address to 'x'\n"


@difference("New commands")
def test_new_commands(pens):
    theirs, ours = pens()
    for command in ("geoip_db", "help", "ssl_alpn", "udp_replies"):
        assert theirs.command(command) == f"do_cmd: ignoring command starting with '{command}'\n"
        assert "do_cmd" not in ours.command(command)


difference.complete()
