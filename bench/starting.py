"""What a tool costs before it does anything: an interpreter that starts."""

from functools import partial
from pathlib import Path

from bench.lab import Lab
from bench.peers import original
from bench.process import find
from bench.ran import ran
from bench.sample import Entrant, Sample, Work
from penlib.errors import PenError

GROUP = "Starting"


def works(lab: Lab) -> list[Work]:
    """`pen --version`, which the C program answers with its usage; an empty file for webresolve."""
    pens = [Entrant(pen.name, partial(start, lab, [*pen.tool("pen"), "--version"])) for pen in lab.pens]
    if original("pen"):
        pens.append(Entrant("pen 0.34.1", partial(start, lab, [original("pen"), "-?"])))
    (file := lab.home / "empty").touch()
    filters = {pen.name: [*pen.tool("webresolve"), str(file)] for pen in lab.pens}
    filters |= {name: [find(name), *words] for name, words in others(file).items() if find(name)}
    empty = [Entrant(name, partial(start, lab, words, False)) for name, words in filters.items()]
    return [
        Work("version", "pen --version", "start", GROUP, pens),
        Work("empty", "webresolve, an empty file", "start", GROUP, empty),
    ]


def others(file: Path) -> dict[str, list[str]]:
    """What the other filters are told so that they read an empty file."""
    return {"logresolve": [], "adnslogres": [str(file)], "jdresolve": ["--nostats", str(file)]}


def start(lab: Lab, command: list[str], speaks: bool = True) -> Sample:
    """Some starts.  Raises PenError if one fails, or says something, or nothing, when it should not."""
    output: Path = lab.directory() / "output"
    ran(command, output.parent)  # whatever is done once only, such as compiling
    cpu = wall = 0.0
    for _ in range(lab.scale.starts):
        used = ran(command, output.parent, output)
        cpu, wall = cpu + used.cpu, wall + used.wall
        if bool(output.stat().st_size) != speaks:
            raise PenError(f"says '{output.read_text('utf-8', 'replace').strip()}'")
    return Sample(lab.scale.starts, cpu, wall)
