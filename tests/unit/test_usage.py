"""Command lines: what getopt would make of them, and what is said about the others."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.errors import UsageError
from penlib.usage import parse

DOC = """tool - for tests

Usage:
  tool [options] [-d]... [-O CMD]... -p FILE [--] <where> [<more>...]
  tool --help | --version

Options:
  -d             repeat for more
  -f             a flag
  -l [FILE]      its value may be missing [x]
  -n N           a number [default: 5]
  -O CMD         may repeat
  -p FILE        is needed
  --keep SEC     a long one
  --keep-zone    another
  -h --help      print this
  --version      print the version
"""


def missing(word):
    return "LEFT OUT" if word is None or word.startswith("-") else None


def parsed(*words, **options):
    args = parse(DOC, list(words), optional={"-l": missing}, **options)
    return {name: value for name, value in args.items() if value}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-p x a", {"-p": "x", "<where>": "a"}),
        ("-px a", {"-p": "x", "<where>": "a"}),
        ("a -p x", {"-p": "x", "<where>": "a"}),
        ("-dfpx a", {"-d": 1, "-f": True, "-p": "x", "<where>": "a"}),
        ("-d a -d -px -dd", {"-d": 4, "-p": "x", "<where>": "a"}),
        ("-f -ff -px a", {"-f": True, "-p": "x", "<where>": "a"}),
        ("-px -py a", {"-p": "y", "<where>": "a"}),
        ("-n 3 -p x -n4 a", {"-n": "4", "-p": "x", "<where>": "a"}),
        ("-O 1 -O2 -p x a", {"-O": ["1", "2"], "-p": "x", "<where>": "a"}),
        ("-p -f a", {"-p": "-f", "<where>": "a"}),
        ("-p -- a", {"-p": "--", "<where>": "a"}),
        ("-p- a", {"-p": "-", "<where>": "a"}),
        ("-p x -- -f", {"-p": "x", "<where>": "-f"}),
        ("-p x -- -- b", {"-p": "x", "<where>": "--", "<more>": ["b"]}),
        ("-p x - b", {"-p": "x", "<where>": "-", "<more>": ["b"]}),
        ("-p x -l y a", {"-p": "x", "-l": "y", "<where>": "a"}),
        ("-p x -l -f a", {"-p": "x", "-l": "LEFT OUT", "-f": True, "<where>": "a"}),
        ("-p x a -fl", {"-p": "x", "-l": "LEFT OUT", "-f": True, "<where>": "a"}),
        ("-p x -ly a", {"-p": "x", "-l": "y", "<where>": "a"}),
        ("--keep 5 -p x a", {"--keep": "5", "-p": "x", "<where>": "a"}),
        ("--keep=5 -p x a", {"--keep": "5", "-p": "x", "<where>": "a"}),
        ("--keep=a=b -p x a", {"--keep": "a=b", "-p": "x", "<where>": "a"}),
        ("--keep-z -p x a", {"--keep-zone": True, "-p": "x", "<where>": "a"}),
        ("--help -y", {"--help": True}),
        ("-h", {"--help": True}),
        ("--vers", {"--version": True}),
    ],
)
def test_getopt(words, expected):
    found = parsed(*words.split())
    found.pop("--", None)
    if "--help" not in expected and "--version" not in expected:
        expected = {"-n": "5", **expected}
    assert found == expected


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-y"], "unknown option -y"),
        (["-f9"], "unknown option -9"),
        (["--nonsense=3"], "unknown option --nonsense"),
        (["--k"], "ambiguous option --k"),
        (["--help=3"], "option --help takes no value"),
        (["-n"], "option -n needs a value"),
        (["-fn"], "option -n needs a value"),
        (["-n", ""], "option -n needs a value"),
        (["-l", ""], "option -l needs a value"),
        (["--keep"], "option --keep needs a value"),
        (["--keep="], "option --keep needs a value"),
        (["a"], "option -p is missing"),
        ([], "option -p is missing"),
        (["-p", "x"], "too few arguments"),
    ],
)
def test_complaints(words, complaint):
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    assert str(caught.value) == complaint


FIRST = """Usage:
  tool [options] [--] <where> <what>...

Options:
  -f         a flag
  --help     print this
  --version  print the version
"""


def test_options_first():
    args = parse(FIRST, ["-f", "a", "-f", "--help", "--", "-y"], options_first=True)
    assert (args["-f"], args["<where>"], args["<what>"]) == (True, "a", ["-f", "--help", "--", "-y"])


def test_help_need_not_be_among_the_options_explained():
    assert parse("Usage:\n  tool <where>\n  tool --help | --version\n", ["--help"])["--help"]


KNOWN = st.sampled_from(["-p", "-d", "-l", "--", "--keep", "-", "-n5"])


@given(st.lists(st.text(max_size=8) | KNOWN, max_size=6))
def test_any_words_are_parsed_or_refused(words):
    with contextlib.suppress(UsageError):
        parsed(*words)
