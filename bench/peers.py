"""The programs compared: pen itself, the C pen, haproxy and nginx, each balancing over the same servers.

They get what an administrator would give them who wants them fast: one process or thread that works, no log,
and round robin, as all clients of a benchmark have one address.  Buffers and batches are their own defaults.
"""

import os
import sys
from pathlib import Path

from bench.process import find, output_of
from penlib.errors import PenError
from penlib.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 2000
"""Simultaneous connections that each of them is prepared for."""
ELF = b"\x7fELF"


class Peer:
    """A program that balances TCP, and UDP if it `takes_udp`.  `bulk_only`: it differs from another one in
    bulk data alone."""

    name = ""
    bulk_only = False
    takes_udp = True
    makes_room = True
    """Whether a new UDP session takes the place of an old one when there are too many."""

    def missing(self) -> str:
        """Why it can't take part; "" if it can."""
        raise NotImplementedError

    def version(self) -> str:
        """What exactly is measured."""
        raise NotImplementedError

    def command(
        self, directory: Path, port: int, servers: list[int], udp: bool = False, tls: str = ""
    ) -> list[str]:
        """The words that start it in the foreground, on `port`, for servers on these ports of 127.0.0.1;
        its files are made in `directory`.  `udp`: if it `takes_udp`; `tls`: the file of certificate and key,
        if clients speak TLS."""
        raise NotImplementedError


class Pen(Peer):
    """A pen of ours: this checkout's, or another one's to see what a change did."""

    def __init__(self, program: Path = ROOT / "bin" / "pen") -> None:
        self.program = program.resolve()
        own = self.program.is_relative_to(ROOT)
        self.name = "pen" if own else f"pen of {self.program.parent.parent}"

    def missing(self) -> str:
        return "" if self.program.is_file() else f"{self.program}: no such file"

    def version(self) -> str:
        return f"{VERSION} under {Path(sys.executable).resolve()}, {sys.version.split()[0]}"

    def command(
        self, directory: Path, port: int, servers: list[int], udp: bool = False, tls: str = ""
    ) -> list[str]:
        return [sys.executable, str(self.program), *pen_words(port, servers, udp, tls)]


class Original(Peer):
    """The C program that ours takes after."""

    name = "pen 0.34.1"
    program = Path("/usr/bin/pen")

    def missing(self) -> str:
        try:
            with self.program.open("rb") as file:
                return "" if file.read(len(ELF)) == ELF else f"{self.program} is not the C program"
        except OSError:
            return "not installed (Debian: pen)"

    def version(self) -> str:
        return "the C program, as Debian builds it"

    def command(
        self, directory: Path, port: int, servers: list[int], udp: bool = False, tls: str = ""
    ) -> list[str]:
        return [str(self.program), *pen_words(port, servers, udp, tls)]


class Haproxy(Peer):
    """haproxy in TCP mode, with one thread."""

    name = "haproxy"
    takes_udp = False
    splice = ""

    def missing(self) -> str:
        return "" if find("haproxy") else "not installed (Debian: haproxy)"

    def version(self) -> str:
        return output_of(find("haproxy"), "-v").split()[2]

    def command(
        self, directory: Path, port: int, servers: list[int], udp: bool = False, tls: str = ""
    ) -> list[str]:
        lines = "".join(f"  server s{i} 127.0.0.1:{server}\n" for i, server in enumerate(servers))
        config = directory / "haproxy.cfg"
        config.write_text(f"""\
global
  nbthread 1
  maxconn {CONNECTIONS}
listen bench
  mode tcp
  bind 127.0.0.1:{port}{f" ssl crt {tls} ssl-min-ver TLSv1.3" if tls else ""}
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  balance roundrobin
{self.splice}{lines}""")
        return [find("haproxy"), "-db", "-f", str(config)]


class HaproxySplice(Haproxy):
    """The same, told to splice."""

    name = "haproxy, splicing"
    bulk_only = True
    splice = "  option splice-request\n  option splice-response\n"


class Nginx(Peer):
    """nginx's stream module, with one worker."""

    name = "nginx stream"
    makes_room = False
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    """Where Debian has it; elsewhere it is built in or not there."""

    def missing(self) -> str:
        if not find("nginx"):
            return "not installed (Debian: nginx-light)"
        if self.module.exists() or "--with-stream " in output_of(find("nginx"), "-V") + " ":
            return ""
        return "no stream module (Debian: libnginx-mod-stream)"

    def version(self) -> str:
        return nginx_version()

    def command(
        self, directory: Path, port: int, servers: list[int], udp: bool = False, tls: str = ""
    ) -> list[str]:
        lines = " ".join(f"server 127.0.0.1:{number};" for number in servers)
        kind = "udp" if udp else "backlog=511 ssl" if tls else "backlog=511"
        keys = f"ssl_certificate {tls}; ssl_certificate_key {tls}; ssl_protocols TLSv1.3;" if tls else ""
        return nginx_command(
            directory,
            f"stream {{ upstream servers {{ {lines} }} "
            f"server {{ listen 127.0.0.1:{port} {kind}; {keys} proxy_pass servers; }} }}",
            f"load_module {self.module};" if self.module.exists() else "",
        )


def pen_words(port: int, servers: list[int], udp: bool, tls: str) -> list[str]:
    """Options that both pens understand."""
    kind = ["-U"] if udp else ["-E", tls] if tls else []
    places = [f"127.0.0.1:{number}" for number in servers]
    return ["-f", *kind, "-r", "-x", str(CONNECTIONS), f"127.0.0.1:{port}", *places]


def nginx_version() -> str:
    """Of the nginx that is installed."""
    return output_of(find("nginx"), "-v").rpartition("/")[2]


def nginx_command(directory: Path, what: str, first: str = "") -> list[str]:
    """The words that start an nginx with one worker that does `what`, without touching the system's files."""
    config = directory / "nginx.conf"
    config.write_text(
        f"{first}\n{_nginx_user()}worker_processes 1; daemon off; pid nginx.pid; error_log stderr crit;\n"
        f"events {{ worker_connections {4 * CONNECTIONS}; }}\n{what}\n"
    )
    return [find("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(config)]


def _nginx_user() -> str:
    """Root's worker must be able to read what only root may."""
    return "user root; " if os.geteuid() == 0 else ""


def all_peers(others: list[str]) -> list[Peer]:
    """pen first; `others` are programs of other checkouts.  Raises PenError if pen itself is missing."""
    pens = [Pen(), *(Pen(Path(other)) for other in others)]
    for pen in pens:
        if pen.missing():
            raise PenError(pen.missing())
    return [*pens, Original(), Haproxy(), HaproxySplice(), Nginx()]
