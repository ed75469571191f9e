"""Files replaced as a whole: who reads one finds the old content or the new one, never a part.

Not here: logs, which are appended to (logfile).
"""

import contextlib
import os
import stat

from penlib.errors import failed


def replace(path: str, data: bytes, what: str) -> None:
    """Put `data` where `path` is, all of it or nothing; the mode of an older file is kept.  A device, such as
    /dev/null, is written to.  Raises PenError `WHAT: why`.
    """
    if is_special(path):
        write_special(path, data, what)
        return
    temporary = f"{path}.{os.getpid()}.new"
    try:
        mode = 0o640
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(path).st_mode)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, mode)
                file.write(data)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as exc:
        raise failed(what, exc) from exc


def is_special(path: str) -> bool:
    """Whether there is something at `path` that is neither a file nor a directory nor a link, and so must not
    be replaced by a file."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def write_special(path: str, data: bytes, what: str) -> None:
    """Write to a device or FIFO, which is not waited for.  Raises PenError `WHAT: why`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as exc:
        raise failed(what, exc) from exc
