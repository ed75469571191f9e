"""pen's log: its two forms, one line per request, and a target that fails."""

import contextlib
import random
import socket
import stat
import time

import pytest
from support.backend import CHUNK, http, silent
from support.loghost import LogHost
from support.network import names
from support.programs import needs
from support.waiting import stays, wait_until

SERVER = "127.0.1.1"
REQUEST = b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nb\r\ndy"


@pytest.fixture
def web(lab):
    return lab.backend(http, host=SERVER)


def logged(pen):
    """The requests in the log, in their order."""
    return [line.split(" ", 3)[3] for line in pen.log.splitlines()]


def fill(path):
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


class TestForm:
    def test_file(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        before = int(time.time())
        with pen.client(source="127.0.0.7") as client:
            assert client.get("/index.html?a=b") == "s0"
        name, when, server, request = pen.log.split(" ", 3)
        assert (name, server, request) == ("127.0.0.7", SERVER, "GET /index.html?a=b HTTP/1.1\n")
        assert before <= int(when) <= time.time()

    def test_network(self, lab, web):
        host = lab.closing(LogHost())
        pen = lab.pen("-l", str(host), servers=[web])
        with pen.client(source="127.0.0.7") as client:
            client.get("/a")
            client.get("/b")
        assert host.wait(2) == [
            b"+ 127.0.0.7 127.0.1.1 GET /a HTTP/1.1\n",
            b"+ 127.0.0.7 127.0.1.1 GET /b HTTP/1.1\n",
        ]

    @needs("ipv6")
    def test_network_over_ipv6(self, lab, web):
        host = lab.closing(LogHost("::1"))
        pen = lab.pen("-l", str(host), servers=[web])
        assert pen.client().get("/a") == "s0"
        assert host.wait(1) == [b"+ 127.0.0.1 127.0.1.1 GET /a HTTP/1.1\n"]

    def test_a_slash_at_the_start_makes_it_a_file_whatever_follows(self, lab, web):
        pen = lab.pen("-l", f"{lab.directory}/odd:514", servers=[web])
        assert pen.client().get("/a") == "s0"
        assert "GET /a" in (lab.directory / "odd:514").read_text()

    def test_a_line_is_there_when_its_request_has_been_forwarded(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        for number in range(30):
            client.get(f"/{number}")
            assert pen.log.count("\n") == number + 1

    def test_the_server_is_the_one_that_got_it(self, lab):
        emergency = lab.backend(http, host="127.0.1.9")
        pen = lab.pen("-l", "pen.log", "-e", str(emergency), servers=[lab.refusing("127.0.1.8")])
        assert pen.client().get("/") == "s0"
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.1\.9 GET / HTTP/1\.1$")
        assert "127.0.1.8" not in pen.log

    def test_new_logs_are_not_for_everybody(self, lab, web):
        """Protocols like POP3 show passwords in them."""
        lab.pen("-l", "pen.log", servers=[web])
        assert stat.S_IMODE((lab.directory / "pen.log").stat().st_mode) == 0o640

    def test_an_old_log_is_appended_to(self, lab, web):
        lab.write("pen.log", "old\n")
        pen = lab.pen("-l", "pen.log", servers=[web])
        pen.client().get("/new")
        pen.log_contains(r"\Aold\n127\.0\.0\.1 .*/new")

    def test_no_log_unless_asked(self, lab, web):
        pen = lab.pen(servers=[web])
        pen.client().get("/")
        assert not pen.log_file.exists()
        assert pen.command("log") == ""

    def test_switched_while_running(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        client.get("/one")
        assert pen.command("log other.log") == "other.log\n"
        client.get("/two")
        pen.client().get("/three")
        pen.command("no log")
        client.get("/four")
        pen.client().get("/five")
        assert logged(pen) == ["GET /one HTTP/1.1"]
        other = (lab.directory / "other.log").read_text()
        assert "/three" in other
        assert "/four" not in other
        assert "/five" not in other


class TestBegun:
    """A log that is switched on: connections that were there before are logged, too."""

    @pytest.mark.parametrize("options", [(), ("-H",), ("-dddf",)])
    def test_http(self, lab, web, options):
        pen = lab.pen(*options, servers=[web])
        with pen.client() as client:
            client.get("/one")
            assert pen.command("log pen.log") == "pen.log\n"
            client.get("/two")
            pen.command("no log")
            client.get("/three")
            pen.command("log pen.log")
            client.send(b"GET /four HTTP/1.1\r\n\r\nGET /fi").send(b"ve HTTP/1.1\r\n\r\n")
            assert [client.response(), client.response()] == ["s0"] * 2
        assert logged(pen) == [f"GET /{path} HTTP/1.1" for path in ("two", "four", "five")]

    def test_another_protocol(self, lab):
        pen = lab.pen(servers=[lab.backend()])
        with pen.client() as client:
            assert client.line() == "s0"
            assert client.talk(b"USER me\r\n") == b"USER me\r\n"
            pen.command("log pen.log")
            for chunk in (b"PASS x\r\n", b"no end"):
                assert client.talk(chunk) == chunk
        assert logged(pen) == ["PASS x", "no end"]

    def test_in_the_middle_of_an_upload(self, lab, web):
        """With -H pen knows that it is; without, only as long as it moves as bulk data."""
        body = b"GET /evil HTTP/1.1\r\n\r\n"
        pen = lab.pen("-H", servers=[web])
        with pen.client() as client:
            begun = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\nGET /" % (2 * len(body))
            client.send(begun)
            wait_until(lambda: web.heard >= len(begun))
            pen.command("log pen.log")
            client.send(body[5:] + body)
            assert client.response() == "s0"
            client.get("/next")
        assert logged(pen) == ["GET /next HTTP/1.1"]

    def test_in_the_middle_of_a_head(self, lab, web):
        """With -H the log begins with the next request: the rest of this one would be no HTTP."""
        pen = lab.pen("-H", servers=[web])
        with pen.client() as client:
            client.get("/before")
            client.send(b"POST /one HTTP/1.1\r\nHost: ")
            wait_until(lambda: pen.command("log pen.log"))
            client.send(b"x\r\nContent-Length: 3\r\n\r\n").send(b"GET")
            client.response()
            client.get("/two")
        assert logged(pen)[-1] == "GET /two HTTP/1.1"
        assert "GET" not in logged(pen)

    def test_beside_a_dump(self, lab, web):
        pen = lab.pen("-H", "-dddaf", servers=[web])
        with pen.client() as client:
            client.get("/one")
            pen.command("log pen.log")
            client.get("/two")
        assert logged(pen) == ["GET /two HTTP/1.1"]
        pen.says("GET /two HTTP/1.1")


class TestHttp:
    """Each request once, however it comes, and nothing of its body."""

    def test_keep_alive(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            for number in range(20):
                assert client.get(f"/{number}") == "s0"
        assert logged(pen) == [f"GET /{number} HTTP/1.1" for number in range(20)]

    def test_pipelined(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        requests = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)]
        with pen.client() as client:
            client.send(b"".join(requests))
            assert [client.response() for _ in requests] == ["s0"] * 50
        assert logged(pen) == [f"GET /{number} HTTP/1.1" for number in range(50)]

    def test_split_at_every_byte(self, lab, web):
        """Each cut is really read by pen on its own: the second part goes when the first has arrived."""
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expected = []
        for cut in range(1, len(REQUEST % b"000")):
            request = REQUEST % (b"%03d" % cut)
            heard = web.heard
            client.send(request[:cut])
            wait_until(lambda heard=heard, cut=cut: web.heard == heard + cut)
            client.send(request[cut:])
            assert client.response() == "s0"
            expected.append(f"POST /{cut:03d} HTTP/1.1")
        assert logged(pen) == expected

    def test_byte_by_byte(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at, byte in enumerate(REQUEST % b"x", 1):
            client.send(bytes([byte]))
            wait_until(lambda at=at: web.heard == at)
        assert client.response() == "s0"
        assert logged(pen) == ["POST /x HTTP/1.1"]

    def test_of_a_server_that_greets_and_echoes(self, lab):
        """What it says before the line is whole does not make it another protocol."""
        pen = lab.pen("-l", "pen.log", servers=[lab.backend()])
        with pen.client() as client:
            assert client.line() == "s0"
            for byte in REQUEST % b"x":
                assert client.talk(bytes([byte])) == bytes([byte])
        assert logged(pen) == ["POST /x HTTP/1.1"]

    def test_in_random_cuts(self, lab, web):
        cuts = random.Random(5)
        stream = b"".join(REQUEST % (b"%d" % number) for number in range(200))
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            while stream:
                size = cuts.randrange(1, 150)
                client.send(stream[:size])
                stream = stream[size:]
            assert [client.response() for _ in range(200)] == ["s0"] * 200
        assert logged(pen) == [f"POST /{number} HTTP/1.1" for number in range(200)]

    def test_bodies_are_never_logged(self, lab, web):
        body = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n" * 20
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            client.send(b"POST /length HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 90):
                client.send(body[at : at + 90])
            assert client.response() == "s0"
            client.send(b"POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 33):
                client.send(b"21\r\n%b\r\n" % body[at : at + 33].ljust(33))
            client.send(b"0\r\nTrailer: GET /evil HTTP/1.1\r\n\r\n")
            assert client.response() == "s0"
            assert client.get("/after") == "s0"
        assert len(web.received) >= 2 * len(body)
        assert logged(pen) == ["POST /length HTTP/1.1", "POST /chunks HTTP/1.1", "GET /after HTTP/1.1"]

    def test_a_long_upload_and_what_comes_after_it(self, lab, web):
        """Longer than the relay needs to go over to splicing."""
        body = random.Random(1).randbytes(5_000_000)
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            client.send(b"PUT /big HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert client.response() == "s0"
            assert client.get("/after") == "s0"
        assert web.received == body
        assert logged(pen) == ["PUT /big HTTP/1.1", "GET /after HTTP/1.1"]

    def test_a_long_download_and_what_comes_after_it(self, lab):
        def big(conn, backend):
            while b"\r\n\r\n" in conn.recv(CHUNK):
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)

        pen = lab.pen("-l", "pen.log", servers=[lab.backend(big)])
        with pen.client() as client:
            assert len(client.get("/big")) == 3_000_000
            assert len(client.get("/again")) == 3_000_000
        assert logged(pen) == ["GET /big HTTP/1.1", "GET /again HTTP/1.1"]

    @pytest.mark.parametrize("lead", [b"\r\n", b"\r\n\r\n\r\n"])
    def test_empty_lines_before_a_request(self, lab, web, lead):
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            client.send(lead + b"GET /a HTTP/1.1\r\n\r\n")
            assert pen.log_contains("GET /a HTTP/1.1$") is None
        assert logged(pen) == ["GET /a HTTP/1.1"]

    def test_any_method_and_version(self, lab, web):
        lines = [
            b"HEAD / HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"PROPFIND /x HTTP/1.1",
            b"GET http://a/ HTTP/1.0",
        ]
        pen = lab.pen("-l", "pen.log", servers=[web])
        with pen.client() as client:
            client.send(b"".join(line + b"\r\nHost: x\r\n\r\n" for line in lines))
            assert [client.response() for _ in lines] == ["s0"] * 4
        assert logged(pen) == [line.decode() for line in lines]

    def test_where_the_framing_is_lost_nothing_is_refused(self, lab, web):
        """With -l alone; what cannot be framed is a protocol like any other."""
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(silent)])
        server = pen.client()
        server.send(b"GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n")
        pen.log_contains("^.* GET / HTTP/1.1$")
        server.send(b"abcd")
        stays(lambda: pen.connections() == 1, 0.2)


class TestOtherProtocols:
    def test_a_line_for_each_chunk(self, lab):
        server = lab.backend(host=SERVER)
        pen = lab.pen("-l", "pen.log", servers=[server])
        with pen.client() as client:
            assert client.line() == "s0"
            for chunk in (b"USER me\r\n", b"PASS x\r\nSTAT\r\n", b"LIST\n", b"no end"):
                assert client.talk(chunk) == chunk
        assert logged(pen) == ["USER me", "PASS x", "LIST", "no end"]

    def test_not_once_it_moves_bulk_data(self, lab):
        body = b"data " * 400_000
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(silent)])
        with pen.client() as client:
            client.send(b"hello\n")
            pen.log_contains("hello")
            client.send(body).shut().rest()
        assert 1 <= len(logged(pen)) < 20, "not one for each of the chunks"

    def test_an_empty_chunk_line(self, lab):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend()])
        with pen.client() as client:
            client.line()
            for chunk in (b"hello\n", b"\r\nx", b"y\n"):
                assert client.talk(chunk) == chunk
        assert logged(pen) == ["hello", "", "y"]

    def test_a_chunk_without_a_line_end_behind_a_greeting(self, lab):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(host=SERVER)])
        with pen.client() as client:
            assert client.line() == "s0"
            client.send(b"no end")
            pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.1\.1 no end$")

    def test_what_might_have_become_a_request(self, lab):
        """Three letters and the end."""
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(silent, host=SERVER)])
        pen.client().send(b"GET").close()
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.1\.1 GET$")

    def test_what_comes_with_the_very_first_packet(self, lab):
        """Before the server has been reached."""
        server = lab.backend(host=SERVER)
        pen = lab.pen("-l", "pen.log", "-t", "1", "-r", servers=[lab.hole(), server])
        with pen.client() as client:
            client.send(b"early\n")
            assert client.line() == "s0"
            assert client.line() == "early"
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.1\.1 early$")


