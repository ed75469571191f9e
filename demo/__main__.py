"""demo - a balanced cluster on this machine, and what it says about itself

Usage:
  demo [--keep] [--bin DIR]
  demo --help | --version

Options:
  --keep      leave the cluster running at the end, and show its log as it grows
  --bin DIR   where the tools are [default: the checkout]
"""

import http.client
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from demo.cluster import CONTROL, SERVERS, Cluster
from demo.screen import command, heading, paint, row, show
from demo.webserver import PAGES
from penlib.clock import monotonic
from penlib.frame import run
from penlib.usage import Args

VISITORS = {"Ada": "127.0.2.1", "Ben": "127.0.2.2", "Cleo": "127.0.2.3", "Dora": "127.0.2.4"}
VICTIM = "web2"
PATIENCE = 5.0
"""Seconds that a web server has to answer, and a line to arrive in the log."""
GLANCE = 0.1
"""Seconds between two looks into a log that somebody watches."""
PICTURE = """\
  visitors                                              web servers
  Ada   127.0.2.1 ──┐                             ┌──▶  web1  {web1}
  Ben   127.0.2.2 ──┼──▶  pen  {pen:<16}───┼──▶  web2  {web2}
  Cleo  127.0.2.3 ──┤      │                      └──▶  web3  {web3}
  Dora  127.0.2.4 ──┘      │ who asked                    │
                           ▼                              │ what was asked
                        penlogd  {penlogd:<16} ◀──  penlog, one each
                           │
                           ▼
                       access_log, with the true clients"""


class Visit(NamedTuple):
    """A request that was made: by whom, for what, and the server that answered ("" = nobody)."""

    visitor: str
    target: str
    server: str

    @property
    def logged(self) -> tuple[str, str, str]:
        """What the line in the log must say: client, request, user agent."""
        return VISITORS[self.visitor], f"GET {self.target} HTTP/1.1", self.visitor


class Claim(NamedTuple):
    """A sentence of the summary, whether it is true, and what speaks against it."""

    text: str
    true: bool
    against: list[str]


def main(args: Args) -> int:
    """Run the demo; 0 if all that it claims is true."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    tools = args["--bin"]
    with tempfile.TemporaryDirectory(prefix="pen-demo-") as directory:
        cluster = Cluster(Path(directory), None if tools == "the checkout" else Path(tools).absolute())
        try:
            return tell(cluster, args["--keep"])
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C
            cluster.close()


def tell(cluster: Cluster, keep: bool) -> int:
    """The story from beginning to end."""
    started = monotonic()
    cluster.start()
    introduce(cluster)
    before = balance(cluster)
    after = fail_over(cluster, before)
    answered = [one for one in before + after if one.server]
    lines = read_logs(cluster, len(answered))
    later, named = merge_afterwards(cluster)
    claims = [
        claim_tracking(before),
        claim_failover(before, after),
        claim_clients(answered, lines),
        claim_names(later, named),
    ]
    summarise(claims, monotonic() - started)
    if keep:
        stay(cluster)
    return 0 if all(claim.true for claim in claims) else 1


def introduce(cluster: Cluster) -> None:
    """Who is there, and how it was started."""
    show(paint("Three web servers, one address, one log with the true clients", "bold") + "\n")
    webs = {name: f"{SERVERS[name]}:{port}" for name, port in cluster.ports.items()}
    show(PICTURE.format(pen=cluster.address, penlogd=cluster.log_to, **webs))
    show("\n  started with\n")
    for name in ("penlogd", "pen"):
        show(command(cluster.commands[name]))
    show("\n  and each web server logs as Apache httpd does with, for web1,\n")
    show(f'    CustomLog "|{" ".join(cluster.commands["web1"])}" combined')


def balance(cluster: Cluster) -> list[Visit]:
    """Everybody visits every page."""
    heading("1. pen takes the web servers in turn, and remembers who was where")
    return visit_all(cluster, PAGES)


def fail_over(cluster: Cluster, before: list[Visit]) -> list[Visit]:
    """A server dies, everybody goes on."""
    served = [visitor for visitor in VISITORS if Visit(visitor, PAGES[0], VICTIM) in before]
    heading(f"2. {VICTIM} is killed; its visitors ({', '.join(served)}) go on elsewhere, and stay there")
    cluster.kill_web(VICTIM)
    return visit_all(cluster, PAGES[:2])


def visit_all(cluster: Cluster, targets: list[str]) -> list[Visit]:
    """All visitors ask for all `targets`, one after another; a table of who answered."""
    show(row("", list(VISITORS)))
    visits = []
    for target in targets:
        answers = [visit(cluster, visitor, target) for visitor in VISITORS]
        show(row(target, [answer.server or "nobody" for answer in answers]))
        visits += answers
    return visits


def visit(cluster: Cluster, visitor: str, target: str) -> Visit:
    """One request, from the visitor's own address, by a connection of its own."""
    host, port = cluster.address.split(":")
    source = VISITORS[visitor], 0
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE, source_address=source)
    try:
        connection.request("GET", target, headers={"User-Agent": visitor, "Connection": "close"})
        answer = connection.getresponse()
        return Visit(visitor, target, answer.read().decode().strip() if answer.status == 200 else "")
    except (OSError, http.client.HTTPException):
        return Visit(visitor, target, "")
    finally:
        connection.close()


