"""Certificates by host name, staples, and files that change while pen runs."""

import os
import shutil
import socket
import ssl

import pytest
from support.backend import silent
from support.certificates import Authority
from support.process import cpu_seconds
from support.programs import needs
from support.tls import SlowClient, TlsClient, context, subject
from support.waiting import PATIENCE, stays

pytestmark = needs("openssl")


class Directory:
    """An ssl_sni_path."""

    def __init__(self, path, ca):
        self.path = path
        self.ca = ca
        path.mkdir()

    def put(self, name, *, staple=False):
        made = self.ca.issue(name)
        if staple:
            self.replace(f"{name}.ocsp", self.ca.staple(made))
        self.replace(f"{name}.key", made.key.read_bytes())
        self.replace(f"{name}.crt", made.cert.read_bytes())
        return made

    def replace(self, name, data):
        new = self.path / "new"
        new.write_bytes(data)
        new.rename(self.path / name)


@pytest.fixture
def directory(lab, ca):
    return Directory(lab.directory / "sni", ca)


@pytest.fixture
def default(ca):
    return ca.issue("default")


@pytest.fixture
def pen(lab, default, directory):
    directory.put("www.example.com")
    return lab.pen("-E", default.both, "-O", f"ssl_sni_path {directory.path}", servers=[lab.backend()])


def der(certificate):
    return ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())


def shown(pen, name=""):
    """The certificate that a client gets who asks for `name`."""
    with TlsClient(pen.address, name) as client:
        assert client.line() == "s0"
        return subject(client.socket)


def staple(lab, pen, *words):
    host, port = pen.address
    typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-status", *map(str, words)]
    return lab.run_words(typed).out


