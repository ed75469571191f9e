"""pen -U: servers that refuse, say nothing, die and come back."""

import pytest
from support.datagrams import named, silent
from support.network import mounted
from support.programs import needs
from support.waiting import let_pass, stays, wait_until

MECHANISMS = [["-O", "epoll"], ["-P"], ["-O", "select"]]


def status(pen):
    """Whether each server is blacklisted."""
    servers = pen.command("status").split("Active connections")[0]
    return ["blacklisted" in row for row in servers.split("<tr")[2:]]


@pytest.mark.parametrize("options", MECHANISMS, ids=["epoll", "poll", "select"])
class TestRefused:
    def test_the_next_server_gets_the_datagram(self, udp, options):
        pen = udp.start("-r", "-x", "50", *options, servers=[udp.nobody(), udp.server()])
        assert udp.asks(pen, 3) == ["s1"] * 3
        pen.says("server 0 .*: Connection refused")
        assert status(pen) == [True, False]

    def test_the_next_server_gets_all_that_was_not_answered(self, udp, options):
        """In the middle of a session only the last datagram is still there; at its beginning, all are."""
        gone, there = udp.server(silent), udp.server()
        pen = udp.start("-x", "50", *options, servers=[gone, there])
        client = udp.client(pen.address)
        for data in (b"1", b"2", b"3"):
            client.send(data)
        wait_until(lambda: gone.received == [b"1", b"2", b"3"])
        gone.stop()
        client.send(b"4")
        assert [client.receive() for _ in range(4)] == [b"s1"] * 4
        assert there.received == [b"1", b"2", b"3", b"4"]

    def test_a_session_moves_when_its_server_dies(self, udp, options):
        servers = udp.servers(2)
        pen = udp.start("-x", "50", *options, servers=servers)
        client = udp.client(pen.address)
        assert client.ask() == b"s0"
        servers[0].stop()
        assert client.ask(b"again") == b"s1"
        assert servers[1].received == [b"again"]
        assert status(pen) == [True, False]
        assert udp.client(pen.address).ask() == b"s1"
        assert (pen.servers()[0]["conn"], pen.servers()[1]["conn"]) == ("0", "2")

    def test_a_server_that_is_back(self, udp, options):
        server = udp.nobody()
        pen = udp.start("-x", "50", *options, servers=[server])
        client = udp.client(pen.address).send(b"?")
        pen.says("server 0 .*: Connection refused")
        assert client.hears_nothing()
        server.start()
        assert client.ask() == b"s0"  # as a last resort: there is no other
        pen.says("server 0 .*: answers again")
        assert pen.err.count("refused") == 1

    def test_nobody_left(self, udp, options):
        pen = udp.start("-x", "50", *options, servers=[udp.nobody(), udp.nobody()])
        client = udp.client(pen.address).send(b"?")
        pen.says("server 1 .*: Connection refused")
        assert client.hears_nothing()
        assert pen.connections() == 0


