"""Certificates: what pen is towards clients, by default and by the name that a client asks for.

An `Identity` is a certificate with its key, the authorities that client certificates must come from, and
perhaps a staple; from its files a context of OpenSSL is made.  Each handshake looks whether they have changed
(a few stats, which are nothing beside its arithmetic), and if so a new context is made.  Files that are no
good leave the old one in force, which is said.

The files are first read before pen is confined, later inside the jail: those that can't be seen from there
have not changed.

Not here: connections (channel, handshakes).
"""

import os
import re
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from penlib import process
from penlib.balancer import policy
from penlib.balancer.channel import Aside, Channel
from penlib.balancer.settings import Options, Settings
from penlib.errors import PenError, UsageError, failed
from penlib.report import Reporter

CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]+-----END [^-]+-----")
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
KEY_ENDING, CERTIFICATE_ENDING, AUTHORITY_ENDING, STAPLE_ENDING = ".key", ".crt", ".ca", ".ocsp"

NO_PYOPENSSL = "the Python module OpenSSL is missing: pip install pyOpenSSL"

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file: inode, size, time of change; None if it can't be seen."""


class Files(NamedTuple):
    """Where an identity comes from: paths, empty for what it does not have."""

    certificate: str
    key: str
    authorities: str
    authority_directory: str
    staple: str

    @property
    def are_there(self) -> bool:
        """Whether there is a certificate and a key."""
        return bool(_seen(self.certificate) and _seen(self.key))

    def stamp(self) -> Stamp:
        """Differs once one of them has changed."""
        return tuple(_seen(path) for path in self)