class TestNames:
    def test_a_name_with_files(self, pen, directory, default):
        made = directory.put("other.example.com")
        assert shown(pen, "other.example.com") == der(made)
        assert shown(pen, "OTHER.example.com") == der(made)
        assert shown(pen, "www.example.com") != der(default)

    @pytest.mark.parametrize("name", ["", "unknown.example.com", "example.com"])
    def test_a_name_without(self, pen, default, name):
        assert shown(pen, name) == der(default)

    @pytest.mark.parametrize("name", ["../sni/www.example.com", "sni/www.example.com", ".hidden", ".."])
    def test_a_name_that_is_none(self, pen, directory, name):
        """As no library would send it: a real hello with other bytes for the name."""
        for hidden in (directory.path / ".hidden.crt", directory.path / ".hidden.key"):
            shutil.copy(directory.path / f"www.example.com{hidden.suffix}", hidden)
        client = SlowClient(pen.client(), "n" * len(name), "TLSv1_2")
        client.client.send(client.hello().replace(b"n" * len(name), name.encode()))
        assert b"default" in client.client.read(600)

    def test_s_client_sees_the_choice(self, lab, pen):
        host, port = pen.address
        typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername"]
        assert "subject=CN = www.example.com" in lab.run_words([*typed, "www.example.com"]).out
        assert "subject=CN = default" in lab.run_words([*typed, "elsewhere"]).out

    def test_a_hello_byte_by_byte(self, lab, pen, default):
        client = pen.client()
        slow = SlowClient(client, "www.example.com")
        for byte in slow.hello():
            client.send(bytes([byte]))
        slow.finish()
        assert subject(slow.tls) not in (b"", der(default))

    def test_half_a_hello_does_not_keep_pen_busy(self, pen):
        client = pen.client()
        client.send(SlowClient(client, "www.example.com").hello()[:50])
        before = cpu_seconds(pen.pid)
        stays(lambda: pen.alive, 1)
        assert cpu_seconds(pen.pid) - before < 0.3

    def test_resumption_of_each(self, lab, pen):
        host, port = pen.address
        session = lab.directory / "session"
        typed = [
            "openssl",
            "s_client",
            "-connect",
            f"{host}:{port}",
            "-tls1_2",
            "-servername",
            "www.example.com",
        ]
        lab.run_words([*typed, "-sess_out", str(session)])
        assert "\nReused, " in lab.run_words([*typed, "-sess_in", str(session)]).out

    def test_clients_of_its_own_ca(self, lab, ca, directory, certificates_directory):
        """NAME.ca says who may come to NAME, and who to the default is not changed."""
        people = Authority(certificates_directory, "guests")
        directory.put("www.example.com")
        directory.replace("www.example.com.ca", people.cert.read_bytes())
        pen = lab.pen(
            "-E", ca.issue("default").both, "-R", "-G", ca.cert, "-O", f"ssl_sni_path {directory.path}",
            servers=[lab.backend()],
        )  # fmt: skip
        host, port = pen.address

        def comes(who, name):
            typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-servername", name]
            return lab.run_words([*typed, "-cert", str(who.cert), "-key", str(who.key)]).code == 0

        guest, member = people.issue("guest"), ca.issue("member")
        assert (comes(guest, "www.example.com"), comes(member, "www.example.com")) == (True, False)
        assert (comes(guest, "elsewhere"), comes(member, "elsewhere")) == (False, True)

    @pytest.mark.parametrize("option", ["-G", "-A"])
    def test_clients_of_the_default_ca(self, lab, ca, directory, certificates_directory, option):
        """A name without NAME.ca believes those of the command line; without -R nobody need show anything."""
        (lab.directory / "cas").mkdir()
        (lab.directory / "cas" / "ca.pem").write_bytes(ca.cert.read_bytes())
        lab.run_words(["openssl", "rehash", str(lab.directory / "cas")])
        directory.put("www.example.com")
        where = ca.cert if option == "-G" else "cas"
        words = ["-E", ca.issue("default").both, option, where, "-O", f"ssl_sni_path {directory.path}"]
        pen = lab.pen(*words, "-R", servers=[lab.backend()])
        assert is_let_in(lab, pen, "www.example.com", context(ca.issue("member")))
        assert not is_let_in(lab, pen, "www.example.com", context())
        pen = lab.pen(*words, servers=[lab.backend()])
        assert is_let_in(lab, pen, "www.example.com", context(ca.issue("member")))
        assert is_let_in(lab, pen, "www.example.com", context())

    @pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
    def test_a_session_of_one_name_opens_no_other(self, lab, ca, directory, certificates_directory, version):
        """Who may come to one name can't resume that session at another one, whose CA would refuse him."""
        directory.put("www.example.com")
        directory.put("guests.example.com")
        guests = Authority(certificates_directory, "others")
        directory.replace("guests.example.com.ca", guests.cert.read_bytes())
        names = ["-O", f"ssl_sni_path {directory.path}"]
        pen = lab.pen("-E", ca.issue("default").both, "-R", "-G", ca.cert, *names, servers=[lab.backend()])
        member = context(ca.issue("member"), version)
        client = lab.closing(TlsClient(pen.address, "www.example.com", member))
        assert client.line().startswith("s")
        session = client.socket.session
        assert resumed(pen, member, "www.example.com", session)
        assert not resumed(pen, member, "guests.example.com", session)


def is_let_in(lab, pen, name, how):
    """Whether a server is reached."""
    try:
        return lab.closing(TlsClient(pen.address, name, how)).line().startswith("s")
    except ssl.SSLError:  # TLS 1.3 refuses after the client's part of the handshake
        return False


def resumed(pen, how, name, session):
    """Whether a server is reached with that session."""
    plain = socket.create_connection(pen.address, PATIENCE)
    try:
        with how.wrap_socket(plain, server_hostname=name, session=session) as tls:
            return tls.recv(1) == b"s" and tls.session_reused
    except ssl.SSLError:
        return False
    finally:
        plain.close()


