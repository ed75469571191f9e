"""pen as a daemon: into the background, its pid file, jail, user, and signals."""

import os
import pwd
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from support import daemons
from support.client import Client, ask
from support.loghost import LogHost
from support.network import mounted, names, sysctl
from support.pen import control_options
from support.ports import free_port, listens
from support.process import rss
from support.programs import needs
from support.strace import Trace
from support.waiting import let_pass, wait_until

CAP_NET_BIND_SERVICE = 1 << 10  # which `listen` may need later
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def listen():
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def address(listen):
    return "127.0.0.1", int(listen.rpartition(":")[2])


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestBackground:
    def test_the_command_returns_when_the_daemon_listens(self, lab, listen, address):
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        assert listens(pid, address[1])
        assert ask(address) == "s0"
        assert (lab.directory / "pen.pid").read_text() == f"{pid}\n"
        assert mode(lab.directory / "pen.pid") == 0o644

    def test_it_is_detached(self, lab, listen):
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        assert os.getsid(pid) != os.getsid(0)
        assert daemons.working_directory(pid) == "/"
        assert daemons.standard_streams(pid) == ["/dev/null"] * 3

    def test_killall_knows_it_by_its_name(self, lab, listen):
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        assert daemons.called(pid) == "pen"

    def test_it_needs_no_pid_file(self, lab, listen, address):
        done = lab.run("pen", listen, lab.backend())
        assert done == (0, "", "")
        assert ask(address) == "s0"
        assert not list(lab.directory.glob("*.pid"))

    def test_term_ends_it_and_removes_the_pid_file(self, lab, listen, address):
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        assert daemons.end(pid) == 0
        assert not (lab.directory / "pen.pid").exists()
        with pytest.raises(ConnectionRefusedError):
            Client(address)

    def test_relative_names_mean_what_they_meant_where_the_command_was_typed(self, lab, listen, address):
        lab.write("pen.cfg", "server 0 acl 3\nacl 3 permit 127.0.0.1\n")
        server = lab.backend(host="127.0.1.1")
        options = ["-p", "run.pid", "-l", "run.log", "-F", "pen.cfg", "-w", "run.html"]
        pid = lab.daemon(*options, listen, server, pid_file="run.pid")
        with Client(address) as client:
            assert client.send(b"hello\n").line() == "s0"
        with Client(address, "127.0.0.9") as client:
            assert client.line() == "", "the configuration has been read"
        wait_until(lambda: "hello" in (lab.directory / "run.log").read_text())
        (lab.directory / "run.log").rename(lab.directory / "run.log.1")
        lab.write("pen.cfg", "no acl 3\n")
        os.kill(pid, signal.SIGHUP)
        wait_until((lab.directory / "run.log").exists)
        wait_until(lambda: ask(address, "127.0.0.9") == "s0")
        os.kill(pid, signal.SIGUSR1)
        wait_until((lab.directory / "run.html").exists)
        assert daemons.end(pid) == 0
        assert not (lab.directory / "run.pid").exists()

    def test_unix_sockets_by_relative_names(self, lab):
        lab.daemon(
            "-p", "pen.pid", *control_options("./ctl"), "./in", lab.backend(path=f"{lab.directory}/out")
        )
        assert ask(f"{lab.directory}/in") == "s0"
        with Client(f"{lab.directory}/ctl") as control:
            assert control.send(b"servers\n").rest().startswith(b"0 addr ")

    @needs("root")
    @pytest.mark.parametrize("jail", ["", "jail"])
    def test_moving_to_a_unix_socket_by_a_relative_name(self, lab, jail):
        """It is where it would be had pen been started with it, or in the jail; nothing is left behind."""
        place = lab.directory / jail
        place.mkdir(exist_ok=True)
        confined = ["-j", jail] if jail else []
        words = ["-p", "pen.pid", *control_options("./ctl"), *confined]
        pid = lab.daemon(*words, f"127.0.0.1:{free_port()}", lab.backend())
        for name in ("in", "other"):
            assert lab.penctl(f"{lab.directory}/ctl", "listen", f"./{name}") == (0, f"./{name}\n", "")
            assert ask(f"{place}/{name}") == "s0"
        assert not (place / "in").exists()
        assert daemons.end(pid) == 0
        assert not (place / "other").exists()

    @pytest.mark.parametrize(
        ("words", "named", "why"),
        [
            (["SERVER", "127.0.0.1:1"], "SERVER", "Address already in use"),
            (
                ["-p", "no/such/dir.pid", "LISTEN", "127.0.0.1:1"],
                "no/such/dir.pid",
                "No such file or directory",
            ),
            (
                ["-l", "no/such/pen.log", "LISTEN", "127.0.0.1:1"],
                "no/such/pen.log",
                "No such file or directory",
            ),
            (["-j", "no/such/jail", "LISTEN", "127.0.0.1:1"], "no/such/jail", "No such file or directory"),
            (["-u", "nosuchuser", "LISTEN", "127.0.0.1:1"], "nosuchuser", ""),
            (["LISTEN", "no.such.host.invalid:80"], "no.such.host.invalid", ""),
            (["-e", "no.such.host.invalid:80", "LISTEN", "127.0.0.1:1"], "no.such.host.invalid", ""),
            (["-B", "no.such.host.invalid:80", "LISTEN", "127.0.0.1:1"], "no.such.host.invalid", ""),
        ],
        ids=["port", "pid file", "log", "jail", "user", "server", "emergency server", "abuse server"],
    )
    @pytest.mark.parametrize("foreground", [[], ["-f"]], ids=["background", "foreground"])
    def test_when_it_cannot_start_the_command_says_why(self, lab, listen, words, named, why, foreground):
        meant = {"SERVER": str(lab.backend()), "LISTEN": listen}
        done = lab.run("pen", *foreground, *(meant.get(word, word) for word in words))
        assert (done.code, done.out) == (1, "")
        (line,) = done.err.splitlines()
        assert line.startswith("pen: ")
        assert meant.get(named, named) in line
        assert line.endswith(why)
        with pytest.raises(ConnectionRefusedError):
            Client(("127.0.0.1", int(listen.rpartition(":")[2])))

    def test_a_working_directory_that_was_removed(self, lab, listen):
        gone = lab.directory / "gone"
        gone.mkdir()
        words = " ".join([*lab.tool("pen"), listen, "127.0.0.1:1"])
        done = lab.run_words(["sh", "-c", f"rmdir {gone}; exec {words}"], cwd=gone)
        assert done == (1, "", "pen: working directory: No such file or directory\n")

    def test_no_pid_file_stays_behind_when_it_cannot_start(self, lab):
        done = lab.run("pen", "-p", "pen.pid", lab.backend(), "127.0.0.1:1")
        assert done.code == 1
        assert not (lab.directory / "pen.pid").exists()

    def test_standard_streams_that_are_closed(self, lab, listen, address):
        """No socket may get the number of one, and so receive messages."""
        words = " ".join([*lab.tool("pen"), "-d", "-p", "pen.pid", listen, str(lab.backend())])
        done = lab.run_words(["sh", "-c", f"exec {words} <&- >&- 2>&-"])
        assert done.code == 0
        pid = int((lab.directory / "pen.pid").read_text())
        assert daemons.standard_streams(pid) == ["/dev/null"] * 3
        assert ask(address) == "s0"

    @pytest.mark.parametrize("umask", ["000", "077"])
    def test_modes_do_not_depend_on_the_umask(self, lab, umask):
        options = [*control_options("./ctl"), "-p", "pen.pid", "-l", "pen.log", "-O", "write saved.cfg"]
        words = " ".join(
            [*lab.tool("pen"), *(f"'{option}'" for option in options), "./in", str(lab.backend())]
        )
        done = lab.run_words(["sh", "-c", f"umask {umask}; exec {words}"])
        assert done == (0, "", "")
        modes = {name: mode(lab.directory / name) for name in ("pen.pid", "ctl", "in")}
        assert modes == {"pen.pid": 0o644, "ctl": 0o600, "in": 0o666}
        assert mode(lab.directory / "pen.log") in (0o640, 0o600)

    def test_names_that_are_no_text(self, lab, listen, address):
        server = lab.backend()
        words = [word.encode() for word in lab.tool("pen")]
        words += [b"-l", b"\xff\xe5.log", b"-p", b"\xfe.pid", listen.encode(), str(server).encode()]
        assert lab.run_words(words) == (0, "", "")
        with Client(address) as client:
            assert client.send(b"hello\n").line() == "s0"
        log = os.fsencode(lab.directory) + b"/\xff\xe5.log"
        wait_until(lambda: b"hello" in Path(os.fsdecode(log)).read_bytes())
        assert os.path.exists(os.fsencode(lab.directory) + b"/\xfe.pid")

    def test_it_serves_as_in_the_foreground(self, lab, listen, address):
        servers = lab.backends(3)
        lab.daemon("-r", "-p", "pen.pid", listen, *servers)
        assert [ask(address) for _ in range(6)] == ["s0", "s1", "s2", "s0", "s1", "s2"]
        servers[1].stop()
        assert [ask(address) for _ in range(4)] == ["s0", "s2", "s2", "s0"] or servers[1].accepted == 2

    def test_it_does_not_keep_what_the_caller_had_open(self, lab, listen):
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        os.close(writing)
        assert daemons.alive(pid)
        assert os.read(reading, 1) == b"", "nobody else holds the other end"
        os.close(reading)


