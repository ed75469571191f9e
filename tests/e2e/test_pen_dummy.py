"""`dummy`: pen plays web server, without any other."""

import re

import pytest
from support.process import rss, run
from support.programs import needs
from support.waiting import stays, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MB = 1 << 20


@pytest.fixture
def dummy(lab):
    return lab.pen("-O", "dummy")


def test_a_page_without_a_server(dummy):
    client = dummy.client()
    page = client.get()
    assert page.startswith("<!DOCTYPE html>")
    assert client.get("/other") == page, "on the same connection"


@needs("curl")
@pytest.mark.parametrize("words", [[], ["-I"], ["-0"], ["-d", "x=y"], ["-T", "/bin/sh"], ["-X", "DELETE"]])
def test_curl(dummy, words):
    url = "http://{}:{}/".format(*dummy.address)
    done = run(
        ["curl", "-sS", "-w", "%{http_code}\n", "-o", "/dev/null", *words, url, "-o", "/dev/null", url]
    )
    assert done == (0, "200\n200\n", "")


@needs("wrk")
def test_wrk(dummy):
    done = run(["wrk", "-t1", "-c20", "-d1s", "http://{}:{}/".format(*dummy.address)])
    assert "Non-2xx" not in done.out
    assert "Socket errors" not in done.out
    assert int(re.search(r"(\d+) requests in", done.out)[1]) > 100


def test_pipelined_with_bodies(dummy):
    client = dummy.client()
    client.send(GET + b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /" + GET)
    client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n" + GET)
    assert len({client.response() for _ in range(5)}) == 1
    assert client.shut().rest() == b""


def test_the_answer_comes_when_the_request_is_whole(dummy):
    client = dummy.client().send(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell")
    client.socket.setblocking(False)
    stays(lambda: not reads(client), 0.2)
    client.socket.settimeout(15)
    assert client.send(b"o").response().startswith("<!DOCTYPE")


def reads(client):
    try:
        return client.socket.recv(1)
    except BlockingIOError:
        return b""


def test_100_continue(dummy):
    client = dummy.client().send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert client.line() == "HTTP/1.1 100 Continue\r"
    assert client.line() == "\r"
    assert client.send(b"x").response().startswith("<!DOCTYPE")


def test_head_has_no_body(dummy):
    with dummy.client() as client:
        head, _, rest = client.send(b"HEAD / HTTP/1.1\r\n\r\n").shut().rest().partition(b"\r\n\r\n")
    assert rest == b""
    assert b"Content-Length: " in head
    assert b"Content-Length: 0" not in head


@pytest.mark.parametrize(
    ("head", "stays_open"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_keep_alive(dummy, head, stays_open):
    client = dummy.client().send(head)
    client.response()
    if stays_open:
        client.get()
    else:
        assert client.rest() == b""


def test_half_a_request_has_time(dummy):
    client = dummy.client().send(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
    client.socket.setblocking(False)
    stays(lambda: not reads(client), 2.5)
    client.socket.settimeout(15)
    assert client.send(b"x").response().startswith("<!DOCTYPE")


@pytest.mark.parametrize(
    ("data", "status"), [(b"hello world\r\n", 200), (b"GET /\r\n\r\n", 200),
                         (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
                         (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000, 431)]
)  # fmt: skip
def test_what_is_no_request_of_http_1(dummy, data, status):
    assert dummy.client().send(data).rest().startswith(b"HTTP/1.1 %d " % status)


def test_who_asks_nothing_more_is_left(dummy):
    """A client that reads to the end; not one that is in the middle of its request."""
    slow, idle = dummy.client(), dummy.client()
    slow.get()
    slow.send(GET[:10])
    assert idle.send(GET).rest().startswith(b"HTTP/1.1 200 ")
    slow.send(GET[10:])
    assert slow.response().startswith("<!DOCTYPE")


def test_a_client_that_does_not_read_is_not_read(lab, dummy):
    before = rss(dummy.pid)
    client = dummy.client(seconds=1)
    with pytest.raises(TimeoutError):
        client.send(GET * MB)
    assert rss(dummy.pid) - before < 8 * MB


def test_servers_are_left_alone(lab):
    server = lab.backend()
    pen = lab.pen("-O", "dummy", servers=[server])
    assert pen.client().get().startswith("<!DOCTYPE")
    assert server.accepted == 0
    pen.command("no dummy")
    assert pen.ask() == "s0"


def test_who_is_denied_gets_nothing(lab):
    pen = lab.pen("-O", "dummy", "-O", "acl 1 deny 127.0.4.1", "-O", "client_acl 1")
    assert pen.client("127.0.4.1").ended()
    assert pen.client("127.0.4.2").get().startswith("<!DOCTYPE")


def test_idle_ones_are_closed_and_busy_ones_not(lab):
    pen = lab.pen("-O", "dummy", "-O", "idle_timeout 2")
    idle, busy = pen.client(), pen.client()
    asked = []

    def ask():
        asked.append(busy.get())
        return True

    stays(ask, 3.0)
    assert idle.ended()
    assert len(asked) > 3


def test_ended_by_command(dummy):
    client = dummy.client()
    client.get()
    dummy.command("close 0")
    assert client.ended()
    wait_until(lambda: "Active connections: 0" in dummy.command("status"))
