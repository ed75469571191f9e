"""TLS over one descriptor: the encrypted side of a connection, in the shape that the relay moves bytes in.

Over the socket itself, not memory BIOs: those cost half as much CPU again.  And by the object behind an
`ssl.SSLSocket` (`_wrap_socket`, the same from Python 3.2 to 3.14), not by that: it asks the kernel who the
client is, and if that has gone meanwhile it closes the descriptor, which is not its own.  A read takes one
record whole (RFC 8446 section 5.1: at most 16 KiB), and OpenSSL takes no byte more from the kernel.  So
nothing is ever left where a level-triggered loop does not see it, unless the channel has said so (`more`): it
reads ahead while bulk data comes.

Not here: certificates and what is allowed (tls); who reads and writes when (handshakes, relay).
"""

import contextlib
import errno
import os
import socket
from _socket import socket as RawSocket
from collections.abc import Callable
from ssl import SSLWantReadError, SSLWantWriteError, SSLZeroReturnError
from typing import Any, Protocol

from penlib.balancer.onerecord import one_record_a_read
from penlib.balancer.pairs import CHUNK, RECORD
from penlib.balancer.readahead import ReadAhead, read_ahead
from penlib.loop import READ, WRITE


class Aside:
    """Makes a close_notify, and nothing but that.

    `SSLSocket.unwrap` says close_notify and then looks for the other side's.  If it finds data instead, that
    data is lost and the connection fails; a client may well be sending when the server ends.  So for that
    moment a socket where nothing comes takes the place of the client's.
    """

    def __init__(self) -> None:
        """Raises OSError if there are no descriptors."""
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._spare = os.dup(self._inner.fileno())
        """A number kept for the client's socket, so that running out of descriptors can't come between."""

    def caught(self, fd: int, say: Callable[[], object]) -> bytes:
        """What `say` writes to `fd`, which is not written there."""
        inner = self._inner.fileno()
        os.dup2(fd, self._spare, inheritable=False)
        os.dup2(inner, fd, inheritable=False)
        try:
            with contextlib.suppress(OSError, ValueError):
                say()
        finally:
            os.dup2(self._spare, fd, inheritable=False)
            os.dup2(inner, self._spare, inheritable=False)
        try:
            return self._outer.recv(RECORD)
        except BlockingIOError:
            return b""


class Tls(Protocol):
    """What of either library does the work; its face is the standard one's, its errors too."""

    def do_handshake(self) -> None:
        """Go on with it."""

    def read(self, size: int, room: memoryview, /) -> int:
        """Read at most `size` bytes, of one record, into `room`; answers how many."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write some of it; answers how much."""

    def shutdown(self) -> object:
        """Say close_notify, and wait for it."""


class Channel:
    """TLS by the standard library.  Errors are OSErrors; those of TLS itself are ssl.SSLErrors, which are."""

    __slots__ = ("_ahead", "_aside", "_ended", "_established", "_fd", "_tls", "sock", "stuck")

    def __init__(self, context: Any, fd: int, family: int, aside: Aside) -> None:
        """Owns `fd`, unless it raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
        try:
            sock.setblocking(False)
            self._tls = self._over(sock, context)
        except BaseException:
            sock.detach()
            raise
        self.sock: RawSocket = sock
        self.stuck = False
        """The last read could not go on because something must be written first: TLS has a word of its own
        to say (the answer to a key update), and the kernel does not take it."""
        self._fd = fd
        self._aside = aside
        self._established = self._ended = False
        self._ahead: ReadAhead | None = None

    _read_ahead = staticmethod(read_ahead)

    @staticmethod
    def _over(sock: socket.socket, context: Any) -> Tls:
        made: Tls = context._wrap_socket(sock, True)
        one_record_a_read(made)
        return made

    def handshake(self) -> int:
        """Go on with the handshake; answers what it waits for, READ or WRITE, or 0 once it is done.

        Raises OSError.
        """
        try:
            self._tls.do_handshake()
        except SSLWantReadError:
            return READ
        except SSLWantWriteError:
            return WRITE
        self._established = True
        return 0

    def read(self, room: memoryview) -> int:
        """Read what one record holds into `room`, which is RECORD bytes long; answers how much, 0 at the end.
        Raises BlockingIOError if none is complete, OSError.

        An end without close_notify is an end (OP_IGNORE_UNEXPECTED_EOF): many a client ends like that.  What
        older Pythons call an SSLEOFError is a reset then.
        """
        if self._ahead:
            self._ahead.begin()
        try:
            size = self._tls.read(RECORD, room)
        except SSLWantReadError:
            raise BlockingIOError from None
        except SSLWantWriteError:
            self.stuck = True
            raise BlockingIOError from None
        except SSLZeroReturnError:
            size = 0
        if not size and self._ahead and self._ahead.cut_off():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return size

    def more(self, size: int) -> bool:
        """To be asked after one or more reads, which brought `size` bytes.  Answers whether more has come
        that only reading on, and no poller, would find.

        It reads ahead once a full CHUNK has come, until less than a record does.
        """
        if not self._ahead:
            if size == CHUNK:
                self._ahead = self._read_ahead(self._tls)
            return False
        if self._ahead.held():
            return True
        self._ahead.end()
        if size < RECORD:
            self._ahead = None
        return False

    def write(self, data: bytes | memoryview) -> int:
        """Write some of `data`; answers how much.  What is left has to be written next, perhaps with more
        behind it.  Raises BlockingIOError if nothing can be written, OSError.

        Where OpenSSL must read before it writes, the client has sent a part of a handshake message, the
        least that makes it wait for more: nobody does that who means well, and no poller would say when to go
        on.
        """
        if self._ended:
            return os.write(self._fd, data)
        size, done = len(data), 0
        try:
            done = self._tls.write(data)
            while done < size:
                done += self._tls.write(memoryview(data)[done:])
        except SSLWantWriteError:
            if not done:
                raise BlockingIOError from None
        except SSLWantReadError:
            if not done:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
        return done

    def end(self) -> bytes:
        """The close_notify; empty if TLS has not begun or has ended.  Whoever calls writes it: from now on
        `write` passes bytes as they are."""
        if not self._established or self._ended:
            return b""
        self._ended = True
        with self._ahead.put_by() if self._ahead else contextlib.nullcontext():
            return self._aside.caught(self._fd, self._tls.shutdown)
