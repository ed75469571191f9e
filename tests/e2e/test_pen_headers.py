"""-H among real peers: what web servers are told, what clients are answered, and what it costs."""

import random
import re
import socket
import threading

import pytest
from support.backend import Reader, echo, http, keep, silent
from support.client import read_by_peer
from support.network import add_address
from support.process import rss, run
from support.programs import needs
from support.strace import Trace
from support.waiting import let_pass, stays, wait_until
from support.webserver import apache, nginx

MB = 1 << 20
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SAYS = "$http_x_forwarded_for $http_x_forwarded_proto"


def note(conn, backend):
    """Answer each request, whose bodies have a length, with its head."""
    reader = Reader(conn, lambda size: None)
    while True:
        head = reader.until(b"\r\n\r\n") + b"\r\n"
        if length := re.search(rb"\r\nContent-Length: (\d+)", head):
            reader.exactly(int(length[1]))
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


def added(head):
    """The X-Forwarded-For of a head, which must be the only one."""
    (value,) = re.findall(r"X-Forwarded-For: (.*)\r\n", head)
    return value


class TestClients:
    def test_on_ipv4_and_ipv6(self, lab):
        pen = lab.pen("-H", servers=[lab.backend(note)], listen=f"[::1]:{lab.refusing().port}")
        assert added(pen.client().get()) == "::1"

    def test_each_is_told_apart(self, lab):
        pen = lab.pen("-H", servers=[lab.backend(note)])
        for source in ("127.0.4.1", "127.0.4.2"):
            assert added(pen.client(source).get()) == source

    def test_on_ipv4_at_a_listener_for_all_addresses(self, lab, network):
        add_address("fd00::7")
        pen = lab.pen("-H", servers=[lab.backend(note)], listen="8000", address=("127.0.0.1", 8000))
        assert added(pen.client("127.0.4.1").get()) == "127.0.4.1"
        assert added(lab.client(("fd00::7", 8000), "fd00::7").get()) == "fd00::7"

    def test_on_a_unix_socket(self, lab):
        """Has no address: what it says itself stays, in one line."""
        pen = lab.pen("-H", servers=[lab.backend(note)], listen=f"{lab.directory}/in.sock")
        client = pen.client()
        head = client.get()
        assert "X-Forwarded-For" not in head
        assert head.endswith("\r\nX-Forwarded-Proto: http\r\n")
        head = client.get(headers=b"x-forwarded-for: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n")
        assert added(head) == "1.1.1.1, 2.2.2.2"

    def test_who_lies(self, lab):
        pen = lab.pen("-H", servers=[lab.backend(note)])
        lies = (b"X-Forwarded-For: 9.9.9.9", b"X_Forwarded_For: 9.9.9.9", b"Connection: X-Forwarded-For",
                b"X-Forwarded-Proto: https", b"")  # fmt: skip
        assert pen.client().get(headers=b"\r\n".join(lies)) == (
            "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9, 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        )


class TestRealServers:
    @needs("nginx", "curl")
    def test_nginx(self, lab):
        pen = lab.pen("-H", servers=[nginx(lab, says=SAYS)])
        url = "http://{}:{}/".format(*pen.address)
        done = run(["curl", "-sS", "--interface", "127.0.4.1", "-H", "X-Forwarded-For: 6.6.6.6", url, url])
        assert done.out == "6.6.6.6, 127.0.4.1 http" * 2
        done = run(["curl", "-sS", "-I", url])
        assert done.out.startswith("HTTP/1.1 200")

    @needs("nginx")
    @pytest.mark.parametrize("line", [b"GET  / HTTP/1.1", b"\rGET / HTTP/1.1", b"GET / HTTP/1.10"])
    def test_a_line_that_only_nginx_takes_for_http_is_no_way_to_lie(self, lab, line):
        pen = lab.pen("-H", servers=[nginx(lab, says=SAYS)])
        honest, liar = pen.client(), pen.client()
        assert honest.send(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n").rest()
        assert liar.send(line + b"\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").rest() == b""

    @needs("apache2")
    @pytest.mark.parametrize("version", [b"2.0", b"9.9"])
    def test_a_version_that_only_apache_takes_for_http_1_is_no_way_to_lie(self, lab, version):
        lab.write("index.html", "apache")
        log = lab.directory / "forwarded.log"
        pen = lab.pen("-H", servers=[apache(lab, str(log), form="forwarded")])
        honest, liar = pen.client(), pen.client()
        head = b"GET /index.html HTTP/" + version + b"\r\nHost: x\r\nConnection: close\r\n"
        assert honest.send(head + b"\r\n").rest().endswith(b"apache")
        assert liar.send(head + b"X-Forwarded-For: 6.6.6.6\r\n\r\n").rest() == b""
        assert b"6.6.6.6" not in log.read_bytes()

    @needs("apache2", "curl")
    def test_apache(self, lab):
        lab.write("index.html", "apache")
        log = lab.directory / "forwarded.log"
        pen = lab.pen("-H", servers=[apache(lab, str(log), form="forwarded")])
        url = "http://{}:{}/index.html".format(*pen.address)
        done = run(["curl", "-sS", "--interface", "127.0.4.2", url, url])
        assert (done.out, done.err) == ("apache" * 2, "")
        wait_until(lambda: log.read_text().count("\n") == 2)
        assert log.read_text() == "127.0.4.2 http GET /index.html HTTP/1.1\n" * 2

    @needs("nginx", "curl")
    @pytest.mark.parametrize("coding", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
    @pytest.mark.parametrize("log", [[], ["-l", "pen.log"]], ids=["", "log"])
    def test_uploads_that_expect_100_continue(self, lab, coding, log):
        """curl waits for the word to go on before a body of more than a megabyte."""
        (lab.directory / "body").write_bytes(random.Random(1).randbytes(5 * MB))
        pen = lab.pen("-H", *log, servers=[nginx(lab, says=SAYS)])
        url = "http://{}:{}/".format(*pen.address)
        words = ["curl", "-sS", "-v", *coding, "--data-binary", f"@{lab.directory}/body", url, url]
        done = run(words)
        assert done.out == "127.0.0.1 http" * 2
        assert "100 Continue" in done.err

    @needs("apache2", "curl")
    def test_downloads(self, lab):
        """A large file, a part of it, and by HTTP/1.0."""
        body = random.Random(2).randbytes(20_000_000)
        (lab.directory / "large").write_bytes(body)
        pen = lab.pen("-H", "-l", "pen.log", servers=[apache(lab, "/dev/null")])
        url = "http://{}:{}/large".format(*pen.address)
        for words in ([], ["-0"], ["-r", "0-19999999"]):
            run(["curl", "-sS", *words, "-o", str(lab.directory / "copy"), url])
            assert (lab.directory / "copy").read_bytes() == body
        pen.log_contains(r"GET /large HTTP/1\.[01]$", times=3)


class TestUpgrade:
    @staticmethod
    def switching(conn, backend):
        """Agree to an upgrade to `echo`, refuse any other."""
        reader = Reader(conn, lambda size: None)
        while True:
            head = reader.until(b"\r\n\r\n")
            backend.requests.append(head)
            if b"Upgrade: echo" in head:
                conn.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH)
                conn.sendall(reader.waiting)
                echo(conn, backend)
                return
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SWITCH), SWITCH))

    @pytest.mark.parametrize("options", [[], ["-l", "pen.log"], ["-ddd"]], ids=["", "log", "dump"])
    def test_agreed_to(self, lab, options):
        """What comes then passes as it is, in any amount, both ways."""
        pen = lab.pen("-H", *options, servers=[lab.backend(self.switching)])
        client = pen.client().send(b"GET /chat HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        assert client.read(len(early + SWITCH)) == early + SWITCH
        assert client.talk(GET) == GET
        body = random.Random(3).randbytes(MB if options == ["-ddd"] else 20 * MB)
        sender = threading.Thread(target=client.send, args=[body])
        sender.start()
        assert client.read(len(body)) == body
        sender.join()
        assert client.talk(GET) == GET

    def test_refused_by_an_answer_that_looks_like_agreement(self, lab):
        server = lab.backend(self.switching)
        pen = lab.pen("-H", servers=[server])
        client = pen.client().send(GET + b"GET /chat HTTP/1.1\r\nUpgrade: other\r\n\r\n" + GET)
        for _ in range(3):
            assert client.response() == SWITCH.decode()
        client.send(GET)
        assert client.response() == SWITCH.decode()
        assert all(b"X-Forwarded-For: 127.0.0.1\r\n" in head for head in server.requests)

    def test_agreed_to_while_requests_wait_to_be_sent(self, lab):
        """What pen had begun to read as a request follows those behind which it came.  Unix sockets have
        small buffers, and say when pen has read what was sent."""
        go = threading.Event()

        def talk(conn, backend):
            go.wait(20)
            conn.sendall(SWITCH)
            keep(conn, backend)

        server = lab.backend(talk, path=f"{lab.directory}/out.sock")
        pen = lab.pen("-H", listen=f"{lab.directory}/in.sock", servers=[server])
        client = pen.client().send(b"GET / HTTP/1.1\r\nUpgrade: echo\r\n\r\nGET")
        head = b" / HTTP/1.1\r\nA: %b\r\n" % (b"x" * 5000)
        count = 0
        while read_by_peer(client.socket):
            client.send(head + b"\r\nGET")
            count += 1
        go.set()
        assert client.read(len(SWITCH)) == SWITCH
        client.send(b"!").shut().rest()
        added = b"X-Forwarded-Proto: http\r\n\r\n"
        first, *others = bytes(server.received).split(added)
        assert first == b"GET / HTTP/1.1\r\nUpgrade: echo\r\n"
        assert others[-1].startswith(b"GET")
        assert others[-1].endswith(b"GET!")
        assert b"".join(others) == (b"GET" + head) * (len(others) - 1) + others[-1]
        assert others[-1] == (b"GET" + head + b"\r\n") * (count - len(others) + 1) + b"GET!"

    def test_connect(self, lab):
        def tunnel(conn, backend):
            assert b"X-Forwarded-For: 127.0.0.1" in Reader(conn, lambda size: None).until(b"\r\n\r\n")
            conn.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            echo(conn, backend)

        pen = lab.pen("-H", servers=[lab.backend(tunnel)])
        client = pen.client().send(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
        while client.line() != "\r":
            pass
        assert client.talk(b"\x16\x03\x01" + GET) == b"\x16\x03\x01" + GET


class TestRefused:
    @pytest.mark.parametrize("size", [70_000, 20 * MB])
    @pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nA: ", b"GET /"], ids=["field", "first line"])
    def test_a_head_of_more_than_64_kib(self, lab, head, size):
        """The client reads the answer even if it was still sending."""
        server = lab.backend(note)
        pen = lab.pen("-H", servers=[server])
        client = pen.client()
        end = b" HTTP/1.1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
        sender = threading.Thread(target=client.send, args=[head + b"x" * size + end])
        sender.start()
        assert client.rest().startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        sender.join()
        client.close()
        pen.wait_connections(0)
        server.wait_idle()

    def test_in_the_middle_of_a_connection(self, lab):
        pen = lab.pen("-H", servers=[lab.backend(http)])
        client = pen.client()
        for _ in range(3):
            assert client.get() == "s0"
        answer = client.send(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx" + GET
        ).rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\n\r\n400 Bad Request: different Content-Lengths\n")
        assert b"\r\nConnection: close\r\n" in answer
        pen.wait_connections(0)

    def test_the_answer_that_is_due_comes_first_and_whole(self, lab):
        """Also one of many megabytes, for a client that reads late."""
        body = random.Random(4).randbytes(30 * MB)
        go = threading.Event()

        def slow(conn, backend):
            Reader(conn, lambda size: None).until(b"\r\n\r\n")
            go.wait(20)
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            silent(conn, backend)

        server = lab.backend(slow)
        pen = lab.pen("-H", servers=[server])
        client = pen.client().send(GET + b"nonsense\r\n\r\n")
        go.set()
        head, _, rest = client.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert rest == body
        server.wait_idle()

    def test_one_who_does_not_go_is_left(self, lab):
        pen = lab.pen("-H", servers=[lab.backend(note)])
        client = pen.client().send(b"GET / HTTP/1.1\r\n:\r\n\r\n")
        assert b" 400 " in client.rest()
        assert pen.connections() == 0, "the server has nothing to do with it any more"
        wait_until(lambda: pen.command("status").count("Active connections: 0"))

    def test_the_reason_is_told_with_debug(self, lab):
        pen = lab.pen("-H", "-d", servers=[lab.backend(note)])
        pen.client().send(b"GET / HTTP/1.1\r\nA : b\r\n\r\n").rest()
        pen.says(r"connection 0: refused: blank before a colon")

    def test_without_it_nothing_is_refused(self, lab):
        server = lab.backend(keep)
        pen = lab.pen("-l", "pen.log", servers=[server])
        pen.client().send(b"GET / HTTP/1.1\r\nA : b\r\n\r\n").shut().rest()
        assert server.received == b"GET / HTTP/1.1\r\nA : b\r\n\r\n"


class TestEnds:
    def test_the_clients_half_close(self, lab):
        server = lab.backend(keep)
        pen = lab.pen("-H", servers=[server])
        assert pen.client().send(GET).shut().rest() == b"s0\n"
        assert server.received.startswith(GET[:-2] + b"X-Forwarded-For")

    def test_the_clients_half_close_in_a_head(self, lab):
        """Half a request is no request: the server learns that the client has ended."""
        server = lab.backend(keep)
        pen = lab.pen("-H", servers=[server])
        assert pen.client().send(GET[:-2]).shut().rest() == b"s0\n"
        assert server.received == b""

    def test_resets(self, lab):
        def slam(conn, backend):
            conn.recv(1)
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        pen = lab.pen("-H", servers=[lab.backend(slam)])
        with pytest.raises(ConnectionResetError):
            pen.client().send(GET).rest()


class TestLog:
    def test_what_the_client_sent(self, lab):
        pen = lab.pen("-H", "-l", "pen.log", servers=[lab.backend(http)])
        client = pen.client()
        client.get("/1")
        client.send(b"POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n").response()
        client.send(b"GET /3 HT").send(b"TP/1.1\r\n\r\n").response()
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 (GET /1|POST /2|GET /3) HTTP/1\.1$", times=3)
        assert pen.log.count("\n") == 3

    def test_another_protocol(self, lab):
        pen = lab.pen("-H", "-l", "pen.log", servers=[lab.backend()])
        client = pen.client()
        client.line()
        for word in (b"EHLO a\r\n", b"QUIT\r\n"):
            client.talk(word)
            pen.log_contains(word.decode().strip())


class TestCommand:
    def test_for_connections_that_come_from_then_on(self, lab):
        pen = lab.pen(servers=[lab.backend(note)])
        before = pen.client()
        assert "Forwarded" not in before.get()
        assert pen.command("http") == ""
        assert "Forwarded" not in before.get()
        after = pen.client()
        assert "Forwarded" in after.get()
        assert pen.command("no http") == ""
        assert "Forwarded" in after.get()
        assert "Forwarded" not in pen.client().get()

    @pytest.mark.parametrize(("line", "there"), [("http", True), ("no http", False)])
    def test_in_a_file(self, lab, line, there):
        lab.write("pen.cfg", f"{line}\n")
        pen = lab.pen("-F", "pen.cfg", servers=[lab.backend(note)])
        assert pen.err == ""
        assert ("Forwarded" in pen.client().get()) is there
        pen.command("write pen.cfg")
        assert line in (lab.directory / "pen.cfg").read_text().splitlines()


class TestCost:
    @needs("strace")
    @pytest.mark.parametrize("words", [GET, b"hello", b"EHLO a\r\n"], ids=["HTTP", "half a line", "a line"])
    def test_a_question_is_2_reads_and_2_writes(self, lab, words):
        trace = Trace(lab.directory)
        answering = http if words is GET else echo
        pen = lab.pen("-H", servers=[lab.backend(answering)], wrap=trace.wrap, control="")
        client = pen.client()

        def ask():
            if words is GET:
                assert client.send(words).response() == "s0"
            else:
                assert client.talk(words) == words

        ask()
        wait_until(lambda: trace.names()[-1].startswith("epoll"))
        before = len(trace.calls())
        for _ in range(200):
            ask()
        wait_until(lambda: trace.names()[-1].startswith("epoll"))
        calls = [name for name in trace.names()[before:] if not name.startswith("epoll")]
        assert calls == ["read", "write", "read", "write"] * 200

    @needs("strace")
    @pytest.mark.parametrize("log", [[], ["-l", "pen.log"]], ids=["", "log"])
    @pytest.mark.parametrize("kind", ["upload", "download", "other"])
    def test_bulk_is_spliced(self, lab, kind, log):
        """Bodies of known length, and whatever is not HTTP."""
        body = random.Random(5).randbytes(20 * MB)

        def talk(conn, backend):
            if kind == "other":
                keep(conn, backend)
                return
            reader = Reader(conn, lambda size: None)
            while True:
                head = reader.until(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                backend.received += reader.exactly(int(length[1])) if length else b""
                said = body if kind == "download" else b"ok"
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

        trace = Trace(lab.directory, calls="splice,read,write")
        server = lab.backend(talk)
        pen = lab.pen("-H", *log, servers=[server], wrap=trace.wrap, control="")
        client = pen.client()
        if kind == "other":
            assert client.send(b"\0" + body).shut().rest() == b"s0\n"
            assert server.received == b"\0" + body
        for number in range(0 if kind == "other" else 2):
            if kind == "upload":
                client.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            else:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
            while client.line() != "\r":
                pass
            said = body if kind == "download" else b"ok"
            assert client.read(len(said)) == said
            assert server.received == (body * (number + 1) if kind == "upload" else b"")
        moved = sum(int(args.rpartition("= ")[2]) for args in trace.with_name("splice") if args[-1].isdigit())
        assert moved > 20 * MB, "through a pipe, in and out"

    @pytest.mark.parametrize("head", ["Content-Length: 41943040", "Transfer-Encoding: chunked"])
    def test_a_server_that_does_not_read_stops_the_client(self, lab, head):
        """In bounded memory; when it reads, all arrives."""
        go = threading.Event()

        def late(conn, backend):
            go.wait(30)
            http(conn, backend)

        server = lab.backend(late)
        pen = lab.pen("-H", servers=[server])
        block = random.Random(6).randbytes(MB)
        chunked = "chunked" in head
        before = rss(pen.pid)
        client = pen.client()
        sent = [0]

        def send():
            client.send(f"POST / HTTP/1.1\r\n{head}\r\n\r\n".encode())
            for _ in range(40):
                client.send(b"%x\r\n%b\r\n" % (MB, block) if chunked else block)
                sent[0] += 1
            client.send(b"0\r\n\r\n" if chunked else b"")

        sender = threading.Thread(target=send)
        sender.start()
        stays(lambda: sent[0] < 35, 1.0)
        assert rss(pen.pid) - before < 4 * MB
        go.set()
        assert client.response() == "s0"
        sender.join()
        assert server.received == block * 40

    def test_a_server_that_does_not_answer_stops_the_client(self, lab):
        """What pen remembers of unanswered requests is bounded, too."""

        def late(conn, backend):
            let_pass(0.3)
            silent(conn, backend)

        pen = lab.pen("-H", servers=[lab.backend(late)])
        before = rss(pen.pid)
        client = pen.client(seconds=1)
        with pytest.raises(TimeoutError):
            client.send(GET * MB)
        assert rss(pen.pid) - before < 4 * MB

    def test_many_pipelined_requests_are_all_answered(self, lab):
        server = lab.backend(http)
        pen = lab.pen("-H", servers=[server])
        client = pen.client()
        sender = threading.Thread(target=client.send, args=[GET * 20_000])
        sender.start()
        for _ in range(20_000):
            assert client.response() == "s0"
        sender.join()
        assert len(server.requests) == 20_000
