"""Direct server return and the tarpit, on an Ethernet of network namespaces: a client, pen, two servers."""

import contextlib
import hashlib
import os
import re
import shlex
import socket
import struct
import subprocess

import pytest
from support.backend import Backend
from support.daemons import with_capability
from support.dsr import CLIENTS, PORT, SERVERS, VIP, Hosts
from support.network import inside, ip
from support.programs import find, needs
from support.waiting import PATIENCE, wait_until

from penlib.frames import checksum

pytestmark = needs("root", "ip", "unshare")


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
    assert hosts.ask(client) == "s0", "from the next frame on"
    hosts.commands("server", "1", "blacklist", "0")
    assert hosts.ask(client) == "s1"
    hosts.commands("server", "1", "weight", "300")
    assert [hosts.ask(client) for client in CLIENTS] == ["s1"] * len(CLIENTS)


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


def test_what_is_written_starts_the_same_again(hosts):
    pen = hosts.pen("-O", "acl 3 permit 10.9.0.200/29", "-O", "tarpit_acl 3", listen=VIP)
    assert hosts.commands("listen") == f"{VIP}\n"
    written = hosts.lab.directory / "written.cfg"
    hosts.commands("write", str(written))
    pen.stop()
    words = shlex.split(written.read_text().splitlines()[0].removeprefix("# pen "))
    with inside(hosts.pens):
        again = hosts.lab.pen_as_typed(*words, listen="127.0.0.1:1", wait=False)
    hosts.serving()
    assert again.err == ""
    hosts.commands("write", str(hosts.lab.directory / "again.cfg"))
    assert (hosts.lab.directory / "again.cfg").read_text().splitlines()[
        2:
    ] == written.read_text().splitlines()[2:]
    again.hup()
    hosts.commands("pid")
    assert again.err == "", "what stays as it is may be said again"


class Wire:
    """All that comes to the client's Ethernet, to be looked at frame by frame."""

    def __init__(self, hosts):
        with inside(hosts.client):
            self.socket = hosts.lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            self.socket.bind(("eth0", 3))  # ETH_P_ALL
        self.socket.settimeout(PATIENCE)

    def frame(self, wanted):
        """The next one, of others, that `wanted(frame)` accepts."""
        while True:
            frame, (_, _, kind, *_) = self.socket.recvfrom(1 << 16)
            if kind != socket.PACKET_OUTGOING and wanted(frame):
                return frame


def test_neighbours_learn_at_once_who_has_the_address(hosts):
    """They may still know the pen of another host."""
    wire = Wire(hosts)
    hosts.pen()
    address = socket.inet_aton(VIP)
    said = wire.frame(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == address)
    assert said[38:42] == address
    assert said[:6] == b"\xff" * 6


def test_another_host_takes_over(hosts):
    """The client's kernel knows the first one, and would for some time: it does not have to ask again."""
    first = hosts.pen()
    hosts.serving()
    first.stop()
    second = hosts.pen("-d", host=hosts.spare)
    second.says("is at", times=2)
    assert hosts.ask()


def test_a_server_that_does_not_answer_is_asked_again_and_one_that_does_is_not(lab, network):
    """Every second, and in a minute."""
    hosts = Hosts(lab, servers=1)
    wire = Wire(hosts)
    hosts.pen()
    asked = []
    while asked.count(SERVERS[1]) < 4:
        question = wire.frame(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == b"\x0a\x09\0\x01")
        asked.append(socket.inet_ntoa(question[38:42]))
    assert asked.count(SERVERS[0]) == 1


def ipv4(source, destination, protocol, payload, fragment=0, number=7):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, fragment, 63, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


