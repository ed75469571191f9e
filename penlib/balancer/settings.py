"""The numbers and switches of a running pen, with their defaults, and what was typed to start it."""

from typing import NamedTuple

from penlib.address import Endpoint, Place, ServerSpec

LEAST = {"timeout": 1, "multi_accept": 1, "backlog": 50, "pending_max": 1, "clients_max": 1, "conn_max": 1}
"""The smallest value of those settings that have one; less is raised to it."""


class Terms(NamedTuple):
    """TLS towards clients.  Paths are as typed; empty means not given, or the default."""

    certificate: str = ""
    key: str = ""
    ca_file: str = ""
    ca_path: str = ""
    require: bool = False
    least: str = ""
    compatible: bool = False
    ciphers: str = ""
    options: tuple[str, ...] = ()
    sni_path: str = ""
    alpn: tuple[str, ...] = ("http/1.1",)


class Settings:
    """What commands may change while pen runs.  Times are in seconds."""

    def __init__(self) -> None:
        self.blacklist = 30
        self.timeout = 3
        """For a connect."""
        self.multi_accept = 100
        self.backlog = 500
        self.conn_max = 500
        self.pending_max = 100
        self.idle_timeout = 0
        self.control_acl = 0
        self.tarpit_acl = -1
        """The list of addresses that the tarpit answers for; -1: none."""
        self.fastclose = "off"
        self.tcp_nodelay = False
        self.keepalive = False
        self.transparent = False
        """Connect to servers from the client's own address."""
        self.idlers = 0
        """Connections to servers that stand ready."""
        self.http = False
        """Add X-Forwarded-For and X-Forwarded-Proto to HTTP requests."""
        self.peek = False
        """Choose the server only when the client has sent something."""
        self.dummy = False
        """Play web server, without any other."""
        self.source: Place | None = None
        self.udp_replies = True
        """Whether a server that does not reply to a first datagram has failed."""
        self.terms = Terms()
        """Of TLS towards clients, which there is if they name a certificate."""
        self.ascii = False
        self.abort_on_error = False
        self.web_stats = ""
        """Path of the HTML status file, or empty."""
        self.config = ""
        """Path of the -F file as it is named now (inside the jail, if there is one)."""


class Options:
    """What only the command line says."""

    def __init__(self) -> None:
        self.listen: Endpoint | None = None
        self.servers: list[ServerSpec] = []
        self.emergency: ServerSpec | None = None
        self.abuse: ServerSpec | None = None
        self.control: Endpoint | None = None
        self.commands: list[str] = []
        """-O and -o, in their order."""
        self.mechanism = ""
        self.foreground = False
        self.udp = False
        self.exit_enabled = False
        self.pid_file = ""
        self.jail = ""
        self.user = ""
        self.config = ""
        """The -F file as typed."""
        self.log = ""
