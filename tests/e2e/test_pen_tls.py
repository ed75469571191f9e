"""TLS towards clients: openssl, curl and Python's ssl as the clients, plain servers behind pen."""

import _socket
import contextlib
import hashlib
import os
import re
import select
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from support.backend import echo
from support.certificates import Authority
from support.ports import free_port
from support.process import open_files, rss
from support.programs import find, needs
from support.waiting import wait_until

pytestmark = needs("openssl")


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("certificates"))
    made.pem = made.bundle("pen.example")
    return made


@pytest.fixture
def tls(lab, authority):
    """pen -E before servers that echo."""

    def start(*options, servers=None, **more):
        behind = [lab.backend(echo)] if servers is None else servers
        return lab.pen("-E", str(authority.pem), *options, servers=behind, **more)

    return start


def connect(pen, authority=None, name="pen.example", source=None, seconds=15, **settings):
    """A TLS connection; `settings` are attributes of the client's context."""
    context = ssl.create_default_context(cafile=authority.file if authority else None)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate := settings.pop("certificate", None):
        context.load_cert_chain(*certificate)
    if alpn := settings.pop("alpn", None):
        context.set_alpn_protocols(alpn)
    for key, value in settings.items():
        setattr(context, key, value)
    sock = socket.create_connection(pen.address, timeout=seconds)
    return context.wrap_socket(sock, server_hostname=name)


def at(pen):
    return "{}:{}".format(*pen.address)


