"""doc/reference.md against the tools: every option and command is in it, with a test that runs it.

The tables are read as text, the tests by their source: a test shows an option or a command if it says the
word, in its own text or in what it uses of its file (constants, helpers, fixtures, methods of its class).
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from penlib.balancer import commands

ROOT = Path(__file__).parents[2]
TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())
COMMANDS = "control commands"
"""The heading of their table."""

ORIGINAL_OPTIONS = {
    "pen": "-A -B -C -D -E -F -G -H -K -L -N -O -P -Q -R -S -T -U -W -X -Z "
    "-a -b -c -d -e -f -h -i -j -l -m -n -o -p -q -r -s -t -u -w -x",
    "penlogd": "-b -d -f -j -l -n -p -u",
    "mergelogs": "-c -d -j -p -r -t",
}
ORIGINAL_COMMANDS = """
abort_on_error, no abort_on_error, acl, no acl, ascii, no ascii, blacklist, block, no block, client_acl,
clients_max, close, connection, conn_max, control, control_acl, debug, delayed_forward, no delayed_forward,
dsr_if, dummy, no dummy, epoll, exit, hash, no hash, http, no http, idle_timeout, idlers, include, kqueue,
listen, log, mode, no log, pending_max, pid, poll, prio, no prio, recent, roundrobin, no roundrobin, select,
server, servers, socket, source, ssl_ciphers, ssl_client_renegotiation_interval, ssl_ocsp_response,
ssl_option, ssl_sni_path, status, stubborn, no stubborn, tarpit_acl, tcp_fastclose, tcp_nodelay,
no tcp_nodelay, timeout, tracking, transparent, no transparent, web_stats, no web_stats, weight, no weight,
write
"""
"""What the manual pages of pen 0.34.1 name: old command lines and files go on working."""


class Row(NamedTuple):
    """One line of a table."""

    word: str
    meaning: str
    tests: list[str]


@cache
def tables() -> dict[str, list[Row]]:
    """The tables by their headings."""
    found: dict[str, list[Row]] = {}
    for line in (ROOT / "doc" / "reference.md").read_text().splitlines():
        if line.startswith("## "):
            rows = found.setdefault(line[3:], [])
        elif line.startswith("| `"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            word, meaning, shown = cells
            rows.append(Row(word.strip("`"), meaning, re.findall(r"`([^`]+)`", shown)))
    return found


def options(tool: str) -> dict[str, str]:
    """The options of a usage text, as they stand there, and what is said of them."""
    usage = ast.get_docstring(ast.parse((ROOT / "bin" / tool).read_bytes())) or ""
    found: dict[str, str] = {}
    latest = ""
    for line in usage.partition("Options:\n")[2].splitlines():
        option, _, text = line.strip().partition("  ") if line.startswith("  -") else ("", "", line)
        latest = option or latest
        found[latest] = f"{found.get(latest, '')} {text.strip()}".strip()
    return found


EXPECTED = {tool: options(tool) for tool in TOOLS}
EXPECTED[COMMANDS] = {command.usage: command.help for command in commands.ROWS}


ROWS = [(heading, row) for heading, table in tables().items() for row in table]


def text_of(word: str, meaning: str) -> str:
    return f"`{word}`: {meaning}"


@pytest.mark.parametrize("heading", EXPECTED)
def test_all_of_them_are_there_in_the_words_of_the_tool_and_nothing_else(heading: str) -> None:
    there = sorted(text_of(row.word, row.meaning) for row in tables()[heading])
    assert there == sorted(text_of(*item) for item in EXPECTED[heading].items())


def test_there_is_no_other_table() -> None:
    assert list(tables()) == [*sorted(TOOLS, key=list(tables()).index), COMMANDS]


@pytest.mark.parametrize("tool", ORIGINAL_OPTIONS)
def test_no_option_of_the_original_is_missing(tool: str) -> None:
    declared = {word.rstrip(",") for spec in options(tool) for word in spec.split()}
    assert set(ORIGINAL_OPTIONS[tool].split()) - declared == set()


def test_no_command_of_the_original_is_missing() -> None:
    names = {name.strip() for name in ORIGINAL_COMMANDS.replace("\n", " ").split(",")}
    assert names - set(commands.TABLE) == set()


# The tests that the tables name


class Source(NamedTuple):
    """A file of tests: what it defines at its top, and in its classes."""

    top: dict[str, ast.AST]
    classes: dict[str, dict[str, ast.AST]]


@cache
def source(name: str) -> Source:
    path = ROOT / "tests" / name
    assert path.is_file(), f"there is no tests/{name}"
    body = ast.parse(path.read_bytes()).body
    classes = {node.name: _defined(node.body) for node in body if isinstance(node, ast.ClassDef)}
    return Source(_defined(body), classes)


def _defined(body: list[ast.stmt]) -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                name = ast.unparse(target)
                found[name] = ast.Module([*_as_list(found.get(name)), node], [])
    return found


def _as_list(node: ast.AST | None) -> list[ast.stmt]:
    return list(node.body) if isinstance(node, ast.Module) else []


def strings(test: str) -> list[str]:
    """All that the test called `file::[Class::]name` and what it uses say in quotes."""
    name, *inner = test.split("::")
    file = source(name)
    scope = file.top | (file.classes[inner[0]] if len(inner) == 2 else {})
    assert inner[-1] in scope, f"there is no {test}"
    assert inner[-1].startswith("test_")
    seen: set[str] = set()
    said: list[str] = []
    left = [inner[-1]]
    while left:
        called = left.pop()
        if called in seen or called not in scope:
            continue
        seen.add(called)
        prose = {node.value for node in ast.walk(scope[called]) if isinstance(node, ast.Expr)}
        for node in ast.walk(scope[called]):
            if node in prose:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                said.append(node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
            elif isinstance(node, ast.Name | ast.Attribute | ast.arg):
                left.append(getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "arg", ""))
    return said


def says(test: str, word: str, heading: str) -> bool:
    """Whether the test says an option (`-b SEC`: also among others, -rb) or a command (`no hash`: also put
    together from `no ` and `hash`)."""
    said = strings(test)
    if heading != COMMANDS:
        return any(_says_option(text, name) for name in re.findall(r"--?[\w-]+", word)[:2] for text in said)
    name = re.match(r"(no )?\w+", word)
    assert name
    if name[1] and any(text.endswith("no ") for text in said):
        return any(_says_command(text, name[0][3:]) for text in said)
    return any(_says_command(text, name[0]) for text in said)


def _says_option(text: str, name: str) -> bool:
    if name.startswith("--"):
        return re.search(rf"(?<!\S){name}(?![\w-])", text) is not None
    return re.search(rf"(?<!\S)-[A-Za-z]*{name[1]}", text) is not None


def _says_command(text: str, name: str) -> bool:
    return re.search(rf"(?<!no )(?<![\w-]){name}(?![\w-])", text) is not None


@pytest.mark.parametrize(
    ("heading", "row"), ROWS, ids=lambda value: value.word if isinstance(value, Row) else value
)
def test_its_tests_exist_and_say_it(heading: str, row: Row) -> None:
    assert row.tests, "a row names at least one test"
    assert [test for test in row.tests if not says(test, row.word, heading)] == []


@pytest.mark.parametrize(
    ("text", "name", "there"),
    [("-b", "-b", True), ("-rb", "-b", True), ("-b5", "-b", True), ("x -b 5", "-b", True),
     ("--blind", "-b", False), ("a-b", "-b", False), ("-B", "-b", False), ("--wait", "--wait", True),
     ("--wait-not", "--wait", False)],
)  # fmt: skip
def test_how_options_are_found(text: str, name: str, there: bool) -> None:
    assert _says_option(text, name) is there


@pytest.mark.parametrize(
    ("text", "there"),
    [("hash", True), ("no hash", False), ("hash\n", True), ("hashing", False), ("ssl-hash", False)],
)
def test_how_commands_are_found(text: str, there: bool) -> None:
    assert _says_command(text, "hash") is there
