"""Access lists: who is let in, who may use which server, where the denied go."""

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from support.network import add_address
from support.programs import needs

A, B = "127.0.0.21", "127.0.0.22"


def permits(pen, *sources):
    """Whether pen serves clients from there, one answer each."""
    return [pen.ask(source) != "" for source in sources]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], [True, True]),
        (["deny 127.0.0.21"], [False, True]),
        (["permit 127.0.0.21"], [True, False]),
        (["deny 127.0.0.21", "permit 127.0.0.0/8"], [False, True]),
        (["permit 127.0.0.0/8", "deny 127.0.0.21"], [True, True]),
        (["permit 127.0.0.21", "deny 127.0.0.22"], [True, False]),
        (["permit 127.0.0.21", "permit 10.0.0.1"], [True, False]),
        (["deny 10.0.0.1", "deny 10.0.0.2"], [True, True]),
        (["permit 10.0.0.1"], [False, False]),
        (["deny 127.0.0.0 255.0.0.0"], [False, False]),
        (["permit 127.0.0.20 255.255.255.254"], [True, False]),
        (["deny 127.0.0.21 255.255.255.255"], [False, True]),
        (["deny 0.0.0.0 0.0.0.0"], [False, False]),
        (["deny 127.0.0.22/31"], [True, False]),
        (["deny 127.0.0.20/30"], [False, False]),
        (["permit 0.0.0.0/0"], [True, True]),
        (["deny ::/0"], [True, True]),
    ],
)
def test_first_match_decides_and_no_match_is_the_opposite_of_the_last(lab, entries, expected):
    pen = lab.pen(
        "-r", *(word for entry in entries for word in ("-O", f"acl 3 {entry}")), servers=lab.backends(1)
    )
    pen.command("client_acl 3")
    assert permits(pen, A, B) == expected


@needs("ipv6")
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["deny fd00::21"], [False, True]),
        (["deny fd00::21/128"], [False, True]),
        (["deny fd00::20/127"], [False, True]),
        (["permit fd00::22/64"], [True, True]),
        (["deny fd00::/16"], [False, False]),
        (["permit 0.0.0.0/0"], [False, False]),
        (["permit fd01::/16"], [False, False]),
    ],
)
def test_ipv6(lab, network, entries, expected):
    for address in ("fd00::1", "fd00::21", "fd00::22"):
        add_address(address)
    options = [word for entry in entries for word in ("-O", f"acl 0 {entry}")]
    pen = lab.pen("-r", *options, listen="[fd00::1]:8000", servers=lab.backends(1))
    assert permits(pen, "fd00::21", "fd00::22") == expected


def test_an_ipv4_client_of_a_listener_of_both_families_matches_ipv4(lab, network):
    pen = lab.pen("-O", f"acl 0 deny {A}", listen="8000", servers=lab.backends(1))
    assert permits(pen, A, B) == [False, True]


