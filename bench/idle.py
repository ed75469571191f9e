"""Memory for connections that have said something and are silent now: most of those that a server has.

A program that is prepared for a few connections and has them is compared to one that is prepared for many and
has them: some take the room for connections beforehand, and that counts.
"""

import resource
import socket
import struct
import time
from contextlib import ExitStack
from functools import partial

from bench.lab import Lab
from bench.peers import Duty, Original, Peer
from bench.process import PATIENCE, find
from bench.proxies import Haproxy, Nginx
from bench.sample import Entrant, Sample, Work
from bench.tls import connected
from penlib.errors import PenError

SAID = b"anybody?"
GROUP = "Idle connections"
RESERVE = 400
"""Descriptors that are needed for other things."""
FEW = 10
"""Connections of a program that has few."""
BATCH = 50
"""Connections at once: an answer alone may wait for the client's delayed ACK."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: nothing is left behind in TIME_WAIT."""


def works(lab: Lab) -> list[Work]:
    """Memory per connection, plain and with TLS.  It hardly varies, and 10,000 handshakes take long."""
    count = possible(lab.scale.idle, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if count <= FEW:
        lab.skipped.append("idle connections: the limit of open files is too low")
        return []
    made = []
    for tls in (False, True) if find("openssl") else (False,):
        entrants = [
            Entrant(peer.name, partial(measure, lab, count, tls, peer))
            for peer in lab.peers(Original, Haproxy, Nginx)
        ]
        title = f"{count:,} idle connections{' with TLS' if tls else ''}"
        name = f"{'tls-' if tls else ''}idle"
        made.append(Work(name, title, "connection", GROUP, entrants, "memory", most_rounds=1 if tls else 3))
    return made


def possible(wanted: int, descriptors: int) -> int:
    """How many connections there can be when a process may have so many descriptors: two for each."""
    unlimited = descriptors == resource.RLIM_INFINITY
    return wanted if unlimited else min(wanted, max(0, (descriptors - RESERVE) // 2 // 100 * 100))


def raise_limit() -> None:
    """As many open files as are allowed; what we start inherits it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(lab: Lab, count: int, tls: bool, peer: Peer) -> Sample:
    """Memory for `count` connections more than FEW, and what it took to set all of them up."""
    few, many = held(lab, FEW, tls, peer), held(lab, FEW + count, tls, peer)
    return Sample(count, many.cpu - few.cpu, many.wall - few.wall, max(1.0, many.memory - few.memory))


def held(lab: Lab, count: int, tls: bool, peer: Peer) -> Sample:
    """All that a program holds that has so many connections, and what it took to set them up."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        listener.settimeout(PATIENCE)
        duty = Duty([listener.getsockname()[1]], tls=lab.certificate if tls else "", connections=count)
        program = stack.enter_context(lab.start(peer, duty))
        cpu, begun = program.settled_cpu(), time.monotonic()
        for begin in range(0, count, BATCH):
            talk(stack, program.port, listener, tls, min(BATCH, count - begin))
        wall = time.monotonic() - begun
        return Sample(count, program.settled_cpu() - cpu, wall, program.memory())


def talk(stack: ExitStack, port: int, listener: socket.socket, tls: bool, count: int) -> None:
    """More connections, over which something was said in both directions, and which stay with `stack`."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(connected(port, tls))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.sendall(SAID)
        clients.append(client)
    for _ in range(count):
        server = stack.enter_context(listener.accept()[0])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.settimeout(PATIENCE)
        server.sendall(server.recv(len(SAID), socket.MSG_WAITALL))
    for client in clients:
        heard = client.recv(len(SAID))
        if heard != SAID:
            raise PenError(f"{SAID!r} came back as {heard!r}")
