"""The server a client's address points to (-h, -N): the same for every pen that has the same servers.

The formula is pen 0.34.1's, so that a pair of balancers may be replaced one at a time.
"""


def address_hash(packed: bytes, port: int = 0) -> int:
    """A number of zero or more for a packed client address.

    IPv4: the four network bytes read as a little-endian integer, xor the two network bytes of `port` read
    the same way (give a port only where selection is round robin, -r).  IPv6: the last byte.  A client
    without an address (`b""`) hashes to 0.
    """
    if len(packed) == 4:
        return int.from_bytes(packed, "little") ^ int.from_bytes(port.to_bytes(2, "big"), "little")
    return packed[-1] if packed else 0
