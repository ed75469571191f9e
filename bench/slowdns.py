"""A name server that answers at once or after a while, however many ask.

h10-1-2-3.example.test is the name of 10.1.2.3, and that is its address.
"""

import heapq
import select
import socket
import struct
import threading
import time
from typing import Self

PTR, A = 12, 1
HEADER = struct.Struct("!2s5H")
ANSWER = struct.Struct("!HHHIH")
HERE = 0xC00C
"""The owner of an answer: the name that was asked for."""
AUTHORITATIVE, NXDOMAIN = 0x8580, 0x8583
TTL = 3600
BUFFER = 16 << 20
SO_RCVBUFFORCE = 33
"""asm/socket.h: more than the system's limit, for root."""
GLANCE = 0.05
BATCH = 100
"""Questions read before the clock is looked at."""


class SlowDns:
    """It answers at `host` and `port` (0: any), in a thread of this process, `delay` seconds after each
    question; `delay` may be set at any time."""

    def __init__(self, host: str, port: int) -> None:
        self.delay = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.bind((host, port))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._closed = False
        self._later: list[tuple[float, bytes, tuple[str, int]]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._closed:
            patience = max(0.0, self._later[0][0] - time.monotonic()) if self._later else GLANCE
            if select.select([self._socket], [], [], min(patience, GLANCE))[0]:
                self._read()
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, message, client = heapq.heappop(self._later)
                self._send(message, client)

    def _read(self) -> None:
        due = time.monotonic() + self.delay
        for _ in range(BATCH):
            try:
                question, client = self._socket.recvfrom(4096)
            except BlockingIOError:
                return
            if self.delay:
                heapq.heappush(self._later, (due, answer(question), client))
            else:
                self._send(answer(question), client)

    def _send(self, message: bytes, client: tuple[str, int]) -> None:
        try:
            self._socket.sendto(message, client)
        except OSError:  # it is gone
            return


def answer(question: bytes) -> bytes:
    """The message that answers one question (RFC 1035, 4.1)."""
    end = question.index(b"\0", 12) + 5
    kind = int.from_bytes(question[end - 4 : end - 2])
    labels = labels_of(question)
    if kind == PTR:
        data = b"".join(bytes([len(label)]) + label for label in name(labels[3::-1])) + b"\0"
    elif kind == A and labels[0].startswith(b"h"):
        data = bytes(map(int, labels[0][1:].split(b"-")))
    else:
        return HEADER.pack(question[:2], NXDOMAIN, 1, 0, 0, 0) + question[12:end]
    head = HEADER.pack(question[:2], AUTHORITATIVE, 1, 1, 0, 0)
    return head + question[12:end] + ANSWER.pack(HERE, kind, 1, TTL, len(data)) + data


def labels_of(question: bytes) -> list[bytes]:
    """Of the name that is asked for."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length])
        at += 1 + length
    return labels


def name(numbers: list[bytes]) -> list[bytes]:
    """The labels of the name of an address, of which these are the numbers."""
    return [b"h" + b"-".join(numbers), b"example", b"test"]
