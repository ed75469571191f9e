"""The cases of tests/corpus, whose README tells the form of its files."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import h11

from support.programs import ROOT

FORWARDED = "X-Forwarded-For: {client}\nX-Forwarded-Proto: http"
ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|[rnt0\\])")
BYTES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


class Case(NamedTuple):
    """What a client sends, what the server gets of it, and the statuses that come back."""

    name: str
    sent: bytes
    wanted: str
    answers: list[str]

    def server(self, client: str) -> bytes:
        return _bytes(self.wanted.replace("{forwarded}", FORWARDED).replace("{client}", client))

    @property
    def is_http(self) -> bool:
        return self.answers != ["echo"]

    @property
    def is_refused(self) -> bool:
        return "400" in self.answers[-1]

    def answered_by(self, statuses: list[str]) -> bool:
        """Whether these are the statuses that the client may get."""
        certain = [status for status in self.answers if not status.startswith("[")]
        return statuses in (certain, [status.strip("[]") for status in self.answers])


def cases() -> Iterator[Case]:
    for file in sorted((ROOT / "tests" / "corpus").glob("*.http")):
        for text in re.split(r"^=== ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, _, rest = text.partition("\n")
            sent, *parts = re.split(r"^--- (?=server$|answers$)", rest, flags=re.MULTILINE)
            sections = dict(part.split("\n", 1) for part in parts)
            answers = sections["answers"].split()
            yield Case(f"{file.stem}: {name}", _bytes(sent), sections.get("server", ""), answers)


def whole_requests(data: bytes) -> int:
    """How many requests h11 finds complete in `data`, which may end anywhere."""
    found = 0
    while data := data.lstrip(b"\r\n"):
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(data)
        event = reader.next_event()
        while not isinstance(event, h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return found
            event = reader.next_event()
        found += 1
        data = reader.trailing_data[0]
    return found


def _bytes(text: str) -> bytes:
    joined = text.replace("\\\n", "\0").replace("\n", "\r\n").replace("\0", "")
    return ESCAPE.sub(_byte, joined).encode("latin-1")


def _byte(match: re.Match[str]) -> str:
    code = match[1]
    return BYTES[code] if code in BYTES else chr(int(code[1:], 16))
