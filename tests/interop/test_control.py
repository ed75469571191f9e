"""The original pen 0.34.1 and its penctl as peers of ours: who knew the one can work with the other."""

import pytest
from support.pen import control_options
from support.ports import free_port
from support.process import run
from support.programs import needs, original, tool

pytestmark = needs("original pen")

SAME = [
    "mode", "blacklist", "blacklist 7", "client_acl", "client_acl 3", "control_acl 4", "clients_max",
    "clients_max 3000", "clients_max 10", "conn_max", "conn_max 600", "conn_max 10", "debug", "timeout",
    "timeout 9", "tracking", "tracking 99", "idle_timeout", "idle_timeout 5", "web_stats", "web_stats x.html",
    "no web_stats", "log", "no log", "servers", "listen", "recent", "hash", "no hash", "stubborn", "weight",
    "prio", "roundrobin", "mode", "tcp_nodelay", "keepalive", "ascii", "acl 5 permit 10.0.0.1",
    "acl 5 deny 10.0.0.0 255.0.0.0", "no acl 5", "pending_max 20", "tcp_fastclose up",
    "server 0 max 5 hard 6 weight 7 prio 8", "servers", "server 0 blacklist 9", "close 999999",
    "connection 999999", "socket 1", "frobnicate x", "exit",
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


def test_each_penctl_with_each_pen(pair):
    for pen in pair():
        for penctl in (original("penctl"), tool("penctl")):
            assert ask(penctl, pen, "pid") == f"{pen.pid}\n"
            assert ask(penctl, pen, "servers").count("\n") == 3
            assert ask(penctl, pen, "roundrobin") == ""


def test_the_original_penctl_over_a_unix_socket(lab):
    pen = lab.pen(servers=lab.backends(1))
    assert run([*original("penctl"), pen.control, "pid"]).out == f"{pen.pid}\n"


def test_our_penctl_over_the_originals_unix_socket(lab):
    pen = lab.pen(servers=lab.backends(1), program=original("pen"))
    assert lab.penctl(pen.control, "pid") == (0, f"{pen.pid}\n", "")


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


def test_our_pen_reads_what_the_original_writes(pair, lab):
    theirs, ours = pair("-b", "7", "-T", "9", "-r")
    for pen in (theirs, ours):
        for command in (
            "acl 3 permit 10.0.0.0 255.0.0.0",
            "acl 4 deny 127.0.0.1",
            "server 1 max 4 acl 3",
            "prio",
        ):
            ask(tool("penctl"), pen, command)
    ask(tool("penctl"), theirs, f"write {lab.directory}/theirs.cfg")
    written = (lab.directory / "theirs.cfg").read_text()
    assert "acl 3 permit 10.0.0.0 255.0.0.0" in written
    reader = lab.pen("-F", "theirs.cfg")
    assert "no http" in written
    assert reader.err == ""
    assert reader.command("mode") == "no hash roundrobin no stubborn no weight prio\n"
    assert reader.command("servers") == ask(tool("penctl"), ours, "servers")
    assert (reader.command("blacklist"), reader.command("tracking")) == ("7\n", "9\n")
    reader.command("write ours.cfg")
    lists = [line for line in written.splitlines() if line.startswith("acl ")]
    assert [
        line for line in (lab.directory / "ours.cfg").read_text().splitlines() if line.startswith("acl ")
    ] == lists
