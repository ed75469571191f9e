"""pen -U: datagrams there and back, sessions, what is counted, said and logged."""

import resource
import socket

import pytest
from support.datagrams import LARGEST, echo, silent
from support.loghost import LogHost
from support.network import add_address
from support.ports import free_port, takes_datagrams
from support.process import naps, open_files
from support.programs import needs
from support.waiting import let_pass, stays, wait_until

MECHANISMS = [["-O", "epoll"], ["-P"], ["-O", "select"]]


@pytest.mark.parametrize("options", MECHANISMS, ids=["epoll", "poll", "select"])
class TestDatagrams:
    @pytest.mark.parametrize("size", [0, 1, 60, 1472, 4096, 4097, 9000, 65_000, LARGEST])
    def test_of_any_size_pass_whole_both_ways(self, udp, options, size):
        client = udp.client(udp.start(*options, "-x", "50", servers=[udp.server(echo)]).address)
        data = bytes(number % 251 for number in range(size))
        assert client.ask(data) == data
        assert client.ask(data) == data

    def test_of_one_client_go_to_one_server_by_one_way(self, udp, options):
        servers = udp.servers(3)
        pen = udp.start("-r", "-x", "50", *options, servers=servers)
        client = udp.client(pen.address)
        assert [client.ask() for _ in range(5)] == [b"s0"] * 5
        assert len(set(servers[0].peers)) == 1

    def test_of_many_clients_are_not_mixed_up(self, udp, options):
        pen = udp.start("-r", "-x", "300", *options, servers=udp.servers(3, echo))
        clients = [udp.client(pen.address) for _ in range(100)]
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send(b"%d of %d" % (turn, number))
        for number, client in enumerate(clients):
            assert [client.receive() for _ in range(5)] == [b"%d of %d" % (turn, number) for turn in range(5)]

    def test_of_a_server_that_says_more_than_it_was_asked(self, udp, options):
        server = udp.server()
        client = udp.client(udp.start("-x", "50", *options, servers=[server]).address)
        client.ask()
        for number in range(3):
            server.socket.sendto(b"%d" % number, server.peers[0])
        assert [client.receive() for _ in range(3)] == [b"0", b"1", b"2"]


