"""The data path under real load: what it costs in system calls, and what a dying server costs the others."""

import re
import threading

import pytest
from support.backend import http
from support.programs import needs
from support.strace import Trace
from support.waiting import wait_until
from support.webserver import nginx

REQUESTS = 1000


@needs("strace")
@pytest.mark.parametrize("log", [[], ["-l", "pen.log"]], ids=["", "log"])
def test_a_keep_alive_request_is_2_reads_2_writes_and_waiting(lab, log):
    """With a log: one more write, to it."""
    trace = Trace(lab.directory)
    pen = lab.pen("-r", *log, servers=[lab.backend(http)], wrap=trace.wrap, control="")
    client = pen.client()
    client.get("/first")
    wait_until(lambda: trace.names()[-1].startswith("epoll"))
    before = len(trace.calls())
    for _ in range(REQUESTS):
        assert client.get("/again") == "s0"
    wait_until(lambda: trace.names()[-1].startswith("epoll"))
    calls = trace.names()[before:]
    counts = {name: calls.count(name) for name in set(calls)}
    waits = counts.pop("epoll_wait", 0) + counts.pop("epoll_pwait", 0)
    assert waits <= 2 * REQUESTS + 2
    if log:
        assert counts.pop("fstat", 0) + counts.pop("newfstatat", 0) <= REQUESTS
        assert counts == {"read": 2 * REQUESTS, "write": 3 * REQUESTS}
    else:
        assert counts == {"read": 2 * REQUESTS, "write": 2 * REQUESTS}


@needs("strace")
def test_after_bulk_data_small_answers_are_cheap_again(lab):
    """5 MB go by splice, the requests after them by read and write."""
    sizes = iter([5_000_000] + [100] * 200)

    def talk(conn, backend):
        while conn.recv(65536):
            body = b"x" * next(sizes)
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    trace = Trace(lab.directory)
    pen = lab.pen("-r", servers=[lab.backend(talk)], wrap=trace.wrap, control="")
    client = pen.client()
    assert len(client.get("/big")) == 5_000_000
    wait_until(lambda: trace.names()[-1].startswith("epoll"))
    assert "splice" in trace.names()
    before = len(trace.calls())
    for _ in range(200):
        client.get("/small")
    assert trace.names()[before:].count("splice") <= 4


@needs("nginx", "wrk")
@pytest.mark.parametrize(
    "options", [["-r"], ["-r", "-P"], ["-r", "-O", "select"]], ids=["epoll", "poll", "select"]
)
def test_a_server_that_dies_costs_its_own_connections_at_most(lab, options):
    """50 keep-alive connections to two nginx, one killed midway."""
    servers = [nginx(lab, name=name) for name in ("web0", "web1")]
    pen = lab.pen(*options, servers=servers)
    url = "http://{}:{}/".format(*pen.address)
    wrk = lab.spawn(["wrk", "-t2", "-c50", "-d3s", url], "wrk")
    wait_until(lambda: pen.connections() == 50)
    on_it = []

    def kill():
        on_it.append(int(pen.servers()[0]["conn"]))
        servers[0].process.kill()

    timer = threading.Timer(1.0, kill)
    timer.start()
    assert wrk.wait(30) == 0
    timer.join()
    assert "Non-2xx" not in wrk.out, wrk.out
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", wrk.out)
    if errors:
        connect, *others = map(int, errors.groups())
        assert connect == 0
        assert sum(others) <= on_it[0]
    assert int(re.search(r"(\d+) requests in", wrk.out)[1]) > 100
    assert on_it[0] == 25
