"""What is measured: a work, done by a fresh process of a peer, in CPU seconds and units of work.

A further work is a class with a `measure`, and a line in `Bench.works`.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.peers import Peer
from bench.process import Program, find, free_port
from bench.queries import Queries
from bench.streams import STREAMS, Streams
from bench.tls import certificate
from bench.web import Web

MEGABYTE = 1_000_000


class Sample(NamedTuple):
    """A measurement: units of work, the CPU seconds that they took, the seconds on the wall."""

    units: float
    cpu: float
    wall: float


class Work:
    """A kind of work."""

    name = ""
    """One word, as typed."""
    title = ""
    unit = ""
    """What is counted."""

    def takes(self, peer: Peer) -> bool:
        """Whether the peer takes part."""
        return not peer.bulk_only

    def measure(self, peer: Peer) -> Sample:
        """Start the peer, let it work, end it.  Raises PenError if it does it wrong."""
        raise NotImplementedError


class Requests(Work):
    """HTTP requests of many clients at once: on connections that stay, or on a new one each; `tls`: clients
    speak TLS."""

    def __init__(self, bench: "Bench", keep_alive: bool, tls: bool = False) -> None:
        self._bench = bench
        self._tls = tls
        self._keep_alive = keep_alive
        self.name = "keepalive" if keep_alive else "connections"
        self.title = "keep-alive requests" if keep_alive else "new connections"
        self.unit = "request" if keep_alive else "connection"
        if tls:
            self.name, self.title = f"tls-{self.name}", f"TLS: {self.title}"

    def measure(self, peer: Peer) -> Sample:
        web = self._bench.web
        with self._bench.start(peer, web.ports, tls=self._tls) as program:
            before = program.settled_cpu()
            load = web.load(program.port, self._bench.seconds, self._keep_alive, self._tls)
            return Sample(load.requests, program.settled_cpu() - before, load.seconds)


class Bulk(Work):
    """A few connections that carry as much as they can, from servers to clients or the other way round."""

    unit = "MB"

    def __init__(self, bench: "Bench", upload: bool, tls: bool = False) -> None:
        self._bench = bench
        self._upload = upload
        self._tls = tls
        self.name = "upload" if upload else "download"
        self.title = f"bulk {self.name}"
        if tls:
            self.name, self.title = f"tls-{self.name}", f"TLS: {self.title}"

    def takes(self, peer: Peer) -> bool:
        """All do; what is encrypted can't be spliced."""
        return not (self._tls and peer.bulk_only)

    def measure(self, peer: Peer) -> Sample:
        streams, megabytes = self._bench.streams, self._bench.megabytes
        with self._bench.start(peer, [streams.port] * 2, tls=self._tls) as program:
            before, begun = program.settled_cpu(), time.monotonic()
            streams.transfer(program.port, megabytes * MEGABYTE, self._upload, self._tls)
            wall = time.monotonic() - begun
            return Sample(STREAMS * megabytes, program.settled_cpu() - before, wall)


class Datagrams(Work):
    """Questions over UDP: of clients that keep their port, or each from a new one, as those of DNS come."""

    def __init__(self, bench: "Bench", fresh: bool) -> None:
        self._bench = bench
        self._fresh = fresh
        self.name = "sessions" if fresh else "queries"
        self.title = "UDP queries, each from a new port" if fresh else "UDP queries"
        self.unit = "query"

    def takes(self, peer: Peer) -> bool:
        """Who can do UDP; new ports are too many for who keeps a session for each of them."""
        return peer.takes_udp and not peer.bulk_only and (peer.makes_room or not self._fresh)

    def measure(self, peer: Peer) -> Sample:
        queries = self._bench.queries
        with self._bench.start(peer, queries.ports, udp=True) as program:
            before = program.settled_cpu()
            answered, wall = queries.load(program.port, self._bench.seconds, self._fresh)
            return Sample(answered, program.settled_cpu() - before, wall)


class Bench:
    """The laboratory: servers that are always there, peers that are started when needed, how long a
    measurement takes.  `with Bench(...) as bench:` ends all of it."""

    def __init__(self, seconds: int, megabytes: int) -> None:
        self.seconds = seconds
        """That wrk asks."""
        self.megabytes = megabytes
        """That a bulk connection carries."""
        self.web: Web
        self.streams: Streams
        self.queries: Queries
        self._stack = ExitStack()
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pen-bench-")))
        self.works: list[Work] = []
        self.skipped: list[str] = []

    def __enter__(self) -> "Bench":
        try:
            self._prepare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        missing = [program for program in ("nginx", "wrk") if not find(program)]
        if missing:
            self.skipped.append(f"requests and connections: {' and '.join(missing)} not installed")
        else:
            self.web = self._stack.enter_context(Web(self._new_directory()))
            self.works += [Requests(self, keep_alive=True), Requests(self, keep_alive=False)]
        self.streams = self._stack.enter_context(Streams())
        self.works += [Bulk(self, upload=False), Bulk(self, upload=True)]
        if find("openssl"):
            self._certificate = str(certificate(self._new_directory()))
            if not missing:
                self.works += [Requests(self, keep_alive, tls=True) for keep_alive in (True, False)]
            self.works += [Bulk(self, upload, tls=True) for upload in (False, True)]
        else:
            self.skipped.append("TLS: openssl not installed")
        self.queries = self._stack.enter_context(Queries())
        self.works += [Datagrams(self, fresh=False), Datagrams(self, fresh=True)]

    def _new_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._directory))

    def start(self, peer: Peer, servers: list[int], udp: bool = False, tls: bool = False) -> Program:
        """A peer that balances over servers on these ports; `tls`: clients speak TLS with it."""
        port, directory = free_port(), self._new_directory()
        words = peer.command(directory, port, servers, udp, self._certificate if tls else "")
        return Program(peer.name, words, port, directory, udp)
