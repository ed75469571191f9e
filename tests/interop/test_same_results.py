"""Where the two suites do not differ on purpose, each does what the other does, to the letter."""

import os
import time

import pytest
from support.nsd import Nsd
from support.pen import control_options
from support.penlogd import Penlogd, line, record
from support.ports import free_port
from support.process import run
from support.programs import find, needs, original, tool

pytestmark = needs("original pen")

SAME = [
    "mode", "blacklist", "blacklist 7", "client_acl", "client_acl 3", "control_acl 4", "clients_max",
    "clients_max 3000", "clients_max 10", "conn_max", "conn_max 600", "conn_max 10", "debug", "timeout",
    "timeout 9", "tracking", "tracking 99", "idle_timeout", "idle_timeout 5", "web_stats", "web_stats x.html",
    "no web_stats", "log", "no log", "servers", "listen", "recent", "hash", "no hash", "stubborn", "weight",
    "prio", "roundrobin", "mode", "tcp_nodelay", "keepalive", "ascii", "acl 5 permit 10.0.0.1",
    "acl 5 deny 10.0.0.0 255.0.0.0", "no acl 5", "pending_max 20", "tcp_fastclose up",
    "server 0 max 5 hard 6 weight 7 prio 8", "servers", "server 0 blacklist 9", "close 999999",
    "connection 999999", "close -1", "connection -1", "socket 1", "socket -1", "frobnicate x", "exit",
]  # fmt: skip
"""Commands whose replies are the original's to the letter."""


@pytest.fixture
def pair(lab):
    """The original and ours in front of the same servers, each with a control port."""
    servers = lab.backends(3)

    def start(program, *options):
        port = free_port()
        control = control_options(f"127.0.0.1:{port}")
        pen = lab.pen(*control, *options, servers=servers, control="", program=program)
        pen.at = f"127.0.0.1:{port}"
        return pen

    def both(*options):
        return start(original("pen"), *options), start(tool("pen"), *options)

    return both


def ask(program, pen, command):
    done = run([*program, pen.at, *command.split()])
    assert done.err == ""
    return done.out


def test_the_same_replies(pair):
    theirs, ours = pair()
    expected = [(command, ask(original("penctl"), theirs, command)) for command in SAME]
    expected = [(command, reply.replace(theirs.listen, ours.listen)) for command, reply in expected]
    assert [(command, ask(original("penctl"), ours, command)) for command in SAME] == expected


def test_the_same_connections(pair):
    """But for the descriptors, and for what is pending just then."""
    shown = []
    for pen in pair("-h"):
        clients = [pen.client(source=source) for source in ("127.0.0.7", "127.0.0.8", "127.0.0.7")]
        assert all(client.line() for client in clients)
        replies = [ask(original("penctl"), pen, f"connection {number}") for number in (0, 1, 2, -1)]
        shown.append(
            [
                [line for line in reply.splitlines() if "fd" not in line and "pend" not in line]
                for reply in replies
            ]
        )
    assert shown[0] == shown[1]


@pytest.mark.parametrize("options", [["-h"], ["-h", "-r"]], ids=["hash", "hash and port"])
def test_a_client_gets_the_same_server_of_both(pair, options):
    """A pair of balancers may be replaced one at a time."""
    theirs, ours = pair(*options)
    for number in range(20):
        with theirs.client(source=f"127.0.3.{number}") as client:
            name, port = client.line(), client.port
        with ours.client(source=(f"127.0.3.{number}", port)) as client:
            assert client.line() == name


@pytest.mark.parametrize("options", [["-W"], ["-O", "prio"]])
def test_the_same_servers_by_weight_and_priority(pair, options):
    theirs, ours = pair("-r", *options)
    for pen in (theirs, ours):
        for number, (weight, prio) in enumerate([(1, 3), (3, 1), (2, 2)]):
            ask(tool("penctl"), pen, f"server {number} weight {weight} prio {prio}")
    got = []
    for pen in (theirs, ours):
        got.append([pen.client(source=f"127.0.3.{number}").line() for number in range(12)])
    assert got[0] == got[1]


def test_the_same_log(lab):
    """One request a chunk, no control characters: where the two do not differ on purpose."""
    logs = []
    for program in (original("pen"), tool("pen")):
        pen = lab.pen("-r", "-l", "pen.log", servers=[lab.backend(host="127.0.1.1")], program=program)
        for number, request in enumerate(
            [b"GET / HTTP/1.1", b"GET /" + b"a" * 200, b"GET /\xe4\xff HTTP/1.0"]
        ):
            with pen.client(source=f"127.0.3.{number}") as client:
                client.line()
                client.talk(request + b"\r\nHost: x\r\n\r\n")
        pen.stop()
        logs.append([(client, *rest) for client, _, *rest in map(str.split, pen.log.splitlines())])
        pen.log_file.unlink()
    assert logs[0] == logs[1]
    assert len(logs[0]) == 3


WEB = "127.0.0.21"


def test_the_same_log_of_a_cluster_live(lab):
    """One stream of records and lines without doubtful ones."""
    ours, theirs = Penlogd(lab), Penlogd(lab, "-b", program=original("penlogd"))
    for penlogd in (ours, theirs):
        for number in range(100):
            penlogd.send("127.0.0.1", record(f"192.0.2.{number}", WEB, f"GET /{number} HTTP/1.1"))
            penlogd.send(WEB, line(f"GET /{number} HTTP/1.1", agent="x" * number))
    assert ours.wait(100) == theirs.wait(100)


def test_the_same_log_of_a_cluster_afterwards(lab):
    """With TZ=UTC, requests that are nobody else's, all of them short."""
    servers = ["192.0.2.21", "192.0.2.22"]
    written = dict.fromkeys(("pen.log", *servers), "")
    for number in range(300):
        at, server = 1_700_000_000 + 3 * number, servers[number % 2]
        written["pen.log"] += f"10.1.1.{number % 250} {at} {server} GET /{number} HTTP/1.1\n"
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
        written[server] += f'127.0.0.1 - - [{stamp}] "GET /{number} HTTP/1.1" 200 5\n'
    for name, text in written.items():
        lab.write(name, text)
    words = ["-p", "pen.log", *(f"{server}:{server}" for server in servers)]
    ours, theirs = (
        lab.run_words([*program, *words], env={**os.environ, "TZ": "UTC"})
        for program in (tool("mergelogs"), original("mergelogs"))
    )
    assert ours.code == theirs.code == 0
    differing = set(ours.out.splitlines()) ^ set(theirs.out.splitlines())
    assert len(differing) <= 2, "the original may take an hour from one line"


@needs("nsd", "dig")
def test_the_same_answers_of_name_servers(lab, udp):
    servers = [Nsd(lab, name) for name in ("ns1", "ns2")]
    answers = []
    for program in (original("pen"), tool("pen")):
        host, port = udp.start(servers=servers, program=program).address
        dig = [str(find("dig")), f"@{host}", "-p", str(port), "+short", "+tries=1", "+timeout=5"]
        names = ("www.example.test", "nobody.example.test")
        answers.append([lab.run_words([*dig, name]).out for name in names])
    assert answers == [["192.0.2.80\n", ""]] * 2
