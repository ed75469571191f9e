"""Being a well-behaved process: background, pid file, chroot, user, limits, signals.

The order is the caller's: detach first (the parent waits), open what needs root, then `confine`, then
`ready`.  Until `ready` the daemon still has the terminal, so whatever can't be opened is said there and the
command typed fails with it.
"""

import contextlib
import errno
import os
import pwd
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable

from penlib import capabilities, files
from penlib.errors import PenError, failed
from penlib.loop import READ, Loop


class Background:
    """A daemon's way into the background: the command returns when the daemon says that it is `ready`."""

    def __init__(self) -> None:
        """Fork; only the child returns.  The parent waits for `ready` and exits with 0, or with the child's
        status if that ends before.  Raises PenError; in the parent, if the child was killed."""
        try:
            readable, self._writable = os.pipe()
            child = os.fork()
        except OSError as exc:
            raise failed("into the background", exc) from exc
        if child:
            os.close(self._writable)
            os._exit(_await(child, readable))
        os.close(readable)
        self._null = os.open(os.devnull, os.O_RDWR)  # now: a jail need not have it
        os.setsid()

    def ready(self) -> None:
        """Let go of the terminal: std streams to /dev/null, cwd to /, and the parent told."""
        os.chdir("/")
        for stream in range(3):
            os.dup2(self._null, stream)
        if self._null > 2:
            os.close(self._null)
        with contextlib.suppress(BrokenPipeError):  # the parent was killed: we were wanted all the same
            os.write(self._writable, b"+")
        os.close(self._writable)


def _await(child: int, readable: int) -> int:
    """The parent's exit status.  Who wants to end it means the child."""
    passed_on = set()

    def pass_on(number: int, frame: object) -> None:
        passed_on.add(number)
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    if os.read(readable, 1):
        return 0
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0 and -status not in passed_on:
        raise PenError(f"killed by signal {-status} before it was ready")
    return 128 - status if status < 0 else status or 1


class PidFile:
    """The file with the daemon's pid: `write` it when listening, `remove` it at the end."""

    def __init__(self, path: str) -> None:
        self.path, self._special = files.followed(os.path.abspath(path))  # a link stays a link
        self._fd = -1  # kept open: from a jail, or as another user, the file may be out of reach by its name

    def stale_or_running(self, tool: str) -> int:
        """The pid of a `tool` that the file names and that runs; 0 if there is none."""
        if self._special:
            return 0  # nobody may ever write there what we would read
        try:
            with open(self.path, "rb", opener=_at_once) as file:
                pid = int(file.read(32))
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")[:4]
        except (OSError, ValueError):
            return 0
        mine = tool.encode()
        return pid if pid != os.getpid() and any(os.path.basename(word) == mine for word in words) else 0

    def write(self, owner: tuple[int, int] | None = None) -> None:
        """Put our pid there, mode 0644, given to `owner` (uid, gid).  Raises PenError.

        By a temporary file and a rename, where that is allowed: nobody ever reads half a number.  But a
        device, such as /dev/null, is written to, and never removed.  The link of a stranger is replaced.
        """
        if self._special:
            files.write_special(self.path, b"%d\n" % os.getpid(), f"pid file {self.path}")
            return
        try:
            try:
                self._put_new(owner)
            except PermissionError:
                if not os.access(self.path, os.W_OK):
                    raise
                self._overwrite()
        except OSError as exc:
            raise failed(f"pid file {self.path}", exc) from exc

    def _put_new(self, owner: tuple[int, int] | None) -> None:
        temporary = f"{self.path}.{os.getpid()}"
        _unlink(temporary)  # of somebody who had our pid and was killed right here
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, b"%d\n" % os.getpid())
            if owner:
                os.fchown(fd, *owner)
            os.rename(temporary, self.path)
        except OSError:
            _unlink(temporary)
            os.close(fd)
            raise
        self._fd = fd

    def _overwrite(self) -> None:
        """The directory, such as /run, is not ours to make a file in, but the old file is ours to write."""
        self._fd = os.open(self.path, os.O_RDWR | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.write(self._fd, b"%d\n" % os.getpid())

    def remove(self, jail: str = "") -> None:
        """Remove the file if it is still ours; where that is not possible (any more), empty it, lest it names
        a process that is none of us."""
        if self._fd < 0 or os.pread(self._fd, 32, 0).strip() != b"%d" % os.getpid():
            return
        path = inside(self.path, jail)
        try:
            if path and os.path.samestat(os.lstat(path), os.fstat(self._fd)):
                os.unlink(path)
                return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)


