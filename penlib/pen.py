"""pen, the balancer: options -> settings -> run."""

from penlib import address, process
from penlib.address import ServerSpec
from penlib.balancer.balancer import Pen, check_path, control_endpoint, protocol, spec_of
from penlib.balancer.settings import LEAST, Options, Settings, Terms
from penlib.capabilities import NET_ADMIN
from penlib.clients import Clients
from penlib.errors import UsageError
from penlib.report import Reporter, Syslog
from penlib.selection import Selection
from penlib.usage import Args

PID_FILE = "pen.pid"
"""For a -p without a file."""

LEAST_TLS = ("ssl23", "tls1", "tls1.1", "tls1.2", "tls1.3")
"""Of -L; ssl23 is any version, as OpenSSL once called it."""

OBSOLETE = ("-Q", "-D", "-n", "-S")

NOT_WITH_UDP = ("-H", "-E", "-K", "-G", "-A", "-R", "-Z", "-L")
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
    return PID_FILE if word.startswith("-") or ":" in word or word.isdigit() else None


def main(args: Args) -> None:
    """Run pen.  Raises PenError, UsageError."""
    reporter = Reporter("pen", args["-d"])
    _refuse(args)
    for option in OBSOLETE:
        if args[option]:
            reporter.warn(f"option {option} is obsolete and does nothing")
    options, settings, selection = _options(args), _settings(args), Selection()
    _set_mode(args, selection)
    clients = Clients(_number(args, "-c", CLIENTS, LEAST["clients_max"]), _number(args, "-T", 0))
    process.ensure_std_streams()
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


def _options(args: Args) -> Options:
    """What only the command line says.  Raises UsageError for whatever in it can't be meant."""
    options = Options()
    options.commands = args["-O"] + args["-o"]
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
        options.control = control_endpoint(address.listener(args["-C"]))
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
    return options


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
    settings.terms = _terms(args)
    settings.ascii = args["-a"]
    settings.http = args["-H"]
    settings.web_stats = args["-w"] or ""
    return settings


def _terms(args: Args) -> Terms:
    """TLS.  Raises UsageError for options that mean nothing together."""
    terms = Terms(
        certificate=args["-E"] or "",
        key=args["-K"] or "",
        ca_file=args["-G"] or "",
        ca_path=args["-A"] or "",
        require=args["-R"],
        least=args["-L"] or "",
        compatible=args["-Z"],
    )
    if terms.least and terms.least not in LEAST_TLS:
        raise UsageError(f"option -L: '{terms.least}' is none of {', '.join(LEAST_TLS)}")
    if not terms.certificate and terms != Terms():
        raise UsageError("options -K, -G, -A, -R, -Z and -L need a certificate (-E)")
    if terms.require and not (terms.ca_file or terms.ca_path):
        raise UsageError("option -R: whom to believe? -G or -A says that")
    return terms


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
    if not word:
        raise UsageError(f"option {option}: '' is not a number")
    return max(least, address.count(word, f"option {option}"))
