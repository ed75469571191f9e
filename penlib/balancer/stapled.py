"""TLS with a stapled OCSP response (RFC 6066 section 8), which the standard library can't send.

By pyOpenSSL, for the certificates that have a staple; the others do not pay for it.  Same face as `channel`,
same errors: pyOpenSSL's are turned into the standard library's.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from OpenSSL import SSL, crypto

from penlib.balancer.channel import Aside, Channel, owned
from penlib.balancer.policy import Policy
from penlib.loop import READ, WRITE

EOF = -1
"""In pyOpenSSL's SysCallError: the other side has closed without a close_notify."""


def context(
    policy: Policy, certificate: str, key: str, authorities: list[bytes], staple: bytes
) -> SSL.Context:
    """What `tls` makes of its own, with `staple` for clients that ask.  Raises ssl.SSLError."""
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    with _translated():
        made.use_certificate_chain_file(certificate)
        made.use_privatekey_file(key)
        for authority in authorities:
            store = made.get_cert_store()
            assert store
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, authority))
        made.set_min_proto_version(policy.least)
        made.set_options(policy.options)
        made.set_cipher_list(policy.ciphers.encode())
    made.set_mode(SSL.MODE_RELEASE_BUFFERS)
    made.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    made.set_session_id(b"pen")
    if authorities or policy.required:
        made.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if policy.required else 0))
    made.set_ocsp_server_callback(lambda connection, data: staple)
    made.set_alpn_select_callback(_chooser([name.encode() for name in policy.alpn]))
    return made


def _chooser(ours: list[bytes]) -> Callable[[SSL.Connection, list[bytes]], Any]:
    """The first of our protocols that the client has, too."""

    def choose(connection: SSL.Connection, theirs: list[bytes]) -> Any:
        return next((name for name in ours if name in theirs), SSL.NO_OVERLAPPING_PROTOCOLS)

    return choose


class Stapled(Channel):
    """A channel by pyOpenSSL."""

    __slots__ = ("_connection",)

    def __init__(self, context: SSL.Context, fd: int, family: int, aside: Aside) -> None:
        with owned(family, fd) as sock, _translated():
            self._connection = connection = SSL.Connection(context, sock)
            connection.set_accept_state()
        self._take(sock, fd, aside, self._receive, self._send, connection.shutdown)

    def handshake(self) -> int:
        try:
            with _translated():
                self._connection.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        self._established = True
        return 0

    def end(self) -> bytes:
        try:
            return super().end()
        except SSL.Error:
            return b""

    def _receive(self, size: int) -> bytes:
        with _translated():
            return self._connection.recv(size)

    def _send(self, data: bytes | memoryview) -> int:
        with _translated():
            return self._connection.send(data)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SSL.WantReadError:
        raise ssl.SSLWantReadError from None
    except SSL.WantWriteError:
        raise ssl.SSLWantWriteError from None
    except SSL.ZeroReturnError:
        raise ssl.SSLZeroReturnError from None
    except SSL.SysCallError as exc:
        if exc.args[0] == EOF:
            raise ssl.SSLEOFError from None
        raise OSError(*exc.args) from None
    except (SSL.Error, crypto.Error) as exc:
        raise ssl.SSLError(_words(exc)) from None


def _words(exc: Exception) -> str:
    """pyOpenSSL's error is a list of (library, function, reason)."""
    errors = exc.args[0] if exc.args else []
    return ", ".join(error[-1] for error in errors if error[-1]) if isinstance(errors, list) else str(exc)
