"""pen-ocsp: fresh OCSP responses for pen to staple.

`openssl ocsp` asks the responder and verifies what it says.  Only a response that is signed as it must be
and says "good" replaces the file, and that at once, so that pen never reads half of one.

Not here: sending it to clients (balancer.stapled).
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from penlib import address, files, penctl
from penlib.balancer.arguments import is_error
from penlib.errors import PenError, UsageError, failed
from penlib.process import exit_when_told
from penlib.report import Reporter
from penlib.usage import Args

CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?")
PATIENCE = 15
"""Seconds for a responder."""


class Job(NamedTuple):
    """One response to be had."""

    certificate: str
    issuer: str
    """Empty: the second certificate in the first one's file."""
    response: str


def main(args: Args) -> int:
    """Refresh all; answers 1 if one could not be.  Raises UsageError."""
    exit_when_told()
    reporter = Reporter("pen-ocsp", waits=True)
    patience = _patience(args["-t"])
    control = address.listener(args["-C"]) if args["-C"] else None
    if args["-o"] and (len(args["<certificate>"]) > 1 or os.path.isdir(args["<certificate>"][0])):
        raise UsageError("option -o: only for one certificate")
    wrong = 0
    for word in args["<certificate>"]:
        fresh = False
        for job in _jobs(word, args["-i"] or "", args["-o"] or ""):
            try:
                fresh |= _refresh(job, args["-u"] or "", patience, is_asked_for=job.certificate == word)
            except PenError as exc:
                reporter.warn(str(exc))
                wrong += 1
        if fresh and control:
            try:
                _tell(control, word, args["-o"] or _beside(word))
            except PenError as exc:
                reporter.warn(str(exc))
                wrong += 1
    return 1 if wrong else 0


def _patience(word: str | None) -> int:
    if word is None:
        return PATIENCE
    seconds = address.count(word, "option -t")
    if not seconds:
        raise UsageError(f"option -t: '{word}' is not a number of seconds")
    return seconds


def _beside(certificate: str) -> str:
    return os.path.splitext(certificate)[0] + ".ocsp"


def _jobs(word: str, issuer: str, response: str) -> Iterator[Job]:
    """What there is to do for one word of the command line."""
    if not os.path.isdir(word):
        yield Job(word, issuer, response or _beside(word))
        return
    for name in sorted(os.listdir(word)):
        if name.endswith(".crt"):
            certificate = os.path.join(word, name)
            beside = certificate.removesuffix(".crt") + ".ca"
            has_own = not issuer and len(_certificates(certificate)) < 2 and os.path.exists(beside)
            yield Job(certificate, beside if has_own else issuer, _beside(certificate))


def _refresh(job: Job, url: str, patience: int, *, is_asked_for: bool) -> bool:
    """Get one response; answers whether there is a new one.  Raises PenError.

    Of a directory, certificates that name no responder are left alone.
    """
    _certificates(job.certificate)  # openssl's words for a file that can't be read are of no use
    url = url or _openssl("x509", "-in", job.certificate, "-noout", "-ocsp_uri").strip().partition("\n")[0]
    if not url:
        if is_asked_for:
            raise PenError(f"{job.certificate}: names no OCSP responder (see -u)")
        return False
    with tempfile.TemporaryDirectory(prefix="pen-ocsp-") as directory:
        issuer = job.issuer or _issuer(job.certificate, directory)
        answer = os.path.join(directory, "response")
        said = _openssl(
            "ocsp", "-issuer", issuer, "-cert", job.certificate, "-url", url, "-respout", answer, "-no_nonce",
            "-CAfile", issuer, "-partial_chain", "-timeout", str(patience), seconds=patience + 5,
        )  # fmt: skip
        status = _status(said, job.certificate)
        if "Response verify OK" not in said:
            raise PenError(f"{job.certificate}: {url}: the response is not signed by the issuer")
        if status != "good":
            raise PenError(f"{job.certificate}: {url} says {status}")
        with open(answer, "rb") as file:
            files.replace(job.response, file.read(), f"write {job.response}", files.PUBLIC)
    return True


def _status(said: str, certificate: str) -> str:
    """What the responder says of the certificate, as openssl prints it."""
    for line in said.splitlines():
        if line.startswith(f"{certificate}: "):
            return line[len(certificate) + 2 :]
    raise PenError(f"{certificate}: the responder says nothing of it")


def _certificates(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return CERTIFICATE.findall(file.read())
    except OSError as exc:
        raise failed(f"certificate {path}", exc) from exc


def _issuer(certificate: str, directory: str) -> str:
    """A file with the second certificate of the first one's file."""
    chain = _certificates(certificate)
    if len(chain) < 2:
        raise PenError(f"{certificate}: its issuer's certificate is not in it (see -i)")
    path = os.path.join(directory, "issuer")
    with open(path, "wb") as file:
        file.write(chain[1])
    return path


def _openssl(*words: str, seconds: float = PATIENCE) -> str:
    """All that openssl says.  Raises PenError if it fails."""
    what = f"openssl {words[0]}"
    try:
        done = subprocess.run(
            ["openssl", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PenError(f"{what}: no answer for {seconds:.0f} seconds") from None
    except OSError as exc:
        raise failed(what, exc) from exc
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        lines = [line for line in said.splitlines() if line.strip()]
        raise PenError(
            f"{words[words.index('-cert') + 1] if '-cert' in words else words[2]}: {what}: {_why(lines)}"
        )
    return said


def _why(lines: list[str]) -> str:
    """The reason in openssl's error lines: `number:error:code:library:function:reason:file:line:...`."""
    for line in lines:
        parts = line.split(":")
        if len(parts) > 5 and parts[1] == "error":
            return parts[5]
    return lines[0] if lines else "it failed without a word"


def _tell(control: address.Endpoint, word: str, response: str) -> None:
    """Have pen read it now.  Raises PenError."""
    command, path = ("ssl_sni_path", word) if os.path.isdir(word) else ("ssl_ocsp_response", response)
    reply = penctl.ask(control, f"{command} {os.path.abspath(path)}")
    if is_error(reply):
        raise PenError(f"{control}: {reply}")
