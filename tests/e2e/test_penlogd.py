"""penlogd: one log of the cluster, with the clients that pen saw; and that nothing disturbs it."""

import contextlib
import os
import random
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.loghost import LogHost
from support.network import names
from support.penlogd import Penlogd, line, record, udp_sockets
from support.ports import free_port
from support.process import open_files, rss
from support.programs import needs, tool
from support.waiting import stays, wait_until

PEN, WEB, WEB2 = "127.0.0.1", "127.0.0.21", "127.0.0.22"


@pytest.fixture
def penlogd(lab):
    return Penlogd(lab)


class TestUsage:
    def test_help(self, lab):
        done = lab.run("penlogd", "-h")
        assert (done.code, done.err) == (0, "")
        for option in ("-b", "-d", "-f", "-j", "-l", "-n", "-p", "-u", "--allow", "--keep", "--wait"):
            assert f"  {option} " in done.out

    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            ([], "too few arguments"),
            (["1", "2", "3"], "wrong arguments: 1 2 3"),
            (["-l", "x", "localhost", "10000"], "wrong arguments"),
            (["nosuch"], "'nosuch'"),
            (["70000"], "70000"),
            (["localhost:0"], "'localhost:0'"),
            (["/tmp/socket"], "'/tmp/socket'"),
            (["-n", "0", "10000"], "option -n"),
            (["-n", "many", "10000"], "option -n"),
            (["--keep", "-1", "10000"], "option --keep"),
            (["--wait", "nan", "10000"], "option --wait"),
            (["--allow", "10.0.0.0/33", "10000"], "option --allow"),
            (["--allow", "everybody", "10000"], "option --allow"),
            (["-z", "10000"], "-z"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, lab, words, wrong):
        done = lab.run("penlogd", *words)
        assert (done.code, done.out) == (2, "")
        assert wrong in done.err.splitlines()[0]
        assert done.err.splitlines()[1] == "Usage:"

    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            (["-l", "no/such/dir/log"], "No such file or directory"),
            (["-l", "x", "-p", "no/such/dir/pid"], "No such file or directory"),
            (["-l", "x", "-u", "nosuchuser"], "nosuchuser"),
            (["-l", "x", "-j", "nosuchdir"], "nosuchdir"),
        ],
    )
    def test_what_cannot_work_ends_the_command_with_the_reason(self, lab, words, wrong):
        done = lab.run("penlogd", *words, free_port(socket.SOCK_DGRAM))
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert done.err.startswith("penlogd: ")
        assert wrong in done.err

    def test_a_port_in_use(self, lab, penlogd):
        done = lab.run("penlogd", "-l", "x", penlogd.port)
        assert done.code == 1
        assert done.err == f"penlogd: bind {penlogd.port}: Address already in use\n"