class TestAddresses:
    def test_answers_leave_from_where_the_client_sent_to(self, udp):
        pen = udp.start(servers=udp.servers(1), listen=str(free_port(socket.SOCK_DGRAM)))
        port = pen.address[1]
        for host in ("127.0.0.1", "127.0.0.7", "127.1.2.3"):
            client = udp.client((host, port))
            assert [client.ask(), client.ask()] == [b"s0", b"s0"]

    def test_one_client_may_ask_two_of_them(self, udp):
        pen = udp.start(servers=udp.servers(1), listen=str(free_port(socket.SOCK_DGRAM)))
        client = udp.client(("127.0.0.7", pen.address[1]))
        client.ask()
        client.address = ("127.0.0.8", pen.address[1])
        assert client.ask() == b"s0"
        assert pen.connections() == 2

    @needs("ipv6")
    def test_ipv6_clients_and_ipv4_servers_and_the_other_way_round(self, udp):
        old, new = udp.server(), udp.server(host="::1")
        pen = udp.start("-r", servers=[old, new], listen=str(free_port(socket.SOCK_DGRAM)))
        clients = [udp.client((host, pen.address[1])) for host in ("::1", "127.0.0.1") * 2]
        assert [client.ask() for client in clients] == [b"s0", b"s1", b"s0", b"s1"]
        assert {line.split()[0] for line in pen.command("recent").splitlines()} == {"::1", "127.0.0.1"}

    @needs("root", "ipv6")
    def test_several_ipv6_addresses_of_a_wildcard(self, network, udp):
        add_address("fd00::7")
        pen = udp.start(servers=udp.servers(1), listen="4711")
        for host in ("::1", "fd00::7"):
            assert udp.client((host, pen.address[1])).ask() == b"s0"

    @needs("ipv6")
    def test_an_ipv6_listener(self, udp):
        port = free_port(socket.SOCK_DGRAM)
        pen = udp.start(servers=udp.servers(1), listen=f"[::1]:{port}", address=("::1", port))
        assert udp.client(pen.address).ask() == b"s0"

    def test_a_port_in_use_is_an_error(self, lab, udp):
        pen = udp.start(servers=udp.servers(1))
        done = lab.run("pen", "-f", "-U", pen.listen, "127.0.0.1:9")
        assert (done.code, done.err) == (1, f"pen: bind {pen.listen}: Address already in use\n")

    def test_service_names_are_those_of_udp(self, lab):
        done = lab.run("pen", "-f", "-U", "127.0.0.1:imap2", "127.0.0.1:tftp:x")
        assert "imap2" in done.err
        done = lab.run("pen", "-f", "-U", "127.0.0.1:tftp", "127.0.0.1:tftp:x")
        assert "max: 'x' is not a number" in done.err

    @pytest.mark.parametrize(
        "words",
        [["/sock", "127.0.0.1:9"], ["LISTEN", "/sock"], ["-e", "/sock", "LISTEN"], ["-B", "/sock", "LISTEN"]],
    )
    def test_unix_sockets_are_refused(self, lab, words):
        done = lab.run("pen", "-U", *["127.0.0.1:4711" if word == "LISTEN" else word for word in words])
        assert done.code == 2
        assert done.err.splitlines()[0] == "pen: bad address '/sock': UDP has no Unix sockets"

    def test_commands_do_not_bring_unix_sockets_in(self, udp):
        pen = udp.start(servers=udp.servers(1))
        assert "UDP has no Unix sockets" in pen.command("server 0 address /sock")
        assert "UDP has no Unix sockets" in pen.command("listen /sock")
        assert udp.asks(pen, 1) == ["s0"]

    @pytest.mark.parametrize("command", ["http", "peek", "dummy", "idlers 3"])
    def test_commands_for_tcp_are_refused(self, udp, command):
        """Their opposites are not: they stand in files that `write` made."""
        pen = udp.start(servers=udp.servers(1))
        name = command.split()[0]
        assert pen.command(command) == f"do_cmd: {name}: not with -U, it is for TCP\n"
        assert "do_cmd" not in pen.command("idlers 0" if name == "idlers" else f"no {name}")

    def test_another_source_address(self, udp):
        server = udp.server()
        pen = udp.start("-O", "source 127.0.0.9", servers=[server])
        udp.asks(pen, 1)
        assert server.peers[0][0] == "127.0.0.9"

    @needs("root")
    def test_transparent(self, udp):
        server = udp.server()
        pen = udp.start("-O", "transparent", servers=[server])
        udp.asks(pen, 1, "127.0.0.8")
        assert server.peers[0][0] == "127.0.0.8"

    def test_another_listener(self, udp):
        pen = udp.start(servers=udp.servers(1))
        first = udp.client(pen.address)
        first.ask()
        listen = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        assert pen.command(f"listen {listen}") == f"{listen}\n"
        assert pen.connections() == 0
        assert not takes_datagrams(pen.pid, pen.address[1])
        assert udp.client(("127.0.0.1", int(listen.split(":")[1]))).ask() == b"s0"


