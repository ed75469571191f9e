"""penlog: standard input to a penlogd, and that a web server never waits for it or sees it die."""

import fcntl
import signal
import socket
import subprocess
import time

import pytest
from support.loghost import LogHost
from support.network import names
from support.ports import free_port
from support.process import rss, run
from support.programs import needs, tool
from support.waiting import wait_until

from penlib.sender import LINGER
from penlib.sockets import RECEIVE_BUFFER_FORCE


@pytest.fixture
def host(lab):
    return lab.closing(LogHost())


@pytest.fixture
def penlog(lab):
    """A penlog beside the test, fed by `penlog.popen.stdin`."""

    def start(*words, wrap=()):
        argv = [*wrap, *tool("penlog"), *map(str, words)]
        return lab.spawn(argv, f"penlog{len(lab.processes)}", stdin=subprocess.PIPE)

    return start


def feed(process, data):
    process.popen.stdin.write(data)
    process.popen.stdin.flush()


def nobody():
    """A port where nobody listens."""
    return free_port(socket.SOCK_DGRAM)


class TestUsage:
    def test_help_and_version(self, lab):
        done = lab.run("penlog", "-h")
        assert (done.code, done.err) == (0, "")
        assert "penlog [--] <host> <port> [<my_ip>]" in done.out
        assert lab.run("penlog", "--version").out.startswith("penlog ")

    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            ([], "too few arguments"),
            (["a", "1", "127.0.0.1", "d"], "wrong arguments"),
            (["loghost"], "'loghost'"),
            (["loghost", "70000"], "70000"),
            (["loghost", "nosuchservice"], "nosuchservice"),
            (["log host", "10000"], "'log host'"),
            (["loghost:10000", "nowhere"], "'nowhere'"),
            (["loghost", "10000", "300.0.0.1"], "'300.0.0.1'"),
            (["/run/socket"], "'/run/socket'"),
            (["-x", "loghost", "10000"], "-x"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, lab, words, wrong):
        done = lab.run("penlog", *words)
        assert (done.code, done.out) == (2, "")
        assert wrong in done.err.splitlines()[0]
        assert done.err.splitlines()[1] == "Usage:"

    def test_an_address_that_is_not_ours(self, lab):
        done = lab.run("penlog", "127.0.0.1", "10000", "192.0.2.1")
        assert done == (1, "", "penlog: send from 192.0.2.1: Cannot assign requested address\n")

    @pytest.mark.parametrize("form", ["{0} {1}", "{0}:{1}", "localhost {1}", "localhost:{1}", "-- {0} {1}"])
    def test_host_and_port_in_both_forms(self, lab, host, form):
        done = lab.run("penlog", *form.format(host.host, host.port).split(), stdin=b"line\n")
        assert done == (0, "", "")
        assert host.wait(1) == [b"line\n"]

    @needs("ipv6")
    @pytest.mark.parametrize("form", ["::1 {}", "[::1]:{}", "[::1]:{} ::1", "::1 {} ::1"])
    def test_ipv6(self, lab, form):
        host = lab.closing(LogHost("::1"))
        done = lab.run("penlog", *form.format(host.port).split(), stdin=b"line\n")
        assert done == (0, "", "")
        assert host.wait(1) == [b"line\n"]


class TestLines:
    def sent(self, lab, host, data, count):
        done = lab.run("penlog", host.host, host.port, stdin=data)
        assert done.code == 0
        return host.wait(count), done.err

    def test_each_line_is_a_datagram_that_ends_in_a_newline(self, lab, host):
        data = b"one\n\ntwo\r\n\xff\x00\nno newline"
        expected = [b"one\n", b"\n", b"two\r\n", b"\xff\x00\n", b"no newline\n"]
        assert self.sent(lab, host, data, 5) == (expected, "")

    @pytest.mark.parametrize("length", [1023, 1024, 5000, 65506])
    def test_long_lines_are_sent_whole(self, lab, host, length):
        assert self.sent(lab, host, b"x" * length + b"\nafter\n", 2) == (
            [b"x" * length + b"\n", b"after\n"],
            "",
        )

    @pytest.mark.parametrize("length", [65507, 65508, 200_000, 1_000_000])
    def test_longer_lines_are_cut_counted_and_reported(self, lab, host, length):
        found, said = self.sent(lab, host, b"x" * length + b"\nafter\n", 2)
        assert found == [b"x" * 65506 + b"\n", b"after\n"]
        assert said == "penlog: lines of more than 65506 bytes cut so far: 1\n"

    def test_how_many_were_cut_is_said_at_the_end(self, lab, host):
        _, said = self.sent(lab, host, (b"x" * 70_000 + b"\n") * 3, 3)
        assert said.splitlines()[-1] == "penlog: lines of more than 65506 bytes cut so far: 3"

    def test_no_lines_at_all(self, lab, host):
        assert self.sent(lab, host, b"", 0) == ([], "")

    def test_a_file_as_standard_input(self, lab, host):
        log = lab.write("access.log", "".join(f"{number}\n" for number in range(100)))
        with log.open("rb") as file:
            lab.spawn([*tool("penlog"), host.host, str(host.port)], stdin=file).wait()
        assert host.wait(100) == [b"%d\n" % number for number in range(100)]

    def test_lines_go_out_at_once(self, host, penlog):
        process = penlog(host.host, host.port)
        for number in range(1, 4):
            feed(process, b"%d\n" % number)
            assert host.wait(number)[-1] == b"%d\n" % number
        feed(process, b"half")
        feed(process, b" line\n")
        assert host.wait(4)[-1] == b"half line\n"

    def test_my_ip_is_what_the_datagram_comes_from(self, lab):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            lab.run("penlog", "127.0.0.1", receiver.getsockname()[1], "127.0.0.77", stdin=b"x\n")
            assert receiver.recvfrom(10)[1][0] == "127.0.0.77"


