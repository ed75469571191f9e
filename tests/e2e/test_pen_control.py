"""The control port: who gets one, who may use it, and what its clients can not do to the traffic."""

import os
import socket
import stat
import time

import pytest
from support.client import Client
from support.network import mounted
from support.pen import control_options
from support.ports import free_port, listening_hosts
from support.process import open_files
from support.programs import needs
from support.waiting import wait_until

REFUSAL = "Won't open control port running as root; use -u to run as different user"


def answer(address, line=b"pid\n", source=""):
    with Client(address, source) as client:
        return client.send(line).rest().decode()


class TestRoot:
    @needs("root")
    @pytest.mark.parametrize("control", ["127.0.0.1:PORT", "PORT", "./ctl"])
    def test_without_u_there_is_none_but_pen_runs(self, lab, control):
        port = free_port()
        pen = lab.pen("-C", control.replace("PORT", str(port)), servers=lab.backends(1), control="")
        pen.says(f"{REFUSAL}$")
        assert pen.ask() == "s0"
        assert not listening_hosts(pen.pid, port)
        assert not (lab.directory / "ctl").exists()

    @needs("root")
    def test_u_root_insists(self, lab):
        port = free_port()
        pen = lab.pen("-u", "root", "-C", f"127.0.0.1:{port}", servers=lab.backends(1), control="")
        assert answer(("127.0.0.1", port)) == f"{pen.pid}\n"
        assert REFUSAL not in pen.err

    @needs("root", "unshare")
    def test_others_need_no_u(self, lab):
        """In a user namespace where we are user 1000."""
        port = free_port()
        ordinary = ["unshare", "--user", "--map-user=1000"]
        pen = lab.pen("-C", f"127.0.0.1:{port}", servers=lab.backends(1), control="", wrap=ordinary)
        assert answer(("127.0.0.1", port)) == f"{pen.pid}\n"


