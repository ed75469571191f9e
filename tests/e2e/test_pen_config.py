"""Configuration: the -F file, include, HUP, and `write`."""

import os
import shlex
import socket
import stat

import pytest
from support.network import mounted
from support.pen import control_options
from support.ports import free_port, listens
from support.programs import needs
from support.waiting import let_pass, wait_until

A, B = "127.0.0.21", "127.0.0.22"


def reload(pen):
    """HUP, and until it has been heeded: the log that was moved away is there again."""
    pen.command("log marker.log")
    marker = pen.log_file.with_name("marker.log")
    marker.unlink(missing_ok=True)
    pen.hup()
    wait_until(marker.exists, "HUP reopens the log")
    pen.command("no log")


class TestFile:
    def test_commands_comments_and_empty_lines(self, lab):
        lab.write(
            "pen.cfg",
            "# a comment\n\n  \t\ntimeout 9 # not a comment?\nblacklist 8\n\t# another\nroundrobin\n",
        )
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(2))
        assert pen.command("blacklist") == "8\n"
        assert sorted(pen.asks(2)) == ["s0", "s1"]

    def test_crlf_and_no_last_newline(self, lab):
        (lab.directory / "pen.cfg").write_bytes(b"timeout 9\r\n\r\nblacklist 8")
        pen = lab.pen("-F", "pen.cfg")
        assert pen.err == ""
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "8\n")

    def test_errors_with_their_line_numbers_and_the_rest_takes_effect(self, lab):
        lab.write(
            "pen.cfg",
            "timeout 9\n\nfrobnicate 3\nacl 11 permit 1.2.3.4\n# comment\nserver 0 frob 1\nblacklist 8\n",
        )
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "8\n")
        third, fourth, sixth = pen.err.splitlines()
        assert "pen.cfg:3:" in third
        assert "do_cmd: ignoring command starting with 'frobnicate'" in third
        assert "pen.cfg:4:" in fourth
        assert "11" in fourth
        assert "pen.cfg:6:" in sixth
        assert "frob" in sixth

    def test_a_mechanism_that_the_system_lacks_is_no_reason_not_to_start(self, lab):
        """A file that was written on BSD."""
        lab.write("pen.cfg", "kqueue\ntimeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert pen.command("timeout") == "9\n"
        assert pen.err == "pen: pen.cfg:1: do_cmd: kqueue: this system does not have it\n"
        assert pen.ask() == "s0"

    def test_a_wrong_line_about_a_server_of_the_command_line(self, lab):
        lab.write("pen.cfg", "server 0 acl 3 max\nserver 00 blacklist many max 3\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert pen.err.splitlines() == [
            "pen: pen.cfg:1: do_cmd: server: value expected after 'max'",
            "pen: pen.cfg:2: do_cmd: server: 'many' is not a number",
        ]
        assert pen.servers()[0]["max"] == "0"

    def test_nul(self, lab):
        (lab.directory / "pen.cfg").write_bytes(b"log a\0b\nweb_stats a\0b\ntimeout 9\n")
        pen = lab.pen("-F", "pen.cfg")
        assert pen.command("timeout") == "9\n"
        assert [line[: len("pen: pen.cfg:1:")] for line in pen.err.splitlines()] == [
            "pen: pen.cfg:1:",
            "pen: pen.cfg:2:",
        ]

    @pytest.mark.parametrize("option", [" poll ", "include mechanism.cfg"])
    def test_a_mechanism_by_option(self, lab, option):
        lab.write("mechanism.cfg", "poll # not epoll\n")
        pen = lab.pen("-O", option, servers=lab.backends(1))
        assert pen.err == ""
        assert pen.ask() == "s0"
        pen.command("write saved.cfg")
        assert "poll" in configuration(lab.directory / "saved.cfg")

    def test_garbage(self, lab):
        (lab.directory / "pen.cfg").write_bytes(b"\xff\xfe\0\n" + b"x" * 100_000 + b"\ntimeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert pen.command("timeout") == "9\n"
        assert "Traceback" not in pen.err
        assert len(pen.err) < 5000
        assert pen.ask() == "s0"

    @pytest.mark.parametrize("what", ["missing", "directory"])
    def test_one_that_cannot_be_read(self, lab, what):
        if what == "directory":
            (lab.directory / "pen.cfg").mkdir()
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert "Can't read config file 'pen.cfg'" in pen.err
        assert pen.ask() == "s0"

    def test_in_the_background_too(self, lab):
        listen = f"127.0.0.1:{free_port()}"
        done = lab.run("pen", "-p", "pen.pid", "-F", "none.cfg", listen, lab.backend())
        assert done.code == 0
        assert "Can't read config file 'none.cfg'" in done.err
        assert listens(int((lab.directory / "pen.pid").read_text()), int(listen.rpartition(":")[2]))

    def test_alone_it_may_name_listener_and_servers(self, lab):
        a, b = lab.backends(2)
        listen = f"127.0.0.1:{free_port()}"
        servers = "".join(
            f"server {n} address 127.0.0.1 port {port}\n" for n, port in enumerate([a.port, b.port])
        )
        lab.write("pen.cfg", f"listen {listen}\n{servers}")
        control = str(lab.directory / "ctl")
        words = ["-f", "-r", *control_options(control), "-F", "pen.cfg"]
        pen = lab.pen_as_typed(*words, listen=listen, control=control)
        assert pen.asks(2) == ["s0", "s1"]

    def test_alone_without_a_listener_in_it(self, lab):
        lab.write("pen.cfg", "timeout 3\n")
        done = lab.run("pen", "-f", "-F", "pen.cfg")
        assert done.code != 0
        assert "Traceback" not in done.err

    def test_options_come_before_it(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        assert lab.pen("-F", "pen.cfg", "-t", "5").command("timeout") == "9\n"

    def test_servers_of_the_command_line_win_at_start(self, lab):
        a, b, c = lab.backends(3)
        servers = "".join(
            f"server {n} address 127.0.0.1 port {port}\n" for n, port in enumerate([b.port, c.port])
        )
        lab.write("pen.cfg", servers)
        pen = lab.pen("-r", "-F", "pen.cfg", servers=[a])
        assert pen.asks(2) == ["s0", "s2"], "server 0 as typed, server 1 as in the file"
        reload(pen)
        assert sorted(pen.asks(2)) == ["s1", "s2"], "HUP applies the file"

    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            ("max x", "'x' is not a number"),
            ("weight 1 prio -2", "'-2' is not a number"),
            ("address 1.2.3.4:80 port 80", "bad address '1.2.3.4:80'"),
        ],
    )
    def test_what_is_wrong_about_them_is_said_all_the_same(self, lab, words, wrong):
        lab.write("pen.cfg", f"server 0 max 3\nserver 0 {words}\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        assert pen.err.startswith(f"pen: pen.cfg:2: do_cmd: server: {wrong}")
        assert pen.err.count("\n") == 1

    def test_a_log_that_cannot_be(self, lab):
        """It is said; that of the command line stays, and so does pen."""
        lab.write("pen.cfg", "log 127.0.0.1:99999\ntimeout 9\n")
        pen = lab.pen("-F", "pen.cfg", "-l", "pen.log")
        assert "pen.cfg:1: do_cmd: log: bad address '127.0.0.1:99999'" in pen.err
        assert (pen.command("log"), pen.command("timeout")) == ("pen.log\n", "9\n")
        lab.write("pen.cfg", "log no/such/pen.log\ntimeout 8\n")
        pen = lab.pen("-F", "pen.cfg", "-l", "pen.log")
        assert pen.err == "pen: log no/such/pen.log: No such file or directory\n"
        assert (pen.command("log"), pen.command("timeout")) == ("pen.log\n", "8\n")

    @pytest.mark.parametrize(("line", "log"), [("no log", ""), ("log other.log", "other.log\n")])
    def test_a_log_in_it_is_the_one_that_counts(self, lab, line, log):
        lab.write("pen.cfg", f"{line}\n")
        pen = lab.pen("-F", "pen.cfg", "-l", "pen.log")
        assert pen.command("log") == log
        assert not pen.log_file.exists()

    def test_include(self, lab):
        lab.write("pen.cfg", "include more.cfg\nblacklist 8\n")
        lab.write("more.cfg", "timeout 9\nnonsense\n")
        pen = lab.pen("-F", "pen.cfg")
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "8\n")
        assert "more.cfg:2:" in pen.err

    def test_include_by_command(self, lab):
        lab.write("more.cfg", "timeout 9\nnonsense\nblacklist 8\n")
        pen = lab.pen()
        assert "nonsense" in pen.command("include more.cfg")
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "8\n")

    def test_a_fifo_that_nobody_writes_does_not_stop_pen(self, lab):
        os.mkfifo(lab.directory / "fifo")
        pen = lab.pen("-r", servers=lab.backends(1))
        assert pen.command("include fifo") == "do_cmd: include: Can't read config file 'fifo'\n"
        assert pen.command("include /dev/zero") == "do_cmd: include: Can't read config file '/dev/zero'\n"
        assert pen.command("geoip_db fifo") == "do_cmd: geoip_db: fifo: Not a regular file\n"
        assert pen.ask() == "s0"

    @needs("bash")
    def test_at_start_it_may_be_a_pipe(self, lab):
        wrap = ["bash", "-c", 'exec "$@" -F <(echo timeout 9)', "bash"]
        pen = lab.pen(servers=lab.backends(1), wrap=wrap)
        assert pen.command("timeout") == "9\n"
        pen.hup()
        pen.says("Can't read config file '/dev/fd/[0-9]+'")
        assert pen.ask() == "s0"

    def test_include_of_itself_ends(self, lab):
        lab.write("pen.cfg", "timeout 9\ninclude pen.cfg\nblacklist 8\n")
        pen = lab.pen("-F", "pen.cfg")
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "8\n")
        pen.says("pen.cfg:2: do_cmd: include pen.cfg: more than 8 files deep")
        assert pen.err.count("\n") == 1


