"""penlogd: records of pen and lines of a web server at a given rate, and who keeps up with it.

The sender is this process.  What the kernel drops because the receiver did not come to read it is lost; all
else must come out, with the right client.
"""

import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.interpreter import environment
from bench.lab import Lab
from bench.peers import original
from bench.process import Program, dropped, free_port
from bench.sample import Entrant, Sample, Work
from penlib.errors import PenError

GROUP = "penlogd"
SERVER = "127.0.0.2"
KEPT = (1000, 100_000)
"""-n: records that are remembered."""
LONG_RATE, LONG_ROUNDS = 40_000, 3
"""The rate that must not lose anything for long, and so is measured in fewer rounds."""
SHORT = 1
"""Seconds at the other rates."""
BURST = 0.001
"""Seconds between two looks at the clock."""
LINE = b'127.0.0.1 - - [24/Nov/2026:12:00:00 +0000] "GET /page%d.html HTTP/1.1" 200 %d "-" "Mozilla/5.0"\n'
RECORD = b"+ %b 127.0.0.2 GET /page%d.html HTTP/1.1\n"


def works(lab: Lab) -> list[Work]:
    """A work for each rate and number of records kept."""
    return [_work(lab, rate, kept) for kept in KEPT for rate in lab.scale.rates]


def _work(lab: Lab, rate: int, kept: int) -> Work:
    long = rate == LONG_RATE
    seconds = lab.scale.long if long else SHORT
    tools = {pen.name: pen.tool("penlogd") for pen in lab.pens}
    if original("penlogd"):
        tools["penlogd 0.34.1"] = [original("penlogd")]
    entrants = [
        Entrant(name, partial(measure, lab, name, words, rate, kept, seconds))
        for name, words in tools.items()
    ]
    title = f"{rate:,} datagrams/s, -n {kept}"
    work = Work(f"penlogd-{rate // 1000}k-{kept}", title, "datagram", GROUP, entrants)
    work.most_rounds = LONG_ROUNDS if long else work.most_rounds
    return work


def measure(lab: Lab, name: str, words: list[str], rate: int, kept: int, seconds: float) -> Sample:
    directory, port = lab.directory(), free_port()
    log = directory / "log"
    command = [*words, "-f", "-n", str(kept), "-l", str(log), str(port)]
    pairs = int(rate * seconds / 2)
    records = [RECORD % (client(number), number) for number in range(pairs)]
    lines = [LINE % (number, number) for number in range(pairs)]
    with Program(name, command, port, directory, udp=True, env=environment()) as program:
        before = program.settled_cpu()
        wall = send(port, records, lines, rate)
        cpu = program.settled_cpu() - before
        lost = dropped(port)
    check(log, pairs, lost)
    return Sample(2 * pairs - lost, cpu, wall, lost=lost)


def client(number: int) -> bytes:
    """Who asked."""
    return b"10.%d.%d.%d" % (number >> 16 & 255, number >> 8 & 255, number & 255)


def send(port: int, records: list[bytes], lines: list[bytes], rate: float) -> float:
    """Each record and then its line, so many datagrams a second; in how many seconds, as we may be slower."""
    with ExitStack() as stack:
        pen, server = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        server.bind((SERVER, 0))
        for sock in (pen, server):
            sock.connect(("127.0.0.1", port))
        begun, sent = time.monotonic(), 0
        while sent < len(lines):
            due = min(len(lines), int((time.monotonic() - begun) * rate / 2))
            for number in range(sent, due):
                pen.send(records[number])
                server.send(lines[number])
            sent = max(sent, due)
            time.sleep(BURST)
        return time.monotonic() - begun


def check(log: Path, pairs: int, lost: int) -> None:
    """Each line must be there, with its client, unless it or its record was lost.  Raises PenError."""
    lines = right = 0
    with log.open("rb") as file:
        for line in file:
            number = int(line.split(b'" 200 ', 1)[1].split(None, 1)[0])
            lines += 1
            right += line == client(number) + (LINE % (number, number)).partition(b"127.0.0.1")[2]
    missed = (pairs - lines) + (lines - right)
    if missed > lost:
        raise PenError(f"{right} lines with their client of {pairs}, but only {lost} datagrams were lost")
