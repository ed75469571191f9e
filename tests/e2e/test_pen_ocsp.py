"""pen-ocsp, with openssl's own responder, and a pen that staples what comes of it."""

import os
import signal
import stat

import pytest
from support.certificates import Authority
from support.ports import free_port, listens
from support.programs import needs, tool
from support.waiting import wait_until

pytestmark = needs("openssl")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def certificate(lab, ca, port):
    """A chain that names the responder."""
    made = ca.issue("localhost", f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}")
    path = lab.directory / "cert.pem"
    path.write_bytes(made.both.read_bytes() + ca.cert.read_bytes())
    return made._replace(both=path)


def respond(lab, authority, port, *certificates):
    """A responder that knows just these."""
    responder = lab.spawn([*authority.responder(*certificates), "-port", str(port)])
    wait_until(lambda: listens(responder.pid, port))
    return responder


def status(lab, pen):
    host, port = pen.address
    return lab.run_words(["openssl", "s_client", "-connect", f"{host}:{port}", "-status"]).out


def test_a_fresh_response_reaches_clients(lab, ca, certificate, port):
    respond(lab, ca, port, certificate)
    pen = lab.pen("-E", certificate.both, servers=[lab.backend()])
    assert "no response sent" in status(lab, pen)
    assert lab.run("pen-ocsp", "-C", pen.control, certificate.both) == (0, "", "")
    assert "Cert Status: good" in status(lab, pen)
    assert pen.command("ssl_ocsp_response") == f"{lab.directory}/cert.ocsp\n"


def test_a_directory(lab, ca, port):
    """NAME.ca is the issuer; a certificate that names no responder is left alone."""
    directory = lab.directory / "sni"
    directory.mkdir()
    made = ca.issue("www.example.com", f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}")
    (directory / "www.example.com.crt").write_bytes(made.cert.read_bytes())
    (directory / "www.example.com.ca").write_bytes(ca.cert.read_bytes())
    (directory / "plain.example.com.crt").write_bytes(ca.issue("plain.example.com").cert.read_bytes())
    respond(lab, ca, port, made)
    assert lab.run("pen-ocsp", directory) == (0, "", "")
    assert sorted(path.name for path in directory.glob("*.ocsp")) == ["www.example.com.ocsp"]


def test_options(lab, ca, port):
    made = ca.issue("localhost")
    respond(lab, ca, port, made)
    words = ["-i", ca.cert, "-u", f"http://127.0.0.1:{port}", "-o", "here.der", "-t", "5", made.cert]
    assert lab.run("pen-ocsp", *words) == (0, "", "")
    response = lab.directory / "here.der"
    assert response.read_bytes()[:1] == b"\x30"
    assert stat.S_IMODE(response.stat().st_mode) == 0o644, "root writes it, the user of pen -u reads it"


class TestFailures:
    """One line, exit 1, and the old file as it was."""

    @pytest.fixture
    def old(self, certificate):
        path = certificate.both.with_suffix(".ocsp")
        path.write_bytes(b"old")
        yield path
        assert path.read_bytes() == b"old"
        assert not list(path.parent.glob("*.new"))

    def refused(self, lab, why, *words):
        done = lab.run("pen-ocsp", *words)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1), done
        assert done.err.startswith("pen-ocsp: ")
        assert why in done.err

    def test_nobody_answers(self, lab, certificate, old):
        self.refused(lab, "onnect", certificate.both)

    def test_a_responder_that_never_answers(self, lab, certificate, old):
        hole = lab.hole()
        self.refused(lab, str(certificate.both), "-t", "1", "-u", f"http://{hole}", certificate.both)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ended_while_it_waits(self, lab, certificate, old, number):
        temporary = lab.directory / "temporary"
        temporary.mkdir()
        words = [*tool("pen-ocsp"), "-u", f"http://{lab.hole()}", str(certificate.both)]
        running = lab.spawn(words, env={**os.environ, "TMPDIR": str(temporary)})
        wait_until(lambda: list(temporary.glob("*/issuer")))
        running.send_signal(number)
        assert running.wait() == 128 + number
        assert running.err == ""
        assert not list(temporary.iterdir())

    def test_a_certificate_that_it_does_not_know(self, lab, ca, certificate, port, old):
        respond(lab, ca, port)
        self.refused(lab, "unknown", certificate.both)

    def test_one_that_is_revoked(self, lab, ca, certificate, port, old):
        responder = ca.responder(certificate)
        index = ca.directory / "ca.index"
        index.write_text(index.read_text().replace("V\t", "R\t").replace("\t\t", "\t261101000000Z\t"))
        process = lab.spawn([*responder, "-port", str(port)])
        wait_until(lambda: listens(process.pid, port))
        self.refused(lab, "revoked", certificate.both)

    def test_a_signature_of_somebody_else(self, lab, ca, certificate, port, old, certificates_directory):
        stranger = Authority(certificates_directory, "stranger")
        words = ca.responder(certificate)
        words[words.index("-rsigner") + 1] = str(stranger.cert)
        words[words.index("-rkey") + 1] = str(stranger.key)
        process = lab.spawn([*words, "-port", str(port)])
        wait_until(lambda: listens(process.pid, port))
        self.refused(lab, str(certificate.both), certificate.both)

    def test_no_issuer(self, lab, ca):
        made = ca.issue("x", "authorityInfoAccess=OCSP;URI:http://127.0.0.1:1")
        self.refused(lab, "issuer", made.cert)

    def test_no_responder(self, lab, ca):
        self.refused(lab, "names no OCSP responder", ca.issue("x").cert)

    @pytest.mark.parametrize("content", [None, b"rubbish"])
    def test_no_certificate(self, lab, content):
        path = lab.directory / "x.pem"
        if content:
            path.write_bytes(content)
        self.refused(lab, "x.pem" if content else "x.pem: No such file or directory", path)

    def test_no_pen(self, lab, ca, certificate, port):
        respond(lab, ca, port, certificate)
        self.refused(lab, "nowhere.ctl", "-C", "/nowhere.ctl", certificate.both)
        assert certificate.both.with_suffix(".ocsp").exists()


def test_wrong_usage(lab):
    assert lab.run("pen-ocsp").code == 2
    assert lab.run("pen-ocsp", "-o", "x", "a", "b").code == 2
