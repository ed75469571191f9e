"""Ctrl-C, from the first moment on.

Python shows a traceback then, also while modules are being loaded; so every tool loads this one before the
others and lets SIGINT end it without a word.  Once a tool is at work it may have something to tidy up: then
SIGINT is a KeyboardInterrupt, which `frame` waits for.
"""

# What the module signal is made of.  That itself takes as long to load as all of this.
import _signal  # type: ignore[import-not-found]
import os

STATUS = 128 + 2
"""Exit status of who was ended by SIGINT."""


def ends() -> None:
    """From now on SIGINT ends the process at once, with STATUS."""
    _handle(_end)


def raises() -> None:
    """From now on SIGINT raises KeyboardInterrupt."""
    _handle(_signal.default_int_handler)


def _handle(handler: object) -> None:
    """Where SIGINT is ignored it stays so: a shell's background job, which Ctrl-C does not mean."""
    if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, handler)


def _end(number: int, frame: object) -> None:
    os._exit(STATUS)
