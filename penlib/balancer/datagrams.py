"""UDP sockets that clients send to, and answers that leave from the address that the client chose.

A client takes an answer only from where it has sent its question.  A socket bound to one address needs no
care; one bound to all of them has to be told with each answer which address to use, and learns it with each
question (IP_PKTINFO, ip(7); IPV6_RECVPKTINFO, RFC 3542 section 6.2).

A `Key` names a conversation: the client's address and port and, on a wildcard socket, the local address.

Not here: what a conversation is (udp).
"""

import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from penlib import address, sockets

LARGEST = 65_535
"""Bytes read at once: no datagram is longer.  A smaller buffer would not make reading cheaper (0.54 us for
recvfrom with 64 KiB and with 4 KiB): a bytes object that comes out shorter is shortened where it is."""

RECEIVE_BUFFER = 4 << 20
"""Bytes of datagrams that may wait in the kernel, as in penlogd: bursts come while we are busy."""

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
WILDCARDS = ("0.0.0.0", "::")
V4_SIZE, V6_SIZE = 12, 20
"""Of struct in_pktinfo (interface, address to answer from, address in the header) and of struct in6_pktinfo
(address, interface)."""
MULTICAST6 = 0xFF
"""First byte of an IPv6 multicast address, RFC 4291 section 2.7: such a one can't be answered from."""

Key = Any
Receive = Callable[[], tuple[bytes, Key]]


class Port:
    """One socket that clients send to.

    `receive()` reads one datagram and answers it with its key; it raises what recvfrom does.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.receive: Receive = partial(sock.recvfrom, LARGEST)
        self._wild = sock.getsockname()[0] in WILDCARDS
        sockets.want_receive_buffer(sock, RECEIVE_BUFFER)
        if self._wild and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            self.receive = self._receive4
        elif self._wild:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            self.receive = self._receive6

    def _receive4(self) -> tuple[bytes, Key]:
        data, ancillary, _, peer = self.sock.recvmsg(LARGEST, socket.CMSG_SPACE(V4_SIZE))
        return data, (peer, ancillary[0][2][4:8])

    def _receive6(self) -> tuple[bytes, Key]:
        data, ancillary, _, peer = self.sock.recvmsg(LARGEST, socket.CMSG_SPACE(V6_SIZE))
        return data, (peer, ancillary[0][2][:16])

    def client(self, key: Key) -> tuple[str, int]:
        """Host and port of the client."""
        peer = key[0] if self._wild else key
        return address.unmap(peer[0]), peer[1]

    def answerer(self, key: Key) -> Callable[[bytes], object]:
        """A function that sends one datagram back to the client; it raises what sendto does."""
        if not self._wild:
            sendto = self.sock.sendto
            return lambda data: sendto(data, key)
        sendmsg = self.sock.sendmsg
        peer, local = key
        from_there = self._from(local, peer)
        return lambda data: sendmsg((data,), from_there, 0, peer)

    def _from(self, local: bytes, peer: Any) -> list[tuple[int, int, bytes]]:
        """What tells sendmsg to answer from `local`."""
        if self.sock.family == socket.AF_INET:
            return [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local + bytes(4))]
        if local[0] == MULTICAST6:
            return []
        scope: int = peer[3]
        return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, local + scope.to_bytes(4, sys.byteorder))]
