"""The control commands, as far as what they are about exists: replies letter by letter, and effects."""

import re

import pytest
from support.network import names
from support.ports import free_port, listens
from support.waiting import let_pass


def replies(pen, *commands):
    """The reply to each, in their order."""
    return [(command, pen.command(command)) for command in commands]


def check(pen, *expected):
    """Each command replies just that."""
    assert replies(pen, *(command for command, _ in expected)) == list(expected)


class TestSilent:
    @pytest.mark.parametrize(
        "command",
        ["abort_on_error", "ascii", "block", "delayed_forward", "dummy", "hash", "http", "keepalive", "peek",
         "prio", "roundrobin", "stubborn", "tcp_nodelay", "weight"],
    )  # fmt: skip
    def test_switches(self, lab, command):
        check(lab.pen(), (command, ""), (f"no {command}", ""))

    def test_others(self, lab):
        check(
            lab.pen(),
            ("acl 1 permit 10.0.0.1", ""),
            ("acl 1 deny 10.0.0.0 255.0.0.0", ""),
            ("acl 2 permit fd00::/8", ""),
            ("no acl 1", ""),
            ("no acl 9", ""),
            ("server 0 address 127.0.0.1 port 80 max 1 hard 2 weight 3 prio 4 acl 5 blacklist 6", ""),
            ("server 7", ""),
            ("source 127.0.0.1", ""),
            ("pending_max 20", ""),
            ("tcp_fastclose up", ""),
            ("tcp_fastclose down", ""),
            ("tcp_fastclose both", ""),
            ("tcp_fastclose off", ""),
            ("no log", ""),
            ("no web_stats", ""),
            ("", ""),
            ("   ", ""),
            ("# a comment", ""),
        )