class TestAttribution:
    def test_a_line_gets_the_client_of_its_record_and_keeps_every_other_byte(self, penlogd):
        web = line(agent=r"\"x\"").replace(b"- -", b"- caf\xe9").replace(b"\n", b" \xff\x00\r\n")
        penlogd.send(PEN, record("192.0.2.7", WEB))
        penlogd.send(WEB, web)
        assert penlogd.wait(1) == [web.replace(b"127.0.0.1", b"192.0.2.7")]

    def test_two_clients_who_ask_the_same_of_one_server_in_the_same_second_each_get_their_line(self, penlogd):
        penlogd.send(PEN, record("192.0.2.1", WEB), record("192.0.2.2", WEB))
        penlogd.send(WEB, line(size=1), line(size=2))
        penlogd.wait(2)
        assert penlogd.clients == ["192.0.2.1", "192.0.2.2"]

    def test_the_user_agent_decides(self, penlogd):
        for client, agent in (("192.0.2.1", "Fox"), ("192.0.2.2", "Cat")):
            penlogd.send(PEN, record(client, WEB, f"GET /{agent}"))
            penlogd.send(WEB, line(f"GET /{agent}", agent=agent))
        penlogd.wait(2)
        penlogd.send(PEN, record("192.0.2.1", WEB), record("192.0.2.2", WEB))
        penlogd.send(WEB, line(agent="Cat"), line(agent="Fox"))
        penlogd.wait(4)
        assert penlogd.clients[2:] == ["192.0.2.2", "192.0.2.1"]

    def test_the_source_address_tells_servers_apart(self, penlogd):
        penlogd.send(PEN, record("192.0.2.1", WEB), record("192.0.2.2", WEB2))
        penlogd.send(WEB2, line())
        penlogd.wait(1)
        penlogd.send(WEB, line())
        penlogd.wait(2)
        assert penlogd.clients == ["192.0.2.2", "192.0.2.1"]

    @needs("ipv6")
    def test_ipv6(self, penlogd):
        penlogd.send("::1", record("2001:db8::7", "0:0:0:0:0:0:0:1"), line())
        penlogd.wait(1)
        assert penlogd.clients == ["2001:db8::7"]

    def test_a_mapped_address_is_the_ipv4_address(self, penlogd):
        penlogd.send(PEN, record("192.0.2.7", f"::ffff:{WEB}"))
        penlogd.send(WEB, line())
        penlogd.wait(1)
        assert penlogd.clients == ["192.0.2.7"]

    def test_a_server_on_a_unix_socket_is_on_the_machine_that_pen_sends_from(self, penlogd):
        penlogd.send(WEB, record("192.0.2.7", "/run/web.sock"), line())
        penlogd.wait(1)
        assert penlogd.clients == ["192.0.2.7"]

    def test_a_client_on_a_unix_socket(self, penlogd):
        penlogd.send(PEN, record("unix", WEB))
        penlogd.send(WEB, line())
        penlogd.wait(1)
        assert penlogd.clients == ["unix"]

    @needs("root", "unshare")
    def test_a_server_named_by_host_name(self, lab):
        wrap = names({"web1": WEB, "web2": WEB2}, lab.directory)
        penlogd = Penlogd(lab, program=[*wrap, *tool("penlogd")])
        for client, server, source in (("192.0.2.1", "web1", WEB), ("192.0.2.2", "web2", WEB2)):
            penlogd.send(PEN, record(client, server))
            penlogd.send(source, line())
        penlogd.wait(2)
        assert sorted(penlogd.clients) == ["192.0.2.1", "192.0.2.2"]

    def test_a_server_whose_name_does_not_resolve_delays_nothing(self, penlogd):
        penlogd.send(PEN, record("192.0.2.1", "nosuch.invalid"), record("192.0.2.7", WEB, "GET /7"))
        penlogd.send(WEB, line("GET /7"), line())
        penlogd.wait(1)
        assert penlogd.clients == ["192.0.2.7"]
        penlogd.wait(2)
        assert penlogd.clients == ["192.0.2.7", "127.0.0.1"]
        penlogd.process.says("nosuch.invalid")

    def test_a_line_waits_for_its_record_while_others_pass(self, lab):
        penlogd = Penlogd(lab, "--wait", "30")
        penlogd.send(WEB, line("GET /late"))
        penlogd.send(PEN, record("192.0.2.1", WEB, "GET /soon"))
        penlogd.send(WEB, line("GET /soon"))
        penlogd.wait(1)
        penlogd.send(PEN, record("192.0.2.2", WEB, "GET /late"))
        penlogd.wait(2)
        assert penlogd.clients == ["192.0.2.1", "192.0.2.2"]

    def test_a_line_without_a_record_comes_out_unchanged_after_the_wait(self, lab):
        penlogd = Penlogd(lab, "--wait", "0.5")
        penlogd.send(WEB, line(client="198.51.100.9"))
        stays(lambda: not penlogd.log, 0.3)
        assert penlogd.wait(1) == [line(client="198.51.100.9")]

    def test_each_line_waits_its_own_time(self, lab):
        """Nothing else arrives that would wake penlogd."""
        penlogd = Penlogd(lab, "--wait", "0.5")
        penlogd.send(WEB, line("GET /1"))
        stays(lambda: not penlogd.log, 0.2)
        penlogd.send(WEB, line("GET /2"))
        assert penlogd.wait(2) == [line("GET /1"), line("GET /2")]

    def test_records_expire(self, lab):
        penlogd = Penlogd(lab, "--keep", "0.3", "--wait", "0")
        penlogd.send(PEN, record("192.0.2.1", WEB, "GET /old"), record("192.0.2.1", WEB, "GET /new"))
        penlogd.send(WEB, line("GET /new"))
        penlogd.wait(1)
        stays(lambda: True, 0.4)
        penlogd.send(WEB, line("GET /old"))
        penlogd.wait(2)
        assert penlogd.clients == ["192.0.2.1", "127.0.0.1"]

    def test_the_newest_records_are_kept(self, lab):
        penlogd = Penlogd(lab, "-n", "3", "--wait", "0")
        penlogd.send(PEN, *[record(f"192.0.2.{n}", WEB, f"GET /{n}") for n in range(5)])
        penlogd.send(WEB, *[line(f"GET /{n}") for n in range(5)])
        penlogd.wait(5)
        assert penlogd.clients == ["127.0.0.1"] * 2 + ["192.0.2.2", "192.0.2.3", "192.0.2.4"]

    def test_several_lines_in_one_datagram(self, penlogd):
        penlogd.send(PEN, record("192.0.2.1", WEB, "GET /1") + record("192.0.2.2", WEB, "GET /2"))
        penlogd.send(WEB, line("GET /2") + b"\n" + line("GET /1").strip())
        assert len(penlogd.wait(3)) == 3
        assert penlogd.clients == ["192.0.2.2", "\n", "192.0.2.1"]

    def test_a_long_request_is_compared_as_far_as_its_record_goes(self, penlogd):
        path = "/" + "a" * 2000
        penlogd.send(PEN, record("192.0.2.1", WEB, f"GET {path}")[:1023] + b"\n")
        penlogd.send(WEB, line(f"GET {path}b HTTP/1.1"))
        penlogd.wait(1)
        assert penlogd.clients == ["192.0.2.1"]

    def test_only_who_is_allowed_is_heard(self, lab):
        penlogd = Penlogd(lab, "--allow", "127.0.0.16/28", "--allow", "::1/128", "--wait", "0")
        penlogd.send(PEN, record("192.0.2.1", WEB), b"stranger\n")
        penlogd.send(WEB, record("192.0.2.2", WEB))
        penlogd.send(WEB, line())
        penlogd.wait(1)
        assert penlogd.clients == ["192.0.2.2"]