def read_logs(cluster: Cluster, expected: int) -> list[str]:
    """What a web server knew, and what penlogd made of it; the lines of the latter."""
    heading("3. web1 itself saw nobody but pen; its own log begins")
    own = (cluster.directory / "web1.log").read_text().splitlines()
    show(paint("\n".join(own[:3]), "dim"))
    heading("4. penlogd knows who asked: the log of the whole cluster, as it came in")
    show(paint("To compare, every visitor's user agent, the last field, is the visitor's name.\n", "dim"))
    wait_for(lambda: len(cluster.access_log.read_text().splitlines()) >= expected)
    lines = cluster.access_log.read_text().splitlines()
    for line in lines:
        show(highlight(line))
    return lines


def merge_afterwards(cluster: Cluster) -> tuple[list[Visit], list[str]]:
    """The same from files: more visits, of which only files tell, and the named lines made of those."""
    heading("5. The same afterwards, from files, and with host names instead of addresses")
    for name in SERVERS:
        own_log(cluster, name).rename(cluster.directory / f"{name}.log.1")
    step(cluster, "penctl", CONTROL, "log", "pen.log")
    visits = [visit(cluster, visitor, PAGES[0]) for visitor in VISITORS]
    logs = [name for name in SERVERS if any(one.server == name for one in visits)]
    wait_for(lambda: sum(map(len, (read(own_log(cluster, name)) for name in logs))) >= len(visits))
    pairs = [f"{SERVERS[name]}:{name}.log" for name in logs]
    merged = step(cluster, "mergelogs", "-p", "pen.log", *pairs, ">", "merged")
    (cluster.directory / "merged").write_text(merged)
    at = cluster.start_names({address: host_name(visitor) for visitor, address in VISITORS.items()})
    lines = step(cluster, "webresolve", "-s", at, "merged").splitlines()
    show()
    for line in lines:
        show(highlight(line))
    cluster.run("penctl", CONTROL, "log", cluster.log_to)
    return visits, lines


def step(cluster: Cluster, *words: str) -> str:
    """Show a command line, and run it; what it wrote."""
    show(command(list(words)))
    return cluster.run(*(words[: words.index(">")] if ">" in words else words))


def own_log(cluster: Cluster, name: str) -> Path:
    return cluster.directory / f"{name}.log"


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def host_name(visitor: str) -> str:
    return f"{visitor.lower()}.example"