class TestWhere:
    def test_a_port_alone_is_for_this_machine_only(self, lab):
        """The original opened it to everybody."""
        port = free_port()
        pen = lab.pen(*control_options(str(port)), servers=lab.backends(1), control="")
        hosts = wait_until(lambda: listening_hosts(pen.pid, port))
        assert hosts <= {"127.0.0.1", "::1"}
        assert answer(("127.0.0.1", port)) == f"{pen.pid}\n"

    def test_an_address_opens_it(self, lab):
        port = free_port()
        pen = lab.pen(*control_options(f"0.0.0.0:{port}"), servers=lab.backends(1), control="")
        assert answer(("127.0.0.9", port)) == f"{pen.pid}\n"

    @needs("ipv6")
    def test_ipv6(self, lab):
        port = free_port()
        pen = lab.pen(*control_options(f"[::1]:{port}"), servers=lab.backends(1), control="")
        assert answer(("::1", port)) == f"{pen.pid}\n"
        assert answer(("::1", port), b"control\n") == f"[::1]:{port}\n"

    def test_a_unix_socket_is_for_its_owner_only(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        assert stat.S_IMODE(os.stat(pen.control).st_mode) == 0o600
        assert pen.command("pid") == f"{pen.pid}\n"
        assert pen.stop() == 0
        assert not os.path.exists(pen.control)

    def test_one_that_is_taken(self, lab):
        taken = lab.backend()
        pen = lab.pen(*control_options(str(taken)), control="", wait=False)
        assert pen.wait() == 1
        (line,) = pen.err.splitlines()
        assert str(taken) in line
        assert line.endswith("Address already in use")


class TestWho:
    def test_nobody_else_when_the_list_says_so(self, lab):
        port = free_port()
        options = [
            *control_options(f"127.0.0.1:{port}"),
            "-O",
            "acl 4 permit 127.0.0.21",
            "-O",
            "control_acl 4",
        ]
        pen = lab.pen(*options, control="")
        assert answer(("127.0.0.1", port), source="127.0.0.21") == f"{pen.pid}\n"
        with Client(("127.0.0.1", port), "127.0.0.22") as client:
            assert client.ended()

    def test_a_denied_client_is_reset(self, lab):
        """An end without a word would be the reply to a command that was carried out."""
        port = free_port()
        options = [*control_options(f"127.0.0.1:{port}"), "-O", "acl 0 deny 127.0.0.1"]
        lab.pen(*options, servers=lab.backends(1), control="")
        with Client(("127.0.0.1", port)) as client, pytest.raises(ConnectionResetError):
            client.send(b"roundrobin\n").rest()

    def test_denied_clients_that_say_nothing_are_not_kept(self, lab):
        port = free_port()
        options = [*control_options(f"127.0.0.1:{port}"), "-O", "acl 0 deny 127.0.0.21"]
        pen = lab.pen(*options, control="")
        before = len(open_files(pen.pid))
        clients = [lab.client(("127.0.0.1", port), "127.0.0.21") for _ in range(200)]
        assert answer(("127.0.0.1", port)) == f"{pen.pid}\n"
        assert all(client.ended() for client in clients)
        wait_until(lambda: len(open_files(pen.pid)) <= before)

    def test_list_0_is_the_default(self, lab):
        port = free_port()
        options = [*control_options(f"127.0.0.1:{port}"), "-O", "acl 0 deny 127.0.0.21"]
        pen = lab.pen(*options, control="")
        with Client(("127.0.0.1", port), "127.0.0.21") as client:
            assert client.ended()
        assert answer(("127.0.0.1", port), source="127.0.0.22") == f"{pen.pid}\n"

    def test_a_unix_socket_is_no_matter_of_addresses(self, lab):
        pen = lab.pen("-O", "acl 0 deny 0.0.0.0/0")
        assert pen.command("pid") == f"{pen.pid}\n"


class TestProtocol:
    def test_one_connection_is_one_command(self, lab):
        pen = lab.pen()
        with Client(pen.control) as client:
            assert client.send(b"timeout 9\ntimeout 8\n").rest() == b"9\n"
        assert pen.command("timeout") == "9\n"

    def test_a_line_that_comes_in_pieces(self, lab):
        pen = lab.pen()
        with Client(pen.control) as client:
            for byte in b"timeout 9\n":
                client.send(bytes([byte]))
            assert client.rest() == b"9\n"

    def test_a_line_without_end(self, lab):
        pen = lab.pen()
        with Client(pen.control) as client:
            assert client.send(b"timeout 9").shut().rest() == b"9\n"

    @pytest.mark.parametrize("size", [4097, 5000, 100_000, 500_000])
    def test_a_line_that_is_too_long_is_answered(self, lab, size):
        """All of it is read, lest a reset take the answer back."""
        pen = lab.pen()
        with Client(pen.control) as client:
            assert client.send(b"x" * size + b"\n").rest() == b"do_cmd: command line too long\n"

    @pytest.mark.parametrize("name", [b"a\xff\xe5", "caf\xe9\xa0\u3000.log".encode(), b"a\x1bb"])
    def test_names_are_bytes(self, lab, name):
        """No byte beyond ASCII is a blank, and none is written in another way."""
        pen = lab.pen()
        with Client(pen.control) as client:
            assert client.send(b"log " + name + b"\n").rest() == name + b"\n"
        assert name in os.listdir(os.fsencode(lab.directory))

    def test_a_nul_is_refused(self, lab):
        pen = lab.pen()
        for command in ("log a\0b", "web_stats \0", "include \0", "write a\0", "server 0 address /\0"):
            assert "NUL" in pen.command(command), command
        assert pen.err == ""

    def test_a_client_that_says_nothing_and_goes(self, lab):
        pen = lab.pen()
        for _ in range(10):
            Client(pen.control).close()
        assert pen.command("pid") == f"{pen.pid}\n"

    @pytest.mark.parametrize(
        "garbage",
        [b"\0\n", b"\xff\xfe\xfd\n", b"\x1b[2J\n", b"x" * 100_000 + b"\n", b"\n", b"\r\n", b"no\n",
         b"GET / HTTP/1.1\r\n\r\n", b"\xe5\xe4\xf6 1\n", b"server \0 max 1\n", b"no no no\n",
         b"acl 1 permit " + b"9" * 5000 + b"\n"],
        ids=range(12),
    )  # fmt: skip
    def test_garbage(self, lab, garbage):
        pen = lab.pen(servers=lab.backends(1))
        with Client(pen.control) as client:
            try:
                reply = client.send(garbage).rest()
            except (ConnectionResetError, BrokenPipeError):
                reply = b""
        assert b"Traceback" not in reply
        assert not [byte for byte in reply if byte < 0x20 and byte != 0x0A], "no control characters come back"
        assert pen.command("pid") == f"{pen.pid}\n"
        assert pen.ask() == "s0"
        assert "internal error" not in pen.err

    def test_garbage_without_end_is_not_kept(self, lab):
        pen = lab.pen()
        with Client(pen.control) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.send(b"x" * 50_000_000)

    def test_a_long_reply_to_a_slow_reader(self, lab):
        pen = lab.pen(servers=[f"127.0.0.1:{port}" for port in range(1000, 3000)])
        with Client(pen.control) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.send(b"servers\n")
            assert pen.command("pid") == f"{pen.pid}\n"
            assert client.rest().count(b"\n") == 2000


class TestTraffic:
    def test_clients_that_say_nothing_never_delay_it(self, lab):
        pen = lab.pen("-r", servers=lab.backends(1))
        silent = [lab.client(pen.control) for _ in range(50)]
        began = time.monotonic()
        assert pen.asks(20) == ["s0"] * 20
        assert time.monotonic() - began < 5
        assert pen.command("pid") == f"{pen.pid}\n"
        assert len(silent) == 50

    def test_more_than_it_takes(self, lab):
        pen = lab.pen("-r", servers=lab.backends(1))
        silent = [lab.client(pen.control) for _ in range(300)]
        assert pen.asks(5) == ["s0"] * 5
        assert pen.command("pid") == f"{pen.pid}\n"
        assert len(silent) == 300
        assert len(open_files(pen.pid)) < 150, "the oldest had to go"

    def test_a_name_that_resolves_slowly_never_delays_it(self, lab, network):
        """The only name server is a hole."""
        conf = lab.write("resolv.conf", "nameserver 127.0.0.53\noptions timeout:3 attempts:1\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
            hole.bind(("127.0.0.53", 53))
            wrap = mounted(conf, "/etc/resolv.conf")
            pen = lab.pen("-r", servers=lab.backends(1), wrap=wrap)
            with Client(pen.control) as client:
                client.send(b"server 1 address slow.example port 80\n")
                began = time.monotonic()
                assert pen.asks(10) == ["s0"] * 10
                assert time.monotonic() - began < 2
                assert b"slow.example" in client.rest()
