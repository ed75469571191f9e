"""hostnames: which bytes are an address, and which names may stand in its place."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.hostnames import LEADING, choose, is_host_name, packed, read_hosts

TEXT = st.text("0123456789abcdefx.:-_", max_size=30)


@given(TEXT.filter(bool))
def test_nothing_that_inet_aton_or_inet_pton_takes_is_a_host_name(text):
    name = text.encode()
    if is_host_name(name):
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_aton(text)
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_pton(socket.AF_INET6, text)


@given(st.binary(max_size=260))
def test_a_host_name_breaks_no_line_and_no_field(name):
    if is_host_name(name):
        assert 0 < len(name) <= 253
        assert not set(name) - set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@given(st.ip_addresses())
def test_every_address_at_the_start_of_a_line_is_found(address):
    line = b"%b - - [x]\n" % str(address).encode()
    assert LEADING.split(line)[1] == str(address).encode()
    mapped = address.version == 6 and address.ipv4_mapped
    assert packed(str(address).encode()) == (mapped or address).packed


@pytest.mark.parametrize(
    "line",
    [
        b"x192.0.2.1 a", b" 192.0.2.1 a", b"192.0.2.1.example a", b"192.0.2.1:80 a", b"192.0.2.1/24 a",
        b"192.0.2.1-x", b"192.0.2.1\xc3\xa4", b"192.0.2 a", b"fe80::1%eth0 a", b"abcd a", b"",
    ],
)  # fmt: skip
def test_what_only_begins_like_an_address_is_none(line):
    assert len(LEADING.split(line)) == 1


def test_choose():
    assert choose([b"b.example", b"B.example", b"0x7f.1", b""]) == b"B.example"
    assert choose([b"127.1"]) is None
    assert choose([]) is None


def test_the_hosts_file(tmp_path):
    file = tmp_path / "hosts"
    file.write_bytes(
        b"# comment\n127.0.0.1 localhost # more\n192.0.2.1\tone.example alias\n192.0.2.1 two.example\n"
        b"::1 localhost\nbad line\n192.0.2.2\n192.0.2.3 b\xffd\n2001:DB8::1 six.example"
    )
    assert read_hosts(str(file)) == {
        ipaddress.ip_address("127.0.0.1").packed: b"localhost",
        ipaddress.ip_address("192.0.2.1").packed: b"one.example",
        ipaddress.ip_address("::1").packed: b"localhost",
        ipaddress.ip_address("2001:db8::1").packed: b"six.example",
    }
    assert read_hosts(str(tmp_path / "none")) == {}
