"""dnswire: DNS messages, whoever made them."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import dnswire
from penlib.dnswire import CNAME, PTR

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
NAME = dnswire.wire_name(b"1.2.0.192.in-addr.arpa")
HOST = dnswire.wire_name(b"host.example")


def message(*records: tuple[bytes, int, int, bytes], flags: int = 0x8180, question: bytes = NAME) -> bytes:
    """An answer with id 7; records are owner, type, TTL and data."""
    head = struct.pack("!6H", 7, flags, 1, len(records), 0, 0) + question + struct.pack("!HH", PTR, 1)
    return head + b"".join(
        owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data for owner, kind, ttl, data in records
    )


@given(ADDRESSES)
def test_the_name_of_an_address_is_that_of_the_standard_library(address):
    assert dnswire.reverse_name(address.packed) == dnswire.wire_name(address.reverse_pointer.encode())


def test_an_answer():
    found = dnswire.parse(message((b"\xc0\x0c", PTR, 60, HOST)))
    assert (found.id, found.truncated, found.rcode) == (7, False, dnswire.NOERROR)
    assert found.question == dnswire.question(NAME, PTR)
    assert dnswire.answers(found, NAME, PTR) == ([HOST], 60)


def test_through_aliases_the_least_ttl_counts():
    alias, other = dnswire.wire_name(b"alias.example"), dnswire.wire_name(b"other.example")
    found = dnswire.parse(
        message((NAME, CNAME, 60, alias), (alias, CNAME, 10, other), (other, PTR, 99, HOST))
    )
    assert dnswire.answers(found, NAME, PTR) == ([HOST], 10)


def test_aliases_in_a_circle_end():
    found = dnswire.parse(message((NAME, CNAME, 60, HOST), (HOST, CNAME, 60, NAME)))
    assert dnswire.answers(found, NAME, PTR) == ([], 0)


def test_records_of_another_name_do_not_count():
    assert dnswire.answers(dnswire.parse(message((HOST, PTR, 60, HOST))), NAME, PTR) == ([], 0)


def test_case_does_not_count():
    found = dnswire.parse(message((NAME.upper(), PTR, 60, HOST)))
    assert dnswire.answers(found, NAME, PTR) == ([HOST], 60)


@pytest.mark.parametrize(("ttl", "kept"), [(0, 0), (1 << 31, 0), (10**9, dnswire.TTL_LIMIT)])
def test_odd_times_to_live(ttl, kept):
    assert dnswire.answers(dnswire.parse(message((NAME, PTR, ttl, HOST))), NAME, PTR)[1] == kept


@pytest.mark.parametrize(
    "data",
    [
        b"",
        message()[:11],
        message(flags=0x0100),
        message(question=b"\xc0\x0c"),
        message((b"\xc0\xff", PTR, 60, HOST)),
        message((NAME, PTR, 60, b"\xc0")),
        message((NAME, PTR, 60, HOST))[:-1],
        message((NAME, PTR, 60, b"\x40" + b"x" * 64 + b"\0")),
        message((NAME, PTR, 60, (b"\x3f" + b"x" * 63) * 4 + b"\0")),
    ],
)
def test_what_is_not_well_formed_is_refused(data):
    with pytest.raises(ValueError, match=r"cut short|points ahead|too long|not an answer"):
        dnswire.parse(data)


@pytest.mark.parametrize("pointers", [127, 128])
def test_a_name_leads_no_further_than_it_can_have_labels(pointers):
    """A record whose data are pointers, each to the one before, the first to the question's name; then one
    that is owned by the last of them."""
    begin = len(message((NAME, 16, 60, b"")))
    targets = [12, *range(begin, begin + 2 * (pointers - 2), 2)]
    chain = b"".join(struct.pack("!H", 0xC000 | target) for target in targets)
    owner = struct.pack("!H", 0xC000 | begin + len(chain) - 2)
    data = message((NAME, 16, 60, chain), (owner, PTR, 60, HOST))
    if pointers == 127:
        assert dnswire.answers(dnswire.parse(data), NAME, PTR) == ([HOST], 60)
    else:
        with pytest.raises(ValueError, match="too long"):
            dnswire.parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_value_error(data):
    for each in (data, message()[:12] + data, message() + data):
        try:
            dnswire.parse(each)
        except ValueError:
            continue


@given(st.data())
def test_a_damaged_answer_is_an_answer_or_a_value_error(data):
    good = bytearray(message((b"\xc0\x0c", PTR, 60, HOST), (NAME, CNAME, 60, HOST)))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = dnswire.parse(bytes(good))
    except ValueError:
        return
    names, _ = dnswire.answers(found, NAME, PTR)
    for name in names:
        assert b"." not in dnswire.text_name(name) or name[0]


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (HOST, b"host.example"),
        (b"\0", b""),
        (b"\3a.b\0", b"a\\046b"),
        (b"\3a\nb\0", b"a\\010b"),
        (b"\1\xff\0", b"\\255"),
        (b"\2\\x\0", b"\\092x"),
        (b"\4 !~\x7f\1-\0", b"\\032!~\\127.-"),
    ],
)
def test_names_as_text(wire, text):
    assert dnswire.text_name(wire) == text


@pytest.mark.parametrize("name", [b"", b"a..b", b".a", b"a.", b"x" * 64])
def test_names_that_have_no_wire_form(name):
    with pytest.raises(ValueError, match="not a host name"):
        dnswire.wire_name(name)


def test_the_addresses_used_here_are_what_they_look_like():
    assert dnswire.reverse_name(ipaddress.ip_address("192.0.2.1").packed) == NAME
