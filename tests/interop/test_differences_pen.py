"""What pen's page lists as different from pen 0.34.1: what the original does, what ours does."""

import os
import signal
import socket
import threading

import pytest
from support.backend import http, silent
from support.datagrams import echo as udp_echo
from support.differences import Differences
from support.dsr import CLIENTS, Hosts
from support.pen import control_options
from support.ports import free_port, listening_hosts, listens
from support.programs import needs, original, tool
from support.waiting import PATIENCE, stays, wait_until

difference = Differences("pen")

NOT_OURS = "203.0.113.9"
"""An address that no machine has."""


@pytest.fixture
def pens(lab):
    """The original and ours, started with the same words."""

    def start(*options, starter=lab.pen, **more):
        for program in (original("pen"), tool("pen")):
            yield starter(*options, program=program, **more)

    return start


@pytest.fixture
def once(lab):
    """How the two end that are started with the same words."""

    def run(*words):
        return [lab.run_words([*program, *words]) for program in (original("pen"), tool("pen"))]

    return run


def port_of(lab, program, port, *words):
    """One of them, on a port without a host."""
    made = lab.spawn([*program, "-f", *words, str(port)])
    wait_until(lambda: listens(made.pid, port), "it listens")
    return made.pid


@difference("Wrong usage")
def test_wrong_usage(once):
    theirs, ours = once("--frobnicate")
    assert theirs.code == 0
    assert ours.code == 2
    assert ours.err.startswith("pen: unknown option --frobnicate\n")


@difference("A failed start")
def test_a_failed_start(once):
    theirs, ours = once(f"{NOT_OURS}:80", "127.0.0.1:81")
    assert theirs.code == 0
    assert ours == (1, "", f"pen: bind {NOT_OURS}:80: Cannot assign requested address\n")


@difference("The file of -p")
def test_the_file_of_p(lab):
    """The original takes what follows, whatever it is: here the listener."""
    words = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", str(lab.backend())]
    for program, file in ((original("pen"), words[0]), (tool("pen"), "pen.pid")):
        made = lab.spawn([*program, "-f", "-p", *words])
        wait_until((lab.directory / file).exists, "it has written its pid file")
        made.stop()


@difference("IPv6")
def test_ipv6(lab):
    port = free_port()
    assert listening_hosts(port_of(lab, original("pen"), port), port) == {"0.0.0.0"}
    port = free_port()
    assert listening_hosts(port_of(lab, tool("pen"), port), port) == {"0.0.0.0", "::"}


@difference("A port in use")
def test_a_port_in_use(lab):
    listen = f"127.0.0.1:{free_port()}"
    lab.pen(program=original("pen"), listen=listen)
    assert lab.pen(program=original("pen"), listen=listen).alive
    done = lab.run("pen", "-f", listen)
    assert done == (1, "", f"pen: bind {listen}: Address already in use\n")


@difference("The control port")
def test_the_control_port(lab):
    found = []
    for program in (original("pen"), tool("pen")):
        control, listener = free_port(), free_port()
        pid = port_of(lab, program, listener, *control_options(str(control)))
        found.append(wait_until(lambda pid=pid, port=control: listening_hosts(pid, port)))
    assert found[0] == {"0.0.0.0"}
    assert found[1] <= {"127.0.0.1", "::1"}


@difference("Modes of files")
def test_modes_of_files(lab):
    found = []
    for number, pen in enumerate((original("pen"), tool("pen"))):
        made = lab.pen("-l", f"pen{number}.log", servers=[lab.backend()], program=pen)
        made.ask()
        log = lab.directory / f"pen{number}.log"
        wait_until(log.exists)
        found.append([os.stat(path).st_mode & 0o777 for path in (made.control, log)])
    assert found == [[0o755, 0o644], [0o600, 0o640]]


@difference("The first server")
def test_the_first_server(pens, lab):
    assert [pen.asks(3) for pen in pens("-r", servers=lab.backends(3))] == [
        ["s1", "s2", "s0"],
        ["s0", "s1", "s2"],
    ]


@difference("-N")
def test_hash_without_tracking(once, lab):
    assert once("-N", "80")[0].out.startswith("usage:")
    pen = lab.pen("-N", servers=lab.backends(2))
    assert len(set(pen.asks(3))) == 1


@difference("Failover")
def test_failover(pens, lab):
    """With epoll, its default; neither another server nor the emergency server."""
    servers = [lab.refusing(), lab.refusing(), lab.backend(name="other")]
    assert [pen.ask() for pen in pens(servers=servers)] == ["", "other"]
    emergency = str(lab.backend(name="emergency"))
    assert [pen.ask() for pen in pens("-e", emergency, servers=servers[:2])] == ["", "emergency"]


@difference("The last resort")
def test_the_last_resort(pens, lab):
    server = lab.backend(name="back")
    found = []
    for pen in pens("-P", servers=[server]):
        server.stop()
        assert pen.ask() == ""
        server.start()
        found.append(pen.ask())
    assert found == ["", "back"]


@difference("Half-closed connections")
def test_half_closed_connections(lab):
    """A client has sent everything; the server answers and closes, and pen hears of both at once."""
    found = []
    for program in (original("pen"), tool("pen")):
        asked, answer = threading.Event(), threading.Event()

        def talk(conn, backend, asked=asked, answer=answer):
            silent(conn, backend)
            asked.set()
            answer.wait(PATIENCE)
            conn.sendall(b"answer")

        server = lab.backend(talk)
        pen = lab.pen(servers=[server], program=program)
        client = pen.client().send(b"question").shut()
        assert asked.wait(PATIENCE)
        pen.send_signal(signal.SIGSTOP)
        answer.set()
        server.wait_idle()
        pen.send_signal(signal.SIGCONT)
        found.append(client.rest())
    assert found == [b"", b"answer"]


