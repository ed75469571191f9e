"""What goes through pen comes out the same: every byte, in order, both ways, and so do the ends."""

import contextlib
import hashlib
import random
import socket
import threading

import pytest
from support.backend import CHUNK, echo, keep, reset, silent
from support.client import read_by_peer
from support.process import cpu_seconds, open_files, rss
from support.waiting import stays, wait_until

MB = 1 << 20


class TestEnds:
    def test_the_clients_half_close_reaches_the_server_and_the_answer_still_comes(self, lab):
        server = lab.backend(keep)
        pen = lab.pen(servers=[server])
        with pen.client() as client:
            assert client.send(b"all of it").shut().rest() == b"s0\n"
        assert server.received == b"all of it"

    def test_the_servers_half_close_reaches_the_client_and_what_it_says_still_goes_up(self, lab):
        def bye(conn, backend):
            conn.sendall(b"bye")
            conn.shutdown(socket.SHUT_WR)
            while data := conn.recv(CHUNK):
                backend.received += data

        server = lab.backend(bye)
        pen = lab.pen(servers=[server])
        client = pen.client()
        assert client.rest() == b"bye"
        client.send(b"one ")
        wait_until(lambda: server.received == b"one ")
        client.send(b"two")
        client.close()
        server.wait_idle()
        assert server.received == b"one two"

    def test_what_came_just_before_the_end_arrives(self, lab):
        """Data and FIN in one packet, more than one read long."""
        body = random.Random(1).randbytes(300_000)

        def say(conn, backend):
            conn.sendall(body)

        pen = lab.pen(servers=[lab.backend(say)])
        assert pen.client().rest() == body

    def test_a_reset_by_the_client_reaches_the_server(self, lab):
        seen = []

        def listen(conn, backend):
            conn.sendall(b"hello\n")
            try:
                seen.append(conn.recv(1))
            except ConnectionResetError:
                seen.append("reset")

        pen = lab.pen(servers=[lab.backend(listen)])
        client = pen.client()
        assert client.line() == "hello"
        client.reset()
        wait_until(lambda: seen)
        assert seen == ["reset"]

    def test_a_reset_by_the_server_reaches_the_client(self, lab):
        def slam(conn, backend):
            conn.recv(1)
            reset(conn)

        pen = lab.pen(servers=[lab.backend(slam)])
        client = pen.client().send(b"x")
        with pytest.raises(ConnectionResetError):
            client.rest()

    def test_a_reset_after_half_close(self, lab):
        def slam(conn, backend):
            while conn.recv(CHUNK):
                pass
            reset(conn)

        pen = lab.pen(servers=[lab.backend(slam)])
        client = pen.client().send(b"x").shut()
        with pytest.raises(ConnectionResetError):
            client.rest()

    def test_nothing_stays_behind(self, lab):
        server = lab.backend()
        pen = lab.pen(servers=[server])
        before = sorted(open_files(pen.pid))
        for number in range(60):
            client = pen.client()
            client.line()
            if number % 3 == 0:
                client.shut().rest()
            (client.close, client.reset)[number % 2]()
        pen.wait_connections(0)
        server.wait_idle()
        wait_until(lambda: len(open_files(pen.pid)) == len(before))

    def test_what_a_reset_client_sent_is_not_mixed_up_with_what_others_send(self, lab):
        """The server is given time to take what came before the reset; new clients come meanwhile."""
        reading = threading.Event()
        sizes = []

        def stall(conn, backend):
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            conn.sendall(b"hello\n")
            if sizes:  # all but the first one
                echo(conn, backend)
                return
            sizes.append(0)
            reading.wait()
            with contextlib.suppress(ConnectionResetError):
                while data := conn.recv(CHUNK):
                    sizes[0] += len(data)

        pen = lab.pen(servers=[lab.backend(stall)])
        early = pen.client()
        assert early.line() == "hello"
        early.send(b"x" * 50_000)
        pen.wait_for(lambda: int(pen.servers()[0]["sx"]) == 50_000)
        early.reset()
        others = [pen.client() for _ in range(10)]
        for client in others:
            assert client.line() == "hello"
            client.send(b"question\n")
            assert client.line() == "question"
        reading.set()
        pen.wait_connections(len(others))
        assert sizes == [50_000]
        for client in others:
            client.close()
        pen.wait_connections(0)
        (server,) = pen.servers()
        assert (int(server["sx"]), int(server["rx"])) == (50_000 + 10 * 9, 6 + 10 * (6 + 9))

    def test_resets_amid_bulk_data_leave_nothing_behind(self, lab):
        """Neither sockets nor the pipes through which the data went."""

        def pour(conn, backend):
            while True:
                conn.sendall(b"x" * MB)

        pen = lab.pen("-r", servers=[lab.backend(pour)])
        left = []
        for _ in range(2):
            clients = [pen.client() for _ in range(20)]
            for client in clients:
                assert len(client.read(2 * MB)) == 2 * MB
                client.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        client.socket.send(b"y" * MB)
            for client in clients:
                client.reset()
            pen.wait_connections(0)
            left.append(len(open_files(pen.pid)))
        assert left[0] < 40
        assert left[1] - left[0] < 10, "20 more connections, and at most a few pipes kept for later"

    @pytest.mark.parametrize("sides", ["up", "down", "both"])
    def test_fast_close(self, lab, sides):
        """Both sides are closed as soon as the given one closes; the other's half-close is only passed on."""

        def bye(conn, backend):
            conn.sendall(b"bye\n")
            conn.shutdown(socket.SHUT_WR)
            silent(conn, backend)

        closes_first, waits = lab.backend(bye), lab.backend(silent)
        pen = lab.pen("-r", "-O", f"tcp_fastclose {sides}", servers=[closes_first, waits])
        by_server = pen.client()
        assert by_server.rest() == b"bye\n"
        by_client = pen.client()
        waits.wait_accepted(1)
        by_client.shut()
        gone_by_server, gone_by_client = sides in ("up", "both"), sides in ("down", "both")
        if gone_by_server:
            closes_first.wait_idle()
        if gone_by_client:
            waits.wait_idle()
            assert by_client.ended()
        if sides == "down":
            stays(lambda: closes_first.open, 0.3, "the client has not closed")
        if sides == "up":
            waits.wait_idle()  # an ordinary half-close, and the server's end after it

    def test_fast_close_off_is_the_default(self, lab):
        def bye(conn, backend):
            conn.shutdown(socket.SHUT_WR)
            silent(conn, backend)

        server = lab.backend(bye)
        pen = lab.pen(servers=[server])
        client = pen.client()
        assert client.rest() == b""
        stays(lambda: server.open, 0.3, "the client has not closed")


