"""The relay between sockets of this process: what nobody could see from outside."""

import os
import socket

from penlib.balancer.relay import Relay
from penlib.loop import Loop


class Owner:
    """Nobody in particular."""

    def ended(self):
        pass


def pour(source):
    """Send until nothing more goes; what went."""
    source.setblocking(False)
    sent = b""
    try:
        while True:
            data = bytes(range(256)) * 256
            sent += data[: source.send(data)]
    except BlockingIOError:
        return sent


def drain(source):
    """Read what is there."""
    source.setblocking(False)
    got = b""
    try:
        while True:
            got += source.recv(1 << 20)
    except BlockingIOError:
        return got


def run(loop):
    """What there is to do now."""
    loop.after(0.02, loop.stop)
    loop.run()


def test_parting_gives_what_waited():
    loop = Loop()
    relay = Relay(loop)
    client, down = socket.socketpair()
    up, server = socket.socketpair()
    fds = down.detach(), up.detach()
    for fd in fds:
        os.set_blocking(fd, False)
        relay.add(fd, socket.AF_UNIX)
    relay.join(*fds, Owner())
    sent = b""
    while not relay.waiting(fds[0]):
        sent += pour(server)
        run(loop)
    waited = relay.part(fds[1])
    got = drain(client)
    assert got
    assert waited
    assert sent.startswith(got + waited)
    assert not relay.is_joined(fds[0], Owner())
    relay.close(fds[0])
    assert client.recv(1) == b""
    client.close()
    server.close()
