"""OpenSSL's reads return after each TLS record, also one that carries no data.

The standard library has them go on (SSL_MODE_AUTO_RETRY) for as long as there is something to read: one
client that sends nothing but key updates (RFC 8446 section 4.6.3), or with TLS 1.2 nothing but requests to
renegotiate, faster than they are worked off, keeps pen in a single read, and everybody else waits.

There is no way in the ssl module to change that, so OpenSSL is asked itself.  CPython's connection
object begins with a reference to the socket, then comes OpenSSL's (PySSLSocket in Modules/_ssl.c).  Where
that is not known to be so, all is as it was.
"""

import _ssl
import ctypes
import sys
from collections.abc import Callable
from typing import Any

AUTO_RETRY = 4
"""SSL_MODE_AUTO_RETRY: openssl/ssl.h, like the next."""

KNOWN = (3, 15)
"""Before this version of CPython its object is as said above; a wrong guess would crash."""

_CLEAR_MODE = 78  # SSL_CTRL_CLEAR_MODE
_PLACE = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)


def _found() -> Callable[..., int] | None:
    """SSL_ctrl of the library that the ssl module uses; None if it can't be had or must not be used."""
    if sys.implementation.name != "cpython" or sys.version_info >= KNOWN:
        return None
    try:
        control = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_ctrl
    except (OSError, AttributeError):
        return None
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    control.restype = ctypes.c_long
    return control


_control = _found()  # now: in a jail it would not be found


def one_record_a_read(connection: Any) -> None:
    """Have the reads of a `_ssl._SSLSocket` return after each record."""
    if _control:
        _control(ctypes.c_void_p.from_address(id(connection) + _PLACE), _CLEAR_MODE, AUTO_RETRY, None)
