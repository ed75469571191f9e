"""TLS towards clients, as openssl, curl and Python's ssl see it."""

import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support import keyupdates
from support.backend import echo, http, silent
from support.certificates import Authority, Certificate
from support.programs import needs
from support.tls import SlowClient, TlsClient, context
from support.waiting import stays, wait_until

pytestmark = needs("openssl")


def bye(conn, backend):
    """Say the name and close."""
    conn.sendall(backend.name.encode() + b"\n")


@pytest.fixture
def pen(lab, ca):
    return lab.pen("-E", ca.issue("localhost").both, servers=[lab.backend(bye)])


def s_client(lab, pen, *words, **more):
    host, port = pen.address
    typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-ign_eof", *map(str, words)]
    return lab.run_words(typed, **more)


class TestVersions:
    @pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
    def test_both_are_spoken(self, lab, ca, pen, option, version):
        seen = s_client(
            lab, pen, option, "-CAfile", ca.cert, "-verify_return_error", "-verify_hostname", "localhost"
        )
        assert seen.code == 0
        assert re.search(rf"^New, {version}", seen.out, re.MULTILINE), seen
        assert "s0\n" in seen.out

    def test_the_end_is_told_with_close_notify(self, lab, pen):
        """Without it, OpenSSL says unexpected eof."""
        seen = s_client(lab, pen, "-msg")
        assert "close_notify" in seen.out
        assert "unexpected eof" not in seen.err

    def test_older_ones_are_not(self, lab, pen):
        assert s_client(lab, pen, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0").code

    @pytest.mark.parametrize("least", ["tls1", "tls1.1", "ssl23"])
    def test_older_ones_on_request(self, lab, ca, least):
        pen = lab.pen("-E", ca.issue("x").both, "-L", least, servers=[lab.backend(bye)])
        seen = s_client(lab, pen, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
        assert "Protocol  : TLSv1.1" in seen.out, seen

    def test_only_the_newest_on_request(self, lab, ca):
        pen = lab.pen("-E", ca.issue("x").both, "-L", "tls1.3", servers=[lab.backend(bye)])
        assert s_client(lab, pen, "-tls1_2").code
        assert "New, TLSv1.3" in s_client(lab, pen).out

    def test_compatibility(self, lab, ca):
        pen = lab.pen("-Z", "-E", ca.issue("x").both, servers=[lab.backend(bye)])
        assert "s0\n" in s_client(lab, pen).out

    @pytest.mark.parametrize("least", ["ssl2", "ssl3", "tls1.4"])
    def test_what_is_no_version(self, lab, ca, least):
        done = lab.run("pen", "-f", "-E", ca.issue("x").both, "-L", least, "10000", "127.0.0.1:1")
        assert done.code == 2
        assert done.err.startswith(f"pen: option -L: '{least}' is ")


class TestCertificate:
    def test_chain_and_key_in_files_of_their_own(self, lab, ca):
        made = ca.issue("localhost")
        pen = lab.pen("-E", made.cert, "-K", made.key, servers=[lab.backend(bye)])
        assert "s0\n" in s_client(lab, pen, "-CAfile", ca.cert, "-verify_return_error").out

    def test_the_chain_is_sent(self, lab, ca):
        made = ca.issue("localhost")
        chain = lab.write("chain.pem", made.both.read_text() + ca.cert.read_text())
        pen = lab.pen("-E", chain, servers=[lab.backend(bye)])
        assert s_client(lab, pen, "-showcerts").out.count("BEGIN CERTIFICATE") >= 2

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (lambda made: None, "No such file"),
            (lambda made: b"", "there is no certificate in it"),
            (lambda made: made.key.read_bytes(), "there is no certificate in it"),
            (lambda made: made.cert.read_bytes(), "there is no key in it"),
            (lambda made: made.both.read_bytes()[:200], "there is no certificate in it"),
            (lambda made: made.both.read_bytes().replace(b"MI", b"!!"), "certificate"),
        ],
    )  # fmt: skip
    def test_one_that_is_no_good_ends_the_start_with_a_line(self, lab, ca, content, why):
        path = lab.directory / "bad.pem"
        data = content(ca.issue("x"))
        if data is not None:
            path.write_bytes(data)
        done = lab.run("pen", "-f", "-E", path, "10000", "127.0.0.1:1")
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1), done
        assert str(path) in done.err
        assert why in done.err

    def test_a_key_of_another_one(self, lab, ca):
        done = lab.run("pen", "-f", "-E", ca.issue("x").cert, "-K", ca.issue("y").key, "10000", "127.0.0.1:1")
        assert done.code == 1
        assert "the key does not belong to it" in done.err

    def test_an_encrypted_key_asks_nobody(self, lab, ca):
        made = ca.issue("x")
        key = lab.directory / "locked.key"
        words = ["openssl", "pkcs8", "-topk8", "-in", made.key, "-out", key, "-passout", "pass:secret"]
        assert lab.run_words([*map(str, words)]).code == 0
        done = lab.run("pen", "-f", "-E", made.cert, "-K", key, "10000", "127.0.0.1:1")
        assert done.code == 1
        assert "encrypted" in done.err

    @pytest.mark.parametrize("words", [["-K", "k"], ["-G", "c"], ["-A", "d"], ["-R"]])
    def test_options_that_need_one(self, lab, words):
        done = lab.run("pen", "-f", *words, "10000", "127.0.0.1:1")
        assert done.code == 2
        assert done.err.startswith(f"pen: option {words[0]}: only with -E")

    @pytest.mark.parametrize("words", [["-Z"], ["-L", "tls1.2"]])
    def test_options_that_do_nothing_without_one(self, lab, words):
        pen = lab.pen(*words, servers=[lab.backend()])
        assert pen.ask() == "s0"
        pen.says(f"option {words[0]} does nothing without -E")