class TestSilent:
    def test_the_next_server_is_asked_after_the_timeout(self, udp):
        mute, other = udp.server(silent), udp.server()
        pen = udp.start("-t", "1", servers=[mute, other])
        assert udp.client(pen.address).ask(b"what") == b"s1"
        assert mute.received == other.received == [b"what"]
        pen.says("server 0 .*: no reply")
        assert status(pen) == [True, False]

    def test_no_replies_expected(self, udp):
        mute, other = udp.server(silent), udp.server()
        pen = udp.start("-t", "1", "-O", "no udp_replies", servers=[mute, other])
        client = udp.client(pen.address).send(b"1")
        wait_until(lambda: mute.received == [b"1"])
        let_pass(2)
        client.send(b"2")
        wait_until(lambda: mute.received == [b"1", b"2"])
        assert udp.client(pen.address).hears_nothing(0.1)
        assert other.received == []
        assert status(pen) == [False, False]

    def test_replies_are_expected_again(self, udp):
        mute, other = udp.server(silent), udp.server()
        pen = udp.start("-t", "1", "-O", "no udp_replies", servers=[mute, other])
        pen.command("udp_replies")
        assert udp.client(pen.address).ask() == b"s1"
        assert status(pen) == [True, False]

    def test_replies_pass_though_none_are_expected(self, udp):
        pen = udp.start("-O", "no udp_replies", servers=udp.servers(1))
        assert udp.asks(pen, 1) == ["s0"]

    def test_refusals_count_though_no_replies_are_expected(self, udp):
        pen = udp.start("-O", "no udp_replies", servers=[udp.nobody(), udp.server()])
        assert udp.asks(pen, 1) == ["s1"]

    def test_a_server_that_answers_others_is_not_to_blame(self, udp):
        server, other = (
            udp.server(lambda data, one: None if data == b"garbage" else named(data, one)) for _ in "12"
        )
        pen = udp.start("-r", "-t", "2", servers=[server, other])
        hostile = udp.client(pen.address, "127.0.0.66").send(b"garbage")
        wait_until(lambda: server.received)
        stays(lambda: udp.asks(pen, 1) in (["s0"], ["s1"]), 3)
        assert status(pen) == [False, False]
        assert hostile.hears_nothing()

    def test_a_session_that_falls_silent_while_its_client_goes_on(self, udp):
        servers = udp.servers(2)
        pen = udp.start("-t", "1", servers=servers)
        client = udp.client(pen.address)
        assert client.ask() == b"s0"
        servers[0].talk = silent

        def answered():
            client.send(b"still there?")
            return not client.hears_nothing(0.2)

        wait_until(answered)
        assert client.receive() == b"s1"
        assert status(pen) == [True, False]

    def test_an_end_that_needs_no_answer_is_no_failure(self, udp):
        server = udp.server()
        pen = udp.start("-t", "1", servers=[server])
        client = udp.client(pen.address)
        client.ask()
        server.talk = silent
        client.send(b"bye")
        let_pass(4)
        assert status(pen) == [False]


class TestOtherWays:
    def test_emergency_server(self, udp):
        emergency = udp.server()
        pen = udp.start("-e", str(emergency), servers=[udp.nobody(), udp.nobody()])
        assert udp.asks(pen, 2) == ["s0"] * 2

    def test_stubborn(self, udp):
        pen = udp.start("-s", "-r", servers=[udp.nobody(), udp.server()])
        client = udp.client(pen.address).send(b"?")
        pen.says("server 0 .*: Connection refused")
        assert client.hears_nothing()
        assert udp.asks(pen, 1) == ["s1"]

    def test_blacklist_time(self, udp):
        servers = [udp.nobody(), udp.server()]
        pen = udp.start("-r", "-b", "2", servers=servers)
        assert udp.asks(pen, 2) == ["s1"] * 2
        servers[0].start()
        wait_until(lambda: "s0" in udp.asks(pen, 2))

    def test_banned_by_a_command(self, udp):
        pen = udp.start("-r", servers=udp.servers(2))
        pen.command("server 0 blacklist 100")
        assert udp.asks(pen, 2) == ["s1"] * 2
        pen.command("server 0 blacklist 0")
        assert set(udp.asks(pen, 2)) == {"s0", "s1"}

    @needs("root", "ipv6")
    def test_the_places_of_a_name_are_tried_in_turn(self, lab, udp):
        server = udp.server(host="::1")
        hosts = lab.write("hosts", "127.0.0.1 both\n::1 both\n")
        pen = udp.start(servers=[f"both:{server.port}"], wrap=mounted(hosts, "/etc/hosts"))
        assert udp.asks(pen, 2) == ["s0"] * 2
        assert status(pen) == [False]

    def test_hup_keeps_sessions(self, lab, udp):
        pen = udp.start("-l", "pen.log", servers=udp.servers(1))
        client = udp.client(pen.address)
        client.ask()
        pen.log_contains(r"\?$")
        pen.log_file.rename(lab.directory / "old.log")
        pen.hup()
        wait_until(pen.log_file.exists)
        assert client.ask(b"after") == b"s0"
        pen.log_contains("after$")
        assert pen.connections() == 1
