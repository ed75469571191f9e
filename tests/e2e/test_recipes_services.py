"""The recipes of doc/howto.md for mail, files and directories, letter by letter, with postfix, dovecot,
vsftpd and slapd behind pen.  One server dies in the middle of a session, and clients carry on."""

import contextlib
import poplib
import re
import shutil
import smtplib
from ftplib import FTP

import pytest
from support.client import Client
from support.network import come_from
from support.programs import needs
from support.recipes import ADDRESSES, VISITORS, excerpt, recipe
from support.services import PASSWORD, dovecot, mailboxes, messages, postfix, slapd, vsftpd
from support.waiting import wait_until

pytestmark = needs("root", "unshare", "mount", "ip")

HOST1, HOST2, LBHOST = ADDRESSES["host1"], ADDRESSES["host2"], ADDRESSES["lbhost"]
BY_TURNS = [HOST1, HOST2] * 3
SOURCES = list(VISITORS.values())


@pytest.fixture(autouse=True)
def cabling(network):
    """Servers see connections come from lbhost."""
    come_from(LBHOST, [HOST1, HOST2])


# SMTP


def mail(source: str, subject: str) -> str:
    """Send a mail as a visitor; the server that took it."""
    with smtplib.SMTP(timeout=20, source_address=(source, 0)) as client:
        _, greeting = client.connect(LBHOST, 25)
        client.sendmail("me@example.org", "you@example.test", f"Subject: {subject}\r\n\r\nHello\r\n")
    return greeting.split()[0].decode()


def subjects(boxes) -> list[str]:
    return sorted(
        line.split()[1] for text in messages(boxes) for line in text.splitlines() if "Subject" in line
    )


@needs("postfix")
def test_smtp(lab, typed):
    boxes = mailboxes(lab)
    servers = [postfix(lab, host, boxes) for host in (HOST1, HOST2)]
    typed(recipe("SMTP")[0])
    assert [mail(SOURCES[0], f"m{number}") for number in range(4)] == [HOST1, HOST2, HOST1, HOST2]
    wait_until(lambda: subjects(boxes) == ["m0", "m1", "m2", "m3"], "mail is delivered")
    with contextlib.closing(smtplib.SMTP(timeout=20)) as client:
        assert HOST1.encode() in client.connect(LBHOST, 25)[1]
        client.ehlo()
        client.mail("me@example.org")
        client.rcpt("you@example.test")
        servers[0].kill()
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            client.data(b"Subject: m4\r\n\r\nHello\r\n")
    assert [mail(source, "m4") for source in SOURCES[:2]] == [HOST2, HOST2]
    wait_until(lambda: subjects(boxes)[4:] == ["m4", "m4"], "who tries again has it delivered")
    assert f"client=unknown[{LBHOST}]" in (servers[1].directory / "log").read_text()
    assert re.search(r"^127.0.9.1 \d+ 127.0.0.12 mail FROM:<me@example.org>", pen_log(lab), re.MULTILINE)


def pen_log(lab) -> str:
    return (lab.directory / "pen.log").read_text()


# POP3


@pytest.fixture
def pop3(lab):
    """Two servers of one mailbox, in which there is a mail."""
    boxes = mailboxes(lab)
    (boxes / "box" / "new").mkdir(parents=True)
    (boxes / "box" / "new" / "1700000000.1.host").write_text("Subject: m0\n\nHello\n")
    for path in (boxes / "box", boxes / "box" / "new", *boxes.glob("box/new/*")):
        shutil.chown(path, "nobody", "nogroup")
    return [dovecot(lab, host, boxes, trusted=LBHOST) for host in (HOST1, HOST2)]


GREETING = re.compile(r"\+OK (?:\[XCLIENT\] )?([\d.]+)\r$", re.MULTILINE)


def fetch(typed, options: str) -> tuple[str, str]:
    """The server that a visitor gets, and the mail in the box."""
    done = typed(f"curl -sSv --max-time 20 --user me:{PASSWORD} {options}")
    return GREETING.search(done.err)[1], done.out.replace("\r", "")


