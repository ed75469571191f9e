"""What happens when the first choice can not be had: blacklist, failover, emergency, the last resort."""

import socket
import time

from support.network import sysctl
from support.waiting import let_pass, wait_until


class TestOrder:
    def test_the_next_servers_round_to_the_first_tried(self, lab):
        a, b, c, d = lab.backends(4)
        pen = lab.pen("-r", servers=[a, b, c, d])
        assert pen.ask() == "s0"
        for server in (b, c, d):
            server.stop()
        assert pen.ask() == "s0", "s1, s2 and s3 failed; round to s0"
        a.stop()
        assert pen.ask() == ""

    def test_one_refusing(self, lab):
        pen = lab.pen("-r", servers=[lab.refusing(), *lab.backends(2)])
        assert pen.ask() == "s0", "the server after the refusing one"

    def test_several_refusing(self, lab):
        pen = lab.pen("-r", servers=[lab.refusing(), lab.refusing(), lab.refusing(), *lab.backends(1)])
        assert pen.asks(3) == ["s0"] * 3

    def test_full_servers_are_passed_over(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[f"{a}:1", lab.refusing(), b])
        first = pen.client()
        assert first.line() == "s0"
        assert pen.asks(3) == ["s1"] * 3

    def test_a_server_without_port_is_passed_over(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        pen.command("server 0 port 0")
        assert pen.asks(3) == ["s1"] * 3

    def test_nothing_is_lost_that_the_client_sent_meanwhile(self, lab):
        pen = lab.pen("-r", "-t", "1", servers=[lab.hole(), lab.refusing(), *lab.backends(1)])
        with pen.client() as client:
            client.send(b"early words\n")
            assert client.line() == "s0"
            assert client.line() == "early words"

    def test_a_client_that_shut_its_side_meanwhile(self, lab):
        pen = lab.pen("-r", "-t", "1", servers=[lab.hole(), *lab.backends(1)])
        with pen.client() as client:
            client.send(b"all I say\n").shut()
            assert client.rest() == b"s0\nall I say\n"


class TestBlacklist:
    def test_a_failed_server_is_left_alone(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a, b])
        a.stop()
        assert pen.ask() == "s1"
        a.start()
        assert pen.asks(4) == ["s1"] * 4
        assert a.accepted == 0

    def test_until_its_time_is_over(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-b", "1", servers=[a, b])
        a.stop()
        assert pen.asks(2) == ["s1"] * 2
        a.start()
        wait_until(lambda: pen.ask() == "s0", "the blacklisting expires")

    def test_by_command_and_back(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        pen.command("server 0 blacklist 60")
        assert pen.asks(3) == ["s1"] * 3
        pen.command("server 0 blacklist 0")
        assert sorted(pen.asks(2)) == ["s0", "s1"]

    def test_by_command_for_a_time(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        pen.command("server 0 blacklist 1")
        assert pen.asks(2) == ["s1"] * 2
        wait_until(lambda: pen.ask() == "s0", "the blacklisting expires")

    def test_the_time_can_be_changed(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a, b])
        assert pen.command("blacklist 1") == "1\n"
        a.stop()
        assert pen.ask() == "s1"
        a.start()
        wait_until(lambda: pen.ask() == "s0", "the blacklisting expires")

    def test_no_time_is_no_blacklist(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-b", "0", servers=[a, b])
        a.stop()
        assert pen.asks(3) == ["s1"] * 3
        a.start()
        assert "s0" in pen.asks(2)

    def test_a_connection_that_breaks_later_is_no_failure_to_connect(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a, b])
        with pen.client() as client:
            assert client.line() == "s0"
            for conn in list(a.open):
                conn.close()
        assert sorted(pen.asks(2)) == ["s0", "s1"]


class TestTimeout:
    def test_a_server_that_never_answers(self, lab):
        """Its backlog is full: the kernel drops the SYN, and only time tells."""
        pen = lab.pen("-r", "-t", "1", servers=[lab.hole(), *lab.backends(1)])
        began = time.monotonic()
        assert pen.ask() == "s0"
        assert time.monotonic() - began > 0.9
        began = time.monotonic()
        assert pen.asks(4) == ["s0"] * 4
        assert time.monotonic() - began < 3, "blacklisted, so not waited for again"

    def test_two_in_a_row_take_their_time_each(self, lab):
        pen = lab.pen("-r", "-t", "1", servers=[lab.hole(), lab.hole(), *lab.backends(1)])
        began = time.monotonic()
        assert pen.ask() == "s0"
        assert time.monotonic() - began > 1.9

    def test_a_unix_server_whose_backlog_is_full(self, lab):
        """connect() says EAGAIN at once; it is a server that does not answer all the same."""
        path = f"{lab.directory}/full.sock"
        full = lab.closing(socket.socket(socket.AF_UNIX))
        full.bind(path)
        full.listen(0)
        lab.client(path)
        pen = lab.pen("-r", "-t", "1", servers=[path, *lab.backends(1)])
        assert pen.asks(3) == ["s0"] * 3

    def test_the_time_can_be_changed(self, lab):
        pen = lab.pen("-r", servers=[lab.hole(), *lab.backends(1)])
        assert pen.command("timeout 1") == "1\n"
        began = time.monotonic()
        assert pen.ask() == "s0"
        assert 0.9 < time.monotonic() - began < 2.95, "not the 3 seconds that are the default"

    def test_those_who_wait_do_not_hinder_others(self, lab):
        hole = lab.hole()
        pen = lab.pen("-r", "-t", "5", servers=[hole, *lab.backends(1)])
        waiting = lab.client(pen.address)
        began = time.monotonic()
        assert pen.ask() == "s0", "round robin's next; the first is not known to be bad yet"
        assert time.monotonic() - began < 4
        waiting.close()

    def test_a_client_that_gives_up_is_forgotten(self, lab):
        pen = lab.pen("-r", "-t", "1", servers=[lab.hole()])
        client = pen.client()
        pen.wait_connections(1)
        client.reset()
        pen.wait_connections(0)


class TestEmergency:
    def test_when_all_refuse(self, lab):
        emergency = lab.backend()
        pen = lab.pen("-e", str(emergency), servers=[lab.refusing(), lab.refusing()])
        assert pen.asks(3) == ["s0"] * 3

    def test_when_all_are_blacklisted_by_command(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-e", str(emergency), servers=[a])
        pen.command("server 0 blacklist 60")
        assert pen.asks(2) == ["s1"] * 2

    def test_its_port_defaults_to_the_listening_one(self, lab):
        emergency = lab.backend(host="127.0.1.1")
        pen = lab.pen("-e", "127.0.1.1", listen=f"127.0.0.1:{emergency.port}", servers=[lab.refusing()])
        assert pen.ask() == "s0"

    def test_not_while_there_is_another(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-e", str(emergency), servers=[lab.refusing(), a])
        assert pen.asks(3) == ["s0"] * 3

    def test_it_is_left_when_a_server_is_back(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-b", "1", "-e", str(emergency), servers=[a])
        a.stop()
        assert pen.ask() == "s1"
        a.start()
        wait_until(lambda: pen.ask() == "s0", "the server is used again")

    def test_by_a_unix_socket(self, lab):
        emergency = lab.backend(path=f"{lab.directory}/e.sock")
        pen = lab.pen("-e", str(emergency), servers=[lab.refusing()])
        assert pen.ask() == "s0"

    def test_a_dead_one_closes_the_client(self, lab):
        pen = lab.pen("-e", str(lab.refusing()), servers=[lab.refusing()])
        assert pen.asks(2) == ["", ""]

    def test_a_dead_one_is_tried_again(self, lab):
        emergency = lab.backend()
        pen = lab.pen("-e", str(emergency), servers=[lab.refusing()])
        emergency.stop()
        assert pen.ask() == ""
        emergency.start()
        assert pen.ask() == "s0"


class TestLastResort:
    """Servers out only because they failed: the one that failed longest ago is tried once more."""

    def test_a_lone_server_that_restarts(self, lab):
        """The original shut it out for 30 seconds."""
        a = lab.backend()
        pen = lab.pen(servers=[a])
        assert pen.ask() == "s0"
        a.stop()
        assert pen.asks(2) == ["", ""]
        a.start()
        assert pen.asks(3) == ["s0"] * 3

    def test_the_longest_ago(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a, b])
        a.stop()
        assert pen.ask() == "s1", "s0 failed"
        b.stop()
        assert pen.ask() == "", "s1 failed, and then s0 once more"
        a.start()
        b.start()
        assert pen.ask() == "s1"

    def test_once(self, lab):
        """s0 is asked and fails; s1, which would answer, has its turn with the next client."""
        a, b = lab.backends(2)
        pen = lab.pen("-r", servers=[a, b])
        a.stop()
        assert pen.ask() == "s1"
        b.stop()
        assert pen.ask() == "", "s1 failed, then s0 again"
        b.start()
        assert sorted(pen.asks(2)) in (["", "s1"], ["s1", "s1"])
        assert pen.ask() == "s1"

    def test_not_a_server_blacklisted_by_command(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        pen.command("server 0 blacklist 60")
        assert pen.asks(2) == ["", ""]

    def test_the_emergency_server_comes_before(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-e", str(emergency), servers=[a])
        a.stop()
        assert pen.ask() == "s1"
        a.start()
        assert pen.asks(2) == ["s1"] * 2

    def test_after_a_dead_emergency_server(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-e", str(emergency), servers=[a])
        a.stop()
        emergency.stop()
        assert pen.ask() == ""
        a.start()
        assert pen.ask() == "s0"

    def test_success_clears_the_failure(self, lab):
        a, emergency = lab.backends(2)
        pen = lab.pen("-e", str(emergency), servers=[a])
        a.stop()
        emergency.stop()
        assert pen.ask() == ""
        a.start()
        assert pen.ask() == "s0", "the last resort"
        emergency.start()
        assert pen.ask() == "s0", "no longer blacklisted: there is no need of the emergency server"

    def test_no_server_with_room_is_not_a_failure(self, lab):
        a = lab.backend()
        pen = lab.pen("-r", servers=[f"{a}:1", lab.refusing()])
        first = pen.client()
        assert first.line() == "s0"
        assert pen.asks(2) == ["", ""]


class TestStubborn:
    def test_no_failover(self, lab):
        pen = lab.pen("-r", "-s", servers=[lab.refusing(), *lab.backends(1)])
        assert pen.ask() == ""

    def test_not_to_the_emergency_server_either(self, lab):
        pen = lab.pen("-s", "-e", str(lab.backend()), servers=[lab.refusing()])
        assert pen.asks(2) == ["", ""]

    def test_a_known_client_whose_server_is_blacklisted(self, lab):
        pen = lab.pen("-s", servers=lab.backends(2))
        assert pen.ask() == "s0"
        pen.command("server 0 blacklist 60")
        assert pen.ask() == ""

    def test_by_command(self, lab):
        pen = lab.pen("-s", servers=lab.backends(2))
        assert pen.ask() == "s0"
        pen.command("server 0 blacklist 60")
        pen.command("no stubborn")
        assert pen.ask() == "s1"
        pen.command("server 1 blacklist 60")
        pen.command("server 0 blacklist 0")
        pen.command("stubborn")
        assert pen.ask() == ""


class TestOurOwnErrors:
    def test_no_free_local_port_blames_nobody(self, lab, network):
        sysctl("ipv4/ip_local_port_range", "40000 40003")
        a, emergency = lab.backend(port=8001), lab.backend(port=8002)
        pen = lab.pen("-r", "-t", "1", "-e", str(emergency), listen="127.0.0.1:8000", servers=[a])
        clients = [pen.client(source=("127.0.0.9", 2000 + number)) for number in range(12)]
        got = [client.line_or_end() for client in clients]
        assert got.count("s0") <= 4
        assert "" in got, "more clients than ports"
        for client in clients:
            client.reset()
        pen.wait_connections(0)
        assert pen.ask(("127.0.0.9", 3000)) == "s0", "a port is free again, and the server not blacklisted"
        assert emergency.accepted == 0


def test_idle_connections_are_closed(lab):
    pen = lab.pen("-O", "idle_timeout 1", servers=lab.backends(1))
    talking, quiet = lab.client(pen.address), lab.client(pen.address)
    assert quiet.line() == talking.line() == "s0"
    for _ in range(4):
        let_pass(0.5)
        assert talking.talk(b"x\n") == b"x\n"
    assert quiet.ended()
