"""The command lines of the how-to, letter by letter: the shell gets them as they are printed there, with the
names in /etc/hosts, the real low ports, real daemons, and clients that show who got whom."""

import contextlib
import os
import shutil
import struct

import pytest
from support.backend import http
from support.client import Client, ask
from support.loghost import LogHost, send
from support.network import add_address, inside, ip, join, names
from support.penlogd import line, record
from support.ports import listens
from support.programs import needs, tools_in
from support.tls import TlsClient
from support.waiting import wait_until

pytestmark = needs("root", "unshare", "mount", "ip")

CLIENTS = [f"{network}.{number}" for number in range(1, 5) for network in ("127.0.9", "10.66.0")]
"""From two networks: between two servers, a hash looks at nothing but the first byte."""

HERE = ["lbhost", "host1", "host2", "loghost", "address1", "address2", "server2"]
THERE = ["www1", "www2", "www3", "mailhost1", "mailhost2", "mailhost3", "otherhost"]
"""Those whose port pen listens on itself, at all local addresses: they need a machine of their own."""

ADDRESSES = {"localhost": "127.0.0.1"}
ADDRESSES |= {name: f"127.0.0.{number}" for number, name in enumerate(HERE, 11)}
ADDRESSES |= {name: f"10.77.0.{number}" for number, name in enumerate(THERE, 11)}
"""What /etc/hosts says."""

ALTERNATELY = ["s0", "s1"] * 4
"""What eight new clients get of two servers."""


def hashed(client, servers):
    (number,) = struct.unpack("<I", bytes(map(int, client.split("."))))
    return f"s{number % servers}"


BY_ADDRESS = [hashed(client, 2) for client in CLIENTS]

DAEMONS = [
    ("pen -l pen.log -p pen.pid lbhost:80 host1:80 host2:80", "lbhost:80", "host1:80 host2:80", ALTERNATELY),
    ("pen -l pen.log -p lbhost:80 host1:80 host2:80", "lbhost:80", "host1:80 host2:80", ALTERNATELY),
    ("pen lbhost:80 lbhost:8080", "lbhost:80", "lbhost:8080", ["s0"] * 8),
    ("pen address1:80 address2:80 server2:80", "address1:80", "address2:80 server2:80", ALTERNATELY),
    ("pen -l loghost:10000 lbhost:80 host1:80 host2:80", "lbhost:80", "host1:80 host2:80", ALTERNATELY),
    ("pen -l pen.log -p lbhost:443 host1:443 host2:443", "lbhost:443", "host1:443 host2:443", ALTERNATELY),
    ("pen -l pen80.log -p -h lbhost:80 host1:80 host2:80", "lbhost:80", "host1:80 host2:80", BY_ADDRESS),
    ("pen -l pen443.log -p -h lbhost:443 host1:443 host2:443", "lbhost:443", "host1:443 host2:443",
     BY_ADDRESS),
    ("pen -l pen.log -p -r lbhost:25 host1:25 host2:25", "lbhost:25", "host1:25 host2:25", ALTERNATELY),
    ("pen -l pen.log -p lbhost:21 host1:21 host2:21", "lbhost:21", "host1:21 host2:21", ALTERNATELY),
    ("pen 80 www1:8000:10 www2:80:10 www3", "lbhost:80", "www1:8000 www2:80 www3:80",
     ["s0", "s1", "s2", "s0", "s1", "s2", "s0", "s1"]),
    ("pen -p pen.pid pop3 localhost:1110 otherhost:pop3", "lbhost:110", "localhost:1110 otherhost:110",
     ALTERNATELY),
    ("pen smtp mailhost1:smtp mailhost2:25 mailhost3", "lbhost:25", "mailhost1:25 mailhost2:25 mailhost3:25",
     ["s0", "s1", "s2", "s0", "s1", "s2", "s0", "s1"]),
]  # fmt: skip
"""What is typed, where clients go, where servers are, whom eight new clients get."""

