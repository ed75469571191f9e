"""nsd, the name server behind the proxies, and dnsperf, which asks it through them."""

import subprocess
from pathlib import Path

from bench.process import PATIENCE, Program, find, free_port
from penlib.errors import PenError

NAMES = 100
"""That are asked for, in turn."""
CLIENTS, UNDERWAY = 20, 20
"""Ports that dnsperf asks from, and questions that are on their way at once."""
CONFIG = """\
server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    username: ""
    zonesdir: "{directory}"
    pidfile: ""
    xfrdir: "{directory}"
    xfrdfile: ""
    database: ""
    zonelistfile: "{directory}/list"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: example.test
    zonefile: zone
"""


class Nsd(Program):
    """It answers for example.test at `port` of 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        names = [f"www{number}" for number in range(NAMES)]
        zone = "".join(f"{name} A 192.0.2.80\n" for name in ("ns", *names))
        (directory / "zone").write_text(
            f"$ORIGIN example.test.\n$TTL 300\n@ SOA ns root 1 3600 900 604800 300\n@ NS ns\n{zone}"
        )
        (directory / "nsd.conf").write_text(CONFIG.format(port=port, directory=directory))
        self._queries = directory / "queries"
        self._queries.write_text("".join(f"{name}.example.test A\n" for name in names))
        command = [find("nsd"), "-d", "-c", str(directory / "nsd.conf")]
        super().__init__("nsd, the name server", command, port, directory, udp=True)

    def load(self, port: int, seconds: int) -> tuple[int, float]:
        """Ask through the proxy on `port`: how many were answered, in how many seconds.  Raises PenError for
        a lost or a wrong answer."""
        words = ["-s", "127.0.0.1", "-p", str(port), "-d", str(self._queries), "-l", str(seconds)]
        words += ["-c", str(CLIENTS), "-q", str(UNDERWAY)]
        done = subprocess.run(
            [find("dnsperf"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + 2 * PATIENCE,
        )
        return answered(done.stdout.decode("utf-8", "replace"))


def answered(said: str) -> tuple[int, float]:
    """What dnsperf `said`, if all is well.  Raises PenError if not."""
    found = {}
    for line in said.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            found[name.strip()] = value.split()
    try:
        sent, completed = int(found["Queries sent"][0]), int(found["Queries completed"][0])
        right = found["Response codes"][:2] == ["NOERROR", str(completed)]
        seconds = float(found["Run time (s)"][0])
    except (KeyError, ValueError, IndexError):
        raise PenError(f"dnsperf: {said.strip()}") from None
    if sent != completed or not right:
        raise PenError(f"dnsperf: {completed} of {sent} queries answered, or not all of them well:\n{said}")
    return completed, seconds
