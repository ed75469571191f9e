"""Which server a new connection gets first: the rules of selection, one by one and in their order."""

import socket
import struct

import pytest
from support.network import add_address
from support.ports import free_port
from support.programs import needs
from support.waiting import let_pass, wait_until

CLIENTS = [f"127.0.0.{number}" for number in range(101, 121)]


def distinct(pen, count):
    """The servers that as many clients, each new, get; their connections stay open."""
    clients = [pen.client(source=source) for source in CLIENTS[:count]]
    try:
        return [client.line() for client in clients]
    finally:
        for client in clients:
            client.close()


def keep_open(lab, pen, count):
    """The same, one after the other, and open until the test ends."""
    return [lab.client(pen.address, source).line() for source in CLIENTS[:count]]


def come_back(lab, pen, count):
    """The servers that one client gets who comes again and again, with all its connections kept open."""
    return [lab.client(pen.address, CLIENTS[0]).line() for _ in range(count)]


def hashed(address, servers, port=0):
    """The IPv4 address as the little-endian integer of its network bytes, xor the port's, modulo."""
    (number,) = struct.unpack("<I", socket.inet_aton(address))
    (swapped,) = struct.unpack("<H", struct.pack("!H", port))
    return f"s{(number ^ swapped) % servers}"


class TestRoundRobin:
    def test_begins_with_the_first_server(self, lab):
        pen = lab.pen("-r", servers=lab.backends(3))
        assert pen.asks(7) == ["s0", "s1", "s2", "s0", "s1", "s2", "s0"]

    def test_for_new_clients(self, lab):
        pen = lab.pen(servers=lab.backends(3))
        assert distinct(pen, 6) == ["s0", "s1", "s2", "s0", "s1", "s2"]

    def test_one_server(self, lab):
        assert lab.pen("-r", servers=lab.backends(1)).asks(3) == ["s0"] * 3

    def test_passes_over_blacklisted_servers(self, lab):
        pen = lab.pen("-r", servers=lab.backends(3))
        pen.command("server 1 blacklist 60")
        assert pen.asks(4) == ["s0", "s2", "s0", "s2"]
        pen.command("server 1 blacklist 0")
        assert sorted(pen.asks(3)) == ["s0", "s1", "s2"]

    def test_passes_over_full_servers(self, lab):
        a, b, c = lab.backends(3)
        pen = lab.pen("-r", servers=[a, f"{b}:1", c])
        got = keep_open(lab, pen, 6)
        assert got[:4] == ["s0", "s1", "s2", "s0"]
        assert got.count("s1") == 1

    def test_switched_on_and_off(self, lab):
        pen = lab.pen(servers=lab.backends(2))
        assert pen.asks(3) == ["s0"] * 3
        pen.command("roundrobin")
        assert sorted(pen.asks(2)) == ["s0", "s1"]
        pen.command("no roundrobin")
        assert len(set(pen.asks(3))) == 1