class TestNothingDisturbs:
    def test_random_datagrams(self, penlogd):
        """100,000 of them; afterwards everything is as it should be, and little memory is held."""
        rng = random.Random(3)
        penlogd.send(PEN, record("192.0.2.1", WEB))
        penlogd.send(WEB, line())
        penlogd.wait(1)
        before = rss(penlogd.process.pid)
        for number in range(100_000):
            penlogd.send(WEB, garbage(rng))
            if number % 1000 == 999:
                self.catch_up(penlogd, number)
        stays(lambda: penlogd.process.alive, 1.2)  # the lines that wait come out
        assert rss(penlogd.process.pid) - before < 20_000_000
        penlogd.send(PEN, record("192.0.2.3", WEB, "GET /after"))
        penlogd.send(WEB, line("GET /after"))
        wait_until(lambda: b"192.0.2.3 - - [10/Oct/2000:13:55:36 +0000]" in penlogd.log)
        assert penlogd.process.err.count("\n") <= 1, "names of servers that do not resolve are said once"

    def catch_up(self, penlogd, number):
        """Wait until a line has come through: the flood is not to be thinned by a full receive buffer."""
        penlogd.send(WEB, b"mark %d\n" % number)
        wait_until(lambda: b"mark %d\n" % number in penlogd.file.read_bytes()[-200_000:])

    def test_hup_while_lines_arrive_loses_none(self, penlogd, lab):
        """10,000 lines a second for 3 s, the log moved every 0.2 s."""
        count, done = 30_000, threading.Event()

        def send():
            began = time.perf_counter()
            for number in range(count):
                penlogd.send(WEB, b"number %d\n" % number)
                if number % 10 == 9:
                    time.sleep(max(0.0, began + number / 10_000 - time.perf_counter()))
            done.set()

        sender = threading.Thread(target=send)
        sender.start()
        moved = []
        while not done.wait(0.2):
            moved.append(lab.directory / f"moved.{len(moved)}")
            penlogd.file.rename(moved[-1])
            penlogd.process.send_signal(signal.SIGHUP)
            wait_until(penlogd.file.exists)
        sender.join()
        penlogd.send(WEB, b"last\n")
        wait_until(lambda: b"last\n" in penlogd.log)
        lines = b"".join(path.read_bytes() for path in (*moved, penlogd.file)).splitlines()
        dropped = penlogd.dropped()
        print(f"{len(moved)} HUPs, {len(lines)} lines, {dropped} dropped by the kernel")
        assert len(moved) > 5
        assert len(lines) + dropped == count + 1
        assert len(set(lines)) == len(lines)

    def test_a_directory_that_vanishes_and_comes_back(self, lab, penlogd):
        logs = lab.directory / "logs"
        logs.mkdir()
        other = Penlogd(lab, "-l", "logs/access.log")
        other.file = logs / "access.log"
        other.send(WEB, b"before\n")
        other.wait(1)
        other.file.unlink()
        logs.rmdir()
        other.send(WEB, b"meanwhile\n")
        other.process.says("No such file or directory")
        logs.mkdir()
        other.send(WEB, b"after\n")
        assert other.wait(2) == [b"meanwhile\n", b"after\n"]
        other.process.says("written again, lines lost: 0")
        assert other.process.err.count("\n") == 2

    @needs("root", "mount", "umount")
    def test_a_disk_that_is_full_and_has_room_again(self, lab):
        disk = lab.directory / "disk"
        disk.mkdir()
        lab.mount_tmpfs(disk, kilobytes=64)
        penlogd = Penlogd(lab, "-l", "disk/access.log")
        penlogd.file = disk / "access.log"
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(b"x" * 4096):
                pass
        sent = [b"%0100d\n" % number for number in range(300)]
        for datagram in sent:
            penlogd.send(WEB, datagram)
        penlogd.process.says("No space left on device")
        (disk / "filler").unlink()
        (disk / "filler").touch()
        penlogd.process.says("written again, lines lost: 0")
        assert penlogd.lines == sent[: len(penlogd.lines)]
        assert penlogd.process.err.count("No space left on device") == 1

    def test_a_log_that_may_not_be_made_anew_goes_on_in_the_old_file(self, lab):
        logs = lab.directory / "logs"
        logs.mkdir()
        penlogd = Penlogd(lab, "-l", "logs/access.log")
        logs.rename(lab.directory / "moved")
        penlogd.file = lab.directory / "moved" / "access.log"
        penlogd.process.send_signal(signal.SIGHUP)
        penlogd.process.says("No such file or directory")
        penlogd.send(WEB, b"meanwhile\n")
        assert penlogd.wait(1) == [b"meanwhile\n"]