class TestClientCertificates:
    @pytest.fixture
    def people(self, certificates_directory):
        return Authority(certificates_directory, "people")

    def pen(self, lab, ca, *options):
        return lab.pen("-E", ca.issue("localhost").both, "-R", *options, servers=[lab.backend(bye)])

    def names(self, made: Certificate) -> list[object]:
        return ["-cert", made.cert, "-key", made.key]

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_who_has_none_is_refused_and_no_server_hears_of_it(self, lab, ca, people, version):
        server = lab.backend(bye)
        pen = lab.pen("-E", ca.issue("localhost").both, "-R", "-G", people.cert, servers=[server])
        refused = s_client(lab, pen, version)
        assert refused.code
        assert re.search("alert (certificate required|handshake failure)", refused.err), refused
        assert server.accepted == 0

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_one_of_the_right_ca(self, lab, ca, people, version):
        pen = self.pen(lab, ca, "-G", people.cert)
        assert "s0\n" in s_client(lab, pen, version, *self.names(people.issue("ann"))).out

    def test_one_of_another_ca(self, lab, ca, people):
        pen = self.pen(lab, ca, "-G", people.cert)
        refused = s_client(lab, pen, *self.names(ca.issue("ann")))
        assert re.search("alert (unknown ca|bad certificate)", refused.err), refused

    @pytest.mark.parametrize("stapled", [False, True])
    def test_without_R_it_may_be_left_out(self, lab, ca, people, stapled):
        made = ca.issue("localhost")
        staple = lab.directory / "x.ocsp"
        staple.write_bytes(ca.staple(made))
        options = ["-O", f"ssl_ocsp_response {staple}"] if stapled else []
        pen = lab.pen("-E", made.both, "-G", people.cert, *options, servers=[lab.backend(bye)])
        assert "s0\n" in s_client(lab, pen, "-tls1_2").out
        assert "s0\n" in s_client(lab, pen, "-tls1_2", *self.names(people.issue("ann"))).out
        assert s_client(lab, pen, "-tls1_2", *self.names(ca.issue("ann"))).code

    def test_a_directory_of_cas(self, lab, ca, people):
        directory = lab.directory / "cas"
        directory.mkdir()
        (directory / "any-name.pem").write_bytes(people.cert.read_bytes())
        pen = self.pen(lab, ca, "-A", directory)
        assert "s0\n" in s_client(lab, pen, *self.names(people.issue("ann"))).out
        assert s_client(lab, pen).code

    def test_without_a_ca_nobody_gets_in(self, lab, ca, people):
        pen = self.pen(lab, ca)
        pen.says("option -R without -G or -A")
        assert s_client(lab, pen).code
        assert "s0\n" not in s_client(lab, pen, *self.names(people.issue("ann"))).out

    def test_resumption(self, lab, ca, people):
        """The session that a certificate opened is not lost, for all that it must be asked for again."""
        pen = self.pen(lab, ca, "-G", people.cert)
        session = lab.directory / "session"
        who = self.names(people.issue("ann"))
        s_client(lab, pen, "-sess_out", session, *who)
        assert "Reused" in s_client(lab, pen, "-sess_in", session, *who).out


