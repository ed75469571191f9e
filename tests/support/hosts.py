"""Hosts on switches, where recipes are typed: each is a network namespace with cables, and has /run,
/etc/hosts, /etc/keepalived and our tools in /usr/local/bin for itself.  Needs root.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from support.lab import Lab
from support.network import inside, ip
from support.process import Result
from support.programs import SYSTEM_PATH, tools_in
from support.waiting import wait_until

MOUNTS = """
mount --bind {etc}/hosts /etc/hosts &&
mount --bind {run} /run &&
mount -t overlay -o lowerdir={tools}:/usr/local/bin tools /usr/local/bin &&
if [ -d /etc/keepalived ]; then mount --bind {etc} /etc/keepalived; fi &&
exec "$@"
"""


class Host:
    """One of them.  `type` types a block of a recipe there; `inside` lets the test itself be there."""

    def __init__(self, lab: Lab, name: str, known: Mapping[str, str]) -> None:
        self.lab, self.name = lab, name
        self.directory, self.run, self.etc = (
            lab.directory / part for part in (name, f"{name}/run", f"{name}/etc")
        )
        for directory in (self.directory, self.run, self.etc):
            directory.mkdir()
            directory.chmod(0o755)
        hosts = {"localhost": "127.0.0.1", **known}
        (self.etc / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        mounts = MOUNTS.format(etc=self.etc, run=self.run, tools=tools_in(lab.directory / "bin"))
        self._under = ["unshare", "--mount", "sh", "-c", mounts, "sh", "sh", "-c"]
        self._environment = {"PATH": f"/usr/local/bin:{SYSTEM_PATH}"}
        self.interfaces = 0
        sleeper = lab.spawn(["unshare", "--net", "sleep", "infinity"], f"host-{name}")
        here = os.readlink("/proc/thread-self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{sleeper.pid}/ns/net") != here, "a network of its own")
        self.namespace = sleeper.pid
        with self.inside():
            ip("link set lo up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        with inside(self.namespace):
            yield

    def plug(self, switch: str, *addresses: str) -> "Host":
        """The next interface, eth0, eth1, ..., with a cable to a switch and these addresses in a /24."""
        interface = f"eth{self.interfaces}"
        cable = f"{self.name}-{interface}"
        ip(f"link add {cable} type veth peer name {interface} netns {self.namespace}")
        ip(f"link set {cable} master {switch} up")
        with self.inside():
            for address in addresses:
                ip(f"address add {address}/24 dev {interface}")
            ip(f"link set {interface} up")
        self.interfaces += 1
        return self

    def unplug(self) -> None:
        """As if it had lost its power: nothing comes from it any more."""
        for number in range(self.interfaces):
            ip(f"link set {self.name}-eth{number} down")

    def tries(self, block: str) -> Result:
        """Type what may fail."""
        with self.inside():
            return self.lab.run_words([*self._under, block], cwd=self.directory, env=self._environment)

    def type(self, block: str) -> str:
        """Type a block, which must end well; what it prints."""
        done = self.tries(block)
        assert done.code == 0, (self.name, block, done)
        return done.out

    def kill(self, pid_file: str) -> None:
        """End a daemon the hard way, by the name of its pid file in /run."""
        os.kill(int((self.run / pid_file).read_text()), signal.SIGKILL)


def switch(name: str) -> str:
    """An Ethernet that hosts can be plugged into."""
    ip(f"link add {name} type bridge")
    ip(f"link set {name} up")
    return name
