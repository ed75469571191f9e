"""The log of a whole cluster: pen, real web servers, penlog and penlogd.

What is wanted of all of them: every request comes out once, with the client that made it.
"""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.backend import http
from support.client import Client
from support.penlogd import Penlogd, line
from support.programs import needs, tool
from support.waiting import wait_until
from support.webserver import apache, nginx

WEB = "127.0.0.21"

REQUESTS = [
    b"GET /plain HTTP/1.1",
    b"GET /plain HTTP/1.1",
    b'GET /quo"te HTTP/1.1',
    rb"GET /back\slash\x41 HTTP/1.1",
    b"GET /\xc3\xa4\xff HTTP/1.1",
    b"GET /\x01\x7f HTTP/1.1",
    b"GET /" + b"a" * 2000 + b"1 HTTP/1.1",
    b"GET /" + b"a" * 2000 + b"2 HTTP/1.1",
    b"GET /old HTTP/1.0",
    b"POST / HTTP/1.1",
    b"FROB /?a=%22b%22&c=[d] HTTP/1.1",
]
"""Each made by a client of its own."""

ODD_BLANKS = [b"GET /tab\there HTTP/1.1", b"GET  /two HTTP/1.1", b"GET /end HTTP/1.1 "]
"""Apache rejects these, and logs them with the blanks changed."""


def ask_all(address, requests):
    """Make the requests; the clients that made them."""
    clients = []
    for number, request in enumerate(requests):
        clients.append(f"127.0.1.{number}")
        with Client(address, clients[-1]) as client:
            client.send(request + b"\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").rest()
    return clients


def without_client(lines):
    return sorted(line.partition(b" ")[2] for line in lines)


@pytest.fixture
def penlogd(lab):
    return Penlogd(lab)


@needs("apache2")
@pytest.mark.parametrize("form", ["common", "combined"])
def test_apache_pipes_its_log_to_penlog_without_any_environment(lab, penlogd, form):
    """As in the how-to: CustomLog "|/usr/local/bin/penlog loghost 10000" common."""
    penlog = " ".join(["|", *tool("penlog"), "127.0.0.1", str(penlogd.port), WEB]).replace("| ", "|")
    web = apache(lab, penlog, WEB, form, env={})
    pen = lab.pen("-r", "-l", f"127.0.0.1:{penlogd.port}", servers=[web])
    clients = ask_all(pen.address, REQUESTS)
    penlogd.wait(len(clients))
    assert sorted(penlogd.clients) == sorted(clients)
    assert all(line.split(b" ", 3)[1:3] == [b"-", b"-"] for line in penlogd.lines)
    assert "pen" not in web.process.err.replace(str(lab.directory), "")


@needs("apache2")
def test_apache_is_stopped_and_its_last_lines_arrive(lab, penlogd):
    """It tells penlog to end while lines are still in the pipe: penlog is held up here until then."""
    penlog = " ".join(["|", *tool("penlog"), "127.0.0.1", str(penlogd.port), WEB]).replace("| ", "|")
    web = apache(lab, penlog, WEB, env={})
    with Client((web.host, web.port)) as client:
        client.get("/first")
        penlogd.wait(1)
        (pid,) = [pid for pid in children_of(web.process.pid) if b"penlog" in command_line(pid)]
        os.kill(pid, signal.SIGSTOP)
        for number in range(50):
            client.get(f"/{number}")
        client.get("/last")  # Apache writes a line when it has answered: this one's may come too late
    web.process.send_signal(signal.SIGTERM)
    wait_until(lambda: pending(pid) & 1 << (signal.SIGTERM - 1) or web.process.popen.poll() is not None)
    os.kill(pid, signal.SIGTERM)  # Apache has not always sent one before it ended
    os.kill(pid, signal.SIGCONT)
    assert web.process.wait() == 0
    lines = penlogd.wait(51)
    asked = [line.split()[6].decode() for line in lines[:51]]
    assert asked == ["/first", *(f"/{number}" for number in range(50))]


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def pending(pid):
    """The signals that a process has not taken yet, as a mask."""
    found = re.search(r"^ShdPnd:\s+(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1], 16)


@needs("nginx", "tail")
def test_nginx_with_tail_and_penlogd(lab, penlogd):
    """As in the how-to: tail -f /path/to/logfile | penlogd loghost 10000."""
    log = lab.write("nginx.log", "")
    web = nginx(lab, str(log))
    tail = lab.spawn(["tail", "-n", "+1", "-F", str(log)], stdout=subprocess.PIPE)
    lab.spawn([*tool("penlogd"), "127.0.0.1", str(penlogd.port)], stdin=tail.popen.stdout)
    tail.popen.stdout.close()
    pen = lab.pen("-r", "-l", f"127.0.0.1:{penlogd.port}", servers=[web])
    clients = ask_all(pen.address, REQUESTS + ODD_BLANKS)
    penlogd.wait(len(clients))
    assert sorted(penlogd.clients) == sorted(clients)
    assert without_client(penlogd.lines) == without_client(log.read_bytes().splitlines(keepends=True))


def test_many_keep_alive_clients_at_once(lab, penlogd):
    """Several clients ask for the same pages at the same time, and each gets its lines."""
    lines = []
    web = lab.backend(http, host=WEB)
    pen = lab.pen("-r", "-l", f"127.0.0.1:{penlogd.port}", servers=[web])
    clients = [pen.client(source=f"127.0.2.{number}") for number in range(10)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((WEB, 0))
        sender.connect(("127.0.0.1", penlogd.port))
        for page in range(20):
            for client in clients:
                client.get(f"/{page}")
            for number in range(10):
                lines.append(line(f"GET /{page} HTTP/1.1", agent=f"agent {number}"))
                sender.send(lines[-1])
    penlogd.wait(200)
    assert sorted(penlogd.clients) == sorted(f"127.0.2.{number}" for number in range(10) for _ in range(20))
    assert without_client(penlogd.lines) == without_client(lines)
