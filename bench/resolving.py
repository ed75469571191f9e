"""webresolve beside other programs that put names into logs; its costs are seconds on the wall.

All ask one name server.  The others ask the one that resolv.conf names, at port 53, which takes root;
adnslogres also asks whether each name leads back to its address, and can't be told not to.
"""

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from bench.lab import Lab
from bench.process import find
from bench.ran import ran
from bench.sample import Entrant, Sample, Work
from bench.slowdns import SlowDns
from penlib.errors import PenError

GROUP = "webresolve"
HOST = "127.53.53.53"
DELAYS = (0, 20)
"""Milliseconds that the name server takes."""
LESS = {"jdresolve": (5000, 5000), "logresolve": (10_000, 200)}
"""How many addresses these get at most, for each of the DELAYS: what they can do within a minute."""
OTHERS = ("adnslogres", *LESS)
ONCE = 50_000
"""From so many addresses on adnslogres takes more than a minute, and is measured once, but with all of them.
A part would be a matter of luck: 2000 questions that it sends at once bring more answers than its socket has
room for, and it waits 2 s for each that is lost.  So 10,000 addresses take from 0.4 to 14 s, 100,000 one to
two minutes."""
TAIL = b' - - [24/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5\n'


def works(lab: Lab) -> list[Work]:
    """A work for each number of addresses and delay."""
    others = [name for name in OTHERS if find(name) and find("unshare")]
    if os.geteuid() != 0:
        lab.skipped.append("adnslogres, jdresolve, logresolve: the name server needs port 53, so root")
        others = []
    return [_work(lab, count, delay, others) for count in lab.scale.addresses for delay in DELAYS]


def _work(lab: Lab, count: int, delay: int, others: list[str]) -> Work:
    entrants = [
        Entrant(pen.name, partial(measure, lab, "", pen.tool("webresolve"), count, delay)) for pen in lab.pens
    ]
    for name in others:
        few, less = share(name, count, delay)
        entrants.append(Entrant(name, partial(measure, lab, name, [], few, delay), less))
    title = f"{count:,} addresses, {delay} ms"
    return Work(f"webresolve-{count // 1000}k-{delay}", title, "address", GROUP, entrants, "wall")


def share(name: str, count: int, delay: int) -> tuple[int, str]:
    """How many of the addresses another program gets, and what is to be said of it (see Entrant.sample)."""
    if name not in LESS:
        return count, "once" if count >= ONCE else ""
    few = min(count, LESS[name][DELAYS.index(delay)])
    return few, f"{few:,} addresses" if few < count else ""


def measure(lab: Lab, name: str, words: list[str], count: int, delay: int) -> Sample:
    """Put names into such a log; `words` start webresolve, or else `name` is another's."""
    server = lab.shared("dns", lambda: SlowDns(HOST, 53 if os.geteuid() == 0 else 0))
    log = lab.shared(f"addresses {count}", lambda: nullcontext(written(lab.directory(), count)))
    server.delay = delay / 1000
    output = log.with_name("output")
    if not name:
        command = [*words, "-s", f"{HOST}:{server.port}", str(log)]
    elif name == "jdresolve":
        command = asking(log.parent, [find(name), "--nostats", str(log)])
    elif name == "adnslogres":
        command = [find(name), "-C", f"nameserver {HOST}", str(log)]
    else:
        command = asking(log.parent, ["sh", "-c", 'exec "$0" <"$1"', find(name), str(log)])
    used = ran(command, log.parent, output)
    check(output, count)
    return Sample(count, used.cpu, used.wall, used.memory)


def written(directory: Path, count: int) -> Path:
    """A log with so many addresses, each once."""
    log = directory / "log"
    log.write_bytes(b"".join(address(number) + TAIL for number in range(count)))
    return log


def address(number: int, between: bytes = b".") -> bytes:
    """One of 10/8, or what its name begins with."""
    return between.join(b"%d" % part for part in (10, number >> 16, number >> 8 & 255, number & 255))


def asking(directory: Path, words: list[str]) -> list[str]:
    """Words that start a program that finds our name server in /etc/resolv.conf."""
    file = directory / "resolv.conf"
    file.write_text(f"nameserver {HOST}\n")
    mounted = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
    return [find("unshare"), "--mount", "sh", "-c", mounted, "sh", *words]


def check(output: Path, count: int) -> None:
    """Each address must have got its name.  Raises PenError."""
    found = 0
    with output.open("rb") as lines:
        for line in lines:
            if line != b"h%b.example.test" % address(found, b"-") + TAIL:
                raise PenError(f"line {found + 1} is {line!r}")
            found += 1
    if found != count:
        raise PenError(f"{found} lines of {count} came out")
