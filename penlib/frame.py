"""The frame in which every tool's main runs: from sys.argv to the exit status, however it ends.

Not here: what may be typed (usage).
"""

import contextlib
import os
import sys
from collections.abc import Callable

from penlib import interrupt
from penlib.errors import PenError, UsageError, reason, shown
from penlib.output import put
from penlib.usage import Args, Optional, parse, short_usage
from penlib.version import VERSION

Main = Callable[[Args], int | None]

CLOSED = (os.O_RDONLY, os.O_RDONLY, os.O_RDWR)
"""How /dev/null is opened in the place of a standard stream that is closed: there is no input, messages
may get lost, but what would be lost on standard output fails, as it does for cat(1)."""


def run(
    name: str,
    doc: str | None,
    main: Main,
    *,
    optional: Optional | None = None,
    options_first: bool = False,
) -> int:
    """Run a tool: parse sys.argv by `doc`, call `main`, turn every ending into its exit status.

    `optional` and `options_first` are as for `usage.parse`.  Returns the exit status: 0 done, 1 failure, 2
    wrong usage, 128+N interrupted by signal N.
    """
    doc = doc or _own_doc()
    try:
        try:
            interrupt.raises()
            _open_standard_streams()
            _be_called(name)
            return _run(name, doc, main, optional, options_first)
        finally:
            interrupt.ends()
    except UsageError as exc:
        _say(f"{name}: {shown(str(exc))}\n{short_usage(doc)}")
        return 2
    except PenError as exc:
        _say(f"{name}: {shown(str(exc))}")
    except BrokenPipeError:
        _abandon_stdout()
        return 128 + 13  # SIGPIPE
    except KeyboardInterrupt:
        _abandon_stdout()
        return interrupt.STATUS
    except OSError as exc:
        where = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
        _say(f"{name}: {shown(where)}{reason(exc)}")
    except Exception as exc:  # a bug: the user still gets one line, not a traceback
        _say(f"{name}: internal error: {type(exc).__name__}: {shown(str(exc))}")
    return 1


def _own_doc() -> str:
    """The docstring of the program, which `python -OO` takes away."""
    with open(sys.argv[0], encoding="utf-8") as file:
        return file.read().split('"""')[1]


def _run(name: str, doc: str, main: Main, optional: Optional | None, options_first: bool) -> int:
    args = parse(doc, sys.argv[1:], optional=optional, options_first=options_first)
    if args["--help"]:
        put(f"{doc.strip()}\n".encode())
        return 0
    if args["--version"]:
        put(f"{name} {VERSION}\n".encode())
        return 0
    status = main(args) or 0
    if sys.stdout:  # of a program that prints; the tools put
        sys.stdout.flush()
    return status


def _open_standard_streams() -> None:
    """Make sure that 0, 1 and 2 are open, so that no file or socket ever gets their numbers."""
    for number, flags in enumerate(CLOSED):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # it gets the lowest number that is free


def _be_called(name: str) -> None:
    """The name that killall(1), pgrep(1) and top(1) know us by, proc_pid_comm(5): without that it is the
    interpreter's, and scripts that say `killall -HUP pen` find nobody."""
    with contextlib.suppress(OSError):  # no /proc
        comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(comm, name.encode())
        finally:
            os.close(comm)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr is gone: there is nobody left to tell
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def _abandon_stdout() -> None:
    """Keep Python from complaining, at exit, that what was printed can not be written."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
