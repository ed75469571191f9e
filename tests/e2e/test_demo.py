"""The demo: what it shows is right, it says no when something is not, and it leaves nothing behind."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import process
from support.lab import Lab
from support.process import Process, Result, run
from support.programs import ROOT, needs
from support.waiting import wait_until

DEMO = [sys.executable, "-m", "demo"]
VISITORS = {"Ada": "127.0.2.1", "Ben": "127.0.2.2", "Cleo": "127.0.2.3", "Dora": "127.0.2.4"}
ROW = re.compile(r"^  (/\w*) +(\w+) +(\w+) +(\w+) +(\w+)$", re.MULTILINE)
LINE = re.compile(r'^(127\.\S+) - - \[.*\] "GET (\S+) HTTP/1.1" 200 5 "-" "(\w+)"$', re.MULTILINE)
pytestmark = pytest.mark.xdist_group("demo")  # one run is looked at by many
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def environment(directory: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT), **more}


def nothing_left(before: set[int], directory: Path) -> None:
    """See that no process is left besides those of `before`; orphans come to us, to be reaped."""
    wait_until(lambda: all(map(ended, process.children() - before)), "nothing runs any more")
    assert not list(directory.glob("pen-demo-*"))


def ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run as a newcomer has it, but into a file; it must leave no process and no file."""
    directory = tmp_path_factory.mktemp("demo")
    before = process.children()
    done = run(DEMO, cwd=ROOT, env=environment(directory), seconds=30)
    nothing_left(before, directory)
    return done


def test_it_ends_well(shown: Result) -> None:
    assert (shown.code, shown.err) == (0, "")


def test_it_fits_a_terminal_and_has_no_colour_in_a_file(shown: Result) -> None:
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "\x1b" not in shown.out


def test_visitors_stay_and_those_of_the_dead_server_move(shown: Result) -> None:
    rows = [row[1:] for row in ROW.findall(shown.out)]
    assert rows[:3] == [("web1", "web2", "web3", "web1")] * 3
    assert rows[3:] == [("web1", "web3", "web3", "web1")] * 2


def test_the_log_names_who_asked(shown: Result) -> None:
    """web1's own log has pen as the only client; the merged one has a line for each visit, and its client."""
    own, merged = shown.out.split("\n5. ")[0].split("\n4. ")
    assert {client for client, *_ in LINE.findall(own)} == {"127.0.0.1"}
    asked = [(VISITORS[who], page, who) for page in ("/", "/map", "/faq", "/", "/map") for who in VISITORS]
    assert sorted(LINE.findall(merged)) == sorted(asked)


def test_the_log_made_afterwards_names_hosts(shown: Result) -> None:
    afterwards = shown.out.split("\n5. ")[1].split("\nSummary\n")[0]
    found = re.findall(
        r'^(\w+)\.example - - \[.* \+0000\] "GET / HTTP/1.1" 200 5 "-" "(\w+)"$', afterwards, re.M
    )
    assert sorted(found) == [(who.lower(), who) for who in sorted(VISITORS)]


def test_it_claims_what_it_has_shown(shown: Result) -> None:
    claims = shown.out.split("\nSummary\n")[1]
    assert claims.count("✓") == 4
    assert "8 of 8 requests" in claims
    assert "20 of 20 lines" in claims


@pytest.mark.parametrize(
    ("tool", "words", "against"),
    [
        ("pen", '-r "$@"', "Ada was sent to ["),
        ("pen", '-s "$@"', "Ben got no answer for /"),
        ("penlog", '"$1" "$2"', "not true: 127.0.0.1 - - ["),  # not from the server's own address
        ("penlog", "127.0.0.1 9", "not in the log: 127.0.2.1 GET / HTTP/1.1"),
    ],
)
def test_it_says_no_when_a_claim_is_false(tmp_path: Path, tool: str, words: str, against: str) -> None:
    for name in ("pen", "penctl", "penlog", "penlogd", "mergelogs", "webresolve"):
        command = shlex.join([sys.executable, str(ROOT / "bin" / name)])
        given = words if name == tool else '"$@"'
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\nexec {command} {given}\n")
        script.chmod(0o755)
    done = run([*DEMO, "--bin", str(tmp_path)], cwd=ROOT, env=environment(tmp_path))
    assert done.code == 1
    assert "✗" in done.out
    assert against in done.out


def start(lab: Lab, *words: str) -> Process:
    return lab.spawn([*DEMO, *words], "demo", cwd=ROOT, env=environment(lab.directory))


@needs("curl")
@pytest.mark.parametrize(("number", "status"), [("SIGINT", 0), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_kept_it_runs_until_it_is_told(lab: Lab, number: str, status: int) -> None:
    """The URL that it names works, every request appears with who made it, web2 is back; then all end."""
    before = process.children()
    demo = start(lab, "--keep")
    wait_until(lambda: "Every request appears here" in demo.out, "the demo says that it stays")
    url = re.findall(r"Still running: (\S+)", demo.out)[0]
    for visitor in (2, 9):
        asked = run(["curl", "-s", "--interface", f"127.0.2.{visitor}", "-A", "me", f"{url}map"])
        assert asked.out.startswith("web")
        wait_until(lambda visitor=visitor: f"\n127.0.2.{visitor} - - [" in last_part(demo), "the line")
    page = run(["curl", "-s", "-H", "Accept: text/html", f"{url}<b>"])
    assert "<!doctype html>" in page.out
    assert "<b>" not in page.out
    demo.send_signal(getattr(signal, number))
    assert demo.wait() == status, demo.describe()
    nothing_left(before, lab.directory)
    assert demo.err == ""


def last_part(demo: Process) -> str:
    return demo.out.split("Every request appears here")[1]


def test_told_to_end_while_it_starts_it_leaves_nothing(lab: Lab) -> None:
    before = process.children()
    demo = start(lab)
    wait_until(lambda: list(lab.directory.glob("pen-demo-*/penlogd.pid")), "penlogd runs")
    demo.send_signal(signal.SIGTERM)
    assert demo.wait() == 143
    nothing_left(before, lab.directory)


@pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(
    tmp_path: Path, setting: dict[str, str], coloured: bool
) -> None:
    terminal, its_side = pty.openpty()
    demo = subprocess.Popen(
        DEMO, cwd=ROOT, env=environment(tmp_path, TERM="xterm", **setting), stdout=its_side
    )
    os.close(its_side)
    seen = b"".join(iter(lambda: read(terminal), b""))
    os.close(terminal)
    assert demo.wait() == 0, seen.decode(errors="replace")
    text = seen.decode()
    assert bool(ESCAPE.search(text)) == coloured
    assert max(map(len, ESCAPE.sub("", text).splitlines())) <= 80


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is gone
        return b""
