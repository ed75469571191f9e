"""acl: entries against the standard library's idea of networks, lists against the rule of the man page."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penlib import acl, address
from penlib.errors import UsageError

CLOSE = st.integers(0, 255).map(lambda number: ipaddress.ip_address((10 << 24) + number))
ips = st.one_of(CLOSE, st.ip_addresses(v=4), st.ip_addresses(v=6))


@st.composite
def networks(draw):
    """Not the IPv4-mapped ones, which mean IPv4 networks."""
    ip = draw(ips)
    length = draw(st.integers(0, ip.max_prefixlen))
    assume(length < 96 or not getattr(ip, "ipv4_mapped", None))
    return ip, length


def entries(networks_and_verbs):
    return [acl.entry(permit, f"{ip}/{length}") for permit, (ip, length) in networks_and_verbs]


@given(networks(), ips)
def test_an_entry_matches_its_network(network, client):
    ip, length = network
    expected = client in ipaddress.ip_network(f"{ip}/{length}", strict=False)
    only = [acl.entry(True, f"{ip}/{length}")]
    assert acl.permits(only, client.packed) == expected
    assert acl.permits([acl.entry(False, f"{ip}/{length}")], client.packed) == (not expected)


@given(st.ip_addresses(v=4), st.integers(0, 2**32 - 1), st.ip_addresses(v=4))
def test_any_dotted_mask(ip, mask, client):
    """Also one with holes in it."""
    entry = acl.entry(True, str(ip), str(ipaddress.IPv4Address(mask)))
    assert acl.permits([entry], client.packed) == (int(client) & mask == int(ip) & mask)


@given(st.lists(st.tuples(st.booleans(), networks()), max_size=6), ips)
def test_the_first_match_decides_else_the_opposite_of_the_last(rules, client):
    expected = not rules[-1][0] if rules else True
    for permit, (ip, length) in reversed(rules):
        if client in ipaddress.ip_network(f"{ip}/{length}", strict=False):
            expected = permit
    assert acl.permits(entries(rules), client.packed) == expected


@given(st.lists(st.tuples(st.booleans(), networks()), min_size=1, max_size=6))
def test_a_client_without_address_is_no_matter_of_lists(rules):
    assert acl.permits(entries(rules), b"")


def test_an_empty_list_permits():
    assert acl.permits([], b"\1\2\3\4")
    assert acl.permits([], b"")


@given(st.booleans(), networks())
def test_what_an_entry_prints_makes_it_again(permit, network):
    ip, length = network
    entry = acl.entry(permit, f"{ip}/{length}")
    verb, *words = str(entry).split()
    assert acl.entry(verb == "permit", *words) == entry


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["10.1.2.3"], "permit 10.1.2.3 255.255.255.255"),
        (["10.1.2.3", "255.0.0.0"], "permit 10.0.0.0 255.0.0.0"),
        (["10.1.2.3/8"], "permit 10.0.0.0 255.0.0.0"),
        (["fd00::1"], "permit fd00::1/128"),
        (["fd00::1/16"], "permit fd00::/16"),
        (["::ffff:10.1.2.3"], "permit 10.1.2.3 255.255.255.255"),
    ],
)
def test_printed(words, printed):
    assert str(acl.entry(True, *words)) == printed


@pytest.mark.parametrize(
    "words",
    [["host"], [""], ["1.2.3"], ["1.2.3.4/33"], ["1.2.3.4/"], ["1.2.3.4/x"], ["1.2.3.4/-1"], ["1.2.3.4/²"],
     ["1.2.3.4/8", "255.0.0.0"], ["1.2.3.4", "255.0.0"], ["1.2.3.4", "x"], ["fd00::/129"],
     ["fd00::", "255.0.0.0"], ["fe80::1%lo"], ["1.2.3.4/" + "9" * 5000]],
)  # fmt: skip
def test_faults(words):
    with pytest.raises(UsageError, match=r"."):
        acl.entry(True, *words)


def test_there_are_ten_lists():
    assert acl.LISTS == 10
    assert address.pack("1.2.3.4") == b"\1\2\3\4", "what `permits` is given"
