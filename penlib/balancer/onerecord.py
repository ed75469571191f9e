"""OpenSSL's reads return after each TLS record, also one that carries no data.

The standard library has them go on (SSL_MODE_AUTO_RETRY) for as long as there is something to read: one
client that sends nothing but key updates (RFC 8446 section 4.6.3), or with TLS 1.2 nothing but requests to
renegotiate, faster than they are worked off, keeps pen in a single read, and everybody else waits.

There is no way in the ssl module to change that, so OpenSSL is asked itself.  Where it can't be asked, all is
as it was.
"""

from typing import Any

from penlib.balancer import openssl
from penlib.balancer.openssl import ADDRESS, INT, LONG

AUTO_RETRY = 4
"""SSL_MODE_AUTO_RETRY: openssl/ssl.h, like the next."""

_CLEAR_MODE = 78  # SSL_CTRL_CLEAR_MODE

_lib = openssl.functions(SSL_ctrl=(LONG, ADDRESS, INT, LONG, ADDRESS))


def one_record_a_read(connection: Any) -> None:
    """Have the reads of a `_ssl._SSLSocket` return after each record."""
    if _lib:
        _lib.SSL_ctrl(openssl.address(connection), _CLEAR_MODE, AUTO_RETRY, None)