class TestPidFile:
    @pytest.mark.parametrize("content", ["", "garbage\n", "99999999\n", "1\n", "-1\n", "4194304"])
    def test_a_stale_one_is_replaced(self, lab, listen, content):
        lab.write("pen.pid", content)
        pid = lab.daemon("-p", "pen.pid", listen, lab.backend())
        assert (lab.directory / "pen.pid").read_text() == f"{pid}\n"

    def test_in_the_foreground(self, lab):
        pen = lab.pen("-p", "pen.pid", servers=lab.backends(1))
        file = lab.directory / "pen.pid"
        assert file.read_text() == f"{pen.pid}\n"
        assert pen.stop() == 0
        assert not file.exists()

    def test_one_that_is_no_longer_ours_is_left(self, lab):
        pen = lab.pen("-p", "pen.pid", servers=lab.backends(1))
        lab.write("pen.pid", "4321\n")
        assert pen.stop() == 0
        assert (lab.directory / "pen.pid").read_text() == "4321\n"

    @needs("root", "setpriv")
    def test_one_in_a_directory_that_we_may_not_write(self, lab, listen):
        """Such as /run, where somebody made one for us: it is written, and emptied at the end."""
        file = lab.write("pen.pid", "")
        nobody = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]
        start = [*nobody, *lab.tool("pen"), "-p", "pen.pid", listen, lab.backend()]
        assert lab.run_words(list(map(str, start))).err.endswith("pen.pid: Permission denied\n")
        os.chown(file, NOBODY.pw_uid, NOBODY.pw_gid)
        for _ in range(2):
            assert lab.run_words(list(map(str, start))) == (0, "", "")
            assert daemons.end(int(file.read_text())) == 0
            assert file.read_text() == ""

    @needs("root")
    @pytest.mark.parametrize("minor", [3, 7], ids=["null", "full"])
    def test_a_device_is_never_replaced(self, lab, listen, minor):
        """-p /dev/null must not take that away from everybody else; nor must -w, nor the command write."""
        device = lab.directory / "device"
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, minor))
        pen = lab.pen("-w", device, servers=lab.backends(1))
        pen.send_signal(signal.SIGUSR1)
        said = pen.command(f"write {device}")
        assert ("No space left on device" in said) == (minor == 7)
        done = lab.run("pen", "-p", device, listen, "127.0.0.1:1")
        assert done.code == (0 if minor == 3 else 1)
        assert stat.S_ISCHR(device.stat().st_mode)

    def test_a_link_stays_a_link(self, lab, listen):
        """As root, -p /dev/stdout must not take that away from everybody else."""
        link = lab.directory / "link"
        for target, there in (("real.pid", True), ("/dev/null", False), ("/proc/self/fd/1", False)):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            pen = lab.pen("-p", "link", listen=listen)
            assert link.is_symlink()
            assert (lab.directory / "real.pid").exists() == there
            assert pen.out == (f"{pen.pid}\n" if target == "/proc/self/fd/1" else "")
            assert pen.stop() == 0
            assert link.is_symlink()
            assert not (lab.directory / "real.pid").exists()

    @needs("root")
    @pytest.mark.parametrize("ours", [False, True], ids=["straight", "behind ours"])
    @pytest.mark.parametrize("kind", ["file", "device", "fifo"])
    def test_the_link_of_a_stranger_is_not_followed(self, lab, listen, kind, ours):
        """Nor is one that would make root overwrite a file, or a disk."""
        target, link, named = (lab.directory / name for name in ("target", "link", "pen.pid"))
        if kind == "file":
            target.write_text("precious\n")
        else:
            os.mknod(target, (stat.S_IFIFO if kind == "fifo" else stat.S_IFCHR) | 0o666, os.makedev(1, 3))
        link.symlink_to(target)
        os.lchown(link, NOBODY.pw_uid, NOBODY.pw_gid)
        if ours:
            named.symlink_to("link")
        else:
            link.rename(named)
        pen = lab.pen("-p", "pen.pid", listen=listen)
        assert named.read_text() == f"{pen.pid}\n"
        assert named.is_symlink() == ours
        assert not link.is_symlink()
        assert kind != "file" or target.read_text() == "precious\n"

    def test_standard_output_that_is_a_file_is_added_to(self, lab, listen):
        out = lab.directory / "out"
        out.write_text("before\n")
        with out.open("a") as file:
            words = [*lab.tool("pen"), "-f", "-p", "/dev/stdout", listen]
            pen = subprocess.Popen(list(map(str, words)), stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: out.read_text() == f"before\n{pen.pid}\n")
        finally:
            pen.terminate()
        assert pen.wait() == 0
        assert out.read_text() == f"before\n{pen.pid}\n"

    def test_a_fifo_is_not_waited_for(self, lab, listen):
        os.mkfifo(lab.directory / "fifo")
        done = lab.run("pen", "-p", "fifo", listen)
        assert done == (1, "", f"pen: pid file {lab.directory}/fifo: No such device or address\n")

    def test_one_that_is_gone_already(self, lab):
        pen = lab.pen("-p", "pen.pid", servers=lab.backends(1))
        (lab.directory / "pen.pid").unlink()
        assert pen.stop() == 0
        assert pen.err == ""