class TestData:
    @pytest.mark.parametrize("size", [1, 2, 100, 65535, 65536, 65537, 131072, 3 * MB])
    def test_of_any_size(self, lab, size):
        body = random.Random(size).randbytes(size)
        pen = lab.pen(servers=[lab.backend(echo)])
        with pen.client() as client:
            receiver = Receiver(client.socket)
            client.send(body).shut()
            assert receiver.digest() == digest(body)

    def test_byte_by_byte(self, lab):
        body = bytes(range(256)) * 4
        server = lab.backend(keep)
        pen = lab.pen(servers=[server])
        with pen.client() as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in body:
                client.send(bytes([byte]))
            assert client.shut().rest() == b"s0\n"
        assert server.received == body

    def test_in_pieces_of_random_size(self, lab):
        """Pieces around the sizes where the relay changes its ways: 64 KiB reads, splicing and back."""
        sizes = random.Random(7)
        pieces = [sizes.randbytes(sizes.choice([1, 17, 1400, 65535, 65536, 50_000])) for _ in range(150)]
        pen = lab.pen(servers=[lab.backend(echo)])
        with pen.client() as client:
            receiver = Receiver(client.socket)
            for piece in pieces:
                client.send(piece)
            client.shut()
            assert receiver.digest() == digest(b"".join(pieces))

    @pytest.mark.parametrize("options", [[], ["-l", "pen.log"]], ids=["", "log"])
    def test_small_messages_to_a_reader_who_comes_late(self, lab, options):
        """Writes that come up short, long before anything looks like bulk data.  Unix sockets have small
        buffers, and say when pen has read what was sent."""
        late = threading.Event()

        def talk(conn, backend):
            late.wait(30)
            keep(conn, backend)

        server = lab.backend(talk, path=f"{lab.directory}/out.sock")
        pen = lab.pen(*options, listen=f"{lab.directory}/in.sock", servers=[server])
        messages = [random.Random(number).randbytes(5000) for number in range(500)]
        with pen.client() as client:
            sent = 0
            while read_by_peer(client.socket):
                client.send(messages[sent])
                sent += 1
            assert 10 < sent < 300, "the reader who does not read stops pen, and that the writer"
            late.set()
            client.send(b"".join(messages[sent:])).shut()
            assert client.line() == "s0"
        assert server.received == b"".join(messages)

    def test_question_and_answer_after_bulk(self, lab):
        """A direction that moved bulk data goes back to small messages without delay or loss."""
        body = random.Random(3).randbytes(5 * MB)
        pen = lab.pen(servers=[lab.backend(echo)])
        with pen.client() as client:
            for _ in range(3):
                sender = threading.Thread(target=client.send, args=[body])
                sender.start()
                assert client.read(len(body)) == body
                sender.join()
                for word in (b"a", b"bc", b"def" * 30):
                    assert client.talk(word) == word

    def test_many_at_once_do_not_mix(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2, echo))
        clients = [lab.client(pen.address) for _ in range(40)]
        bodies = [random.Random(number).randbytes(50_000 + number) for number in range(40)]
        receivers = [Receiver(client.socket) for client in clients]
        for client, body in zip(clients, bodies, strict=True):
            threading.Thread(target=lambda c=client, b=body: c.send(b).shut()).start()
        assert [receiver.digest() for receiver in receivers] == [digest(body) for body in bodies]

    @pytest.mark.parametrize("seed", range(6))
    def test_any_conversation(self, lab, seed):
        """Random messages both ways at random times; whoever ends first, the other's last words arrive."""
        dice = random.Random(seed)
        talks = [Talk(random.Random(dice.random())) for _ in range(15)]

        def talk(conn, backend):
            one = talks[conn.recv(1)[0]]
            one.play(conn, one.down, one.up)

        pen = lab.pen("-r", *dice.choice([[], ["-P"], ["-l", "pen.log"]]), servers=lab.backends(2, talk))
        threads = []
        for number, one in enumerate(talks):
            client = pen.client()
            client.send(bytes([number]))
            threads.append(threading.Thread(target=one.play, args=[client.socket, one.up, one.down]))
            threads[-1].start()
        for thread in threads:
            thread.join(40)
        assert [one.problems for one in talks] == [[]] * 15
        wait_until(lambda: all(one.played == 2 for one in talks))
        pen.wait_connections(0)

    def test_between_unix_sockets(self, lab):
        body = random.Random(5).randbytes(3 * MB)
        server = lab.backend(echo, path=f"{lab.directory}/out.sock")
        pen = lab.pen(listen=f"{lab.directory}/in.sock", servers=[server])
        with pen.client() as client:
            receiver = Receiver(client.socket)
            client.send(body).shut()
            assert receiver.digest() == digest(body)

    @pytest.mark.parametrize("options", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"])
    def test_200_mb_both_ways_at_once_past_a_reader_that_pauses(self, lab, options):
        """Identical at both ends, and pen grows by less than 2 MB: what nobody takes, nobody reads."""
        block = random.Random(11).randbytes(MB)
        megabytes = 200 if not options else 40
        expected = hashlib.sha256()
        for _ in range(megabytes):
            expected.update(block)
        server_got = []

        def both_ways(conn, backend):
            receiver = Receiver(conn, pauses=True)
            for _ in range(megabytes):
                conn.sendall(block)
            conn.shutdown(socket.SHUT_WR)
            server_got.append(receiver.digest())

        pen = lab.pen("-r", *options, servers=[lab.backend(echo), lab.backend(both_ways)])
        with pen.client() as client:
            assert client.talk(b"warm") == b"warm"
        before = rss(pen.pid)
        most = Most(lambda: rss(pen.pid))
        with pen.client(seconds=50) as client:
            receiver = Receiver(client.socket, pauses=True)
            for _ in range(megabytes):
                client.send(block)
            client.shut()
            assert receiver.digest() == expected.hexdigest()
            wait_until(lambda: server_got, seconds=40)
        assert server_got == [expected.hexdigest()]
        assert most.stop() - before < 2 * MB

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_who_does_not_read_stops_the_writer(self, lab, direction):
        """Bounded memory: the writer gets stuck, long before 100 MB, and pen does not spin."""
        stuck = threading.Event()

        def pour(write):
            sent = 0
            try:
                while sent < 100 * MB:
                    sent += write(b"x" * CHUNK)
            except TimeoutError:
                stuck.set()

        def talk(conn, backend):
            if direction == "down":
                conn.settimeout(1)
                pour(conn.send)
            backend.hold.wait(30)

        server = lab.backend(talk)
        server.hold = threading.Event()
        pen = lab.pen(servers=[server])
        before = rss(pen.pid)
        client = lab.client(pen.address, seconds=1)
        if direction == "up":
            pour(client.socket.send)
        assert stuck.wait(20)
        assert rss(pen.pid) - before < 4 * MB
        used = cpu_seconds(pen.pid)
        stays(lambda: pen.alive, 0.5)
        assert cpu_seconds(pen.pid) - used < 0.2
        server.hold.set()


class TestSource:
    def test_source(self, lab):
        server = lab.backend()
        pen = lab.pen("-O", "source 127.0.0.99", servers=[server])
        assert pen.ask() == "s0"
        assert server.peers == ["127.0.0.99"]

    def test_source_by_command_and_a_bad_one(self, lab):
        server = lab.backend()
        pen = lab.pen(servers=[server])
        assert pen.command("source 127.0.0.98") == ""
        assert pen.command("source 1.2.3.4.5") == "unable to set source address to '1.2.3.4.5'\n"
        assert pen.ask() == "s0"
        assert server.peers == ["127.0.0.98"]


class Talk:
    """What a client (`up`) and a server (`down`) say to each other, in pieces with breaks between them."""

    def __init__(self, dice):
        self.dice = dice
        self.up, self.down = self.pieces(), self.pieces()
        self.problems = []
        self.played = 0

    def pieces(self):
        sizes = [1, 10, 1000, 65535, 65536, 70_000, 400_000]
        return [self.dice.randbytes(self.dice.choice(sizes)) for _ in range(self.dice.randrange(6))]

    def play(self, conn, mine, others):
        """One of the two roles: say all of `mine` and close that direction, while all of `others` comes."""
        receiver = Receiver(conn)
        pause = threading.Event()
        for piece in mine:
            pause.wait(self.dice.choice([0, 0, 0.001, 0.02]))
            conn.sendall(piece)
        conn.shutdown(socket.SHUT_WR)
        if receiver.digest() != digest(b"".join(others)):
            self.problems.append(f"{receiver.count} bytes came, not {sum(map(len, others))}, or others")
        self.played += 1


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Receiver:
    """Reads all that comes to a socket in a thread of its own, with a break now and then if asked to."""

    def __init__(self, conn, pauses=False):
        self.conn = conn
        self.pauses = pauses
        self.hash = hashlib.sha256()
        self.count = 0
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        waiter = threading.Event()
        breaks = 0
        while data := self.conn.recv(CHUNK):
            self.hash.update(data)
            self.count += len(data)
            if self.pauses and self.count > (breaks + 1) * 20 * MB:
                breaks += 1
                waiter.wait(0.2)

    def digest(self):
        self.thread.join(50)
        assert not self.thread.is_alive(), f"only {self.count} bytes came"
        return self.hash.hexdigest()


class Most:
    """The highest value that a measurement had until `stop`."""

    def __init__(self, measure):
        self.value = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, args=[measure], daemon=True)
        self.thread.start()

    def watch(self, measure):
        while not self.ended.wait(0.01):
            self.value = max(self.value, measure())

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.value
