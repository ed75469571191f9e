"""The other programs that balance: haproxy and nginx, as TCP and as HTTP proxies."""

import os
from pathlib import Path

from bench.peers import CONNECTIONS, Duty, Peer
from bench.process import find, output_of


class Haproxy(Peer):
    """haproxy with one thread: in TCP mode, or in HTTP mode for X-Forwarded-For."""

    name = "haproxy"
    splice = ""

    def missing(self) -> str:
        return "" if find("haproxy") else "not installed (Debian: haproxy)"

    def version(self) -> str:
        return output_of(find("haproxy"), "-v").split()[2]

    def command(self, directory: Path, duty: Duty) -> list[str]:
        lines = "".join(f"  server s{i} 127.0.0.1:{server}\n" for i, server in enumerate(duty.servers))
        how = "http\n  option forwardfor" if duty.forwarded else "tcp"
        config = directory / "haproxy.cfg"
        config.write_text(f"""\
global
  nbthread 1
  maxconn {duty.connections}
listen bench
  mode {how}
  bind 127.0.0.1:{duty.port}{f" ssl crt {duty.tls} ssl-min-ver TLSv1.3" if duty.tls else ""}
  timeout connect 3s
  timeout client 300s
  timeout server 300s
  balance roundrobin
{self.splice}{lines}""")
        return [find("haproxy"), "-db", "-f", str(config)]


class HaproxySplice(Haproxy):
    """The same, told to splice."""

    name = "haproxy, splicing"
    splice = "  option splice-request\n  option splice-response\n"


class Nginx(Peer):
    """nginx with one worker: its stream module, or its HTTP proxy for X-Forwarded-For."""

    name = "nginx"
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

    def command(self, directory: Path, duty: Duty) -> list[str]:
        servers = " ".join(f"server 127.0.0.1:{number};" for number in duty.servers)
        if duty.forwarded:
            return nginx_command(directory, self._http(duty.port, servers))
        kind = "udp" if duty.udp else "backlog=511 ssl" if duty.tls else "backlog=511"
        keys = f"ssl_certificate {duty.tls}; ssl_certificate_key {duty.tls}; ssl_protocols TLSv1.3;"
        return nginx_command(
            directory,
            f"stream {{ upstream servers {{ {servers} }} proxy_timeout 300s; server {{ "
            f"listen 127.0.0.1:{duty.port} {kind}; {keys if duty.tls else ''} proxy_pass servers; }} }}",
            f"load_module {self.module};" if self.module.exists() else "",
            duty.connections,
        )

    @staticmethod
    def _http(port: int, servers: str) -> str:
        return (
            f"http {{ access_log off; keepalive_requests 1000000000; {TEMPORARY} "
            f"upstream servers {{ {servers} keepalive 100; keepalive_requests 1000000000; }} "
            f"server {{ listen 127.0.0.1:{port} backlog=511; location / {{ proxy_pass http://servers; "
            'proxy_http_version 1.1; proxy_set_header Connection ""; '
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }"
        )


TEMPORARY = " ".join(
    f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
"""nginx's HTTP module wants to make these directories, and not where the system has them."""


def nginx_version() -> str:
    """Of the nginx that is installed."""
    return output_of(find("nginx"), "-v").rpartition("/")[2]


def nginx_command(directory: Path, what: str, first: str = "", connections: int = CONNECTIONS) -> list[str]:
    """The words that start an nginx with one worker that does `what`, without touching the system's files."""
    config = directory / "nginx.conf"
    config.write_text(
        f"{first}\n{_nginx_user()}worker_processes 1; daemon off; pid nginx.pid; error_log stderr crit;\n"
        f"events {{ worker_connections {2 * connections + 100}; }}\n{what}\n"
    )
    return [find("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(config)]


def _nginx_user() -> str:
    """Root's worker must be able to read what only root may."""
    return "user root; " if os.geteuid() == 0 else ""
