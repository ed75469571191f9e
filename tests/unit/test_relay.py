"""The relay between sockets of this process: what nobody could see from outside."""

import gc
import os
import socket
import struct

import pytest

from penlib.balancer.pairs import RECORD
from penlib.balancer.relay import Relay
from penlib.loop import READ, Loop


class Owner:
    """Nobody in particular."""

    def ended(self):
        pass


def sides(relay):
    """A client and a server, and the descriptors by which `relay` has charge of them."""
    client, down = socket.socketpair()
    up, server = socket.socketpair()
    fds = down.detach(), up.detach()
    for fd in fds:
        os.set_blocking(fd, False)
        relay.add(fd, socket.AF_UNIX)
    return client, server, fds


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
        while data := source.recv(1 << 20):
            got += data
    except BlockingIOError:
        pass
    return got


def run(loop):
    """What there is to do now."""
    loop.after(0.02, loop.stop)
    loop.run()


SEGS_IN = 140
"""Where TCP_INFO has the count of segments that came, linux/tcp.h."""


def tcp_sides(relay):
    """As `sides`, by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        down = listener.accept()[0]
        server = socket.create_connection(listener.getsockname())
        up = listener.accept()[0]
    fds = down.detach(), up.detach()
    for fd in fds:
        os.set_blocking(fd, False)
        relay.add(fd, socket.AF_INET)
    return client, server, fds


class TestTheEndIsInSight:
    """Data and end are both there when pen looks."""

    def packets(self, sock):
        """How many have come."""
        return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200), SEGS_IN)[0]

    def test_they_go_on_in_one_packet(self):
        loop = Loop()
        relay = Relay(loop)
        client, server, fds = tcp_sides(relay)
        relay.join(*fds, Owner())
        before = self.packets(client)
        server.send(b"answer")
        server.close()
        run(loop)
        assert self.packets(client) == before + 1
        assert client.recv(100) == b"answer"
        assert client.recv(1) == b""
        relay.close(fds[0])
        client.close()

    def test_urgent_data_between(self):
        """A read stops there, whatever comes behind."""
        loop = Loop()
        relay = Relay(loop)
        client, server, fds = tcp_sides(relay)
        relay.join(*fds, Owner())
        server.send(b"one")
        server.send(b"!", socket.MSG_OOB)
        server.send(b"two")
        server.close()
        run(loop)
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"onetwo"
        relay.close(fds[0])
        client.close()

    def test_the_other_side_does_not_take_it_yet(self):
        loop = Loop()
        relay = Relay(loop)
        client, server, fds = tcp_sides(relay)
        with socket.socket(fileno=os.dup(fds[0])) as down:
            filled = pour(down)
        relay.join(*fds, Owner())
        server.send(b"answer")
        server.close()
        run(loop)
        assert relay.waiting(fds[0])
        got = client.recv(len(filled), socket.MSG_WAITALL)
        run(loop)
        assert got == filled
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"answer"
        relay.close(fds[0])
        client.close()

    def test_it_is_a_reset(self):
        """Of a Unix socket that is closed before all was read: not only what it has sent has ended."""
        loop = Loop()
        relay = Relay(loop)
        client, server, fds = sides(relay)
        ended = []
        owner = Owner()
        owner.ended = lambda: ended.append(True)
        relay.join(*fds, owner)
        os.write(fds[1], b"never read")
        server.send(b"answer")
        server.close()
        run(loop)
        assert client.recv(100) == b"answer"
        assert ended
        client.close()


@pytest.mark.parametrize("who", ["server", "client"])
def test_what_the_peer_of_a_reset_side_sends_in_the_same_batch(who):
    """It is lost, but not what is still on its way to the peer."""
    loop = Loop()
    relay = Relay(loop)
    client, server, (down, up) = tcp_sides(relay)
    relay.join(down, up, Owner())
    one, other = (server, client) if who == "server" else (client, server)
    fd, to = (up, down) if who == "server" else (down, up)
    data = b"last words " * 10_000
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    relay.sock(to).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(data))
    one.sendall(data)
    while relay.moved[fd] < len(data):
        run(loop)
    assert not relay.waiting(to)
    other.send(b"upload")
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
    for ready in (fd, to):
        loop.handlers[ready](ready, READ)
    got = b""
    for _ in range(200):
        if len(got) < len(data):
            run(loop)
            got += drain(other)
    assert got == data
    while relay.owner(to):  # it is not closed yet
        run(loop)
    with pytest.raises(ConnectionResetError):
        drain(other)
    other.close()


def test_a_number_that_is_used_again():
    """The object by which pen shuts a descriptor serves the next one of that number, and owns none."""
    loop = Loop()
    relay = Relay(loop)
    numbers = []
    for _ in range(2):
        client, server, fds = sides(relay)
        numbers.append(fds)
        relay.join(*fds, Owner())
        server.shutdown(socket.SHUT_WR)
        run(loop)
        assert client.recv(1) == b""
        client.close()
        run(loop)
        assert server.recv(1) == b""
        server.close()
    assert numbers[0] == numbers[1]
    client, server, fds = sides(relay)
    assert fds == numbers[0]
    del relay, loop
    gc.collect()
    for fd in fds:
        os.close(fd)
    client.close()
    server.close()


class Stuck:
    """A channel that must say something before it goes on reading, when the peer has not read for long."""

    def __init__(self, fd):
        self.sock = socket.socket(fileno=fd)
        self.stuck = False
        self.due = True

    def read(self, room):
        if self.due:
            try:
                self.sock.send(b"!")
            except BlockingIOError:
                self.stuck = True
                raise
            self.due = False
        return self.sock.recv_into(room)

    def more(self, size):
        return False

    def write(self, data):
        return self.sock.send(data)

    def end(self):
        return b""


def test_a_channel_that_must_write_to_read():
    """The answer to TLS's key update, when the client's window is closed: pen waits, idly, and goes on."""
    loop = Loop()
    relay = Relay(loop)
    client, server, fds = sides(relay)
    channel = Stuck(fds[0])
    channel.sock.setblocking(False)
    relay.secure(fds[0], channel)
    filled = pour(channel.sock)
    relay.join(*fds, Owner())
    client.send(b"question")
    turns = 0

    def count():
        nonlocal turns
        turns += 1

    reading, channel.read = channel.read, lambda room: (count(), reading(room))[1]
    run(loop)
    assert turns == 1, "it does not spin"
    got = drain(client)
    run(loop)
    assert got + drain(client) == filled + b"!"
    assert drain(server) == b"question"
    relay.close(fds[0])
    client.close()
    server.close()


def test_parting_gives_what_waited():
    loop = Loop()
    relay = Relay(loop)
    client, server, fds = sides(relay)
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


class Scripted:
    """A channel whose reads come to what the script says; then there is nothing."""

    def __init__(self, fd, script):
        self.sock = socket.socket(fileno=fd)
        self.stuck = False
        self.script = script

    def read(self, room):
        came = self.script.pop(0) if self.script else BlockingIOError()
        if isinstance(came, OSError):
            raise came
        room[: len(came)] = came
        return len(came)

    def more(self, size):
        return False

    def write(self, data):
        return self.sock.send(data)

    def end(self):
        return b""


FULL = bytes(RECORD)


@pytest.mark.parametrize(
    ("script", "arrives", "ends"),
    [
        ([FULL, b"x"], FULL + b"x", False),
        ([FULL, BlockingIOError()], FULL, False),
        ([FULL, FULL, b""], 2 * FULL, True),
        ([FULL, ConnectionResetError()], FULL, True),
    ],
)
def test_records_that_follow_each_other(script, arrives, ends):
    """They go on together, and what ends them comes after them; what is left unread is heard of again."""
    loop, owner = Loop(), Owner()
    relay = Relay(loop)
    client, server, fds = sides(relay)
    relay.secure(fds[0], Scripted(fds[0], script))
    relay.join(*fds, owner)
    client.send(b"there is something to read")
    loop.after(0.2, loop.stop)
    loop.run()
    server.setblocking(False)
    assert server.recv(1 << 20) == arrives
    assert not script
    if ends:
        assert server.recv(1) == b""
    else:
        with pytest.raises(BlockingIOError):
            server.recv(1)
    if relay.is_joined(fds[0], owner):
        relay.close(fds[0])
    client.close()
    server.close()
