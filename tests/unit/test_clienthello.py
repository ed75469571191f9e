"""clienthello: the name in a client's first message, however much of it has come and whatever it is."""

import random
import ssl

import pytest

from penlib.clienthello import LIMIT, MOST_RECORDS, server_name


def hello(name: str | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = most
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same message in records of at most `size` bytes."""
    message = data[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name(version: ssl.TLSVersion) -> None:
    assert server_name(hello("Www.Example.COM", version)) == "www.example.com"
    assert server_name(hello(None, version)) == ""


def test_more_must_come() -> None:
    data = hello("www.example.com")
    assert [server_name(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert server_name(data + b"and more") == "www.example.com"


@pytest.mark.parametrize("size", [7, 100])
def test_spread_over_records(size: int) -> None:
    data = in_records(hello("www.example.com"), size)
    assert server_name(data) == "www.example.com"
    assert server_name(data[:-1]) is None


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("size", [0, 1])
def test_thousands_of_records_are_given_up(size: int, more: int) -> None:
    """Nothing but the first byte of a hello, and then again and again nothing, or a byte of its length."""
    record = b"\x16\x03\x01\x00" + bytes([size]) + b"\xff" * size
    data = b"\x16\x03\x01\x00\x01\x01" + record * (MOST_RECORDS - 2 + more)
    assert server_name(data) == ("" if more else None)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",  # a server's hello
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # an empty one
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
    ],
)
def test_what_is_no_hello_has_no_name(data: bytes) -> None:
    assert server_name(data) == ""


def test_an_endless_one_is_given_up() -> None:
    data = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"
    assert server_name(data) is None
    assert server_name(data.ljust(LIMIT, b"\0")) == ""


@pytest.mark.parametrize("seed", range(20))
def test_nothing_breaks_it(seed: int) -> None:
    rng = random.Random(seed)
    data = hello("www.example.com")
    for _ in range(200):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        found = server_name(bytes(broken[: rng.randrange(len(broken) + 1)]))
        assert found is None or isinstance(found, str)