class TestRequest:
    """At most 100 bytes in a file, 1024 in a datagram, and no byte but the printable ones."""

    @pytest.mark.parametrize("length", [98, 99, 100, 101, 102, 500, 5000])
    def test_cut_in_the_file(self, lab, web, length):
        pen = lab.pen("-l", "pen.log", servers=[web])
        target = "/".ljust(length - len("GET  HTTP/1.1"), "a")
        pen.client().get(target)
        assert logged(pen) == [f"GET {target} HTTP/1.1"[:100]]

    @pytest.mark.parametrize("length", [990, 995, 996, 997, 998, 999, 1000, 1001, 1002, 3000])
    def test_cut_in_the_datagram(self, lab, web, length):
        host = lab.closing(LogHost())
        pen = lab.pen("-l", str(host), servers=[web])
        target = "/".ljust(length - len("GET  HTTP/1.1"), "a")
        pen.client().get(target)
        whole = f"+ 127.0.0.1 127.0.1.1 GET {target} HTTP/1.1".encode()
        assert host.wait(1) == [whole[:1023] + b"\n"]

    def test_bytes_that_are_not_printable(self, lab):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(host=SERVER)])
        with pen.client() as client:
            client.line()
            data = bytes(set(range(256)) - {0x0A, 0x0D})
            for at in range(0, len(data), 50):
                assert client.talk(data[at : at + 50]) == data[at : at + 50]
        expected = "".join(chr(byte) if 0x20 <= byte <= 0x7E else "." for byte in data)
        assert "".join(logged(pen)) == expected
        assert all(line.startswith(f"127.0.0.1 {line.split()[1]} {SERVER} ") for line in pen.log.splitlines())

    def test_bytes_that_are_not_printable_in_a_datagram(self, lab):
        host = lab.closing(LogHost())
        pen = lab.pen("-l", str(host), servers=[lab.backend(host=SERVER)])
        with pen.client() as client:
            client.line()
            client.talk(b"\x00\x1b[31m\xff\x80\t~")
        assert host.wait(1) == [b"+ 127.0.0.1 127.0.1.1 ..[31m...~\n"]