class TestPickUp:
    def test_new_files_are_picked_up(self, pen, directory):
        made = directory.put("www.example.com")
        assert shown(pen, "www.example.com") == der(made)

    def test_a_new_default(self, pen, ca, default):
        made = ca.issue("newer")
        default.both.write_bytes(made.both.read_bytes())
        assert shown(pen) == der(made)
        assert not pen.err

    @pytest.mark.parametrize("data", [b"", b"rubbish", None])
    def test_bad_ones_leave_the_old_in_force_and_are_said_once(self, lab, ca, data):
        made = ca.issue("default")
        bad = ca.issue("other").cert.read_bytes() if data is None else data
        pen = lab.pen("-E", made.cert, "-K", made.key, servers=[lab.backend()])
        before = shown(pen)
        made.cert.write_bytes(bad)
        pen.hup()
        pen.says("the old certificate stays")
        assert shown(pen) == before
        pen.hup()
        assert shown(pen) == before
        assert pen.err.count("\n") == 1, pen.err

    def test_a_name_whose_files_are_gone(self, pen, directory, default):
        assert shown(pen, "www.example.com") != der(default)
        (directory.path / "www.example.com.crt").unlink()
        assert shown(pen, "www.example.com") == der(default)
        assert not pen.err

    def test_a_default_that_is_gone_stays(self, pen, default):
        before = shown(pen)
        default.both.unlink()
        pen.hup()
        assert shown(pen) == before

    @pytest.mark.parametrize("words", [["-u", "nobody"], ["-u", "nobody", "-j", "."]], ids=["user", "jail"])
    @needs("root")
    def test_confined(self, lab, ca, directory, words):
        """Read as root, before; picked up as the user, inside."""
        made = ca.issue("default")
        cert = lab.directory / "default.pem"
        cert.write_bytes(made.both.read_bytes())
        directory.put("www.example.com")
        for path in (cert, *directory.path.iterdir()):
            path.chmod(0o600)
        options = ["-E", cert, "-O", f"ssl_sni_path {directory.path}", *words]
        pen = lab.pen(*map(str, options), servers=[lab.backend()], control="")
        assert shown(pen) == der(made)
        named = shown(pen, "www.example.com")
        pen.hup()
        assert shown(pen, "www.example.com") == named != der(made)
        newer = ca.issue("newer")
        fresh = lab.directory / "fresh"
        fresh.write_bytes(newer.both.read_bytes())
        os.rename(fresh, cert)
        assert shown(pen) == der(newer)
        assert not pen.err

    @needs("root")
    def test_files_outside_the_jail_stay_as_they_were(self, lab, ca, directory):
        directory.put("www.example.com")
        jail = lab.directory / "jail"
        jail.mkdir()
        made = ca.issue("default")
        options = ["-E", made.both, "-O", f"ssl_sni_path {directory.path}", "-j", jail]
        pen = lab.pen(*map(str, options), servers=[lab.backend()], control="")
        pen.hup()
        assert shown(pen) == der(made)
        assert shown(pen, "www.example.com") != der(made)
        assert not pen.err

    def test_a_bad_name_is_said_once_and_gets_the_default(self, pen, directory, default):
        directory.put("new.example.com")
        (directory.path / "new.example.com.crt").write_text("rubbish")
        assert [shown(pen, "new.example.com") for _ in range(2)] == [der(default)] * 2
        assert pen.err.count("clients get the default certificate") == 1
        made = directory.put("new.example.com")
        assert shown(pen, "new.example.com") == der(made)

    @pytest.mark.parametrize("ending", ["crt", "key", "ca", "ocsp"])
    def test_a_fifo_that_nobody_writes_does_not_stop_pen(self, pen, directory, default, ending):
        directory.put("new.example.com")
        path = directory.path / f"new.example.com.{ending}"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        assert shown(pen, "new.example.com") == der(default)
        pen.says("Not a regular file")


class TestStaples:
    def test_of_the_default(self, lab, ca, default, pen):
        assert "no response sent" in staple(lab, pen)
        response = lab.directory / "default.ocsp"
        response.write_bytes(ca.staple(default))
        assert pen.command(f"ssl_ocsp_response {response}") == ""
        for version in ("-tls1_2", "-tls1_3"):
            seen = staple(lab, pen, version, "-CAfile", ca.cert)
            assert "OCSP Response Status: successful" in seen
            assert "Cert Status: good" in seen

    def test_of_a_name(self, lab, pen, directory):
        assert "no response sent" in staple(lab, pen, "-servername", "www.example.com")
        directory.put("www.example.com", staple=True)
        assert "Cert Status: good" in staple(lab, pen, "-servername", "www.example.com")
        assert "no response sent" in staple(lab, pen, "-servername", "elsewhere")

    def test_what_it_does_besides(self, lab, ca, directory):
        """The other library keeps to the same rules."""
        people = directory.ca
        directory.put("www.example.com", staple=True)
        pen = lab.pen(
            "-E", ca.issue("default").both, "-R", "-G", people.cert, "-O", f"ssl_sni_path {directory.path}",
            servers=[lab.backend(silent)],
        )  # fmt: skip
        host, port = pen.address
        session = lab.directory / "session"
        ann = people.issue("ann")
        who = ["-cert", str(ann.cert), "-key", str(ann.key)]
        typed = [
            "openssl",
            "s_client",
            "-connect",
            f"{host}:{port}",
            "-servername",
            "www.example.com",
            "-tls1_2",
        ]
        assert lab.run_words(typed).code
        seen = lab.run_words([*typed, *who, "-sess_out", str(session), "-alpn", "h2,http/1.1"])
        assert "ALPN protocol: http/1.1" in seen.out
        assert "\nReused, " in lab.run_words([*typed, *who, "-sess_in", str(session)]).out
        assert "no renegotiation" in lab.run_words([*typed, *who], stdin=b"R\n").err

    def test_a_file_that_is_not_there(self, pen):
        reply = pen.command("ssl_ocsp_response nowhere.ocsp")
        assert "nowhere.ocsp" in reply
        assert "No such file" in reply
        assert pen.command("ssl_ocsp_response") == ""


