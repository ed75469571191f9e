"""The words of a control command: what may be wrong with them, and how that is said.

Every function that checks raises UsageError naming the word at fault.
"""

import re

from penlib import acl, address, errors
from penlib.errors import PenError, UsageError

PREFIX = "do_cmd: "
"""With what the reply to a wrong command begins, as in pen 0.34.1."""

INTEGER = re.compile(r"-?[0-9]{1,18}")
WORD = re.compile(r"[^ \t\n\v\f\r]+")


ERRORS = (PREFIX, "Exit is not enabled", "unable to ")
"""How replies that are errors begin; a `Connection N out of range` is one, too."""


class CommandError(PenError):
    """A command that can't be carried out.  Its text is the whole reply."""


def is_error(reply: str) -> bool:
    """Whether a reply says that the command was not carried out."""
    return reply.startswith(ERRORS) or (reply.startswith("Connection ") and reply.endswith(" out of range"))


def none(args: list[str]) -> None:
    if args:
        raise UsageError(f"'{args[0]}': no argument expected")


def one(args: list[str]) -> str | None:
    """The one optional argument."""
    if len(args) > 1:
        raise UsageError(f"'{args[1]}': at most one argument expected")
    return args[0] if args else None


def required(args: list[str], what: str) -> str:
    word = one(args)
    if word is None:
        raise UsageError(f"{what} expected")
    return word


def number(word: str) -> int:
    """A number from 0 on."""
    return address.number(word)


def integer(word: str) -> int:
    """Any number, also a negative one: what can only be in or out of some range."""
    if not INTEGER.fullmatch(word):
        raise UsageError(f"'{word}' is not a number")
    return int(word)


def split(line: str) -> list[str]:
    """The words of a command line.  Only ASCII has blanks: a byte beyond it may be part of a file's name."""
    return WORD.findall(line)


def is_word(text: str) -> bool:
    """Whether `text` can stand in a command line as one word, and in a file is no comment."""
    return split(text) == [text] and not text.startswith("#")


def list_number(word: str) -> int:
    found = number(word)
    if found >= acl.LISTS:
        raise UsageError(f"'{word}' is not a list number between 0 and {acl.LISTS - 1}")
    return found


def shown(text: str, limit: int = 0) -> str:
    """`text` as it may stand in one line of a message: what is not printable as an escape, and no longer
    than `limit` characters if that is not 0."""
    return errors.shown(text if not limit or len(text) <= limit else text[:limit] + "...")
