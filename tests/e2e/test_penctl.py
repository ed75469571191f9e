"""penctl: what it sends, what it prints, how it ends."""

import time

import pytest
from support.backend import CHUNK
from support.network import mounted, names
from support.pen import control_options
from support.ports import free_port
from support.process import run
from support.programs import needs, tool
from support.waiting import let_pass


class Fake:
    """A pen that answers every line with `reply`, and keeps what it was sent."""

    def __init__(self, lab, reply, **options):
        self.lines = []
        self.backend = lab.backend(self.talk, **options)
        self.reply = reply

    def talk(self, conn, backend):
        line = b""
        while not line.endswith(b"\n"):
            data = conn.recv(CHUNK)
            if not data:
                break
            line += data
        self.lines.append(line)
        conn.sendall(self.reply)

    def __str__(self):
        return str(self.backend)


class TestSends:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["pid"], b"pid\n"),
            (["server", "0", "max", "5"], b"server 0 max 5\n"),
            (["server 0 max 5"], b"server 0 max 5\n"),
            (["-h"], b"-h\n"),
            (["--help"], b"--help\n"),
            (["--"], b"--\n"),
            (["acl", "1", "permit", "--version"], b"acl 1 permit --version\n"),
            (["a", "", "b"], b"a  b\n"),
            (["log", "/tmp/åäö"], "log /tmp/åäö\n".encode()),
            (["x" * 3000], b"x" * 3000 + b"\n"),
        ],
    )
    def test_the_words_joined_by_spaces_and_a_newline(self, lab, words, line):
        pen = Fake(lab, b"ok\n")
        assert lab.penctl(pen, *words) == (0, "ok\n", "")
        assert pen.lines == [line]

    def test_bytes_that_are_no_text(self, lab):
        pen = Fake(lab, b"\xff\xfe\n")
        done = run([*(word.encode() for word in tool("penctl")), str(pen).encode(), b"log", b"\xff\xe5"])
        assert (done.code, done.out.encode("utf-8", "surrogateescape")) == (0, b"\xff\xfe\n")
        assert pen.lines == [b"log \xff\xe5\n"]


class TestReply:
    def test_none(self, lab):
        assert lab.penctl(Fake(lab, b""), "roundrobin") == (0, "", "")

    def test_as_it_comes(self, lab):
        """No newline added, none taken."""
        reply = "a\n\nb\r\n\x1b[1mc"
        assert lab.penctl(Fake(lab, reply.encode()), "x") == (0, reply, "")

    def test_long(self, lab):
        reply = b"0123456789abcde\n" * 100_000
        done = lab.penctl(Fake(lab, reply), "servers")
        assert (done.code, done.out == reply.decode(), done.err) == (0, True, "")

    def test_in_pieces(self, lab):
        def talk(conn, backend):
            conn.recv(100)
            for piece in (b"one ", b"two ", b"three\n"):
                conn.sendall(piece)

        assert lab.penctl(lab.backend(talk), "x") == (0, "one two three\n", "")

    @pytest.mark.parametrize(
        "reply",
        ["do_cmd: ignoring command starting with 'x'", "Exit is not enabled; restart with -X flag",
         "unable to set source address to 'x'", "Connection 600 out of range"],
    )  # fmt: skip
    def test_an_error_is_exit_1(self, lab, reply):
        assert lab.penctl(Fake(lab, reply.encode() + b"\n"), "x") == (1, reply + "\n", "")

    def test_a_page_about_connections_is_no_error(self, lab):
        reply = "0 addr 1.2.3.4\n1 addr 1.2.3.5\nConnection 7:\nstate = 2\n"
        assert lab.penctl(Fake(lab, reply.encode()), "x") == (0, reply, "")


class TestFailure:
    def test_nobody_there(self, lab):
        refusing = lab.refusing()
        done = lab.penctl(refusing, "pid")
        assert (done.code, done.out) == (1, "")
        (line,) = done.err.splitlines()
        assert line.startswith("penctl: ")
        assert str(refusing) in line
        assert line.endswith("Connection refused")

    def test_no_such_socket(self, lab):
        done = lab.penctl("./ctl", "pid")
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith("No such file or directory\n")

    def test_a_name_that_does_not_resolve(self, lab, network):
        done = lab.run_words([*names({}, lab.directory), *tool("penctl"), "nosuchhost:80", "pid"])
        assert (done.code, done.out) == (1, "")
        assert "nosuchhost" in done.err
        assert len(done.err.splitlines()) == 1

    @pytest.mark.parametrize("drips", [False, True])
    def test_no_end_of_reply_for_ten_seconds(self, lab, drips):
        """Also if something comes now and then."""

        def talk(conn, backend):
            conn.sendall(b"half a re")
            conn.recv(100)
            while drips:
                conn.sendall(b".")
                let_pass(1)
            conn.recv(100)

        server = lab.backend(talk)
        began = time.monotonic()
        done = lab.penctl(server, "pid")
        assert time.monotonic() - began > 9
        assert (done.code, done.out.rstrip(".")) == (1, "half a re")
        assert done.err.startswith("penctl: ")
        assert len(done.err.splitlines()) == 1

    def test_the_connection_is_reset(self, lab):
        def talk(conn, backend):
            conn.recv(1)

        done = lab.penctl(lab.backend(talk), "pid")
        assert (done.code, done.out) == (1, "")
        assert "reset" in done.err

    @needs("sh")
    def test_a_closed_stdout_ends_it_quietly(self, lab):
        pen = Fake(lab, b"0123456789abcde\n" * 100_000)
        words = " ".join(tool("penctl"))
        done = run(["sh", "-c", f"{words} {pen} servers | head -n 1"], cwd=lab.directory)
        assert done == (0, "0123456789abcde\n", "")


