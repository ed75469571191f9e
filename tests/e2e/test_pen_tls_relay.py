"""What goes through TLS comes out the same: every byte, in order, both ways, and so do the ends."""

import contextlib
import hashlib
import itertools
import random
import socket
import ssl
import threading

import pytest
from support.backend import CHUNK, echo, http, keep, reset, silent
from support.process import cpu_seconds, rss
from support.programs import needs
from support.tls import SlowClient, TlsClient, context
from support.waiting import stays, wait_until

pytestmark = needs("openssl")

MB = 1 << 20
BODY = random.Random(7).randbytes(MB)


@pytest.fixture(params=["TLSv1_2", "TLSv1_3", "stapled"])
def connect(request, lab, ca):
    """A function that starts pen and connects to it."""
    most = "TLSv1_3" if request.param == "stapled" else request.param

    def start(talk, *options):
        made = ca.issue("localhost")
        if request.param == "stapled":
            staple = lab.directory / "x.ocsp"
            staple.write_bytes(ca.staple(made))
            options = (*options, "-O", f"ssl_ocsp_response {staple}")
        pen = lab.pen("-E", made.both, *options, servers=[lab.backend(talk)])
        return pen, lab.closing(TlsClient(pen.address, how=context(most=most)))

    return start


class TestEnds:
    def test_the_clients_close_notify_reaches_the_server_and_the_answer_still_comes(self, connect):
        _, client = connect(keep)
        assert client.send(BODY).shut().rest() == b"s0\n"

    def test_the_servers_half_close_reaches_the_client_and_what_it_says_still_goes_up(self, lab, connect):
        heard = bytearray()

        def bye(conn, backend):
            conn.sendall(b"bye")
            conn.shutdown(socket.SHUT_WR)
            while data := conn.recv(CHUNK):
                heard.extend(data)

        _, client = connect(bye)
        assert client.rest() == b"bye"
        client.send(b"one ")
        wait_until(lambda: heard == b"one ")
        client.send(b"two")
        client.close()
        wait_until(lambda: heard == b"one two")

    def test_the_server_ends_while_the_client_is_sending(self, lab, connect):
        """close_notify goes out while data that nobody has read yet is waiting to come in."""
        go, heard, ended = threading.Event(), hashlib.sha256(), threading.Event()

        def bye(conn, backend):
            conn.recv(1)
            conn.shutdown(socket.SHUT_WR)
            go.wait(10)
            while data := conn.recv(CHUNK):
                heard.update(data)
            ended.set()

        _, client = connect(bye)
        client.send(b"!")
        sender = threading.Thread(target=lambda: [client.send(BODY) for _ in range(16)])
        sender.start()
        go.set()
        sender.join()
        assert client.shut().rest() == b""
        assert ended.wait(10)
        assert heard.hexdigest() == hashlib.sha256(BODY * 16).hexdigest()

    def test_an_end_without_close_notify_is_an_end(self, connect):
        pen, client = connect(echo)
        client.talk(b"x")
        client.socket.detach()  # the socket object no longer owns it
        pen.wait_connections(1)

    def test_a_reset_by_the_server_is_no_clean_end(self, lab, connect):
        def break_off(conn, backend):
            conn.sendall(b"half")
            conn.recv(1)
            reset(conn)

        _, client = connect(break_off)
        assert client.read(4) == b"half"
        client.send(b"x")
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # what older Pythons call a reset
            client.rest()

    def test_a_reset_by_the_client_reaches_the_server(self, connect):
        seen = []

        def listen(conn, backend):
            conn.sendall(b"hello\n")
            try:
                seen.append(conn.recv(10))
            except ConnectionResetError:
                seen.append("reset")

        _, client = connect(listen)
        client.line()
        client.reset()
        wait_until(lambda: seen)
        assert seen == ["reset"]


