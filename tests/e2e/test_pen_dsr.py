"""Direct server return and the tarpit, on an Ethernet of network namespaces: a client, pen, two servers."""

import contextlib
import hashlib
import os
import socket
import subprocess

import pytest
from support.backend import Backend
from support.client import Client
from support.network import Switch, inside
from support.programs import find, needs
from support.waiting import wait_until

pytestmark = needs("root", "ip", "unshare")

VIP, PORT = "10.9.0.100", 80
CLIENTS = [f"10.9.0.{number}" for number in range(11, 19)]
SERVERS = ["10.9.0.2", "10.9.0.3"]


class Hosts:
    """The client with its addresses, the host of pen, and the servers."""

    def __init__(self, lab, servers=2):
        self.lab = lab
        switch = Switch(lab)
        self.client = switch.host("10.9.0.10")
        with inside(self.client):
            for address in CLIENTS:
                subprocess.run([find("ip"), "address", "add", f"{address}/24", "dev", "eth0"], check=True)
        self.pens = switch.host("10.9.0.1")
        self.servers = [switch.host(address, VIP) for address in SERVERS[:servers]]
        self.backends = []
        for number, pid in enumerate(self.servers):
            with inside(pid):
                self.backends.append(lab.backend(host=VIP, port=PORT, name=f"s{number}"))

    def pen(self, *options, servers=SERVERS, listen=f"{VIP}:{PORT}", control="./ctl"):
        with inside(self.pens):
            words = ["-f", "-u", "root", "-C", control, "-O", "dsr_if eth0", *options, listen, *servers]
            ctl = self.lab.directory / "ctl"
            pen = self.lab.pen_as_typed(*words, listen="127.0.0.1:1", control=str(ctl), wait=False)
            wait_until(lambda: not pen.alive or ctl.exists(), "pen runs")
            assert pen.alive, pen.err
            return pen

    def ask(self, source=CLIENTS[0], address=(VIP, PORT)):
        """Who answers; empty if nobody does."""
        with (
            inside(self.client),
            contextlib.suppress(OSError, TimeoutError),
            Client(address, source, seconds=2) as client,
        ):
            return client.line()
        return ""

    def commands(self, *words):
        done = self.lab.run("penctl", str(self.lab.directory / "ctl"), *words)
        assert done.code == 0, done
        return done.out

    def serving(self):
        """Wait until somebody answers: pen has asked for the servers' addresses."""
        wait_until(lambda: self.ask(), "somebody answers")


@pytest.fixture
def hosts(lab, network):
    return Hosts(lab)


def slot(client: str) -> int:
    found = 0
    for part in client.split("."):
        found ^= int(part)
    return found


def test_servers_answer_clients_directly(hosts):
    pen = hosts.pen()
    hosts.serving()
    answered = {client: hosts.ask(client) for client in CLIENTS}
    assert set(answered.values()) == {"s0", "s1"}
    assert {client: hosts.ask(client) for client in CLIENTS} == answered, "a client stays where it is"
    peers = {peer for backend in hosts.backends for peer in backend.peers}
    assert peers == set(CLIENTS), "the servers see the clients themselves"
    assert pen.alive
    assert pen.err == ""


def test_large_transfers_arrive_whole(lab, network):
    """Segments that the kernel joined on the way are divided again, and checksums are right."""
    hosts = Hosts(lab, servers=1)
    data = os.urandom(1 << 20) * 8

    def swallow(conn: socket.socket, backend: Backend) -> None:
        digest = hashlib.sha256()
        while chunk := conn.recv(1 << 16):
            digest.update(chunk)
        conn.sendall(digest.hexdigest().encode() + b"\n")

    hosts.backends[0].talk = swallow
    hosts.pen(servers=SERVERS[:1])
    with inside(hosts.client):
        for _ in range(3):
            with contextlib.suppress(OSError), socket.create_connection((VIP, PORT), timeout=20) as sock:
                break
        with socket.create_connection((VIP, PORT), timeout=20) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.makefile().readline().strip() == hashlib.sha256(data).hexdigest()


def test_weights_fill_the_table(hosts):
    hosts.pen("-O", "server 0 weight 3", "-O", "server 1 weight 1")
    hosts.serving()
    with inside(hosts.client):
        for number in range(20, 84):
            subprocess.run([find("ip"), "address", "add", f"10.9.0.{number}/24", "dev", "eth0"], check=True)
    answered = [hosts.ask(f"10.9.0.{number}") for number in range(20, 84)]
    assert sorted(set(answered)) == ["s0", "s1"]
    assert answered.count("s0") == 48


