"""nsd, a real name server, for one zone."""

import socket

from support.lab import Lab
from support.ports import free_port, takes_datagrams
from support.process import Process
from support.programs import find
from support.waiting import wait_until

CONFIG = """
server:
    server-count: 1
    ip-address: {host}@{port}
    username: ""
    zonesdir: "{directory}"
    pidfile: ""
    xfrdir: "{directory}"
    xfrdfile: ""
    database: ""
    zonelistfile: "{directory}/{name}.list"
    verbosity: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: example.test
    zonefile: {name}.zone
"""

ZONE = """
$ORIGIN example.test.
$TTL 300
@ SOA ns hostmaster 1 3600 900 604800 300
@ NS ns
ns A 192.0.2.1
www A 192.0.2.80
server TXT "{name}"
"""


class Nsd:
    """`server.example.test TXT` is its name; `str()` is its address for pen."""

    def __init__(self, lab: Lab, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.lab, self.name, self.host = lab, name, host
        self.port = port or free_port(socket.SOCK_DGRAM)
        lab.write(f"{name}.zone", ZONE.format(name=name))
        values = {"host": host, "port": self.port, "name": name, "directory": lab.directory}
        self.config = lab.write(f"{name}.conf", CONFIG.format(**values))
        self.process: Process
        self.start()

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        self.process = self.lab.spawn([find("nsd") or "nsd", "-d", "-c", str(self.config)], self.name)
        wait_until(
            lambda: not self.process.alive or takes_datagrams(self.process.pid, self.port),
            f"{self.name} is there",
        )
        assert self.process.alive, self.process.err