class TestUsage:
    def test_help(self, lab):
        done = lab.penctl("--help")
        assert (done.code, done.err) == (0, "")
        assert "usage:" in done.out.lower()

    def test_help_of_pen_explains_the_commands(self, lab):
        """`penctl ADDRESS help`, from the same table that carries them out."""
        explained = lab.penctl(lab.pen().control, "help").out
        for command in ("blacklist [N]", "server N", "tcp_fastclose up|down|both|off", "write [FILE]"):
            assert command in explained

    def test_h_is_help(self, lab):
        assert lab.penctl("-h") == lab.penctl("--help")

    def test_version(self, lab):
        done = lab.penctl("--version")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("penctl ")

    @pytest.mark.parametrize(
        ("words", "named"),
        [([], ""), (["127.0.0.1:1"], ""), (["-x", "127.0.0.1:1", "pid"], "-x"),
         (["127.0.0.1", "pid"], "127.0.0.1"), (["127.0.0.1:99999", "pid"], "99999"),
         (["::1:x", "pid"], "::1:x")],
    )  # fmt: skip
    def test_wrong(self, lab, words, named):
        done = lab.penctl(*words)
        assert (done.code, done.out) == (2, "")
        complaint, usage, *_ = done.err.splitlines()
        assert complaint.startswith("penctl: ")
        assert named in complaint
        assert usage.lower().startswith("usage:")


class TestWithPen:
    def test_over_a_unix_socket(self, lab):
        pen = lab.pen()
        assert lab.penctl(pen.control, "pid") == (0, f"{pen.pid}\n", "")

    def test_by_relative_name(self, lab):
        pen = lab.pen()
        assert lab.penctl(f"./{pen.name}.ctl", "pid").out == f"{pen.pid}\n"

    def test_over_tcp_by_name_and_service(self, lab, network):
        hosts = names({"lbhost": "127.0.0.5"}, lab.directory)
        pen = lab.pen("-C", "127.0.0.5:110", "-u", "root", control="")
        done = lab.run_words([*hosts, *tool("penctl"), "lbhost:pop3", "pid"])
        assert done == (0, f"{pen.pid}\n", "")

    @needs("ipv6")
    @pytest.mark.parametrize("form", ["[::1]:8888", "::1:8888"])
    def test_over_ipv6(self, lab, network, form):
        pen = lab.pen("-C", "[::1]:8888", "-u", "root", control="")
        assert lab.penctl(form, "pid").out == f"{pen.pid}\n"

    def test_a_name_with_several_addresses(self, lab, network):
        """localhost, whose ::1 refuses."""
        hosts = lab.write("hosts", "::1 lbhost\n127.0.0.5 lbhost\n")
        wrap = mounted(hosts, "/etc/hosts")
        pen = lab.pen("-C", "127.0.0.5:8888", "-u", "root", control="")
        assert lab.run_words([*wrap, *tool("penctl"), "lbhost:8888", "pid"]).out == f"{pen.pid}\n"

    @pytest.mark.parametrize(
        ("command", "code"),
        [("mode", 0), ("status", 0), ("servers", 0), ("roundrobin", 0), ("timeout 7", 0), ("connection 0", 0),
         ("nonsense", 1), ("timeout x", 1), ("close 999999", 1), ("exit", 1), ("source 1.2.3", 1),
         ("server 0 frob 1", 1), ("include no/such/file", 1), ("write", 1), ("listen 192.0.2.1:80", 1)],
    )  # fmt: skip
    def test_exit_status(self, lab, command, code):
        pen = lab.pen("-x", "20")
        assert lab.penctl(pen.control, command).code == code
        assert lab.penctl(pen.control, *command.split()).code == code

    def test_a_client_that_the_list_denies(self, lab):
        """It is reset, which is no reply at all: an error, not an empty success."""
        port = free_port()
        options = ["-O", "acl 1 permit 10.0.0.1", "-O", "control_acl 1"]
        lab.pen(*control_options(f"127.0.0.1:{port}"), *options, servers=lab.backends(1), control="")
        for command in ("pid", "roundrobin"):
            done = lab.penctl(f"127.0.0.1:{port}", command)
            assert (done.code, done.out) == (1, "")
            (line,) = done.err.splitlines()
            assert line.startswith(f"penctl: 127.0.0.1:{port}: ")