def test_with_r_the_port_counts_too(hosts):
    hosts.pen("-r")
    hosts.serving()
    assert {hosts.ask() for _ in range(20)} == {"s0", "s1"}


def test_a_server_that_is_blacklisted_is_left_out_and_comes_back(hosts):
    hosts.pen()
    hosts.serving()
    client = next(client for client in CLIENTS if hosts.ask(client) == "s1")
    hosts.commands("server", "1", "blacklist", "100")
    wait_until(lambda: hosts.ask(client) == "s0", "server 1 is left out")
    hosts.commands("server", "1", "blacklist", "0")
    wait_until(lambda: hosts.ask(client) == "s1", "server 1 is back")


def test_a_server_that_is_not_there_is_left_out(lab, network):
    hosts = Hosts(lab, servers=1)
    hosts.pen()
    hosts.serving()
    assert {hosts.ask(client) for client in CLIENTS} == {"s0"}


def test_other_ports_are_not_served_unless_all_are(hosts):
    for pid in hosts.servers:
        with inside(pid):
            hosts.lab.backend(host=VIP, port=8080, name="other")
    pen = hosts.pen()
    hosts.serving()
    assert hosts.ask(address=(VIP, 8080)) == ""
    pen.stop()
    hosts.pen(listen=VIP)
    hosts.serving()
    assert hosts.ask(address=(VIP, 8080)) == "other"


def test_clients_that_are_denied_get_nothing(hosts):
    hosts.pen("-O", f"acl 0 deny {CLIENTS[0]}")
    wait_until(lambda: hosts.ask(CLIENTS[1]), "somebody answers")
    assert hosts.ask(CLIENTS[0]) == ""


def test_arp_is_answered_for_the_address_only(hosts):
    hosts.pen()
    hosts.serving()
    with inside(hosts.client):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("10.9.0.99", 9))
        shown = subprocess.run([find("ip"), "neigh"], capture_output=True, text=True, check=True).stdout
    assert f"{VIP} dev eth0 lladdr" in shown
    assert "10.9.0.99 dev eth0 lladdr" not in shown


def test_the_tarpit_answers_syns_and_nothing_more(hosts):
    hosts.pen("-O", "acl 3 permit 10.9.0.200/29", "-O", "tarpit_acl 3")
    hosts.serving()
    assert hosts.commands("tarpit_acl") == "tarpit_acl = 3\n"
    with inside(hosts.client), socket.create_connection(("10.9.0.203", 4444), timeout=10) as stuck:
        stuck.settimeout(0.5)
        stuck.sendall(b"hello?")
        with pytest.raises(TimeoutError):
            stuck.recv(1)
    with inside(hosts.client), pytest.raises(OSError, match=r"No route|timed out"):
        socket.create_connection(("10.9.0.210", 4444), timeout=5)
    with inside(hosts.client), pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection(("10.9.0.1", 4444), timeout=2)


def test_without_a_tarpit_the_reply_says_so(hosts):
    hosts.pen()
    assert hosts.commands("tarpit_acl") == "tarpit_acl = -1\n"


class TestRefused:
    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (
                ["-O", "dsr_if nosuch", f"{VIP}:80", "10.9.0.2"],
                "direct server return on nosuch: No such device",
            ),
            (["-O", "dsr_if lo", "80", "10.9.0.2"], "not an IPv4 address"),
            (["-O", "dsr_if lo", "[::1]:80", "10.9.0.2"], "not an IPv4 address"),
        ],
    )
    def test_at_start(self, lab, words, why):
        done = lab.run("pen", "-f", *words)
        assert done.code in (1, 2)
        assert why in done.err.splitlines()[0]

    def test_while_pen_runs(self, lab):
        assert "start-up" in lab.pen().command("dsr_if lo")

    def test_to_listen_elsewhere(self, hosts):
        pen = hosts.pen()
        assert (
            "direct server return"
            in hosts.lab.run("penctl", str(hosts.lab.directory / "ctl"), "listen", "81").out
        )
        assert pen.alive


def test_garbage_on_the_wire_does_no_harm(hosts):
    pen = hosts.pen()
    hosts.serving()
    with inside(hosts.client), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for kind in (b"\x08\x00", b"\x08\x06"):
            for size in range(60):
                wire.send(b"\xff" * 6 + b"\x02" * 6 + kind + os.urandom(size))
    hosts.serving()
    assert pen.err == ""
