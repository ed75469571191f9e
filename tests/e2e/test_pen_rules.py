"""Random servers, modes, failures, lists and clients: each client gets the server that the rules name.

The rules are written down here once more, as they stand in the manual page, without a look at penlib.
"""

import random
import socket
import struct

import pytest
from support.ports import free_port

STEPS = 80
CLIENTS = 6
LISTS = (1, 2, 3)
CLIENT_LIST = 3
FOR_GOOD = 1000
"""Seconds: nothing comes back by itself while a test lasts."""


class Server:
    """What the rules know of a server."""

    def __init__(self, index, dice):
        self.index = index
        self.name = f"s{index}"
        self.max = dice.choice([0, 0, 0, 1, 2, 3])
        self.hard = dice.choice([0, 0, 1, 2, 3, 4, 5])
        self.weight = dice.choice([0, 1, 2, 3, 5])
        self.prio = dice.choice([0, 1, 1, 2])
        self.acl = self.connections = self.failed_at = 0
        self.answers = True
        self.banned = False

    @property
    def available(self):
        return not (self.banned or self.failed_at)


class Rules:
    """Who gets which server; `modes` are option letters, and p for the command prio."""

    def __init__(self, servers, modes, emergency, abuse):
        self.servers = servers
        self.modes = modes
        self.emergency = emergency
        self.abuse = abuse
        self.last = {}
        self.turn = -1
        self.failures = 0
        self.lists = {number: [] for number in (0, *LISTS)}

    def connect(self, client, port):
        """The server that a client gets, or the name of one outside the table, or None."""
        if not self.permits(CLIENT_LIST, client):
            return self.abuse or None
        for server in self.ways(self.first(client, port), client):
            if isinstance(server, str):
                return server
            if server.answers:
                server.failed_at = 0
                server.connections += 1
                self.last[client] = server.index
                return server
            self.failures += 1
            server.failed_at = self.failures
        return None

    def first(self, client, port):
        available = [server for server in self.servers if server.available]
        weighty = [server for server in available if server.weight]
        if not {"r", "N"} & self.modes and client in self.last:
            return self.servers[self.last[client]]
        if "p" in self.modes and available:
            return min(available, key=lambda server: server.prio)
        if "W" in self.modes and weighty:
            return min(weighty, key=lambda server: 256 * server.connections // server.weight)
        if {"h", "N"} & self.modes:
            (number,) = struct.unpack("<I", socket.inet_aton(client))
            swapped = struct.unpack("<H", struct.pack(">H", port))[0]
            return self.servers[(number ^ (swapped if "r" in self.modes else 0)) % len(self.servers)]
        behind = [server for server in available if server.index > self.turn]
        found = next(iter(behind or available), None)
        if found:
            self.turn = found.index
        return found

    def ways(self, first, client):
        """The servers to try, one after another."""
        tried = []
        at = first.index if first else 0
        round_to_it = self.servers[at:] + self.servers[:at] if first else []
        for server in round_to_it[:1] if "s" in self.modes else round_to_it:
            if server.available and self.takes(server, client):
                tried.append(server)
                yield server
        welcome = any(self.permits(server.acl, client) for server in self.servers)
        if self.emergency and welcome and "s" not in self.modes:
            yield self.emergency
            return  # it always answers
        candidates = [first] if "s" in self.modes and first else self.servers
        failed = [
            server
            for server in candidates
            if server.failed_at and not server.banned and server not in tried and self.takes(server, client)
        ]
        if failed:
            yield min(failed, key=lambda server: server.failed_at)

    def takes(self, server, client):
        returning = self.last.get(client) == server.index
        limit = server.hard if returning and server.hard > server.max else server.max
        return self.permits(server.acl, client) and not (server.max and server.connections >= limit)

    def permits(self, number, client):
        entries = self.lists[number]
        decided = [permit for permit, address in entries if address == client]
        return decided[0] if decided else not entries or not entries[-1][0]


class Game:
    """A pen, its rules, and steps that happen to both."""

    def __init__(self, lab, dice):
        self.dice = dice
        self.servers = [Server(index, dice) for index in range(dice.randint(1, 5))]
        self.backends = [lab.backend(name=server.name) for server in self.servers]
        modes = {mode for mode in "rNhWsp" if dice.random() < 0.25}
        words = ["-b", str(FOR_GOOD), "-O", f"client_acl {CLIENT_LIST}"]
        words += dice.choice([[], ["-P"], ["-O", "select"]])
        words += ["-Oprio" if mode == "p" else f"-{mode}" for mode in sorted(modes)]
        outside = {"-e": "", "-B": ""}
        for option, name in (("-e", "emergency"), ("-B", "abuse")):
            if dice.random() < 0.4:
                outside[option] = name
                words += [option, str(lab.backend(name=name))]
        self.rules = Rules(self.servers, modes, emergency=outside["-e"], abuse=outside["-B"])
        named = [
            f"{backend}:{server.max}:{server.hard}:{server.weight}:{server.prio}"
            for backend, server in zip(self.backends, self.servers, strict=True)
        ]
        self.pen = lab.pen(*words, servers=named)
        self.addresses = [f"127.{dice.randrange(1, 250)}.{dice.randrange(250)}.7" for _ in range(CLIENTS)]
        self.open = []
        self.story = [" ".join([*words, *named])]

    def connect(self):
        address, port = self.dice.choice(self.addresses), free_port()
        client = self.pen.client((address, port))
        found, wanted = client.line_or_end(), self.rules.connect(address, port)
        name = wanted.name if isinstance(wanted, Server) else wanted or ""
        self.story.append(f"{address}:{port} got {found!r}")
        assert found == name, "\n".join([*self.story, f"and not {name!r}"])
        if found:
            self.open.append((client, wanted))

    def leave(self):
        if self.open:
            self.close([self.dice.choice(self.open)])

    def close(self, leaving):
        for one in leaving:
            self.open.remove(one)
            client, server = one
            client.close()
            if isinstance(server, Server):
                server.connections -= 1
        self.pen.wait_connections(sum(server.connections for server in self.servers))

    def fail_or_come_back(self):
        server = self.dice.choice(self.servers)
        self.story.append(f"{server.name} {'fails' if server.answers else 'comes back'}")
        if server.answers:
            self.close([one for one in self.open if one[1] is server])
            self.backends[server.index].stop()
        else:
            self.backends[server.index].start()
        server.answers = not server.answers

    def ban_or_readmit(self):
        server = self.dice.choice(self.servers)
        seconds = self.dice.choice([0, FOR_GOOD])
        self.command(f"server {server.index} blacklist {seconds}")
        server.banned = bool(seconds)
        if not seconds:
            server.failed_at = 0

    def change_list(self):
        number, address = self.dice.choice(LISTS), self.dice.choice(self.addresses)
        if self.dice.random() < 0.5:
            self.command(f"no acl {number}")
            self.rules.lists[number].clear()
        else:
            permit = self.dice.random() < 0.5
            self.command(f"acl {number} {'permit' if permit else 'deny'} {address}")
            self.rules.lists[number].append((permit, address))

    def change_server(self):
        server, value = self.dice.choice(self.servers), self.dice.randrange(4)
        what = self.dice.choice(["acl", "max", "hard", "weight", "prio"])
        self.command(f"server {server.index} {what} {value}")
        setattr(server, what, value)

    def command(self, line):
        self.story.append(line)
        assert self.pen.command(line) == ""


@pytest.mark.parametrize("seed", range(40))
def test_the_rules_name_the_server(lab, seed):
    dice = random.Random(seed)
    game = Game(lab, dice)
    steps = [Game.connect] * 12 + [Game.leave] * 4
    steps += [Game.fail_or_come_back, Game.ban_or_readmit, Game.change_list, Game.change_server]
    for _ in range(STEPS):
        dice.choice(steps)(game)
    assert "error" not in game.pen.err
