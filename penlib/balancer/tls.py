"""TLS towards clients: contexts by server name, and channels through which the relay reads and writes.

A context is made of Terms (certificate, protocols, ciphers ...).  The one of the command line is for all
clients; with a directory of names (`ssl_sni_path`) a client that asks for a name that has files there gets
the context of those, made when it is first asked for and again when the files have changed.

Python's own ssl module does the work; what it lacks is stapling of OCSP responses.  This module is loaded
only when there is TLS to be done.

Not here: when the handshake may take its next step (handshake), what passes through (relay).
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penlib.balancer.settings import Terms
from penlib.errors import PenError, UsageError, reason
from penlib.loop import READ, WRITE
from penlib.report import Reporter

LEAST = {
    "ssl23": ssl.TLSVersion.MINIMUM_SUPPORTED,
    "tls1": ssl.TLSVersion.TLSv1,
    "tls1.1": ssl.TLSVersion.TLSv1_1,
    "tls1.2": ssl.TLSVersion.TLSv1_2,
    "tls1.3": ssl.TLSVersion.TLSv1_3,
}
"""What -L calls the least version."""

OLD = ("ssl23", "tls1", "tls1.1")
"""Those that today's security levels would not let be spoken."""

OPTIONS = {
    "no_sslv2": 0,  # there is none any more
    "no_sslv3": ssl.OP_NO_SSLv3,
    "no_tlsv1": ssl.OP_NO_TLSv1,
    "no_tlsv1.1": ssl.OP_NO_TLSv1_1,
    "no_tlsv1.2": ssl.OP_NO_TLSv1_2,
    "cipher_server_preference": ssl.OP_CIPHER_SERVER_PREFERENCE,
}
"""What the command ssl_option knows."""

NAMES = 1000
"""Contexts of server names that are kept: some 100 kB each."""


def check(terms: Terms) -> None:
    """Raises UsageError for ciphers, protocols and the like that can't be."""
    _context(terms)


