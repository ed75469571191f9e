"""What penlogd's page lists as different from pen 0.34.1."""

import os
import socket

import pytest
from support.differences import Differences
from support.penlogd import Penlogd, line, record, udp_sockets
from support.ports import free_port
from support.programs import original
from support.waiting import let_pass, stays, wait_until

difference = Differences("penlogd")

WEB = "127.0.0.21"


@pytest.fixture
def theirs(lab):
    """The original, which writes lines at once."""
    return Penlogd(lab, "-b", program=original("penlogd"))


@pytest.fixture
def ours(lab):
    return Penlogd(lab)


def tell(penlogd, *datagrams):
    """pen's records begin with +; the others come from the web server."""
    for data in datagrams:
        penlogd.send("127.0.0.1" if data.startswith(b"+") else WEB, data)


@difference("Wrong usage")
def test_wrong_usage(lab):
    assert lab.run_words([*original("penlogd"), "--frobnicate"]).code == 0
    assert lab.run("penlogd", "--frobnicate").code == 2


@difference("A failed start")
def test_a_failed_start(lab):
    words = ["-l", "/nowhere/log", str(free_port(socket.SOCK_DGRAM))]
    assert lab.run_words([*original("penlogd"), *words]).code == 0
    done = lab.run("penlogd", *words)
    assert (done.code, done.err) == (1, "penlogd: log /nowhere/log: No such file or directory\n")


@difference("One record, one line")
def test_one_record_one_line(theirs, ours):
    for penlogd in (theirs, ours):
        tell(penlogd, record("192.0.2.1", WEB), record("192.0.2.2", WEB), line(), line())
        penlogd.wait(2)
    assert theirs.clients == ["192.0.2.2", "192.0.2.2"]
    assert ours.clients == ["192.0.2.1", "192.0.2.2"]


@difference("Late records")
def test_late_records(theirs, ours):
    for penlogd in (theirs, ours):
        tell(penlogd, line(client="192.0.2.254"), record("192.0.2.1", WEB))
        penlogd.wait(1)
    assert theirs.clients == ["192.0.2.254"]
    assert ours.clients == ["192.0.2.1"]


@difference("Old records")
def test_old_records(lab, theirs):
    ours = Penlogd(lab, "--keep", "1")
    for penlogd in (theirs, ours):
        tell(penlogd, record("192.0.2.1", WEB))
    let_pass(2)
    for penlogd in (theirs, ours):
        tell(penlogd, line(client="192.0.2.254"))
        penlogd.wait(1)
    assert theirs.clients == ["192.0.2.1"]
    assert ours.clients == ["192.0.2.254"]


@difference("What web servers escape")
def test_what_web_servers_escape(theirs, ours):
    for penlogd in (theirs, ours):
        tell(penlogd, record("192.0.2.1", WEB, 'GET /"x" HTTP/1.1'), line(r"GET /\"x\" HTTP/1.1"))
        penlogd.wait(1)
    assert theirs.clients == ["127.0.0.1"]
    assert ours.clients == ["192.0.2.1"]


@difference("Long requests")
def test_long_requests(theirs, ours):
    request = f"GET /{'x' * 500} HTTP/1.1"
    for penlogd in (theirs, ours):
        tell(penlogd, record("192.0.2.1", WEB, request), line(request))
        penlogd.wait(1)
    assert theirs.clients == ["127.0.0.1"]
    assert ours.clients == ["192.0.2.1"]


@difference("Long lines")
def test_long_lines(theirs, ours):
    """The next line was then written behind what was left."""
    long, short = line(agent="x" * 3000), line()
    for penlogd in (theirs, ours):
        tell(penlogd, long, short)
        wait_until(lambda penlogd=penlogd: penlogd.log.endswith(short), "both are in the log")
    assert len(theirs.lines) == 1
    assert len(theirs.log) <= 1024 + len(short)
    assert ours.lines == [long, short]


@difference("Several lines in a datagram")
def test_several_lines_in_a_datagram(theirs, ours):
    for penlogd in (theirs, ours):
        tell(
            penlogd, record("192.0.2.1", WEB, "GET /1 HTTP/1.1"), record("192.0.2.2", WEB, "GET /2 HTTP/1.1")
        )
        tell(penlogd, line("GET /1 HTTP/1.1") + line("GET /2 HTTP/1.1"))
        penlogd.wait(2)
    assert theirs.clients == ["192.0.2.1", "127.0.0.1"]
    assert ours.clients == ["192.0.2.1", "192.0.2.2"]


@difference("IPv6")
def test_ipv6(theirs, ours):
    assert {table for table, _ in udp_sockets(theirs.process.pid, theirs.port)} == {"udp"}
    assert {table for table, _ in udp_sockets(ours.process.pid, ours.port)} == {"udp", "udp6"}


@difference("address:port")
def test_one_address(lab, network):
    """The original took the number that the address begins with for the port."""
    theirs = lab.spawn([*original("penlogd"), "-f", "127.0.0.1:10000"])
    wait_until(lambda: udp_sockets(theirs.pid, 127), "it listens on port 127")
    ours = Penlogd(lab, address="127.0.0.1")
    tell(ours, line())
    ours.wait(1)


@difference("As a sender")
def test_as_a_sender(lab, network):
    """`penlogd HOST PORT`, as the how-to has it: the original became a daemon on a port named by HOST."""
    host = Penlogd(lab)
    done = lab.run("penlogd", "127.0.0.1", host.port, stdin=line())
    assert done == (0, "", "")
    host.wait(1)
    lab.spawn([*original("penlogd"), "-f", "127.0.0.1", str(host.port)])
    stays(lambda: len(host.lines) == 1, 0.5)


@difference("Without a log file")
def test_without_a_log_file(lab):
    """Standard output is of use to a program in the foreground only."""
    port = str(free_port(socket.SOCK_DGRAM))
    theirs = lab.spawn([*original("penlogd"), port])
    assert theirs.wait() == 0
    ours = Penlogd(lab, stdout=True)
    tell(ours, line())
    wait_until(lambda: ours.process.out == line().decode(), "the line on standard output")


@difference("When lines are in the log")
def test_when_lines_are_in_the_log(lab, ours):
    theirs = Penlogd(lab, program=original("penlogd"))
    for penlogd in (theirs, ours):
        tell(penlogd, line())
    ours.wait(1)
    stays(lambda: not theirs.log, 0.5)
    theirs.process.stop()
    assert theirs.lines == [line()]


@difference("The log's mode")
def test_the_logs_mode(theirs, ours):
    for penlogd in (theirs, ours):
        tell(penlogd, line())
        penlogd.wait(1)
    assert [os.stat(penlogd.file).st_mode & 0o777 for penlogd in (theirs, ours)] == [0o644, 0o640]


@difference("New options")
def test_new_options(lab):
    words = ["--allow", "192.0.2.0/24", "--keep", "5", "--wait", "0.1"]
    done = lab.run_words([*original("penlogd"), "-f", *words, "9"])
    assert "invalid option" in done.err
    ours = Penlogd(lab, *words)
    tell(ours, line())
    stays(lambda: not ours.log, 0.5, "nothing of others gets in")


difference.complete()
