"""Files replaced as a whole: who reads one finds the old content or the new one, never a part.

Not here: logs, which are appended to (logfile).
"""

import contextlib
import os
import stat

from penlib.errors import failed

MODE = 0o640
"""Of files that are new."""

LINKS = 40
"""Followed in a row, path_resolution(7)."""

PUBLIC = 0o644
"""Of new files that others are to read, too."""


def replace(path: str, data: bytes, what: str, mode: int = MODE) -> None:
    """Put `data` where `path` is, all of it or nothing.  A new file gets `mode`; mode and owner of an older
    one are kept, and so is a link to it.  A device, such as /dev/null, is written to.  Raises PenError
    `WHAT: why`.
    """
    path = os.path.realpath(path)
    if is_special(path):
        write_special(path, data, what)
        return
    try:
        old = None
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(path)
        _rename_new(path, data, mode, old)
    except OSError as exc:
        raise failed(what, exc) from exc


def renew(path: str, data: bytes, what: str) -> None:
    """As `replace`, for a PUBLIC file that is made anew all the time: where the directory is not ours to make
    a file in, but the old file is to write to, that is overwritten.  Raises PenError `WHAT: why`.
    """
    directory = os.path.dirname(os.path.realpath(path))
    if os.access(directory, os.W_OK) or not os.path.isfile(path):
        replace(path, data, what, PUBLIC)
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as exc:
        raise failed(what, exc) from exc


def _rename_new(path: str, data: bytes, mode: int, old: os.stat_result | None) -> None:
    """Write a new file and call it `path`, in place of one that was as `old` says.  Raises OSError."""
    temporary = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a pen that was killed; nobody else's is written to
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            if old:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode) if old else mode)
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def is_special(path: str) -> bool:
    """Whether `path`, perhaps a link, leads to something that is neither a file nor a directory, or that our
    standard streams go to, and so must not be replaced by a file."""
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            return any(os.path.samestat(found, os.fstat(stream)) for stream in (1, 2))
    except OSError:
        return False
    return True


def followed(path: str) -> tuple[str, bool]:
    """Where `path` leads, and whether that is special; but only by links that root or we have made.

    With our rights the link of anybody else leads where he wants.  The kernel follows none of those in /tmp,
    either, but only where it follows itself: protected_symlinks in proc_sys_fs(5).
    """
    try:
        for _ in range(LINKS):
            found = os.lstat(path)
            if not stat.S_ISLNK(found.st_mode):
                return path, is_special(path)
            if found.st_uid not in (0, os.geteuid()):
                break
            target = os.path.join(os.path.dirname(path), os.readlink(path))
            if not os.path.lexists(target) and is_special(path):  # a pipe has no name, see /proc/self/fd
                return path, True
            path = target
    except OSError:  # there is nothing yet
        pass
    return path, False


def write_special(path: str, data: bytes, what: str) -> None:
    """Write to a device or FIFO, which is not waited for.  Raises PenError `WHAT: why`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as exc:
        raise failed(what, exc) from exc
