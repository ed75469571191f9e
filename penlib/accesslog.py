r"""One line of a web server's access log, as far as finding its client needs it.

    HOST IDENT USER [TIME] "REQUEST" STATUS BYTES "REFERER" "AGENT" ...

Common, combined, and every other format that begins like common.  The client is the first field.  The
request ends at the first quote that is not escaped.

Its canonical form makes the request comparable with what pen recorded of it (see records).  Web servers
escape what they log: Apache writes \" \\ \n \t \r \b \v \f and \xhh (mod_log_config, "Format Notes"), nginx
\xHH for quotes, backslashes and everything outside 0x20-0x7e, or with escape=json \u00hh
(ngx_http_log_module, "log_format").  The escapes are undone, and the result is cleaned as pen cleans a
request.

Lines stay bytes; nothing here alters a byte outside the client field.  Which client a line has is not
decided here: see matching.
"""

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from penlib.records import clean

# Possessive (`*+`): a line that does not match is left at once, not tried again from every bracket of it.  A
# time is short, for times are remembered.
_PATTERN = rb'([^ \r\n]++) (?:[^[]*+\[)+?([^][]{0,40}+)\] "(%b)"(?: [^"]*+"(%b)" "(%b)")?'
_ESCAPED_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'  # up to the first quote without a backslash before it
_PLAIN = re.compile(_PATTERN.replace(b"%b", rb'[^"]*+'))
_ESCAPED = re.compile(_PATTERN.replace(b"%b", _ESCAPED_TEXT), re.DOTALL)

# Most lines: behind the first bracket a time and a request that is canonical already, then none or all of the
# quoted fields.  Wherever it can be one byte that ends a field, it is: such fields cost a third of others.
_SIMPLE = (
    rb'([^ \r\n]++)( [^[\n]*+\[(.{26})\] "([ !#-[\]-~]*+)"'
    rb'(?: [^"]*+"([^"]*+)(?<!\\)" "([^"]*+)(?<!\\)".*+|[^"\\\n]*+))'
)
_SIMPLE_LINE = re.compile(_SIMPLE + rb"\n?\Z")
_LINES = re.compile(_SIMPLE + rb"\n|(.*+)\n")

_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u00([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}
_NAMED = _CONTROLS | {b'"': b'"', b"\\": b"\\"}

_TIME = re.compile(
    rb"([0-9]{2})/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/([0-9]{4})"
    rb":([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60) ([+-])([01][0-9]|2[0-3])([0-5][0-9])"
)
_MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"


class Line(NamedTuple):
    """The parts of a line that tell whose it is; `request` is canonical, the others are as logged.

    `referer` and `agent` are empty if the format has none, and `-` if the client sent none.
    """

    client: bytes
    time: bytes
    request: bytes
    referer: bytes
    agent: bytes


def match_line(line: bytes) -> re.Match[bytes] | None:
    """The groups CLIENT, TIME, REQUEST, REFERER, AGENT of `line`, as logged; the last two may be None."""
    return (_ESCAPED if b"\\" in line else _PLAIN).match(line)


def split_lines(text: bytes) -> list[tuple[bytes, ...]]:
    """CLIENT, REST, TIME, canonical REQUEST, REFERER, AGENT and nothing for each line of a text; of what is
    no access-log line nothing six times, and the line.  REST is all behind the client.  Never raises.
    """
    found = _LINES.findall(text)
    if len(found) != text.count(b"\n"):  # a quote that does not end in its line was taken to end in another
        found = [_LINES.findall(line + b"\n")[0] for line in text.split(b"\n")[:-1]]
    return [parts if parts[0] else _split_line(parts[-1]) for parts in found]


def _split_line(line: bytes) -> tuple[bytes, ...]:
    match = match_line(line)
    if match is None:
        return (b"", b"", b"", b"", b"", b"", line)
    client, time, request, referer, agent = match.groups(b"")
    return (client, line[len(client) :], time, canonical(request), referer, agent, b"")


def parse(line: bytes) -> Line | None:
    """The parts of `line`, with or without its newline; None if it is no access-log line. Never raises."""
    match = _SIMPLE_LINE.match(line)
    if match is not None:
        client, _, *fields = match.groups(b"")
        return Line(client, *fields)
    match = match_line(line)
    if match is None:
        return None
    client, time, request, referer, agent = match.groups(b"")
    return Line(client, time, canonical(request), referer, agent)


def canonical(request: bytes) -> bytes:
    """A logged request field in the form in which pen records requests, but of any length."""
    if b"\\" in request:
        request = _ESCAPE.sub(_unescape, request)
    return clean(request)


def _unescape(match: re.Match[bytes]) -> bytes:
    x, u, letter = match.groups()
    if letter is None:
        return bytes.fromhex((x or u).decode())
    return _NAMED.get(letter, match[0])  # a server that escapes nothing: the backslash is the client's own


def with_client(line: bytes, client: bytes) -> bytes:
    """`line` with `client` in place of its first field, every other byte untouched."""
    _, space, rest = line.partition(b" ")
    return client + space + rest


def _epoch(text: bytes) -> int | None:
    """Seconds since the epoch of a logged time, `10/Oct/2000:13:55:36 -0700`; None if it is not one.

    Remembers its latest answers: in a log many lines share a second.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    month = _MONTHS.index(match[2]) // 3 + 1
    day, year, hour, minute, second, off_hours, off_minutes = map(int, match.group(1, 3, 4, 5, 6, 8, 9))
    if not 1 <= day <= 31 or not year:
        return None
    offset = (off_hours * 60 + off_minutes) * 60 * (-1 if match[7] == b"-" else 1)
    return ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset


epoch: Callable[[bytes], int | None] = lru_cache(maxsize=4096)(_epoch)


def _utc(text: bytes) -> bytes:
    """A logged time, which `epoch` knows, as the same time in UTC."""
    if text.endswith(b"+0000"):
        return text
    seconds = epoch(text)
    assert seconds is not None
    when = time.gmtime(seconds)
    month = _MONTHS[3 * when.tm_mon - 3 : 3 * when.tm_mon]  # not of strftime, which heeds the locale
    return b"%02d/%b/%04d:%02d:%02d:%02d +0000" % (when.tm_mday, month, when.tm_year, *when[3:6])


utc: Callable[[bytes], bytes] = lru_cache(maxsize=4096)(_utc)


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a day of the Gregorian calendar; `datetime` would be a heavy import."""
    if month < 3:  # count years from March: the odd day of a leap year then comes last
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