class TestSessions:
    @pytest.mark.parametrize(
        "words", [["-tls1_3"], ["-tls1_2"], ["-tls1_2", "-no_ticket"]], ids=["1.3", "1.2 ticket", "1.2 id"]
    )
    def test_resumption(self, lab, pen, words):
        session = lab.directory / "session"
        assert "\nNew, " in s_client(lab, pen, *words, "-sess_out", session).out
        assert "\nReused, " in s_client(lab, pen, *words, "-sess_in", session).out

    @pytest.mark.parametrize("options", [[], ["-O", "ssl_client_renegotiation_interval 1"]])
    def test_renegotiation_is_refused(self, lab, ca, options):
        pen = lab.pen("-E", ca.issue("x").both, *options, servers=[lab.backend(silent)])
        host, port = pen.address
        words = ["openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}"]
        seen = lab.run_words(words, stdin=b"R\n")
        assert "RENEGOTIATING" in seen.err
        assert "no renegotiation" in seen.err

    def test_alpn(self, lab, pen):
        def chosen():
            return lab.closing(TlsClient(pen.address)).socket.selected_alpn_protocol()

        assert chosen() == "http/1.1"
        assert pen.command("ssl_alpn h2,http/1.1") == ""
        assert chosen() == "h2"
        assert pen.command("ssl_alpn http/1.1 h2") == ""
        assert pen.command("ssl_alpn") == "http/1.1,h2\n"
        assert chosen() == "http/1.1"


