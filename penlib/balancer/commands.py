"""The control protocol's commands: ONE table.

A `Command` has a name, its arguments as a person reads them, a sentence of help, and what runs it: a function
of the `Pen` it steers and its words, which returns the reply (without the last newline) or None for none.
`saved` gives the command lines that bring a fresh pen to the same state.  The parser, the error messages,
penctl's help, the manual page's check and `write` all read this table.

A command that is wrong changes nothing and raises CommandError, which names the word at fault.

Not here: where commands come from and replies go (control, config), what they act on.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from penlib import address, loop
from penlib.address import Endpoint
from penlib.balancer import actions, arguments
from penlib.balancer.arguments import PREFIX, CommandError
from penlib.balancer.settings import LEAST, SSL_OPTIONS
from penlib.balancer.steered import Steered
from penlib.errors import PenError, UsageError

MECHANISMS = ("epoll", "kqueue", "poll", "select")


class Command(NamedTuple):
    """One row of the table."""

    name: str
    args: str
    help: str
    run: Callable[[Steered, list[str]], str | None]
    saved: Callable[[Steered], Iterable[str]] = lambda pen: ()

    @property
    def usage(self) -> str:
        """Name and arguments."""
        return f"{self.name} {self.args}".rstrip()


def find(words: list[str]) -> tuple[Command, list[str]]:
    """The command that `words` name, and its arguments.  Raises CommandError."""
    if words[0] == "no" and len(words) > 1 and f"no {words[1]}" in TABLE:
        return TABLE[f"no {words[1]}"], words[2:]
    if words[0] in TABLE:
        return TABLE[words[0]], words[1:]
    raise CommandError(f"{PREFIX}ignoring command starting with '{words[0]}'")


def execute(pen: Steered, line: str) -> str | None:
    """Carry out one command line, which may be a comment; answers the reply.  Raises CommandError."""
    words = arguments.split(line)
    if not words or words[0].startswith("#"):
        return None
    command, args = find(words)
    try:
        if "\0" in line:
            raise UsageError("a NUL in the command")
        return command.run(pen, args)
    except CommandError:
        raise
    except PenError as exc:
        raise CommandError(f"{PREFIX}{command.name}: {exc}") from exc


def hosts(line: str, protocol: str) -> list[Endpoint]:
    """The endpoints whose names have to be resolved before `line` can be carried out without waiting."""
    words = arguments.split(line)
    found = []
    try:
        if words[:1] == ["server"]:
            pairs = zip(words[2::2], words[3::2], strict=False)
            found += [actions.server_endpoint(value) for key, value in pairs if key == "address"]
        elif words[:1] == ["listen"] and len(words) == 2:
            found.append(address.listener(words[1], protocol))
    except UsageError:
        pass  # it will be refused when it is carried out
    return [endpoint for endpoint in found if endpoint.host and not address.is_numeric(endpoint.host)]


# Makers of rows that are alike


def _switch(
    name: str,
    help_on: str,
    holder: Callable[[Steered], object],
    attribute: str | None = None,
    check: Callable[[Steered], None] = lambda pen: None,
) -> list[Command]:
    """`NAME` and `no NAME` for a boolean; `check` raises PenError if it may not be switched on."""
    attribute = attribute or name

    def set_to(value: bool) -> Callable[[Steered, list[str]], None]:
        def run(pen: Steered, args: list[str]) -> None:
            arguments.none(args)
            if value:
                check(pen)
            setattr(holder(pen), attribute, value)

        return run

    def saved(pen: Steered) -> list[str]:
        return [name if getattr(holder(pen), attribute) else f"no {name}"]

    return [
        Command(name, "", help_on, set_to(True), saved),
        Command(f"no {name}", "", f"the opposite of {name}", set_to(False)),
    ]


def _setting(name: str, attribute: str, text: str, reply: str = "{}") -> Command:
    """`NAME [N]` for a number of Settings, with the number as the reply."""

    def run(pen: Steered, args: list[str]) -> str:
        word = arguments.one(args)
        if word is not None:
            setattr(pen.settings, attribute, max(arguments.number(word), LEAST.get(attribute, 0)))
            pen.settings_changed()
        return reply.format(getattr(pen.settings, attribute))

    return Command(name, "[N]", text, run, lambda pen: [f"{name} {getattr(pen.settings, attribute)}"])


def _tls(
    name: str, args: str, text: str, check: Callable[[str], object] = str, separator: str = ""
) -> Command:
    """`NAME [WORD]` for one of the ssl_* settings."""

    def saved(pen: Steered) -> list[str]:
        value = getattr(pen.settings, name)
        return [f"{name} {value}"] if value else []

    return Command(name, args, text, actions.set_tls(name, check, separator), saved)


def _silent(name: str) -> Command:
    """An obsolete command that does nothing."""
    return Command(name, "", "obsolete, does nothing", lambda pen, args: None)


def _mechanism(name: str) -> Command:
    def run(pen: Steered, args: list[str]) -> None:
        arguments.none(args)
        if name not in loop.MECHANISMS:
            raise UsageError("this system does not have it")
        if pen.loop.mechanism != name:
            raise UsageError("the event mechanism can only be chosen at start-up")

    return Command(
        name,
        "",
        f"wait for events with {name} (start-up only)",
        run,
        lambda pen: [name] if pen.loop.mechanism == name else [],
    )


def _help(pen: Steered, args: list[str]) -> str:
    return help_text()


ROWS: list[Command] = [
    Command(
        "geoip_db", "[FILE]", "the MaxMind database for countries in access lists", actions.set_countries,
        lambda pen: [f"geoip_db {pen.countries.name}"] if pen.countries.name else [],
    ),  # before the lists, which need it
    *_switch("abort_on_error", "dump core on an internal error", lambda pen: pen.settings),
    Command(
        "acl", "N permit|deny ADDRESS [MASK]|country CC", "append an entry to access list N", actions.add_acl,
        actions.saved_acls,
    ),
    Command("no acl", "N", "empty access list N", actions.empty_acl),
    *_switch("ascii", "dump what passes (debug 3) as ASCII, not hex", lambda pen: pen.settings),
    _setting("blacklist", "blacklist", "seconds that a failed server is left alone"),
    _silent("block"),
    _silent("no block"),
    Command(
        "client_acl", "[N]", "the list that clients are checked against", actions.set_client_acl,
        lambda pen: [f"client_acl {pen.selection.client_acl}"],
    ),
    Command(
        "clients_max", "[N]", "clients remembered; can only grow", actions.grow_clients,
        lambda pen: [f"clients_max {pen.clients.limit}"],
    ),
    Command("close", "N", "close connection N", actions.close_connection),
    Command(
        "conn_max", "[N]", "simultaneous connections; can only grow", actions.grow_connections,
        lambda pen: [f"conn_max {pen.settings.conn_max}"],
    ),
    Command("connection", "N", "show connection N", actions.show_connection),
    Command("control", "", "the control address", actions.show_control),
    Command(
        "control_acl", "[N]", "the list that control clients are checked against", actions.set_control_acl,
        lambda pen: [f"control_acl {pen.settings.control_acl}"],
    ),
    Command(
        "debug", "[N]", "the debug level", actions.set_debug, lambda pen: [f"debug {pen.reporter.level}"]
    ),
    _silent("delayed_forward"),
    _silent("no delayed_forward"),
    Command(
        "dsr_if", "INTERFACE", "direct server return on it (start-up only)", actions.set_interface,
        lambda pen: [f"dsr_if {pen.dsr.interface}"] if pen.dsr.interface else [],
    ),
    *(_mechanism(name) for name in MECHANISMS),
    *_switch(
        "dummy", "answer every HTTP request with a page, without a server", lambda pen: pen.settings,
        check=actions.check_tcp,
    ),
    Command("exit", "", "end pen, if it was started with -X", actions.end),
    *_switch("hash", "choose the first server by the client's address", lambda pen: pen.selection.mode),
    Command("help", "", "list the commands", _help),
    _setting("idle_timeout", "idle_timeout", "close connections idle for N seconds (0: never)",
             "Idle timeout: {} seconds"),
    Command(
        "idlers", "[N]", "idle connections kept ready to the servers", actions.set_idlers,
        lambda pen: [f"idlers {pen.settings.idlers}"],
    ),
    Command("include", "FILE", "read commands from FILE", actions.include_file),
    *_switch(
        "http", "add X-Forwarded-For and X-Forwarded-Proto to HTTP requests", lambda pen: pen.settings,
        check=actions.check_tcp,
    ),
    *_switch("keepalive", "set SO_KEEPALIVE on connections", lambda pen: pen.settings),
    Command(
        "listen", "[ADDRESS]", "listen there instead", actions.set_listen, actions.saved_listen,
    ),
    Command(
        "log", "[FILE|HOST:PORT]", "log there", actions.set_log, actions.saved_log,
    ),
    Command("no log", "", "log nothing", actions.stop_log),
    Command("mode", "", "how servers are chosen", actions.show_mode),
    *_switch(
        "peek", "choose the server when the client has sent something", lambda pen: pen.settings,
        check=actions.check_tcp,
    ),
    Command(
        "pending_max", "N", "connects that may be under way at once", actions.set_pending_max,
        lambda pen: [f"pending_max {pen.settings.pending_max}"],
    ),
    Command("pid", "", "pen's process id", actions.show_pid),
    *_switch("prio", "choose the first server by priority", lambda pen: pen.selection.mode),
    Command("recent", "[SECONDS]", f"clients of the last SECONDS ({actions.RECENT})", actions.list_recent),
    *_switch("roundrobin", "do not look where the client was before", lambda pen: pen.selection.mode),
    Command(
        "server",
        "N [acl A|address A|port P|max M|hard H|blacklist T|weight W|prio P]...",
        "change or create server N; blacklist 0 readmits it",
        actions.change_server,
        actions.saved_servers,
    ),
    Command("servers", "", "list the servers", actions.list_servers),
    Command("socket", "FD", "which connection a descriptor belongs to", actions.owner_of_socket),
    Command(
        "source", "ADDRESS", "the address that connections to servers come from", actions.set_source,
        actions.saved_source,
    ),
    _tls("ssl_alpn", "[LIST]", "protocols for ALPN, with commas, best first", actions.protocols, ","),
    _tls("ssl_ciphers", "[LIST]", "ciphers of TLS up to 1.2, as OpenSSL names them", separator=":"),
    _setting("ssl_client_renegotiation_interval", "renegotiation_interval",
             "obsolete: renegotiation is always refused"),
    _tls("ssl_ocsp_response", "[FILE]", "the OCSP response to send with the -E certificate"),
    Command(
        "ssl_option", "OPTION", f"one of {', '.join(SSL_OPTIONS)}", actions.set_ssl_option,
        lambda pen: [f"ssl_option {name}" for name in pen.settings.ssl_options],
    ),
    _tls("ssl_sni_path", "[DIRECTORY]", "certificates by host name: NAME.crt, .key, .ca, .ocsp"),
    Command("status", "", "the status page, in HTML", actions.status_page),
    *_switch("stubborn", "never fail over", lambda pen: pen.selection.mode),
    Command(
        "tcp_fastclose", "up|down|both|off", "close both sides as soon as that one closes",
        actions.set_fastclose, lambda pen: [f"tcp_fastclose {pen.settings.fastclose}"],
    ),
    *_switch("tcp_nodelay", "set TCP_NODELAY on connections", lambda pen: pen.settings),
    _setting("timeout", "timeout", "seconds that a connect may take"),
    Command(
        "tracking", "[N]", "forget clients after N idle seconds (0: never)", actions.set_tracking,
        lambda pen: [f"tracking {pen.clients.lifetime}"],
    ),
    Command(
        "tarpit_acl", "[N]", "the list of addresses that are a tarpit (-1: none)", actions.set_tarpit_acl,
        lambda pen: [f"tarpit_acl {pen.settings.tarpit_acl}"] if pen.settings.tarpit_acl >= 0 else [],
    ),
    Command(
        "transparent", "", "connect to servers from the client's own address", actions.set_transparent,
        lambda pen: ["transparent" if pen.settings.transparent else "no transparent"],
    ),
    Command("no transparent", "", "the opposite of transparent", actions.stop_transparent),
    Command(
        "web_stats", "[FILE]", "the file for the status page", actions.set_web_stats, actions.saved_web_stats,
    ),
    Command("no web_stats", "", "no status file", actions.stop_web_stats),
    *_switch(
        "udp_replies", "a server that does not reply to a client's first datagram has failed",
        lambda pen: pen.settings,
    ),
    *_switch("weight", "choose the first server by load and weight", lambda pen: pen.selection.mode),
    Command("write", "[FILE]", "write the running configuration (to the -F file)", actions.write_config),
]  # fmt: skip

TABLE = {command.name: command for command in ROWS}


def help_text() -> str:
    """The table for a person: by name, where ROWS has the order in which `write` has to write them."""
    width = max(len(command.usage) for command in ROWS if len(command.usage) < 40)
    lines = []
    for command in sorted(ROWS, key=lambda command: command.name.removeprefix("no ")):
        if len(command.usage) > width:
            lines.append(command.usage)
        lines.append(f"{command.usage if len(command.usage) <= width else '':<{width}}  {command.help}")
    return "\n".join(lines)
