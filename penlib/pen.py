"""pen, the balancer: options -> settings -> run."""

from penlib import address, process
from penlib.address import ServerSpec
from penlib.balancer.balancer import Pen
from penlib.balancer.endpoints import check_path, penlogd_of, protocol, spec_of
from penlib.balancer.settings import LEAST, TLS_LEAST, Options, Settings
from penlib.capabilities import NET_ADMIN
from penlib.clients import Clients
from penlib.errors import UsageError
from penlib.report import Reporter, Syslog
from penlib.selection import Selection
from penlib.usage import Args, Optional

PID_FILE = "pen.pid"
"""For a -p without a file."""

OBSOLETE = ("-Q", "-D", "-n", "-S")
WITH_CERTIFICATE = ("-K", "-G", "-A", "-R")
"""Options that mean nothing without -E, which brings TLS about: who typed them expects it."""

OF_TLS = ("-Z", "-L")
"""Options that do nothing without -E, and no harm: old command lines have them."""

NOT_WITH_UDP = ("-H", "-E", *WITH_CERTIFICATE, *OF_TLS)
"""Options of what is carried over TCP."""

NUMBERS = {"-b": "blacklist", "-m": "multi_accept", "-q": "backlog", "-t": "timeout", "-x": "conn_max"}
"""Options that set a number of Settings."""

CLIENTS = 2048
"""Clients remembered."""


def pid_file_missing(word: str | None) -> str | None:
    """For `-p` before `word`: pen.pid, if `word` can't be its file; None if it is.

    A word with a slash is always the file; one that begins with `-`, has a colon or is a bare port is not.
    """
    if word is None:
        return PID_FILE
    if "/" in word and not word.startswith("-"):
        return None
    return PID_FILE if word.startswith("-") or ":" in word or (word.isascii() and word.isdigit()) else None


def service_missing(word: str | None) -> str | None:
    """For `-i` before `word`: any name, if that is not there to be told that services are not supported."""
    return "?" if word is None or word.startswith("-") else None


OPTIONAL: Optional = {"-p": pid_file_missing, "-i": service_missing}
"""Options whose value may be missing."""


def main(args: Args) -> None:
    """Run pen.  Raises PenError, UsageError."""
    reporter = Reporter("pen", args["-d"])
    _refuse(args)
    _warn(args, reporter)
    options, settings, selection = _options(args), _settings(args), Selection()
    _set_mode(args, selection)
    clients = Clients(_number(args, "-c", CLIENTS, LEAST["clients_max"]), _number(args, "-T", 0))
    user = process.User(options.user) if options.user else None
    background = None if options.foreground else process.Background()
    syslog = Syslog("pen")
    pen = Pen(options, settings, selection, clients, reporter)
    try:
        pen.open(user)
        process.confine(options.jail, user, (NET_ADMIN,) if settings.transparent else ())
        pen.enter()
    except BaseException:
        pen.remove_files()
        raise
    if background:
        reporter.to_syslog(syslog)
        background.ready()
    pen.run()


def _refuse(args: Args) -> None:
    if args["-i"]:
        raise UsageError("option -i: Windows services are not supported")
    for option in NOT_WITH_UDP:
        if args["-U"] and args[option]:
            raise UsageError(f"option {option}: not with -U, it is for TCP")
    for option in WITH_CERTIFICATE:
        if args[option] and not args["-E"]:
            raise UsageError(f"option {option}: only with -E, a certificate")
    if args["-L"] is not None and args["-L"] not in TLS_LEAST:
        old = args["-L"] in ("ssl2", "ssl3")
        why = "is broken and not supported" if old else f"is none of {', '.join(TLS_LEAST)}"
        raise UsageError(f"option -L: '{args['-L']}' {why}")


def _warn(args: Args, reporter: Reporter) -> None:
    """Say what is taken, but does not do what it seems to."""
    for option in OBSOLETE:
        if args[option]:
            reporter.warn(f"option {option} is obsolete and does nothing")
    for option in OF_TLS:
        if args[option] and not args["-E"]:
            reporter.warn(f"option {option} does nothing without -E, a certificate")
    if args["-R"] and not (args["-G"] or args["-A"]):
        reporter.warn("option -R without -G or -A, a CA: no client gets in, but for names with a .ca file")


def _options(args: Args) -> Options:
    """What only the command line says.  Raises UsageError for whatever in it can't be meant."""
    options = Options()
    options.commands = args["-O"]
    direct = any(command.split()[:1] == ["dsr_if"] for command in options.commands)
    options.udp = args["-U"]
    kind = protocol(options)
    if args["<listen>"]:
        options.listen = _listen(args["<listen>"], kind, direct)
    port = options.listen.port if options.listen else 0
    options.servers = [_server(word, kind, port, needs_port=not direct) for word in args["<server>"]]
    for option, attribute in (("-e", "emergency"), ("-B", "abuse")):
        if args[option]:
            setattr(options, attribute, _server(args[option], kind, port))
    if args["-C"]:
        options.control = address.listener(args["-C"])
    if not args["<listen>"] and not args["-F"]:
        raise UsageError("no listening address")
    options.mechanism = "poll" if args["-P"] else ""
    options.foreground = args["-f"]
    options.exit_enabled = args["-X"]
    options.pid_file = args["-p"] or ""
    options.jail = args["-j"] or ""
    options.user = args["-u"] or ""
    options.config = args["-F"] or ""
    options.log = args["-l"] or ""
    penlogd_of(options.log)  # raises for a bad address, before anything is opened
    _set_tls(args, options)
    return options


def _set_tls(args: Args, options: Options) -> None:
    options.certificate = args["-E"] or ""
    options.key = args["-K"] or ""
    options.client_authorities = args["-G"] or ""
    options.client_authority_directory = args["-A"] or ""
    options.client_required = args["-R"]
    options.tls_compatible = args["-Z"]
    options.tls_least = args["-L"] or options.tls_least


def _listen(word: str, kind: str, direct: bool) -> address.Endpoint:
    """Where to listen; with direct server return also all ports of an address."""
    if direct and address.is_ipv4(word):
        return address.Endpoint(word, 0)
    endpoint = address.listener(word, kind)
    check_path(endpoint, kind)
    return endpoint


def _server(word: str, kind: str, port: int, needs_port: bool = True) -> ServerSpec:
    spec = spec_of(word, lambda word: address.server(word, kind, port), needs_port)
    check_path(spec.endpoint, kind)
    return spec


def _settings(args: Args) -> Settings:
    settings = Settings()
    for option, attribute in NUMBERS.items():
        value = _number(args, option, getattr(settings, attribute), LEAST.get(attribute, 0))
        setattr(settings, attribute, value)
    settings.ascii = args["-a"]
    settings.http = args["-H"]
    settings.web_stats = args["-w"] or ""
    return settings


def _set_mode(args: Args, selection: Selection) -> None:
    mode = selection.mode
    mode.hash = args["-h"] or args["-N"]
    mode.forgetful = args["-N"]
    mode.roundrobin = args["-r"]
    mode.stubborn = args["-s"]
    mode.weight = args["-W"]


def _number(args: Args, option: str, default: int, least: int = 0) -> int:
    """The value of a numeric option; one below `least` is raised to it."""
    word = args[option]
    if word is None:
        return default
    return max(least, address.count(word, f"option {option}"))
