"""nameserver - a name server for the demo, which knows the visitors and nobody else

Usage:
  nameserver <address> <address=name>...
  nameserver --help | --version

Answers questions for the name of an address (PTR, RFC 1035), by UDP. Standard output tells the port, which
the kernel chose.
"""

import signal
import socket
import struct
import sys

from penlib.frame import run
from penlib.usage import Args

ANSWER, NO_SUCH_NAME = 0x8180, 0x8183  # flags: an answer, recursion desired and available; with RCODE 3
PTR, IN = 12, 1
TO_THE_QUESTION = 0xC00C  # a pointer to byte 12, where the question's name stands
HOUR = 3600


def main(args: Args) -> None:
    """Answer until a signal ends us."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    names = dict(pair.split("=") for pair in args["<address=name>"])
    known = {question(address): encoded(name) for address, name in names.items()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((args["<address>"], 0))
        print(sock.getsockname()[1], flush=True)
        while True:
            data, client = sock.recvfrom(512)
            if len(data) > 12:
                sock.sendto(answer(data, known), client)


def encoded(name: str) -> bytes:
    """A domain name as it travels: labels with their lengths."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def question(address: str) -> bytes:
    """What is asked to find the name of an IPv4 address."""
    reverse = ".".join(reversed(address.split(".")))
    return encoded(f"{reverse}.in-addr.arpa") + struct.pack("!HH", PTR, IN)


def answer(data: bytes, known: dict[bytes, bytes]) -> bytes:
    """The answer to one message with one question."""
    end = data.find(b"\0", 12) + 5
    asked = data[12:end]
    name = known.get(asked)
    if name is None:
        return data[:2] + struct.pack("!5H", NO_SUCH_NAME, 1, 0, 0, 0) + asked
    found = struct.pack("!HHHIH", TO_THE_QUESTION, PTR, IN, HOUR, len(name)) + name
    return data[:2] + struct.pack("!5H", ANSWER, 1, 1, 0, 0) + asked + found


if __name__ == "__main__":
    sys.exit(run("nameserver", __doc__, main))
