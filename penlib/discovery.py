"""The access logs that belong to a pen's log, found by the servers that it names.

`mergelogs -p pen.log` means the logs beside pen.log that are named after the servers' addresses or host
names.
"""

import os
import socket

from penlib.inputs import Input
from penlib.records import parse_file_line
from penlib.sockets import interruptible

FORMS = ("access_log.%s", "access_log-%s", "%s.log")
SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")


def find(pen_log: str, server: str) -> str | None:
    """The access log of `server` (numeric address or path) beside `pen_log`; None if there is none."""
    directory = os.path.dirname(pen_log)
    for name in _names(server):
        for form in FORMS:
            for suffix in SUFFIXES:
                path = os.path.join(directory, form % name + suffix)
                if os.path.isfile(path) and not os.path.samefile(path, pen_log):
                    return path
    return None


def looked_for(server: str) -> str:
    """What `find` looks for, in words."""
    return ", ".join(form % server for form in FORMS)


def servers(pen_logs: list[str]) -> list[str]:
    """The servers that the records of these logs name, first met first.  Raises PenError."""
    found: dict[bytes, None] = {}
    for name in pen_logs:
        log = Input(name)
        while not log.done:
            for line in log.lines():
                server = line.split(b" ", 3)[2:3]
                if server and server[0] not in found and parse_file_line(line):
                    found[server[0]] = None
    return [server.decode("ascii") for server in found]


def _names(server: str) -> list[str]:
    """The address, then the host names that it has; of a Unix socket the name of the file."""
    if "/" in server:
        return [os.path.basename(server)]
    try:
        name, aliases, _ = interruptible(lambda: socket.gethostbyaddr(server))
    except (OSError, UnicodeError):
        return [server]
    full = [name, *aliases]
    return list(dict.fromkeys([server, *full, *(name.partition(".")[0] for name in full)]))
