"""A network namespace for one test, made from inside: sockets and programs that the thread makes live in it.

Linux only, and root only; two system calls that Python 3.11 does not have go through ctypes.  `names` gives a
program its own /etc/hosts.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from support.programs import find
from support.waiting import wait_until

CLONE_NEWNET = 0x40000000  # sched.h
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C  # sockios.h
IFF_UP = 1
LO_INDEX = 1
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """This thread, and what it starts, in a network of its own where only the loopback exists."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(CLONE_NEWNET))
        try:
            _ioctl(SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
            yield
        finally:
            _check(_libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


@contextlib.contextmanager
def inside(pid: int) -> Iterator[None]:
    """This thread in the network of a process."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        _check(_libc.setns(there, CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(there)
        os.close(before)


def join(pid: int, here: str, there: Iterable[str], name: str = "cluster") -> None:
    """A cable between this network and that of a process, with addresses of one /24 on its two ends, which
    are both called `name`."""
    ip(f"link add {name} type veth peer name {name} netns {pid}")
    ip(f"address add {here}/24 dev {name}")
    ip(f"link set {name} up")
    with inside(pid):
        for address in there:
            ip(f"address add {address}/24 dev {name}")
        ip(f"link set {name} up")


def ip(words: str) -> None:
    subprocess.run([find("ip") or "ip", *words.split()], check=True)


def come_from(source: str, hosts: Iterable[str]) -> None:
    """Have connections to these of our addresses come from `source`, unless a client binds another: as they
    would if the hosts were not all one."""
    for host in hosts:
        ip(f"route replace local {host} dev lo table local src {source}")


def add_address(address: str, alias: int = 1) -> None:
    """Give the loopback one more address; an IPv4 one of 127/8 needs none of this."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address)
        _ioctl(SIOCSIFADDR, struct.pack("16sIi", packed, 128, LO_INDEX), socket.AF_INET6)
        return
    name = f"lo:{alias}".encode()
    for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
        packed = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
        _ioctl(request, struct.pack("16s16s8x", name, packed))


def names(hosts: Mapping[str, str], directory: Path) -> list[str]:
    """Words to run a program under, for which /etc/hosts has just these names."""
    lines = [f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **hosts}.items()]
    file = directory / "hosts"
    file.write_text("".join(lines))
    return mounted(file, "/etc/hosts")


def mounted(source: Path, target: str) -> list[str]:
    """Words to run a program under, for which `source` is in the place of `target`."""
    return ["unshare", "--mount", "sh", "-c", f'mount --bind {source} {target} && exec "$@"', "sh"]


def sysctl(name: str, value: str) -> None:
    """Set something under /proc/sys/net; much of that belongs to the network namespace."""
    Path("/proc/sys/net", name).write_text(value)


def _ioctl(request: int, argument: bytes, family: int = socket.AF_INET) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, request, argument)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Switch:
    """Hosts on one Ethernet: each has a network of its own, with `eth0` plugged in here.  Needs root.

    `host(name, address)` answers the pid whose network it is, for `inside`.
    """

    def __init__(self, lab: "object") -> None:
        self.lab = lab
        self.count = 0
        ip("link add br0 type bridge")
        ip("link set br0 up")

    def host(self, address: str, *more: str) -> int:
        """One more host, with this address in a /24, and more on its loopback."""
        sleeper = self.lab.spawn(["unshare", "--net", "sleep", "infinity"])  # type: ignore[attr-defined]
        here = os.readlink("/proc/thread-self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{sleeper.pid}/ns/net") != here, "a network of its own")
        self.count += 1
        port = f"port{self.count}"
        ip(f"link add {port} type veth peer name eth0 netns {sleeper.pid}")
        ip(f"link set {port} master br0 up")
        with inside(sleeper.pid):
            ip("link set lo up")
            ip(f"address add {address}/24 dev eth0")
            for other in more:
                ip(f"address add {other}/32 dev lo")
            if more:  # they are not to be told by ARP
                sysctl("ipv4/conf/all/arp_ignore", "1")
                sysctl("ipv4/conf/all/arp_announce", "2")
            ip("link set eth0 up")
        return int(sleeper.pid)
