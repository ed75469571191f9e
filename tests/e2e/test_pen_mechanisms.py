"""epoll, poll and select each run the same core of scenarios: none may behave in a way of its own."""

import pytest
from support.backend import http, keep, reset, silent
from support.process import naps
from support.waiting import let_pass, stays, wait_until

pytestmark = pytest.mark.parametrize(
    "options", [["-O", "epoll"], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"]
)


@pytest.fixture
def pen(lab, options):
    """A maker of pens with the mechanism at hand."""

    def make(*more, servers):
        return lab.pen("-r", "-x", "100", *options, *more, servers=servers)

    return make


def test_balances(lab, pen):
    assert pen(servers=lab.backends(3)).asks(6) == ["s0", "s1", "s2"] * 2


def test_failover_from_a_server_that_refuses(lab, pen):
    """The original under epoll closed the client instead."""
    assert pen(servers=[lab.refusing(), *lab.backends(1)]).asks(3) == ["s0"] * 3


def test_failover_from_a_server_that_never_answers(lab, pen):
    assert pen("-t", "1", servers=[lab.hole(), *lab.backends(1)]).asks(2) == ["s0"] * 2


def test_waiting_for_a_server_is_sleeping(lab, pen):
    balancer = pen("-t", "60", servers=[lab.hole()])
    balancer.client()
    balancer.wait_connections(1)
    before = naps(balancer.pid)
    let_pass(1)
    assert naps(balancer.pid) - before < 6


def test_failover_to_the_emergency_server(lab, pen):
    emergency = lab.backend()
    assert pen("-e", str(emergency), servers=[lab.refusing(), lab.refusing()]).asks(2) == ["s0"] * 2


def test_nobody_left(lab, pen):
    assert pen(servers=[lab.refusing()]).asks(2) == ["", ""]


def test_a_server_that_comes_back(lab, pen):
    (server,) = lab.backends(1)
    balancer = pen(servers=[server])
    assert balancer.ask() == "s0"
    server.stop()
    assert balancer.ask() == ""
    server.start()
    assert balancer.ask() == "s0"


def test_half_close_up(lab, pen):
    server = lab.backend(keep)
    assert pen(servers=[server]).client().send(b"all of it").shut().rest() == b"s0\n"
    assert server.received == b"all of it"


def test_half_close_down(lab, pen):
    def bye(conn, backend):
        conn.shutdown(1)
        keep(conn, backend)

    server = lab.backend(bye)
    client = pen(servers=[server]).client()
    assert client.rest() == b""
    client.send(b"one more thing").close()
    wait_until(lambda: server.received == b"one more thing")


def test_reset_by_the_server(lab, pen):
    def slam(conn, backend):
        conn.recv(1)
        reset(conn)

    client = pen(servers=[lab.backend(slam)]).client().send(b"x")
    with pytest.raises(ConnectionResetError):
        client.rest()


def test_reset_by_the_client(lab, pen):
    server = lab.backend()
    balancer = pen(servers=[server])
    client = balancer.client()
    assert client.line() == "s0"
    client.reset()
    server.wait_idle()
    balancer.wait_connections(0)


def test_keep_alive_requests_and_their_log(lab, pen):
    balancer = pen("-l", "pen.log", servers=[lab.backend(http)])
    with balancer.client() as client:
        for number in range(50):
            assert client.get(f"/{number}") == "s0"
    balancer.log_contains(r"GET /\d+ HTTP/1\.1$", times=50)


def test_a_client_that_does_not_read(lab, pen):
    """Its reader gone slow, a connection waits without costing the others."""

    def pour(conn, backend):
        conn.settimeout(30)
        conn.sendall(b"x" * 30_000_000)

    balancer = pen(servers=[lab.backend(pour), lab.backend()])
    slow = balancer.client()
    assert balancer.ask() == "s1"
    balancer.wait_connections(1)
    stays(lambda: balancer.connections() == 1, 0.2)
    assert len(slow.rest()) == 30_000_000


def test_many_connections_at_once(lab, pen):
    server = lab.backend(silent)
    balancer = pen(servers=[server])
    clients = [balancer.client() for _ in range(100)]
    server.wait_accepted(100)
    for client in clients[::2]:
        client.close()
    balancer.wait_connections(50)
    for client in clients[1::2]:
        client.reset()
    balancer.wait_connections(0)


def test_a_command_and_a_reload(lab, pen):
    lab.write("pen.cfg", "timeout 9\n")
    balancer = pen("-F", "pen.cfg", servers=lab.backends(1))
    assert balancer.command("timeout") == "9\n"
    lab.write("pen.cfg", "timeout 8\n")
    balancer.hup()
    wait_until(lambda: balancer.command("timeout") == "8\n")
    assert balancer.stop() == 0
