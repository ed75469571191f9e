"""What the control commands do: one function each, of the pen that is steered and the command's arguments.

A function answers the reply (without the last newline), or None for none.  It checks all its arguments
before it changes anything, and raises UsageError or PenError naming what is wrong, or CommandError with the
whole reply where the original has words of its own.

Not here: how commands are called and what they take (commands).
"""

from collections.abc import Callable, Iterable
from typing import Any

from penlib import acl, address
from penlib.address import Endpoint
from penlib.balancer import arguments, status
from penlib.balancer.arguments import PREFIX, CommandError
from penlib.balancer.endpoints import control_endpoint
from penlib.balancer.settings import LEAST, SSL_OPTIONS
from penlib.balancer.steered import Steered
from penlib.capabilities import check_transparent
from penlib.errors import PenError, UsageError
from penlib.servers import LIMIT, Server

RECENT = 300
"""Seconds that `recent` looks back."""

FASTCLOSE = ("up", "down", "both", "off")


def add_acl(pen: Steered, args: list[str]) -> None:
    if len(args) < 3:
        raise UsageError("N permit|deny ADDRESS [MASK] expected")
    number = arguments.list_number(args[0])
    if args[1] not in ("permit", "deny"):
        raise UsageError(f"'{args[1]}' is neither permit nor deny")
    if args[2] == "country":
        code = arguments.required(args[3:], "country code")
        if not pen.countries.name:
            raise UsageError("country: there is no database yet; geoip_db FILE names one")
        pen.selection.acls[number].append(acl.country(args[1] == "permit", code, pen.countries.of))
        return
    if len(args) > 4:
        raise UsageError(f"'{args[4]}': nothing expected after the mask")
    pen.selection.acls[number].append(acl.entry(args[1] == "permit", *args[2:]))


def set_countries(pen: Steered, args: list[str]) -> str:
    if name := arguments.one(args):
        pen.countries.open(pen.path(name), name)
    return pen.countries.name


