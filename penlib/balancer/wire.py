"""An Ethernet interface, and whole frames from and to it.  Linux only, packet(7).

Not here: what is in the frames (frames), and what is done with them (dsr).
"""

import fcntl
import socket
import struct
from typing import NamedTuple

VNET_HEADER = 10
"""Bytes before each frame that carry its offloads (struct virtio_net_hdr): checksums that are not there yet,
segments to be made.  Without them a frame from a virtual machine on the same host would be sent on broken."""

_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927  # linux/sockios.h
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15  # linux/if_packet.h


class Interface(NamedTuple):
    """An interface: its number, hardware address and IPv4 address (if it has none 0.0.0.0, as a probe has it,
    RFC 5227)."""

    number: int
    mac: bytes
    ip: bytes


def packet_socket(name: str, kind: int) -> socket.socket:
    """For whole frames of one EtherType, both ways, on an interface; non-blocking.  Raises OSError."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        sock.bind((name, kind))
    except OSError:
        sock.close()
        raise
    return sock


def with_offloads(sock: socket.socket) -> int:
    """Have offloads travel with the frames; the bytes that they take before each."""
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    except OSError:
        return 0
    return VNET_HEADER


def interface(name: str) -> Interface:
    """Raises OSError if there is no such interface."""
    mac = _ask(name, _SIOCGIFHWADDR)[18:24]
    try:
        ip = _ask(name, _SIOCGIFADDR)[20:24]
    except OSError:
        ip = b"\0" * 4
    return Interface(socket.if_nametoindex(name), mac, ip)


def _ask(name: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, request, struct.pack("256s", name.encode()[:15]))
