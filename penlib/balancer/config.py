"""Configuration files: commands one per line, `#` comments; reading them, and writing the running state.

A file is first read whole, includes and all, so that a re-read knows which access lists it names before any
of it takes effect.  A line that is wrong is said, with its number, and the rest still counts.
"""

import shlex
from typing import NamedTuple

from penlib import files, process
from penlib.address import ServerSpec
from penlib.balancer import actions, arguments, commands
from penlib.balancer.arguments import PREFIX, is_error, shown
from penlib.balancer.steered import Steered
from penlib.errors import PenError, UsageError
from penlib.loop import MECHANISMS
from penlib.version import VERSION

DEPTH = 8
"""Files that may include each other: more is taken for a circle."""

OF_COMMAND_LINE = ("address", "port", "max", "hard", "weight", "prio")
"""What the command line says of its servers, and a file at start does not change."""

MESSAGE_LIMIT = 200
"""Characters of a message about a line, which may hold anything."""


class Line(NamedTuple):
    """One command of a file, and where it stands."""

    where: str
    text: str
    wrong: str = ""
    """Why it is not even tried."""


def read(path: str, pen: Steered, depth: int = DEPTH) -> list[Line]:
    """The commands of the file that the administrator calls `path`, with includes put in.

    At start it may be a pipe.  Raises PenError `Can't read config file 'X'`.
    """
    try:
        if pen.running:
            process.check_regular(pen.path(path))
        with open(pen.path(path), "rb") as file:
            content = file.read().decode("utf-8", "surrogateescape")
    except (OSError, ValueError) as exc:
        raise PenError(f"Can't read config file '{path}'") from exc
    lines = []
    for number, raw in enumerate(content.split("\n"), 1):
        where = f"{path}:{number}"
        words = arguments.split(_without_comment(raw))
        if words[:1] == ["include"] and len(words) == 2:
            lines += _included(words[1], where, pen, depth)
        elif words:
            lines.append(Line(where, " ".join(words)))
    return lines


def typed(lines: list[str], pen: Steered) -> list[Line]:
    """The command lines given with -O, with includes put in as `read` does."""
    found = []
    for line in lines:
        words = arguments.split(line)
        if words[:1] == ["include"] and len(words) == 2:
            found += _included(words[1], "-O", pen, DEPTH)
        else:
            found.append(Line("-O", " ".join(words)))
    return found


def _without_comment(raw: str) -> str:
    """A `#` begins a comment at the beginning of a word."""
    padded = f" {raw}".replace("\t", " ")
    return raw if " #" not in padded else padded[: padded.index(" #")]


def _included(path: str, where: str, pen: Steered, depth: int) -> list[Line]:
    if not depth:
        text = f"include {path}"
        return [Line(where, text, f"{PREFIX}{text}: more than {DEPTH} files deep")]
    try:
        return read(path, pen, depth - 1)
    except PenError:
        return [Line(where, f"include {path}")]


def apply(pen: Steered, lines: list[Line]) -> list[str]:
    """Carry out `lines`; answers what was wrong, a line each."""
    wrong = []
    for line in lines:
        try:
            reply = line.wrong or commands.execute(pen, line.text) or ""
            failed = is_error(reply)
        except PenError as exc:
            reply, failed = str(exc), True
        if failed:
            wrong.append(f"{line.where}: {shown(reply, MESSAGE_LIMIT)}")
    return wrong


def at_start(lines: list[Line], servers: int, listens: bool) -> list[Line]:
    """`lines` without what a command line with that many servers, and perhaps a listener, has decided."""
    kept = []
    for line in lines:
        words = line.text.split()
        if words[0] == "listen" and listens:
            continue
        if _is_about_server(words, servers):
            pairs = zip(words[2::2], words[3::2], strict=True)
            rest = [word for key, value in pairs if not _is_decided(key, value) for word in (key, value)]
            line = Line(line.where, " ".join(["server", words[1], *rest]))
        kept.append(line)
    return kept