class TestTracking:
    def test_a_client_comes_back_to_its_server(self, lab):
        pen = lab.pen(servers=lab.backends(3))
        first = distinct(pen, 6)
        assert distinct(pen, 6) == first
        assert distinct(pen, 6) == first

    def test_it_is_the_address_that_counts_not_the_port(self, lab):
        pen = lab.pen(servers=lab.backends(2))
        assert pen.asks(5, CLIENTS[0]) == ["s0"] * 5

    def test_clients_on_unix_sockets_are_one_client(self, lab):
        pen = lab.pen(listen=f"{lab.directory}/in.sock", servers=lab.backends(2))
        assert pen.asks(3) == ["s0"] * 3

    @needs("ipv6")
    def test_ipv6_clients(self, lab, network):
        for last in (5, 6):
            add_address(f"fd00::{last}")
        pen = lab.pen(listen="[::1]:8000", servers=lab.backends(3))
        assert [pen.ask(f"fd00::{last}") for last in (5, 6, 5, 6)] == ["s0", "s1", "s0", "s1"]

    def test_failover_makes_the_new_server_the_clients(self, lab):
        servers = lab.backends(3)
        pen = lab.pen("-b", "1", servers=servers)
        assert pen.ask() == "s0"
        servers[0].stop()
        assert pen.ask() == "s1"
        servers[0].start()
        pen.command("server 0 blacklist 0")
        assert pen.asks(2) == ["s1", "s1"]

    def test_a_blacklisted_server_is_the_first_choice_still_and_failover_follows(self, lab):
        """Not round robin's next, which would be s0 here."""
        pen = lab.pen(servers=lab.backends(4))
        assert distinct(pen, 3) == ["s0", "s1", "s2"]
        pen.command("server 0 blacklist 60")
        assert pen.ask(CLIENTS[0]) == "s1", "the one after its own"

    def test_a_client_that_could_not_be_served_is_not_remembered(self, lab):
        server = lab.backend()
        emergency = lab.backend()
        pen = lab.pen("-e", str(emergency), servers=[server, lab.backend()])
        pen.command("server 0 blacklist 60")
        pen.command("server 1 blacklist 60")
        assert pen.ask() == "s1", "the emergency server"
        pen.command("server 0 blacklist 0")
        pen.command("server 1 blacklist 0")
        assert pen.asks(2) == ["s0", "s0"], "which is never remembered"

    def test_time_forgets(self, lab):
        pen = lab.pen("-T", "1", servers=lab.backends(2))
        assert pen.asks(3) == ["s0"] * 3
        let_pass(2.1)
        assert pen.ask() == "s1"

    def test_a_client_that_keeps_coming_is_not_forgotten(self, lab):
        pen = lab.pen("-T", "2", servers=lab.backends(2))
        for _ in range(5):
            assert pen.ask() == "s0"
            let_pass(0.5)

    def test_zero_never_forgets(self, lab):
        pen = lab.pen("-T", "0", servers=lab.backends(2))
        assert pen.ask() == "s0"
        let_pass(1.1)
        assert pen.ask() == "s0"

    def test_the_least_recently_used_goes_first(self, lab):
        pen = lab.pen("-c", "2", servers=lab.backends(4))
        a, b, c = CLIENTS[:3]
        assert [pen.ask(client) for client in (a, b)] == ["s0", "s1"]
        assert pen.ask(a) == "s0"
        assert pen.ask(c) == "s2", "which throws b out"
        assert pen.ask(a) == "s0"
        assert pen.ask(b) == "s3", "which throws c out"
        assert pen.ask(c) == "s0"

    def test_round_robin_mode_does_not_look(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        assert pen.asks(4) == ["s0", "s1", "s0", "s1"]


class TestPrio:
    def test_the_lowest_first(self, lab):
        a, b, c = lab.backends(3)
        pen = lab.pen("-r", "-O", "prio", servers=[f"{a}:0:0:0:3", f"{b}:0:0:0:1", f"{c}:0:0:0:2"])
        assert pen.asks(3) == ["s1"] * 3
        pen.command("server 1 blacklist 60")
        assert pen.asks(2) == ["s2"] * 2
        pen.command("server 2 blacklist 60")
        assert pen.asks(2) == ["s0"] * 2

    def test_ties_go_to_the_lowest_index(self, lab):
        a, b, c = lab.backends(3)
        pen = lab.pen("-r", "-O", "prio", servers=[f"{a}:0:0:0:2", f"{b}:0:0:0:1", f"{c}:0:0:0:1"])
        assert pen.asks(3) == ["s1"] * 3

    def test_only_in_prio_mode(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[f"{a}:0:0:0:2", f"{b}:0:0:0:1"])
        assert pen.asks(2) == ["s0", "s1"]
        pen.command("prio")
        assert pen.asks(2) == ["s1", "s1"]
        pen.command("no prio")
        assert sorted(pen.asks(2)) == ["s0", "s1"]

    def test_a_known_client_comes_first(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen(servers=[f"{a}:0:0:0:2", f"{b}:0:0:0:1"])
        assert pen.ask(CLIENTS[0]) == "s0"
        pen.command("prio")
        assert pen.ask(CLIENTS[0]) == "s0"
        assert pen.ask(CLIENTS[1]) == "s1"

    def test_before_weight(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-W", "-O", "prio", servers=[f"{a}:0:0:1:2", f"{b}:0:0:1:1"])
        assert keep_open(lab, pen, 3) == ["s1"] * 3

    def test_a_full_server_is_passed_over(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-O", "prio", servers=[f"{a}:1:0:0:1", f"{b}:0:0:0:2"])
        assert keep_open(lab, pen, 3) == ["s0", "s1", "s1"]


class TestWeight:
    def test_connections_in_proportion(self, lab):
        """256 * connections / weight: 0 0 | 256 0 | 256 85 | 256 170 | 256 256 | 512 256 ..."""
        a, b = lab.backends(2)
        pen = lab.pen("-W", servers=[f"{a}:0:0:1", f"{b}:0:0:3"])
        assert keep_open(lab, pen, 8) == ["s0", "s1", "s1", "s1", "s0", "s1", "s1", "s1"]

    def test_by_command(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-O", "weight", servers=[f"{a}:0:0:1", f"{b}:0:0:1"])
        assert pen.ask() == "s0"
        pen.wait_connections(0)
        assert pen.ask() == "s0", "nothing is open, so the first again"
        pen.wait_connections(0)
        pen.command("no weight")
        assert sorted(pen.asks(2)) == ["s0", "s1"]

    def test_a_server_without_weight_is_not_used(self, lab):
        a, b, c = lab.backends(3)
        pen = lab.pen("-W", servers=[a, f"{b}:0:0:1", c])
        assert keep_open(lab, pen, 4) == ["s1"] * 4

    def test_no_weight_at_all_is_round_robin(self, lab):
        pen = lab.pen("-W", servers=lab.backends(3))
        assert keep_open(lab, pen, 4) == ["s0", "s1", "s2", "s0"]

    def test_a_blacklisted_server_is_passed_over(self, lab):
        a, b, c = lab.backends(3)
        pen = lab.pen("-W", servers=[f"{a}:0:0:1", f"{b}:0:0:100", f"{c}:0:0:1"])
        pen.command("server 1 blacklist 60")
        assert keep_open(lab, pen, 4) == ["s0", "s2", "s0", "s2"]

    def test_a_known_client_comes_first(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-W", servers=[f"{a}:0:0:1", f"{b}:0:0:1"])
        assert come_back(lab, pen, 3) == ["s0"] * 3


class TestHash:
    @pytest.mark.parametrize("servers", [2, 3, 7])
    def test_of_an_ipv4_address(self, lab, servers):
        pen = lab.pen("-h", servers=lab.backends(servers))
        assert distinct(pen, 12) == [hashed(client, servers) for client in CLIENTS[:12]]

    def test_the_formula(self):
        """127.0.0.101 is 0x6500007f: worked out by hand, so that `hashed` itself is tested."""
        assert hashed("127.0.0.101", 7) == f"s{0x6500007F % 7}"
        assert hashed("127.0.0.101", 7, port=0x1234) == f"s{(0x6500007F ^ 0x3412) % 7}"

    def test_with_round_robin_the_port_counts_too(self, lab):
        pen = lab.pen("-hr", servers=lab.backends(7))
        for source in CLIENTS[:4]:
            for _ in range(4):
                with pen.client(source=source) as client:
                    assert client.line() == hashed(source, 7, client.port)

    def test_the_first_choice_only(self, lab):
        """A client is remembered: when failover moved it, it stays."""
        servers = lab.backends(3)
        pen = lab.pen("-h", servers=servers)
        mine = int(hashed(CLIENTS[0], 3)[1:])
        pen.command(f"server {mine} blacklist 60")
        moved = f"s{(mine + 1) % 3}"
        assert pen.ask(CLIENTS[0]) == moved
        pen.command(f"server {mine} blacklist 0")
        assert pen.ask(CLIENTS[0]) == moved

    def test_without_remembering(self, lab):
        """-N, which the original documented only."""
        servers = lab.backends(3)
        pen = lab.pen("-N", servers=servers)
        assert distinct(pen, 6) == [hashed(client, 3) for client in CLIENTS[:6]]
        mine = int(hashed(CLIENTS[0], 3)[1:])
        pen.command(f"server {mine} blacklist 60")
        assert pen.ask(CLIENTS[0]) == f"s{(mine + 1) % 3}"
        pen.command(f"server {mine} blacklist 0")
        assert pen.ask(CLIENTS[0]) == f"s{mine}"

    def test_by_command(self, lab):
        pen = lab.pen("-O", "hash", servers=lab.backends(3))
        assert distinct(pen, 6) == [hashed(client, 3) for client in CLIENTS[:6]]
        pen.command("no hash")
        assert "no hash" in pen.command("mode")

    @needs("ipv6")
    def test_of_an_ipv6_address(self, lab, network):
        """Its last byte."""
        last = [0x00, 0x05, 0x7F, 0xFE]
        for number in last:
            add_address(f"fd00::1:{number:x}")
        pen = lab.pen("-h", listen="[::]:8000", address=("fd00::1:5", 8000), servers=lab.backends(3))
        answers = [pen.ask(f"fd00::1:{number:x}") for number in last]
        assert answers == [f"s{number % 3}" for number in last]

    @needs("ipv6")
    def test_of_an_ipv4_client_on_a_listener_of_both_families(self, lab):
        pen = lab.pen("-h", listen=str(free_port()), servers=lab.backends(7))
        assert distinct(pen, 6) == [hashed(client, 7) for client in CLIENTS[:6]]


class TestLimits:
    def test_no_more_than_max(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[f"{a}:2", b])
        assert sorted(keep_open(lab, pen, 7)) == ["s0"] * 2 + ["s1"] * 5

    def test_a_known_client_may_go_up_to_hard(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen(servers=[f"{a}:1:3", b])
        assert come_back(lab, pen, 4) == ["s0", "s0", "s0", "s1"]

    def test_a_new_client_may_not(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen(servers=[f"{a}:1:3", b])
        assert keep_open(lab, pen, 4) == ["s0", "s1", "s1", "s1"]

    @pytest.mark.parametrize("hard", [0, 1, 2])
    def test_hard_must_be_greater_than_max(self, lab, hard):
        a, b = lab.backends(2)
        pen = lab.pen(servers=[f"{a}:2:{hard}", b])
        assert come_back(lab, pen, 3) == ["s0", "s0", "s1"]

    def test_without_max_hard_is_not_used(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen(servers=[f"{a}:0:1", b])
        assert come_back(lab, pen, 3) == ["s0"] * 3

    def test_all_full_is_the_end(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[f"{a}:1", f"{b}:1"])
        assert keep_open(lab, pen, 2) == ["s0", "s1"]
        assert pen.ask() == ""

    def test_all_full_and_an_emergency_server(self, lab):
        a, b, emergency = lab.backends(3)
        pen = lab.pen("-r", "-e", str(emergency), servers=[f"{a}:1", f"{b}:1"])
        assert keep_open(lab, pen, 3) == ["s0", "s1", "s2"]

    def test_a_place_that_gets_free_is_used(self, lab):
        (a,) = lab.backends(1)
        pen = lab.pen("-r", servers=[f"{a}:1"])
        client = pen.client()
        assert client.line() == "s0"
        assert pen.ask() == ""
        client.close()
        pen.wait_connections(0)
        assert pen.ask() == "s0"

    def test_changed_while_running(self, lab):
        pen = lab.pen("-r", servers=lab.backends(1))
        pen.command("server 0 max 1")
        client = lab.client(pen.address)
        assert client.line() == "s0"
        assert pen.ask() == ""
        pen.command("server 0 max 2")
        assert pen.ask() == "s0"

    def test_being_full_is_no_failure(self, lab):
        (a,) = lab.backends(1)
        pen = lab.pen("-r", servers=[f"{a}:1"])
        client = pen.client()
        assert client.line() == "s0"
        assert pen.asks(3) == ["", "", ""]
        client.close()
        wait_until(lambda: pen.ask() == "s0")