class TestChoice:
    """As for TCP; here only that the same rules are asked."""

    def test_a_client_comes_back_to_its_server(self, udp):
        pen = udp.start(servers=udp.servers(2))
        assert udp.asks(pen, 2, "127.0.0.2") + udp.asks(pen, 2, "127.0.0.3") == ["s0", "s0", "s1", "s1"]

    def test_round_robin(self, udp):
        assert udp.asks(udp.start("-r", servers=udp.servers(3)), 4) == ["s0", "s1", "s2", "s0"]

    def test_hash(self, udp):
        pen = udp.start("-h", servers=udp.servers(2))
        answers = {source: udp.asks(pen, 2, source) for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")}
        # 127.0.0.1 is 0x0100007f as a little-endian number
        assert all(number in (["s0"] * 2, ["s1"] * 2) for number in answers.values())
        assert answers["127.0.0.1"] == ["s1"] * 2

    def test_weight(self, udp):
        pen = udp.start(
            "-r", "-W", servers=[f"{one}:0:0:{w}" for one, w in zip(udp.servers(2), (1, 3), strict=True)]
        )
        assert sorted(udp.asks(pen, 4)) == ["s0", "s1", "s1", "s1"]

    def test_prio(self, udp):
        servers = udp.servers(2)
        pen = udp.start("-r", "-O", "prio", servers=[f"{servers[0]}:0:0:0:2", f"{servers[1]}:0:0:0:1"])
        assert udp.asks(pen, 2) == ["s1", "s1"]

    def test_max(self, udp):
        servers = udp.servers(2)
        assert udp.asks(udp.start(servers=[f"{servers[0]}:2", servers[1]]), 3) == ["s0", "s0", "s1"]

    def test_denied_clients(self, udp):
        pen = udp.start("-O", "acl 0 deny 127.0.0.5", servers=udp.servers(1))
        client = udp.client(pen.address, "127.0.0.5").send(b"?")
        assert udp.asks(pen, 1, "127.0.0.6") == ["s0"]
        assert client.hears_nothing()
        assert pen.connections() == 1

    def test_denied_clients_get_the_abuse_server(self, udp):
        servers = udp.servers(2)
        pen = udp.start("-O", "acl 0 deny 127.0.0.5", "-B", str(servers[1]), servers=servers[:1])
        assert udp.asks(pen, 1, "127.0.0.5") + udp.asks(pen, 1, "127.0.0.6") == ["s1", "s0"]

    def test_a_servers_own_list(self, udp):
        pen = udp.start("-r", "-O", "acl 1 deny 127.0.0.5", "-O", "server 0 acl 1", servers=udp.servers(2))
        assert udp.asks(pen, 2, "127.0.0.5") == ["s1", "s1"]


class TestSessions:
    def test_end_after_the_idle_timeout(self, udp):
        server = udp.server()
        pen = udp.start("-O", "idle_timeout 1", servers=[server])
        client = udp.client(pen.address)
        client.ask()
        before = len(open_files(pen.pid))
        pen.wait_connections(0)
        pen.wait_for(lambda: len(open_files(pen.pid)) == before - 1)
        assert client.ask() == b"s0"
        assert server.peers[0] != server.peers[1]

    def test_stay_while_something_passes(self, udp):
        server = udp.server()
        pen = udp.start("-O", "idle_timeout 2", servers=[server])
        client = udp.client(pen.address)
        stays(client.ask, 4)
        assert len(set(server.peers)) == 1
        assert pen.connections() == 1

    def test_pen_sleeps_when_there_are_none(self, udp):
        pen = udp.start("-O", "idle_timeout 1", servers=udp.servers(1))
        udp.asks(pen, 1)
        pen.wait_connections(0)
        before = naps(pen.pid)
        let_pass(4)
        assert naps(pen.pid) - before < 3

    def test_are_bounded_and_the_oldest_goes(self, udp):
        pen = udp.start("-x", "3", servers=udp.servers(1))
        clients = [udp.client(pen.address, f"127.0.0.{number}") for number in range(2, 6)]
        for client in clients:
            assert client.ask() == b"s0"
        assert pen.connections() == 3
        connections = pen.command("status").split("Active clients")[0]
        assert [f"127.0.0.{number}<" in connections for number in range(2, 6)] == [False, True, True, True]
        assert clients[0].ask() == b"s0"

    def test_one_in_use_is_spared(self, udp):
        server = udp.server()
        pen = udp.start("-x", "3", servers=[server])
        busy = udp.client(pen.address, "127.0.0.2")
        for _ in range(20):
            busy.ask()
            udp.asks(pen, 1, "127.0.0.3")
        busy.ask()
        assert len(set(server.peers[::2])) == 1

    def test_out_of_descriptors(self, udp):
        limited = ["sh", "-c", 'ulimit -n 80; exec "$@"', "sh"]
        pen = udp.start("-x", "500", servers=udp.servers(1), wrap=limited)
        assert "reduced to 16" in pen.err
        assert udp.asks(pen, 100) == ["s0"] * 100

    def test_out_of_descriptors_all_at_once(self, udp):
        pen = udp.start("-x", "500", servers=udp.servers(1))
        udp.asks(pen, 1)
        resource.prlimit(pen.pid, resource.RLIMIT_NOFILE, (len(open_files(pen.pid)) + 2, 4096))
        assert udp.asks(pen, 30) == ["s0"] * 30
        resource.prlimit(pen.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        assert pen.connections() < 5
        assert pen.err == ""

    def test_close(self, udp):
        pen = udp.start(servers=udp.servers(1))
        client = udp.client(pen.address)
        client.ask()
        assert pen.command("close 0") == "Forcibly closing connection 0\n"
        assert pen.connections() == 0
        assert client.ask() == b"s0"


class TestSaid:
    def test_counted(self, udp):
        pen = udp.start(servers=udp.servers(1))
        client = udp.client(pen.address, "127.0.0.4")
        client.ask(b"12345")
        client.ask(b"678")
        assert (pen.servers()[0]["sx"], pen.servers()[0]["rx"], pen.connections()) == ("8", "4", 1)
        assert pen.command("recent") == "127.0.0.4 connects 1 sx 4 rx 8\n"

    def test_connection(self, udp):
        pen = udp.start(servers=udp.servers(1))
        udp.client(pen.address).ask()
        lines = pen.command("connection 0").splitlines()
        assert lines[:2] == ["Connection 0:", "state = 2"]
        assert lines[3:] == ["client = 0, server = 0", "pend = 0"]
        upfd = lines[2].rpartition(" ")[2]
        assert lines[2] == f"downfd = -1, upfd = {upfd}"
        assert pen.command(f"socket {upfd}") == f"Socket {upfd} belongs to connection 0\n"

    def test_messages_and_dumps(self, udp):
        pen = udp.start("-ddd", "-a", servers=udp.servers(1))
        udp.client(pen.address).ask(b"what\0")
        pen.says(r"connection 0: client 127\.0\.0\.1 port \d+$")
        pen.says(r"connection 0 up: 5 bytes\n.*: what\.$")
        pen.says(r"connection 0 down: 2 bytes\n.*: s0$")

    @needs("ipv6")
    def test_what_is_dropped(self, udp):
        """IPv6 carries more than IPv4 can."""
        port = free_port(socket.SOCK_DGRAM)
        pen = udp.start(servers=udp.servers(1), listen=f"::1:{port}", address=("::1", port))
        client = udp.client(pen.address)
        client.send(bytes(LARGEST + 20))
        assert client.ask() == b"s0"
        pen.says("1 datagrams dropped: Message too long")

    def test_write(self, lab, udp):
        pen = udp.start("-O", "no udp_replies", servers=udp.servers(1))
        pen.command("write pen.cfg")
        text = (lab.directory / "pen.cfg").read_text()
        assert " -U " in text.splitlines()[0]
        assert "\nno udp_replies\n" in text


class TestLog:
    def test_a_line_per_datagram(self, udp):
        pen = udp.start("-l", "pen.log", servers=udp.servers(1))
        client = udp.client(pen.address)
        client.ask(b"first\nrest")
        client.ask(b"GET / HTTP/1.1\r\n")
        client.ask(b"\x01\xff" + b"x" * 200)
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 first$")
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 GET / HTTP/1\.1$")
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 \.\.x{98}$")
        assert len(pen.log.splitlines()) == 3

    def test_switched_while_a_session_goes_on(self, udp):
        pen = udp.start(servers=udp.servers(1))
        client = udp.client(pen.address)
        for number, command in enumerate(("mode", "log pen.log", "no log", "log pen.log")):
            pen.command(command)
            client.ask(b"%d" % number)
        assert [line.split()[-1] for line in pen.log.splitlines()] == ["1", "3"]

    def test_a_line_is_there_before_the_answer(self, udp):
        """Also that of a first datagram, whose server is known only by the answer."""
        pen = udp.start("-l", "pen.log", servers=udp.servers(1))
        for number in range(1, 100):
            udp.client(pen.address).ask()
            assert len(pen.log.splitlines()) == number

    def test_names_the_server_that_answered(self, udp):
        pen = udp.start("-l", "pen.log", servers=[udp.nobody(), udp.server(host="127.0.0.9")])
        udp.client(pen.address).ask(b"once")
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.9 once$")
        assert len(pen.log.splitlines()) == 1

    def test_what_nobody_answered(self, udp):
        pen = udp.start("-l", "pen.log", "-t", "1", servers=[udp.server(silent)])
        udp.client(pen.address).send(b"well")
        pen.log_contains(r"^127\.0\.0\.1 \d+ 127\.0\.0\.1 well$")

    def test_more_than_is_held_for_another_server(self, udp):
        pen = udp.start("-l", "pen.log", "-t", "1", servers=[udp.server(silent)])
        client = udp.client(pen.address)
        for number in range(40):
            client.send(b"n%d" % number)
        pen.log_contains(r" n\d+$", 40)
        assert sorted(pen.log.split()[3::4], key=lambda word: int(word[1:])) == [f"n{n}" for n in range(40)]

    def test_to_a_penlogd(self, lab, udp):
        host = lab.closing(LogHost())
        pen = udp.start("-l", str(host), servers=udp.servers(1))
        udp.client(pen.address).ask(b"what?")
        assert host.wait(1) == [b"+ 127.0.0.1 127.0.0.1 what?\n"]


@pytest.mark.parametrize(
    "option", [["-H"], ["-E", "x"], ["-K", "x"], ["-G", "x"], ["-A", "x"], ["-R"], ["-Z"], ["-L", "tls1"]]
)
def test_options_for_tcp_are_refused(lab, option):
    done = lab.run("pen", "-U", *option, "127.0.0.1:4711", "127.0.0.1:9")
    assert done.code == 2
    assert done.err.splitlines()[0] == f"pen: option {option[0]}: not with -U, it is for TCP"


def test_a_clean_end(udp):
    pen = udp.start(servers=udp.servers(1))
    udp.asks(pen, 3)
    assert pen.stop() == 0
    assert pen.err == ""


def test_in_the_background_and_confined(lab, udp):
    """A listener and a log are all that it takes with it."""
    port = free_port(socket.SOCK_DGRAM)
    pid = lab.daemon("-U", "-p", "./pen.pid", "-l", "pen.log", f"127.0.0.1:{port}", udp.server())
    wait_until(lambda: takes_datagrams(pid, port))
    assert udp.client(("127.0.0.1", port)).ask() == b"s0"
