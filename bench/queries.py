"""Queries over UDP through a proxy: clients that ask one thing at a time, servers that send it back.

All of them are in this process and one thread serves them, so that a proxy has a core for itself on a machine
with two.  Every answer is compared with its question.
"""

import contextlib
import itertools
import selectors
import socket
import time
from contextlib import ExitStack

from bench.process import PATIENCE
from penlib.errors import PenError
from penlib.sockets import close_all

CLIENTS = 20
"""Questions that are on their way at once."""
SIZE = 60
"""Bytes of a question and its answer: about those of DNS."""


class Queries:
    """The servers behind the proxies; they are at `ports` of 127.0.0.1."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._servers = [self._socket() for _ in range(2)]
        for server in self._servers:
            server.bind(("127.0.0.1", 0))
        self.ports: list[int] = [server.getsockname()[1] for server in self._servers]
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Queries":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _socket(self) -> socket.socket:
        made = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.setblocking(False)
        return made

    def load(self, port: int, seconds: float, fresh: bool) -> tuple[int, float]:
        """Ask through the proxy on `port`, each time from a new port if `fresh`.  Answers how many questions
        were answered, in how many seconds.  Raises PenError for a wrong answer or a lost one."""
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            for server in self._servers:
                _empty(server)
                selector.register(server, selectors.EVENT_READ)
            asked: dict[socket.socket, bytes] = {}
            before: dict[socket.socket, bytes] = {}
            stack.callback(lambda: close_all(list(asked)))
            for _ in range(CLIENTS):
                self._ask(selector, asked, port)
            answered, begun = 0, time.monotonic()
            while (now := time.monotonic()) - begun < seconds:
                ready = selector.select(PATIENCE)
                if not ready:
                    raise PenError(f"no answer for {PATIENCE:.0f} s")
                for key, _ in ready:
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock not in asked:
                        data, peer = sock.recvfrom(2 * SIZE)
                        sock.sendto(data, peer)
                        continue
                    answer = sock.recv(2 * SIZE)
                    if answer == before.get(sock):
                        continue  # twice, as the C pen does when it begins: UDP allows that
                    if answer != asked[sock]:
                        raise PenError("the answer is not the question")
                    answered += 1
                    before[sock] = answer
                    self._ask(selector, asked, port, None if fresh else sock)
                    if fresh:
                        selector.unregister(sock)
                        del asked[sock], before[sock]
                        sock.close()
            return answered, now - begun

    def _ask(
        self,
        selector: selectors.BaseSelector,
        asked: dict[socket.socket, bytes],
        port: int,
        client: socket.socket | None = None,
    ) -> None:
        """Send the next question, from a new socket if there is none."""
        if client is None:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            selector.register(client, selectors.EVENT_READ)
        asked[client] = b"%0*d" % (SIZE, next(self._numbers))
        client.send(asked[client])


def _empty(server: socket.socket) -> None:
    """Read away what the proxy before had still asked: the next one may have got its port, and the answer."""
    with contextlib.suppress(BlockingIOError):
        while True:
            server.recv(2 * SIZE)
