"""A simulated cluster whose truth is known: what its pen records, what its web servers log, who asked.

Requests arrive at random, from clients chosen evenly and for URLs chosen by Zipf's law.  pen records a
request when it passes it on; the web server writes its line when it has answered, with the second in which
the request came (as Apache does) or was answered (nginx).  Some requests are aborted, and have a record but
no line; some come to the server directly, and have a line but no record.

A line's size field is its number, by which whoever rearranges lines is found out.
"""

import itertools
import random
import time
from bisect import bisect
from collections.abc import Iterator
from typing import NamedTuple

from penlib import records

PEN = b"192.0.2.1"  # pen's own address: what web servers take for the client

CROWDS = 10  # addresses behind which there are many people


class Settings(NamedTuple):
    """One cluster.  Times are in seconds, shares are of all requests."""

    requests: int = 100_000
    rate: float = 50.0  # requests per second
    servers: int = 4
    clients: int = 2000
    urls: int = 5000
    agents: int = 400  # User-Agents; every client has one, chosen evenly
    crowds: float = 0.0  # share of requests by people behind CROWDS addresses, with any User-Agent
    zipf: float = 1.05
    service: float = 0.080  # the median; log-normal
    spread: float = 1.0  # sigma of its logarithm
    long: float = 0.04  # requests of more than 100 bytes
    escaped: float = 0.003  # requests with bytes that web servers escape
    aborted: float = 0.005
    direct: float = 0.005
    latency: float = 0.002  # the most that a datagram takes to penlogd
    offsets: tuple[float, ...] = ()  # by how much each server's clock is ahead of pen's
    stamped_at_end: bool = False  # lines name the second of the answer (nginx), not of the request
    combined: bool = True
    start: float = 1_700_000_000.0
    seed: int = 1


class Request(NamedTuple):
    """One request: when pen passed it on, when it was answered, and what was written of it."""

    number: int
    at: float
    done: float
    client: bytes
    server: bytes
    raw: bytes
    recorded: bool
    line: bytes  # empty if the server logged nothing


class Arrival(NamedTuple):
    """A datagram at penlogd; `number` is the request's, `line` whether it is the web server's."""

    at: float
    source: bytes
    data: bytes
    number: int
    line: bool


def server_address(number: int) -> bytes:
    """The address of server `number`, from 0."""
    return b"198.51.100.%d" % (number + 1)


def requests(settings: Settings) -> list[Request]:
    """The cluster's requests in the order in which pen saw them.  The same for the same settings."""
    rng = random.Random(settings.seed)
    paths = [b"/%b/page%d.html" % (rng.choice((b"shop", b"news", b"img")), n) for n in range(settings.urls)]
    weights = list(itertools.accumulate((n + 1) ** -settings.zipf for n in range(settings.urls)))
    clients = [b"10.%d.%d.%d" % (n >> 16 & 255, n >> 8 & 255, n & 255) for n in range(settings.clients)]
    agents = [rng.randrange(settings.agents) for _ in clients]
    offsets = settings.offsets or (0.0,) * settings.servers
    at = settings.start
    made = []
    for number in range(settings.requests):
        at += rng.expovariate(settings.rate)
        who = rng.randrange(settings.clients)
        agent = agents[who]
        if settings.crowds and rng.random() < settings.crowds:
            who, agent = who % CROWDS, rng.randrange(settings.agents)
        where = rng.randrange(settings.servers)
        raw = _request(rng, paths[bisect(weights, rng.random() * weights[-1])], settings)
        fate = rng.random()
        direct = fate < settings.direct
        aborted = not direct and fate < settings.direct + settings.aborted
        done = at + settings.service * rng.lognormvariate(0, settings.spread)
        line = b""
        if not aborted:
            logged = clients[who] if direct else PEN
            stamp = (done if settings.stamped_at_end else at) + offsets[where]
            line = _line(logged, stamp, raw, number, agent, settings.combined)
        made.append(Request(number, at, done, clients[who], server_address(where), raw, not direct, line))
    return made


def arrivals(made: list[Request], settings: Settings) -> list[Arrival]:
    """All datagrams in the order in which they reach penlogd."""
    rng = random.Random(settings.seed + 1)
    found = []
    for request in made:
        if request.recorded:
            at = request.at + rng.random() * settings.latency
            data = records.datagram(request.client, request.server, request.raw)
            found.append(Arrival(at, PEN, data, request.number, line=False))
        if request.line:
            at = request.done + rng.random() * settings.latency
            found.append(Arrival(at, request.server, request.line, request.number, line=True))
    return sorted(found)


def pen_log(made: list[Request]) -> Iterator[bytes]:
    """pen's log, file form."""
    for request in made:
        if request.recorded:
            yield records.file_line(request.client, int(request.at), request.server, request.raw)


def access_log(made: list[Request], server: bytes) -> Iterator[bytes]:
    """One server's access log, in the order in which the requests were answered."""
    for request in sorted(made, key=lambda request: request.done):
        if request.line and request.server == server:
            yield request.line


def number_of(line: bytes) -> int:
    """Which request a line of the cluster belongs to."""
    return int(line.split(b'" 200 ', 1)[1].split(None, 1)[0])


def escaped(raw: bytes) -> bytes:
    """`raw` as Apache httpd logs a request line."""
    named = {0x22: rb"\"", 0x5C: rb"\\", 0x09: rb"\t"}
    return b"".join(named.get(c) or (b"%c" % c if 0x20 <= c <= 0x7E else rb"\x%02x" % c) for c in raw)


def _request(rng: random.Random, path: bytes, settings: Settings) -> bytes:
    if rng.random() < settings.long:
        path += b"?session=" + b"0123456789abcdef" * 6 + b"&q=%d" % rng.randrange(20)
    if rng.random() < settings.escaped:
        path += rng.choice((b"?q=\xc3\xa4", b'?q="x"', rb"?q=a\b", b"?q=\x01"))
    return b"GET %b HTTP/1.1" % path


def _line(client: bytes, at: float, raw: bytes, number: int, agent: int, combined: bool) -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at)).encode()
    tail = b' "-" "Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101"' % agent if combined else b""
    return b'%b - - [%b] "%b" 200 %d%b\n' % (client, stamp, escaped(raw), number, tail)
