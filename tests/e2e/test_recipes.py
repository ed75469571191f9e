"""The recipes of doc/howto.md for logs, names and name servers, letter by letter."""

import contextlib
import gzip
import http.client
import os
import re
from pathlib import Path

from support.nsd import Nsd
from support.programs import needs
from support.recipes import ADDRESSES, HOWTO, VISITORS, recipe
from support.waiting import wait_until
from support.webserver import apache, nginx

pytestmark = needs("root", "unshare", "mount", "ip")


def visit(page: str) -> None:
    """Every visitor asks lbhost for a page of its own, and tells its name as the User-Agent."""
    for name, address in VISITORS.items():
        with contextlib.closing(
            http.client.HTTPConnection(ADDRESSES["lbhost"], 80, timeout=20, source_address=(address, 0))
        ) as connection:
            connection.request("GET", page, headers={"User-Agent": name})
            assert connection.getresponse().status in (200, 404)


def said(log: Path) -> list[tuple[str, str]]:
    """The client and the User-Agent of each line."""
    text = log.read_text() if log.exists() else ""
    return re.findall(r'^(\S+) - - \[.*\] "GET .*" \d+ \d+ ".*" "(.*)"$', text, re.MULTILINE)


def by_address(log: Path) -> bool:
    """Whether the log has a line for each visitor, which names its address."""
    return sorted(said(log)) == sorted((address, name) for name, address in VISITORS.items())


def by_name(log: Path) -> bool:
    return sorted(said(log)) == sorted((name, name) for name in VISITORS)


@needs("apache2")
def test_one_log_live_with_apache(lab, shell, typed):
    penlogd, pen = recipe("One log, live: Apache httpd")
    typed(penlogd)
    (custom,) = re.findall(r'^CustomLog "\|(.*)" combined$', HOWTO.read_text(), re.MULTILINE)
    custom = custom.replace("/usr/local/bin/", f"{lab.directory}/bin/")
    for name in ("host1", "host2"):
        directory = lab.directory / name
        directory.mkdir()
        sender = f"{custom} {ADDRESSES[name]}"  # all hosts are one here
        apache(lab, f"|{sender}", host=ADDRESSES[name], port=80, under=shell[:-2], directory=directory)
    typed(pen)
    visit("/")
    wait_until(lambda: by_address(lab.directory / "access_log"), "the log")


@needs("nginx", "tail")
def test_one_log_live_with_nginx(lab, shell, typed):
    for block in recipe("One log, live: Apache httpd"):
        typed(block)
    (block,) = recipe("One log, live: nginx, or whatever writes a file")
    for name in ("host1", "host2"):
        (lab.directory / name).mkdir()
        log = lab.directory / name / "access.log"
        log.touch()
        nginx(lab, f"{log} combined", host=ADDRESSES[name], name=name, port=80)
        sender = block.replace("loghost 10000", f"loghost 10000 {ADDRESSES[name]}")  # all hosts are one here
        lab.spawn([*shell, f"cd {name} && {sender}"])
        wait_until(lambda log=log: follows(log), "tail follows the log")
    visit("/")
    wait_until(lambda: by_address(lab.directory / "access_log"), "the log")


def follows(log: Path) -> bool:
    """Whether somebody else has it open besides the nginx that writes it."""
    readers = 0
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            readers += os.readlink(fd) == str(log)
    return readers >= 2


def nginx_pair(lab) -> None:
    for name in ("host1", "host2"):
        nginx(lab, f"{lab.directory}/access_log.{name} combined", host=ADDRESSES[name], name=name, port=80)


@needs("nginx")
def test_one_log_afterwards(lab, typed):
    pen, found, named = recipe("One log, afterwards")
    nginx_pair(lab)
    typed(pen)
    visit("/")
    logs = [lab.directory / f"access_log.{name}" for name in ("host1", "host2")]
    wait_until(lambda: sum(len(said(log)) for log in logs) == len(VISITORS), "the servers' logs")
    wait_until(lambda: (lab.directory / "pen.log").read_text().count("\n") == len(VISITORS))
    assert (lab.directory / "pen.log").stat().st_mode & 0o777 == 0o640
    for block in (found, named):
        typed(block)
        assert by_address(lab.directory / "merged_log")
        (lab.directory / "merged_log").unlink()


@needs("nginx", "gzip")
def test_every_night(lab, typed):
    (night,) = recipe("Every night")
    nginx_pair(lab)
    typed(recipe("One log, afterwards")[0])
    visit("/")
    logs = [lab.directory / f"access_log.{name}" for name in ("host1", "host2")]
    wait_until(lambda: sum(len(said(log)) for log in logs) == len(VISITORS), "the servers' logs")
    typed(night)
    merged = lab.directory / "merged_log"
    merged.write_bytes(gzip.decompress((lab.directory / "merged_log.gz").read_bytes()))
    assert by_name(merged)
    assert (lab.directory / "names.db").exists()
    wait_until(lambda: (lab.directory / "pen.log").exists(), "pen has opened a new log")


def test_host_names(lab, shell, typed):
    once, live, confirmed = recipe("Host names in a log")
    lines = "".join(
        f'{address} - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "{name}"\n'
        for name, address in VISITORS.items()
    )
    log = lab.write("access_log", lines)
    for block, result in ((once, "access_log.resolved"), (confirmed, "access_log.confirmed")):
        typed(block)
        assert by_name(lab.directory / result)
    named = lab.directory / "named_log"
    lab.spawn([*shell, live])
    wait_until(lambda: by_name(named), "the log with names")
    with log.open("a") as file:
        file.write(lines)
    wait_until(lambda: len(said(named)) == 2 * len(VISITORS), "the lines that were added")


@needs("nsd", "dig")
def test_dns_over_udp(lab, typed):
    pen, dig = recipe("DNS over UDP")
    servers = [Nsd(lab, name, host=ADDRESSES[name], port=53) for name in ("host1", "host2")]
    typed(pen)
    assert [typed(dig).out for _ in range(4)] == ["192.0.2.80\n"] * 4
    servers[0].process.kill()
    assert [typed(dig).out for _ in range(4)] == ["192.0.2.80\n"] * 4


def test_who_is_there(lab, typed):
    ask, change = recipe("Who is there")
    for name in ("host1", "host2"):
        lab.backend(host=ADDRESSES[name], port=80)
    lab.directory.chmod(0o777)  # pen runs as somebody else, and has its log here
    control = lab.directory / "pen.ctl"
    here = [block.replace("/run/pen.ctl", str(control)) for block in (ask, change)]
    out = typed(here[0]).out
    assert f"0 addr {ADDRESSES['host1']} port 80" in out
    assert control.stat().st_mode & 0o777 == 0o600
    typed(here[1])