class TestTroubles:
    def test_nobody_listens_then_somebody_does(self, penlog):
        """Reported once, not for every line; the next line is tried again."""
        port = nobody()
        process = penlog("127.0.0.1", port)
        wait_until(lambda: feed(process, b"lost\n") or "Connection refused" in process.err)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", port))
            feed(process, b"heard\n" * 2)
            while receiver.recv(100) != b"heard\n":
                continue
        process.popen.stdin.close()
        assert process.wait() == 0
        assert process.err == f"penlog: 127.0.0.1:{port}: Connection refused, lines lost: 1\n"

    def test_a_web_server_does_not_wait_for_a_penlogd_that_is_not_there(self, penlog):
        """10 MB go into the pipe without pause."""
        process = penlog("127.0.0.1", nobody())
        began = time.monotonic()
        for _ in range(1000):
            feed(process, b"x" * 99 * 100 + b"\n")
        assert time.monotonic() - began < 10
        assert process.alive

    def test_a_name_that_does_not_resolve(self, lab):
        done = lab.run("penlog", "nosuch.invalid", "10000", stdin=b"line\n" * 5, seconds=0.9 * LINGER)
        assert done.code == 0
        assert done.err.startswith("penlog: nosuch.invalid: ")
        assert len(done.err.splitlines()) == 1, "not a second time within the minute, nor at the end"

    @needs("root", "unshare")
    def test_lines_are_kept_until_the_name_resolves(self, lab, host, penlog):
        process = penlog("loghost", host.port, wrap=names({}, lab.directory))
        host.socket.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER_FORCE, 4 << 20)
        sent = [b"early %d\n" % number for number in range(1200)]
        feed(process, b"".join(sent))
        process.says("penlog: loghost")
        with (lab.directory / "hosts").open("a") as hosts:
            hosts.write(f"{host.host} loghost\n")
        wait_until(lambda: feed(process, b"late\n") or host.datagrams)
        process.popen.stdin.close()
        assert process.wait() == 0
        assert host.wait(1000)[:1000] == sent[:1000]
        assert set(host.datagrams[1000:]) <= {b"late\n"}

    @needs("root", "unshare", "ipv6")
    def test_the_next_address_of_a_name_is_tried(self, lab, penlog):
        """localhost is 127.0.0.1 first, where nobody is, and ::1."""
        host = lab.closing(LogHost("::1"))
        wrap = names({}, lab.directory)
        with (lab.directory / "hosts").open("a") as hosts:
            hosts.write("127.0.0.1 loghost\n::1 loghost\n")
        process = penlog("loghost", host.port, wrap=wrap)
        wait_until(lambda: feed(process, b"line\n") or host.datagrams)

    @needs("root")
    def test_term_sends_what_is_still_in_the_pipe(self, host, penlog):
        """A web server that stops says TERM while its last lines are still on their way.

        Here they are more than is read in one go; the receiver needs root to hold them.
        """
        host.socket.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER_FORCE, 4 << 20)
        process = penlog(host.host, host.port)
        fcntl.fcntl(process.popen.stdin, fcntl.F_SETPIPE_SZ, 1 << 20)
        feed(process, b"first\n")
        host.wait(1)
        process.send_signal(signal.SIGSTOP)
        lines = [b"%01000d\n" % number for number in range(500)]
        feed(process, b"".join(lines))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 128 + signal.SIGTERM
        assert host.wait(501)[1:] == lines

    def test_interrupt_ends_it_quietly(self, host, penlog):
        process = penlog(host.host, host.port)
        feed(process, b"x\n")
        host.wait(1)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
        assert process.err == ""

    def test_without_standard_streams(self, host):
        words = [*tool("penlog"), host.host, str(host.port)]
        done = run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words])
        assert done.code == 0

    def test_with_an_empty_environment(self, host):
        done = run([*tool("penlog"), host.host, str(host.port)], stdin=b"line\n", env={})
        assert done == (0, "", "")
        assert host.wait(1) == [b"line\n"]

    def test_the_receiver_stops_and_nothing_blocks(self, lab, penlog):
        """A full receive buffer over there is no reason to wait."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.bind(("127.0.0.1", 0))
            process = penlog("127.0.0.1", deaf.getsockname()[1])
            feed(process, (b"x" * 99 + b"\n") * 100_000)
            process.popen.stdin.close()
            assert process.wait() == 0


def test_memory_stays_small_with_a_line_that_never_ends(lab, host):
    """100 MB without a newline."""
    process = lab.spawn([*tool("penlog"), host.host, str(host.port)], stdin=subprocess.PIPE)
    feed(process, b"warm\n")
    host.wait(1)
    high = 0
    for number in range(1600):
        feed(process, b"x" * 65536)
        high = max(high, rss(process.pid)) if number % 100 == 0 else high
    process.popen.stdin.close()
    assert process.wait() == 0
    assert high < 40_000_000
    wait_until(lambda: len(host.datagrams) == 2)
    assert host.datagrams[1] == b"x" * 65506 + b"\n"
