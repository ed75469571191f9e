"""Tools of both suites together, in every mixture: the C suite is replaced host by host, and tool by tool.

MATRIX says which tools work together, and the function that has them do it: it gets the test's laboratory and
the words that start each tool.  Each is run with every choice of suites.
"""

import itertools
import os
import random
import re
import subprocess
import time

import pytest
from support.backend import echo, http
from support.client import Client
from support.datagrams import UdpPen
from support.datagrams import echo as udp_echo
from support.pen import control_options
from support.penlogd import Penlogd, line, record
from support.ports import free_port
from support.process import run
from support.programs import needs, original, tool

from penlib.balancer import commands

WEB = "127.0.0.21"
SUITES = {"their": original, "our": tool}

ARGUMENTS = {
    "acl": "5 permit 10.0.0.0 255.0.0.0", "blacklist": "7", "client_acl": "3", "clients_max": "3000",
    "close": "999999", "conn_max": "600", "connection": "3", "control_acl": "4", "debug": "1",
    "dsr_if": "nosuch0", "geoip_db": "/nowhere", "idle_timeout": "5", "idlers": "0",
    "include": "{directory}/commands", "listen": "{listen}", "log": "{directory}/pen.log", "no acl": "5",
    "pending_max": "20", "recent": "60", "server": "0 max 5 hard 6 weight 7 prio 8", "socket": "1",
    "source": "127.0.0.1", "ssl_alpn": "http/1.1", "ssl_ciphers": "HIGH",
    "ssl_client_renegotiation_interval": "3", "ssl_ocsp_response": "{directory}/ocsp",
    "ssl_option": "no_sslv2", "ssl_sni_path": "{directory}", "tarpit_acl": "2", "tcp_fastclose": "off",
    "timeout": "9", "tracking": "99", "web_stats": "{directory}/stats.html",
    "write": "{directory}/written.cfg",
}  # fmt: skip
"""What is said behind each command that takes something."""

DEADLY = {"dsr_if"}
"""What the original dies of while it runs; more of that is in penctl's page."""

TIME = re.compile(r"\d+:\d+:\d+|\d{4}-\d\d-\d\d|\d{9,}(\.\d+)?")


def every_command(lab, penctl, pen):
    """What penctl prints is what pen replies to somebody who speaks to it without any penctl."""
    lab.write("commands", "blacklist 8\n")
    servers = lab.backends(2)
    replies = []
    for ask in (by_penctl(penctl), by_hand):
        control = f"127.0.0.1:{free_port()}"
        made = lab.pen(*control_options(control), servers=servers, control="", program=pen)
        told = []
        for row in commands.ROWS:
            if pen == original("pen") and row.name in DEADLY:
                continue
            words = ARGUMENTS.get(row.name, "").format(directory=lab.directory, listen=made.listen)
            reply = ask(control, f"{row.name} {words}".strip())
            for own, name in ((made.listen, "LISTEN"), (control, "CONTROL"), (str(made.pid), "PID")):
                reply = reply.replace(own, name)
            told.append((row.name, TIME.sub("TIME", reply)))
        assert made.alive
        assert ask(control, "blacklist") == "8\n", "it has understood them"
        replies.append(told)
        made.stop()
    assert replies[0] == replies[1]


def by_penctl(penctl):
    def ask(control, command):
        done = run([*penctl, control, *command.split()])
        assert done.err == ""
        return done.out

    return ask


def by_hand(control, command):
    host, _, port = control.rpartition(":")
    with Client((host, int(port))) as client:
        return client.send(command.encode() + b"\n").rest().decode()


def over_a_unix_socket(lab, penctl, pen):
    made = lab.pen(servers=lab.backends(2), program=pen)
    assert run([*penctl, made.control, "pid"]).out == f"{made.pid}\n"
    assert run([*penctl, made.control, "servers"]).out.count("\n") == 2


PLAIN = [b"/one", b"/two?a=b&c=[d]", b"/" + b"a" * 80, b"/one"]
ODD = [b"/t\xc3\xa4b\t", b"/\x01\x7f", b"/" + b"a" * 900]
"""What the original penlogd does not recognise; see the differences in its page."""
LONG = b"/" + b"b" * 2000
"""What the original penlog does not send whole."""


def one_log_live(lab, pen, penlog, penlogd):
    """As in the how-to: every line comes out with its client."""
    theirs = penlogd == original("penlogd")
    host = Penlogd(lab, *(["-b"] if theirs else []), program=penlogd)
    balancer = lab.pen(
        "-r", "-l", f"127.0.0.1:{host.port}", servers=[lab.backend(http, host=WEB)], program=pen
    )
    sender = lab.spawn([*penlog, "127.0.0.1", str(host.port), WEB], stdin=subprocess.PIPE)
    targets = PLAIN if theirs else PLAIN + ODD if penlog == original("penlog") else [*PLAIN, *ODD, LONG]
    clients = []
    for target in targets:
        clients.append(f"127.0.1.{len(clients)}")
        with balancer.client(source=clients[-1]) as client:
            client.get(target.decode("latin-1"))
        logged = re.sub(rb"[^ -~]", lambda match: rb"\x%02x" % match[0][0], target).decode()
        sender.popen.stdin.write(line(f"GET {logged} HTTP/1.1", client="127.0.0.1"))
        sender.popen.stdin.flush()
        host.wait(len(clients))
    assert host.clients == clients


