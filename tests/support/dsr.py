"""Hosts for direct server return, on one Ethernet: a client, two that can run pen, and the servers."""

import contextlib
import subprocess

from support.client import Client
from support.network import Switch, inside
from support.programs import find
from support.waiting import wait_until

VIP, PORT = "10.9.0.100", 80
CLIENTS = [f"10.9.0.{number}" for number in range(11, 19)]
SERVERS = ["10.9.0.2", "10.9.0.3"]


class Hosts:
    """The client with its addresses, the host of pen, and the servers."""

    def __init__(self, lab, servers=2):
        self.lab = lab
        switch = Switch(lab)
        self.client = switch.host("10.9.0.10")
        with inside(self.client):
            for address in CLIENTS:
                subprocess.run([find("ip"), "address", "add", f"{address}/24", "dev", "eth0"], check=True)
        self.pens = switch.host("10.9.0.1")
        self.spare = switch.host("10.9.0.4")
        self.servers = [switch.host(address, VIP) for address in SERVERS[:servers]]
        self.backends = []
        for number, pid in enumerate(self.servers):
            with inside(pid):
                self.backends.append(lab.backend(host=VIP, port=PORT, name=f"s{number}"))

    def pen(self, *options, servers=SERVERS, listen=f"{VIP}:{PORT}", control="./ctl", host=None, program=()):
        with inside(host or self.pens):
            words = ["-f", "-u", "root", "-C", control, "-O", "dsr_if eth0", *options, listen, *servers]
            ctl = self.lab.directory / "ctl"
            pen = self.lab.pen_as_typed(
                *words, listen="127.0.0.1:1", control=str(ctl), wait=False, program=program
            )
            wait_until(lambda: not pen.alive or ctl.exists(), "pen runs")
            assert pen.alive, pen.err
            return pen

    def ask(self, source=CLIENTS[0], address=(VIP, PORT)):
        """Who answers; empty if nobody does."""
        with (
            inside(self.client),
            contextlib.suppress(OSError, TimeoutError),
            Client(address, source, seconds=2) as client,
        ):
            return client.line()
        return ""

    def commands(self, *words):
        done = self.lab.run("penctl", str(self.lab.directory / "ctl"), *words)
        assert done.code == 0, done
        return done.out

    def serving(self):
        """Wait until somebody answers: pen has asked for the servers' addresses."""
        wait_until(lambda: self.ask(), "somebody answers")
