"""Bulk data, which pen splices through pipes: it comes out the same as by plain copies, as do its ends."""

import hashlib
import random
import socket
import threading
from functools import partial

import pytest
from support.backend import reset
from support.programs import needs
from support.strace import Trace
from support.waiting import let_pass, wait_until

MB = 1 << 20
BLOCK = random.Random(20).randbytes(MB)
SHARE = 50
"""Megabytes that each of four conversations moves, in each direction."""
MECHANISMS = pytest.mark.parametrize(
    "options", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"]
)
LOOKED_AT = pytest.mark.parametrize("looked_at", [[], ["-l", "pen.log"], ["-H"]], ids=["", "log", "headers"])


def last_words(conn):
    """All that comes, and how it ends."""
    size = 0
    try:
        while data := conn.recv(MB):
            size += len(data)
    except ConnectionResetError:
        return size, "reset"
    return size, "end"


class TestResets:
    """After bulk data they are resets still, not ends that make half a file look like a whole one."""

    @MECHANISMS
    @LOOKED_AT
    def test_by_the_server(self, lab, options, looked_at):
        has_come = threading.Event()

        def talk(conn, backend):
            conn.sendall(b"x" * MB)
            has_come.wait(30)
            reset(conn)

        pen = lab.pen(*options, *looked_at, servers=[lab.backend(talk)])
        client = pen.client()
        assert len(client.read(MB)) == MB
        has_come.set()
        assert last_words(client.socket) == (0, "reset")

    @MECHANISMS
    @LOOKED_AT
    def test_by_the_client(self, lab, options, looked_at):
        heard = []
        server = lab.backend(lambda conn, backend: heard.append(last_words(conn)))
        pen = lab.pen(*options, *looked_at, servers=[server])
        client = pen.client().send(b"x" * MB)
        pen.wait_for(lambda: int(pen.servers()[0]["sx"]) == MB)
        client.reset()
        wait_until(lambda: heard)
        assert heard == [(MB, "reset")]

    def test_by_a_client_while_its_server_does_not_read(self, lab):
        stuck = threading.Event()
        heard = []

        def talk(conn, backend):
            stuck.wait(30)
            heard.append(last_words(conn)[1])

        pen = lab.pen(servers=[lab.backend(talk)])
        client = pen.client(seconds=0.5)
        with pytest.raises(TimeoutError):
            client.send(b"x" * 100 * MB)
        client.reset()
        stuck.set()
        wait_until(lambda: heard)
        assert heard == ["reset"]


class TestWhole:
    """200 MB each way, in conversations that end in every way, while others break off in the middle."""

    def test_spliced(self, lab):
        self.both_ways(lab)

    @needs("strace")
    def test_copied(self, lab):
        """pen is told that this system can't splice."""
        trace = Trace(lab.directory, calls="splice")
        self.both_ways(lab, wrap=[*trace.wrap, "-e", "inject=splice:error=EINVAL"])
        assert {call.rpartition(" = ")[2] for call in trace.with_name("splice")} == {
            "-1 EINVAL (Invalid argument) (INJECTED)"
        }

    def both_ways(self, lab, **options):
        heard = {}

        def talk(conn, backend):
            name = conn.recv(1)
            heard[name] = SERVERS[name](conn)

        def converse(name):
            with pen.client(seconds=50) as client:
                client.send(name)
                heard_by_clients[name] = CLIENTS[name](client.socket)

        pen = lab.pen("-r", servers=[lab.backend(talk)], **options)
        heard_by_clients = {}
        threads = [threading.Thread(target=converse, args=[name]) for name in CLIENTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        wait_until(lambda: len(heard) == len(SERVERS))
        everything = dict.fromkeys(WHOLE, whole())
        assert heard_by_clients == everything | {b"r": "", b"s": "a part, reset"}
        assert heard == everything | {b"r": "a part, reset", b"s": ""}
        pen.wait_connections(0)


def whole():
    """The digest of a share."""
    digest = hashlib.sha256()
    for _ in range(SHARE):
        digest.update(BLOCK)
    return digest.hexdigest()


def say(conn, piece=MB):
    """A share, in pieces, and the end."""
    for _ in range(SHARE):
        for at in range(0, MB, piece):
            conn.sendall(BLOCK[at : at + piece])
    conn.shutdown(socket.SHUT_WR)


def hear(conn, pauses=0):
    """The digest of all that comes; `pauses` are made meanwhile.  Little is taken at once: pen shall have to
    wait in the middle of what it has read."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    digest, size, next_pause = hashlib.sha256(), 0, MB
    while data := conn.recv(MB):
        digest.update(data)
        size += len(data)
        if pauses and size >= next_pause:
            let_pass(0.1)
            next_pause += SHARE * MB // pauses
    return digest.hexdigest()


def say_then_hear(conn):
    say(conn)
    return hear(conn)


def hear_then_say(conn):
    heard = hear(conn, pauses=5)
    say(conn)
    return heard


def say_and_hear(conn, piece=MB, pauses=5):
    speaker = threading.Thread(target=say, args=[conn, piece])
    speaker.start()
    heard = hear(conn, pauses)
    speaker.join(50)
    return heard


def break_off(conn):
    """Begin a share, and reset the connection."""
    for _ in range(5):
        conn.sendall(BLOCK)
    reset(conn)
    return ""


def hear_the_break(conn):
    """What came, which must not look whole."""
    data = bytearray()
    try:
        while chunk := conn.recv(MB):
            data += chunk
    except ConnectionResetError:
        return "a part, reset" if (BLOCK * 5).startswith(data) else "something else, reset"
    return "an end"


WHOLE = (b"c", b"v", b"b", b"p")
CLIENTS = {
    b"c": say_then_hear,
    b"v": hear_then_say,
    b"b": say_and_hear,
    b"p": partial(say_and_hear, piece=5000),
    b"r": break_off,
    b"s": hear_the_break,
}
SERVERS = {
    b"c": hear_then_say,
    b"v": say_then_hear,
    b"b": say_and_hear,
    b"p": partial(say_and_hear, piece=70_000),
    b"r": hear_the_break,
    b"s": break_off,
}