class TestCommands:
    def test_ciphers(self, lab, pen):
        host, port = pen.address
        typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
        assert pen.command("ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256") == ""
        assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in lab.run_words(typed).out
        assert "none of these ciphers" in pen.command("ssl_ciphers ROT13")
        assert pen.command("ssl_ciphers") == "ECDHE-ECDSA-AES128-GCM-SHA256\n"
        assert pen.command("ssl_ciphers DEFAULT !SHA1") == ""
        assert pen.command("ssl_ciphers") == "DEFAULT:!SHA1\n"

    def test_the_servers_order_of_ciphers(self, lab, pen):
        host, port = pen.address
        weak, strong = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
        typed = [
            "openssl",
            "s_client",
            "-connect",
            f"{host}:{port}",
            "-tls1_2",
            "-cipher",
            f"{weak}:{strong}",
        ]
        assert f"Cipher is {weak}" in lab.run_words(typed).out
        assert pen.command("ssl_option cipher_server_preference") == ""
        assert f"Cipher is {strong}" in lab.run_words(typed).out

    def test_versions(self, lab, pen):
        host, port = pen.address
        typed = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
        assert lab.run_words(typed).code == 0
        assert pen.command("ssl_option no_tlsv1.2") == ""
        assert lab.run_words(typed).code

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            ("ssl_option no_tlsv9", "no_tlsv9"),
            ("ssl_option", "expected"),
            ("ssl_sni_path nowhere", "nowhere"),
            ("ssl_alpn ,", "protocols"),
            ("ssl_client_renegotiation_interval x", "not a number"),
        ],
    )
    def test_what_is_wrong_is_said(self, pen, command, why):
        reply = pen.command(command)
        assert reply.startswith("do_cmd: ")
        assert why in reply

    def test_a_wrong_line_at_start_costs_nothing_but_itself(self, lab, default):
        lab.write("pen.cfg", "ssl_ciphers ROT13\nssl_alpn h2\n")
        pen = lab.pen("-F", "pen.cfg", "-E", default.both, servers=[lab.backend()])
        assert "pen.cfg:1: " in pen.err
        assert shown(pen) == der(default)
        assert pen.command("ssl_alpn") == "h2\n"

    def test_written_and_read_back(self, lab, default, directory):
        given = [
            "ssl_alpn h2,http/1.1", "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256",
            "ssl_client_renegotiation_interval 7", "ssl_option no_tlsv1.1", f"ssl_sni_path {directory.path}",
        ]  # fmt: skip
        words = [word for command in given for word in ("-O", command)]
        pen = lab.pen("-E", default.both, "-L", "tls1.1", "-Z", *words, servers=[lab.backend()])
        assert pen.command("write saved.cfg") == ""
        first, *lines = (lab.directory / "saved.cfg").read_text().splitlines()
        assert [line for line in lines if line.startswith("ssl_")] == given
        for word in (f"-E {default.both}", "-L tls1.1", "-Z"):
            assert word in first

    def test_without_a_certificate_they_are_remembered(self, lab):
        pen = lab.pen()
        assert pen.command("ssl_alpn h2") == ""
        assert pen.command("ssl_alpn") == "h2\n"