class TestHup:
    def test_the_file_is_read_again(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg")
        lab.write("pen.cfg", "timeout 8\nblacklist 7\n")
        reload(pen)
        assert (pen.command("timeout"), pen.command("blacklist")) == ("8\n", "7\n")

    def test_lists_that_the_file_names_are_emptied_first(self, lab):
        lab.write("pen.cfg", f"acl 0 deny {A}\n")
        pen = lab.pen("-r", "-F", "pen.cfg", servers=lab.backends(1))
        assert [pen.ask(A), pen.ask(B)] == ["", "s0"]
        lab.write("pen.cfg", f"acl 0 deny {B}\n")
        reload(pen)
        assert [pen.ask(A), pen.ask(B)] == ["s0", ""]
        reload(pen)
        assert [pen.ask(A), pen.ask(B)] == ["s0", ""]

    def test_what_the_file_no_longer_names_stays(self, lab):
        lab.write("pen.cfg", f"acl 0 deny {A}\ntimeout 9\n")
        pen = lab.pen("-r", "-F", "pen.cfg", servers=lab.backends(1))
        lab.write("pen.cfg", "blacklist 7\n")
        reload(pen)
        assert pen.command("timeout") == "9\n"
        assert [pen.ask(A), pen.ask(B)] == ["", "s0"]

    def test_a_list_only_named_with_no_is_emptied(self, lab):
        lab.write("pen.cfg", f"acl 0 deny {A}\n")
        pen = lab.pen("-r", "-F", "pen.cfg", servers=lab.backends(1))
        lab.write("pen.cfg", "no acl 0\n")
        reload(pen)
        assert pen.ask(A) == "s0"

    def test_lists_made_by_command_stay(self, lab):
        lab.write("pen.cfg", f"acl 1 deny {B}\n")
        pen = lab.pen("-r", "-F", "pen.cfg", servers=lab.backends(1))
        pen.command(f"acl 0 deny {A}")
        reload(pen)
        assert pen.ask(A) == ""

    def test_a_file_that_is_gone(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        (lab.directory / "pen.cfg").unlink()
        reload(pen)
        assert "Can't read config file 'pen.cfg'" in pen.err
        assert pen.command("timeout") == "9\n"

    def test_errors_are_reported_and_the_rest_takes_effect(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        lab.write("pen.cfg", "timeout x\nblacklist 7\n")
        reload(pen)
        assert "pen.cfg:1:" in pen.err
        assert (pen.command("timeout"), pen.command("blacklist")) == ("9\n", "7\n")

    def test_clients_stay_connected_and_known(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(2))
        client = pen.client(source=A)
        assert client.line() == "s0"
        assert pen.ask(B) == "s1"
        reload(pen)
        assert client.talk(b"still here") == b"still here"
        assert [pen.ask(A), pen.ask(B)] == ["s0", "s1"]

    def test_a_new_listener_in_the_file(self, lab):
        port = free_port()
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1))
        lab.write("pen.cfg", f"listen 127.0.0.1:{port}\n")
        reload(pen)
        pen.address = ("127.0.0.1", port)
        assert pen.ask() == "s0"

    def test_the_newest_file_counts(self, lab, network):
        """Names in the one before still wait for their name server; what they belong to is old by now."""
        conf = lab.write("resolv.conf", "nameserver 127.0.0.53\noptions timeout:2 attempts:1\n")
        lab.write("pen.cfg", "timeout 9\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
            hole.bind(("127.0.0.53", 53))
            pen = lab.pen("-F", "pen.cfg", servers=lab.backends(1), wrap=mounted(conf, "/etc/resolv.conf"))
            lab.write("pen.cfg", "timeout 8\nserver 1 address slow.example port 80\n")
            pen.hup()
            assert hole.recvfrom(512), "it asks"
            lab.write("pen.cfg", "timeout 7\n")
            pen.hup()
            wait_until(lambda: pen.command("timeout") == "7\n")
            assert "slow.example" in pen.command("server 2 address slow.example port 80"), "the time is over"
            assert pen.command("timeout") == "7\n"

    def test_without_a_file(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        reload(pen)
        assert pen.ask() == "s0"
        assert pen.err == ""


def configuration(path):
    """The written commands, without the comments."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


class TestWrite:
    OPTIONS = (
        "-h",
        "-s",
        "-W",
        "-a",
        "-t",
        "7",
        "-b",
        "8",
        "-T",
        "9",
        "-c",
        "3000",
        "-x",
        "400",
        "-l",
        "pen.log",
    )
    OPTIONS += ("-w", "pen.html", "-r", "-m", "50", "-q", "60", "-X", "-d", "-H")
    COMMANDS = (
        "acl 3 permit 10.0.0.0 255.0.0.0", "acl 3 deny 127.0.0.21", "acl 4 permit fd00::/8", "acl 4 deny ::1",
        "client_acl 3", "control_acl 4", "idle_timeout 55", "pending_max 44", "prio", "tcp_nodelay",
        "keepalive", "tcp_fastclose up", "source 127.0.0.1", "conn_max 450", "ascii", "abort_on_error",
        "idlers 3", "debug 2", "server 1 address 127.0.1.2 port 8080 max 1 hard 2 weight 3 prio 4 acl 4",
    )  # fmt: skip

    def changed(self, lab):
        """A pen with nothing at its default."""
        pen = lab.pen(*self.OPTIONS, servers=[lab.backend(host="::1"), lab.backend()])
        for command in self.COMMANDS:
            pen.command(command)
        return pen

    def test_every_setting_is_there(self, lab):
        pen = self.changed(lab)
        assert pen.command("write saved.cfg") == ""
        written = configuration(lab.directory / "saved.cfg")
        for command in self.COMMANDS[:4]:
            words = command.split()
            assert any(line.startswith(f"acl {words[1]} {words[2]}") for line in written), command
        for command in self.COMMANDS[4:-1]:
            assert command in written
        for command in (
            "timeout 7",
            "blacklist 8",
            "tracking 9",
            "clients_max 3000",
            "hash",
            "stubborn",
            "weight",
        ):
            assert command in written
        for command in (
            "http",
            "no peek",
            "no dummy",
            "roundrobin",
            "log pen.log",
            "web_stats pen.html",
            f"listen {pen.listen}",
        ):
            assert command in written
        assert "server 1 acl 4 address 127.0.1.2 port 8080 max 1 hard 2 weight 3 prio 4" in written

    def test_a_pen_started_with_it_is_identical(self, lab):
        """By the command line in the first comment, with this file; it writes the same again."""
        first = self.changed(lab)
        first.command("write saved.cfg")
        saved = (lab.directory / "saved.cfg").read_text()
        heading, *rest = saved.splitlines()
        assert heading.startswith("#")
        command_line = next(line for line in [heading, *rest] if line.startswith("# ") and "pen " in line)
        modes, servers, acls = first.command("mode"), first.command("servers"), first.command("client_acl")
        first.stop()
        words = command_line.partition("pen ")[2].split()
        if "-F" not in words:
            words += ["-F", "saved.cfg"]
        assert "-f" in words
        second = lab.pen_as_typed(*words, listen=first.listen, control=os.path.basename(first.control))
        assert second.command("mode") == modes
        assert second.command("servers") == servers
        assert second.command("client_acl") == acls
        second.command("write again.cfg")
        assert configuration(lab.directory / "again.cfg") == configuration(lab.directory / "saved.cfg")
        assert (lab.directory / "again.cfg").read_text().splitlines()[1:] == rest, "no time in it"
        assert second.command("exit") == "", "-X is in the command line"

    def test_the_first_line_is_the_command_line(self, lab):
        pen = lab.pen(
            "-m", "50", "-q", "60", "-X", "-e", "127.0.0.1:81", "-B", "127.0.0.1:82", servers=lab.backends(1)
        )
        pen.command("write saved.cfg")
        first = (lab.directory / "saved.cfg").read_text().splitlines()[0]
        assert first.startswith("# ")
        for word in ("pen", "-m 50", "-q 60", "-X", "-e 127.0.0.1:81", "-B 127.0.0.1:82"):
            assert word in first

    def test_to_the_file_it_came_from(self, lab):
        lab.write("pen.cfg", "timeout 9\n")
        pen = lab.pen("-F", "pen.cfg")
        pen.command("blacklist 5")
        assert pen.command("write") == ""
        written = configuration(lab.directory / "pen.cfg")
        assert "timeout 9" in written
        assert "blacklist 5" in written

    def test_without_a_file(self, lab):
        reply = lab.pen().command("write")
        assert "write" in reply

    def test_it_is_replaced_atomically(self, lab):
        """Never opened for writing in place: another link to the old file keeps the old content."""
        path = lab.write("saved.cfg", "old\n")
        path.chmod(0o600)
        os.link(path, lab.directory / "link")
        pen = lab.pen()
        assert pen.command("write saved.cfg") == ""
        assert (lab.directory / "link").read_text() == "old\n"
        assert "timeout 3" in configuration(path)
        assert [name for name in os.listdir(lab.directory) if "saved" in name] == ["saved.cfg"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_what_lies_ready_is_not_written_to(self, lab):
        """Under the name of the new file, which can be guessed: a link to somebody's file, a pipe."""
        victim, pen = lab.write("victim", "precious\n"), lab.pen()
        new = lab.directory / f"saved.cfg.{pen.pid}.new"
        for lay in (lambda: new.symlink_to(victim), lambda: os.link(victim, new), lambda: os.mkfifo(new)):
            lay()
            assert pen.command("write saved.cfg") == ""
            assert "timeout 3" in configuration(lab.directory / "saved.cfg")
        assert victim.read_text() == "precious\n"

    def test_a_link_stays_a_link(self, lab):
        lab.write("real.cfg", "old\n")
        (lab.directory / "pen.cfg").symlink_to("real.cfg")
        pen = lab.pen("-F", "pen.cfg")
        assert pen.command("write") == ""
        assert os.readlink(lab.directory / "pen.cfg") == "real.cfg"
        assert "timeout 3" in configuration(lab.directory / "real.cfg")

    @needs("root")
    def test_it_stays_its_owners(self, lab):
        """And what somebody else has put in the way is not written to."""
        path = lab.write("saved.cfg", "old\n")
        os.chown(path, 65534, 65534)
        path.chmod(0o604)
        pen = lab.pen()
        trap = lab.write(f"saved.cfg.{pen.pid}.new", "trap\n")
        os.link(trap, lab.directory / "link")
        assert pen.command("write saved.cfg") == ""
        assert "timeout 3" in configuration(path)
        assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (
            65534,
            65534,
            0o604,
        )
        assert (lab.directory / "link").read_text() == "trap\n"

    @needs("root")
    def test_a_device_stays_a_device(self, lab):
        """`-w /dev/null` must not be the end of /dev/null."""
        device = lab.directory / "null"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        pen = lab.pen("-w", "null")
        assert pen.command("write null") == ""
        assert "</html>" in pen.command("status")
        assert stat.S_ISCHR(device.stat().st_mode)
        assert pen.err == ""

    def test_names_with_blanks(self, lab):
        """No command can say them: they are in the command line."""
        pen = lab.pen("-l", "my pen.log", "-w", "#1.html", servers=lab.backends(1))
        assert pen.command("write saved.cfg") == ""
        heading = (lab.directory / "saved.cfg").read_text().splitlines()[0]
        pen.stop()
        _, _, *words = shlex.split(heading)
        again = lab.pen_as_typed(*words, listen=pen.listen, control=os.path.basename(pen.control))
        assert (again.command("log"), again.command("web_stats")) == ("my pen.log\n", "#1.html\n")
        assert again.err == ""

    def test_servers_whose_sockets_have_blanks_in_their_names(self, lab):
        a, b = (lab.backend(path=str(lab.directory / name)) for name in ("a", "b b"))
        pen = lab.pen("-r", servers=[f"{a.path}:0:5", f"{b.path}:0:6:7:8:9"])
        assert pen.asks(2) == ["s0", "s1"]
        pen.command(f"server 2 address {a.path} weight 3")
        before = pen.command("servers")
        pen.command("write saved.cfg")
        heading = (lab.directory / "saved.cfg").read_text().splitlines()[0]
        pen.stop()
        _, _, *words = shlex.split(heading)
        again = lab.pen_as_typed(*words, listen=pen.listen, control=os.path.basename(pen.control))
        assert again.err == ""
        assert [line.partition(" sx ")[0] for line in again.command("servers").splitlines()] == [
            line.partition(" sx ")[0] for line in before.splitlines()
        ]
        assert again.asks(2) == ["s0", "s1"]
        reload(again)
        assert again.err == ""
        assert again.command("servers").count(b.path) == 1

    def test_a_failure_leaves_the_old_one(self, lab):
        disk = lab.directory / "disk"
        disk.mkdir()
        pen = lab.pen()
        before = os.listdir(lab.directory)
        assert pen.command("write disk") == "do_cmd: write: disk: Is a directory\n"
        assert os.listdir(lab.directory) == before
        assert not list(disk.iterdir())

    def test_a_pen_of_defaults(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        pen.command("write saved.cfg")
        written = configuration(lab.directory / "saved.cfg")
        defaults = {
            f"no {name}" for name in ("hash", "roundrobin", "stubborn", "weight", "prio", "log", "ascii")
        }
        defaults |= {"timeout 3", "blacklist 30", "tracking 0", "tcp_fastclose off", "no web_stats"}
        assert defaults <= set(written)
        assert pen.stop() == 0
        fresh = lab.pen("-F", "saved.cfg", listen=pen.listen)
        assert fresh.err == ""
        assert fresh.ask() == "s0"


def test_quick_changes_while_clients_come(lab):
    """Commands change what the next client sees, and disturb none."""
    pen = lab.pen("-r", servers=lab.backends(2))
    for number in range(30):
        pen.command(f"server {number % 2} blacklist {number % 3}")
        assert pen.ask() in ("s0", "s1", "")
    pen.command("server 0 blacklist 0")
    pen.command("server 1 blacklist 0")
    let_pass(0.01)
    assert sorted(pen.asks(2)) == ["s0", "s1"]
