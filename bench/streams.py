"""Bulk data through a proxy: some connections, one end of each sending, the other checking what arrives.

All ends are in this process and one thread serves them, so that a proxy has a core for itself on a machine
with two.  What is sent repeats a block of random bytes.  Its length is a prime number: a piece that is lost,
sent twice or out of its place shows, as it can't be as long as the block.
"""

import random
import selectors
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from bench.process import PATIENCE
from bench.tls import connected, end
from penlib.errors import PenError

STREAMS = 2
CHUNK = 256 * 1024
"""Bytes given to or taken from the kernel at once."""
PERIOD = 1_000_003
"""Bytes until what is sent repeats."""
BLOCK = random.Random(PERIOD).randbytes(PERIOD)
CONTENT = memoryview(BLOCK + BLOCK[:CHUNK])


class Streams:
    """Where the proxies' server connections end: `port` of 127.0.0.1."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "Streams":
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def transfer(self, port: int, size: int, upload: bool, tls: bool = False) -> None:
        """Send `size` bytes each way there is through the proxy on `port`, from its clients to its servers
        or the other way round; `tls`: clients speak TLS.  Raises PenError if something else arrives."""
        with ExitStack() as stack:
            clients, servers = [], []
            for _ in range(STREAMS):
                clients.append(stack.enter_context(connected(port, tls)))
                servers.append(stack.enter_context(self._listener.accept()[0]))
            senders, receivers = (clients, servers) if upload else (servers, clients)
            selector = stack.enter_context(selectors.DefaultSelector())
            for sock in senders:
                selector.register(sock, selectors.EVENT_WRITE, sending(sock, size))
            for sock in receivers:
                selector.register(sock, selectors.EVENT_READ, receiving(sock, size))
            _run(selector)


def _run(selector: selectors.BaseSelector) -> None:
    """Whoever is ready does a step, until all have ended."""
    while selector.get_map():
        ready = selector.select(PATIENCE)
        if not ready:
            raise PenError("nothing moves any more")
        for key, _ in ready:
            if next(key.data, None) is None:
                selector.unregister(key.fileobj)


def sending(sock: socket.socket, size: int) -> Iterator[int]:
    """Send CONTENT up to `size` bytes, a step each time the socket is ready, then end the stream."""
    sock.setblocking(False)
    sent = 0
    while sent < size:
        at = sent % PERIOD
        with suppress(ssl.SSLWantWriteError):
            sent += sock.send(CONTENT[at : at + min(CHUNK, size - sent)])
        yield sent
    end(sock)


def receiving(sock: socket.socket, size: int) -> Iterator[int]:
    """Take what comes, a step each time the socket is ready, and compare it to what was sent."""
    sock.setblocking(False)
    buffer = bytearray(CHUNK)
    received = 0
    while True:
        try:
            count = sock.recv_into(buffer)
        except ssl.SSLWantReadError:
            yield received
            continue
        if not count:
            break
        at = received % PERIOD
        if buffer[:count] != bytes(CONTENT[at : at + count]):
            raise PenError(f"not what was sent: within {count} bytes from byte {received} on")
        received += count
        yield received
    if received != size:
        raise PenError(f"{received} bytes arrived of {size}")
