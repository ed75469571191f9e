"""address: every form, every fault, and that what is printed parses again."""

import contextlib
import socket

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penlib import address
from penlib.address import Endpoint, Place, ServerSpec
from penlib.errors import UsageError

ports = st.integers(1, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(str)
labels = st.from_regex(r"\A[a-z]([a-z0-9_-]{0,20}[a-z0-9])?\Z")
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
paths = st.from_regex(r"\A(\.?/[a-z0-9._-]{1,10}){1,4}\Z").filter(lambda path: not path.endswith("/"))
limits = st.integers(0, 10**9 - 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", Endpoint("", 80)),
        ("http", Endpoint("", 80)),
        (":80", Endpoint("", 80)),
        ("lbhost:80", Endpoint("lbhost", 80)),
        ("lbhost:http", Endpoint("lbhost", 80)),
        ("127.0.0.1:80", Endpoint("127.0.0.1", 80)),
        ("[::1]:80", Endpoint("::1", 80)),
        ("::1:80", Endpoint("::1", 80)),
        (":::10000", Endpoint("::", 10000)),
        ("[::]:10000", Endpoint("::", 10000)),
        ("fe80::1:2:80", Endpoint("fe80::1:2", 80)),
        ("[fe80::1%lo]:80", Endpoint("fe80::1%lo", 80)),
        ("::ffff:1.2.3.4:80", Endpoint("1.2.3.4", 80)),
        ("[::FFFF:0102:304]:80", Endpoint("1.2.3.4", 80)),
        ("/run/pen.sock", Endpoint("", 0, "/run/pen.sock")),
        ("./pen.sock", Endpoint("", 0, "./pen.sock")),
        ("a/b:80", Endpoint("", 0, "a/b:80")),
        ("host.example.:80", Endpoint("host.example.", 80)),
        ("under_score:80", Endpoint("under_score", 80)),
        ("65535", Endpoint("", 65535)),
    ],
)
def test_listener(text, expected):
    assert address.listener(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host1", ServerSpec(Endpoint("host1", 7))),
        ("host1:80", ServerSpec(Endpoint("host1", 80))),
        ("host1:pop3", ServerSpec(Endpoint("host1", 110))),
        ("host1::5", ServerSpec(Endpoint("host1", 7), 5)),
        ("host1:80:1:2:3:4", ServerSpec(Endpoint("host1", 80), 1, 2, 3, 4)),
        ("host1:80:::3", ServerSpec(Endpoint("host1", 80), 0, 0, 3)),
        ("[::1]", ServerSpec(Endpoint("::1", 7))),
        ("[::ffff:1.2.3.4]", ServerSpec(Endpoint("1.2.3.4", 7))),
        ("[::1]:80:1:2:3:4", ServerSpec(Endpoint("::1", 80), 1, 2, 3, 4)),
        ("/run/s", ServerSpec(Endpoint("", 0, "/run/s"))),
        ("./s", ServerSpec(Endpoint("", 0, "./s"))),
        ("/run/s:0:1:2:3:4", ServerSpec(Endpoint("", 0, "/run/s"), 1, 2, 3, 4)),
        ("/run/s::1", ServerSpec(Endpoint("", 0, "/run/s"), 1)),
        ("/run/a:b", ServerSpec(Endpoint("", 0, "/run/a:b"))),
    ],
)
def test_server(text, expected):
    assert address.server(text, default_port=7) == expected


def test_services_are_looked_up_for_the_protocol_in_use():
    assert address.listener("tftp", "udp") == Endpoint("", 69)
    with pytest.raises(UsageError, match="tcp service 'tftp'"):
        address.listener("tftp", "tcp")


