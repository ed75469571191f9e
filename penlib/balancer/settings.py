"""The numbers and switches of a running pen, with their defaults, and what was typed to start it."""

from penlib.address import Endpoint, Place, ServerSpec

LEAST = {"timeout": 1, "multi_accept": 1, "backlog": 50, "pending_max": 1, "clients_max": 1, "conn_max": 1}
"""The smallest value of those settings that have one; less is raised to it."""

TLS_LEAST = ("ssl23", "tls1", "tls1.1", "tls1.2", "tls1.3")
"""Versions of TLS that may be the oldest one spoken; ssl23 is whatever OpenSSL has."""

SSL_OPTIONS = ("no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1.1", "no_tlsv1.2", "cipher_server_preference")
"""What `ssl_option` takes."""


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
        self.ssl_ciphers = ""
        """An OpenSSL cipher list for TLS up to 1.2; empty: OpenSSL's own."""
        self.ssl_options: list[str] = []
        """Of SSL_OPTIONS."""
        self.ssl_sni_path = ""
        """Directory of certificates by host name, or empty."""
        self.ssl_ocsp_response = ""
        """File of the default certificate's staple, or empty."""
        self.ssl_alpn = "http/1.1"
        """Protocols offered, with commas, best first."""
        self.renegotiation_interval = 0
        """Obsolete: there is no renegotiation."""
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
        """-O and -o, as they were typed."""
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
        self.certificate = ""
        """The -E file; with it pen speaks TLS towards clients."""
        self.key = ""
        """The -K file; empty: the key is in the certificate's file."""
        self.client_authorities = ""
        self.client_authority_directory = ""
        self.client_required = False
        """Whether a client must have a certificate."""
        self.tls_compatible = False
        self.tls_least = "tls1.2"
        """Of TLS_LEAST."""
