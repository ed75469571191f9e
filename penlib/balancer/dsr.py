"""Direct server return: frames for one address are sent on to servers, which answer the clients themselves.

pen answers ARP for the address, so the network brings it the clients' frames; each goes out again with the
hardware address of a server in place of ours, and nothing else changed.  The servers have the address, too,
but keep silent about it.  Answers do not pass here, so there are no connections, and nothing is remembered of
a client: a table of 256 slots, filled in proportion to weight, says which server it has.

A server takes part while it answers ARP: it is asked at once, every second until it answers, and then every
minute.

What routers say of the servers' answers (ICMP errors) comes here, too, and goes to the server that it is for:
without it no server would learn what size fits the way to a client (RFC 1191).

The tarpit answers ARP, and SYNs, for further addresses, and nothing more: whoever scans them waits.

Not here: what frames look like (frames), how they are had (wire).
"""

import os
import socket
from collections.abc import Callable
from typing import TypeVar

from penlib import acl, frames
from penlib.address import Endpoint
from penlib.balancer import wire
from penlib.balancer.settings import Settings
from penlib.errors import PenError, UsageError, failed, reason
from penlib.frames import ETH_ARP, ETH_IPV4, HEADER, Packet
from penlib.loop import READ, Loop
from penlib.report import Reporter
from penlib.selection import Selection
from penlib.servers import Server

T = TypeVar("T")

SLOTS = 256

ASK_AGAIN = 1.0
"""Seconds between two questions to a server that does not answer."""

REFRESH = 60.0
"""Seconds after which a server that is known is asked again."""

MISSED = 3
"""Unanswered questions until a server that was known is not any more."""

BATCH = 200
"""Frames taken in a row before others have their turn."""

LARGEST = 1 << 16
"""Bytes of a frame: the kernel joins what belongs together, and divides it again when it is sent."""


class Neighbour:
    """A server's hardware address, and when it was asked for."""

    __slots__ = ("asked", "mac", "missed")

    def __init__(self) -> None:
        self.mac = b""
        self.asked = float("-inf")
        self.missed = 0


