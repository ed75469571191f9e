"""accesslog: taking lines apart, and one canonical form for what pen and web servers say of a request."""

import datetime
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import accesslog, records
from penlib.accesslog import Line

COMBINED = (
    b'192.0.2.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 '
    b'"http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"\n'
)
COMMON = b'192.0.2.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326\n'
TIME = b"10/Oct/2000:13:55:36 -0700"


def test_a_combined_line():
    assert accesslog.parse(COMBINED) == Line(
        b"192.0.2.9",
        TIME,
        b"GET /a.gif HTTP/1.0",
        b"http://www.example.com/start.html",
        b"Mozilla/4.08 [en] (Win98; I ;Nav)",
    )


def test_a_common_line_has_no_agent():
    assert accesslog.parse(COMMON) == Line(b"192.0.2.9", TIME, b"GET /a.gif HTTP/1.0", b"", b"")


REQUEST = b"GET /a.gif HTTP/1.0"


@pytest.mark.parametrize(
    "line",
    [
        COMMON.strip(),
        COMMON.replace(b"\n", b"\r\n"),
        b'web1 - - [] "GET /a.gif HTTP/1.0"',
        b'192.0.2.9 - a [b] "c [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326\n'.replace(
            b'"c ', b""
        ),
        b'192.0.2.9 - name with [blanks [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326\n',
        COMBINED.replace(b"Win98", rb"\"Win\\98\""),
        COMBINED.strip() + b' "203.0.113.8" 0.003\n',
        COMMON.strip() + b" 0.003 -\n",
    ],
)
def test_formats_that_begin_like_common(line):
    assert accesslog.parse(line).request == REQUEST


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"GET / HTTP/1.0",
        b' - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0"',
        b'192.0.2.9 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0',
        rb'192.0.2.9 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0\"',
        b'192.0.2.9 - - 10/Oct/2000:13:55:36 "GET / HTTP/1.0" 200 5',
    ],
)
def test_what_is_no_line_is_none(line):
    assert accesslog.parse(line) is None


@pytest.mark.parametrize(
    ("logged", "canonical"),
    [
        (rb"GET /a\"b HTTP/1.0", b'GET /a"b HTTP/1.0'),
        (rb"GET /a\x22b HTTP/1.0", b'GET /a"b HTTP/1.0'),
        (rb"GET /a\\x41 HTTP/1.0", rb"GET /a\x41 HTTP/1.0"),
        (rb"GET /a\x5Cx41 HTTP/1.0", rb"GET /a\x41 HTTP/1.0"),
        (rb"GET /a\tb\b\v\f HTTP/1.0", b"GET /a.b... HTTP/1.0"),
        (rb"GET /\xc3\xa4\xC3\xA4 HTTP/1.0", b"GET /.... HTTP/1.0"),
        ("GET /ä HTTP/1.0".encode(), b"GET /.. HTTP/1.0"),
        (rb"GET /\u0022\u0001 HTTP/1.0", b'GET /". HTTP/1.0'),
        (rb"\x16\x03\x01\x02\nabc", b"...."),
        (rb"GET /\q\xg HTTP/1.0\\", rb"GET /\q\xg HTTP/1.0" + b"\\"),
        (rb"GET /\xgg\x4", rb"GET /\xgg\x4"),
        (b"-", b"-"),
    ],
)
def test_escapes_are_undone(logged, canonical):
    assert accesslog.canonical(logged) == canonical
    line = b'192.0.2.9 - - [10/Oct/2000:13:55:36 -0700] "%b" 200 5 "-" "x"\n' % logged
    assert accesslog.parse(line)[2:] == (canonical, b"-", b"x")


def apache(request: bytes) -> bytes:
    """What Apache httpd 2.4 logs as %r."""
    named = {0x22: rb"\"", 0x5C: rb"\\", 8: rb"\b", 9: rb"\t", 10: rb"\n", 11: rb"\v", 12: rb"\f", 13: rb"\r"}
    return b"".join(named.get(c) or (b"%c" % c if 0x20 <= c <= 0x7E else rb"\x%02x" % c) for c in request)


def nginx(request: bytes) -> bytes:
    """What nginx 1.22 logs as $request."""
    return b"".join(b"%c" % c if 0x20 <= c <= 0x7E and c not in b'"\\' else rb"\x%02X" % c for c in request)


@given(st.binary(max_size=300), st.sampled_from([apache, nginx]))
def test_a_web_server_and_pen_agree_on_a_request(request_, server):
    line = b'192.0.2.9 - - [10/Oct/2000:13:55:36 -0700] "%b" 200 5 "-" "x"\n' % server(request_)
    parsed = accesslog.parse(line)
    assert parsed.request == records.clean(request_)
    assert parsed.agent == b"x"


