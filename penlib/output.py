"""Standard output: bytes, written at once and whole.

Not by sys.stdout: that is missing when the stream was closed, and with PYTHONUNBUFFERED its buffer buffers
nothing and writes as much as it likes to.
"""

import os
import select

from penlib.errors import failed

STDOUT = 1
NAME = "standard output"
"""What messages call it."""


def put(data: bytes) -> None:
    """Write all of `data`, however slowly it is read.

    Raises BrokenPipeError if nobody reads it any more, PenError if it can't be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(STDOUT, view) :]
        except BlockingIOError:  # a pipe that somebody made non-blocking
            select.select((), (STDOUT,), ())
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise failed(NAME, exc) from exc
