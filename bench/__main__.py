"""bench - what pen costs, beside the C suite, haproxy, nginx and the programs that resolve logs

Usage:
  bench [options] [-a PEN]... [--] [<work>...]
  bench --help | --version

<work> is one of those that -w lists, or begins one of their names (tls-);
all of them if none is named.  What is measured is kept in DIR/results.json
beside what was measured before; DIR/RESULTS.md and the charts are written from
both.  So a long benchmark can be done in pieces.

Options:
  -n ROUNDS   rounds [7]
  -q          quick: a little of everything, once; its figures say little
  -a PEN      measure this pen too: bin/pen of another checkout, to see what a
              change does; may repeat
  -o DIR      where the results are: bench/; with -q, -n or -a nothing is
              kept if nothing is said
  -r          measure nothing, write the report and the charts again
  -w          list the works
  --help      print this and exit
  --version   print the version and exit
"""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from bench import balancing, crowd, idle, loghost, merging, programs, report, resolving, rounds, starting
from bench.chart import chart
from bench.lab import QUICK, Lab, Scale
from bench.process import ENDING, end_all
from bench.results import Results
from bench.sample import Work, full_title
from penlib import address
from penlib.errors import UsageError, failed
from penlib.frame import run
from penlib.usage import Args

KINDS = (balancing, idle, crowd, merging, loghost, resolving, starting)
HERE = Path(__file__).parent
KEPT = "results.json"


def main(args: Args) -> None:
    """Measure and report."""
    for number in ENDING:
        signal.signal(number, end)
    place = kept_at(args)
    if place:
        make(place)
    results = Results.read(place / KEPT) if place else Results()
    if not args["-r"]:
        try:
            measure(args, results, place)
        finally:
            end_all()
    elif place:
        write(results, place)
    print(report.report(results), end="")


def measure(args: Args, results: Results, place: Path | None) -> None:
    """Put what is asked for into `results`, and after each work into their files."""
    idle.raise_limit()
    scale = QUICK if args["-q"] else Scale()
    if args["-n"] is not None:
        scale = scale._replace(rounds=number_of_rounds(args["-n"]))
    with Lab(scale, args["-a"]) as lab:
        works = [work for kind in KINDS for work in kind.works(lab)]
        if args["-w"]:
            print("\n".join(f"{work.name:20} {full_title(work.group, work.title)}" for work in works))
            sys.exit(0)
        results.programs = programs.versions(lab)
        for line in lab.skipped:
            tell(f"skipped: {line}")
        circumstances = report.here(scale.rounds, bool(args["-q"]))
        for work in chosen(works, args["<work>"]):
            results.works[work.name] = rounds.run(work, scale.rounds, circumstances, tell)
            lab.clear()
            results.arrange([known.name for known in works])
            if place:
                write(results, place)


def kept_at(args: Args) -> Path | None:
    """The directory of the results; None if they are not to be kept."""
    if args["-o"]:
        return Path(args["-o"])
    return None if args["-q"] or args["-a"] or args["-n"] else HERE


def make(place: Path) -> None:
    """The directory, before anything is measured in vain.  Raises PenError."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise failed(f"make {place}", exc) from exc


def number_of_rounds(text: str) -> int:
    """Raises UsageError."""
    rounds = address.count(text, "option -n")
    if not rounds:
        raise UsageError("option -n: at least 1 round")
    return rounds


def end(number: int, frame: object) -> NoReturn:
    """A signal: end what was started, undisturbed by a second one."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def chosen(works: list[Work], names: list[str]) -> list[Work]:
    """The works of these names or beginnings; all if there are none.  Raises UsageError for one of none."""
    found = []
    for name in names:
        meant = [work for work in works if work.name == name] or [
            work for work in works if work.name.startswith(name)
        ]
        if not meant:
            raise UsageError(f"'{name}' is not one of {', '.join(work.name for work in works)}")
        found += meant
    return found or works


def write(results: Results, place: Path) -> None:
    """Samples, report and charts.  Raises PenError."""
    results.write(place / KEPT)
    pictures = {file: chart(results, groups, title) for file, (title, groups) in report.CHARTS.items()}
    for name, text in {"RESULTS.md": report.report(results), **pictures}.items():
        try:
            (place / name).write_text(text)
        except OSError as exc:
            raise failed(f"write {place / name}", exc) from exc


def tell(line: str) -> None:
    """What happens just now, for who waits; the report alone goes to stdout."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run("bench", __doc__, main))