@given(st.binary())
def test_no_bytes_upset_the_parser(data):
    accesslog.parse(data)
    accesslog.parse(COMBINED.replace(b"GET", data))
    accesslog.canonical(data)


@given(st.binary(), st.binary(min_size=1).filter(lambda client: b" " not in client))
def test_a_new_client_touches_no_other_byte(rest, client):
    assert accesslog.with_client(b"192.0.2.9 " + rest, client) == client + b" " + rest


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        (b"01/Jan/2024:00:30:59 +0100", b"31/Dec/2023:23:30:59 +0000"),
        (b"28/Feb/2024:23:00:00 -0100", b"29/Feb/2024:00:00:00 +0000"),
        (b"31/Dec/2016:18:59:60 -0500", b"01/Jan/2017:00:00:00 +0000"),
        (b"31/Dec/0999:23:00:00 -0200", b"01/Jan/1000:01:00:00 +0000"),
        (b"01/Jan/0999:12:00:00 +0200", b"01/Jan/0999:10:00:00 +0000"),
        (b"31/Dec/2016:23:59:60 +0000", b"31/Dec/2016:23:59:60 +0000"),
    ],
)
def test_the_same_in_utc(text, utc):
    assert accesslog.utc(text) == utc


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@given(
    st.datetimes(
        min_value=datetime.datetime(1900, 1, 1),
        timezones=st.integers(-1439, 1439).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m))),
    )
)
def test_times(when):
    minutes = when.utcoffset() // datetime.timedelta(minutes=1)
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    text = f"{when.day:02}/{MONTHS[when.month - 1]}/{when.year:04}:{when:%H:%M:%S} {zone}"
    assert accesslog.epoch(text.encode()) == when.replace(microsecond=0).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"10/Okt/2000:13:55:36 -0700",
        b"0/Oct/2000:13:55:36 -0700",
        b"00/Oct/2000:13:55:36 -0700",
        b"1/Oct/2000:13:55:36 -0700",
        b"10/Oct/2000:13:55:36 0700",
        b"32/Oct/2000:13:55:36 -0700",
        b"10/Oct/2000:24:55:36 -0700",
        b"10/Oct/2000:13:60:36 -0700",
        b"10/Oct/2000:13:55:36",
        b"10/Oct/2000:13:55:36 -07000",
        b"2000-10-10T13:55:36+00:00",
        b"10/Oct/0000:13:55:36 -0700",
    ],
)
def test_what_is_no_time_is_none(text):
    assert accesslog.epoch(text) is None


pieces = st.sampled_from(
    [b" ", b'"', b"\\", b'\\"', b"\\x41", b"[", b"]", b"GET /", b"-", b"\t", b"\xe4", b"\r", b"\n"]
)
fields = st.sampled_from([b" 200", b' "-"', b' "a"', b' "\\""', b' "b', b"\\", b"\n", b" [" + TIME + b"]"])


def split_the_long_way(line: bytes) -> tuple[bytes, ...]:
    match = accesslog.match_line(line)
    if match is None:
        return (b"",) * 6 + (line,)
    client, time, request, referer, agent = match.groups(b"")
    return client, line.removeprefix(client), time, accesslog.canonical(request), referer, agent, b""


@given(st.lists(pieces, max_size=5), st.lists(fields, max_size=5))
def test_the_short_way_finds_what_the_long_way_finds(request, rest):
    line = b"192.0.2.9 - - [" + TIME + b'] "' + b"".join(request) + b'"' + b"".join(rest)
    client, _, *parts, bad = split_the_long_way(line)
    assert accesslog.parse(line) == (None if bad else Line(client, *parts))


HEADS = b'h - - [%b] "', b'h - "a [b [%b] "', b'h\r - [%b] "', b"h %b "
REQUESTS = b"GET /", b"GET \xe4", b'GET \\"', b"GET \\", b""
TAILS = (
    b"",
    b'"',
    b'" 200 -',
    b'" 200 "-" "a"',
    b'" 200 "-" "a',
    b'" 200 "a\\" "b"',
    b'" 200 "a\\\\" "b\\" "',
    b'" "',
)


@pytest.mark.parametrize("seed", range(20))
def test_a_text_is_split_as_its_lines_are(seed):
    """Whatever comes after them: a quote without its end is looked for in the next line, too."""
    lines = [head % TIME + b"".join(rest) for head, *rest in itertools.product(HEADS, REQUESTS, TAILS)]
    random.Random(seed).shuffle(lines)
    text = b"".join(line + b"\n" for line in lines)
    assert accesslog.split_lines(text) == [split_the_long_way(line) for line in lines]
    good = [line for line in lines if accesslog.match_line(line)]  # of these most texts consist
    assert accesslog.split_lines(b"".join(line + b"\n" for line in good)) == list(
        map(split_the_long_way, good)
    )