class TestFile:
    def test_reopened_on_hup(self, lab, web):
        """mv pen.log pen.log.1; kill -HUP: nothing lost, nothing twice."""
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        client.get("/one")
        pen.log_file.rename(lab.directory / "pen.log.1")
        client.get("/two")
        pen.hup()
        wait_until(pen.log_file.exists)
        client.get("/three")
        pen.client().get("/four")
        assert (lab.directory / "pen.log.1").read_text().count("\n") == 2
        assert logged(pen) == ["GET /three HTTP/1.1", "GET /four HTTP/1.1"]

    def test_under_load_nothing_is_lost(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        client = pen.client()
        for number in range(300):
            client.get(f"/{number}")
            if number % 50 == 25:
                pen.log_file.rename(lab.directory / f"pen.log.{number}")
                pen.hup()
                wait_until(pen.log_file.exists)
        logs = sorted(lab.directory.glob("pen.log*"))
        assert len(logs) == 7
        found = [line for log in logs for line in log.read_text().splitlines()]
        assert len(found) == len({line.split()[4] for line in found}) == 300

    def test_one_that_cannot_be_opened_at_start(self, lab, web):
        pen = lab.pen("-l", "no/such/pen.log", servers=[web], wait=False)
        assert pen.wait() == 1
        assert "no/such/pen.log" in pen.err
        assert pen.err.endswith("No such file or directory\n")

    def test_one_that_cannot_be_opened_while_running(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        reply = pen.command("log no/such/pen.log")
        assert "no/such/pen.log" in reply
        assert "No such file or directory" in reply
        assert pen.command("log") == "pen.log\n"
        pen.client().get("/")
        pen.log_contains("GET / HTTP")

    def test_a_full_disk(self, lab, web):
        pen = lab.pen("-l", "/dev/full", servers=[web])
        client = pen.client()
        for number in range(50):
            assert client.get(f"/{number}") == "s0"
        assert pen.err.count("No space left on device") == 1
        assert pen.err.count("/dev/full") == 1

    @needs("root", "mount", "umount")
    def test_a_disk_that_has_room_again(self, lab, web):
        disk = lab.directory / "disk"
        disk.mkdir()
        lab.mount_tmpfs(disk, kilobytes=64)
        pen = lab.pen("-l", "disk/pen.log", servers=[web])
        pen.log_file = disk / "pen.log"
        client = pen.client()
        client.get("/before")
        fill(disk / "filler")
        number = 0
        while "No space left" not in pen.err:
            client.get(f"/{number}/{'x' * 80}")
            number += 1
        (disk / "filler").unlink()
        wait_until(lambda: client.get("/after") and "/after" in pen.log)
        assert pen.err.count("No space left on device") == 1
        assert all(line.startswith("127.0.0.1 ") for line in pen.log.splitlines()), "no line is cut in two"

    def test_a_directory_that_vanishes_and_comes_back(self, lab, web):
        logs = lab.directory / "logs"
        logs.mkdir()
        pen = lab.pen("-l", "logs/pen.log", servers=[web])
        pen.log_file = logs / "pen.log"
        client = pen.client()
        client.get("/before")
        pen.log_file.unlink()
        logs.rmdir()
        pen.hup()
        pen.says("logs/pen.log")
        for number in range(20):
            assert client.get(f"/{number}") == "s0"
        assert pen.err.count("No such file or directory") == 1
        logs.mkdir()
        wait_until(lambda: client.get("/after") and "/after" in pen.log)

    def test_flushed_at_the_end(self, lab, web):
        pen = lab.pen("-l", "pen.log", servers=[web])
        pen.client().get("/last")
        assert pen.stop() == 0
        assert logged(pen) == ["GET /last HTTP/1.1"]


class TestLogHost:
    def test_one_that_is_not_there(self, lab, web):
        """Refused datagrams hinder nobody, are reported once, and logging resumes by itself."""
        host = LogHost()
        host.close()
        pen = lab.pen("-l", str(host), servers=[web])
        client = pen.client()
        for number in range(20):
            assert client.get(f"/{number}") == "s0"
        pen.says("Connection refused")
        assert len(pen.err.splitlines()) == 1
        back = lab.closing(LogHost(port=host.port))
        wait_until(
            lambda: client.get("/after") and b"+ 127.0.0.1 127.0.1.1 GET /after HTTP/1.1\n" in back.datagrams
        )
        wait_until(lambda: client.get("/later") and len(pen.err.splitlines()) == 2)
        assert "sent again, 20 records lost" in pen.err

    @needs("root")
    def test_a_name_with_several_addresses(self, lab, network, web):
        """They are tried in turn: what is lost is what the first one refused."""
        hosts = names({}, lab.directory)
        (lab.directory / "hosts").write_text("127.0.0.1 loghost\n::1 loghost\n")
        host = lab.closing(LogHost("::1"))
        pen = lab.pen("-l", f"loghost:{host.port}", servers=[web], wrap=hosts)
        client = pen.client()
        for number in range(5):
            assert client.get(f"/{number}") == "s0"
        received = [line.split()[4] for line in host.wait(4)]
        assert received == [b"/1", b"/2", b"/3", b"/4"]
        assert len(pen.err.splitlines()) == 1
        assert "Connection refused" in pen.err

    @needs("root")
    def test_a_name_that_does_not_resolve_just_now(self, lab, network):
        hosts = names({}, lab.directory)
        pen = lab.pen("-l", "loghost:10000", servers=[lab.backend(http)], wrap=hosts)
        client = pen.client()
        assert client.get("/early") == "s0"
        assert "loghost" in pen.err
        host = lab.closing(LogHost(port=10000))
        (lab.directory / "hosts").write_text("127.0.0.1 loghost\n")
        assert host.wait(1)[0] == b"+ 127.0.0.1 127.0.0.1 GET /early HTTP/1.1\n"
        wait_until(lambda: client.get("/later") and len(pen.err.splitlines()) == 2)
        assert "sent again, 0 records lost" in pen.err
