"""bench - what pen costs in CPU time, beside the C pen, haproxy and nginx

Usage:
  bench [options] [-a PEN]... [--] [<work>...]
  bench --help | --version

<work> is keepalive, connections, download, upload, one of these with tls-
before it, queries or sessions (UDP); all of them if none is named.  pen runs
under the interpreter that runs this.

Options:
  -n ROUNDS   rounds [7]
  -q          quick: 3 short rounds
  -a PEN      measure this program too: bin/pen of another checkout, to see
              what a change does; may repeat
  -o FILE     write the report there, too; a full run (all works, not quick)
              writes it to bench/RESULTS.md if nothing else is said
  --help      print this and exit
  --version   print the version and exit
"""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from bench import rounds
from bench.peers import Peer, all_peers
from bench.report import Report
from bench.works import Bench, Work
from penlib import address
from penlib.errors import UsageError, failed
from penlib.usage import Args, run

ROUNDS, QUICK_ROUNDS = 7, 3
SECONDS, QUICK_SECONDS = 3, 1
"""That wrk asks, in each measurement."""
MEGABYTES, QUICK_MEGABYTES = 1000, 250
"""That each bulk connection carries."""
RESULTS = Path(__file__).with_name("RESULTS.md")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(args: Args) -> None:
    """Measure and report."""
    for number in ENDING:
        signal.signal(number, end)
    quick, count = args["-q"], number_of_rounds(args)
    with Bench(QUICK_SECONDS if quick else SECONDS, QUICK_MEGABYTES if quick else MEGABYTES) as bench:
        works = chosen(bench.works, args["<work>"])
        peers = present(all_peers(args["-a"]), bench.skipped)
        for line in bench.skipped:
            tell(f"skipped: {line}")
        results = rounds.run(works, peers, count, tell)
        report = str(Report(results, works, peers, count, bench.skipped))
    print(report, end="")
    full = not (quick or args["<work>"] or args["-a"] or args["-n"])
    if args["-o"] or full:
        write(Path(args["-o"]) if args["-o"] else RESULTS, report)


def number_of_rounds(args: Args) -> int:
    """Raises UsageError."""
    if args["-n"] is None:
        return QUICK_ROUNDS if args["-q"] else ROUNDS
    rounds = address.count(args["-n"], "option -n")
    if not rounds:
        raise UsageError("option -n: at least 1 round")
    return rounds


def end(number: int, frame: object) -> NoReturn:
    """A signal: end what was started, undisturbed by a second one."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def chosen(works: list[Work], names: list[str]) -> list[Work]:
    """The works of these names; all if there are none.  Raises UsageError for a name that is none's."""
    known = {work.name: work for work in works}
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}' is not one of {', '.join(known)}")
    return [known[name] for name in names] or works


def present(peers: list[Peer], skipped: list[str]) -> list[Peer]:
    """The peers that can take part; `skipped` gets a line for each other one."""
    skipped += [f"{peer.name}: {peer.missing()}" for peer in peers if peer.missing()]
    return [peer for peer in peers if not peer.missing()]


def write(path: Path, report: str) -> None:
    """Raises PenError."""
    try:
        path.write_text(report)
    except OSError as exc:
        raise failed(f"write {path}", exc) from exc


def tell(line: str) -> None:
    """What happens just now, for who waits; the report alone goes to stdout."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run("bench", __doc__, main))
