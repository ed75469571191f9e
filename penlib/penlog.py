"""penlog: options -> where to send -> send standard input there, line by line (see sender)."""

from penlib.sender import destination, send_stdin
from penlib.usage import Args

WORDS = ("<host>", "<port>", "<host:port>", "<my_ip>")


def main(args: Args) -> int:
    """Run penlog.  Raises PenError, UsageError."""
    endpoint, my_ip = destination([args[word] for word in WORDS if args.get(word) is not None])
    return send_stdin("penlog", endpoint, my_ip)
