"""TLS that is read ahead: nothing stays behind in a buffer that no poller sees.

Both ends are in this process, so it is known what has been read from the kernel, and when.
"""

import contextlib
import itertools
import random
import re
import socket
import ssl
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from support.backend import reset
from support.programs import needs
from support.tls import context

from penlib.balancer import openssl, readahead
from penlib.balancer.channel import Aside, Channel
from penlib.balancer.pairs import CHUNK, RECORD
from penlib.balancer.relay import Relay
from penlib.loop import READ, Loop

pytestmark = needs("openssl")

RANDOM = random.Random(11)
ASIDE = Aside()
UPDATE_NOT_REQUESTED = 0

client_lib = openssl.functions(
    SSL_key_update=(openssl.INT, openssl.ADDRESS, openssl.INT),
    SSL_do_handshake=(openssl.INT, openssl.ADDRESS),
)


class Owner:
    """Of the pair; it remembers its end."""

    over = False

    def ended(self):
        self.over = True


def tcp():
    """The two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


class World:
    """A client whose records the test sends, a relay (of its own, or that of another one), and a server."""

    def __init__(self, certificate, most="TLSv1_3", beside=None, keylog=None):
        self.loop, self.owner = beside.loop if beside else Loop(), Owner()
        self.relay = beside.relay if beside else Relay(self.loop)
        self.client, down = tcp()
        self.server, up = tcp()
        for sock in (self.client, self.server, up):
            sock.setblocking(False)
        self.down, self.up = down.detach(), up.detach()
        for fd in (self.down, self.up):
            self.relay.add(fd, socket.AF_INET)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        serving.load_cert_chain(certificate.both)
        self.channel = Channel(serving, self.down, socket.AF_INET, ASIDE)
        self.relay.secure(self.down, self.channel)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wanting = context(most=most)
        if keylog:
            wanting.keylog_filename = keylog
        self.tls = wanting.wrap_bio(self.incoming, self.outgoing)
        self.sent = self.got = b""
        self._shake()
        self.relay.join(self.down, self.up, self.owner)

    def _shake(self):
        waits = READ
        done = False
        while waits or not done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                done = True
            self.client.sendall(self.outgoing.read())
            waits = self.channel.handshake()
            self.hear()

    def hear(self):
        """Give the client's TLS what has come for it."""
        with contextlib.suppress(BlockingIOError):
            self.incoming.write(self.client.recv(1 << 20))

    def records(self, *sizes):
        """So many records, encrypted; -1 is a key update."""
        for size in sizes:
            if size < 0:
                self.update_keys()
            else:
                data = RANDOM.randbytes(size)
                self.tls.write(data)
                self.sent += data
        return self.outgoing.read()

    def update_keys(self):
        """In what the client says from now on."""
        address = openssl.address(self.tls._sslobj)
        assert client_lib.SSL_key_update(address, UPDATE_NOT_REQUESTED) == 1
        assert client_lib.SSL_do_handshake(address) == 1

    def say(self, data):
        """Send it in one piece."""
        assert self.client.send(data) == len(data)

    def run(self, seconds=0.05):
        """What there is to do now, as long as the server gets something by it."""
        before = -1
        while len(self.got) > before:
            before = len(self.got)
            self.loop.after(seconds, self.loop.stop)
            self.loop.run()
            self.drain()

    def until_over(self):
        """Run until pen has closed both sides; what the server gets meanwhile."""
        while not self.owner.over:
            self.loop.after(0.02, self.loop.stop)
            self.loop.run()
            self.drain()
        self.drain()

    def drain(self):
        """What the server gets."""
        with contextlib.suppress(BlockingIOError):
            while data := self.server.recv(1 << 20):
                self.got += data

    def go_ahead(self):
        """Bulk data, so that from now on reads go ahead."""
        self.say(self.records(*[RECORD] * 4))
        self.run()
        assert self.got == self.sent

    def hold(self, *sizes):
        """Have records read ahead, which are not passed on as the server's side is not written to."""
        self.go_ahead()
        self.say(self.records(*sizes))
        self.relay.pause(self.down)
        self.channel.read(memoryview(bytearray(RECORD)))
        self.sent = self.sent[: len(self.got)] + self.sent[len(self.got) + sizes[0] :]
        self.loop.hides(self.down, self.channel.more(sizes[0]))
        assert self.channel._ahead.held()

    def fill(self):
        """Send until something waits for the server, which does not read, while more was read ahead: where
        the kernel's buffers are full may be at the end of what was sent."""
        for count in itertools.cycle((5, 6, 7)):
            while not self.relay.waiting(self.up):
                self.say(self.records(*[RECORD] * count))
                self.loop.after(0.01, self.loop.stop)
                self.loop.run()
            if self.channel._ahead and self.channel._ahead.held():
                return
            self.run()

    def turns(self):
        """How often the loop turns while nothing happens."""
        count = 0
        poll = self.loop._poller.poll

        def counted(timeout):
            nonlocal count
            count += 1
            return poll(timeout)

        self.loop._poller.poll = counted
        self.loop.after(0.1, self.loop.stop)
        self.loop.run()
        self.loop._poller.poll = poll
        return count

    def close(self):
        if not self.owner.over:
            self.relay.close(self.down)
        self.client.close()
        self.server.close()


