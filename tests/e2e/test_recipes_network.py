"""The recipes of doc/howto.md about networks, letter by letter: hosts are network namespaces on one or two
Ethernets, with nginx and nsd as the servers, keepalived, and curl and dig as the clients.
"""

import shutil

import pytest
from support.hosts import Host, switch
from support.network import sysctl
from support.nsd import Nsd
from support.programs import ROOT, needs
from support.recipes import recipe
from support.waiting import PATIENCE, wait_until
from support.webserver import nginx

pytestmark = needs("root", "ip", "unshare", "mount", "nginx", "curl")

SERVICE = "10.0.0.10"
SERVERS = ["host1", "host2"]
ADDRESSES = {"lb1": "10.0.0.1", "lb2": "10.0.0.2", "host1": "10.0.0.21", "host2": "10.0.0.22"}
VISITORS = [f"10.0.0.{number}" for number in range(101, 109)]


class Lan:
    """Clients, balancers and servers on one Ethernet."""

    def __init__(self, lab, balancers):
        self.lab = lab
        self.switch = switch("lan")
        self.hosts = {name: self.host(name, ADDRESSES[name]) for name in [*balancers, *SERVERS]}
        self.client = self.host("client", "10.0.0.99", *VISITORS)

    def host(self, name, *addresses):
        return Host(self.lab, name, ADDRESSES).plug(self.switch, *addresses)

    def __getitem__(self, name):
        return self.hosts[name]

    def nginx(self, name):
        """On one of the servers, on all its addresses: it says its name, and writes `name`.log."""
        with self[name].inside():
            log = f"{self.lab.directory}/{name}.log combined"
            return nginx(self.lab, log, host="0.0.0.0", name=name, port=80, says=name)

    def ask(self, source="10.0.0.99", address=SERVICE):
        """Who answers a client; "" if nobody does within a second."""
        return self.client.tries(f"curl -s -m 1 --interface {source} http://{address}/").out

    def wait_served(self, what="somebody answers"):
        """For no longer than a client is to be held up."""
        wait_until(self.ask, what, PATIENCE)

    def saw(self, name):
        """The clients that a server has logged."""
        return {line.split()[0] for line in (self.lab.directory / f"{name}.log").read_text().splitlines()}


@needs("keepalived")
def test_two_balancers(lab, network):
    """Clients carry on when the pen that they use is killed, and when its host loses its power."""
    pen, keepalived, show = recipe("Two balancers, one address")
    lan = Lan(lab, ["lb1", "lb2"])
    for name in SERVERS:
        lan.nginx(name)
    for name in ("lb1", "lb2"):
        shutil.copy(ROOT / "examples" / "keepalived.conf", lan[name].etc)
        lan[name].type(pen)
        lan[name].type(keepalived)

    def holders():
        return [name for name in ("lb1", "lb2") if f"inet {SERVICE}/24" in lan[name].type(show)]

    lan.wait_served()
    first = wait_until(lambda: len(holders()) == 1 and holders()[0], "one of them has the address")
    second = "lb1" if first == "lb2" else "lb2"
    assert {lan.ask(source) for source in VISITORS} == set(SERVERS)

    lan[first].kill("pen.pid")
    lan.wait_served("pen was killed, clients carry on")
    assert wait_until(lambda: holders() == [second], "the address has moved")
    assert {lan.ask(source) for source in VISITORS} == set(SERVERS)

    lan[first].type(pen)
    lan[second].unplug()
    lan.wait_served("a host has lost its power, clients carry on")
    assert {lan.ask(source) for source in VISITORS} == set(SERVERS)


def test_direct_server_return(lab, network):
    prepare, pen, _, check = recipe("Answers that go past the balancer")
    lan = Lan(lab, ["lb1"])
    web = {}
    for name in SERVERS:
        lan[name].type(prepare)
        web[name] = lan.nginx(name)
    lan["lb1"].type(pen)
    lan.wait_served()
    assert {lan.ask(source) for source in VISITORS} == set(SERVERS)
    assert set.union(*map(lan.saw, SERVERS)) >= set(VISITORS), "servers see the clients themselves"
    lan["lb1"].type(check)
    web["host2"].process.kill()
    lan["lb1"].type(check)
    wait_until(lambda: {lan.ask(source) for source in VISITORS} == {"host1"}, "host2 is left out")


@needs("nsd", "dig")
def test_direct_server_return_of_udp(lab, network):
    prepare, _, pen, _ = recipe("Answers that go past the balancer")
    lan = Lan(lab, ["lb1"])
    for name in SERVERS:
        lan[name].type(prepare)
        with lan[name].inside():
            Nsd(lab, name, host=SERVICE, port=53)
    lan["lb1"].type(pen)
    dig = f"dig +short +tries=1 +time=1 @{SERVICE} server.example.test TXT"
    wait_until(lambda: lan.client.tries(dig).code == 0, "somebody answers")
    answers = {lan.client.type(dig) for _ in range(20)}
    assert answers == {'"host1"\n', '"host2"\n'}, "also those of one client, with -r"


