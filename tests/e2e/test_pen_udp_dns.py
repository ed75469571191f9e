"""pen -U before real name servers: dig, which takes no answer from elsewhere, and dnsperf, which counts."""

import re
import socket

import pytest
from support.nsd import Nsd
from support.ports import free_port
from support.programs import find, needs
from support.waiting import wait_until

pytestmark = needs("nsd", "dig")

RATE, SECONDS = 1000, 8
"""Of dnsperf: queries a second, and for how long."""
AT_ONCE = 100
"""Queries that dnsperf has outstanding at most."""


@pytest.fixture
def name_servers(lab):
    return [Nsd(lab, "ns1"), Nsd(lab, "ns2")]


def dig(lab, server, port, *words):
    """The answer, short; "" if there is none."""
    argv = [find("dig"), f"@{server}", "-p", str(port), "+short", "+tries=1", "+timeout=5", *words]
    done = lab.run_words(argv)
    assert "unexpected source" not in done.out + done.err
    return done.out.strip()


class TestDig:
    def test_asks_through_pen(self, lab, udp, name_servers):
        pen = udp.start("-l", "pen.log", servers=name_servers)
        host, port = pen.address
        assert dig(lab, host, port, "www.example.test") == "192.0.2.80"
        assert dig(lab, host, port, "server.example.test", "TXT") == '"ns1"'
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 .*www.example.test", 1)

    def test_at_several_addresses_of_a_wildcard(self, lab, udp, name_servers):
        port = free_port(socket.SOCK_DGRAM)
        udp.start("-r", servers=name_servers, listen=str(port))
        hosts = ["127.0.0.1", "127.0.0.5", "127.9.9.9", *(["::1"] if socket.has_ipv6 else [])]
        assert [dig(lab, host, port, "www.example.test") for host in hosts] == ["192.0.2.80"] * len(hosts)


@needs("dnsperf")
def test_a_name_server_dies_and_comes_back_under_load(lab, udp, name_servers):
    """Lost are no more than were outstanding at the kill, and one in a hundred."""
    pen = udp.start("-b", "2", servers=name_servers)
    queries = lab.write("queries", "www.example.test A\nserver.example.test TXT\n")
    words = ["-s", pen.address[0], "-p", str(pen.address[1]), "-d", str(queries), "-l", str(SECONDS)]
    words += ["-Q", str(RATE), "-q", str(AT_ONCE), "-c", "4", "-t", "5"]
    load = lab.spawn([find("dnsperf"), *words], "dnsperf")

    def busy(index):
        received = int(pen.servers()[index]["rx"])
        return wait_until(lambda: int(pen.servers()[index]["rx"]) > received, f"server {index} answers")

    busy(0)
    name_servers[0].process.kill()
    pen.says("server 0 .*: Connection refused")
    busy(1)
    name_servers[0].start()
    assert load.wait(10 * SECONDS) == 0, load.err
    sent, completed = (
        int(re.search(rf"Queries {what}: +(\d+)", load.out)[1]) for what in ("sent", "completed")
    )
    assert completed, load.out
    assert sent - completed <= AT_ONCE + sent / 100, load.out
    assert "unexpected" not in (load.out + load.err).lower()
