"""Command lines: the one wrapper around docopt, and the frame in which every tool's main runs.

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

from penlib.errors import PenError, UsageError, reason
from penlib.version import VERSION

Args = dict[str, Any]
"""What docopt answers: `-b` -> value or None, `-f` -> bool, `-d` (repeatable) -> int, `<port>` -> word."""

Optional = dict[str, Callable[[str | None], str | None]]
"""For an option whose value may be missing: given the next word (None at the end), the value to use when
that word is not the option's, or None when it is."""

_OPTION_LINE = re.compile(r"^ +(-\S.*?)(?:  |$)", re.MULTILINE)
_REPEATED = re.compile(r"\[(--?\w[\w-]*)(?:[ =]\S+)?\]\.\.\.")


def run(
    name: str,
    doc: str,
    main: Callable[[Args], int | None],
    *,
    optional: Optional | None = None,
    options_first: bool = False,
) -> int:
    """Run a tool: parse sys.argv by `doc`, call `main`, turn every ending into its exit status.

    `optional` and `options_first` are as for `parse`.  Returns the exit status: 0 done, 1 failure, 2 wrong
    usage, 128+N interrupted by signal N.
    """
    try:
        status = _run(name, doc, main, optional, options_first)
        if sys.stdout:  # None if it was closed from the start
            sys.stdout.flush()
        return status
    except UsageError as exc:
        _say(f"{name}: {exc}\n{_short_usage(doc)}")
        return 2
    except PenError as exc:
        _say(f"{name}: {exc}")
    except BrokenPipeError:
        _abandon_stdout()
        return 128 + 13  # SIGPIPE
    except KeyboardInterrupt:
        _abandon_stdout()
        return 128 + 2  # SIGINT
    except OSError as exc:
        where = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
        _say(f"{name}: {where}{reason(exc)}")
    except Exception as exc:  # a bug: the user still gets one line, not a traceback
        _say(f"{name}: internal error: {type(exc).__name__}: {exc}")
    _abandon_stdout()
    return 1


def _run(
    name: str, doc: str, main: Callable[[Args], int | None], optional: Optional | None, options_first: bool
) -> int:
    args = parse(doc, sys.argv[1:], optional=optional, options_first=options_first)
    if args["--help"]:
        print(doc.strip())
        return 0
    if args["--version"]:
        print(name, VERSION)
        return 0
    return main(args) or 0


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # stderr is gone: there is nobody left to tell


def _abandon_stdout() -> None:
    """Keep Python from complaining, at exit, that what it still has for stdout can not be written."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass


def _short_usage(doc: str) -> str:
    start = doc.lower().index("usage:")
    return doc[start:].partition("\n\n")[0].rstrip()


def parse(
    doc: str, argv: list[str], *, optional: Optional | None = None, options_first: bool = False
) -> Args:
    """What was typed, by the names in `doc`.  Raises UsageError with one line that says what is wrong.

    `--help` and `--version` win over everything else wrong with the line.  With `options_first` the first
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
        raise UsageError(words.complaint()) from None


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
        for line in _OPTION_LINE.findall(doc):
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
        if value is not None:
            self.values.setdefault(name, []).append(value)

    def normal_form(self) -> list[str]:
        """The words as docopt wants them; of an option given twice the last value counts."""
        words: list[str] = []
        for name in dict.fromkeys(self.given):
            if name in self.values:
                values = self.values[name] if name in self.repeated else self.values[name][-1:]
                words += [part for value in values for part in _join(name, value)]
            else:
                words += [name] * (self.given.count(name) if name in self.repeated else 1)
        dashed = any(word.startswith("-") and word != "-" for word in self.rest)
        return [*words, *(["--"] if dashed else []), *self.rest]

    def complaint(self) -> str:
        """One line for words that docopt could not match: by then only their number can be wrong."""
        if not self.rest:
            return "too few arguments"
        return "wrong arguments: " + " ".join(self.rest)


def _join(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if name.startswith("--") else [name, value]