@needs("root")
class TestUser:
    @needs("strace")
    def test_root_is_given_up_before_anybody_can_connect(self, lab):
        trace = Trace(lab.directory, calls="bind,setuid,listen")
        lab.pen("-u", "nobody", servers=[lab.backend()], control="", wrap=trace.wrap)
        assert trace.names()[-3:] == ["bind", "setuid", "listen"]

    @needs("strace")
    def test_nobody_can_connect_to_a_pen_that_fails_to_start(self, lab):
        trace = Trace(lab.directory, calls="bind,listen")
        pen = lab.pen("-u", "nobody", "-l", "/proc/x", control="", wrap=trace.wrap, wait=False)
        assert pen.wait() == 1
        assert "listen" not in trace.names()
        assert len([args for args in trace.with_name("bind") if "AF_INET" in args]) == 1

    def test_a_pid_file_that_is_no_longer_ours_is_left_also_where_it_can_not_be_removed(self, lab, listen):
        pid = lab.daemon("-u", "nobody", "-p", "pen.pid", listen, lab.backend())
        lab.write("pen.pid", "4321\n")
        assert daemons.end(pid) == 0
        assert (lab.directory / "pen.pid").read_text() == "4321\n"

    def test_all_ids_and_groups(self, lab, listen, address):
        lab.directory.chmod(0o777)
        pid = lab.daemon("-u", "nobody", "-p", "pen.pid", listen, lab.backend())
        ids = daemons.rights(pid)
        assert set(ids.uids) == {NOBODY.pw_uid}
        assert set(ids.gids) == {NOBODY.pw_gid}
        assert set(ids.groups) == set(os.getgrouplist("nobody", NOBODY.pw_gid))
        assert daemons.capabilities(pid) & ~CAP_NET_BIND_SERVICE == 0
        assert ask(address) == "s0"

    def test_by_number(self, lab, listen):
        lab.directory.chmod(0o777)
        pid = lab.daemon("-u", NOBODY.pw_uid, "-p", "pen.pid", listen, lab.backend())
        assert set(daemons.rights(pid).uids) == {NOBODY.pw_uid}

    def test_whose_the_files_are(self, lab):
        lab.directory.chmod(0o777)
        control = f"{lab.directory}/ctl"
        words = ["-u", "nobody", "-p", "pen.pid", "-C", control, "-l", "pen.log", "-w", "pen.html"]
        pid = lab.daemon(*words, "./in", lab.backend())
        assert ask(f"{lab.directory}/in") == "s0"
        with Client(control) as client:
            assert client.send(b"status\n").rest()
        wait_until((lab.directory / "pen.html").exists)
        for name, expected in [("pen.pid", 0o644), ("ctl", 0o600), ("in", 0o666), ("pen.log", 0o640)]:
            path = lab.directory / name
            assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), name
            assert mode(path) == expected, name
        assert (lab.directory / "pen.html").stat().st_uid == NOBODY.pw_uid
        assert daemons.end(pid) == 0
        assert not [name for name in ("pen.pid", "ctl", "in") if (lab.directory / name).exists()]

    def test_where_it_may_no_longer_write_the_pid_file_is_emptied_and_the_socket_left(self, lab):
        """The directory is root's; the next start takes both for stale."""
        server = lab.backend()
        words = ["-u", "nobody", "-p", "pen.pid", "./in", server]
        for _ in range(2):
            pid = lab.daemon(*words)
            assert ask(f"{lab.directory}/in") == "s0"
            assert daemons.end(pid) == 0
            assert (lab.directory / "pen.pid").read_text() == ""
            assert (lab.directory / "in").exists()

    def test_a_status_file_in_a_directory_it_may_not_write(self, lab, listen):
        """As for a web server that shows it: the file was made for pen, the directory is not its own."""
        page = lab.write("pen.html", "x" * 10_000)
        os.chown(page, NOBODY.pw_uid, NOBODY.pw_gid)
        pid = lab.daemon("-u", "nobody", "-w", "pen.html", "-p", "pen.pid", listen, lab.backend())
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda: page.read_text().endswith("</html>\n"), "it is written, to its end")

    def test_a_log_it_may_not_write(self, lab, listen):
        done = lab.run("pen", "-u", "nobody", "-l", "pen.log", listen, lab.backend())
        assert done.code == 1
        assert done.err.endswith("pen.log: Permission denied\n")

    def test_low_ports_are_opened_before(self, lab, network):
        sysctl("ipv4/ip_unprivileged_port_start", "1024")
        lab.directory.chmod(0o777)
        pid = lab.daemon("-u", "nobody", "-p", "pen.pid", "127.0.0.1:80", lab.backend())
        assert set(daemons.rights(pid).uids) == {NOBODY.pw_uid}
        assert ask(("127.0.0.1", 80)) == "s0"

    def test_listening_on_a_low_port_later_works_or_is_refused_with_the_reason(self, lab, network):
        sysctl("ipv4/ip_unprivileged_port_start", "1024")
        lab.directory.chmod(0o777)
        control = f"{lab.directory}/ctl"
        lab.daemon("-u", "nobody", "-p", "pen.pid", "-C", control, "127.0.0.1:80", lab.backend())
        with Client(control) as client:
            reply = client.send(b"listen 127.0.0.1:81\n").rest().decode()
        if reply == "127.0.0.1:81\n":
            assert ask(("127.0.0.1", 81)) == "s0"
        else:
            assert "127.0.0.1:81" in reply
            assert "Permission denied" in reply
            assert ask(("127.0.0.1", 80)) == "s0"

    def test_hup_reads_again_as_that_user(self, lab, listen):
        lab.directory.chmod(0o777)
        (lab.write("pen.cfg", "timeout 7\n")).chmod(0o600)
        control = f"{lab.directory}/ctl"
        pid = lab.daemon(
            "-u", "nobody", "-p", "pen.pid", "-C", control, "-F", "pen.cfg", listen, lab.backend()
        )
        with Client(control) as client:
            assert client.send(b"timeout\n").rest() == b"7\n", "at start it is read as root"
        lab.write("pen.cfg", "timeout 8\n")
        os.kill(pid, signal.SIGHUP)
        let_pass(0.3)
        with Client(control) as client:
            assert client.send(b"timeout\n").rest() == b"7\n"