class TestClients:
    def test_list_0_is_the_default(self, lab):
        pen = lab.pen("-O", f"acl 0 deny {A}", servers=lab.backends(1))
        assert permits(pen, A, B) == [False, True]

    def test_changed_while_running(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        assert permits(pen, A, B) == [True, True]
        pen.command(f"acl 0 deny {A}")
        assert permits(pen, A, B) == [False, True]
        pen.command("no acl 0")
        assert permits(pen, A, B) == [True, True]

    def test_another_list(self, lab):
        pen = lab.pen("-O", f"acl 5 deny {A}", "-O", f"acl 6 deny {B}", servers=lab.backends(1))
        assert permits(pen, A, B) == [True, True]
        assert pen.command("client_acl 5") == "5\n"
        assert permits(pen, A, B) == [False, True]
        assert pen.command("client_acl 6") == "6\n"
        assert permits(pen, A, B) == [True, False]

    def test_the_denied_are_closed_without_a_word(self, lab):
        server = lab.backend()
        pen = lab.pen("-O", f"acl 0 deny {A}", servers=[server])
        assert pen.client(source=A).ended()
        assert server.accepted == 0

    @pytest.mark.parametrize("odd", [False, True], ids=["", "odd"])
    def test_the_denied_cost_nothing_however_high_their_descriptors(self, lab, odd):
        """Theirs may be the highest that pen ever had, and are closed without having been waited for."""
        pen = lab.pen("-O", f"acl 0 deny {A}", servers=lab.backends(1))
        if odd:
            lab.client(pen.control)
        for _ in range(35):
            assert pen.client(B).line() == "s0"
            assert pen.ask(A) == ""
        assert "error" not in pen.err

    def test_the_denied_go_to_the_abuse_server(self, lab):
        server, abuse = lab.backends(2)
        pen = lab.pen("-B", str(abuse), "-O", f"acl 0 deny {A}", servers=[server])
        assert [pen.ask(source) for source in (A, B, A)] == ["s1", "s0", "s1"]

    def test_the_abuse_servers_port_defaults_to_the_listening_one(self, lab):
        abuse = lab.backend(host="127.0.1.1")
        pen = lab.pen("-B", "127.0.1.1", "-O", f"acl 0 deny {A}", listen=f"127.0.0.1:{abuse.port}")
        assert pen.ask(A) == "s0"

    def test_the_abuse_server_is_never_remembered(self, lab):
        *servers, abuse = lab.backends(4)
        pen = lab.pen("-B", str(abuse), "-O", f"acl 0 deny {A}", servers=servers)
        assert pen.ask(A) == "s3"
        pen.command("no acl 0")
        assert [pen.ask(A), pen.ask(A)] == ["s0", "s0"]

    def test_with_a_dead_abuse_server_they_are_closed(self, lab):
        server, emergency = lab.backends(2)
        pen = lab.pen(
            "-B", str(lab.refusing()), "-e", str(emergency), "-O", f"acl 0 deny {A}", servers=[server]
        )
        assert pen.ask(A) == ""
        assert pen.ask(B) == "s0"
        assert emergency.accepted == 0

    def test_the_denied_never_reach_the_emergency_server(self, lab):
        emergency = lab.backend()
        pen = lab.pen("-e", str(emergency), "-O", f"acl 0 deny {A}", servers=[lab.refusing()])
        assert pen.ask(B) == "s0"
        assert pen.ask(A) == ""
        assert emergency.accepted == 1

    @pytest.mark.parametrize("entry", ["deny 127.0.0.1", "permit 10.0.0.1", "permit ::1"])
    def test_clients_on_a_unix_socket_are_no_matter_of_addresses(self, lab, entry):
        """Nor is penctl there, which such a list would lock out."""
        pen = lab.pen("-O", f"acl 0 {entry}", listen=f"{lab.directory}/in.sock", servers=lab.backends(1))
        assert pen.ask() == "s0"
        assert pen.command("pid") == f"{pen.pid}\n"


class TestServers:
    def test_a_servers_own_list(self, lab):
        pen = lab.pen("-r", "-O", f"acl 1 permit {A}", servers=lab.backends(2))
        pen.command("server 0 acl 1")
        assert [pen.ask(A) for _ in range(2)] == ["s0", "s1"]
        assert [pen.ask(B) for _ in range(3)] == ["s1"] * 3

    def test_denied_by_all_is_closed_and_no_emergency(self, lab):
        a, b, emergency = lab.backends(3)
        pen = lab.pen("-r", "-e", str(emergency), "-O", f"acl 1 deny {A}", servers=[a, b])
        pen.command("server 0 acl 1")
        pen.command("server 1 acl 1")
        assert pen.ask(A) == ""
        assert pen.ask(B) != ""
        assert emergency.accepted == 0

    def test_a_known_client_that_is_denied_now(self, lab):
        pen = lab.pen("-O", f"acl 1 deny {A}", servers=lab.backends(2))
        assert pen.ask(A) == "s0"
        pen.command("server 0 acl 1")
        assert pen.ask(A) == "s1"

    def test_being_denied_blacklists_nothing(self, lab):
        pen = lab.pen("-r", "-O", f"acl 1 deny {A}", "-O", "server 0 acl 1", servers=lab.backends(1))
        assert pen.asks(2, A) == ["", ""]
        assert pen.ask(B) == "s0"

    def test_list_0_is_the_servers_default(self, lab):
        """So a client that list 0 denies is denied by the servers too, whatever client_acl says."""
        pen = lab.pen("-O", f"acl 0 deny {A}", "-O", "client_acl 9", servers=lab.backends(1))
        assert permits(pen, A, B) == [False, True]

    def test_prio_passes_over_a_server_that_denies(self, lab):
        a, b = lab.backends(2)
        pen = lab.pen("-r", "-O", "prio", "-O", f"acl 1 deny {A}", servers=[f"{a}:0:0:0:1", f"{b}:0:0:0:2"])
        pen.command("server 0 acl 1")
        assert pen.ask(A) == "s1"
        assert pen.ask(B) == "s0"


@pytest.fixture
def database(lab):
    """A file of MaxMind's format: where 127.0.0.21 and 127.0.0.22 are."""

    def make(name="countries.mmdb", **places):
        writer = MMDBWriter(6, "GeoLite2-Country", ipv4_compatible=True)
        for code, nets in places.items():
            writer.insert_network(IPSet(nets), {"country": {"iso_code": code}})
        writer.to_db_file(str(lab.directory / name))
        return name

    return make


class TestCountries:
    @pytest.mark.parametrize(
        ("entries", "expected"),
        [
            (["deny country SE"], [False, True]),
            (["deny country se"], [False, True]),
            (["permit country SE"], [True, False]),
            (["deny country FI", "permit country SE"], [True, False]),
            (["permit 127.0.0.21", "deny country SE"], [True, True]),
            (["deny country DE"], [True, True]),
        ],
    )
    def test_decide_like_networks(self, lab, database, entries, expected):
        database(SE=["127.0.0.21/32"], FI=["127.0.0.22/32"])
        words = ["geoip_db countries.mmdb", *(f"acl 3 {entry}" for entry in entries), "client_acl 3"]
        pen = lab.pen("-r", *(part for word in words for part in ("-O", word)), servers=lab.backends(1))
        assert permits(pen, A, B) == expected

    def test_an_address_in_no_country_matches_none(self, lab, database):
        database(SE=["127.0.0.21/32"])
        pen = lab.pen(
            "-O", "geoip_db countries.mmdb", "-O", "acl 0 permit country SE", servers=lab.backends(1)
        )
        assert permits(pen, A, B, "127.0.0.23") == [True, False, False]

    def test_a_newer_database_is_taken_up(self, lab, database):
        database(SE=["127.0.0.21/32"])
        pen = lab.pen(servers=lab.backends(1))
        assert pen.command("geoip_db countries.mmdb") == "countries.mmdb\n"
        assert pen.command("acl 0 deny country SE") == ""
        assert permits(pen, A, B) == [False, True]
        database("newer", SE=["127.0.0.22/32"])
        assert pen.command("geoip_db newer") == "newer\n"
        assert permits(pen, A, B) == [True, False]

    def test_without_a_database_nothing_changes(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        assert "geoip_db" in pen.command("acl 0 deny country SE")
        assert permits(pen, A) == [True]

    @pytest.mark.parametrize(("name", "why"), [("none", "No such file"), ("garbage", "no MaxMind database")])
    def test_one_that_can_not_be_read(self, lab, database, name, why):
        lab.write("garbage", "no data base " * 1000)
        database(SE=["127.0.0.21/32"])
        pen = lab.pen("-O", "geoip_db countries.mmdb", "-O", "acl 0 deny country SE", servers=lab.backends(1))
        assert why in pen.command(f"geoip_db {name}")
        assert permits(pen, A, B) == [False, True], "the one before is still in use"

    @pytest.mark.parametrize("code", ["", "S", "SWE", "4!"])
    def test_no_code(self, lab, database, code):
        database(SE=["127.0.0.21/32"])
        pen = lab.pen("-O", "geoip_db countries.mmdb")
        assert "country" in pen.command(f"acl 0 deny country {code}")

    def test_what_write_writes_can_be_read_again(self, lab, database):
        database(SE=["127.0.0.21/32"])
        pen = lab.pen("-O", "geoip_db countries.mmdb", "-O", "acl 2 deny country SE", servers=lab.backends(1))
        pen.command("write saved.cfg")
        saved = (lab.directory / "saved.cfg").read_text().splitlines()
        assert saved.index("geoip_db countries.mmdb") < saved.index("acl 2 deny country SE")
        assert pen.command("include saved.cfg") == ""
