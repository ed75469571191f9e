"""The HTTP corpus through a real pen -H: whole, in two pieces at every byte, byte by byte."""

import re
import socket

import pytest
from support.backend import CHUNK
from support.corpus import cases, whole_requests
from support.waiting import wait_until

STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CASES = {case.name: case for case in cases()}


class Connection:
    """What the server saw of one connection."""

    def __init__(self):
        self.got = b""
        self.requests = 0
        self.over = False


def answering(connections, *, is_http):
    """A server that notes what it gets, and answers each request with 200, or sends everything back."""

    def talk(conn, backend):
        connection = Connection()
        connections.append(connection)
        try:
            while data := conn.recv(CHUNK):
                connection.got += data
                answered = connection.requests
                connection.requests = whole_requests(connection.got) if is_http else 0
                conn.sendall(OK * (connection.requests - answered) if is_http else data)
        finally:
            connection.over = True

    return talk


def converse(pen, pieces):
    """Send the pieces and end; what comes back until the other side ends."""
    with pen.client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.send(piece)
            client.shut()
        except OSError:
            pass  # it was refused, and has been told why
        return client.rest()


def cuts(data):
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_corpus(lab, case):
    connections = []
    server = lab.backend(answering(connections, is_http=case.is_http))
    pen = lab.pen("-H", servers=[server])
    for number, pieces in enumerate(cuts(case.sent)):
        answer = converse(pen, pieces)
        wait_until(lambda number=number: len(connections) > number and connections[number].over)
        got, wanted = connections[number].got, case.server("127.0.0.1")
        if not case.is_http:
            assert (got, answer) == (wanted, case.sent)
        else:
            assert case.answered_by([status.decode() for status in STATUS.findall(answer)]), answer
            assert got == wanted if len(pieces) == 1 or not case.is_refused else got.startswith(wanted)
            assert connections[number].requests == len(case.answers) - case.is_refused