@pytest.mark.parametrize(
    ("parse", "text", "fault"),
    [
        (address.listener, "", "no port"),
        (address.listener, "0", "not between 1 and 65535"),
        (address.listener, "65536", "not between 1 and 65535"),
        (address.listener, "9" * 50, "not between 1 and 65535"),
        (address.listener, "host:", "no port"),
        (address.listener, "host:-1", "-1"),
        (address.listener, "host:+1", "\\+1"),
        (address.listener, "host: 1", " 1"),
        (address.listener, "host:٣", "٣"),
        (address.listener, "nosuchservice", "'nosuchservice'; \\[host:\\]port or /path expected"),
        (address.listener, "host:nosuchservice", "'nosuchservice'$"),
        (address.listener, "1.2.3:80", "not an IPv4 address"),
        (address.listener, "1.2.3.256:80", "not an IPv4 address"),
        (address.listener, "1:2:80", "not an IPv6 address"),
        (address.listener, "[::1:80", "expected"),
        (address.listener, "::1]:80", "expected"),
        (address.listener, "[1.2.3.4]:80", "not an IPv6 address"),
        (address.listener, "a b:80", "not a host name"),
        (address.listener, "-host:80", "not a host name"),
        (address.listener, "ho..st:80", "not a host name"),
        (address.listener, "h\0st:80", "not a host name"),
        (address.listener, "x" * 64 + ":80", "not a host name"),
        (address.listener, "/" + "x" * 107, "at most 107 bytes"),
        (address.listener, "/run/", "not the name of a socket"),
        (address.listener, "/run/\0", "not the name of a socket"),
        (address.server, "", "no host"),
        (address.server, ":80", "no host"),
        (address.server, "::1", "\\[::1\\]:port"),
        (address.server, "::1:80", "\\[::1:80\\]:port"),
        (address.server, "::ffff:1.2.3.4:80", "\\[::ffff:1.2.3.4\\]:port"),
        (address.listener, "[::1%]:80", "not an IPv6 address"),
        (address.target, "host", "no port"),
        (address.target, "host:", "no port"),
        (address.server, "host:", "no port"),
        (address.server, "[::1]:", "no port"),
        (address.target, "host:80:1", "host:port expected"),
        (address.target, "/run/pen.sock", "host:port expected"),
        (address.server, "host:80:x", "max: 'x' is not a number"),
        (address.server, "host:80:1:-2", "hard: '-2' is not a number"),
        (address.server, "host:80:1:2:x", "weight: 'x' is not a number"),
        (address.server, "host:80:1:2:3:x", "prio: 'x' is not a number"),
        (address.server, "host:80:9999999999", "max: '9999999999' is too large"),
        (address.server, "host:80:1:2:3:4:5", "more than"),
    ],
)
def test_faults_name_the_address(parse, text, fault):
    with pytest.raises(UsageError, match=fault) as caught:
        parse(text)
    assert text in str(caught.value)


@given(st.text(), st.sampled_from([address.listener, address.server, address.target]))
def test_any_text_is_an_address_or_a_usage_error(text, parse):
    with contextlib.suppress(UsageError):
        assert isinstance(parse(text), Endpoint | ServerSpec)


@given(st.one_of(hosts, ipv4, ipv6, st.just("")), ports)
def test_what_a_listener_prints_parses_again(host, port):
    endpoint = Endpoint(host, port)
    assert address.listener(str(endpoint)) == endpoint


@given(ipv6, ports)
def test_the_last_colon_divides(host, port):
    assert address.listener(f"{host}:{port}") == Endpoint(host, port)


@given(st.one_of(hosts, ipv4, ipv6), ports, st.tuples(limits, limits, limits, limits))
def test_what_a_server_prints_parses_again(host, port, numbers):
    text = ":".join([str(Endpoint(host, port)), *map(str, numbers)])
    assert address.server(text) == ServerSpec(Endpoint(host, port), *numbers)


@given(paths)
def test_anything_with_a_slash_is_a_socket(path):
    assert address.listener(path) == Endpoint("", 0, path)
    assert str(address.listener(path)) == path


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_pack_is_the_network_bytes(ip):
    assume(not getattr(ip, "ipv4_mapped", None))
    assert address.pack(str(ip)) == ip.packed
    assert address.pack(address.unpack(ip.packed)) == ip.packed


@given(st.ip_addresses(v=4))
def test_an_ipv4_client_is_ipv4_however_it_came(ip):
    assert address.unmap(f"::ffff:{ip}") == str(ip)
    assert address.pack(f"::ffff:{ip}") == ip.packed


def test_pack_refuses_what_is_no_address():
    for text in ("", "host", "1.2.3", "::x"):
        with pytest.raises(OSError, match="illegal"):
            address.pack(text)


def test_places():
    four = Place(socket.AF_INET, ("1.2.3.4", 80))
    six = Place(socket.AF_INET6, ("fe80::1", 80, 0, 3))
    path = Place(socket.AF_UNIX, "/run/s")
    assert [place.host for place in (four, six, path)] == ["1.2.3.4", "fe80::1", "/run/s"]
    assert [str(place) for place in (four, six, path)] == ["1.2.3.4:80", "[fe80::1]:80", "/run/s"]
    assert four.at_port(81).sockaddr == ("1.2.3.4", 81)
    assert six.at_port(81).sockaddr == ("fe80::1", 81, 0, 3), "flow and scope stay"
    assert path.at_port(81) == path
