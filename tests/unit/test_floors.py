"""The floors of penlib: a file imports only from floors below its own, or from its left on the same floor.

Which file stands where is read from the drawing in doc/design.md, so that the drawing can't become untrue.
Its lines begin `floor N`, then the modules with ` · ` between them, also on further lines that begin with it;
a name with a slash is a package, whose modules follow.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PENLIB = ROOT / "penlib"
FLOOR = re.compile(r"^ *floor \d +(?:(\w+)/ +)?(\w+(?:\s+· \w+)*)", re.MULTILINE)
FROM_ELSEWHERE = {"docopt", "maxminddb", "backports", "compression", "OpenSSL"}
"""What setup.cfg requires; `compression` is of Python 3.14."""
HEAVY = {"argparse", "asyncio", "dataclasses", "ipaddress", "logging"}
"""Modules that would double the time a tool takes to start."""


def drawing() -> list[str]:
    """Dotted names of all modules as doc/design.md draws them, from the lowest floor up, left to right."""
    found = []
    for package, names in FLOOR.findall((ROOT / "doc" / "design.md").read_text()):
        prefix = f"penlib.{package}." if package else "penlib."
        found += [prefix + name for name in re.split(r"\s+· ", names)]
    return found


def modules() -> dict[str, Path]:
    """The files of penlib by dotted name. A package's own __init__ belongs to nobody: it imports nothing."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted(PENLIB.rglob("*.py"))
        if path.name != "__init__.py"
    }


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it; `from a import b` counts as a and as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: a relative import"
            names.update([node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def test_every_module_is_in_the_drawing_and_nothing_else() -> None:
    assert sorted(drawing()) == sorted(modules())


@pytest.mark.parametrize("module", modules())
def test_imports_only_what_is_drawn_before_it(module: str) -> None:
    drawn = drawing()
    assert not imported(modules()[module]) & set(drawn[drawn.index(module) :])


@pytest.mark.parametrize("module", modules())
def test_imports_nothing_from_elsewhere_and_nothing_heavy(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(modules()[module])}
    assert roots <= sys.stdlib_module_names | {"penlib"} | FROM_ELSEWHERE
    assert not roots & HEAVY


def test_packages_import_nothing() -> None:
    for path in PENLIB.rglob("__init__.py"):
        assert not imported(path), path