def garbage(rng):
    """A datagram of random bytes, or of what looks like a record or a line at first."""
    size = int(rng.paretovariate(0.7) * 10) % 3000
    tail = rng.randbytes(size)
    return rng.choice(
        [
            lambda: tail,
            lambda: b"+" + tail,
            lambda: b"+ 192.0.2.9 " + tail,
            lambda: b"+ 192.0.2.%d 127.0.0.21 GET /%b" % (rng.randrange(256), tail),
            lambda: b'192.0.2.9 - - [10/Oct/2000:13:55:36 +0000] "' + tail,
            lambda: b'192.0.2.9 - - [10/Oct/2000:13:55:36 +0000] "GET /%b" 200' % tail,
            lambda: b"",
        ]
    )()


class TestOutput:
    def test_a_new_log_is_not_for_everybody(self, penlogd):
        assert stat.S_IMODE(penlogd.file.stat().st_mode) == 0o640

    def test_an_old_log_is_appended_to(self, lab):
        lab.write("old.log", "old\n")
        penlogd = Penlogd(lab, "-l", "old.log")
        penlogd.file = lab.directory / "old.log"
        penlogd.send(WEB, b"new\n")
        assert penlogd.wait(2) == [b"old\n", b"new\n"]

    def test_without_a_file_it_writes_to_stdout_and_stays_in_the_foreground(self, lab):
        penlogd = Penlogd(lab, stdout=True)
        penlogd.send(WEB, b"to stdout\n")
        wait_until(lambda: penlogd.process.out == "to stdout\n")
        assert penlogd.process.stop() == 0

    def test_with_a_file_it_stays_in_the_foreground_if_asked_to(self, lab):
        port = free_port(socket.SOCK_DGRAM)
        penlogd = lab.spawn([*tool("penlogd"), "-f", "-l", "access.log", "-p", "penlogd.pid", str(port)])
        wait_until(lambda: udp_sockets(penlogd.pid, port))
        assert (lab.directory / "penlogd.pid").read_text() == f"{penlogd.pid}\n"
        assert os.getsid(penlogd.pid) == os.getsid(0)
        assert penlogd.stop() == 0

    def test_a_closed_output_ends_it_quietly(self, lab):
        reader, writer = os.pipe()
        port = free_port(socket.SOCK_DGRAM)
        process = lab.spawn([*tool("penlogd"), str(port)], stdout=writer)
        os.close(writer)
        wait_until(lambda: udp_sockets(process.pid, port))
        os.close(reader)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"nobody reads this\n", ("127.0.0.1", port))
        assert process.wait() == 128 + signal.SIGPIPE
        assert process.err == ""

    @pytest.mark.parametrize(
        ("words", "writes"), [([], [b"one\ntwo\nthree\n"]), (["-b"], [b"one\n", b"two\n", b"three\n"])]
    )
    def test_b_writes_each_line_by_itself(self, lab, words, writes):
        """Its standard output keeps writes apart."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        port = free_port(socket.SOCK_DGRAM)
        process = lab.spawn([*tool("penlogd"), *words, str(port)], stdout=its)
        wait_until(lambda: udp_sockets(process.pid, port))
        with ours, its, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"one\ntwo\nthree\n", ("127.0.0.1", port))
            assert [ours.recv(100) for _ in writes] == writes

    def test_debugging_tells_what_comes_and_goes(self, lab):
        penlogd = Penlogd(lab, "-dd")
        penlogd.send(WEB, b"hello\n")
        penlogd.wait(1)
        penlogd.process.says(r"receive buffer of \d+ bytes")
        penlogd.process.says(r"from 127\.0\.0\.21: b'hello\\n'")
        penlogd.process.says("written: b'hello'")


class TestDaemon:
    def daemon(self, lab, *words):
        """penlogd in the background, its port and pid, once the command has returned."""
        port = free_port(socket.SOCK_DGRAM)
        done = lab.run("penlogd", "-l", "access.log", "-p", "penlogd.pid", *words, port)
        assert done == (0, "", ""), done
        assert len(udp_sockets(os.getpid(), port)) >= 1
        return port, int((lab.directory / "penlogd.pid").read_text())

    def end(self, pid):
        os.kill(pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def test_when_the_command_returns_it_listens_detached(self, lab):
        _, pid = self.daemon(lab)
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        assert str(lab.directory / "access.log") in open_files(pid)
        assert self.end(pid) == 0
        assert not (lab.directory / "penlogd.pid").exists()

    def test_term_writes_what_was_sent_before_it(self, lab):
        """Also lines that wait for their record, and what is still in the kernel."""
        port, pid = self.daemon(lab, "--wait", "60")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port))
            for number in range(1000):
                sender.send(line(f"GET /{number}"))
        assert self.end(pid) == 0
        lines = (lab.directory / "access.log").read_bytes().splitlines(keepends=True)
        assert lines == [line(f"GET /{number}") for number in range(1000)]

    @needs("root")
    def test_term_reads_all_that_the_kernel_has(self, lab):
        """More than is read in one go; without root the receive buffer does not hold it."""
        port, pid = self.daemon(lab)
        os.kill(pid, signal.SIGSTOP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port))
            for number in range(3000):
                sender.send(b"%d\n" % number)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (lab.directory / "access.log").read_bytes().split() == [
            b"%d" % number for number in range(3000)
        ]

    def test_a_port_in_use_is_said_by_the_command(self, lab):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            done = lab.run("penlogd", "-l", "access.log", "-p", "penlogd.pid", f"127.0.0.1:{port}")
        assert (done.code, done.err) == (1, f"penlogd: bind 127.0.0.1:{port}: Address already in use\n")
        assert not (lab.directory / "penlogd.pid").exists()

    @needs("root")
    def test_as_another_user_in_a_jail(self, lab):
        """The log is inside and the user's, the pid file outside; HUP still works."""
        jail = lab.directory / "jail"
        jail.mkdir()
        os.chown(jail, 65534, 65534)
        port, pid = self.daemon(lab, "-j", str(jail), "-u", "nobody")
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert os.readlink(f"/proc/{pid}/root") == str(jail)
        log = jail / "access.log"
        assert log.stat().st_uid == 65534
        log.rename(jail / "moved")
        os.kill(pid, signal.SIGHUP)
        wait_until(log.exists)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(record("192.0.2.7", "127.0.0.1"), ("127.0.0.1", port))
            sender.sendto(line(), ("127.0.0.1", port))
        wait_until(lambda: log.read_bytes().startswith(b"192.0.2.7 "))
        assert self.end(pid) == 0

    @needs("root")
    def test_the_receive_buffer_is_large(self, lab):
        penlogd = Penlogd(lab, "-d")
        penlogd.process.says("receive buffer of 4194304 bytes")

    def test_it_listens_where_it_is_told(self, lab):
        penlogd = Penlogd(lab, address="127.0.0.21")
        assert [table for table, _ in udp_sockets(penlogd.process.pid, penlogd.port)] == ["udp"]

    @needs("ipv6")
    def test_it_listens_on_ipv4_and_ipv6(self, penlogd):
        assert [table for table, _ in udp_sockets(penlogd.process.pid, penlogd.port)] == ["udp", "udp6"]


def test_host_and_port_send_standard_input_there(lab):
    """The how-to's `tail -f /path/to/logfile | penlogd loghost 10000`."""
    host = lab.closing(LogHost())
    log = lab.write("web.log", "first\n")
    tail = lab.spawn(["tail", "-n", "+1", "-F", str(log)], stdout=subprocess.PIPE)
    lab.spawn([*tool("penlogd"), host.host, str(host.port)], stdin=tail.popen.stdout)
    tail.popen.stdout.close()
    assert host.wait(1) == [b"first\n"]
    with log.open("a") as file:
        file.write("second\n")
    assert host.wait(2) == [b"first\n", b"second\n"]