class TestHandshakes:
    def test_a_stalled_one_ends_after_the_connect_timeout_and_delays_nobody(self, lab, ca):
        server = lab.backend()
        pen = lab.pen("-t", "1", "-E", ca.issue("x").both, servers=[server])
        stalled = [pen.client() for _ in range(20)]
        for number, client in enumerate(stalled):
            client.send(SlowClient(client).hello()[: 10 * number])
        assert lab.closing(TlsClient(pen.address)).line() == "s0"
        assert all(client.ended() for client in stalled)
        assert server.accepted == 1
        pen.wait_connections(1)

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\0\x05hello", b"\x80\x2e\x01\x03\x01" * 9]
    )
    def test_a_broken_one_costs_its_own_connection(self, lab, ca, data):
        server = lab.backend()
        pen = lab.pen("-d", "-E", ca.issue("x").both, servers=[server])
        keeper = lab.closing(TlsClient(pen.address))
        broken = pen.client().send(data).shut()
        broken.rest()
        assert keeper.line() == "s0"
        assert keeper.talk(b"still there") == b"still there"
        assert server.accepted == 1
        pen.says("TLS: ")

    def test_a_reset_in_the_middle(self, lab, ca):
        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend()])
        client = pen.client()
        client.send(SlowClient(client).hello())
        client.read(5)
        client.reset()
        assert lab.closing(TlsClient(pen.address)).line() == "s0"

    @pytest.mark.parametrize("stapled", [False, True], ids=["", "stapled"])
    @pytest.mark.parametrize("names", [[], ["-O", "ssl_sni_path ."]], ids=["", "names"])
    @pytest.mark.parametrize("sent", [b"", b"x", b"\x16\x03\x01\x02\0\1\0\1\xfc"], ids=len)
    def test_clients_that_are_reset_before_they_are_accepted(self, lab, ca, sent, names, stapled):
        """They leave nothing behind: more of them, in all, than there may be at a time."""
        made = ca.issue("x")
        (lab.directory / "x.ocsp").write_bytes(ca.staple(made) if stapled else b"")
        options = ["-t", "1", "-x", "4", *names, *(["-O", "ssl_ocsp_response x.ocsp"] if stapled else [])]
        pen = lab.pen("-E", made.both, *options, servers=[lab.backend()])
        for _ in range(2):
            pen.send_signal(signal.SIGSTOP)
            for _ in range(4):
                with pen.client() as client:
                    client.send(sent).reset()
            pen.send_signal(signal.SIGCONT)
            assert lab.closing(TlsClient(pen.address)).line() == "s0"
        assert pen.err == ""

    def test_a_refused_client_that_goes_on_sending_can_read_why(self, lab, ca):
        """In TLS 1.3 it may send before it is known."""
        pen = lab.pen("-E", ca.issue("x").both, "-R", "-G", ca.cert, servers=[lab.backend()])
        client = lab.closing(TlsClient(pen.address))
        client.send(b"x" * 100_000)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            client.read(1)

    def test_close_notify_without_a_free_descriptor(self, lab, ca):
        """The server's end is told, and what the client says after it arrives."""

        def talk(conn, backend):
            conn.sendall(b"bye")
            conn.recv(1)
            conn.shutdown(socket.SHUT_WR)
            while data := conn.recv(100):
                backend.received.extend(data)

        server = lab.backend(talk)
        pen = lab.pen("-E", ca.issue("x").both, servers=[server])
        client = lab.closing(TlsClient(pen.address))
        assert client.read(3) == b"bye"
        highest = max(map(int, os.listdir(f"/proc/{pen.pid}/fd")))
        resource.prlimit(pen.pid, resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
        client.send(b"x")
        assert client.rest() == b""
        client.send(b"late")
        wait_until(lambda: bytes(server.received) == b"late")
        assert pen.err == ""

    def test_a_hello_byte_by_byte(self, lab, ca):
        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.backend()])
        client = pen.client()
        slow = SlowClient(client)
        for byte in slow.hello():
            client.send(bytes([byte]))
        slow.finish()
        client.read(1)

    def test_no_more_of_them_than_connections(self, lab, ca):
        """Who is over -x waits in the backlog, and gets in when the stalled ones end."""
        pen = lab.pen("-x", "3", "-t", "1", "-E", ca.issue("x").both, servers=[lab.backend()])
        stalled = [pen.client() for _ in range(3)]
        assert lab.closing(TlsClient(pen.address)).line() == "s0"
        assert all(client.ended() for client in stalled)

    def test_when_no_server_is_left_the_client_is_closed(self, lab, ca):
        pen = lab.pen("-E", ca.issue("x").both, servers=[lab.refusing()])
        assert lab.closing(TlsClient(pen.address)).rest() == b""

    def test_many_at_once(self, lab, ca):
        server = lab.backend()
        pen = lab.pen("-O", "pending_max 2", "-E", ca.issue("x").both, servers=[server])
        assert [lab.closing(TlsClient(pen.address)).line() for _ in range(30)] == ["s0"] * 30
        pen.wait_connections(30)