@pytest.fixture
def world(ca):
    made = []

    def make(**how):
        made.append(World(ca.issue("localhost"), **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


SIZES = {
    "tiny": [1] * 500,
    "odd": [1, RECORD - 1, 3, RECORD, 5, 1000, RECORD, RECORD, 7],
    "full": [RECORD] * 6,
    "full and a bit": [*[RECORD] * 5, 1],
    "many": [RANDOM.choice([1, 2, 100, 5000, RECORD]) for _ in range(60)],
    "keys": [10, -1, -1, -1, RECORD, -1, 20, -1, -1],
    "only keys, then a byte": [*[-1] * 300, 1],
}


@pytest.mark.parametrize("most", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_records_in_one_piece(world, sizes, most):
    made = world(most=most)
    made.go_ahead()
    made.say(made.records(*[RECORD] * 4, *(size for size in sizes if size > 0 or most == "TLSv1_3")))
    made.run()
    assert made.got == made.sent
    assert made.turns() < 5


@pytest.mark.parametrize("seed", range(8))
def test_pieces_that_know_nothing_of_records(world, seed):
    made = world()
    made.go_ahead()
    cuts = random.Random(seed)
    data = made.records(*[RECORD] * 4, *SIZES["many"], *SIZES["keys"], *SIZES["odd"], *[RECORD] * 4)
    while data:
        size = min(len(data), cuts.choice([1, 4, 5, 6, 100, RECORD, RECORD + 22, CHUNK, 100_000]))
        made.say(data[:size])
        data = data[size:]
        made.run(0.001)
    made.run()
    assert made.got == made.sent


def test_reading_a_key_update_is_a_read_of_its_own(world):
    """Or else whoever sends many of them keeps everybody waiting."""
    made = world()
    made.hold(1, *[-1] * 100, 1)
    for _ in range(100):
        with pytest.raises(BlockingIOError):
            made.channel.read(memoryview(bytearray(RECORD)))
    assert made.channel.read(memoryview(bytearray(RECORD))) == 1


def half_an_update(keylog, sent):
    """The record, number `sent` of a client's, in which a key update is but begun (RFC 8446, 5.2 and 7.3)."""
    secret = bytes.fromhex(re.search(r"CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)", keylog.read_text())[1])
    digest = hashes.SHA384() if len(secret) == 48 else hashes.SHA256()

    def expanded(label, size):
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return HKDFExpand(digest, size, info).derive(secret)

    key, iv = expanded(b"tls13 key", 32 if len(secret) == 48 else 16), expanded(b"tls13 iv", 12)
    nonce = (int.from_bytes(iv) ^ sent).to_bytes(12)
    inner = b"\x18\0\0\1" + b"\x16"
    head = b"\x17\3\3" + struct.pack("!H", len(inner) + 16)
    return head + AESGCM(key).encrypt(nonce, inner, head)


def test_half_a_handshake_message(world, tmp_path):
    """Until it is whole OpenSSL can't write: to try all the time would take all of the processor."""
    made = world(keylog=tmp_path / "keys")
    made.say(made.records(10))
    made.run()
    made.say(half_an_update(tmp_path / "keys", 1))
    made.run()
    assert not made.owner.over
    made.server.send(b"answer")
    assert made.turns() < 5
    made.client.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):  # what the server has said did not arrive
        made.until_over()


def test_a_pause_and_its_end(world):
    made = world()
    made.hold(1, 100, RECORD, 7)
    assert made.turns() < 5
    made.run()
    assert len(made.got) < len(made.sent)
    made.relay.resume(made.down)
    made.run()
    assert made.got == made.sent


def test_a_server_that_does_not_read_and_then_does(world):
    made = world()
    made.go_ahead()
    made.fill()
    assert made.turns() < 5
    made.run()
    assert made.got == made.sent


def test_what_waits_is_not_what_another_client_has_sent(world):
    """All are decrypted into the same place."""
    made = world()
    other = world(beside=made)
    made.go_ahead()
    made.fill()
    other.say(other.records(*[RECORD] * 8))
    other.run()
    assert other.got == other.sent
    made.run()
    assert made.got == made.sent


def test_the_clients_end_after_all_it_said(world):
    made = world()
    made.go_ahead()
    made.say(made.records(*SIZES["many"]) + end(made))
    made.run()
    assert made.got == made.sent
    assert made.server.recv(1) == b""


def test_an_end_without_close_notify(world):
    made = world()
    made.go_ahead()
    made.say(made.records(*[RECORD] * 4, *SIZES["many"]))
    made.client.shutdown(socket.SHUT_WR)
    made.run()
    assert made.got == made.sent
    assert made.server.recv(1) == b""


def test_what_follows_the_clients_end(world):
    """Nobody has any use for it; but the answer still reaches the client."""
    made = world()
    made.go_ahead()
    made.say(made.records(RECORD, 1) + end(made) + b"\x17\x03\x03\x00\x20" + bytes(32) * 100)
    made.run()
    assert made.got == made.sent
    assert made.server.recv(1) == b""
    assert made.turns() < 5
    made.server.send(b"answer")
    made.run()
    made.hear()
    with contextlib.suppress(ssl.SSLWantReadError):
        assert made.tls.read(10) == b"answer"


def end(world):
    """The client's close_notify."""
    with contextlib.suppress(ssl.SSLWantReadError):
        world.tls.unwrap()
    return world.outgoing.read()


def test_the_servers_end_while_something_is_held(world):
    made = world()
    made.hold(1, 100, RECORD, 7)
    made.server.shutdown(socket.SHUT_WR)
    made.run()
    made.hear()
    assert made.tls.read(1) == b"", "close_notify has come"
    made.relay.resume(made.down)
    made.run()
    made.say(made.records(RECORD, 5))
    made.run()
    assert made.got == made.sent


@pytest.mark.parametrize("cut", [2, 5, 6, 1000])
def test_a_reset_within_a_record(world, cut):
    """The server gets what came before, and hears of a reset."""
    made = world()
    made.go_ahead()
    data = made.records(*[RECORD] * 3)
    kept = len(made.sent)
    made.say(data + made.records(2000)[:cut])
    reset(made.client)
    with pytest.raises(ConnectionResetError):
        made.until_over()
    assert made.got == made.sent[:kept]


def test_the_buffer_is_given_back(world):
    """An idle connection is as small as if it had never moved bulk data."""
    made = world()
    made.go_ahead()
    assert not made.channel._ahead.held()
    made.say(made.records(RECORD, 1))
    made.run()
    assert made.channel._ahead._buffer is None
    made.say(made.records(1))
    made.run()
    assert made.channel._ahead is None
    assert readahead._spare


def test_no_more_than_some_spare_ones(world):
    worlds = [world() for _ in range(readahead.SPARE + 2)]
    for one in worlds:
        one.hold(1, 100)
    for one in worlds:
        one.relay.resume(one.down)
        one.run()
        assert one.got == one.sent
    assert len(readahead._spare) == readahead.SPARE


def test_closing_while_something_is_held(world):
    made = world()
    made.hold(1, 100, RECORD)
    made.relay.close(made.down)
    assert made.owner.over
    assert made.turns() < 5


def test_where_openssl_is_not_known(world, monkeypatch):
    monkeypatch.setattr(readahead, "_lib", None)
    made = world()
    made.go_ahead()
    made.say(made.records(*SIZES["many"]))
    made.run()
    assert made.got == made.sent
    assert made.channel._ahead is None