FOREGROUND = [
    ("pen -d -d -f 3890 localhost:389", "lbhost:3890", "localhost:389", ["s0"] * 8),
    (
        "pen -d -d -f 3890 localhost:389 localhost:390",
        "lbhost:3890",
        "localhost:389 localhost:390",
        ALTERNATELY,
    ),
    ("pen -df 2323 192.168.1.240:23", "lbhost:2323", "192.168.1.240:23", ["s0"] * 8),
]


def place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return ADDRESSES.get(host, host), int(port)


@pytest.fixture
def shell(lab, network):
    """Words that run what is typed, with our tools as `pen`, `penlog` ... and the names in /etc/hosts."""
    add_address("192.168.1.240")
    ip("route add local 10.66.0.0/24 dev lo")
    programs = tools_in(lab.directory / "bin")
    return [*names(ADDRESSES, lab.directory), "env", f"PATH={programs}:{os.environ['PATH']}", "sh", "-c"]


@pytest.fixture
def cluster(lab, network):
    """The other machine: a network of its own, at the other end of a cable."""
    machine = lab.spawn(["unshare", "--net", "sleep", "infinity"])
    wait_until(lambda: os.readlink(f"/proc/{machine.pid}/ns/net") != os.readlink("/proc/thread-self/ns/net"))
    join(machine.pid, "10.77.0.1", [ADDRESSES[name] for name in THERE])
    return machine.pid


def servers_at(lab, cluster, places: str) -> list:
    servers = []
    for host, port in map(place, places.split()):
        with inside(cluster) if host.startswith("10.") else contextlib.nullcontext():
            servers.append(lab.backend(host=host, port=port))
    return servers


def visits(address: tuple[str, int]) -> list[str]:
    return [ask(address, client) for client in CLIENTS]


def speak(address: tuple[str, int]) -> None:
    """One request, for the log."""
    with Client(address, "127.0.9.99") as client:
        client.line()
        client.talk(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("typed", "listener", "servers", "expected"), DAEMONS, ids=[row[0] for row in DAEMONS]
)
def test_in_the_background(lab, shell, cluster, typed, listener, servers, expected):
    loghost = lab.closing(LogHost(ADDRESSES["loghost"], 10000))
    running = servers_at(lab, cluster, servers)
    done = lab.run_words([*shell, typed])
    assert done == (0, "", "")
    assert visits(place(listener)) == expected
    assert visits(place(listener)) == (expected if " -r " not in typed else ALTERNATELY), "they come back"
    assert sum(server.accepted for server in running) == 16
    assert (lab.directory / "pen.pid").exists() == (" -p" in typed)
    if "loghost" in typed:
        speak(place(listener))
        (datagram,) = loghost.wait(1)
        assert datagram.startswith(b"+ 127.0.9.99 127.0.0.1")
        assert datagram.endswith(b" GET / HTTP/1.1\n")
    elif " -l " in typed:
        log = lab.directory / typed.split(" -l ")[1].split()[0]
        speak(place(listener))
        wait_until(lambda: log.read_text().startswith("127.0.9.99 "))


def test_tls(lab, shell, ca):
    """In front of servers that speak none."""
    shutil.copy(ca.issue("lbhost").both, lab.directory / "mycert.pem")
    for name in ("host1", "host2"):
        lab.backend(http, host=ADDRESSES[name], port=80)
    typed = "pen -l pen.log -p -E mycert.pem lbhost:443 host1:80 host2:80"
    assert lab.run_words([*shell, typed]) == (0, "", "")

    def visit(source):
        with TlsClient(place("lbhost:443"), source=source) as client:
            return client.get()

    assert [visit(source) for source in CLIENTS] == ALTERNATELY
    assert [visit(source) for source in CLIENTS] == ALTERNATELY, "they come back"
    log = lab.directory / "pen.log"
    wait_until(lambda: log.read_text().count(" GET / HTTP/1.1\n") == 16)
    assert log.read_text().startswith(f"{CLIENTS[0]} ")
    assert (lab.directory / "pen.pid").exists()