def _is_decided(key: str, value: str) -> bool:
    """Whether the command line has said this of its servers.  What is wrong stays, to be found so."""
    try:
        if key == "address":
            actions.server_endpoint(value)
        elif key != "port":
            arguments.number(value)
    except UsageError:
        return False
    return key in OF_COMMAND_LINE


def _is_about_server(words: list[str], servers: int) -> bool:
    """Whether the line is well-formed and about one of the first `servers` servers."""
    try:
        return words[0] == "server" and len(words) % 2 == 0 and arguments.number(words[1]) < servers
    except UsageError:
        return False


def lists_named(lines: list[Line]) -> set[str]:
    """Numbers of the access lists that `lines` are about."""
    named = set()
    for line in lines:
        words = line.text.split()
        if words[0] == "no":
            words = words[1:]
        if words[:1] == ["acl"] and len(words) > 1:
            named.add(words[1])
    return named


def mechanism(lines: list[Line]) -> str:
    """The event mechanism that `lines` ask for last, of those that there are, or empty."""
    return next((line.text for line in reversed(lines) if line.text in MECHANISMS), "")


def write(pen: Steered, name: str) -> None:
    """Write the running configuration as commands, replacing the file called `name` atomically.

    Its first line is a comment with the command line that, with this file, starts an identical pen.  Raises
    PenError.
    """
    path = pen.path(name)
    text = "\n".join([f"# {command_line(pen, path)}", *_lines(pen)]) + "\n"
    files.replace(path, text.encode("utf-8", "surrogateescape"), name)


def _lines(pen: Steered) -> list[str]:
    saved = [line for command in commands.ROWS for line in command.saved(pen)]
    return [f"# Written by pen {VERSION}", *saved]


def command_line(pen: Steered, path: str) -> str:
    """The command line for everything that has no command, with `path` as its -F file."""
    options, settings = pen.options, pen.settings
    words = ["pen"]
    words += ["-f"] if options.foreground else []
    words += ["-U"] if options.udp else []
    words += ["-X"] if options.exit_enabled else []
    words += ["-N"] if pen.selection.mode.forgetful else []
    words += ["-R"] if options.client_required else []
    words += ["-Z"] if options.tls_compatible else []
    values = {
        "-c": pen.clients.limit,
        "-x": settings.conn_max,
        "-m": settings.multi_accept,
        "-q": settings.backlog,
        "-C": options.control,
        "-p": options.pid_file,
        "-j": options.jail,
        "-u": options.user,
        "-e": _spec(options.emergency),
        "-B": _spec(options.abuse),
        "-E": options.certificate,
        "-K": options.key,
        "-G": options.client_authorities,
        "-A": options.client_authority_directory,
        "-L": options.tls_least if options.certificate else "",
        "-O": f"dsr_if {pen.dsr.interface}" if pen.dsr.interface else "",  # so that an IP will do to listen
        "-l": "" if arguments.is_word(pen.journal.name) else pen.journal.name,
        "-w": "" if arguments.is_word(settings.web_stats) else settings.web_stats,
        "-F": options.jail.rstrip("/") + path,
    }
    words += [word for option, value in values.items() if value for word in (option, str(value))]
    words += [str(options.listen), *_typed_servers(pen)] if options.listen else []
    return shlex.join(words)


def _typed_servers(pen: Steered) -> list[str]:
    """The servers up to the last one whose path no command can say.  None, if one before has no address."""
    servers = pen.selection.servers
    paths = [server.endpoint.path if server.endpoint else "" for server in servers]
    count = max((at + 1 for at, path in enumerate(paths) if path and not arguments.is_word(path)), default=0)
    if not all(server.is_configured for server in servers[:count]):
        return []
    specs = [(server.endpoint, server.max, server.hard, server.weight, server.prio) for server in servers]
    return [_spec(ServerSpec(endpoint, *numbers)) for endpoint, *numbers in specs[:count] if endpoint]


def _spec(spec: ServerSpec | None) -> str:
    """A server as the command line takes it."""
    if spec is None:
        return ""
    endpoint = f"{spec.endpoint.path}:0" if spec.endpoint.path else str(spec.endpoint)
    return ":".join(str(part) for part in (endpoint, *spec[1:]))
