"""Privileges that outlive the change of user: single capabilities of the kernel, see capabilities(7).

setuid from root to another user drops all of them.  `keep` does it without that, and then gives up all but
those that are asked for.  What is asked here of the kernel is Linux only, and is loaded only when it is
needed: a pen that keeps nothing never imports ctypes.
"""

import os
import socket
from _socket import socket as RawSocket

from penlib.errors import PenError, reason

NET_ADMIN = 12
"""CAP_NET_ADMIN: to use addresses that are not ours (IP_TRANSPARENT, ip(7))."""

IP_TRANSPARENT = getattr(socket, "IP_TRANSPARENT", 19)
IPV6_TRANSPARENT = 75
"""linux/in6.h; the socket module does not have it."""

_KEEP_CAPABILITIES = 8  # prctl(2): PR_SET_KEEPCAPS
_VERSION = 0x20080522  # capget(2): _LINUX_CAPABILITY_VERSION_3


def load() -> None:
    """Load what `keep_through_setuid` and `give_up_all_but` need; in a jail it would not be found."""
    import ctypes  # noqa: F401


def keep_through_setuid() -> None:
    """Do not drop what may be used at the next setuid; `give_up_all_but` has to follow it."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def give_up_all_but(*kept: int) -> None:
    """From now on have and use these capabilities, and no other.  Raises OSError."""
    import ctypes

    bits = sum(1 << number for number in kept)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    # Effective, permitted, inheritable: first their lower 32 bits, then their upper ones.
    data = (ctypes.c_uint32 * 6)(bits, bits, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, data):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def check_transparent() -> None:
    """Raises PenError if connections can't be made from addresses that are not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        except OSError as exc:
            raise PenError(
                f"{reason(exc)}; pen must be root, or have been started by root with this command"
                " in its -O or -F (capability CAP_NET_ADMIN)"
            ) from exc


def make_transparent(sock: RawSocket, family: int) -> None:
    """Let a socket bind to any address.  Raises OSError."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
