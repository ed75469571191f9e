"""The one error vocabulary of the suite.

A tool ends in one of three ways: well (exit 0), on a `PenError` (one line `TOOL: what failed: why`, exit 1)
or on a `UsageError` (the same line, then the short usage, exit 2).  Nothing else may reach a user: system
errors are turned into PenErrors where the object they concern is known.
"""


class PenError(Exception):
    """A failure that ends the work or the command at hand.  Its text is `what failed: why`."""


class UsageError(PenError):
    """What the user typed can not be meant: a bad option, address or number.  Exit status 2."""


def reason(exc: OSError) -> str:
    """The system's own words for `exc` ("Permission denied"), without number and file name."""
    return exc.strerror or str(exc) or type(exc).__name__


def failed(what: str, exc: OSError) -> PenError:
    """A PenError `what: the system's words`, to be raised from `exc`."""
    return PenError(f"{what}: {reason(exc)}")


def shown(text: str) -> str:
    """`text`, which may hold anything that was typed or received, as one line of a message: what can't be
    printed as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c) & 0xFF:02x}" for c in text)
