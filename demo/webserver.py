"""webserver - a web server for the demo, with Apache's log format and Apache's piped logs

Usage:
  webserver <name> <address> <port> <log>...
  webserver --help | --version

Each log is a file to append to, or "|command": a program that gets the lines on its standard input,
started without a shell and without an environment, as Apache httpd does. Port 0 lets the kernel choose;
standard output tells the port as soon as the server can be reached.
"""

import html
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from penlib.frame import run
from penlib.usage import Args

PAGES = ["/", "/map", "/faq"]
LOOK = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>
<style>
body {{ font: 1.2em/1.6 system-ui, sans-serif; max-width: 34em; margin: 15vh auto; padding: 0 1em }}
h1 {{ border-left: .3em solid hsl({hue} 70% 50%); padding-left: .5em }}
</style>
<h1>{name}</h1>
<p>You asked for <code>{target}</code>, and {name} answers. It was asked by {client}, which is pen:
who you are stands in pen’s log, and in the merged one.
<p>pen remembers you, so every page comes from {name}: {links}.
"""


def main(args: Args) -> None:
    """Serve until a signal ends us."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with WebServer(args["<name>"], args["<address>"], int(args["<port>"]), args["<log>"]) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


class WebServer(ThreadingHTTPServer):
    """Listens once it is made; `serve_forever` answers, every connection in a thread of its own."""

    def __init__(self, name: str, address: str, port: int, logs: list[str]) -> None:
        self.name = name
        super().__init__((address, port), Visit)
        self.programs = [start(log[1:]) for log in logs if log.startswith("|")]
        self.files = [Path(log) for log in logs if not log.startswith("|")]

    def log(self, line: str) -> None:
        """Write one line to every log; one that is gone keeps nobody from being served."""
        for program in self.programs:
            assert program.stdin
            with suppress(BrokenPipeError):
                program.stdin.write(line.encode("latin-1"))
        for path in self.files:
            with path.open("ab") as file:
                file.write(line.encode("latin-1"))

    def server_close(self) -> None:
        """Let the programs end, each after the last line it was given."""
        super().server_close()
        for program in self.programs:
            program.communicate()


def start(command: str) -> subprocess.Popen[bytes]:
    """A program that takes our log: without a shell, without an environment, every line at once."""
    return subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, bufsize=0, env={})


class Visit(BaseHTTPRequestHandler):
    """One connection and its requests."""

    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.page().encode()
        kind = "html" if self.wants_html() else "plain"
        self.send_response_only(200)
        self.send_header("Server", self.server.name)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.log_request(200, len(body))  # first: who has the answer may ask, or send somebody else, next
        self.wfile.write(body)

    def page(self) -> str:
        """What is answered: a page for a browser, a word for everybody else."""
        name = self.server.name
        if not self.wants_html():
            return f"{name}\n"
        links = " · ".join(f'<a href="{page}">{page}</a>' for page in PAGES)
        hue = sum(name.encode()) * 100 % 360
        return LOOK.format(
            name=name, hue=hue, target=html.escape(self.path), client=self.client_address[0], links=links
        )

    def wants_html(self) -> bool:
        return "text/html" in self.headers.get("Accept", "")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """A line in the combined format: host ident user [time] "request" status bytes "referer" "agent"."""
        when = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        headers = getattr(self, "headers", None) or {}
        referer, agent = (escape(headers.get(name, "-")) for name in ("Referer", "User-Agent"))
        request = escape(self.requestline)
        self.server.log(
            f'{self.client_address[0]} - - [{when}] "{request}" {int(code)} {size} "{referer}" "{agent}"\n'
        )

    def log_message(self, format: str, *args: object) -> None:
        """What is not a request is not worth a line."""


def escape(field: str) -> str:
    r"""A field of a log line as Apache's mod_log_config writes it: \" and \\, \xhh for what can't be seen."""
    quoted = re.sub(r'(["\\])', r"\\\1", field)
    return re.sub(r"[^ -~]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", quoted)


if __name__ == "__main__":
    sys.exit(run("webserver", __doc__, main))