class Dsr:
    """Off, unless `interface` is set before `open`."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        selection: Selection,
        reporter: Reporter,
        now: Callable[[], float],
    ) -> None:
        self.interface = ""
        self._loop = loop
        self._settings = settings
        self._selection = selection
        self._reporter = reporter
        self._now = now
        self._arp: socket.socket | None = None
        self._ip: socket.socket | None = None
        self._neighbours: dict[bytes, Neighbour] = {}
        self._slots: list[tuple[Server, bytes]] = []
        self._filled_for: list[tuple[int, bytes, int]] = []

    def open(self, endpoint: Endpoint, protocol: str) -> None:
        """Serve the IPv4 address (and port, unless 0) of `endpoint`.  Raises PenError."""
        try:
            self._address = socket.inet_aton(endpoint.host) if endpoint.host else b""
        except OSError:
            self._address = b""
        if not self._address:
            raise UsageError(f"direct server return: '{endpoint}' is not an IPv4 address")
        self._port = endpoint.port.to_bytes(2, "big") if endpoint.port else b""
        self._protocol = frames.UDP if protocol == "udp" else frames.TCP
        for server in self._selection.servers:
            if server.endpoint and not _ipv4(server):
                raise UsageError(f"direct server return: server {server.title} has no IPv4 address")
        try:
            self._at = wire.interface(self.interface)
            self._arp = wire.packet_socket(self.interface, ETH_ARP)
            self._ip = wire.packet_socket(self.interface, ETH_IPV4)
            self._offset = wire.with_offloads(self._ip)
        except (OSError, AttributeError) as exc:
            self.close()
            if isinstance(exc, OSError):
                raise failed(f"direct server return on {self.interface}", exc) from exc
            raise PenError("direct server return: this system has no packet sockets") from exc
        self._loop.watch(self._arp.fileno(), READ, self._arp_ready)
        self._loop.watch(self._ip.fileno(), READ, self._ip_ready)
        self._announce()
        self._tick()

    def close(self) -> None:
        """Let go of the interface."""
        for sock in (self._arp, self._ip):
            if sock:
                self._loop.forget(sock.fileno())
                sock.close()
        self._arp = self._ip = None

    def servers_changed(self) -> None:
        """An administrator has changed one: what comes next goes by that.  The server of a new address is
        asked for at once."""
        if self._arp is None:
            return
        now = self._now()
        for address in map(_ipv4, self._selection.servers):
            if address and address not in self._neighbours:
                self._look_for(address, now)
        self._fill(now)

    def _announce(self) -> None:
        """Who still knows another host for the address, that of a pen before us, learns ours (RFC 5227)."""
        self._send(self._arp, frames.arp_request(self._at.mac, self._address, self._address))

    def _follow(self) -> None:
        """The interface may get another hardware address, or go and be made anew (a VLAN, a bridge)."""
        assert self._arp
        assert self._ip
        try:
            found = wire.interface(self.interface)
            if found.number != self._at.number:
                self._arp.bind((self.interface, ETH_ARP))
                self._ip.bind((self.interface, ETH_IPV4))
        except OSError:
            return  # it is not there: that was said when it went
        if found != self._at:
            self._at = found
            self._announce()

    # Servers

    def _tick(self) -> None:
        """Ask for servers, and see who is there."""
        if self._arp is None:
            return
        self._follow()
        now = self._now()
        for server in self._selection.servers:
            if address := _ipv4(server):
                self._look_for(address, now)
        self._fill(now)
        self._loop.after(ASK_AGAIN, self._tick)

    def _look_for(self, address: bytes, now: float) -> None:
        known = self._neighbours.setdefault(address, Neighbour())
        if known.mac and not known.missed and now - known.asked < REFRESH:
            return
        if known.mac and known.missed >= MISSED:
            self._reporter.warn(f"server {socket.inet_ntoa(address)}: does not answer ARP")
            known.mac = b""
        known.asked = now
        known.missed += 1
        self._send(self._arp, frames.arp_request(self._at.mac, self._at.ip, address))

    def _learn(self, address: bytes, mac: bytes) -> None:
        known = self._neighbours.get(address)
        if known is None:
            return
        if known.mac != mac:
            self._reporter.debug(1, f"server {socket.inet_ntoa(address)} is at {mac.hex(':')}")
        known.missed = 0
        if known.mac != mac:
            known.mac = mac
            self._fill(self._now())

    def _fill(self, now: float) -> None:
        """The table anew, if the servers that are there have changed."""
        there = []
        for server in self._selection.servers:
            address = _ipv4(server)
            known = self._neighbours.get(address) if address else None
            if known and known.mac and not server.is_blacklisted(now):
                there.append((server, known.mac, server.weight or 1))
        key = [(server.index, mac, weight) for server, mac, weight in there]
        if key != self._filled_for:
            self._filled_for = key
            self._slots = slots([((server, mac), weight) for server, mac, weight in there])

    def _server_of(self, packet: Packet) -> tuple[Server, bytes] | None:
        if not self._slots:
            return None
        slot = 0
        for byte in packet.source:
            slot ^= byte
        # Only the first of several fragments has ports, and all are to go to one server.
        if self._selection.mode.roundrobin and packet.ports and packet.whole:
            for byte in packet.ports[0]:
                slot ^= byte
        return self._slots[slot]

    # Frames

    def _arp_ready(self, fd: int, mask: int) -> None:
        assert self._arp
        for frame in self._frames(self._arp):
            said = frames.arp(frame)
            if said is None:
                continue
            if said.ip != frames.NOBODY[:4]:
                self._learn(said.ip, said.mac)
            if said.operation == frames.REQUEST and self._is_ours(said):
                self._send(self._arp, frames.arp_reply(self._at.mac, said.target, said))

    def _is_ours(self, asked: frames.Arp) -> bool:
        if asked.target == self._address:
            return True
        return (
            asked.target not in (self._at.ip, asked.ip)
            and asked.target not in self._neighbours
            and self._is_tarpit(asked.target)
        )

    def _is_tarpit(self, address: bytes) -> bool:
        number = self._settings.tarpit_acl
        return number >= 0 and acl.permits(self._selection.acls[number], address)

    def _ip_ready(self, fd: int, mask: int) -> None:
        assert self._ip
        for data in self._frames(self._ip):
            frame = data[self._offset :]
            packet = frames.ipv4(frame)
            if packet is None:
                continue
            if packet.destination == self._address:
                self._send_on(data[: self._offset], frame, frames.complaint(frame, packet) or packet)
            elif frames.is_syn(frame, packet) and self._is_stuck(packet):
                number = int.from_bytes(os.urandom(4), "big")
                answer = frames.syn_ack(frame, packet, self._at.mac, number)
                self._send(self._ip, b"\0" * self._offset + answer)

    def _is_stuck(self, packet: Packet) -> bool:
        return packet.destination != self._at.ip and self._is_tarpit(packet.destination)

    def _send_on(self, offloads: bytes, frame: bytes, packet: Packet) -> None:
        if packet.protocol != self._protocol:
            return
        if self._port and packet.ports and packet.ports[1] != self._port:
            return
        entries = self._selection.acls[self._selection.client_acl]
        if not acl.permits(entries, packet.source):
            return
        found = self._server_of(packet)
        if found is None:
            return
        server, mac = found
        server.sent += len(frame) - HEADER
        self._send(self._ip, offloads + frames.redirect(frame, mac, self._at.mac))

    def _frames(self, sock: socket.socket) -> list[bytes]:
        """What has come in, besides what goes out from here."""
        found = []
        for _ in range(BATCH):
            try:
                data, (_, _, kind, *_) = sock.recvfrom(LARGEST + wire.VNET_HEADER)
            except BlockingIOError:
                break
            except OSError as exc:  # said once by each socket when the interface goes down
                if sock is self._arp:
                    self._reporter.warn(f"direct server return on {self.interface}: {reason(exc)}")
                break
            if kind in (socket.PACKET_HOST, socket.PACKET_BROADCAST):
                found.append(data)
        return found

    def _send(self, sock: socket.socket | None, frame: bytes) -> None:
        """A frame that can't be sent is lost, as on any wire."""
        try:
            if sock:
                sock.send(frame)
        except OSError as exc:
            self._reporter.debug(1, f"{self.interface}: {exc.strerror}")


def slots(weighted: list[tuple[T, int]]) -> list[T]:
    """SLOTS entries in proportion to the weights, those of each spread as evenly as can be."""
    total = sum(weight for _, weight in weighted)
    credit = [0] * len(weighted)
    found = []
    for _ in range(SLOTS if weighted else 0):
        for at, (_, weight) in enumerate(weighted):
            credit[at] += weight
        best = max(range(len(weighted)), key=credit.__getitem__)
        credit[best] -= total
        found.append(weighted[best][0])
    return found


def _ipv4(server: Server) -> bytes:
    """The IPv4 address of a server, packed; empty if it has none."""
    for place in server.places:
        if place.family == socket.AF_INET:
            return socket.inet_aton(place.host)
    return b""
