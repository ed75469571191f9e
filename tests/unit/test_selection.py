"""selection: a route against the reference's rules, written down a second time as plainly as can be."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from penlib import acl
from penlib.address import Endpoint, Place, ServerSpec
from penlib.clients import UNKNOWN, Client
from penlib.selection import Route, Selection
from penlib.servers import ABUSE, EMERGENCY, Server

NOW = 1000.0
ME = bytes([10, 0, 0, 1])
DENY_ME = [acl.entry(False, "10.0.0.1")]
NUMBERS = st.integers(0, 3)


def place(number: int) -> list[Place]:
    return [Place(socket.AF_INET, (f"192.0.2.{number}", 80))]


@st.composite
def tables(draw):
    """A selection in any state, and a client."""
    selection = Selection()
    selection.acls[1] = DENY_ME
    for index in range(draw(st.integers(0, 4))):
        server = Server(index, ServerSpec(Endpoint("web", 80), *(draw(NUMBERS) for _ in range(4))))
        server.move(Endpoint("web", 80), place(index) if draw(st.integers(0, 9)) else [])
        server.acl = draw(st.sampled_from([0, 0, 0, 1]))
        server.connections = draw(NUMBERS)
        server.banned_until = draw(st.sampled_from([0, 0, 0, NOW + 5]))
        server.failed_until = draw(st.sampled_from([0, 0, NOW + 5]))
        server.failed_at = draw(st.integers(0, 999)) + index / 10
        selection.servers.append(server)
    for name in ("hash", "forgetful", "roundrobin", "stubborn", "weight", "prio"):
        setattr(selection.mode, name, draw(st.booleans()))
    if selection.mode.forgetful:
        selection.mode.hash = True
    if draw(st.booleans()):
        selection.emergency = Server(EMERGENCY, ServerSpec(Endpoint("emergency", 80)))
        selection.emergency.move(Endpoint("emergency", 80), place(100))
    if draw(st.booleans()):
        selection.abuse = Server(ABUSE, ServerSpec(Endpoint("abuse", 80)))
        selection.abuse.move(Endpoint("abuse", 80), place(101))
    selection.client_acl = draw(st.sampled_from([0, 0, 0, 1]))
    client = Client(ME)
    if selection.servers:
        client.server = draw(st.sampled_from([UNKNOWN, *range(len(selection.servers))]))
    return selection, client


def walk(selection, client):
    """All servers of a route, if each fails."""
    route = Route(selection, client, 4711, NOW)
    tried = []
    while (server := route.next(NOW)) is not None:
        tried.append(server)
        assert len(tried) < 20
        if server.index >= 0:
            server.fail(NOW, 30)
    return tried


def expected_first(selection, client):
    """The number of the server that the rules name, or None."""
    mode, servers = selection.mode, selection.servers
    available = [s for s in servers if s.places and s.failed_until <= NOW and s.banned_until <= NOW]
    weighted = [s for s in available if s.weight]
    if not servers:
        return None
    if not mode.roundrobin and not mode.forgetful and client.server != UNKNOWN:
        return client.server
    if mode.prio and available:
        return min((s.prio, s.index) for s in available)[1]
    if mode.weight and weighted:
        return min((256 * s.connections // s.weight, s.index) for s in weighted)[1]
    if mode.hash:
        port = int.from_bytes((4711).to_bytes(2, "big"), "little") if mode.roundrobin else 0
        return (int.from_bytes(ME, "little") ^ port) % len(servers)
    return available[0].index if available else None


@given(tables())
def test_the_first_choice(table):
    selection, client = table
    first = selection.first(client, 4711, NOW)
    assert (first.index if first else None) == expected_first(selection, client)


@given(tables())
def test_a_denied_client_sees_the_abuse_server_or_nobody(table):
    selection, client = table
    if selection.client_acl == 1:
        assert walk(selection, client) == ([selection.abuse] if selection.abuse else [])


def usable(selection, server, client):
    limit = server.hard if client.server == server.index and server.hard > server.max else server.max
    return (
        server.places
        and server.acl == 0
        and server.failed_until <= NOW
        and server.banned_until <= NOW
        and not (server.max and server.connections >= limit)
    )


@given(tables())
def test_the_order_when_all_fail(table):
    """The first, the ones behind it round to it, the emergency server, and the longest failed once more."""
    selection, client = table
    if selection.client_acl == 1:
        return
    servers, count = selection.servers, len(selection.servers)
    first = expected_first(selection, client)
    if first is None:
        ring = []
    else:
        ring = [servers[(first + step) % count] for step in range(1 if selection.mode.stubborn else count)]
    regular = [server for server in ring if usable(selection, server, client)]
    tried = walk(selection, client)
    assert tried[: len(regular)] == regular
    rest = tried[len(regular) :]
    if selection.mode.stubborn:
        assert selection.emergency not in rest
    if rest and rest[0] is selection.emergency:
        rest = rest[1:]
    assert len(rest) <= 1, "one last resort"
    for server in rest:
        assert server.places
        assert server.acl == 0
        assert server.banned_until <= NOW
        assert server not in regular


@given(tables())
def test_the_emergency_server_is_for_failure_not_for_the_denied(table):
    selection, client = table
    tried = walk(selection, client)
    configured = [server for server in selection.servers if server.places]
    denied = configured and all(server.acl == 1 for server in configured)
    if selection.client_acl == 1 or denied:
        assert selection.emergency not in tried
    elif selection.emergency and not selection.mode.stubborn:
        assert selection.emergency in tried


@given(tables())
def test_the_last_resort_is_the_one_that_failed_longest_ago(table):
    selection, client = table
    if selection.client_acl == 1 or selection.mode.stubborn:
        return
    candidates = [
        server
        for server in selection.servers
        if server.places and server.acl == 0 and server.banned_until <= NOW < server.failed_until
        and not server.is_full(returning=client.server == server.index)
    ]  # fmt: skip
    oldest = min(candidates, key=lambda server: server.failed_at, default=None)
    tried = walk(selection, client)
    if oldest:
        assert tried[-1] is oldest
    assert len(tried) == len(set(map(id, tried))), "nobody is tried twice"


def test_turns_go_round():
    selection = Selection()
    for index in range(3):
        server = Server(index, ServerSpec(Endpoint("web", 80)))
        server.move(Endpoint("web", 80), place(index))
        selection.servers.append(server)
    selection.mode.roundrobin = True
    client = Client(ME)
    assert [selection.first(client, 1, NOW).index for _ in range(5)] == [0, 1, 2, 0, 1]
    selection.servers[2].fail(NOW, 30)
    assert [selection.first(client, 1, NOW).index for _ in range(4)] == [0, 1, 0, 1]
    selection.servers[2].succeed()
    assert [selection.first(client, 1, NOW).index for _ in range(3)] == [2, 0, 1]