class TestNumbers:
    @pytest.mark.parametrize(
        ("command", "default"),
        [
            ("blacklist", 30),
            ("timeout", 3),
            ("tracking", 0),
            ("client_acl", 0),
            ("control_acl", 0),
            ("debug", 0),
        ],
    )
    def test_shown_and_set(self, lab, command, default):
        pen = lab.pen()
        check(pen, (command, f"{default}\n"), (f"{command} 2", "2\n"), (command, "2\n"))

    @pytest.mark.parametrize(("command", "default"), [("clients_max", 2048), ("conn_max", 500)])
    def test_that_only_grow(self, lab, command, default):
        check(
            lab.pen(),
            (command, f"{default}\n"),
            (f"{command} {default + 100}", f"{default + 100}\n"),
            (f"{command} 10", f"{default + 100}\n"),
            (command, f"{default + 100}\n"),
        )

    def test_the_largest(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        largest = 2**31 - 1
        for command in ("blacklist", "timeout", "tracking", "clients_max", "debug"):
            check(pen, (f"{command} {largest}", f"{largest}\n"))
            reply = pen.command(f"{command} {largest + 1}")
            assert f"'{largest + 1}' is too large" in reply
        check(pen, (f"idle_timeout 000{largest}", f"Idle timeout: {largest} seconds\n"), ("debug 0", "0\n"))
        for command in (f"server 0 max {largest} blacklist {largest}", "server 0 blacklist 0"):
            check(pen, (command, ""))
        assert pen.ask() == "s0"
        assert "internal error" not in pen.err

    def test_idle_timeout(self, lab):
        check(
            lab.pen(),
            ("idle_timeout", "Idle timeout: 0 seconds\n"),
            ("idle_timeout 9", "Idle timeout: 9 seconds\n"),
            ("idle_timeout", "Idle timeout: 9 seconds\n"),
        )

    @pytest.mark.parametrize(
        ("option", "value", "command", "reply"),
        [("-b", "7", "blacklist", "7\n"), ("-t", "7", "timeout", "7\n"), ("-T", "7", "tracking", "7\n"),
         ("-c", "7", "clients_max", "7\n"), ("-x", "7", "conn_max", "7\n"),
         ("-w", "x.html", "web_stats", "x.html\n"), ("-l", "x.log", "log", "x.log\n")],
    )  # fmt: skip
    def test_set_by_options(self, lab, option, value, command, reply):
        assert lab.pen(option, value).command(command) == reply


class TestMode:
    def test_all_off(self, lab):
        assert lab.pen().command("mode") == "no hash no roundrobin no stubborn no weight no prio\n"

    def test_all_on(self, lab):
        pen = lab.pen("-h", "-r", "-s", "-W", "-O", "prio")
        assert pen.command("mode") == "hash roundrobin stubborn weight prio\n"

    @pytest.mark.parametrize("name", ["hash", "roundrobin", "stubborn", "weight", "prio"])
    def test_each(self, lab, name):
        pen = lab.pen()
        off = pen.command("mode")
        pen.command(name)
        assert pen.command("mode") == off.replace(f"no {name}", name)
        pen.command(f"no {name}")
        assert pen.command("mode") == off


class TestConnections:
    def test_connection_and_socket(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        client = pen.client()
        assert client.line() == "s0"
        shown = pen.command("connection 0")
        match = re.fullmatch(
            r"Connection 0:\nstate = \d+\ndownfd = (\d+), upfd = (\d+)\nclient = 0, server = 0\npend = 0\n",
            shown,
        )
        assert match, shown
        for descriptor in match.groups():
            assert pen.command(f"socket {descriptor}") == f"Socket {descriptor} belongs to connection 0\n"
        assert pen.command("socket -1") == "Socket -1 belongs to connection -1\n"
        assert pen.command("socket 1") == "Socket 1 belongs to connection -1\n"
        assert pen.command("socket 99999") == "Socket 99999 belongs to connection -1\n"

    def test_a_connection_that_is_not_there(self, lab):
        pen = lab.pen("-x", "20")
        assert pen.command("connection 3").startswith("Connection 3:\n")
        assert "downfd = -1, upfd = -1" in pen.command("connection 3")
        for number in ("20", "-1", "99999999999"):
            assert pen.command(f"connection {number}") == f"Connection {number} out of range\n"
            assert pen.command(f"close {number}") == f"Connection {number} out of range\n"

    def test_the_clients_number_is_that_of_the_status_page(self, lab):
        """As in pen 0.34.1: its place in the table of clients, which one that goes leaves to the next."""
        pen = lab.pen("-c", "2", servers=lab.backends(1))
        for source in ("127.0.0.7", "127.0.0.8", "127.0.0.7", "127.0.0.9"):
            assert pen.client(source=source).line() == "s0"
        shown = [pen.command(f"connection {number}").splitlines()[3] for number in range(4)]
        assert shown == [f"client = {number}, server = 0" for number in (0, 1, 0, 1)]
        clients = pen.command("status").partition("Active clients")[2]
        assert re.findall(r'<tr><td>(\d+)</td><td class="text">([0-9.]+)</td>', clients) == [
            ("1", "127.0.0.9"),
            ("0", "127.0.0.7"),
        ]

    def test_close(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        first, second = pen.client(), pen.client()
        assert [first.line(), second.line()] == ["s0", "s1"]
        assert pen.command("close 0") == "Forcibly closing connection 0\n"
        assert first.ended()
        assert second.talk(b"still here") == b"still here"
        assert pen.command("close 500") == "Connection 500 out of range\n"
        assert pen.command("close 499") == "Forcibly closing connection 499\n"

    def test_close_of_one_that_still_waits_for_its_server(self, lab):
        pen = lab.pen("-t", "60", servers=[lab.hole()])
        client = pen.client()
        pen.wait_connections(1)
        assert pen.command("close 0") == "Forcibly closing connection 0\n"
        assert client.ended()
        assert pen.connections() == 0


class TestServers:
    def test_counters(self, lab):
        """sx is what went to the server, rx what came from it; recent sees it from the client's side."""
        server = lab.backend()
        pen = lab.pen(servers=[server])
        client = pen.client(source="127.0.0.7")
        assert client.line() == "s0"  # 3 bytes
        assert client.talk(b"1234567") == b"1234567"
        line = f"0 addr 127.0.0.1 port {server.port} conn {{}} max 0 hard 0 weight 0 prio 0 sx 7 rx 10\n"
        assert pen.command("servers") == line.format(1)
        client.close()
        pen.wait_connections(0)
        assert pen.command("servers") == line.format(0)
        assert pen.command("recent") == "127.0.0.7 connects 1 sx 10 rx 7\n"

    def test_none(self, lab):
        check(lab.pen(), ("servers", ""))

    def test_changed_and_created(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a])
        pen.command(f"server 1 address 127.0.0.1 port {b.port} max 5 hard 6 weight 7 prio 8")
        assert pen.command("servers").splitlines()[1] == (
            f"1 addr 127.0.0.1 port {b.port} conn 0 max 5 hard 6 weight 7 prio 8 sx 0 rx 0"
        )
        assert sorted(pen.asks(2)) == ["s0", "s1"]
        pen.command("server 1 max 50 weight 0")
        assert " max 50 hard 6 weight 0 prio 8 " in pen.command("servers")

    def test_moved(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a])
        assert pen.ask() == "s0"
        pen.command(f"server 0 port {b.port}")
        assert pen.ask() == "s1"
        pen.command(f"server 0 address 127.0.0.1 port {a.port}")
        assert pen.ask() == "s0"

    def test_a_connection_outlives_its_servers_move(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a])
        client = pen.client()
        assert client.line() == "s0"
        pen.command(f"server 0 port {b.port}")
        assert client.talk(b"still here") == b"still here"

    def test_to_a_unix_socket_and_ipv6(self, lab):
        unix = lab.backend(path=f"{lab.directory}/s.sock")
        six = lab.backend(host="::1")
        pen = lab.pen("-r")
        pen.command(f"server 0 address {unix.path}")
        assert pen.ask() == "s0"
        pen.command(f"server 0 address ::1 port {six.port}")
        assert pen.ask() == "s1"

    def test_by_name(self, lab, network):
        lab.backend(host="127.0.1.7", port=8001)
        pen = lab.pen("-r", wrap=names({"www1": "127.0.1.7"}, lab.directory))
        assert pen.command("server 0 address www1 port 8001") == ""
        assert pen.ask() == "s0"
        assert pen.servers()[0]["addr"] == "127.0.1.7"

    def test_a_name_that_does_not_resolve_changes_nothing(self, lab, network):
        server = lab.backend(port=8001)
        pen = lab.pen("-r", servers=[server], wrap=names({}, lab.directory))
        reply = pen.command("server 0 address nosuchhost port 8002")
        assert "nosuchhost" in reply
        assert pen.ask() == "s0"

    def test_without_an_address(self, lab):
        """It is there, in the form of the others, and is not tried; write and read keep it."""
        pen = lab.pen("-r", servers=[server := lab.backend()])
        check(pen, ("server 2 max 4", ""), ("server 3 port 5", ""))
        rows = [(row["number"], row["addr"], row["port"], row["max"]) for row in pen.servers()]
        assert rows == [("0", "127.0.0.1", str(server.port), "0"), ("2", "-", "0", "4"), ("3", "-", "5", "0")]
        assert pen.asks(3) == ["s0"] * 3
        pen.command("write saved.cfg")
        again = lab.pen("-F", "saved.cfg")
        assert again.err == ""
        assert again.servers()[1:] == pen.servers()[1:]
        check(again, (f"server 3 address 127.0.0.1 port {server.port}", ""))

    def test_gaps_are_no_servers(self, lab):
        """Server 5 alone: selection and `servers` know of one."""
        server = lab.backend()
        pen = lab.pen("-r")
        pen.command(f"server 5 address 127.0.0.1 port {server.port}")
        assert pen.asks(3) == ["s0"] * 3
        assert [
            line.split()[0] for line in pen.command("servers").splitlines() if " port 0 " not in line
        ] == ["5"]


