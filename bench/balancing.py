"""What a balancer does all day: requests, connections, bulk data, TLS, UDP; and with a log and with -H.

A fresh process of each program does each work.
"""

import time
from collections.abc import Callable
from functools import partial

from bench.lab import Lab
from bench.nsd import Nsd
from bench.peers import Duty, Original, Peer
from bench.process import Program, find
from bench.proxies import Haproxy, HaproxySplice, Nginx
from bench.queries import Queries
from bench.sample import Entrant, Sample, Work
from bench.streams import STREAMS, Streams
from bench.web import CONNECTIONS, Web, forwarded
from penlib.errors import PenError

MEGABYTE = 1_000_000
TCP, TLS, UDP, OPTIONS = "TCP", "TLS", "UDP", "Log and headers"


def works(lab: Lab) -> list[Work]:
    """All of these that can be done here."""
    missing = [program for program in ("nginx", "wrk") if not find(program)]
    if missing:
        lab.skipped.append(f"requests and connections: {' and '.join(missing)} not installed")
    made = [] if missing else requests(lab, TCP)
    made += bulk(lab, TCP)
    if find("openssl"):
        made += [] if missing else requests(lab, TLS)
        made += bulk(lab, TLS)
    else:
        lab.skipped.append("TLS: openssl not installed")
    return made + udp(lab) + ([] if missing else options(lab))


def requests(lab: Lab, group: str) -> list[Work]:
    """HTTP requests of many clients at once: on connections that stay, or on a new one each."""
    peers = lab.peers(Original, Haproxy, Nginx)
    tls = group == TLS
    return [
        _work(group, "keepalive", "keep-alive requests", "request", peers, partial(ask, lab, True, tls)),
        _work(group, "connections", "new connections", "connection", peers, partial(ask, lab, False, tls)),
    ]


def ask(lab: Lab, keep_alive: bool, tls: bool, peer: Peer) -> Sample:
    web = shared_web(lab)
    with lab.start(peer, Duty(web.ports, tls=lab.certificate if tls else "")) as program:
        return asked(lab, program, keep_alive, tls)


def asked(lab: Lab, program: Program, keep_alive: bool, tls: bool = False) -> Sample:
    """What a running program needs for the requests of wrk."""
    before = program.settled_cpu()
    load = shared_web(lab).load(program.port, lab.scale.seconds, keep_alive, tls)
    return Sample(load.requests, program.settled_cpu() - before, load.seconds)


def bulk(lab: Lab, group: str) -> list[Work]:
    """A few connections that carry as much as they can, one way; what is encrypted can't be spliced."""
    kinds = (Original, Haproxy, Nginx) if group == TLS else (Original, Haproxy, HaproxySplice, Nginx)
    return [
        _work(group, name, f"bulk {name}", "MB", lab.peers(*kinds), partial(carry, lab, upload, group == TLS))
        for name, upload in (("download", False), ("upload", True))
    ]


def carry(lab: Lab, upload: bool, tls: bool, peer: Peer) -> Sample:
    megabytes = lab.scale.megabytes // (2 if tls else 1)
    with (
        Streams() as streams,
        lab.start(peer, Duty([streams.port] * 2, tls=lab.certificate if tls else "")) as program,
    ):
        before, begun = program.settled_cpu(), time.monotonic()
        streams.transfer(program.port, megabytes * MEGABYTE, upload, tls)
        wall = time.monotonic() - begun
        return Sample(STREAMS * megabytes, program.settled_cpu() - before, wall)


def udp(lab: Lab) -> list[Work]:
    """Questions over UDP: of clients that keep their port; each from a new one; those of dnsperf to nsd.

    New ports are too many for nginx, which keeps a session for each of them until it is idle for long.
    """
    peers = lab.peers(Original, Nginx)
    made = [
        _work(UDP, "queries", "UDP queries", "query", peers, partial(query, lab, False)),
        _work(
            UDP,
            "sessions",
            "UDP queries, each from a new port",
            "query",
            lab.peers(Original),
            partial(query, lab, True),
        ),
    ]
    if not (find("nsd") and find("dnsperf")):
        lab.skipped.append("UDP queries of dnsperf: nsd or dnsperf not installed")
        return made
    return [*made, _work(UDP, "dns", "DNS queries (dnsperf, nsd)", "query", peers, partial(dns, lab))]


def query(lab: Lab, fresh: bool, peer: Peer) -> Sample:
    with Queries() as queries, lab.start(peer, Duty(queries.ports, udp=True)) as program:
        before = program.settled_cpu()
        answered, wall = queries.load(program.port, lab.scale.seconds, fresh)
        return Sample(answered, program.settled_cpu() - before, wall)


def dns(lab: Lab, peer: Peer) -> Sample:
    nsd = shared_nsd(lab)
    with lab.start(peer, Duty([nsd.port], udp=True)) as program:
        before = program.settled_cpu()
        answered, wall = nsd.load(program.port, lab.scale.seconds)
        return Sample(answered, program.settled_cpu() - before, wall)


def options(lab: Lab) -> list[Work]:
    """Keep-alive requests with -l and with -H: beside pen itself without, and who does the same."""
    plain = Entrant("pen without it", partial(ask, lab, True, False, lab.pens[0]))
    log = _work(
        OPTIONS, "log", "keep-alive requests, -l FILE", "request", lab.peers(Original), partial(logged, lab)
    )
    headers = _work(
        OPTIONS,
        "headers",
        "keep-alive requests, -H",
        "request",
        lab.peers(Original, Haproxy, Nginx),
        partial(ask_forwarded, lab),
    )
    for work in (log, headers):
        work.entrants.insert(len(lab.pens), plain)
    return [log, headers]


def logged(lab: Lab, peer: Peer) -> Sample:
    """Each request must be in the log."""
    log = lab.directory() / "pen.log"
    web = shared_web(lab)
    with lab.start(peer, Duty(web.ports, log=str(log))) as program:
        sample = asked(lab, program, keep_alive=True)
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    if not sample.units <= lines <= sample.units + CONNECTIONS + 10:
        raise PenError(f"{lines} lines in the log for {sample.units} requests")
    return sample


def ask_forwarded(lab: Lab, peer: Peer) -> Sample:
    """A server must be told the client's address."""
    with lab.start(peer, Duty(shared_web(lab).ports, forwarded=True)) as program:
        told = forwarded(program.port)
        if told != b"127.0.0.1":
            raise PenError(f"the server is told '{told.decode('latin-1')}', not the client's address")
        return asked(lab, program, keep_alive=True)


def shared_web(lab: Lab) -> Web:
    """The web servers behind all programs."""
    return lab.shared("web", lambda: Web(lab.directory()))


def shared_nsd(lab: Lab) -> Nsd:
    """The name server behind all programs."""
    return lab.shared("nsd", lambda: Nsd(lab.directory()))


def _work(
    group: str, name: str, title: str, unit: str, peers: list[Peer], measure: Callable[[Peer], Sample]
) -> Work:
    """A work that all of these peers do in the same way."""
    if group == TLS:
        name, title = f"tls-{name}", f"TLS: {title}"
    entrants = [Entrant(peer.name, partial(measure, peer)) for peer in peers]
    return Work(name, title, unit, group, entrants)