def _context(terms: Terms) -> ssl.SSLContext:
    """All of a context but its certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = LEAST[terms.least] if terms.least else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if terms.compatible:
        context.options |= ssl.OP_ALL
    else:
        context.options &= ~ssl.OP_ALL
    for option in terms.options:
        context.options |= OPTIONS[option]
    ciphers = terms.ciphers or ("DEFAULT:@SECLEVEL=0" if terms.least in OLD else "")
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as exc:
            raise UsageError(f"'{ciphers}': no such ciphers") from exc
    if terms.alpn:
        try:
            context.set_alpn_protocols(list(terms.alpn))
        except (ssl.SSLError, ValueError, OverflowError) as exc:
            raise UsageError(f"'{','.join(terms.alpn)}': no protocol names") from exc
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Raises PenError naming the file."""

    def password() -> str:
        raise PenError(f"key {key}: it is encrypted, and there is nobody to ask for its password")

    for path in (certificate, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            raise PenError(f"{path}: {reason(exc)}") from exc
    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as exc:
        raise PenError(f"certificate {certificate}, key {key}: {_why(exc)}") from exc


def _trust(context: ssl.SSLContext, file: str, directory: str) -> None:
    """Check clients' certificates against these authorities."""
    if not file and not directory:
        return
    for path in filter(None, (file, directory)):
        if not os.access(path, os.R_OK):
            raise PenError(
                f"{path}: {'Permission denied' if os.path.exists(path) else 'No such file or directory'}"
            )
    try:
        context.load_verify_locations(file or None, directory or None)
        if file:  # whose certificates a client may choose from
            context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as exc:
        raise PenError(f"{file or directory}: {_why(exc)}") from exc
    context.verify_mode = ssl.CERT_OPTIONAL


def _why(exc: Exception) -> str:
    """The reason in OpenSSL's words, which are behind codes of its own."""
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.replace("_", " ").lower()
    return "no certificate or key in PEM format" if isinstance(exc, ssl.SSLError) else str(exc)


class Channel:
    """One client's TLS: what relay wants of it.  Would-block is BlockingIOError, a break another OSError."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self._said = False

    def handshake(self) -> int:
        """One step; answers READ or WRITE for what to wait, or 0 when it is done.  Raises OSError."""
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        except ValueError as exc:  # the name a client asks for can be anything
            raise OSError(str(exc)) from exc
        return 0

    def read(self, size: int) -> bytes:
        """Decrypted bytes, a record at most, so that nothing stays behind; b"" at the end."""
        try:
            return self.sock.read(size)
        except ssl.SSLZeroReturnError:  # what read says of the client's end once we have told ours
            return b""
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were taken."""
        if self._said:
            return os.write(self.sock.fileno(), data)
        try:
            return self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def farewell(self) -> bytes:
        """The encrypted words that nothing more will be written (close_notify), to be written as they are, as
        is whatever is written from now on.  The client may go on, and is still read.

        OpenSSL's own way of saying it looks at once for the answer, and takes it for an error, for good, if
        the client has sent something else meanwhile.  So the words are said into a pair of sockets of our own
        that stand in for the real one.
        """
        self._said = True
        fd = self.sock.fileno()
        mouth, ear = socket.socketpair()
        with mouth, ear:
            mouth.setblocking(False)
            ear.setblocking(False)
            real = os.dup(fd)
            try:
                os.dup2(mouth.fileno(), fd, inheritable=False)
                with contextlib.suppress(OSError, ValueError):
                    self.sock.unwrap()
            finally:
                os.dup2(real, fd, inheritable=False)
                os.close(real)
            with contextlib.suppress(OSError):
                return ear.recv(4096)
        return b""

    def notify(self) -> None:
        """Say the same before the end of everything, if it can be said at once."""
        if not self._said:
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()


class Tls:
    """The contexts of a pen."""

    def __init__(self, terms: Terms, path: Callable[[str], str], reporter: Reporter) -> None:
        """`path` tells where a file is.  Raises PenError."""
        self._path = path
        self._reporter = reporter
        self._names: dict[str, tuple[tuple[Any, ...], ssl.SSLContext | None]] = {}
        self.use(terms)

    def use(self, terms: Terms) -> None:
        """Make the contexts anew.  Raises PenError, and then the old ones stay."""
        context = _context(terms)
        certificate = self._path(terms.certificate)
        _load(context, certificate, self._path(terms.key) if terms.key else certificate)
        _trust(
            context, terms.ca_file and self._path(terms.ca_file), terms.ca_path and self._path(terms.ca_path)
        )
        if terms.require:
            context.verify_mode = ssl.CERT_REQUIRED
        if terms.sni_path:
            context.sni_callback = self._choose
        self._terms, self._default = terms, context
        self._names.clear()

    def channel(self, fd: int, family: int) -> Channel:
        """A channel over an accepted descriptor, which it owns from now on.  Raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
        sock.setblocking(False)
        try:
            return Channel(
                self._default.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
            )
        except ValueError as exc:
            raise OSError(str(exc)) from exc

    def _choose(self, sock: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        """The client has asked for a server name, or (None) has not."""
        if name and "/" not in name and not name.startswith("."):
            found = self._named(name.lower())
            if found:
                sock.context = found

    def _named(self, name: str) -> ssl.SSLContext | None:
        """The context for a name: that of its files, or none."""
        base = os.path.join(self._path(self._terms.sni_path), name)
        files = [Path(f"{base}.{kind}") for kind in ("key", "crt", "ca")]
        stamps = tuple(map(_stamp, files))
        if not (stamps[0] and stamps[1]):
            self._names.pop(name, None)
            return None
        before = self._names.get(name)
        if before and before[0] == stamps:
            return before[1]
        made = self._made(name, files, bool(stamps[2])) or (before and before[1])
        if len(self._names) >= NAMES:
            self._names.clear()
        self._names[name] = stamps, made
        return made

    def _made(self, name: str, files: list[Path], trusts: bool) -> ssl.SSLContext | None:
        key, certificate, authorities = map(str, files)
        context = _context(self._terms)
        try:
            _load(context, certificate, key)
            if trusts:
                _trust(context, authorities, "")
        except PenError as exc:
            self._reporter.warn(f"server name {name}: {exc}")
            return None
        if self._terms.require:
            context.verify_mode = ssl.CERT_REQUIRED
            if not trusts:
                _trust_as(context, self._default)
        return context


def _trust_as(context: ssl.SSLContext, other: ssl.SSLContext) -> None:
    """The authorities of another context."""
    for certificate in other.get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=certificate)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