@needs("root", "setpriv")
def test_a_user_whom_we_may_not_become(lab, listen):
    powerless = ["setpriv", "--bounding-set=-setuid,-setgid"]
    pen = lab.pen("-u", "nobody", listen=listen, control="", wrap=powerless, wait=False)
    assert pen.wait() == 1
    (line,) = pen.err.splitlines()
    assert "nobody" in line
    assert line.endswith("Operation not permitted")


@needs("root", "setpriv")
@pytest.mark.parametrize("words", [["./listen.sock"], ["-C", "./control.sock", "127.0.0.1:LISTEN"]])
def test_a_unix_socket_that_we_may_not_give_away_does_not_stay(lab, listen, words):
    words = [word.replace("127.0.0.1:LISTEN", listen) for word in words]
    powerless = ["setpriv", "--bounding-set=-chown"]
    done = lab.run_words([*powerless, *lab.tool("pen"), "-f", "-u", "nobody", *words])
    assert done.code == 1
    assert re.fullmatch(r"pen: give \./\w+\.sock to nobody: Operation not permitted\n", done.err)
    assert not list(lab.directory.glob("*.sock"))


@needs("root")
class TestJail:
    @pytest.fixture
    def jail(self, lab):
        jail = lab.directory / "jail"
        jail.mkdir()
        return jail

    def test_root_and_cwd(self, lab, jail, listen, address):
        pid = lab.daemon("-j", "jail", "-p", "pen.pid", listen, lab.backend())
        assert daemons.root_directory(pid) == str(jail)
        assert daemons.working_directory(pid) == str(jail)
        assert ask(address) == "s0"

    @pytest.mark.parametrize("typed", ["jail", "./jail/", "jail/../jail"])
    def test_the_pid_file_is_removed_if_it_is_inside_and_emptied_if_it_is_not(self, lab, jail, listen, typed):
        for name, left in [("jail/pen.pid", None), ("pen.pid", "")]:
            pid = lab.daemon("-j", typed, "-p", name, listen, lab.backend(), pid_file=name)
            assert daemons.end(pid) == 0
            path = lab.directory / name
            assert (path.read_text() if path.exists() else None) == left

    def test_which_names_are_outside_and_which_inside(self, lab, jail, listen, address):
        lab.write("pen.cfg", "timeout 7\n")
        control = f"{lab.directory}/ctl"
        words = ["-j", "jail", "-p", "pen.pid", "-C", control, "-u", "root", "-F", "pen.cfg"]
        pid = lab.daemon(*words, "-l", "/pen.log", "-w", "/pen.html", listen, lab.backend())
        assert (lab.directory / "pen.pid").exists()
        with Client(address) as client:
            assert client.send(b"hello\n").line() == "s0"
        wait_until(lambda: "hello" in (jail / "pen.log").read_text())

        def command(line):
            with Client(control) as client:
                return client.send(line + b"\n").rest().decode()

        assert command(b"timeout") == "7\n"
        command(b"status")
        assert (jail / "pen.html").exists()
        command(b"write /saved.cfg")
        assert "timeout 7\n" in (jail / "saved.cfg").read_text()
        (jail / "more.cfg").write_text("timeout 9\n")
        command(b"include /more.cfg")
        assert command(b"timeout") == "9\n"
        (jail / "pen.log").rename(jail / "pen.log.1")
        os.kill(pid, signal.SIGHUP)
        wait_until((jail / "pen.log").exists)
        assert daemons.end(pid) == 0

    def test_the_configuration_is_outside_at_start_and_inside_at_hup(self, lab, jail, listen):
        lab.write("pen.cfg", "timeout 7\ninclude more.cfg\n")
        lab.write("more.cfg", "blacklist 7\n")
        (jail / "pen.cfg").write_text("timeout 8\ninclude more.cfg\n")
        (jail / "more.cfg").write_text("blacklist 8\n")
        control = f"{lab.directory}/ctl"
        words = ["-j", "jail", "-p", "pen.pid", "-C", control, "-u", "root", "-F", "pen.cfg"]
        pid = lab.daemon(*words, listen, lab.backend())

        def command(line):
            with Client(control) as client:
                return client.send(line + b"\n").rest()

        assert (command(b"timeout"), command(b"blacklist")) == (b"7\n", b"7\n")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: (command(b"timeout"), command(b"blacklist")) == (b"8\n", b"8\n"))

    def test_a_unix_listener_is_outside(self, lab, jail):
        lab.daemon("-j", "jail", "-p", "pen.pid", "./in", lab.backend())
        assert ask(f"{lab.directory}/in") == "s0"

    def test_with_a_user(self, lab, jail, listen, address):
        lab.directory.chmod(0o777)
        jail.chmod(0o777)
        pid = lab.daemon(
            "-j", "jail", "-u", "nobody", "-p", "pen.pid", "-l", "pen.log", listen, lab.backend()
        )
        assert daemons.root_directory(pid) == str(jail)
        assert set(daemons.rights(pid).uids) == {NOBODY.pw_uid}
        assert (jail / "pen.log").stat().st_uid == NOBODY.pw_uid
        assert ask(address) == "s0"

    def test_the_penlogd_is_looked_up_outside(self, lab, jail, network):
        """The jail has no /etc/hosts and no /etc/services.  At HUP the address that is known stays."""
        host = lab.closing(LogHost(port=514))
        words = ["-j", "jail", "-l", "loghost:syslog"]
        pen = lab.pen(*words, servers=lab.backends(1), wrap=names({"loghost": "127.0.0.1"}, lab.directory))
        pen.client().talk(b"early\n")
        assert b"early" in host.wait(1)[0]
        pen.hup()
        pen.says("loghost:syslog: .*; its old address stays")
        pen.client().talk(b"late\n")
        assert b"late" in host.wait(2)[1]
        assert len(pen.err.splitlines()) == 1

    def test_what_is_loaded_late_is_there(self, lab, jail, listen):
        """In a jail there is no Python and no /etc: every command, a reload and garbage must work there."""
        control = f"{lab.directory}/ctl"
        words = ["-j", "jail", "-p", "pen.pid", "-C", control, "-u", "root", "-F", "pen.cfg", "-l", "pen.log"]
        lab.write("pen.cfg", "timeout 7\n")
        pid = lab.daemon(*words, listen, lab.backend())
        lines = [
            b"servers",
            b"status",
            b"recent",
            b"mode",
            b"write x",
            b"write",
            b"include nothere",
            b"\xff\x00",
        ]
        lines += [b"connection 0", b"server 1 address nosuchname port 80", b"server 1 address 127.0.0.1"]
        lines += [
            b"server 1 port http",
            b"log nosuchhost:514",
            b"listen",
            b"acl 1 permit ::1",
            b"source 127.0.0.1",
        ]
        for line in lines:
            with Client(control) as client:
                reply = client.send(line + b"\n").rest().decode()
            assert "internal error:" not in reply, (line, reply)
            assert "ModuleNotFound" not in reply, (line, reply)
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGUSR1)
        let_pass(0.2)
        assert daemons.alive(pid)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_clean_end(self, lab, number):
        """Log flushed, pid file and Unix sockets removed, exit 0, also with clients connected."""
        pen = lab.pen("-l", "pen.log", "-p", "pen.pid", listen=f"{lab.directory}/in", servers=lab.backends(1))
        client = pen.client()
        assert client.send(b"hello\n").line() == "s0"
        pen.send_signal(number)
        assert pen.wait() == 0
        assert "hello" in pen.log
        assert {path.name for path in lab.directory.iterdir()} == {
            "pen.log",
            f"{pen.name}.out",
            f"{pen.name}.err",
        }
        assert pen.err == ""

    @pytest.mark.parametrize("options", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"])
    def test_each_mechanism_notices_signals(self, lab, options):
        pen = lab.pen(*options, servers=lab.backends(1))
        pen.send_signal(signal.SIGTERM)
        assert pen.wait(5) == 0

    def test_usr1_prints_statistics(self, lab):
        pen = lab.pen(servers=lab.backends(2))
        assert pen.ask() == "s0"
        pen.send_signal(signal.SIGUSR1)
        pen.says(r"127\.0\.0\.1")
        wait_until(lambda: all(str(server) in pen.err or "port" in pen.err for server in (0, 1)))
        assert pen.ask() == "s0"

    def test_usr1_writes_the_status_file(self, lab):
        pen = lab.pen("-w", "pen.html", servers=lab.backends(1))
        assert pen.ask() == "s0"
        pen.send_signal(signal.SIGUSR1)
        page = lab.directory / "pen.html"
        wait_until(page.exists)
        content = page.read_text()
        assert re.search(r"<html.*</html>\s*\Z", content, re.DOTALL | re.IGNORECASE), "it is whole at once"
        assert mode(page) == 0o644, "a web server can show it"
        assert pen.err == ""

    def test_usr1_with_a_file_that_cannot_be_written(self, lab):
        pen = lab.pen("-w", "no/such/pen.html", servers=lab.backends(1))
        pen.send_signal(signal.SIGUSR1)
        pen.says("no/such/pen.html.*No such file or directory")
        assert pen.ask() == "s0"

    @needs("prlimit")
    def test_usr2_aborts(self, lab):
        pen = lab.pen(servers=lab.backends(1), wrap=["prlimit", "--core=0"])
        pen.send_signal(signal.SIGUSR2)
        assert pen.wait() == -signal.SIGABRT

    def test_many_signals_disturb_no_connection(self, lab):
        pen = lab.pen("-l", "pen.log", "-w", "pen.html", servers=lab.backends(1))
        client = pen.client()
        assert client.line() == "s0"
        for number in range(200):
            pen.send_signal((signal.SIGHUP, signal.SIGUSR1)[number % 2])
            assert client.talk(b"%d\n" % number) == b"%d\n" % number
        assert pen.ask() == "s0"
        assert pen.alive

    def test_a_closed_terminal(self, lab):
        """In the foreground HUP is a reload, too; a stderr that is gone hinders nobody."""
        reading, writing = socket.socketpair()
        pen = lab.spawn(
            [*lab.tool("pen"), "-f", "-d", listening := f"127.0.0.1:{free_port()}", str(lab.backend())],
            stdout=writing, stderr=writing,
        )  # fmt: skip
        port = int(listening.rpartition(":")[2])
        wait_until(lambda: listens(pen.pid, port))
        reading.close()
        writing.close()
        pen.send_signal(signal.SIGUSR1)
        for _ in range(3):
            assert ask(("127.0.0.1", port)) == "s0"
        assert pen.alive


class TestDebug:
    def test_a_stderr_that_nobody_reads_never_blocks_us(self, lab, listen, address):
        """What it does not take is counted, and said when it does again."""
        reading, writing = os.pipe()
        pen = lab.spawn([*lab.tool("pen"), "-f", "-ddd", listen, str(lab.backend())], stderr=writing)
        os.close(writing)
        wait_until(lambda: listens(pen.pid, address[1]))
        for _ in range(100):
            with Client(address) as client:
                assert client.line() == "s0"
                assert client.talk(b"x" * 2000) == b"x" * 2000
        with open(reading, "rb", buffering=0) as pipe:
            pipe.read(1 << 20)
            with Client(address) as client:
                assert client.line() == "s0"
            said = b""
            while b"messages lost: standard error did not take them\n" not in said:
                said += pipe.read(1 << 16)

    def test_to_stderr_in_the_foreground(self, lab):
        pen = lab.pen("-d", servers=lab.backends(1))
        assert pen.ask() == "s0"
        pen.says("127.0.0.1")

    def test_nothing_without_it(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        assert pen.ask() == "s0"
        assert pen.stop() == 0
        assert pen.err == ""

    def test_dumps_in_hex_and_ascii(self, lab):
        pen = lab.pen("-ddd", servers=lab.backends(1))
        with pen.client() as client:
            client.line()
            client.talk(b"secret\x01words")
        pen.says("73 ?65 ?63 ?72 ?65 ?74")
        assert "secret" not in pen.err
        pen = lab.pen("-ddda", servers=lab.backends(1))
        with pen.client() as client:
            client.line()
            client.talk(b"secret\x01words")
        pen.says("secret.words")
        assert not re.search("73 ?65 ?63 ?72 ?65 ?74", pen.err)

    @needs("root", "unshare", "mount")
    def test_to_syslog_in_the_background(self, lab, listen, address):
        """user.debug is priority 15; warnings go there, too."""
        syslog, wrap = syslog_of_our_own(lab)
        done = lab.run_words([*wrap, *lab.tool("pen"), "-d", listen, str(lab.backend())])
        assert done == (0, "", "")
        assert ask(address) == "s0"
        wait_until(lambda: any(b"127.0.0.1" in line for line in syslog.lines()))
        assert all(line.startswith(b"<15>") for line in syslog.lines() if b"connection" in line)

    @needs("root", "unshare", "mount")
    def test_a_syslog_that_does_not_read_never_blocks_us(self, lab, listen, address):
        _, wrap = syslog_of_our_own(lab)
        done = lab.run_words([*wrap, *lab.tool("pen"), "-ddd", "-p", "pen.pid", listen, str(lab.backend())])
        assert done == (0, "", "")
        for _ in range(200):
            with Client(address) as client:
                assert client.line() == "s0"
                assert client.talk(b"x" * 200) == b"x" * 200


def syslog_of_our_own(lab):
    """A /dev/log that we read, and the words that give a program a /dev with it."""
    directory = lab.directory / "dev"
    directory.mkdir()
    os.mknod(directory / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (directory / "null").chmod(0o666)
    for name, minor in (("urandom", 9), ("zero", 5)):
        os.mknod(directory / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    return lab.closing(Syslog(str(directory / "log"))), mounted(directory, "/dev")


class Syslog:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.socket.setblocking(False)
        self.seen = []

    def lines(self):
        try:
            while True:
                self.seen.append(self.socket.recv(65536))
        except BlockingIOError:
            return self.seen

    def close(self):
        self.socket.close()


def test_memory_does_not_grow_with_the_connections_made(lab):
    pen = lab.pen("-r", "-l", "pen.log", servers=lab.backends(1))
    pen.asks(200)
    before = rss(pen.pid)
    pen.asks(600)
    assert rss(pen.pid) - before < 1 << 20