def set_tarpit_acl(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.settings.tarpit_acl = -1 if word == "-1" else arguments.list_number(word)
    return f"tarpit_acl = {pen.settings.tarpit_acl}"


def set_interface(pen: Steered, args: list[str]) -> None:
    name = arguments.required(args, "interface")
    if pen.running and name != pen.dsr.interface:
        raise UsageError("direct server return can only be chosen at start-up")
    pen.dsr.interface = name


def empty_acl(pen: Steered, args: list[str]) -> None:
    pen.selection.acls[arguments.list_number(arguments.required(args, "list number"))].clear()


def saved_acls(pen: Steered) -> Iterable[str]:
    for number, entries in enumerate(pen.selection.acls):
        yield f"no acl {number}"
        yield from (f"acl {number} {entry}" for entry in entries)


def set_client_acl(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.selection.client_acl = arguments.list_number(word)
    return str(pen.selection.client_acl)


def set_control_acl(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.settings.control_acl = arguments.list_number(word)
    return str(pen.settings.control_acl)


def grow_clients(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.clients.limit = max(pen.clients.limit, arguments.number(word))
    return str(pen.clients.limit)


def grow_connections(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.set_conn_max(max(pen.settings.conn_max, arguments.number(word)))
    return str(pen.settings.conn_max)


def _connection_number(pen: Steered, word: str) -> int:
    number = arguments.integer(word)
    if not 0 <= number < pen.settings.conn_max:
        raise CommandError(f"Connection {number} out of range")
    return number


def close_connection(pen: Steered, args: list[str]) -> str:
    number = _connection_number(pen, arguments.required(args, "connection number"))
    pen.end_connection(number)
    return f"Forcibly closing connection {number}"


def show_connection(pen: Steered, args: list[str]) -> str:
    return status.connection(pen, _connection_number(pen, arguments.required(args, "connection number")))


def set_debug(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.reporter.level = arguments.number(word)
    return str(pen.reporter.level)


def end(pen: Steered, args: list[str]) -> None:
    arguments.none(args)
    if not pen.options.exit_enabled:
        raise CommandError("Exit is not enabled; restart with -X flag")
    pen.terminate()


def check_tcp(pen: Steered) -> None:
    """Raises UsageError for what a UDP pen would have to ignore."""
    if pen.protocol == "udp":
        raise UsageError("not with -U, it is for TCP")


def set_idlers(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        number = arguments.number(word)
        if number > pen.settings.conn_max:
            raise UsageError(f"'{word}': at most {pen.settings.conn_max}, as many as connections")
        if number:
            check_tcp(pen)
        pen.set_idlers(number)
    return f"Idlers: {pen.idlers()}/{pen.settings.idlers}"


def include_file(pen: Steered, args: list[str]) -> str | None:
    return pen.include(arguments.required(args, "file name"))


def set_listen(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.listen(address.listener(word, pen.protocol))
    return str(pen.options.listen or "")


def saved_listen(pen: Steered) -> Iterable[str]:
    """Not all ports of an address, with direct server return, nor a path that is no word: only the command
    line can say those."""
    endpoint = pen.options.listen
    can_be_said = endpoint and (arguments.is_word(endpoint.path) if endpoint.path else endpoint.port)
    return [f"listen {endpoint}"] if can_be_said else []


def set_log(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.open_log(word)
    return pen.journal.name


def saved_log(pen: Steered) -> Iterable[str]:
    """A name that no command can say is left to the command line."""
    return _saved_name("log", pen.journal.name if pen.journal.on else "")


def saved_web_stats(pen: Steered) -> Iterable[str]:
    """As saved_log."""
    return _saved_name("web_stats", pen.settings.web_stats)


def _saved_name(command: str, name: str) -> list[str]:
    if not name:
        return [f"no {command}"]
    return [f"{command} {name}"] if arguments.is_word(name) else []


def stop_log(pen: Steered, args: list[str]) -> None:
    arguments.none(args)
    pen.close_log()


def show_mode(pen: Steered, args: list[str]) -> str:
    arguments.none(args)
    mode = pen.selection.mode
    names = ("hash", "roundrobin", "stubborn", "weight", "prio")
    return " ".join(name if getattr(mode, name) else f"no {name}" for name in names)


def set_pending_max(pen: Steered, args: list[str]) -> None:
    number = arguments.number(arguments.required(args, "number"))
    pen.settings.pending_max = max(number, LEAST["pending_max"])
    pen.settings_changed()


def show_pid(pen: Steered, args: list[str]) -> str:
    arguments.none(args)
    return str(pen.pid)


def list_recent(pen: Steered, args: list[str]) -> str:
    return status.recent(pen, arguments.number(arguments.one(args) or str(RECENT)))


def server_endpoint(word: str) -> Endpoint:
    """The endpoint of `server N address A`: an address without a port, or a path."""
    if "/" in word:
        return Endpoint("", 0, address.unix_path(word))
    host = word[1:-1] if word.startswith("[") and word.endswith("]") else word
    return Endpoint(address.check_host(host, word), 0)


def change_server(pen: Steered, args: list[str]) -> None:
    """Check all words, then change all: a command with a mistake in it changes nothing."""
    if not args:
        raise UsageError("server number expected")
    number = arguments.number(args[0])
    if number >= LIMIT:
        raise UsageError(f"'{args[0]}': at most {LIMIT} servers")
    if len(args) % 2 == 0:
        raise UsageError(f"value expected after '{args[-1]}'")
    changes = [_server_change(pen, key, value) for key, value in zip(args[1::2], args[2::2], strict=True)]
    server = pen.server(number)
    server.create()
    for change in changes:
        change(server)
    pen.dsr.servers_changed()


def _server_change(pen: Steered, key: str, value: str) -> Callable[[Server], None]:
    """What one `key value` does to a server."""
    if key == "address":
        endpoint = pen.located(server_endpoint(value))
        places = pen.names.places(endpoint)
        return lambda server: server.move(endpoint._replace(port=server.port), places)
    if key == "port":
        port = 0 if value == "0" else address.port_number(value, value, pen.protocol)
        return lambda server: server.set_port(port)
    if key == "blacklist":
        seconds = arguments.number(value)
        return lambda server: server.ban(pen.now(), seconds)
    if key == "acl":
        number = arguments.list_number(value)
        return lambda server: setattr(server, "acl", number)
    if key in ("max", "hard", "weight", "prio"):
        number = arguments.number(value)
        return lambda server: setattr(server, key, number)
    raise UsageError(f"'{key}' is none of acl, address, port, max, hard, blacklist, weight, prio")


def saved_servers(pen: Steered) -> Iterable[str]:
    """A path that is no word is left to the command line."""
    for server in pen.selection.servers:
        if server.endpoint:
            where = server.endpoint.path or server.endpoint.host
            address_words = f"address {where} " if arguments.is_word(where) else ""
            yield (
                f"server {server.index} acl {server.acl} {address_words}"
                f"port {server.port} max {server.max} hard {server.hard} weight {server.weight} "
                f"prio {server.prio}"
            )


def show_control(pen: Steered, args: list[str]) -> str:
    arguments.none(args)
    return str(control_endpoint(pen.options.control)) if pen.options.control else ""


def list_servers(pen: Steered, args: list[str]) -> str:
    arguments.none(args)
    return status.servers(pen)


def owner_of_socket(pen: Steered, args: list[str]) -> str:
    number = arguments.integer(arguments.required(args, "descriptor"))
    return f"Socket {number} belongs to connection {pen.connection_of(number)}"


def set_source(pen: Steered, args: list[str]) -> None:
    word = arguments.required(args, "address")
    if not address.is_numeric(word):
        raise CommandError(f"unable to set source address to '{word}'")
    pen.set_source(word)


def set_transparent(pen: Steered, args: list[str]) -> None:
    arguments.none(args)
    check_transparent()
    pen.settings.transparent = True


def stop_transparent(pen: Steered, args: list[str]) -> None:
    arguments.none(args)
    pen.settings.transparent = False


def saved_source(pen: Steered) -> Iterable[str]:
    return [f"source {pen.settings.source.host}"] if pen.settings.source else []


def set_tls(
    attribute: str, check: Callable[[str], Any], separator: str = ""
) -> Callable[[Steered, list[str]], str | None]:
    """An action that shows or changes one of the ssl_* settings; `check` answers the value for a word.  Of a
    list, which has a `separator`, blanks may stand for that."""

    def run(pen: Steered, args: list[str]) -> str | None:
        word = arguments.one([separator.join(args)] if args and separator else args)
        if word is None:
            return str(getattr(pen.settings, attribute))
        _change_tls(pen, attribute, check(word))
        return None

    return run


def _change_tls(pen: Steered, attribute: str, value: object) -> None:
    before = getattr(pen.settings, attribute)
    setattr(pen.settings, attribute, value)
    try:
        pen.tls_changed()
    except PenError:
        setattr(pen.settings, attribute, before)
        raise


def protocols(word: str) -> str:
    """A list for ALPN (RFC 7301): names of 1 to 255 bytes."""
    if not all(0 < len(name.encode()) < 256 for name in word.split(",")):
        raise UsageError(f"'{word}' is not a list of protocols with commas between them")
    return word


def set_ssl_option(pen: Steered, args: list[str]) -> None:
    word = arguments.required(args, "option")
    if word not in SSL_OPTIONS:
        raise UsageError(f"'{word}' is none of {', '.join(SSL_OPTIONS)}")
    if word not in pen.settings.ssl_options:
        _change_tls(pen, "ssl_options", [*pen.settings.ssl_options, word])


def status_page(pen: Steered, args: list[str]) -> str:
    arguments.none(args)
    if pen.settings.web_stats:
        pen.write_web_stats()
    return status.page(pen)


def set_fastclose(pen: Steered, args: list[str]) -> None:
    word = arguments.one(args)
    if word is None:
        raise CommandError(f"{PREFIX}ignoring tcp_fastclose without argument")
    if word not in FASTCLOSE:
        raise UsageError(f"'{word}' is none of {', '.join(FASTCLOSE)}")
    pen.settings.fastclose = word


def set_tracking(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.clients.lifetime = arguments.number(word)
    return str(pen.clients.lifetime)


def set_web_stats(pen: Steered, args: list[str]) -> str:
    if word := arguments.one(args):
        pen.settings.web_stats = word
    return pen.settings.web_stats


def stop_web_stats(pen: Steered, args: list[str]) -> None:
    arguments.none(args)
    pen.settings.web_stats = ""


def write_config(pen: Steered, args: list[str]) -> None:
    pen.write_config(arguments.one(args) or "")
