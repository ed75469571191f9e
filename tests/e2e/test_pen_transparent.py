"""`transparent`: servers see the client's own address.  In network namespaces, as root."""

import os
import re
from pathlib import Path

import pytest
from support.backend import echo
from support.daemons import with_capability
from support.network import add_address, inside, ip, join
from support.programs import needs
from support.waiting import wait_until

NET_ADMIN = 1 << 12
MB = 1 << 20


@pytest.fixture
def machine(lab, network):
    """Makes other machines: networks of their own, at the other end of a cable."""

    def make(here, there, name):
        made = lab.spawn(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/thread-self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{made.pid}/ns/net") != own)
        join(made.pid, here, [there], name)
        with inside(made.pid):
            ip(f"route add default via {here}")
        return made.pid

    return make


@needs("ip")
def test_between_clients_and_servers(lab, machine):
    """As in the manual: the servers' way to the clients leads through pen's host."""
    servers = machine("10.77.0.1", "10.77.0.2", "servers")
    clients = machine("10.78.0.1", "10.78.0.2", "clients")
    ip("rule add iif servers lookup 100")
    ip("route add local default dev lo table 100")
    with inside(servers):
        server = lab.backend(echo, host="10.77.0.2", port=80)
    pen = lab.pen(
        "-l", "pen.log", "-O", "transparent", servers=[server], listen="80", address=("10.78.0.1", 80)
    )
    with inside(clients):
        for number in (1, 2):
            client = pen.client()
            assert client.talk(b"hello") == b"hello"
            assert server.peers == ["10.78.0.2"] * number
    body = b"x" * MB
    assert client.talk(body) == body
    pen.log_contains(r"^10\.78\.0\.2 \d+ 10\.77\.0\.2 hello$", times=2)


def test_switched_while_running(lab, network):
    server = lab.backend()
    pen = lab.pen(servers=[server])
    for command in ("transparent", "no transparent"):
        assert pen.ask("127.0.4.1") == "s0"
        assert pen.command(command) == ""
    pen.ask("127.0.4.1")
    pen.command("transparent")
    pen.ask("127.0.4.1")
    assert server.peers == ["127.0.0.1", "127.0.4.1"] * 2


def test_over_ipv6(lab, network):
    add_address("fd00::7")
    server = lab.backend(host="::1")
    pen = lab.pen("-O", "transparent", servers=[server], listen="[::1]:8000", address=("::1", 8000))
    pen.ask("fd00::7")
    assert server.peers == ["fd00::7"]


def test_clients_without_an_address_of_the_servers_kind(lab, network):
    """Come from pen's own, or that of `source`."""
    servers = [lab.backend(host="::1"), lab.backend(host="127.0.0.1")]
    pen = lab.pen("-r", "-O", "transparent", "-O", "source 127.0.9.9", servers=servers)
    assert pen.asks(2, "127.0.4.1") == ["s0", "s1"]
    assert [server.peers for server in servers] == [["::1"], ["127.0.4.1"]]
    pen = lab.pen(
        "-O", "transparent", "-O", "source 127.0.9.9", servers=[servers[1]], listen=f"{lab.directory}/in"
    )
    pen.ask()
    assert servers[1].peers[1:] == ["127.0.9.9"]


def test_failover_and_blacklisting_are_as_ever(lab, network):
    server = lab.backend()
    pen = lab.pen("-O", "transparent", servers=[lab.refusing(), server])
    assert pen.asks(3, "127.0.4.1") == ["s0"] * 3
    assert server.peers == ["127.0.4.1"] * 3


def capabilities(pid):
    """Effective, permitted and inheritable ones."""
    status = Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"^Cap{name}:\s*(\w+)$", status, re.M)[1], 16) for name in ("Eff", "Prm", "Inh")]


class TestAsAnotherUser:
    @pytest.mark.parametrize("jail", [False, True], ids=["", "jail"])
    def test_just_that_capability_is_kept(self, lab, network, jail):
        server = lab.backend()
        listen = "127.0.0.1:8000"
        words = ["-j", str(lab.directory)] if jail else []
        pid = lab.daemon("-u", "nobody", *words, "-p", "pen.pid", "-O", "transparent", listen, server)
        assert capabilities(pid) == [NET_ADMIN, NET_ADMIN, 0]
        assert lab.client(("127.0.0.1", 8000), "127.0.4.1").line() == "s0"
        assert server.peers == ["127.0.4.1"]

    def test_it_may_be_had_from_the_start(self, lab, network):
        """As a unit of systemd gives it."""
        server = lab.backend()
        pen = lab.pen_as_typed(
            "-f", "-O", "transparent", "127.0.0.1:8000", server,
            listen="127.0.0.1:8000", wrap=with_capability("net_admin"),
        )  # fmt: skip
        assert pen.ask("127.0.4.1") == "s0"
        assert server.peers == ["127.0.4.1"]

    def test_none_is_kept_without_need(self, lab, network):
        pid = lab.daemon("-u", "nobody", "-p", "pen.pid", "127.0.0.1:8000", lab.backend())
        assert capabilities(pid) == [0, 0, 0]

    def test_later_it_is_refused_with_the_reason(self, lab, network):
        control = str(lab.directory / "ctl")
        lab.daemon("-u", "nobody", "-C", control, "-p", "pen.pid", "127.0.0.1:8000", lab.backend())
        done = lab.penctl(control, "transparent")
        assert done.code == 1
        assert done.out.startswith("do_cmd: transparent: Operation not permitted; ")
        assert "CAP_NET_ADMIN" in done.out
        assert lab.client(("127.0.0.1", 8000), "127.0.4.1").line() == "s0"
