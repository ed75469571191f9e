"""The manual pages against the tools' own words: every option and every control command, both ways."""

import ast
import re
from pathlib import Path

import pytest

from penlib.balancer import commands

ROOT = Path(__file__).parents[2]
TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())
SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "NOTES", "SEE ALSO")


def usage(tool: str) -> str:
    """The docstring of bin/TOOL."""
    return ast.get_docstring(ast.parse((ROOT / "bin" / tool).read_bytes())) or ""


def page(tool: str) -> str:
    """man/TOOL.1 without roff's escapes."""
    text = (ROOT / "man" / f"{tool}.1").read_text()
    return re.sub(r"\\f[A-Z]", "", text).replace("\\-", "-").replace("\\(bu", "*")


def options_of_usage(tool: str) -> set[str]:
    """Every option that the usage text declares."""
    lines = re.findall(r"^ +(-\S.*?)(?:  |$)", usage(tool), re.MULTILINE)
    return {word.rstrip(",") for line in lines for word in line.split() if word.startswith("-")}


def options_described(tool: str) -> set[str]:
    """Every option that has an entry of its own under OPTIONS."""
    section = page(tool).partition("\n.SH OPTIONS\n")[2].partition("\n.SH ")[0]
    tags = re.findall(r"^\.TP\n\.\w+ (.*)$", section, re.MULTILINE)
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z])\b", " ".join(tags)))


def options_of_page(tool: str) -> set[str]:
    """Every option that the page shows in bold."""
    bold = re.findall(r"^\.(?:B|BI|BR) (.*)$", page(tool), re.MULTILINE)
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z])\b", " ".join(bold)))


@pytest.mark.parametrize("tool", TOOLS)
def test_options_and_page_agree(tool: str) -> None:
    assert options_described(tool) == options_of_usage(tool)


@pytest.mark.parametrize("tool", ["pen", "penctl"])
def test_page_has_no_option_that_the_tool_lacks(tool: str) -> None:
    others = {"-F", "-C", "-O", "-u", "-df"} if tool == "penctl" else {"-df"}
    assert options_of_page(tool) - others <= options_of_usage(tool)


@pytest.mark.parametrize("tool", TOOLS)
def test_sections(tool: str) -> None:
    found = re.findall(r'^\.SH "?([A-Z ]+)"?$', page(tool), re.MULTILINE)
    assert [section for section in SECTIONS if section not in found] == []


def test_every_control_command_is_in_penctls_page_and_nothing_else() -> None:
    text = page("penctl").split(".SH COMMANDS")[1].split(".SH ")[0]
    plain = re.findall(r"^\.TP\n\.B ([a-z_ ]+)$", text, re.MULTILINE)
    taking = re.findall(r'^\.TP\n\.BI "([a-z_ ]+) " "(.*)"$', text, re.MULTILINE)
    described = {(name, "") for name in plain} | set(taking)
    assert described == {(row.name, row.args) for row in commands.ROWS}


@pytest.mark.parametrize("tool", ["pen", "penctl", "penlog", "penlogd", "mergelogs"])
def test_the_differences_from_the_original_have_tests(tool: str) -> None:
    """Of each page; that the entries and the tests agree is seen when these are collected."""
    tests = (ROOT / "tests" / "interop" / f"test_differences_{tool}.py").read_text()
    assert f'difference = Differences("{tool}")' in tests
    assert tests.endswith("\ndifference.complete()\n")
