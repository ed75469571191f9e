"""OpenSSL itself, the copy that the ssl module works with, for what that does not pass on.

CPython's connection object begins with a reference to the socket, then comes OpenSSL's (PySSLSocket in
Modules/_ssl.c).  Where that is not known to be so there are no functions here, and whoever wants some does
without.

Not here: what they are called for (onerecord, readahead).
"""

import _ssl
import ctypes
import sys
from types import SimpleNamespace
from typing import Any

KNOWN = (3, 15)
"""Before this version of CPython its object is as said above; a wrong guess would crash."""

ADDRESS, INT, LONG, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_size_t

_PLACE = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)


def functions(**wanted: tuple[Any, ...]) -> Any:
    """Functions by name, each of them wanted with the types of its result and its arguments; None if not all
    can be had, or if they must not be used.  To be called before pen is confined: a jail has no libraries."""
    if sys.implementation.name != "cpython" or sys.version_info >= KNOWN:
        return None
    found = SimpleNamespace()
    try:
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        for name, (result, *arguments) in wanted.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(found, name, function)
    except (OSError, AttributeError):
        return None
    return found


def address(connection: Any) -> int | None:
    """Where OpenSSL's object is that a `_ssl._SSLSocket` stands for; good as long as that lives."""
    return ctypes.c_void_p.from_address(id(connection) + _PLACE).value