def lines_from_our_penlogd(lab, penlogd):
    """`tail -f logfile | penlogd loghost 10000`, as the original's how-to has it."""
    host = Penlogd(lab, "-b" if penlogd == original("penlogd") else "-f", program=penlogd)
    host.send("127.0.0.1", record("127.0.1.9", "127.0.0.1", "GET /one HTTP/1.1"))
    done = lab.run("penlogd", "127.0.0.1", host.port, stdin=line("GET /one HTTP/1.1", client="127.0.0.1"))
    assert done == (0, "", "")
    host.wait(1)
    assert host.clients == ["127.0.1.9"]


def one_log_afterwards(lab, pen, mergelogs):
    """From pen's file, with two servers."""
    hosts = ["127.0.1.1", "127.0.1.2"]
    servers = [lab.backend(http, host=host) for host in hosts]
    balancer = lab.pen("-r", "-l", "pen.log", servers=servers, program=pen)
    expected = {}
    lines = {server.name: [] for server in servers}
    for number in range(20):
        source = f"127.0.2.{number}"
        with balancer.client(source=source) as client:
            server = client.get(f"/{number}")
        now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        lines[server].append(f'127.0.0.1 - - [{now}] "GET /{number} HTTP/1.1" 200 {number}\n')
        expected[str(number)] = source
    balancer.stop()
    for server in servers:
        lab.write(server.name, "".join(lines[server.name]))
    words = [f"{host}:{server.name}" for host, server in zip(hosts, servers, strict=True)]
    done = lab.run_words([*mergelogs, "-p", "pen.log", *words], env={**os.environ, "TZ": "UTC"})
    found = [(line.split()[-1], line.split()[0]) for line in done.out.splitlines()]
    assert (done.code, len(found), dict(found)) == (0, len(expected), expected)


def one_behind_the_other(lab, front, back):
    """Bytes arrive as they were sent, also of several clients at once, and each log has who came."""
    server = lab.backend(echo)
    inner = lab.pen("-r", "-l", "pen.log", servers=[server], program=back)
    outer = lab.pen("-r", servers=[inner.listen], program=front)
    clients = [outer.client(source=f"127.0.3.{number}") for number in range(5)]
    for round_ in range(5):
        sent = [random.Random(5 * round_ + number).randbytes(100_000) for number in range(5)]
        for client, data in zip(clients, sent, strict=True):
            client.send(b"hello\r\n" + data)
        for client, data in zip(clients, sent, strict=True):
            assert client.read(7 + len(data)) == b"hello\r\n" + data
    for client in clients:
        client.close()
    server.wait_idle()
    inner.stop()
    assert re.search(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 hello$", inner.log, re.MULTILINE)


def one_behind_the_other_over_udp(lab, front, back):
    udp = UdpPen(lab)
    inner = udp.start("-r", servers=[udp.server(udp_echo)], program=back)
    outer = udp.start("-r", servers=[inner.listen], program=front)
    clients = [udp.client(outer.address) for _ in range(10)]
    for number, client in enumerate(clients * 3):
        assert client.ask(b"question %d" % number) == b"question %d" % number


def who_asked_through_both(lab, front, back):
    """With -H on both, the client's address comes first."""
    heads = []

    def hear(conn, backend):
        heads.append(conn.recv(65536))
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    inner = lab.pen("-H", servers=[lab.backend(hear)], program=back)
    outer = lab.pen("-H", servers=[inner.listen], program=front)
    with outer.client(source="127.0.3.9") as client:
        client.get("/")
    (found,) = re.findall(rb"^X-Forwarded-For: (.*)\r$", heads[0], re.MULTILINE)
    assert found.split(b",")[0] == b"127.0.3.9"


def configuration(lab, writer, reader):
    """What one writes, the other starts with."""
    servers = lab.backends(3)
    first = lab.pen("-b", "7", "-T", "9", "-r", servers=servers, program=writer)
    told = ["acl 3 permit 10.0.0.0 255.0.0.0", "acl 4 deny 127.0.9.1", "client_acl 4", "server 2 max 4 acl 3"]
    for command in (*told, "stubborn", "timeout 5", f"write {lab.directory}/written.cfg"):
        first.command(command)
    expected = [first.command(command) for command in ("mode", "blacklist", "tracking", "timeout", "servers")]
    first.stop()
    second = lab.pen("-F", "written.cfg", listen=first.listen, program=reader)
    found = [second.command(command) for command in ("mode", "blacklist", "tracking", "timeout", "servers")]
    assert found == expected
    assert second.ask("127.0.9.1") == ""
    assert second.ask("127.0.9.2").startswith("s")
    if reader == tool("pen"):
        assert second.err == ""


MATRIX = [
    (every_command, "penctl", "pen"),
    (over_a_unix_socket, "penctl", "pen"),
    (one_log_live, "pen", "penlog", "penlogd"),
    (lines_from_our_penlogd, "penlogd"),
    (one_log_afterwards, "pen", "mergelogs"),
    (one_behind_the_other, "pen", "pen"),
    (one_behind_the_other_over_udp, "pen", "pen"),
    (who_asked_through_both, "pen", "pen"),
    (configuration, "pen", "pen"),
]


def mixtures():
    for what, *tools in MATRIX:
        for suites in itertools.product(SUITES, repeat=len(tools)):
            title = ", ".join(f"{suite} {name}" for suite, name in zip(suites, tools, strict=True))
            words = [SUITES[suite](name) for suite, name in zip(suites, tools, strict=True)]
            yield pytest.param(what, words, id=f"{what.__name__}: {title}")


@needs("original pen")
@pytest.mark.parametrize(("what", "words"), list(mixtures()))
def test_together(lab, what, words):
    what(lab, *words)


def test_every_command_that_takes_something_is_given_it():
    assert set(ARGUMENTS) == {row.name for row in commands.ROWS if row.args}