def inside(path: str, jail: str) -> str | None:
    """How `path`, absolute and named outside, is named inside the chroot `jail`; None if it is not in it."""
    if not jail or jail == "/":
        return path
    jail = jail.rstrip("/")
    return path[len(jail) :] if path.startswith(jail + "/") else None


def working_directory() -> str:
    """Where relative names begin.  Raises PenError where it has been removed."""
    try:
        return os.getcwd()
    except OSError as exc:
        raise failed("working directory", exc) from exc


def _at_once(path: str, flags: int) -> int:
    """For `open`: neither a link nor a FIFO that has come there keeps us."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class User:
    """Whom to run as, looked up before the chroot hides the user database."""

    def __init__(self, name: str) -> None:
        """`name` is a user name or number.  Raises PenError if there is no such user."""
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except (KeyError, OverflowError):
            raise PenError(f"user '{name}': no such user") from None
        self.name = entry.pw_name
        self.uid = entry.pw_uid
        self.gid = entry.pw_gid
        self.groups = os.getgrouplist(self.name, self.gid)

    @property
    def owner(self) -> tuple[int, int]:
        """(uid, gid), as chown wants them."""
        return self.uid, self.gid

    def become(self, kept: tuple[int, ...] = ()) -> None:
        """Give up everything else: supplementary groups, gid, uid, all capabilities but those of `kept` that
        we have.  Raises PenError."""
        try:
            was_root = os.geteuid() == 0
            if kept and was_root:
                capabilities.keep_through_setuid()
            if was_root or set(os.getgroups()) != set(self.groups):
                os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)
            if kept and was_root and self.uid != 0:
                capabilities.give_up_all_but(*kept)
        except OSError as exc:
            raise failed(f"run as user {self.name}", exc) from exc


def confine(jail: str, user: User | None, kept: tuple[int, ...] = ()) -> None:
    """chroot to `jail` (empty: not) and become `user`, who keeps these capabilities.  Raises PenError."""
    if jail or user:
        load_before_confined()
    if kept:
        capabilities.load()
    if jail:
        try:
            os.chroot(jail)
            os.chdir("/")
        except OSError as exc:
            raise failed(f"chroot {jail}", exc) from exc
    if user:
        user.become(kept)


def load_before_confined() -> None:
    """Load what is otherwise loaded when first needed, and may not be found in the jail or as the user."""
    import threading  # noqa: F401  for dns

    "".encode("idna")
    time.localtime()  # the time zone
    with contextlib.suppress(OSError):
        socket.getaddrinfo("localhost", 80)  # libc's resolver modules


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted`, or to the hard limit if that is lower; answers the
    limit in force.  The hard limit is the administrator's word, also where root could overrule it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft >= most:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # more than this kernel has
        return soft
    return most


def lower_descriptor_limit(most: int) -> int:
    """Lower the soft limit of open files to `most` at the most; answers the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft > most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(soft, most)


class Signals:
    """Signals as events: the interpreter queues their numbers into a pipe, the loop runs their handlers.

    No handler ever runs in the middle of something else.  To be made before anything is that would have to be
    removed at the end: what arrives before the loop runs waits for it.
    """

    def __init__(self, loop: Loop, handlers: dict[int, Callable[[], None]]) -> None:
        self._handlers = handlers
        self._readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, _queued)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        loop.watch(self._readable, READ, self._ready)

    def _ready(self, fd: int, mask: int) -> None:
        for number in dict.fromkeys(os.read(fd, 4096)):
            if number in self._handlers:
                self._handlers[number]()

    def over(self) -> None:
        """From now on none of them changes anything: we are ending already, and in good order."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)


def _queued(number: int, frame: object) -> None:
    """The wakeup descriptor already has the number."""


def check_regular(path: str) -> None:
    """Raises OSError if `path` is no file: to open a FIFO, or to read a device, may take for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def abort() -> None:
    """Die by SIGABRT, with a core file where the system writes those."""
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()


class SocketFile:
    """The name, in the file system, of a Unix socket that is ours."""

    def __init__(self, path: str, jail: str = "") -> None:
        """`path` as it is named now, and the `jail` that we are in."""
        self._path = jail + os.path.abspath(path)
        self._made = os.lstat(path)

    def remove(self, jail: str = "") -> None:
        """Remove it, if it still leads to our socket; where that is not allowed it stays, and is stale."""
        where = inside(self._path, jail)
        with contextlib.suppress(OSError):
            if where and os.path.samestat(os.lstat(where), self._made):
                os.unlink(where)


def exit_when_told() -> None:
    """For filters: TERM and HUP end the work in an orderly way, with 128 + the signal's number; but not where
    they are ignored, as HUP is under nohup(1)."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
