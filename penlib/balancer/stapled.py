"""TLS with a stapled OCSP response (RFC 6066 section 8), which the standard library can't send.

By pyOpenSSL, for the certificates that have a staple; the others do not pay for it.  Same face as `channel`,
same errors: pyOpenSSL's are turned into the standard library's.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from OpenSSL import SSL, crypto

from penlib.balancer.channel import Channel, Tls
from penlib.balancer.onerecord import AUTO_RETRY
from penlib.balancer.policy import Policy

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


_openssl: Any = vars(SSL).get("_lib")


class Stapled(Channel):
    """A channel by pyOpenSSL."""

    __slots__ = ()

    @staticmethod
    def _read_ahead(connection: object) -> None:
        """Not for these."""

    @staticmethod
    def _over(sock: socket.socket, context: SSL.Context) -> Tls:
        return _Translated(sock, context)


class _Translated:
    """A connection of pyOpenSSL with the face of the standard library's."""

    __slots__ = ("_connection",)

    def __init__(self, sock: socket.socket, context: SSL.Context) -> None:
        with _translated():
            self._connection = SSL.Connection(context, sock)
            self._connection.set_accept_state()
        if clear := getattr(_openssl, "SSL_clear_mode", None):
            clear(self._connection._ssl, AUTO_RETRY)  # see onerecord

    def do_handshake(self) -> None:
        with _translated():
            self._connection.do_handshake()

    def read(self, size: int, room: memoryview) -> int:
        with _translated():
            return self._connection.recv_into(room, size)

    def write(self, data: bytes | memoryview) -> int:
        with _translated():
            return self._connection.send(data)

    def shutdown(self) -> None:
        with _translated():
            self._connection.shutdown()


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
