"""`peek`: a server is chosen only when the client has sent something."""

import pytest
from support.backend import echo
from support.waiting import stays, wait_until


@pytest.fixture
def peeking(lab):
    """A pen with that, and its server."""
    server = lab.backend(echo)
    return lab.pen("-O", "peek", servers=[server]), server


def active(pen):
    """How many connections pen has."""
    return int(pen.command("status").partition("Active connections: ")[2].split()[0])


@pytest.mark.parametrize("mechanism", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"])
def test_no_server_before_the_first_bytes(lab, mechanism):
    server = lab.backend(echo)
    pen = lab.pen("-O", "peek", *mechanism, servers=[server])
    client = pen.client()
    stays(lambda: server.accepted == 0, 0.3)
    assert "state = 1\n" in pen.command("connection 0")
    assert client.talk(b"hello") == b"hello"
    assert server.accepted == 1
    assert client.talk(b"again") == b"again"


def test_the_server_is_chosen_then(lab):
    """By what holds at that time, not when the client came."""
    pen = lab.pen("-r", "-O", "peek", servers=lab.backends(2))
    client = pen.client()
    wait_until(lambda: active(pen) == 1)
    pen.command("server 0 blacklist 100")
    assert client.send(b"x").line() == "s1"


def test_who_ends_without_a_word_costs_no_server(peeking):
    pen, server = peeking
    pen.client().close()
    pen.client().shut().ended()
    pen.client().reset()
    wait_until(lambda: active(pen) == 0)
    assert pen.client().talk(b"x") == b"x"
    assert server.accepted == 1


def test_who_says_something_and_ends(peeking):
    assert peeking[0].client().send(b"all of it").shut().rest() == b"all of it"


def test_no_more_connects_than_may_be_pending(lab):
    hole = lab.hole()
    pen = lab.pen("-t", "30", "-O", "peek", "-O", "pending_max 2", servers=[hole])
    clients = [pen.client() for _ in range(5)]
    wait_until(lambda: active(pen) == 5)
    for client in clients:
        client.send(b"x")
    wait_until(lambda: int(pen.servers()[0]["conn"]) == 2)
    stays(lambda: int(pen.servers()[0]["conn"]) == 2, 0.3)


def test_those_that_wait_get_their_turn(lab):
    pen = lab.pen("-O", "peek", "-O", "pending_max 1", servers=[lab.backend(echo)])
    clients = [pen.client() for _ in range(20)]
    wait_until(lambda: active(pen) == 20)
    for client in clients:
        client.send(b"hello")
    assert [client.read(5) for client in clients] == [b"hello"] * 20


def test_who_ends_while_waiting_for_its_turn(lab):
    pen = lab.pen("-t", "30", "-O", "peek", "-O", "pending_max 1", servers=[lab.hole()])
    clients = [pen.client() for _ in range(3)]
    wait_until(lambda: active(pen) == 3)
    for client in clients:
        client.send(b"x")
    wait_until(lambda: int(pen.servers()[0]["conn"]) == 1)
    waiting = [number for number in range(3) if "server = -1" in pen.command(f"connection {number}")]
    assert len(waiting) == 2
    pen.command(f"close {waiting[0]}")
    pen.command("pending_max 10")
    wait_until(lambda: int(pen.servers()[0]["conn"]) == 2)
    assert active(pen) == 2
    assert pen.err == ""


def test_a_silent_client_is_idle(lab):
    server = lab.backend(echo)
    pen = lab.pen("-O", "peek", "-O", "idle_timeout 1", servers=[server])
    assert pen.client().ended()
    assert server.accepted == 0


def test_with_headers_and_a_log(lab):
    server = lab.backend(echo)
    pen = lab.pen("-O", "peek", "-H", "-l", "pen.log", servers=[server])
    client = pen.client().send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.line() == "GET / HTTP/1.1\r"
    assert client.line() == "X-Forwarded-For: 127.0.0.1\r"
    pen.log_contains(r"GET / HTTP/1\.1$")


def test_switched_off(peeking):
    pen, server = peeking
    pen.command("no peek")
    pen.client()
    server.wait_accepted(1)


def test_ended_by_command(peeking):
    pen, _ = peeking
    client = pen.client()
    wait_until(lambda: active(pen) == 1)
    pen.command("close 0")
    assert client.ended()
