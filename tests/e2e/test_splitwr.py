"""splitwr: byte for byte what webresolve gives, each address asked for once in all, nothing left behind."""

import os
import signal
import subprocess

import pytest
from support import process
from support.nameserver import NameServer, Reply, named, reverse
from support.programs import tool
from support.waiting import wait_until


@pytest.fixture
def server(lab):
    """Knows every second address."""

    def answer(name, kind):
        labels = name.split(".")
        if kind == "A":
            return Reply([("A", ".".join(reversed(labels[0].removeprefix("h").split("-"))))])
        if kind == "AAAA" or int(labels[0], 16) % 2 == 0:
            return Reply(rcode=3)
        return named("h" + "-".join(labels[:4]) + ".example", delay=int(labels[0], 16) % 5 / 1000)

    return lab.closing(NameServer(answer))


@pytest.fixture
def log(lab):
    lines = [f"10.0.{n * 7 % 13}.{n % 251} {n}\r\n" for n in range(3000)]
    lines += [f"2001:db8::{n:x} {n}\n" for n in range(300)] + [
        "no address\n",
        "\n",
        "10.0.0.1 \xff no newline",
    ]
    (lab.directory / "log").write_bytes("".join(lines * 2).encode("latin-1"))
    return "log"


def descendants(pid: int) -> set[int]:
    """The children of a process, and theirs."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found |= {int(entry)} | descendants(int(entry))
    return found


OPTIONS = ["", "-n 1", "-n 3", "-n 40", "-N 5", "-n 3 -N 1", "-n7 -N 4000", "-f"]


@pytest.mark.parametrize("options", OPTIONS)
def test_gives_what_webresolve_gives_and_asks_once(lab, server, log, options):
    options = options.split()
    confirm = ["-f"] if "-f" in options else []
    expected = lab.run("webresolve", "-s", server, *confirm, log)
    alone = dict(server.asked)
    server.asked.clear()
    server.most = 0
    done = lab.run("splitwr", "-s", server, *options, log)
    assert done == expected
    assert done.code == 0
    assert dict(server.asked) == alone
    assert set(server.asked.values()) == {1}
    if "-N" in options:
        assert server.most <= int(options[options.index("-N") + 1])


def test_says_what_was_done_as_webresolve_does(lab, server, log):
    done = lab.run("splitwr", "-n", "4", "-v", "-s", server, log)
    alone = lab.run("webresolve", "-v", "-s", server, log)
    assert done.err == alone.err.replace("webresolve", "splitwr", 1)
    assert done.err.startswith("splitwr: 6,605 lines")


def test_what_is_not_answered_is_counted(lab):
    done = lab.run("splitwr", "-v", "-s", lab.refusing(), stdin=b"10.0.0.1 a\n10.0.0.2 b\n")
    assert done.out == "10.0.0.1 a\n10.0.0.2 b\n"
    assert done.err.endswith("asked 2, unanswered 2\n")


def test_without_a_file_it_wants_a_stream(lab):
    """From a pipe it reads, as webresolve does; on a terminal, or of cron, a file was forgotten."""
    done = lab.run_words(["sh", "-c", '"$@" < /dev/null', "sh", *tool("splitwr")])
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[:2] == ["splitwr: too few arguments: a file to read is missing", "Usage:"]
    assert lab.run("splitwr", stdin=b"no address\n") == (0, "no address\n", "")


def test_t_is_the_time_for_a_lookup(lab):
    server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
    lab.write("log", "10.0.0.1 a\n")
    patient = lab.spawn([*tool("splitwr"), "-t", "600", "-s", str(server), "log"])
    assert lab.run("splitwr", "-t", "1", "-s", server, "log") == (0, "10.0.0.1 a\n", "")
    assert patient.alive


def test_alone_writes_the_cache(lab, server, log):
    first = lab.run("splitwr", "-s", server, "-c", "cache", log)
    server.asked.clear()
    assert lab.run("splitwr", "-s", server, "-c", "cache", log) == first
    assert lab.run("webresolve", "-s", server, "-c", "cache", log) == first
    assert not server.asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_process_and_no_file(lab, number):
    server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
    lab.write("log", "".join(f"10.0.0.{n} x\n" for n in range(200)))
    before = set(os.listdir(lab.directory))
    environment = {**os.environ, "TMPDIR": str(lab.directory)}
    words = [*tool("splitwr"), "-n", "5", "-t", "60", "-s", str(server), "log"]
    run = subprocess.Popen(
        words, cwd=lab.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    wait_until(lambda: len(server.questions()) > 100, "questions are asked")
    workers = descendants(run.pid)
    assert len(workers) == 5
    run.send_signal(number)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out, err) == (128 + number, b"", b"")
    wait_until(lambda: not any(process.runs(pid) for pid in workers), "no process is left")
    assert set(os.listdir(lab.directory)) == before


def test_control_c_which_all_processes_get_leaves_none_and_says_nothing(lab):
    server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
    lab.write("log", "".join(f"10.0.0.{n} x\n" for n in range(200)))
    words = [*tool("splitwr"), "-n", "5", "-t", "60", "-s", str(server), "log"]
    run = subprocess.Popen(
        words, cwd=lab.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: len(server.questions()) > 100, "questions are asked")
    workers = descendants(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out, err) == (128 + signal.SIGINT, b"", b"")
    wait_until(lambda: not any(process.runs(pid) for pid in workers), "no process is left")


def test_out_of_descriptors_is_one_line(lab, server):
    lab.write("log", "".join(f"10.0.0.{n} x\n" for n in range(200)))
    words = " ".join([*tool("splitwr"), "-n", "60", "-s", str(server), "log"])
    done = lab.run_words(["sh", "-c", f"ulimit -n 60; exec {words}"])
    assert done == (1, "", "splitwr: webresolve: Too many open files\n")


def test_killed_it_leaves_no_process(lab):
    server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
    lab.write("log", "".join(f"10.0.0.{n} x\n" for n in range(200)))
    words = [*tool("splitwr"), "-n", "5", "-t", "60", "-s", str(server), "log"]
    run = subprocess.Popen(words, cwd=lab.directory, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(server.questions()) > 100, "questions are asked")
    workers = descendants(run.pid)
    run.kill()
    run.wait()
    wait_until(lambda: not any(process.runs(pid) for pid in workers), "no process is left")


def test_a_process_that_is_killed_is_said_and_ends_the_work(lab):
    server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
    lab.write("log", "".join(f"10.0.0.{n} x\n" for n in range(200)))
    words = [*tool("splitwr"), "-n", "5", "-t", "60", "-s", str(server), "log"]
    run = subprocess.Popen(words, cwd=lab.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: len(server.questions()) > 100, "questions are asked")
    workers = descendants(run.pid)
    os.kill(min(workers), signal.SIGKILL)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 1
    assert err.startswith(b"splitwr: webresolve, process ")
    assert err.count(b"\n") == 1
    wait_until(lambda: not any(process.runs(pid) for pid in workers), "no process is left")


def test_standard_input(lab, server):
    done = lab.run("splitwr", "-s", server, "-", stdin=b"10.0.0.1 a\n10.0.0.2 b\n")
    assert done.out.splitlines()[1] == "10.0.0.2 b"
    assert server.questions() == {reverse("10.0.0.1"): 1, reverse("10.0.0.2"): 1}