class TestLog:
    def test_the_decrypted_request_is_logged(self, lab, ca):
        pen = lab.pen("-l", "pen.log", "-E", ca.issue("x").both, servers=[lab.backend(http)])
        url = f"https://127.0.0.1:{pen.address[1]}"
        done = lab.run_words(["curl", "-sk", f"{url}/first", f"{url}/second"])
        assert done == (0, "s0s0", "")
        pen.log_contains(r"^127.0.0.1 \d+ 127.0.0.1 GET /first HTTP/1.1$")
        pen.log_contains(r"^127.0.0.1 \d+ 127.0.0.1 GET /second HTTP/1.1$")
        assert pen.log.count("\n") == 2

    def test_servers_hear_that_it_was_https(self, lab, ca):
        heard = []

        def listen(conn, backend):
            heard.append(conn.recv(65536))
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        pen = lab.pen("-H", "-E", ca.issue("x").both, servers=[lab.backend(listen)])
        lab.closing(TlsClient(pen.address)).get()
        assert b"\r\nX-Forwarded-Proto: https\r\n" in heard[0]

    def test_a_refusal_is_encrypted(self, lab, ca):
        pen = lab.pen("-H", "-E", ca.issue("x").both, servers=[lab.backend(http)])
        client = lab.closing(TlsClient(pen.address))
        client.send(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")

    def test_the_page_of_dummy_is_encrypted(self, lab, ca):
        pen = lab.pen("-O", "dummy", "-E", ca.issue("x").both)
        url = f"https://127.0.0.1:{pen.address[1]}/"
        assert "plays web server" in lab.run_words(["curl", "-sk", url]).out

    def test_peek_waits_for_what_follows_the_handshake(self, lab, ca):
        server = lab.backend(http)
        pen = lab.pen("-O", "peek", "-E", ca.issue("x").both, servers=[server])
        client = lab.closing(TlsClient(pen.address))
        stays(lambda: server.accepted == 0, 0.2)
        assert client.get() == "s0"


def test_idlers_serve_tls_clients(lab, ca):
    server = lab.backend()
    pen = lab.pen("-O", "idlers 2", "-E", ca.issue("x").both, servers=[server])
    server.wait_accepted(2)
    assert lab.closing(TlsClient(pen.address)).line() == "s0"


def test_without_a_certificate_ssl_is_not_loaded(lab):
    pen = lab.pen(servers=[lab.backend()])
    assert pen.ask() == "s0"
    assert "libssl" not in Path(f"/proc/{pen.pid}/maps").read_text()


@pytest.mark.parametrize("option", ["-P", "-Oselect"])
def test_other_mechanisms(lab, ca, option):
    pen = lab.pen(option, "-E", ca.issue("x").both, servers=[lab.backend()])
    client = lab.closing(TlsClient(pen.address))
    assert client.line() == "s0"
    assert client.talk(b"x" * 100_000) == b"x" * 100_000
    wait_until(lambda: pen.connections() == 1)


def test_a_unix_socket(lab, ca):
    pen = lab.pen("-E", ca.issue("x").both, listen=str(lab.directory / "pen.sock"), servers=[lab.backend()])
    assert lab.closing(TlsClient(pen.address)).line() == "s0"


def test_versions_of_a_client_that_can_both(lab, pen):
    client = lab.closing(TlsClient(pen.address, how=context(most="TLSv1_2")))
    assert client.socket.version() == "TLSv1.2"
    assert isinstance(client.socket, ssl.SSLSocket)


@pytest.mark.parametrize("size", [1, 1 << 18], ids=["", "after bulk data"])
@pytest.mark.parametrize("stapled", [False, True], ids=["", "stapled"])
def test_a_client_that_only_updates_its_keys_keeps_nobody_waiting(lab, ca, stapled, size):
    """They come faster than pen can work them off, so a read that goes on while there are any has no end."""
    made = ca.issue("localhost")
    (lab.directory / "x.ocsp").write_bytes(ca.staple(made) if stapled else b"")
    options = ["-O", "ssl_ocsp_response x.ocsp"] if stapled else []
    pen = lab.pen("-E", made.both, *options, servers=[lab.backend(echo)])
    floods = []
    try:
        for _ in range(3):
            words = [sys.executable, keyupdates.__file__, *map(str, (*pen.address, size))]
            floods.append(subprocess.Popen(words, stdout=subprocess.PIPE))
            assert floods[-1].stdout.readline() == b"begun\n"
        for _ in range(10):
            client = lab.closing(TlsClient(pen.address))
            assert client.send(b"hello").read(5) == b"hello"
        assert [flood.poll() for flood in floods] == [None] * 3
    finally:
        for flood in floods:
            flood.kill()
            flood.communicate()
