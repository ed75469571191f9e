"""Ethernet frames as direct server return needs them: ARP (RFC 826), and what of IPv4 (RFC 791), TCP (RFC
9293) and UDP (RFC 768) says who asks whom.

Pure bytes.  Parsers answer None for whatever is not well formed or not of their kind, and never raise.
Not here: which server a packet goes to (balancer/dsr).
"""

import struct
from typing import NamedTuple

ETH_ARP, ETH_IPV4 = 0x0806, 0x0800
"""EtherTypes."""

ICMP, TCP, UDP = 1, 6, 17
"""IP protocol numbers."""

REQUEST, REPLY = 1, 2
"""ARP operations."""

HEADER = 14
"""Bytes of an Ethernet header: to, from, EtherType."""

BROADCAST = b"\xff" * 6
NOBODY = b"\0" * 6

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_KIND = (1, ETH_IPV4, 6, 4)  # IPv4 over Ethernet
_LEAST = 60  # bytes of an Ethernet frame without its checksum

_SYN, _RST, _ACK, _FIN = 0x02, 0x04, 0x10, 0x01
_ICMP_ERRORS = (3, 11, 12)  # RFC 792: unreachable (also: too large), time exceeded, parameter problem
_ICMP_HEADER = 8
_MORE_FRAGMENTS, _OFFSET = 0x2000, 0x1FFF

_TARPIT_WINDOW = 10
"""Bytes that a tarpit lets a client send: so few that it keeps trying."""


class Arp(NamedTuple):
    """An ARP packet: who says (`mac`, `ip`) what about `target`, an IPv4 address."""

    operation: int
    mac: bytes
    ip: bytes
    target: bytes


class Packet(NamedTuple):
    """An IPv4 packet.  `ports` are the client's and ours, 2 network bytes each; None in later fragments.
    `whole` says that it is no fragment."""

    source: bytes
    destination: bytes
    protocol: int
    ports: tuple[bytes, bytes] | None
    payload: int
    """Where, in the frame, the transport header begins."""
    whole: bool


def arp(frame: bytes) -> Arp | None:
    """The ARP packet in a frame."""
    if len(frame) < HEADER + _ARP.size or frame[12:14] != b"\x08\x06":
        return None
    *kind, operation, mac, ip, _, target = _ARP.unpack_from(frame, HEADER)
    if tuple(kind) != _ARP_KIND or operation not in (REQUEST, REPLY):
        return None
    return Arp(operation, mac, ip, target)


def arp_request(mac: bytes, ip: bytes, target: bytes) -> bytes:
    """Ask everybody for the hardware address of `target`, from `mac` and `ip`."""
    return _arp(BROADCAST, mac, REQUEST, ip, NOBODY, target)


def arp_reply(mac: bytes, ip: bytes, asked: Arp) -> bytes:
    """Tell who asked that `ip` is at `mac`."""
    return _arp(asked.mac, mac, REPLY, ip, asked.mac, asked.ip)


def _arp(to: bytes, mac: bytes, operation: int, ip: bytes, target_mac: bytes, target: bytes) -> bytes:
    packet = _ARP.pack(*_ARP_KIND, operation, mac, ip, target_mac, target)
    return (to + mac + b"\x08\x06" + packet).ljust(_LEAST, b"\0")


def ipv4(frame: bytes) -> Packet | None:
    """The IPv4 packet in a frame."""
    if len(frame) < HEADER + 20 or frame[12:14] != b"\x08\x00":
        return None
    return _packet(frame, HEADER)


def _packet(frame: bytes, at: int) -> Packet | None:
    """The IPv4 packet that begins there."""
    if len(frame) < at + 20 or frame[at] >> 4 != 4:
        return None
    size = (frame[at] & 0xF) * 4
    payload = at + size
    if size < 20 or len(frame) < payload:
        return None
    protocol = frame[at + 9]
    fragment = int.from_bytes(frame[at + 6 : at + 8], "big")
    ports = None
    if not fragment & _OFFSET and protocol in (TCP, UDP) and len(frame) >= payload + 4:
        ports = frame[payload : payload + 2], frame[payload + 2 : payload + 4]
    whole = not fragment & (_OFFSET | _MORE_FRAGMENTS)
    return Packet(frame[at + 12 : at + 16], frame[at + 16 : at + 20], protocol, ports, payload, whole)


def complaint(frame: bytes, packet: Packet) -> Packet | None:
    """If the packet is an ICMP error about one that was sent to a client, such as that it is too large for
    the way there: as if the client had said so itself, to the port that the packet came from."""
    if packet.protocol != ICMP or len(frame) <= packet.payload or frame[packet.payload] not in _ICMP_ERRORS:
        return None
    about = _packet(frame, packet.payload + _ICMP_HEADER)
    if about is None or about.source != packet.destination:
        return None
    ports = about.ports and (about.ports[1], about.ports[0])
    return about._replace(source=about.destination, destination=about.source, ports=ports)


def is_syn(frame: bytes, packet: Packet) -> bool:
    """Whether it asks for a TCP connection."""
    if packet.protocol != TCP or packet.ports is None or len(frame) < packet.payload + 20:
        return False
    return frame[packet.payload + 13] & (_SYN | _RST | _ACK | _FIN) == _SYN


def syn_ack(frame: bytes, packet: Packet, mac: bytes, sequence: int) -> bytes:
    """The answer to a SYN, from `mac`, with our initial sequence number."""
    assert packet.ports
    theirs = int.from_bytes(frame[packet.payload + 4 : packet.payload + 8], "big")
    client, ours = packet.ports
    flags = 5 << 12 | _SYN | _ACK
    segment = (
        ours
        + client
        + struct.pack("!IIHHHH", sequence, (theirs + 1) & 0xFFFFFFFF, flags, _TARPIT_WINDOW, 0, 0)
    )
    pseudo = packet.destination + packet.source + struct.pack("!BBH", 0, TCP, len(segment))
    segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, TCP, 0)
    head += packet.destination + packet.source
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return (frame[6:12] + mac + b"\x08\x00" + head + segment).ljust(_LEAST, b"\0")


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def redirect(frame: bytes, to: bytes, mac: bytes) -> bytes:
    """The frame with other hardware addresses, and nothing else changed."""
    return to + mac + frame[12:]
