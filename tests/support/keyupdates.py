"""A program: a TLS client that sends nothing but key updates, as fast as it can, until it is ended.

    python keyupdates.py HOST PORT SIZE

It says `begun` once it is connected and has sent its data, of SIZE bytes.  In ctypes: no library for Python
has the call.
"""

import ctypes
import socket
import sys

UPDATE_NOT_REQUESTED = 0


def library() -> ctypes.CDLL:
    """OpenSSL, with the types of what is called here."""
    found = ctypes.CDLL("libssl.so.3")
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(found, name).restype = ctypes.c_void_p
    pointer = ctypes.c_void_p
    for name, *more in (
        ("SSL_CTX_new",), ("SSL_new",), ("SSL_set_fd", ctypes.c_int), ("SSL_connect",), ("SSL_do_handshake",),
        ("SSL_key_update", ctypes.c_int), ("SSL_write", ctypes.c_char_p, ctypes.c_int),
    ):  # fmt: skip
        getattr(found, name).argtypes = [pointer, *more]
    return found


def main() -> None:
    openssl = library()
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    tls = openssl.SSL_new(openssl.SSL_CTX_new(openssl.TLS_client_method()))
    openssl.SSL_set_fd(tls, sock.fileno())
    size = int(sys.argv[3])
    if openssl.SSL_connect(tls) != 1 or openssl.SSL_write(tls, bytes(size), size) != size:
        sys.exit("no TLS")
    print("begun", flush=True)
    while openssl.SSL_key_update(tls, UPDATE_NOT_REQUESTED) == 1 and openssl.SSL_do_handshake(tls) == 1:
        pass
    sys.exit("pen would have no more of it")


if __name__ == "__main__":
    main()