@difference("Requests in the log")
def test_requests_in_the_log(lab):
    """Two that come together, and a body that comes by itself."""
    found = []
    for program in (original("pen"), tool("pen")):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(http)], program=program)
        with pen.client() as client:
            client.send(b"GET /1 HTTP/1.1\r\n\r\nPUT /2 HTTP/1.1\r\nContent-Length: 4\r\n\r\n").response()
            client.send(b"body").response()
        pen.stop()
        found.append([line.split(" ", 3)[3] for line in pen.log.splitlines()])
        pen.log_file.unlink()
    assert found == [["GET /1 HTTP/1.1", "body"], ["GET /1 HTTP/1.1", "PUT /2 HTTP/1.1"]]


@difference("Control characters in the log")
def test_control_characters_in_the_log(lab):
    found = []
    for program in (original("pen"), tool("pen")):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(http)], program=program)
        pen.client().get("/\x1b[31m")
        pen.stop()
        found.append(pen.log.splitlines()[0].split(" ", 3)[3])
        pen.log_file.unlink()
    assert found == ["GET /\x1b[31m HTTP/1.1", "GET /.[31m HTTP/1.1"]


@difference("When lines are in the log")
def test_when_lines_are_in_the_log(lab):
    """At once, and not only when a buffer is full."""
    for program, written in ((original("pen"), False), (tool("pen"), True)):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(http)], program=program)
        pen.client().get("/")
        if written:
            pen.log_contains("GET /")
        else:
            stays(lambda pen=pen: not pen.log, 0.5)
        pen.stop()
        pen.log_contains("GET /")
        pen.log_file.unlink()


@difference("X-Forwarded-For")
def test_x_forwarded_for(pens, lab):
    """A client's own, and a method other than GET, POST and HEAD."""
    asked = b"X-Forwarded-For: 192.0.2.6\r\n"
    heads = []

    def hear(conn, backend):
        while head := conn.recv(65536):
            heads.append(head)
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    for pen in pens("-H", servers=[lab.backend(hear)]):
        client = pen.client()
        client.get(headers=asked)
        client.send(b"PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").response()
    theirs, ours = heads[:2], heads[2:]
    assert asked in theirs[0]
    assert b"X-Forwarded-For" not in theirs[1]
    assert b"X-Forwarded-For: 192.0.2.6, 127.0.0.1\r\n" in ours[0]
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in ours[1]


@difference("The dummy server")
def test_the_dummy_server(pens, lab):
    """HEAD, which has no body; what is malformed."""
    found = []
    for pen in pens("-O", "dummy", servers=[lab.backend(http)]):
        answers = []
        for said in (b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.1\r\nA : b\r\n\r\n"):
            client = pen.client().send(said)
            head = client.socket.recv(65536)
            answers.append((head[9:12], head.endswith(b"\r\n\r\n")))
        found.append(answers)
    assert found == [[(b"200", False), (b"200", False)], [(b"200", True), (b"400", False)]]


class TestUdp:
    """-U."""

    @difference("UDP from the address that was asked")
    def test_the_address(self, pens, udp):
        """A listener on all addresses, a client that asks one of them."""
        found = []
        for program in (original("pen"), tool("pen")):
            pen = udp.start(servers=[udp.server()], listen=str(free_port(socket.SOCK_DGRAM)), program=program)
            client = udp.client(("127.0.0.5", pen.address[1]))
            found.append(client.send(b"?").socket.recvfrom(100)[1][0])
        assert found == ["127.0.0.1", "127.0.0.5"]

    @difference("Large datagrams")
    def test_large_datagrams(self, pens, udp):
        found = []
        for pen in pens(servers=[udp.server(udp_echo)], starter=udp.start):
            found.append(len(udp.client(pen.address).ask(b"x" * 60_000)))
        assert found == [32_768, 60_000]

    @difference("UDP failover")
    def test_failover(self, pens, udp):
        servers = [udp.nobody(), udp.nobody(), udp.server()]
        theirs, ours = pens(servers=servers, starter=udp.start)
        assert udp.client(theirs.address).send(b"?").hears_nothing(1)
        assert udp.client(ours.address).ask() == b"s2"

    @difference("UDP in the log")
    def test_the_log(self, udp):
        found = []
        for program in (original("pen"), tool("pen")):
            pen = udp.start("-l", "pen.log", servers=[udp.server()], program=program)
            assert udp.client(pen.address).ask(b"hello")
            pen.stop()
            found.append([line.split(" ", 3)[3] for line in pen.log.splitlines()])
        assert found == [[], ["hello"]]


@needs("root", "ip", "unshare")
@difference("Direct server return")
def test_direct_server_return(lab, network):
    """Between network namespaces, as between virtual machines on one host."""
    hosts = Hosts(lab)
    theirs = hosts.pen(program=original("pen"))
    assert [hosts.ask(client) for client in CLIENTS[:2]] == ["", ""]
    theirs.stop()
    hosts.pen()
    hosts.serving()
    assert {hosts.ask(client) for client in CLIENTS} == {"s0", "s1"}


difference.complete()