def s_client(pen, *words, text=b"hello\n"):
    """What `openssl s_client` says."""
    done = subprocess.run(
        [find("openssl"), "s_client", "-connect", at(pen), *words],
        input=text, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout.decode("latin-1") + done.stderr.decode("latin-1")


def receive(sock, size):
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def end_of_ours(sock):
    """End what we send, and go on reading.  Python's ssl can't say close_notify while data comes."""
    _socket.socket.shutdown(sock, socket.SHUT_WR)


def exchange(sock, data):
    """Send all of `data` and read all that comes, at the same time; the digest and size of that."""
    digest, size, left = hashlib.sha256(), 0, memoryview(data)
    sock.setblocking(False)
    while True:
        moved = False
        if left:
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                left = left[sock.send(left[:65536]) :]
                moved = True
            if not left:
                end_of_ours(sock)
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            chunk = sock.recv(1 << 16)
            if not chunk:
                return digest.digest(), size
            digest.update(chunk)
            size += len(chunk)
            moved = True
        if not moved:
            ready = select.select([sock], [sock] if left else [], [], 20)
            assert ready[0] or ready[1], "it stalls"


class TestProtocol:
    @pytest.mark.parametrize(("word", "shown"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
    def test_versions(self, tls, authority, word, shown):
        said = s_client(tls(), word, "-CAfile", str(authority.file), "-verify_return_error")
        assert f"New, {shown}" in said
        assert "Verify return code: 0 (ok)" in said

    def test_least_version(self, tls):
        assert "TLSv1.3" in s_client(pen := tls("-L", "tls1.3"), "-tls1_3")
        assert "alert protocol version" in s_client(pen, "-tls1_2")

    @pytest.mark.parametrize("least", ["ssl23", "tls1"])
    def test_old_versions_if_they_are_asked_for(self, tls, least):
        pen = tls("-L", least, "-Z")
        assert "New, TLSv1.0" in s_client(pen, "-tls1", "-cipher", "DEFAULT:@SECLEVEL=0")

    def test_not_by_default(self, tls):
        assert "New, TLSv1.0" not in s_client(tls(), "-tls1", "-cipher", "DEFAULT:@SECLEVEL=0")

    def test_the_chain_is_sent(self, tls):
        assert s_client(tls(), "-showcerts").count("BEGIN CERTIFICATE") >= 2

    def test_a_key_of_its_own_file(self, lab, authority):
        certificate, key = authority.sign("two.example")
        pen = lab.pen("-E", str(certificate), "-K", str(key), servers=[lab.backend(echo)])
        with connect(pen, authority, "two.example") as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"

    def test_alpn(self, tls):
        pen = tls()
        with connect(pen, alpn=["h2", "http/1.1"]) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
        assert pen.command("ssl_alpn h2,http/1.1") == ""
        with connect(pen, alpn=["http/1.1", "h2"]) as sock:
            assert sock.selected_alpn_protocol() == "h2"
        with connect(pen) as sock:
            assert sock.selected_alpn_protocol() is None

    def test_ciphers_and_options(self, tls):
        pen = tls("-O", "ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384", "-O", "ssl_option no_tlsv1.1")
        assert "ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(pen, "-tls1_2")
        assert pen.command("ssl_option no_tlsv1.2") == ""
        assert "alert protocol version" in s_client(pen, "-tls1_2")
        assert "no such ciphers" in pen.command("ssl_ciphers NONSENSE")
        assert "no_tls" in pen.command("ssl_option nonsense")
        assert pen.command("ssl_client_renegotiation_interval 3600") == ""

    def test_renegotiation_is_refused(self, tls):
        said = s_client(tls(), "-tls1_2", text=b"R\n")
        assert re.search(r"RENEGOTIATING.*(no renegotiation|error)", said, re.DOTALL)

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_sessions_are_resumed(self, lab, tls, version):
        pen = tls()
        session = lab.directory / "session"
        with subprocess.Popen(
            [find("openssl"), "s_client", version, "-connect", at(pen), "-sess_out", str(session)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as client:  # fmt: skip
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            for line in client.stdout:
                if line == b"hello\n":
                    break
            client.stdin.close()
        assert "Reused, " in s_client(pen, version, "-sess_in", str(session))


class TestNames:
    @pytest.fixture
    def named(self, lab, tls, authority):
        directory = lab.directory / "names"
        directory.mkdir()
        for name in ("one.example", "two.example"):
            certificate, key = authority.sign(name)
            (directory / f"{name}.crt").write_bytes(certificate.read_bytes())
            (directory / f"{name}.key").write_bytes(key.read_bytes())
        return tls("-O", "ssl_sni_path names")

    @staticmethod
    def who(pen, authority, name):
        """The name in the certificate that is shown to whom asks for `name`."""
        with connect(pen, authority, name, check_hostname=False) as sock:
            return sock.getpeercert()["subjectAltName"][0][1]

    @pytest.mark.parametrize(
        ("asked", "shown"),
        [
            ("one.example", "one.example"),
            ("ONE.example", "one.example"),
            ("two.example", "two.example"),
            ("other.example", "pen.example"),
            (None, "pen.example"),
        ],
    )
    def test_choose_the_certificate(self, named, authority, asked, shown):
        assert self.who(named, authority, asked) == shown

    @pytest.mark.parametrize("asked", ["../names/one.example", ".one.example", "names/one.example"])
    def test_odd_names_get_the_default(self, named, asked):
        said = s_client(named, "-servername", asked)
        assert "CN = pen.example" in said or "CN=pen.example" in said

    def test_changed_files_are_picked_up(self, lab, named, authority, tmp_path):
        other = Authority(tmp_path / "other", "other")
        assert self.who(named, authority, "one.example") == "one.example"
        certificate, key = other.sign("one.example")
        (lab.directory / "names" / "one.example.key").write_bytes(key.read_bytes())
        (lab.directory / "names" / "one.example.crt").write_bytes(certificate.read_bytes())
        assert self.who(named, other, "one.example") == "one.example"
        with pytest.raises(ssl.SSLCertVerificationError):
            self.who(named, authority, "one.example")

    def test_a_new_name_needs_no_restart(self, lab, named, authority):
        assert self.who(named, authority, "three.example") == "pen.example"
        certificate, key = authority.sign("three.example")
        (lab.directory / "names" / "three.example.crt").write_bytes(certificate.read_bytes())
        (lab.directory / "names" / "three.example.key").write_bytes(key.read_bytes())
        assert self.who(named, authority, "three.example") == "three.example"

    def test_broken_files_are_said_and_cost_the_name_only(self, lab, named, authority):
        assert self.who(named, authority, "one.example") == "one.example"
        (lab.directory / "names" / "one.example.crt").write_text("broken")
        assert self.who(named, authority, "one.example") == "one.example", "the old one stays"
        (lab.directory / "names" / "two.example.crt").write_text("broken")
        assert self.who(named, authority, "two.example") == "pen.example"
        assert "server name two.example: " in named.err
        assert self.who(named, authority, "two.example") == "pen.example"
        assert named.err.count("server name two.example: ") == 1


class TestClientCertificates:
    @pytest.fixture
    def strict(self, tls, authority):
        return tls("-R", "-G", str(authority.file))

    def test_one_is_required(self, strict, authority):
        said = s_client(strict, "-tls1_2")
        assert "handshake failure" in said or "certificate required" in said
        certificate, key = authority.sign("client.example")
        with connect(strict, certificate=(certificate, key)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"

    def test_of_the_right_authority(self, strict, tmp_path):
        stranger = Authority(tmp_path / "stranger", "stranger")
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),  # TLS 1.3 tells after the handshake
            connect(strict, certificate=stranger.sign("client.example")) as sock,
        ):
            sock.sendall(b"hello")
            assert sock.recv(10) == b""

    def test_without_R_it_may_be_left_out(self, tls, authority):
        with connect(tls("-G", str(authority.file))) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"

    def test_a_directory_of_authorities(self, lab, tls, authority):
        directory = lab.directory / "authorities"
        directory.mkdir()
        (directory / "a.pem").write_bytes(authority.file.read_bytes())
        subprocess.run([find("openssl"), "rehash", str(directory)], check=True)
        with connect(tls("-R", "-A", "authorities"), certificate=authority.sign("client.example")) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"


class TestData:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("options", [[], ["-l", "pen.log"], ["-H"]])
    def test_large_transfers_both_ways_at_once(self, tls, version, options):
        pen = tls(*options)
        data = os.urandom(1 << 20) * 24
        with connect(pen, maximum_version=version) as sock:
            assert exchange(sock, data) == (hashlib.sha256(data).digest(), len(data))

    def test_the_servers_end_is_told_and_the_client_may_go_on(self, lab, tls):
        """Half-close: close_notify comes, what the client sends after it arrives, none of it is lost."""
        heard = bytearray()

        def talk(conn, backend):
            conn.sendall(b"bye")
            conn.shutdown(socket.SHUT_WR)
            while data := conn.recv(1 << 16):
                heard.extend(data)

        pen = tls(servers=[lab.backend(talk)])
        data = os.urandom(300_000)
        with connect(pen) as sock:
            sock.sendall(b"first")
            assert receive(sock, 3) == b"bye"
            assert sock.recv(10) == b"", "close_notify"
            sock.sendall(data)
            end_of_ours(sock)
            wait_until(lambda: len(heard) == len(data) + 5, "all has arrived")
        assert bytes(heard) == b"first" + data

    def test_the_clients_end_is_passed_on(self, lab, tls):
        def talk(conn, backend):
            while data := conn.recv(1 << 16):
                backend.received.extend(data)
            conn.sendall(b"thanks")

        server = lab.backend(talk)
        with connect(tls(servers=[server])) as sock:
            sock.sendall(b"hello")
            end_of_ours(sock)
            assert receive(sock, 6) == b"thanks"
            assert sock.recv(1) == b""
        assert bytes(server.received) == b"hello"

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_the_clients_close_notify_is_an_end(self, lab, tls, authority, version):
        """openssl says it at the end of its input, and waits for ours."""

        def talk(conn, backend):
            while data := conn.recv(1 << 16):
                backend.received.extend(data)
            conn.sendall(b"thanks")

        server = lab.backend(talk)
        words = [version, "-CAfile", str(authority.file), "-quiet", "-no_ign_eof"]
        said = s_client(tls(servers=[server]), *words, text=b"hello")
        assert bytes(server.received) == b"hello"
        assert "error" not in said

    def test_close_notify_comes_behind_all_data_to_a_slow_reader(self, lab, tls):
        data = os.urandom(20 << 20)

        def talk(conn, backend):
            conn.recv(1)
            conn.sendall(data)

        with connect(tls(servers=[lab.backend(talk)])) as sock:
            sock.suppress_ragged_eofs = False
            sock.sendall(b"x")
            got = b""
            while chunk := sock.recv(1 << 14):
                got += chunk
            assert got == data

    def test_close_notify_is_sent_at_the_end(self, lab, tls):
        pen = tls(servers=[lab.backend(lambda conn, backend: conn.sendall(b"bye"))])
        with connect(pen, seconds=10) as sock:
            sock.suppress_ragged_eofs = False
            assert receive(sock, 3) == b"bye"
            assert sock.recv(1) == b""  # an end without close_notify would raise

    def test_a_client_that_does_not_read_costs_no_memory(self, lab, tls):
        def talk(conn, backend):
            conn.recv(1)
            conn.sendall(os.urandom(1 << 20) * 30)

        pen = tls(servers=[lab.backend(talk)])
        with connect(pen) as sock:
            sock.sendall(b"x")
            wait_until(lambda: int(pen.servers()[0]["rx"]) > 0)
            before = rss(pen.pid)
            assert len(receive(sock, 30 << 20)) == 30 << 20
            assert rss(pen.pid) < before + (4 << 20)

    def test_a_reset_is_passed_on(self, lab, tls):
        server = lab.backend(echo)
        sock = connect(tls(servers=[server]))
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        socket.socket.close(sock)
        server.wait_idle()


class TestHttp:
    @needs("curl")
    @pytest.mark.parametrize("options", [[], ["-H"]])
    def test_the_decrypted_request_is_logged(self, lab, authority, options):
        def talk(conn, backend):
            data = b""
            while b"\r\n\r\n" not in data:
                data += conn.recv(4096)
            backend.received.extend(data)
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

        server = lab.backend(talk)
        pen = lab.pen("-E", str(authority.pem), "-l", "pen.log", *options, servers=[server])
        done = lab.run_words([find("curl"), "-ks", f"https://{at(pen)}/page?x=1"])
        assert done.out == "ok"
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 GET /page\?x=1 HTTP/1\.1$")
        if options:
            assert b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n" in server.received

    def test_a_refused_request_is_answered_through_tls(self, lab, tls):
        with connect(tls("-H")) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 400 ")

    def test_dummy(self, tls):
        with connect(tls("-O", "dummy", servers=[])) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")

    def test_peek(self, lab, tls):
        server = lab.backend(echo)
        pen = tls("-O", "peek", servers=[server])
        with connect(pen) as sock:
            assert server.accepted == 0
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"


class TestTrouble:
    def test_a_stalled_handshake_costs_only_its_own_connection(self, lab, tls):
        server = lab.backend(echo)
        pen = tls("-t", "1", servers=[server])
        stalled = [socket.create_connection(pen.address) for _ in range(20)]
        stalled[1].sendall(b"\x16\x03\x01\x02\x00\x01")
        with connect(pen) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        for one in stalled:
            one.settimeout(10)
            assert one.recv(10) == b""
            one.close()
        assert server.accepted == 1
        wait_until(lambda: sum(name.startswith("socket:") for name in open_files(pen.pid)) < 10)

    NO_TLS = (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 20, b"\x16\x03\x01\xff\xff" * 100, b"\0")

    @pytest.mark.parametrize("data", NO_TLS)
    def test_what_is_no_tls(self, lab, tls, data):
        server = lab.backend(echo)
        pen = tls(servers=[server])
        with socket.create_connection(pen.address, timeout=10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while True:
                try:
                    if not sock.recv(4096):
                        break
                except ConnectionResetError:
                    break
        with connect(pen) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert server.accepted == 1
        assert pen.err == ""

    @pytest.mark.parametrize("mechanism", ["epoll", "poll", "select"])
    def test_every_event_mechanism(self, tls, mechanism):
        pen = tls("-O", mechanism)
        for _ in range(3):
            with connect(pen) as sock:
                sock.sendall(b"hello")
                assert sock.recv(10) == b"hello"

    def test_certificates_are_read_again_on_hup_and_a_bad_one_is_not_taken(self, lab, authority, tmp_path):
        file = lab.directory / "cert.pem"
        file.write_bytes(authority.pem.read_bytes())
        pen = lab.pen("-E", "cert.pem", servers=[lab.backend(echo)])
        other = Authority(tmp_path / "other", "other")
        file.write_text("broken")
        pen.hup()
        wait_until(lambda: "the old certificate stays" in pen.err)
        connect(pen, authority).close()
        file.write_bytes(other.bundle("pen.example").read_bytes())
        pen.hup()

        def new() -> bool:
            try:
                connect(pen, other).close()
            except ssl.SSLCertVerificationError:
                return False
            return True

        wait_until(new, "the new certificate is shown")

    @pytest.mark.parametrize(
        ("words", "code", "why"),
        [
            (["-E", "none.pem"], 1, "none.pem: No such file or directory"),
            (["-E", "garbage"], 1, "garbage"),
            (["-E", "{pem}", "-K", "none.key"], 1, "none.key: No such file or directory"),
            (["-E", "{pem}", "-K", "{other}"], 1, "key values mismatch"),
            (["-E", "{pem}", "-R"], 2, "-R"),
            (["-E", "{pem}", "-G", "none", "-R"], 1, "none"),
            (["-E", "{pem}", "-L", "ssl3"], 2, "'ssl3'"),
            (["-E", "{pem}", "-L", "ssl2"], 2, "'ssl2'"),
            (["-E", "{pem}", "-U"], 2, "-U"),
            (["-K", "{pem}"], 2, "-E"),
            (["-E", "{pem}", "-K", "{encrypted}"], 1, "encrypted"),
        ],
    )
    def test_what_can_not_be(self, lab, authority, words, code, why):
        lab.write("garbage", "garbage")
        _, key = authority.sign("other.example")
        encrypted = lab.directory / "secret.pem"
        subprocess.run(
            [find("openssl"), "ec", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(encrypted)],
            check=True, capture_output=True,
        )  # fmt: skip
        places = {"pem": authority.pem, "other": key, "encrypted": encrypted}
        words = [word.format(**places) for word in words]
        done = lab.run("pen", "-f", *words, f"127.0.0.1:{free_port()}", "127.0.0.1:1")
        assert done.code == code
        assert why in done.err.splitlines()[0]
        assert done.err.count("\n") == 1 or code == 2

    def test_what_write_writes(self, tls, lab):
        pen = tls("-O", "ssl_alpn h2", "-O", "ssl_option no_tlsv1.2", "-O", "ssl_ciphers ALL")
        assert pen.command("write saved") == ""
        saved = (lab.directory / "saved").read_text().splitlines()
        assert {"ssl_alpn h2", "ssl_option no_tlsv1.2", "ssl_ciphers ALL"} <= set(saved)
        assert " -E " in saved[0]

    @needs("root")
    def test_after_chroot_and_as_another_user(self, lab, authority):
        jail = lab.directory / "jail"
        jail.mkdir()
        server = lab.backend(echo)
        lab.directory.chmod(0o755)
        pen = lab.pen("-E", str(authority.pem), "-j", str(jail), "-u", "nobody", servers=[server])
        with connect(pen, authority) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"


def test_pen_without_tls_does_not_load_ssl(lab):
    pen = lab.pen(servers=lab.backends(1))
    assert "libssl" not in Path(f"/proc/{pen.pid}/maps").read_text()