class TestAsFrames:
    """What pen sends on, where the kernels of clients and servers would hide it."""

    @pytest.fixture
    def wires(self, hosts):
        """Puts IPv4 packets on the wire, addressed to pen, and answers which server they come to, and how."""
        pen_mac = self.mac(hosts.pens)
        sockets = {}
        for name, pid in {"client": hosts.client, "s0": hosts.servers[0], "s1": hosts.servers[1]}.items():
            with inside(pid):
                sockets[name] = hosts.lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
                sockets[name].bind(("eth0", 0x0800 if name != "client" else 0))
                sockets[name].setblocking(False)

        def send(packet):
            sockets["client"].send(pen_mac + b"\x02\0\0\0\0\x63" + b"\x08\0" + packet)

            def arrived():
                for name in ("s0", "s1"):
                    with contextlib.suppress(BlockingIOError):
                        while frame := sockets[name].recvfrom(1 << 16)[0]:
                            if frame[14 : 14 + len(packet)] == packet:
                                return name, frame
                return None

            return wait_until(arrived, "the packet comes to a server")

        return send

    def mac(self, pid):
        with inside(pid):
            shown = subprocess.run(
                [find("ip"), "link", "show", "eth0"], capture_output=True, text=True, check=True
            )
        return bytes.fromhex(re.search(r"link/ether (\S+)", shown.stdout)[1].replace(":", ""))

    def test_only_hardware_addresses_change(self, hosts, wires):
        """Not even the time to live."""
        hosts.pen()
        hosts.serving()
        segment = struct.pack("!HHIIBBHHH", 999, PORT, 1, 0, 5 << 4, 0x10, 99, 0, 0) + b"data"
        number, frame = wires(ipv4(CLIENTS[0], VIP, 6, segment))
        server = hosts.servers[int(number[1])]
        assert frame[:14] == self.mac(server) + self.mac(hosts.pens) + b"\x08\0"

    def test_all_fragments_of_a_datagram_go_to_one_server(self, hosts, wires):
        """With -r, too, though only the first of them has a port."""
        hosts.pen("-d", "-U", "-r", listen=VIP).says("is at", times=2)
        for port in range(1000, 1020):
            first = ipv4(CLIENTS[0], VIP, 17, struct.pack("!HHHH", port, 53, 24, 0), 0x2000, port)
            last = ipv4(CLIENTS[0], VIP, 17, b"x" * 16, 1, port)
            assert wires(first)[0] == wires(last)[0]

    def test_what_routers_say_of_answers_goes_to_the_server_that_sent_them(self, hosts, wires):
        """Or else no server would learn that its answers are too large for a client's way."""
        hosts.pen()
        hosts.serving()
        for client in CLIENTS:
            answer = ipv4(VIP, client, 6, struct.pack("!HHI", PORT, 999, 1))
            too_large = struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + answer
            assert wires(ipv4("10.9.0.254", VIP, 1, too_large))[0] == hosts.ask(client)


def test_an_interface_that_goes_down_is_said(hosts):
    pen = hosts.pen()
    with inside(hosts.pens):
        subprocess.run([find("ip"), "link", "set", "eth0", "down"], check=True)
    pen.says("^pen: direct server return on eth0: Network is down$")
    with inside(hosts.pens):
        subprocess.run([find("ip"), "link", "set", "eth0", "up"], check=True)
    hosts.serving()


def test_an_interface_that_is_made_anew_is_used_again(hosts):
    """As a VLAN or a bridge is by network scripts; pen has lost its privileges by then."""
    pen = hosts.pen("-d", "-u", "nobody")
    hosts.serving()
    with inside(hosts.pens):
        subprocess.run([find("ip"), "link", "delete", "eth0"], check=True)
    pen.says("eth0: Network is down")
    ip(f"link add again type veth peer name eth0 netns {hosts.pens}")
    ip("link set again master br0 up")
    with inside(hosts.pens):
        ip("address add 10.9.0.1/24 dev eth0")
        ip("link set eth0 up")
    hosts.serving()


def test_one_capability_is_enough(hosts):
    """As a unit of systemd gives it."""
    with inside(hosts.pens):
        words = [
            *with_capability("net_raw"),
            *hosts.lab.tool("pen"),
            "-f",
            "-O",
            "dsr_if eth0",
            VIP,
            *SERVERS,
        ]
        pen = hosts.lab.spawn(words)
    hosts.serving()
    assert pen.err == ""


def test_another_hardware_address_is_told(hosts):
    hosts.pen()
    hosts.serving()
    wire = Wire(hosts)
    with inside(hosts.pens):
        ip("link set eth0 address 02:00:00:00:00:77")
    address = socket.inet_aton(VIP)
    said = wire.frame(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == address)
    assert said[22:28] == b"\x02\0\0\0\0\x77"
    hosts.serving()


def test_options_that_mean_nothing_here_are_said(hosts):
    pen = hosts.pen("-l", "pen.log", "-H")
    assert pen.err.splitlines() == [
        f"pen: option {option}: does nothing with direct server return" for option in ("-H", "-l")
    ]


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
            (["-O", "dsr_if lo", VIP, "[::1]:80"], "server 0 ([::1]:80) has no IPv4 address"),
            (["-O", "dsr_if lo", VIP, "10.9.0.2", "/run/s"], "server 1 (/run/s) has no IPv4 address"),
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