def highlight(line: str) -> str:
    client, space, rest = line.partition(" ")
    return paint(client, "bold") + space + rest


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again and again until it is so, or PATIENCE ends."""
    end = monotonic() + PATIENCE
    while not condition() and monotonic() < end:
        time.sleep(GLANCE / 10)


def claim_tracking(before: list[Visit]) -> Claim:
    """Everybody stayed where he was sent first, and every server was used."""
    places = {visitor: {one.server for one in before if one.visitor == visitor} for visitor in VISITORS}
    torn = [f"{visitor} was sent to {sorted(used)}" for visitor, used in places.items() if len(used) > 1]
    idle = [f"{name} got no visitor" for name in SERVERS if not any(name in used for used in places.values())]
    text = f"{len(VISITORS)} visitors, {len(SERVERS)} web servers: everybody stayed at one"
    return Claim(text, not torn + idle, torn + idle)


def claim_failover(before: list[Visit], after: list[Visit]) -> Claim:
    """No request failed, the dead server's visitors are elsewhere, and nobody else moved."""
    home = {one.visitor: one.server for one in before}
    failed = [f"{one.visitor} got no answer for {one.target}" for one in after if not one.server]
    wrong = [
        f"{one.visitor} moved from {home[one.visitor]} to {one.server}"
        for one in after
        if one.server == VICTIM or (home[one.visitor] not in (VICTIM, one.server) and one.server)
    ]
    text = f"{VICTIM} died: {len(after) - len(failed)} of {len(after)} requests were answered all the same"
    return Claim(text, not failed + wrong, failed + wrong)


def claim_clients(visits: list[Visit], lines: list[str]) -> Claim:
    """The log has a line for each request, and it names the true client: the user agent proves it."""
    expected = sorted(visit.logged for visit in visits)
    missing = list(expected)
    strange = []
    for line in lines:
        quoted = line.split('"')
        said = (line.partition(" ")[0], quoted[1], quoted[5]) if len(quoted) == 7 else ("", "", "")
        if said in missing:
            missing.remove(said)
        else:
            strange.append(f"not true: {line}")
    lost = [f"not in the log: {client} {request}" for client, request, _ in missing]
    text = f"{len(lines) - len(strange)} of {len(expected)} lines name the true client"
    return Claim(text, not strange + lost, strange + lost)


def claim_names(visits: list[Visit], lines: list[str]) -> Claim:
    """The log made from files has a line for each visit, which names the visitor's host."""
    expected = sorted(host_name(one.visitor) for one in visits if one.server)
    named = sorted(line.partition(" ")[0] for line in lines if line.endswith(f'"{owner(line)}"'))
    lost = [f"not in the log made from files: {name}" for name in expected if name not in named]
    right = len(expected) - len(lost)
    text = f"{right} of {len(visits)} lines of the log made afterwards name the visitor's host"
    return Claim(text, named == expected and len(expected) == len(visits), lost)


def owner(line: str) -> str:
    """The visitor whose host name a line begins with."""
    return line.partition(".")[0].capitalize()


def summarise(claims: list[Claim], seconds: float) -> None:
    """What was to be shown, and whether it was so."""
    heading("Summary")
    for claim in claims:
        show(paint("  ✓ ", "good") + claim.text if claim.true else paint("  ✗ " + claim.text, "bad"))
        for line in claim.against:
            show(f"      {line}")
    show(paint(f"\n  {seconds:.1f} s. `make demo KEEP=1` leaves it running; README.md goes on.", "dim"))


def stay(cluster: Cluster) -> None:
    """Bring the dead server back, and show the log as it grows, until Ctrl-C."""
    cluster.start_web(VICTIM)
    heading(f"Still running: http://{cluster.address}/  (Ctrl-C ends it)")
    show(f"  {VICTIM} is back. Open the URL in a browser, or ask as somebody else:\n")
    show(command(["curl", "--interface", "127.0.2.9", f"http://{cluster.address}/map"]))
    show("\n  Every request appears here, with who made it:\n")
    try:
        follow(cluster.access_log)
    except KeyboardInterrupt:
        show("\n\n  All ended.")


def follow(path: Path) -> None:
    """Print what is added to a file, for ever."""
    with path.open() as log:
        log.seek(0, 2)
        while True:
            line = log.readline()
            if line:
                show(highlight(line.rstrip("\n")))
            else:
                time.sleep(GLANCE)


if __name__ == "__main__":
    sys.exit(run("demo", __doc__, main))