class TestRecent:
    def test_connects_and_bytes(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        for source in ("127.0.0.7", "127.0.0.8", "127.0.0.7"):
            with pen.client(source=source) as client:
                client.line()
                client.talk(b"12345")
        pen.wait_connections(0)
        assert sorted(pen.command("recent").splitlines()) == [
            "127.0.0.7 connects 2 sx 16 rx 10",
            "127.0.0.8 connects 1 sx 8 rx 5",
        ]

    def test_not_longer_ago(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        pen.ask("127.0.0.7")
        let_pass(2.1)
        pen.ask("127.0.0.8")
        assert pen.command("recent 1") == "127.0.0.8 connects 1 sx 3 rx 0\n"
        assert len(pen.command("recent 60").splitlines()) == 2


class TestListen:
    def test_shows(self, lab):
        pen = lab.pen()
        assert pen.command("listen") == f"{pen.listen}\n"

    def test_rebinds(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        connected = pen.client()
        assert connected.line() == "s0"
        before, after = pen.address, ("127.0.0.1", free_port())
        assert pen.command(f"listen 127.0.0.1:{after[1]}") == f"127.0.0.1:{after[1]}\n"
        assert pen.command("listen") == f"127.0.0.1:{after[1]}\n"
        assert not listens(pen.pid, before[1])
        assert connected.talk(b"still here") == b"still here"
        pen.address = after
        assert pen.ask() == "s0"

    def test_a_failing_rebind_keeps_the_old_listener(self, lab):
        """The original ended."""
        pen = lab.pen(servers=[taken := lab.backend()])
        for bad in (str(taken), "192.0.2.1:80", "127.0.0.1:99999", "nonsense"):
            reply = pen.command(f"listen {bad}")
            assert bad in reply
            assert pen.command("listen") == f"{pen.listen}\n"
            assert pen.ask() == "s0"

    def test_the_same_again(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        assert pen.command(f"listen {pen.listen}") == f"{pen.listen}\n"
        assert pen.ask() == "s0"

    def test_to_a_unix_socket_and_back(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        port = pen.address
        pen.command(f"listen {lab.directory}/new.sock")
        pen.address = f"{lab.directory}/new.sock"
        assert pen.ask() == "s0"
        pen.command(f"listen {pen.listen}")
        pen.address = port
        assert pen.ask() == "s0"
        assert not (lab.directory / "new.sock").exists()


class TestOthers:
    def test_pid(self, lab):
        pen = lab.pen()
        check(pen, ("pid", f"{pen.pid}\n"))

    def test_control(self, lab):
        pen = lab.pen()
        check(pen, ("control", f"{pen.control}\n"))

    def test_log(self, lab):
        pen = lab.pen()
        check(
            pen, ("log", ""), ("log one.log", "one.log\n"), ("log", "one.log\n"), ("no log", ""), ("log", "")
        )
        check(pen, ("log 127.0.0.1:9", "127.0.0.1:9\n"), ("log", "127.0.0.1:9\n"))

    def test_web_stats_and_status(self, lab):
        pen = lab.pen(servers=lab.backends(2))
        check(pen, ("web_stats", ""))
        page = pen.command("status")
        assert "<html" in page.lower()
        assert page.rstrip().lower().endswith("</html>")
        assert page.count("127.0.0.1") >= 2
        check(pen, ("web_stats s.html", "s.html\n"), ("web_stats", "s.html\n"))
        assert "<html" in pen.command("status").lower()
        assert "<html" in (lab.directory / "s.html").read_text().lower()
        check(pen, ("no web_stats", ""), ("web_stats", ""))

    def test_what_clients_send_does_not_become_markup(self, lab):
        pen = lab.pen("-O", "log <script>.log", servers=lab.backends(1))
        assert "<script>" not in pen.command("status")

    @pytest.mark.parametrize("mechanism", ["epoll", "poll", "select"])
    def test_mechanisms_at_start_only(self, lab, mechanism):
        other = {"epoll": "poll", "poll": "select", "select": "epoll"}[mechanism]
        pen = lab.pen("-x", "100", "-O", mechanism, servers=lab.backends(1))
        assert pen.err == ""
        assert pen.ask() == "s0"
        assert "start" in pen.command(other)
        assert pen.ask() == "s0"

    def test_exit_is_not_enabled(self, lab):
        pen = lab.pen()
        check(pen, ("exit", "Exit is not enabled; restart with -X flag\n"))
        assert pen.alive

    def test_exit(self, lab):
        pen = lab.pen("-X", "-p", "pen.pid")
        check(pen, ("exit", ""))
        assert pen.wait() == 0
        assert not (lab.directory / "pen.pid").exists()

    def test_debug_level(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        pen.ask()
        assert pen.err == ""
        pen.command("debug 1")
        pen.ask()
        pen.says("127.0.0.1")


class TestErrors:
    def test_unknown(self, lab):
        check(
            lab.pen(),
            ("frobnicate 1 2", "do_cmd: ignoring command starting with 'frobnicate'\n"),
            ("PID", "do_cmd: ignoring command starting with 'PID'\n"),
        )

    @pytest.mark.parametrize(
        ("command", "at_fault"),
        [
            ("no frobnicate", "no"),
            ("acl", "acl"),
            ("acl 1", "acl"),
            ("acl 10 permit 1.2.3.4", "10"),
            ("acl -1 permit 1.2.3.4", "-1"),
            ("acl x permit 1.2.3.4", "x"),
            ("acl 1 allow 1.2.3.4", "allow"),
            ("acl 1 permit", "acl"),
            ("acl 1 permit 1.2.3", "1.2.3"),
            ("acl 1 permit 1.2.3.4/33", "/33"),
            ("acl 1 permit 1.2.3.4 255.0.255.256", "255.0.255.256"),
            ("acl 1 permit fd00::/129", "/129"),
            ("acl 1 permit ::1 255.0.0.0", "255.0.0.0"),
            ("acl 1 permit 1.2.3.4 255.0.0.0 more", "more"),
            ("no acl", "acl"),
            ("no acl 10", "10"),
            ("client_acl 10", "10"),
            ("control_acl x", "x"),
            ("blacklist x", "x"),
            ("blacklist -3", "-3"),
            ("timeout 1 2", "2"),
            ("clients_max 99999999999999999999", "99999999999999999999"),
            ("connection", "connection"),
            ("close x", "x"),
            ("socket", "socket"),
            ("pid x", "x"),
            ("control x", "x"),
            ("kqueue", "kqueue"),
            ("tcp_fastclose sideways", "sideways"),
            ("server", "server"),
            ("server x max 1", "x"),
            ("server 0 frob 1", "frob"),
            ("server 0 max", "max"),
            ("server 0 max many", "many"),
            ("server 0 port 99999", "99999"),
            ("server 0 port nosuchservice", "nosuchservice"),
            ("server 0 address 300.1.1.1", "300.1.1.1"),
            ("server 0 acl 11", "11"),
            ("server 99999999 max 1", "99999999"),
            ("include no/such/file", "no/such/file"),
            ("include", "include"),
            ("write no/such/dir/file", "no/such/dir/file"),
            ("log 127.0.0.1:99999", "127.0.0.1:99999"),
            ("roundrobin 1", "1"),
        ],
    )
    def test_what_is_wrong_is_said(self, lab, command, at_fault):
        pen = lab.pen()
        reply = pen.command(command)
        assert at_fault in reply
        assert reply.count("\n") == 1
        assert pen.command("pid") == f"{pen.pid}\n"

    def test_source(self, lab):
        check(lab.pen(), ("source 1.2.3", "unable to set source address to '1.2.3'\n"))

    def test_a_malformed_command_changes_nothing(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        before = pen.command("servers")
        pen.command("server 0 max 5 weight many")
        pen.command("server 0 port 0 address 300.1.1.1")
        assert pen.command("servers") == before


def test_more_or_other_space_between_words(lab):
    pen = lab.pen()
    check(pen, ("   timeout    9   ", "9\n"), ("\ttimeout\t8\t", "8\n"), ("timeout 7\r", "7\n"))
