"""TLS clients: one with the verbs of Client, one that decides on every byte, and openssl's."""

import contextlib
import select
import ssl
from collections.abc import Callable

from support.certificates import Certificate
from support.client import Address, Client
from support.waiting import PATIENCE


def context(certificate: Certificate | None = None, most: str = "TLSv1_3") -> ssl.SSLContext:
    """For a client that trusts everybody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion[most]
    made.set_alpn_protocols(["h2", "http/1.1"])
    if certificate:
        made.load_cert_chain(certificate.both)
    return made


class TlsClient(Client):
    """A Client that speaks TLS."""

    def __init__(
        self, address: Address, name: str = "", how: ssl.SSLContext | None = None, source: str = ""
    ) -> None:
        super().__init__(address, source)
        try:
            how = how or context()
            self.socket: ssl.SSLSocket = how.wrap_socket(
                self.socket, server_hostname=name or None, suppress_ragged_eofs=False
            )
        except OSError:
            self.socket.close()
            raise

    def shut(self) -> "TlsClient":
        """Send close_notify, and go on reading."""
        self.socket.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.socket.unwrap()
        self.socket.settimeout(PATIENCE)
        return self

    def rest(self) -> bytes:
        parts = [self.buffer]
        self.buffer = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):  # what follows our own close_notify
            while data := self.socket.recv(65536):
                parts.append(data)
        return b"".join(parts)

    def exchange(self, data: bytes, size: int, heard: Callable[[bytes], object]) -> None:
        """Send `data` again and again, `size` bytes in all, and at the same time read as many; `heard` is
        told what comes."""
        sent = got = 0
        self.socket.setblocking(False)
        while got < size:
            waits = [self.socket] if sent < size else []
            select.select([self.socket], waits, [], PATIENCE)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while sent < size:
                    at = sent % len(data)
                    sent += self.socket.send(memoryview(data)[at : at + min(65536, size - sent)])
            with contextlib.suppress(ssl.SSLWantReadError):
                while got < size and (chunk := self.socket.recv(65536)):
                    heard(chunk)
                    got += len(chunk)
        self.socket.settimeout(PATIENCE)


class SlowClient:
    """A TLS client whose bytes the test sends."""

    def __init__(self, client: Client, name: str = "", most: str = "TLSv1_3") -> None:
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(most=most).wrap_bio(self.incoming, self.outgoing, server_hostname=name or None)

    def hello(self) -> bytes:
        """The first thing it has to say."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def finish(self) -> None:
        """The rest of the handshake."""
        self.client.send(self.last())

    def last(self) -> bytes:
        """What it has to say at the end of the handshake."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.incoming.write(self.client.socket.recv(65536))
        return self.outgoing.read()


def subject(tls: ssl.SSLSocket | ssl.SSLObject) -> bytes:
    """The other side's certificate."""
    return tls.getpeercert(binary_form=True) or b""