def test_tarpit(lab, network):
    (pen,) = recipe("A tarpit for whoever scans the network")
    lan = Lan(lab, ["lb1"])
    lan["lb1"].type(pen)

    def scan(address):
        """How curl ends: 28 is that it was connected and timed out, 7 that it was not connected."""
        connected = "curl -s -m 2 -w '%{time_connect}' http://" + address + ":4444/"
        done = lan.client.tries(connected)
        return done.code, float(done.out) > 0

    wait_until(lambda: scan("10.0.0.192") == (28, True), "the first address is a tarpit")
    assert scan("10.0.0.223") == (28, True)
    for outside in ("10.0.0.191", "10.0.0.224"):
        assert scan(outside)[1] is False
    assert scan(ADDRESSES["lb1"]) == (7, False), "who is there answers for itself"


@pytest.mark.parametrize("rp_filter", ["0", "1"], ids=["", "rp_filter"])
def test_transparent(lab, network, rp_filter):
    route, pen = recipe("Servers that see the clients' addresses")
    outside, inside = switch("lan"), switch("cluster")
    balancer = Host(lab, "lb", {}).plug(outside, SERVICE).plug(inside, "10.1.0.1")
    client = Host(lab, "client", {}).plug(outside, "10.0.0.99", *VISITORS)
    servers = [Host(lab, f"host{n}", {}).plug(inside, f"10.1.0.2{n}") for n in (1, 2)]
    for host in (balancer, *servers):
        with host.inside():
            sysctl("ipv4/conf/all/rp_filter", rp_filter)
    for server in servers:
        server.type(route)
        with server.inside():
            log = f"{lab.directory}/{server.name}.log combined"
            nginx(lab, log, host="0.0.0.0", name=server.name, port=80, says=server.name)
    balancer.type(pen)
    answers = {source: client.type(f"curl -s --interface {source} http://{SERVICE}/") for source in VISITORS}
    assert set(answers.values()) == set(SERVERS)
    for name in SERVERS:
        lines = (lab.directory / f"{name}.log").read_text().splitlines()
        asked = [source for source, answer in answers.items() if answer == name]
        assert [line.split()[0] for line in lines] == asked, "the servers' logs have the clients"
    with balancer.inside():
        sysctl("ipv4/ip_forward", "1")
    client.type("ip route add 10.1.0.0/24 via 10.0.0.10")
    with client.inside():
        other = lab.backend(host="10.0.0.99", port=8080, name="other")
    with servers[0].inside():
        assert lab.client((other.host, other.port)).line() == "other", "what else servers send is routed"


@needs("nsd", "dig")
def test_transparent_over_ipv6_and_udp(lab, network):
    """With the changes to the two lines that the recipe tells of."""
    route, pen = recipe("Servers that see the clients' addresses")
    outside, inside = switch("lan"), switch("cluster")
    balancer = Host(lab, "lb", {}).plug(outside, SERVICE).plug(inside, "10.1.0.1")
    client = Host(lab, "client", {}).plug(outside, "10.0.0.99")
    server = Host(lab, "host1", {}).plug(inside, "10.1.0.21")
    balancer.type("ip address add fd00::10/64 dev eth0 nodad; ip address add fd01::1/64 dev eth1 nodad")
    client.type("ip address add fd00::99/64 dev eth0 nodad")
    server.type("ip address add fd01::21/64 dev eth0 nodad; ip route replace default via fd01::1")
    server.type(route)
    with server.inside():
        web = lab.backend(host="fd01::21", port=80)
        Nsd(lab, "ns", host="10.1.0.21", port=53)
    rule, local, _ = pen.splitlines()
    balancer.type("\n".join(line.replace("ip ", "ip -6 ", 1) for line in (rule, local)))
    balancer.type("\n".join((rule.replace("ipproto tcp sport 80", "ipproto udp sport 53"), local)))
    balancer.type("pen -O transparent -p /run/pen.pid -u www-data [fd00::10]:80 [fd01::21]:80")
    balancer.type(f"pen -U -O transparent -p /run/dns.pid -u www-data {SERVICE}:53 10.1.0.21:53")
    with client.inside():
        assert lab.client(("fd00::10", 80)).line() == web.name
    assert web.peers == ["fd00::99"]
    assert client.type(f"dig +short @{SERVICE} www.example.test") == "192.0.2.80\n"