@pytest.mark.parametrize(
    ("typed", "listener", "servers", "expected"), FOREGROUND, ids=[row[0] for row in FOREGROUND]
)
def test_in_the_foreground(lab, shell, cluster, typed, listener, servers, expected):
    servers_at(lab, cluster, servers)
    pen = lab.spawn([*shell, typed])
    address = place(listener)
    wait_until(lambda: listens(pen.pid, address[1]))
    assert visits(address) == expected
    assert pen.alive
    assert CLIENTS[0] in pen.err, "debugging is on"


def test_without_a_server_yet(lab, shell):
    """`pen -df 2323`: it runs, and closes who comes."""
    pen = lab.spawn([*shell, "pen -df 2323"])
    wait_until(lambda: listens(pen.pid, 2323))
    assert visits(place("lbhost:2323")) == [""] * 8
    assert pen.alive


def test_penctl_names_the_servers(lab, shell, cluster):
    pen = lab.spawn([*shell, "pen -df -u root -C 2324 2323"])
    wait_until(lambda: listens(pen.pid, 2323) and listens(pen.pid, 2324))
    servers_at(lab, cluster, "192.168.1.240:23")
    typed = "penctl localhost:2324 server 0 address 192.168.1.240 port 23"
    assert lab.run_words([*shell, typed]) == (0, "", "")
    assert visits(place("lbhost:2323")) == ["s0"] * 8


def test_two_ports_of_one_cluster_send_a_client_to_the_same_server(lab, shell):
    """The pair of lines with -h, at the same time: http and https of a client meet on one server."""
    for port in (80, 443):
        for number, name in enumerate(("host1", "host2")):
            lab.backend(host=ADDRESSES[name], port=port, name=f"s{number}")
    for typed in (DAEMONS[6][0], DAEMONS[7][0]):
        assert lab.run_words([*shell, typed]).code == 0
    assert visits(place("lbhost:80")) == visits(place("lbhost:443")) == BY_ADDRESS


@pytest.mark.parametrize(
    "typed",
    ["tail -f access_log | penlogd loghost 10000", "penlog loghost 10000 < access_log"],
)
def test_the_lines_of_a_web_server_reach_the_log_host(lab, shell, typed):
    """The how-to's `tail -f /path/to/logfile | penlogd loghost 10000`, and what Apache's CustomLog starts."""
    lab.write("access_log", line().decode())
    loghost = lab.closing(LogHost(ADDRESSES["loghost"], 10000))
    lab.spawn([*shell, typed])
    assert loghost.wait(1) == [line()]


def test_the_log_host_writes_the_true_client(lab, shell):
    """`penlogd -l access_log 10000` on loghost; pen's record and the web server's line meet there."""
    done = lab.run_words([*shell, "penlogd -l access_log -p penlogd.pid 10000"])
    assert done == (0, "", "")
    web = ADDRESSES["host1"]
    send(ADDRESSES["lbhost"], (ADDRESSES["loghost"], 10000), record("192.0.2.7", web))
    send(web, (ADDRESSES["loghost"], 10000), line())
    wait_until(lambda: (lab.directory / "access_log").read_bytes() == line(client="192.0.2.7"))


def test_the_logs_of_the_servers_are_merged(lab, shell):
    """`mergelogs -p pen.log > access_log`, with those of servers beside it; the new one is none of them."""
    lab.write("pen.log", f"192.0.2.7 971186136 {ADDRESSES['host1']} GET / HTTP/1.1\n")
    lab.write("access_log.host1", line().decode())
    assert lab.run_words([*shell, "mergelogs -p pen.log > access_log"]).code == 0
    assert (lab.directory / "access_log").read_bytes() == line(client="192.0.2.7")
