"""hashing: the formula, worked out another way."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from penlib.hashing import address_hash

addresses = st.ip_addresses(v=4).map(lambda ip: ip.packed)
ports = st.integers(0, 65535)


def test_worked_examples():
    """127.0.0.1 is 0x0100007f read backwards; port 80 is the bytes 00 50, 0x5000 backwards."""
    assert address_hash(bytes([127, 0, 0, 1])) == 0x0100007F
    assert address_hash(bytes([127, 0, 0, 1]), 80) == 0x0100007F ^ 0x5000
    assert address_hash(bytes(15) + b"\xfe") == 0xFE
    assert address_hash(bytes(15) + b"\xfe", 80) == 0xFE
    assert address_hash(b"") == 0


@given(addresses, ports)
def test_ipv4(packed, port):
    (number,) = struct.unpack("<I", packed)
    (swapped,) = struct.unpack("<H", struct.pack(">H", port))
    assert address_hash(packed, port) == number ^ swapped


@given(st.binary(min_size=16, max_size=16), ports)
def test_ipv6(packed, port):
    assert address_hash(packed, port) == packed[-1]
