"""Real web servers behind pen: Apache httpd and nginx, each with a configuration of its own in the test's
directory, run by the user that runs the tests."""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.lab import Lab
from support.ports import free_port
from support.process import Process
from support.programs import find
from support.waiting import wait_until

APACHE = """
ServerRoot {directory}
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
Mutex file:{directory}
ServerName test
Listen {host}:{port}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
<IfModule !unixd_module>
    LoadModule unixd_module /usr/lib/apache2/modules/mod_unixd.so
</IfModule>
{user}
DocumentRoot {directory}
ErrorLog {directory}/apache.err
LogFormat "%h %l %u %t \\"%r\\" %>s %b" common
LogFormat "%{{X-Forwarded-For}}i %{{X-Forwarded-Proto}}i %r" forwarded
LogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{{Referer}}i\\" \\"%{{User-agent}}i\\"" combined
CustomLog "{log}" {form}
"""

NGINX = """
daemon off;
master_process off;
pid {directory}/{name}.pid;
error_log {directory}/{name}.err;
events {{ }}
http {{
    access_log {log};
    keepalive_requests 1000000;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    large_client_header_buffers 4 16k;
    server {{
        listen {host}:{port};
        client_max_body_size 0;
        location / {{ return 200 "{says}"; }}
        {more}
    }}
}}
"""

NGINX_TLS = """
listen {host}:443 ssl;
ssl_certificate {both};
ssl_certificate_key {both};
"""

APACHE_TLS = """
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
Listen {host}:443
<VirtualHost {host}:443>
    SSLEngine on
    SSLCertificateFile {both}
</VirtualHost>
"""
"""For `more`: the same on port 443, with a certificate and its key in one file."""


class WebServer:
    """One of them, listening; `str()` is its address for pen."""

    def __init__(self, process: Process, host: str, port: int) -> None:
        self.process = process
        self.host = host
        self.port = port
        wait_until(lambda: not process.alive or self._accepts(), f"{process.name} accepts")
        assert process.alive, process.err

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def _accepts(self) -> bool:
        try:
            socket.create_connection((self.host, self.port)).close()
        except OSError:
            return False
        return True


def apache(
    lab: Lab,
    log: str,
    host: str = "127.0.0.1",
    form: str = "combined",
    env: Mapping[str, str] | None = None,
    *,
    port: int = 0,
    directory: Path | None = None,
    under: Sequence[str] = (),
    more: str = "",
) -> WebServer:
    """An Apache httpd whose CustomLog is `log`, in the format `form`; `under` are words to run it under,
    `more` is added to its configuration."""
    port = port or free_port()
    directory = directory or lab.directory
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    file = directory / "apache.conf"
    text = APACHE.format(directory=directory, host=host, port=port, user=user, log=log, form=form)
    file.write_text(text + more)
    words = [*under, find("apache2") or "apache2", "-DFOREGROUND", "-f", str(file)]
    return WebServer(lab.spawn(words, f"apache{port}@{host}", env=env), host, port)


def nginx(
    lab: Lab,
    log: str = "off",
    host: str = "127.0.0.1",
    name: str = "nginx",
    *,
    port: int = 0,
    says: str = "nginx",
    under: Sequence[str] = (),
    more: str = "",
) -> WebServer:
    """An nginx whose access_log is `log`, in the combined format, and that `says` just that; `under` are
    words to run it under, `more` is added to its server block."""
    port = port or free_port()
    values = {"directory": lab.directory, "name": name, "log": log, "says": says, "more": more}
    file = lab.write(f"{name}.conf", NGINX.format(host=host, port=port, **values))
    words = [*under, find("nginx") or "nginx", "-p", str(lab.directory), "-c", str(file)]
    return WebServer(lab.spawn(words, name), host, port)
