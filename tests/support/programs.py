"""Where the programs under test and their peers are found, and what a test says it needs.

The tools under test come from the checkout, run by this interpreter, or from the directory that PEN_BIN
names: an installed tree, or the original programs.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORIGINALS = Path("/usr/bin")  # where Debian's package `pen` puts the original suite
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ELF = b"\x7fELF"


def tool(name: str) -> list[str]:
    """The words that start the tool under test."""
    directory = os.environ.get("PEN_BIN")
    return [str(Path(directory, name))] if directory else [sys.executable, str(ROOT / "bin" / name)]


def tools_in(directory: Path) -> Path:
    """A directory for PATH that has the tools under test, made if it is not there; the same."""
    if not directory.exists():
        directory.mkdir()
        for path in (ROOT / "bin").iterdir():
            if path.is_file():
                program = directory / path.name
                program.write_text(f'#!/bin/sh\nexec {" ".join(tool(path.name))} "$@"\n')
                program.chmod(0o755)
    return directory


def original(name: str) -> list[str]:
    """The words that start the original C program of that name; say `needs("original pen")`."""
    return [str(ORIGINALS / name)]


def find(name: str) -> str | None:
    """The path of a program of the system, sbin included."""
    return shutil.which(name, path=SYSTEM_PATH)


def needs(*names: str) -> pytest.MarkDecorator:
    """Mark a test as needing programs ("nginx"), "original pen" or "root".

    Without them it is skipped with the reason, but with CI=true a missing program is a failure.
    """
    return pytest.mark.needs(*names)


def missing(name: str) -> str | None:
    """Why `name`, as given to `needs`, is not to be had; None if it is."""
    if name == "root":
        return None if os.geteuid() == 0 else "needs root"
    if name == "ipv6":
        return None if Path("/proc/net/if_inet6").exists() else "needs IPv6"
    if name == "original pen":
        suite = ("pen", "penctl", "penlog", "penlogd", "mergelogs")
        there = all(_is_elf(ORIGINALS / program) for program in suite)
        return None if there else "the original pen suite is not installed"
    return None if find(name) else f"{name} is not installed"


def is_program(name: str) -> bool:
    """Whether a missing `name` is something that CI should have installed."""
    return name not in ("root", "ipv6")


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == ELF
    except OSError:
        return False