@needs("dovecot", "curl")
def test_pop3(lab, typed, pop3):
    typed(recipe("POP3")[0])
    expected = [(host, "Subject: m0\n\nHello\n") for host in BY_TURNS]
    for _ in range(2):  # they come back
        assert [fetch(typed, f"--interface {source} pop3://lbhost/1") for source in SOURCES] == expected
    with contextlib.closing(poplib.POP3(LBHOST, timeout=20)) as client:
        assert client.getwelcome().endswith(HOST1.encode())
        log_in(client)
        client.dele(1)
        pop3[0].kill()
        with pytest.raises((poplib.error_proto, ConnectionResetError)):
            client.quit()
    with contextlib.closing(poplib.POP3(LBHOST, timeout=20)) as client:
        assert client.getwelcome().endswith(HOST2.encode())
        log_in(client)
        assert client.stat()[0] == 1, "what was deleted without a quit is still there"
        client.dele(1)
        client.quit()
    assert {fetch(typed, f"--interface {source} pop3://lbhost/") for source in SOURCES} == {(HOST2, "\n")}
    assert not (lab.directory / "pen.log").exists(), "no password is written anywhere"


def log_in(client: poplib.POP3) -> None:
    client.user("me")
    client.pass_(PASSWORD)


@needs("dovecot", "curl")
def test_pop3_with_tls(lab, typed, pop3, ca):
    shutil.copy(ca.issue("lbhost").both, lab.directory / "mycert.pem")
    typed(recipe("POP3")[1])

    def found():
        urls = [f"--cacert {ca.cert} --interface {source} pop3s://lbhost/1" for source in SOURCES]
        return [fetch(typed, url)[0] for url in urls]

    assert found() == BY_TURNS
    pop3[0].kill()
    assert found() == [HOST2] * 6


# FTP

FTP_TLS = """
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=NO
force_anon_logins_ssl=NO
rsa_cert_file={both}
"""


@pytest.fixture
def ftp(lab, shell, ca):
    """The servers, with the page's lines and TLS for who wants it; the second has its own ports."""
    tls = FTP_TLS.format(both=ca.issue("lbhost").both)
    first = excerpt("FTP", "vsftpd")
    second = first.replace("5000", "5001")
    return [vsftpd(lab, host, more + tls, shell[:-2]) for host, more in ((HOST1, first), (HOST2, second))]


FTP_CLIENTS = {
    "passive": "",
    "passive, with TLS": "--ssl-reqd --cacert {ca}",
    "passive, IPv4 only": "--disable-epsv",
    "passive, goes to the address that it is told": "--disable-epsv --no-ftp-skip-pasv-ip",
    "active": "--ftp-port {source}",
    "active, IPv4 only": "--ftp-port {source} --disable-eprt",
}
"""What curl is told, to be one of them."""


@needs("vsftpd", "curl")
def test_ftp(typed, ftp, ca):
    typed(recipe("FTP")[0])

    def names(options: str) -> list[str]:
        """What each visitor finds in the file that names its server."""
        asks = [f"--interface {source} {options.format(source=source, ca=ca.cert)}" for source in SOURCES]
        return typed(
            " && ".join(f"curl -sS --max-time 20 {ask} ftp://lbhost/name" for ask in asks)
        ).out.split()

    for kind, options in FTP_CLIENTS.items():
        assert names(options) == BY_TURNS, kind
    with contextlib.closing(FTP(LBHOST, timeout=20)) as client:
        assert HOST1 in client.getwelcome()
        client.login()
        assert client.nlst() == ["name"]
        ftp[0].kill()
        with pytest.raises((EOFError, ConnectionResetError)):
            client.nlst()
    for kind, options in FTP_CLIENTS.items():
        assert names(options) == [HOST2] * 6, kind


# LDAP

ANONYMOUS_BIND = bytes.fromhex("300c 020101 6007 020103 0400 8000")
"""RFC 4511, 4.2: message 1, version 3, nobody, no password. The response is as long."""


@needs("slapd", "slapadd", "ldapsearch")
def test_ldap(lab, typed):
    equal, search, main = recipe("LDAP")
    servers = [slapd(lab, host) for host in (HOST1, HOST2)]
    typed(equal)
    found = [found_by(typed, search) for _ in range(3)]
    assert found == [HOST1] * 3, "a client comes back"
    with Client((LBHOST, 389)) as client:
        assert client.talk(ANONYMOUS_BIND).startswith(b"\x30\x0c\x02\x01\x01\x61"), "a bind response"
        servers[0].kill()
        assert client.ended()
    assert [found_by(typed, search) for _ in range(3)] == [HOST2] * 3
    typed(main)
    assert found_by(typed, search.replace("lbhost", "lbhost:3890")) == HOST2
    servers[0].start()
    wait_until(
        lambda: found_by(typed, search.replace("lbhost", "lbhost:3890")) == HOST1, "back to the first", 30
    )
    servers[1].kill()
    assert found_by(typed, search) == HOST1


def found_by(typed, search: str) -> str:
    """The server that answered."""
    (host,) = re.findall(r"^o: (\S+)$", typed(search).out, re.MULTILINE)
    return host