def _seen(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else None


class Identity(NamedTuple):
    """Files as they were at some time, and the context made of them; None if they were no good."""

    files: Files
    stamp: Stamp
    context: Any


class Certificates:
    """All identities of one pen.  `locate` finds a file that the administrator has named."""

    def __init__(
        self, options: Options, settings: Settings, reporter: Reporter, locate: Callable[[str], str]
    ) -> None:
        self._options = options
        self._settings = settings
        self._reporter = reporter
        self._locate = locate
        self._aside = Aside()
        self._policy: policy.Policy | None = None
        self._default: Identity | None = None
        self._names: dict[str, Identity] = {}
        self._can_staple = True

    # What the administrator says

    def check(self) -> None:
        """See that the settings can be meant.  Raises PenError."""
        policy.policy(self._options, self._settings)
        directory = self._settings.ssl_sni_path
        if directory and not os.path.isdir(self._locate(directory)):
            raise UsageError(f"'{directory}' is not a directory that can be read")
        staple = self._settings.ssl_ocsp_response
        if staple:
            _read(self._locate(staple), f"OCSP response {staple}")
            _load_stapled()

    def load(self) -> None:
        """Make everything anew, from files and settings.  Raises PenError, and then nothing has changed."""
        before = self._policy
        self._policy = policy.policy(self._options, self._settings)
        files = self._default_files()
        try:
            self._default = Identity(files, files.stamp(), self._context(files))
        except PenError:
            self._policy = before
            raise
        self._names = {}
        for name in self._names_there():
            self._find(name)

    def confined(self) -> None:
        """Files are named differently now: as they are seen from here, they have not changed."""
        assert self._default
        self._default = _as_seen(self._default, self._default_files())
        self._names = {name: _as_seen(found, self._files_of(name)) for name, found in self._names.items()}

    def refresh(self) -> None:
        """Look at all files now."""
        for name in ("", *self._names):
            self._find(name)

    # Which identity

    @property
    def by_name(self) -> bool:
        """Whether clients that name a host may get a certificate of its own."""
        return bool(self._settings.ssl_sni_path)

    def channel(self, fd: int, family: int, name: str) -> Channel:
        """TLS over `fd` as the host called `name`; the default if that has no files.  Raises OSError."""
        context = self._find(name)
        if isinstance(context, ssl.SSLContext):
            return Channel(context, fd, family, self._aside)
        from penlib.balancer.stapled import Stapled

        return Stapled(context, fd, family, self._aside)

    def _find(self, name: str) -> Any:
        """The context for clients that ask for `name`, of the files as they are now."""
        own = self._named(name) if name and self.by_name and _is_plain(name) else None
        if own and own.context:
            return own.context
        assert self._default
        self._default = self._current(self._default, self._default_files())
        return self._default.context

    def _named(self, name: str) -> Identity | None:
        known, files = self._names.get(name), self._files_of(name)
        if not files.are_there and not (known and (files, files.stamp()) == known[:2]):
            self._names.pop(name, None)
            return None
        self._names[name] = found = self._current(known, files)
        return found

    def _current(self, known: Identity | None, files: Files) -> Identity:
        """`known`, or what its files are now; if those are no good that is said, once, and the old context
        stays."""
        stamp = files.stamp()
        if known and (files, stamp) == known[:2]:
            return known
        context = known.context if known else None
        try:
            context = self._context(files)
        except PenError as exc:
            stays = "the old certificate stays" if context else "clients get the default certificate"
            self._reporter.warn(f"{exc}; {stays}")
        return Identity(files, stamp, context)

    # Files

    def _default_files(self) -> Files:
        options = self._options
        named = (
            options.certificate,
            options.key or options.certificate,
            options.client_authorities,
            options.client_authority_directory,
            self._settings.ssl_ocsp_response,
        )
        return Files(*(self._locate(name) if name else "" for name in named))

    def _files_of(self, name: str) -> Files:
        base = os.path.join(self._locate(self._settings.ssl_sni_path), name)
        default = self._default_files()
        own = _seen(base + AUTHORITY_ENDING) is not None
        return Files(
            base + CERTIFICATE_ENDING,
            base + KEY_ENDING,
            base + AUTHORITY_ENDING if own else default.authorities,
            "" if own else default.authority_directory,
            base + STAPLE_ENDING,
        )

    def _names_there(self) -> list[str]:
        if not self.by_name:
            return []
        try:
            files = os.listdir(self._locate(self._settings.ssl_sni_path))
        except OSError as exc:
            self._reporter.warn(str(failed(f"ssl_sni_path {self._settings.ssl_sni_path}", exc)))
            return []
        return sorted(
            name.removesuffix(CERTIFICATE_ENDING) for name in files if name.endswith(CERTIFICATE_ENDING)
        )

    def _context(self, files: Files) -> Any:
        """A context of OpenSSL.  Raises PenError that names the file."""
        assert self._policy
        _check_pem(files.certificate, CERTIFICATE, "certificate")
        _check_pem(files.key, KEY, "key")
        authorities = _authorities(files)
        staple = _read(files.staple, "OCSP response") if _seen(files.staple) else b""
        if staple and self._stapling():
            from penlib.balancer import stapled

            try:
                return stapled.context(self._policy, files.certificate, files.key, authorities, staple)
            except OSError as exc:
                raise PenError(f"certificate {files.certificate}: {_words(exc)}") from exc
        made = policy.bare_context(self._policy)
        try:
            made.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (OSError, ValueError) as exc:
            raise PenError(f"certificate {files.certificate}: {_words(exc)}") from exc
        if authorities:
            try:
                made.load_verify_locations(cadata=b"\n".join(authorities).decode("ascii", "replace"))
            except OSError as exc:
                raise PenError(f"client CA {files.authorities}: {_words(exc)}") from exc
            made.verify_mode = ssl.CERT_OPTIONAL
        if self._policy.required:
            made.verify_mode = ssl.CERT_REQUIRED  # without a CA that is nobody's
        return made

    def _stapling(self) -> bool:
        """Whether staples can be sent; if not, that is said once."""
        if self._can_staple:
            try:
                _load_stapled()
            except PenError as exc:
                self._can_staple = False
                self._reporter.warn(f"OCSP responses are not sent: {exc}")
        return self._can_staple


def _as_seen(identity: Identity, files: Files) -> Identity:
    return identity._replace(files=files, stamp=files.stamp())


def _is_plain(name: str) -> bool:
    """Whether a client's word may be part of a file name."""
    return (
        name.isascii()
        and name.isprintable()
        and "/" not in name
        and not name.startswith(".")
        and len(name) < 250
    )


def _load_stapled() -> None:
    try:
        import penlib.balancer.stapled  # noqa: F401
    except ImportError:
        raise PenError(NO_PYOPENSSL) from None


def _read(path: str, what: str) -> bytes:
    try:
        process.check_regular(path)
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise failed(f"{what} {path}" if path not in what else what, exc) from exc


def _check_pem(path: str, wanted: re.Pattern[bytes], what: str) -> None:
    if not wanted.search(_read(path, what)):
        raise PenError(f"{what} {path}: there is no {what} in it (PEM is expected)")


def _authorities(files: Files) -> list[bytes]:
    """The certificates, in PEM, of those who sign client certificates.

    All that a directory holds is read now: later it may be out of sight.
    """
    found: list[bytes] = []
    if files.authorities:
        found += CERTIFICATE.findall(_read(files.authorities, "client CA"))
        if not found:
            raise PenError(f"client CA {files.authorities}: there is no certificate in it (PEM is expected)")
    if files.authority_directory:
        what = f"client CA {files.authority_directory}"
        try:
            names = sorted(os.listdir(files.authority_directory))
        except OSError as exc:
            raise failed(what, exc) from exc
        paths = [os.path.join(files.authority_directory, name) for name in names]
        held = [
            pem
            for path in paths
            if os.path.isfile(path)
            for pem in CERTIFICATE.findall(_read(path, "client CA"))
        ]
        if not held:
            raise PenError(f"{what}: there is no certificate in it (PEM is expected)")
        found += held
    return list(dict.fromkeys(found))


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type a password")


def _words(exc: Exception) -> str:
    """OpenSSL's reason, in words."""
    name = exc.reason if isinstance(exc, ssl.SSLError) else None
    if name == "KEY_VALUES_MISMATCH":
        return "the key does not belong to it"
    if "PEM lib" in str(exc):
        return "it or its key can't be decoded"
    return name.lower().replace("_", " ") if name else str(exc) or type(exc).__name__
