"""Command lines: the one wrapper around docopt.

A tool's docstring is its docopt usage text.  docopt matches what was typed against it, but it knows neither
the last-one-wins of getopt, nor an option whose value may be missing, nor exit status 2, nor messages that
name the word at fault.  So the words are first brought to a normal form by a getopt of our own (`_Words`):
options one by one, each at most once unless the usage shows it with `...`, then the rest, behind `--` where
that is needed (usage patterns have `[--]` for it).

Not here: what the options mean.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from penlib.errors import PenError, UsageError

Args = dict[str, Any]
"""What docopt answers: `-b` -> value or None, `-f` -> bool, `-d` (repeatable) -> int, `<port>` -> word."""

Optional = dict[str, Callable[[str | None], str | None]]
"""For an option whose value may be missing: given the next word (None at the end), the value to use when
that word is not the option's, or None when it is."""

_OPTION_LINE = re.compile(r"^ +(-\S.*?)(?:  |$)", re.MULTILINE)
_REPEATED = re.compile(r"\[(--?\w[\w-]*)(?:[ =]\S+)?\]\.\.\.")
_LEFT_OUT_OR_NOT = re.compile(r"\[[^\]]*\]")
_NEEDED = re.compile(r" (-\w) [A-Z]+")


def short_usage(doc: str) -> str:
    """The usage patterns of `doc`."""
    start = doc.lower().index("usage:")
    return doc[start:].partition("\n\n")[0].rstrip()


def parse(
    doc: str, argv: list[str], *, optional: Optional | None = None, options_first: bool = False
) -> Args:
    """What was typed, by the names in `doc`.  Raises UsageError with one line that says what is wrong.

    `--help` and `--version` win over whatever is wrong after them.  With `options_first` the first
    word that is not an option ends them.
    """
    words = _Words(doc, optional or {}, options_first)
    try:
        words.take(argv)
    except UsageError:
        if not words.wants_help:
            raise
    if words.wants_help:
        return {"--help": "--help" in words.given, "--version": "--version" in words.given}
    docopt, docopt_exit = _load_docopt()
    try:
        return dict(docopt(doc, words.normal_form(), default_help=False))
    except docopt_exit:
        raise UsageError(words.complaint(_needed(doc))) from None


def _needed(doc: str) -> list[str]:
    """The usage patterns of `doc` without all that may be left out."""
    patterns = short_usage(doc).splitlines()[1:]
    return [_LEFT_OUT_OR_NOT.sub("", pattern) for pattern in patterns if "--help" not in pattern]


def _load_docopt() -> tuple[Callable[..., Any], type[BaseException]]:
    """docopt-ng; in a checkout also from the virtual environment that `make` put beside penlib."""
    try:
        from docopt import DocoptExit, docopt
    except ImportError:
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        libraries = os.path.join(root, ".venv", "lib")
        found = sorted(os.listdir(libraries)) if os.path.isdir(libraries) else []
        sys.path += [os.path.join(libraries, python, "site-packages") for python in found]
        try:
            from docopt import DocoptExit, docopt
        except ImportError:
            raise PenError(
                "the Python module docopt is missing: run make, or pip install docopt-ng"
            ) from None
    return docopt, DocoptExit


class _Words:
    """A getopt over the options that a usage text declares."""

    def __init__(self, doc: str, optional: Optional, options_first: bool) -> None:
        self.valued: dict[str, bool] = {}
        self.same: dict[str, str] = {}
        self.repeated = set(_REPEATED.findall(doc))
        self.optional = optional
        self.options_first = options_first
        self.given: list[str] = []
        self.values: dict[str, list[str]] = {}
        self.rest: list[str] = []
        for line in ["--help", "--version", *_OPTION_LINE.findall(doc)]:
            self._declare(line.replace(",", " ").replace("=", " ").split())

    @property
    def wants_help(self) -> bool:
        return "--help" in self.given or "--version" in self.given

    def _declare(self, words: list[str]) -> None:
        names = [word for word in words if word.startswith("-")]
        for name in names:
            self.valued[name] = len(words) > len(names)
            self.same[name] = names[-1]  # docopt, too, calls an option by its long name

    def take(self, argv: list[str]) -> None:
        """Sort `argv` into options and the rest.  Raises UsageError."""
        words = list(reversed(argv))
        while words:
            word = words.pop()
            if word == "--":
                self.rest += reversed(words)
                return
            if word.startswith("--"):
                self._take_long(word, words)
            elif word.startswith("-") and word != "-":
                self._take_short(word, words)
            elif self.options_first:
                self.rest += [word, *reversed(words)]
                return
            else:
                self.rest.append(word)

    def _take_long(self, word: str, words: list[str]) -> None:
        name, equals, value = word.partition("=")
        found = [name] if name in self.valued else [n for n in self.valued if n.startswith(name)]
        if len(found) != 1:
            raise UsageError(f"{'ambiguous' if found else 'unknown'} option {name}")
        if not self.valued[found[0]]:
            if equals:
                raise UsageError(f"option {found[0]} takes no value")
            self._add(found[0])
        else:
            self._add(found[0], value if equals else self._value_of(found[0], words))

    def _take_short(self, word: str, words: list[str]) -> None:
        for at, letter in enumerate(word[1:], 2):
            name = "-" + letter
            if name not in self.valued:
                raise UsageError(f"unknown option {name}")
            if self.valued[name]:
                self._add(name, word[at:] or self._value_of(name, words))
                return
            self._add(name)

    def _value_of(self, name: str, words: list[str]) -> str:
        if name in self.optional:
            value = self.optional[name](words[-1] if words else None)
            if value is not None:
                return value
        if not words:
            raise UsageError(f"option {name} needs a value")
        return words.pop()

    def _add(self, name: str, value: str | None = None) -> None:
        name = self.same[name]
        self.given.append(name)
        if value == "":  # an empty variable of a script, most likely; nothing that an option takes is empty
            raise UsageError(f"option {name} needs a value")
        if value is not None:
            self.values.setdefault(name, []).append(value)

    def normal_form(self) -> list[str]:
        """The words as docopt wants them; of an option given twice the last value counts."""
        words: list[str] = []
        for name in dict.fromkeys(self.given):
            if name in self.values:
                values = self.values[name] if name in self.repeated else self.values[name][-1:]
                words += [_joined(name, value) for value in values]
            else:
                words += [name] * (self.given.count(name) if name in self.repeated else 1)
        dashed = any(word.startswith("-") and word != "-" for word in self.rest)
        return [*words, *(["--"] if dashed else []), *self.rest]

    def complaint(self, needed: list[str]) -> str:
        """One line for words that docopt could not match: by then something is missing, or too much."""
        for option in _NEEDED.findall(needed[0]):
            if option not in self.given:
                return f"option {option} is missing"
        if len(self.rest) < min(pattern.count("<") for pattern in needed):
            return "too few arguments"
        return "wrong arguments: " + " ".join(self.rest)


def _joined(name: str, value: str) -> str:
    """In one word: a value of its own could be taken for an option."""
    return f"{name}={value}" if name.startswith("--") else name + value
