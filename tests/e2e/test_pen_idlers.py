"""`idlers N`: connections to servers that stand ready before clients come."""

import pytest
from support.backend import echo
from support.waiting import stays, wait_until


def wait_idlers(pen, have, wanted):
    wait_until(lambda: pen.command("idlers") == f"Idlers: {have}/{wanted}\n", f"{have} of {wanted} idlers")


@pytest.mark.parametrize("mechanism", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"])
def test_they_are_there_before_clients_and_spread(lab, mechanism):
    servers = lab.backends(2)
    pen = lab.pen(*mechanism, "-O", "idlers 4", servers=servers)
    wait_idlers(pen, 4, 4)
    assert [server.accepted for server in servers] == [2, 2]
    assert pen.connections() == 0, "nobody has them yet"


def test_by_command(lab):
    server = lab.backend(echo)
    pen = lab.pen(servers=[server])
    assert pen.command("idlers") == "Idlers: 0/0\n"
    assert pen.command("idlers 3") == "Idlers: 0/3\n"
    wait_idlers(pen, 3, 3)
    pen.command("idlers 1")
    wait_idlers(pen, 1, 1)
    wait_until(lambda: len(server.open) == 1)
    pen.command("idlers 0")
    server.wait_idle()
    assert pen.command("idlers") == "Idlers: 0/0\n"
    assert "'501'" in pen.command("idlers 501")


def test_a_client_gets_one_and_another_takes_its_place(lab):
    """What the server said meanwhile is not lost."""
    server = lab.backend()
    pen = lab.pen("-O", "idlers 1", servers=[server])
    wait_idlers(pen, 1, 1)
    client = pen.client()
    assert client.line() == "s0"
    assert client.talk(b"hello") == b"hello"
    wait_idlers(pen, 1, 1)
    assert server.accepted == 2
    assert pen.connections() == 1
    client.close()
    pen.wait_connections(0)


def test_many_clients(lab):
    pen = lab.pen("-r", "-O", "idlers 5", servers=lab.backends(2))
    assert sorted(pen.asks(40)) == ["s0"] * 20 + ["s1"] * 20
    pen.wait_connections(0)
    wait_idlers(pen, 5, 5)


def test_what_a_server_closes_is_replaced(lab):
    server = lab.backend(echo)
    pen = lab.pen("-O", "idlers 2", servers=[server])
    wait_idlers(pen, 2, 2)
    for conn in list(server.open):
        conn.shutdown(2)
    wait_until(lambda: server.accepted == 4)
    wait_idlers(pen, 2, 2)
    assert pen.client().talk(b"x") == b"x"


def test_a_server_that_fails_gets_none(lab):
    """And it is noticed before a client comes."""
    server = lab.backend()
    pen = lab.pen("-O", "idlers 2", servers=[lab.refusing(), server])
    wait_idlers(pen, 2, 2)
    server.wait_accepted(2)  # pen knows of a connection before the server does
    assert server.accepted == 2
    pen.says(r"server 0 .*: Connection refused", times=1)
    assert pen.ask() == "s0"


def test_connects_under_way_are_bounded(lab):
    hole = lab.hole()
    pen = lab.pen("-t", "30", "-O", "pending_max 3", "-O", "idlers 10", servers=[hole])
    wait_until(lambda: pen.connections() == 3)
    stays(lambda: pen.connections() == 3, 1.5)


def test_no_server_at_all(lab):
    pen = lab.pen("-O", "idlers 2", servers=[lab.refusing()])
    pen.says("Connection refused")
    stays(lambda: pen.command("idlers") == "Idlers: 0/2\n", 0.5)
    assert pen.err.count("\n") == 1


def test_a_server_taken_out_loses_its_own(lab):
    servers = lab.backends(2, echo)
    pen = lab.pen("-O", "idlers 2", servers=servers)
    wait_idlers(pen, 2, 2)
    pen.command("server 0 blacklist 100")
    servers[0].wait_idle()
    wait_until(lambda: len(servers[1].open) == 2)


def test_a_server_that_moves(lab):
    """Nobody is sent to the old place."""
    old, new = lab.backends(2)
    pen = lab.pen("-O", "idlers 1", servers=[old])
    wait_idlers(pen, 1, 1)
    pen.command(f"server 0 address {new.host} port {new.port}")
    assert pen.ask() == "s1"


def test_no_more_than_a_server_may_have(lab):
    servers = lab.backends(2)
    pen = lab.pen("-O", "idlers 10", servers=[f"{servers[0]}:2", f"{servers[1]}:1"])
    wait_idlers(pen, 3, 10)
    assert [server.accepted for server in servers] == [2, 1]
    assert pen.ask() == "s0"


def test_with_headers(lab):
    pen = lab.pen("-H", "-l", "pen.log", "-O", "idlers 1", servers=[lab.backend(echo)])
    wait_idlers(pen, 1, 1)
    client = pen.client().send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.line() == "GET / HTTP/1.1\r"
    assert client.line() == "X-Forwarded-For: 127.0.0.1\r"


def test_source_is_heeded(lab):
    server = lab.backend(echo)
    pen = lab.pen("-O", "idlers 1", servers=[server])
    wait_idlers(pen, 1, 1)
    pen.command("source 127.0.9.9")
    assert pen.client().talk(b"x") == b"x"
    assert server.peers[1] == "127.0.9.9"


def test_all_is_closed_at_the_end(lab):
    server = lab.backend(echo)
    pen = lab.pen("-O", "idlers 3", servers=[server])
    wait_idlers(pen, 3, 3)
    assert pen.stop() == 0
    server.wait_idle()
