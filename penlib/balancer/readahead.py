"""Reading more of a TLS stream from the kernel than the next record.

OpenSSL by itself reads the 5 bytes of a record's head, then its body: two calls of the kernel for 16 KiB.  A
buffer between it and the socket (BIO_f_buffer(3)) makes that one for several records.  OpenSSL's own way to
read ahead won't do: within it a read goes on past records without data, whatever `onerecord` says, and each
record moves all that follow it.

Bytes in the buffer are not seen by any poller, but `held` tells of all of them.  OpenSSL takes from it only
what it processes, and at least a byte a read: so as long as some are held, reading on leads somewhere; once
none are, all is as if there had never been a buffer, and it is given back.

Not here: when that pays, and who reads on (channel, relay).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from penlib.balancer import openssl
from penlib.balancer.openssl import ADDRESS, INT, LONG, SIZE

SIZE_OF_BUFFER = 112 * 1024
"""Bytes: as many whole records as stay below the 128 KiB from which on malloc would map memory."""

SPARE = 4
"""Empty buffers kept."""

_SET_BUFFER_SIZE = 117  # BIO_C_SET_BUFF_SIZE: openssl/bio.h
_FOR_READING = 0

_lib = openssl.functions(
    BIO_f_buffer=(ADDRESS,),
    BIO_new=(ADDRESS, ADDRESS),
    BIO_free=(INT, ADDRESS),
    BIO_int_ctrl=(LONG, ADDRESS, INT, LONG, INT),
    BIO_up_ref=(INT, ADDRESS),
    BIO_push=(ADDRESS, ADDRESS, ADDRESS),
    BIO_pop=(ADDRESS, ADDRESS),
    BIO_next=(ADDRESS, ADDRESS),
    BIO_ctrl_pending=(SIZE, ADDRESS),
    SSL_get_rbio=(ADDRESS, ADDRESS),
    SSL_set0_rbio=(None, ADDRESS, ADDRESS),
    SSL_has_pending=(INT, ADDRESS),
)
_spare: list[int] = []


class ReadAhead:
    """Of one `_ssl._SSLSocket`, which must outlive it.  It has a buffer from `begin` to `end`."""

    __slots__ = ("_buffer", "_ssl")

    def __init__(self, connection: Any) -> None:
        self._ssl = openssl.address(connection)
        self._buffer: int | None = None

    def begin(self) -> None:
        """Read ahead from now on, if there is memory for it."""
        if self._buffer:
            return
        buffer = _spare.pop() if _spare else _made()
        if buffer:
            socket = _lib.SSL_get_rbio(self._ssl)
            _lib.BIO_up_ref(socket)
            _lib.BIO_push(buffer, socket)
            _lib.SSL_set0_rbio(self._ssl, buffer)
            self._buffer = buffer

    def held(self) -> int:
        """Bytes that were read ahead."""
        return int(_lib.BIO_ctrl_pending(self._buffer)) if self._buffer else 0

    def end(self) -> None:
        """Give the buffer back; it holds nothing."""
        buffer, self._buffer = self._buffer, None
        if not buffer:
            return
        _lib.BIO_up_ref(buffer)
        _lib.SSL_set0_rbio(self._ssl, _lib.BIO_pop(buffer))
        if len(_spare) < SPARE:
            _spare.append(buffer)
        else:
            _lib.BIO_free(buffer)

    def cut_off(self) -> bool:
        """Whether a stream that has come to its end did so within a record.

        When it was reset there, the buffer has met the error, and a read after an error finds an end.
        """
        return bool(self._buffer and _lib.SSL_has_pending(self._ssl))

    @contextmanager
    def put_by(self) -> Iterator[None]:
        """Meanwhile OpenSSL reads the descriptor itself, and not what is held."""
        buffer = self._buffer
        if not buffer:
            yield
            return
        socket = _lib.BIO_next(buffer)
        _lib.BIO_up_ref(buffer)
        _lib.BIO_up_ref(socket)
        _lib.SSL_set0_rbio(self._ssl, socket)
        try:
            yield
        finally:
            _lib.SSL_set0_rbio(self._ssl, buffer)


def read_ahead(connection: Any) -> ReadAhead | None:
    """For a `_ssl._SSLSocket`; None where it can't be had."""
    return ReadAhead(connection) if _lib else None


def _made() -> int | None:
    buffer: int | None = _lib.BIO_new(_lib.BIO_f_buffer())
    if buffer and not _lib.BIO_int_ctrl(buffer, _SET_BUFFER_SIZE, SIZE_OF_BUFFER, _FOR_READING):
        _lib.BIO_free(buffer)
        return None
    return buffer
