"""A log host: what pen sends to a penlogd, datagram by datagram."""

import contextlib
import socket
import threading

from support.waiting import wait_until


def send(source: str, target: tuple[str, int], datagram: bytes) -> None:
    """One datagram, from one of our addresses."""
    with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.sendto(datagram, target)


class LogHost:
    """A UDP socket that keeps each datagram in `datagrams`; `str()` is its address for -l."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.host, self.port = self.socket.getsockname()[:2]
        self.datagrams: list[bytes] = []
        self.socket.settimeout(0.1)
        self.closed = False
        self.thread = threading.Thread(target=self._receive, daemon=True)
        self.thread.start()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _receive(self) -> None:
        while not self.closed:
            with contextlib.suppress(TimeoutError):
                self.datagrams.append(self.socket.recv(65536))

    def wait(self, count: int) -> list[bytes]:
        """The datagrams, once there are `count`."""
        wait_until(lambda: len(self.datagrams) >= count, f"{count} datagrams, have {self.datagrams}")
        return self.datagrams

    def close(self) -> None:
        self.closed = True
        self.thread.join()
        self.socket.close()
