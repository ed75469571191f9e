"""What every tool has: help, version, and how it says that it was called wrongly."""

import ast

import pytest
from support.programs import ROOT, tool

from penlib.version import VERSION

TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())


def usage(name: str) -> str:
    """The docstring of bin/NAME."""
    return (ast.get_docstring(ast.parse((ROOT / "bin" / name).read_bytes()), clean=False) or "").strip()


@pytest.mark.parametrize("name", TOOLS)
def test_help(lab, name):
    assert lab.run(name, "--help") == (0, usage(name) + "\n", "")


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "pen"])
def test_h_is_help(lab, name):
    """In every tool but pen, where -h is a way to choose a server."""
    assert lab.run(name, "-h") == lab.run(name, "--help")


@pytest.mark.parametrize("name", TOOLS)
def test_version(lab, name):
    assert lab.run(name, "--version") == (0, f"{name} {VERSION}\n", "")


@pytest.mark.parametrize("name", TOOLS)
def test_wrong_usage_is_a_line_and_the_short_usage(lab, name):
    done = lab.run(name, "--no-such-option")
    assert (done.code, done.out) == (2, "")
    complaint, *short = done.err.splitlines()
    assert complaint == f"{name}: unknown option --no-such-option"
    assert "\n".join(short) in usage(name)
    assert short[0] == "Usage:"


def test_there_are_all_of_them():
    assert {"pen", "penctl", "penlog", "penlogd", "mergelogs", "webresolve", "splitwr"} <= set(TOOLS)
    assert all(tool(name) for name in TOOLS)