class TestBulk:
    SIZE = 100 * MB

    def test_up(self, connect):
        heard = hashlib.sha256()

        def count(conn, backend):
            while data := conn.recv(CHUNK):
                heard.update(data)
            conn.sendall(b"done")

        _, client = connect(count)
        for _ in range(100):
            client.send(BODY)
        assert client.shut().rest() == b"done"
        assert heard.hexdigest() == hashlib.sha256(BODY * 100).hexdigest()

    def test_down(self, connect):
        def pour(conn, backend):
            for _ in range(100):
                conn.sendall(BODY)

        _, client = connect(pour)
        heard = hashlib.sha256()
        while data := client.socket.recv(CHUNK):
            heard.update(data)
        assert heard.hexdigest() == hashlib.sha256(BODY * 100).hexdigest()

    def test_both_ways_at_once(self, connect):
        _, client = connect(echo, "-l", "pen.log")
        heard = hashlib.sha256()
        client.exchange(BODY, self.SIZE, heard.update)
        assert heard.hexdigest() == hashlib.sha256(BODY * 100).hexdigest()

    def test_all_that_a_client_says_in_one_piece(self, lab, ca):
        """The end of the handshake, bulk data, records of all sizes, close_notify."""
        server = lab.backend(keep)
        pen = lab.pen("-E", ca.issue("x").both, servers=[server])
        client = pen.client()
        slow = SlowClient(client)
        client.send(slow.hello())
        said = slow.last()
        sizes = [*[16384] * 20, *range(1, 400), *[16384] * 9, 5, 16383, 1]
        for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
            slow.tls.write(BODY[end - size : end])
        with contextlib.suppress(ssl.SSLWantReadError):
            slow.tls.unwrap()
        client.send(said + slow.outgoing.read())
        wait_until(lambda: len(server.received) >= sum(sizes))
        assert server.received == BODY[: sum(sizes)]
        slow.incoming.write(client.rest())
        assert slow.tls.read(10) == b"s0\n"

    @pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 65536, 65537, 200_000])
    def test_sizes_around_those_of_records_and_reads(self, lab, ca, size):
        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend(echo)])
        client = lab.closing(TlsClient(pen.address))
        for _ in range(3):
            assert client.talk(BODY[:size]) == BODY[:size]


class TestBackpressure:
    def test_a_client_that_does_not_read(self, lab, ca):
        sent = [0]

        def pour(conn, backend):
            while True:
                sent[0] += conn.send(BODY)

        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend(pour)])
        client = lab.closing(TlsClient(pen.address))
        client.read(1)
        before = rss(pen.pid)
        wait_until(lambda: sent[0] > MB)
        wait_until(lambda: sent[0] == stays(lambda: sent[0], 0.3))
        used = cpu_seconds(pen.pid)
        stays(lambda: pen.alive, 0.5)
        assert cpu_seconds(pen.pid) - used < 0.2, "it waits without working"
        assert rss(pen.pid) - before < 4 * MB

    def test_a_server_that_does_not_read(self, lab, ca):
        gate = threading.Event()
        heard = hashlib.sha256()

        def wait(conn, backend):
            gate.wait(20)
            while data := conn.recv(CHUNK):
                heard.update(data)
            conn.sendall(b"done")

        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend(wait)])
        client = lab.closing(TlsClient(pen.address))
        before = rss(pen.pid)
        sender = threading.Thread(target=lambda: [client.send(BODY) for _ in range(32)])
        sender.start()
        stays(lambda: rss(pen.pid) - before < 4 * MB, 0.5)
        gate.set()
        sender.join()
        assert client.shut().rest() == b"done"
        assert heard.hexdigest() == hashlib.sha256(BODY * 32).hexdigest()


def test_an_upload_leaves_nothing_behind_in_memory(lab, ca):
    """A client that is idle again costs as little as one that has sent nothing."""
    sizes = (65536, 100_000, 131_072, 131_073)
    pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend(echo)])
    clients = [lab.closing(TlsClient(pen.address)) for _ in range(100)]
    for client in clients[:8]:
        client.exchange(BODY, sizes[-1], lambda data: None)  # what all share is there now
    before = rss(pen.pid)
    for size in sizes:
        for client in clients:
            client.exchange(BODY, size, lambda data: None)
    assert rss(pen.pid) - before < 100 * 20_000


def test_a_client_that_is_refused_amid_bulk_data(lab, ca):
    """What it still sends is read away, and pen sleeps when there is nothing more."""
    server = lab.backend(http)
    pen = lab.pen("-H", "-E", ca.issue("x").both, servers=[server])
    client = lab.closing(TlsClient(pen.address))
    body = BODY[:900_000]
    client.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert client.response() == "s0"
    assert server.received == body
    client.send(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + BODY)
    assert client.rest().startswith(b"HTTP/1.1 400 ")
    used = cpu_seconds(pen.pid)
    stays(lambda: pen.alive, 0.5)
    assert cpu_seconds(pen.pid) - used < 0.2


def test_idle_ones_are_closed_with_close_notify(lab, ca):
    pen = lab.pen("-O", "idle_timeout 1", "-E", ca.issue("x").both, servers=[lab.backend(silent)])
    assert lab.closing(TlsClient(pen.address)).rest() == b""


def test_what_passed_is_counted_decrypted(lab, ca):
    pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend(echo)])
    client = lab.closing(TlsClient(pen.address))
    client.talk(b"x" * 1000)
    assert (pen.servers()[0]["sx"], pen.servers()[0]["rx"]) == ("1000", "1000")
