"""http: where requests begin and end, whatever the pieces they come in, and what is refused.

Every case is fed whole, byte by byte and in random cuts, and again with data after it; each time the events
and what is held must make up the input.
"""

import random
from itertools import zip_longest

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penlib import http
from penlib.http import Data, Head, IllegalMove, Invalid, Opaque, RequestLines, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n\r\n"
FILL = b"x" * http.HEAD_LIMIT


def post(*fields, body=b"", version=b"1.1"):
    return (
        b"POST / HTTP/" + version + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body
    )


def chunked(body, *fields):
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def cuts(data, seed=0):
    """Ways to cut `data` into pieces: none, everywhere, at random; long ones are not cut everywhere."""
    yield [data]
    yield [b"", data, b""]
    if len(data) < 5000:
        yield [data[i : i + 1] for i in range(len(data))]
    rng = random.Random(seed)
    for _ in range(8):
        places = sorted(rng.choices(range(len(data) + 1), k=rng.randint(1, 12)))
        yield [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


def parse(pieces, kind=RequestParser):
    """The parser and its events, neighbouring Data and Opaque joined, and to an Invalid what follows it."""
    parser, events, fed = kind(), [], b""
    for piece in pieces:
        if parser.state is http.LOST:
            events[-1] = events[-1]._replace(raw=events[-1].raw + piece)
            fed += piece
            continue
        fed += piece
        for event in parser.feed(piece):
            assert event.raw
            if events and type(event) is type(events[-1]) and isinstance(event, Data | Opaque):
                event = event._replace(raw=events.pop().raw + event.raw)
            events.append(event)
        assert b"".join(event.raw for event in events) + parser.held == fed
        assert len(parser.held) < http.HEAD_LIMIT
    return parser, events


def events_of(data):
    """The events of `data`, the same however it is cut."""
    parser, events = parse([data])
    for pieces in cuts(data):
        other, others = parse(pieces)
        assert others == events
        assert (other.state, other.held) == (parser.state, parser.held)
    return events


def lines_of(data):
    """What a log gets of `data`, the same however an HTTP connection is cut."""
    found = None
    for pieces in cuts(data):
        log = RequestLines()
        lines = [line for piece in pieces for line in log.feed(piece)] + log.finish()
        assert found is None or lines == found
        found = lines
    return found


# Bodies, by the name of the case: request, and what of it is body.
BODIES = {
    "none": (GET, b""),
    "no fields": (NEXT, b""),
    "empty lines before": (b"\r\n\r\n" + GET, b""),
    "any method": (b"M-SEARCH * HTTP/1.1\r\n\r\n", b""),
    "any minor version": (b"GET / HTTP/1.7\r\n\r\n", b""),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", b""),
    "bytes beyond ASCII": ("GET /käse HTTP/1.1\r\nX: süß\r\n\r\n".encode(), b""),
    "empty value, tabs and blanks": (b"GET / HTTP/1.1\r\nA:\r\nB:\t b\t \r\n\r\n", b""),
    "a name that begins like a framing field": (b"GET / HTTP/1.1\r\nContent-Length-Hint: 5\r\n\r\n", b""),
    "a framing field in a value": (b"GET / HTTP/1.1\r\nX: Content-Length: 5\r\n\r\n", b""),
    "length": (post(b"Content-Length: 5", body=b"hello"), b"hello"),
    "length, in HTTP/1.0": (post(b"Content-Length: 5", body=b"hello", version=b"1.0"), b"hello"),
    "length of a body that looks like a head": (post(b"Content-Length: %d" % len(GET), body=GET), GET),
    "length of a body of line ends": (post(b"Content-Length: 4", body=b"\r\n\r\n"), b"\r\n\r\n"),
    "length with blanks around": (post(b"CONTENT-LENGTH: \t 5 \t", body=b"hello"), b"hello"),
    "length zero": (post(b"Content-Length: 0"), b""),
    "length with zeros before": (post(b"Content-Length: 005", body=b"hello"), b"hello"),
    "length repeated, the same": (post(b"Content-Length: 5", b"content-length: 5", body=b"hello"), b"hello"),
    "length in a list, the same": (post(b"Content-Length: 5, 5", body=b"hello"), b"hello"),
    "length of a GET": (b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "chunked": (chunked(b"5\r\nhello\r\n0\r\n\r\n"), b"5\r\nhello\r\n0\r\n\r\n"),
    "chunked in capitals": (post(b"TRANSFER-ENCODING:\tCHUNKED \t", body=b"0\r\n\r\n"), b"0\r\n\r\n"),
    "chunks of hexadecimal size": (
        chunked(b"0a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"),
        b"0a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
    ),
    "a chunk that looks like the last": (
        chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ),
    "chunk extensions": (
        chunked(b'1;a;b=c ; d = "e\\"\r;"\r\nx\r\n0;z\r\n\r\n'.replace(b"\r;", b";")),
        b'1;a;b=c ; d = "e\\";"\r\nx\r\n0;z\r\n\r\n',
    ),
    "trailers": (chunked(b"0\r\nA: b\r\nC: d\r\n\r\n"), b"0\r\nA: b\r\nC: d\r\n\r\n"),
}


@pytest.mark.parametrize(("request_", "body"), BODIES.values(), ids=BODIES)
def test_requests_end_where_they_end(request_, body):
    head, *data = events_of(request_)
    assert isinstance(head, Head)
    assert head.raw == request_.removesuffix(body)
    assert data == ([Data(body)] if body else [])
    line = request_.lstrip(b"\r\n").partition(b"\r\n")[0]
    assert head.line == line
    assert lines_of(request_) == [line]
    assert events_of(request_ + NEXT + b"GET /hal") == [head, *data, Head(NEXT, b"GET /next HTTP/1.1")]
    assert lines_of(request_ + NEXT + b"GET /hal") == [line, b"GET /next HTTP/1.1", b"GET /hal"]


def test_pipelined_requests_are_told_apart():
    stream = b"".join(request for request, _ in BODIES.values())
    heads = [event.raw for event in events_of(stream) if isinstance(event, Head)]
    assert heads == [request.removesuffix(body) for request, body in BODIES.values()]
    assert len(lines_of(stream)) == len(BODIES)


def test_a_head_says_what_it_asks_for():
    head = post(
        b"Connection: close, X-Forwarded-For",
        b"Expect:100-Continue ",
        b"connection:\tUpgrade,",
        b"Upgrade: websocket",
    )
    (event,) = events_of(head)
    assert event.connection == (b"close", b"x-forwarded-for", b"upgrade")
    assert event.waits
    assert (event.upgrade, event.connect, event.switches) == (True, False, True)
    assert (event.length, event.chunked) == (0, False)
    (event,) = events_of(b"CONNECT a:443 HTTP/1.1\r\n\r\n")
    assert (event.upgrade, event.connect, event.switches) == (False, True, True)
    (event,) = events_of(GET)
    assert event == Head(GET, b"GET / HTTP/1.1", 0, False, False, (), False)
    assert not event.switches
    assert events_of(post(b"Content-Length: 7"))[0].length == 7
    assert events_of(chunked(b""))[0].chunked


BOTH = "both Content-Length and Transfer-Encoding"
CODING = "Transfer-Encoding other than chunked"
COLON = "blank before a colon"
SIZE = "malformed chunk size"
BARE = "bare CR or LF"
BYTE = "forbidden byte in a header field"
TE = b"Transfer-Encoding: chunked"

# Requests refused at their head, and why.
REFUSED_HEADS = {
    "CL.TE": (post(b"Content-Length: 6", TE, body=b"0\r\n\r\nG"), BOTH),
    "TE.CL": (post(TE, b"Content-Length: 3", body=b"1\r\nG\r\n0\r\n\r\n"), BOTH),
    "CL.0 with TE": (post(b"Content-Length: 0", TE), BOTH),
    "TE.TE, two fields": (post(TE, b"Transfer-Encoding: identity"), CODING),
    "TE.TE, chunked twice": (post(TE, TE), CODING),
    "TE.TE, names in two cases": (post(TE, b"transfer-encoding: cow"), CODING),
    "TE, chunked and identity": (post(b"Transfer-Encoding: chunked, identity"), CODING),
    "TE, chunked last of two": (post(b"Transfer-Encoding: gzip, chunked"), CODING),
    "TE, identity": (post(b"Transfer-Encoding: identity"), CODING),
    "TE, xchunked": (post(b"Transfer-Encoding: xchunked"), CODING),
    "TE, chunkedx": (post(b"Transfer-Encoding: chunkedx"), CODING),
    "TE, quoted": (post(b'Transfer-Encoding: "chunked"'), CODING),
    "TE, a parameter": (post(b"Transfer-Encoding: chunked;q=1"), CODING),
    "TE, an empty member": (post(b"Transfer-Encoding: ,chunked"), CODING),
    "TE, empty": (post(b"Transfer-Encoding:"), CODING),
    "TE, a blank inside": (post(b"Transfer-Encoding: chun ked"), CODING),
    "TE, a byte that looks like a blank": (post(b"Transfer-Encoding:\xa0chunked"), CODING),
    "TE, a vertical tab": (post(b"Transfer-Encoding:\x0bchunked"), BYTE),
    "TE, blank before the colon": (post(b"Transfer-Encoding : chunked"), COLON),
    "TE, tab before the colon": (post(b"Transfer-Encoding\t: chunked"), COLON),
    "TE, folded": (post(b"Transfer-Encoding:", b" chunked"), "obsolete line folding"),
    "TE, a folded line": (post(b"X: y", b" Transfer-Encoding: chunked"), "obsolete line folding"),
    "TE, behind a bare LF": (post(b"X: y\nTransfer-Encoding: chunked"), BARE),
    "TE, behind a bare CR": (post(b"X: y\rTransfer-Encoding: chunked"), BARE),
    "TE, NUL in the name": (post(b"Transfer-Encoding\0: chunked"), BYTE),
    "TE, NUL before the name": (post(b"\0Transfer-Encoding: chunked"), BYTE),
    "TE in HTTP/1.0": (post(TE, version=b"1.0"), "Transfer-Encoding in HTTP/1.0"),
    "CL, different": (post(b"Content-Length: 5", b"Content-Length: 6"), "different Content-Lengths"),
    "CL, different in a list": (post(b"Content-Length: 5, 6"), "different Content-Lengths"),
    "CL, same number, other digits": (post(b"Content-Length: 5, 05"), "different Content-Lengths"),
    "CL, an empty member": (post(b"Content-Length: 5,"), "different Content-Lengths"),
    "CL, empty": (post(b"Content-Length:"), "malformed Content-Length"),
    "CL, a plus": (post(b"Content-Length: +5"), "malformed Content-Length"),
    "CL, negative": (post(b"Content-Length: -5"), "malformed Content-Length"),
    "CL, hexadecimal": (post(b"Content-Length: 0x5"), "malformed Content-Length"),
    "CL, a fraction": (post(b"Content-Length: 5.0"), "malformed Content-Length"),
    "CL, digits beyond ASCII": (post("Content-Length: ٥".encode()), "malformed Content-Length"),
    "CL, a blank inside": (post(b"Content-Length: 5 5"), "malformed Content-Length"),
    "CL, an underscore": (post(b"Content-Length: 5_5"), "malformed Content-Length"),
    "CL, huge": (post(b"Content-Length: 1" + b"0" * 18), "malformed Content-Length"),
    "CL, folded": (post(b"Content-Length: 5", b"\t6"), "obsolete line folding"),
    "first field folded": (post(b" X: y"), "obsolete line folding"),
    "no colon": (post(b"Host"), "header field without a colon"),
    "no name": (post(b": x"), BYTE),
    "a name beyond ASCII": (post("H\xf6st: x".encode()), BYTE),
    "NUL in a value": (post(b"X: a\0b"), BYTE),
    "a control byte in a value": (post(b"X: a\x7fb"), BYTE),
    "all line ends bare": (GET.replace(b"\r\n", b"\n"), "bare LF after a request line"),
    "empty line before with bare LF": (b"\n" + GET, "bare LF after a request line"),
    "field ended by a bare LF": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", BARE),
    "blank line of a bare LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BARE),
    "blank line of a bare LF, no fields": (b"GET / HTTP/1.1\r\n\n", BARE),
    "blank line of CR CR LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", BARE),
    "value ended by CR CR LF": (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BARE),
}

# Bodies of chunked requests refused: what of them is good, what is not, and why.
REFUSED_CHUNKS = {
    "no size": (b"", b"\r\n", SIZE),
    "no hexadecimal size": (b"", b"g\r\n", SIZE),
    "a size with 0x": (b"", b"0x5\r\nhello\r\n", SIZE),
    "a negative size": (b"", b"-1\r\n", SIZE),
    "a signed size": (b"", b"+1\r\n", SIZE),
    "an underscore in the size": (b"", b"1_0\r\n", SIZE),
    "a blank before the size": (b"", b" 1\r\nx\r\n", SIZE),
    "a blank after the size": (b"", b"1 \r\nx\r\n", SIZE),
    "a huge size": (b"", b"1" + b"0" * 15 + b"\r\n", SIZE),
    "size ended by a bare LF": (b"", b"1\nx\r\n", SIZE),
    "last size ended by a bare LF": (b"", b"0\n\r\n", SIZE),
    "a bare LF in an extension": (b"", b"1;a\nb\r\nx\r\n", SIZE),
    "a bare CR in an extension": (b"", b"1;a\rb\r\nx\r\n", SIZE),
    "a bare CR in a quoted extension": (b"", b'1;a="\r"\r\nx\r\n', SIZE),
    "an open quote": (b"", b'1;a="\r\nx\r\n', SIZE),
    "an empty extension": (b"", b"1;\r\nx\r\n", SIZE),
    "a long line": (b"", b"1;" + b"a" * http.CHUNK_LINE_LIMIT + b"\r\nx\r\n", SIZE),
    "a chunk too long": (b"3\r\nabc", b"d\r\n0\r\n\r\n", "chunk longer than its size"),
    "a chunk too short": (b"3\r\nab\r", b"\n0\r\n\r\n", "chunk longer than its size"),
    "a chunk ended by a bare LF": (b"1\r\nx", b"\n0\r\n\r\n", "chunk longer than its size"),
    "a chunk ended by CR and more": (b"1\r\nx", b"\rx", "chunk longer than its size"),
    "a second size malformed": (b"1\r\nx\r\n", b"x\r\n", SIZE),
    "a trailer with a length": (b"", b"0\r\nContent-Length: 5\r\n\r\n", "framing field in a trailer"),
    "a trailer with a coding": (
        b"1\r\nx\r\n",
        b"0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n",
        "framing field in a trailer",
    ),
    "a trailer folded": (b"", b"0\r\nA: b\r\n c\r\n\r\n", "obsolete line folding"),
    "a request where trailers should be": (b"", b"0\r\nGET / HTTP/1.1\r\n\r\n", COLON),
    "a trailer with a bare LF": (b"", b"0\r\nA: b\n\r\n", BARE),
    "a trailer section ended by LF": (b"", b"0\r\n\n", BARE),
    "long trailers": (b"", b"0\r\nA: " + FILL + b"\r\n\r\n", "trailer section too long"),
}


@pytest.mark.parametrize(("request_", "why"), REFUSED_HEADS.values(), ids=REFUSED_HEADS)
def test_ambiguous_heads_are_refused(request_, why):
    assert events_of(request_) == [Invalid(request_, 400, why)]
    assert events_of(request_ + NEXT) == [Invalid(request_ + NEXT, 400, why)]
    assert events_of(GET + request_) == [*events_of(GET), Invalid(request_, 400, why)]


@pytest.mark.parametrize(("good", "bad", "why"), REFUSED_CHUNKS.values(), ids=REFUSED_CHUNKS)
def test_ambiguous_chunks_are_refused(good, bad, why):
    head = events_of(chunked(b""))
    data = [Data(good)] if good else []
    assert events_of(chunked(good + bad)) == [*head, *data, Invalid(bad, 400, why)]
    assert events_of(chunked(good + bad + NEXT)) == [*head, *data, Invalid(bad + NEXT, 400, why)]


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"hello world\r\n", "not a request line"),
        (b"\x16\x03\x01", "not a request line"),
        (b"\r\r\n", "not a request line"),
        (b"GET  / HTTP/1.1\r\n\r\n", "not a request line"),
        (b"GET / HTTP/2.0\r\n\r\n", "not a request line"),
        (b"GET /\r\n", "not a request line"),
    ],
)
def test_after_a_request_comes_a_request(garbage, why):
    assert events_of(GET + garbage)[1:] == [Invalid(garbage, 400, why)]
    assert events_of(post(b"Content-Length: 1", body=b"x" + garbage))[2:] == [Invalid(garbage, 400, why)]


# A first line, or what is known of it, that shows another protocol, at its last byte and no earlier.
OPAQUE = [
    b"\x16",  # TLS
    b"\x00",  # PostgreSQL, DNS
    b"\x80",
    b"\x30\x0c",  # LDAP
    b" ",
    b":",
    b"\r\r",
    b"\r\n\r\n:",
    b"\n\x00",
    b"EHLO a\r",
    b"SSH-2.0-OpenSSH_9.2\r",
    b"USER bob\n",
    b"*1\r",  # Redis: an asterisk is a token
    b"GET /\r",  # HTTP/0.9
    b"GET  ",
    b"GET\t",
    b"GET / X",
    b"GET / h",
    b"GET / HTTP/2",
    b"PRI * HTTP/2",
    b"GET / HTTP/1.x",
    b"GET / HTTP/1.10",
    b"GET / HTTP/1.1 ",
    b"GET / HTTP/1.1\rX",
    b"GET /\x7f",
    b"G@",
]


@pytest.mark.parametrize("data", OPAQUE)
def test_another_protocol_is_known_at_once(data):
    parser = RequestParser()
    for size in range(1, len(data)):
        assert parser.feed(data[size - 1 : size]) == []
        assert (parser.state, parser.held) == (http.UNDECIDED, data[:size])
    assert parser.feed(data[-1:]) == [Opaque(data)]
    assert (parser.state, parser.held) == (http.OPAQUE, b"")
    assert events_of(data) == [Opaque(data)]
    assert events_of(data + GET) == [Opaque(data + GET)]


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET /\xff?a=b%20c HTTP/1.0", b"x * HTTP/1.9"])
def test_http_is_known_at_the_end_of_its_first_line(line):
    parser = RequestParser()
    for i in range(len(line)):
        assert parser.feed(line[i : i + 1]) == []
        assert parser.state is http.UNDECIDED
    assert parser.feed(b"\r\n") == []
    assert parser.state is http.FIELDS
    assert parser.held == line + b"\r\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"GET /", b" HTTP/1.1\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"),
        (b"\r\n" * 20000 + b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"),
    ],
)
def test_a_head_has_at_most_64_kib(before, after):
    fill = 64 * 1024 - len(before) - len(after)
    good = before + b"x" * fill + after
    assert events_of(good) == [Head(good, good.strip().partition(b"\r\n")[0])]
    bad = GET + before + b"x" * (fill + 1) + after
    assert events_of(bad)[1:] == [Invalid(bad[len(GET) :], 431, "head too long")]


@pytest.mark.parametrize(
    "long",
    [
        b"\r\n" * 32768,
        b"\r\n" * 32766 + b"GET ",
        b"GET /" + FILL,
        b"GET /" + FILL + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_first_line_that_may_still_be_one_is_no_way_round_the_limit(long):
    assert events_of(long) == [Invalid(long, 431, "head too long")]


@pytest.mark.parametrize(
    "long", [FILL, FILL + b" / HTTP/1.1\r\n\r\n", b"x" * 4097 + b" / HTTP/1.1\r\n\r\n", b"GET / " + FILL]
)
def test_a_long_first_line_that_is_none(long):
    assert events_of(long) == [Opaque(long)]


@pytest.mark.parametrize(
    "long", [b"\r\n" * 32768, b"GET /" + FILL, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 11000]
)
def test_a_later_head_that_does_not_end_is_too_long(long):
    assert events_of(GET + long)[1:] == [Invalid(long, 431, "head too long")]


@pytest.mark.parametrize("begun", [b"GET /", b"GET / HTTP/1.1\r\nA: "])
def test_a_long_line_is_not_looked_at_again_with_every_byte(begun):
    """What comes after JUDGED_EARLY bytes of a line is judged only with the end of the line."""
    parser, _ = parse([GET, begun + FILL[: http.JUDGED_EARLY], b"\0"])
    assert parser.held
    (event,) = parser.feed(b"\r\n")
    assert isinstance(event, Invalid)


def test_what_has_been_judged_is_not_looked_at_again():
    parser = RequestParser()
    for piece, judged in [
        (b"\r\n\r", 2),
        (b"\nGET / HTTP/1.1\r\n", 20),
        (b"A: b\r\nC: d\r\nE", 32),
        (b":", 32),
        (b"\r\n", 36),
        (b"\r", 36),
        (b"\n", 0),
    ]:
        parser.feed(piece)
        assert parser._judged == judged


@pytest.mark.parametrize("field", [b" ", b"A ", b"A\r", b"A: b\n", b"A: b\r\r", b"A: \0", b":", b"\r\0"])
def test_a_bad_field_is_known_at_once(field):
    parser = RequestParser()
    assert parser.feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + field[:-1]) == []
    (event,) = parser.feed(field[-1:])
    assert isinstance(event, Invalid)


# A way to each state, and its last request asking for another protocol.
UPGRADE = b"Upgrade: x"
WAYS = {
    http.UNDECIDED: b"G",
    http.REQUEST_LINE: post(UPGRADE) + b"GE",
    http.FIELDS: post(UPGRADE) + b"GET / HTTP/1.1\r\nA",
    http.BODY: post(UPGRADE, b"Content-Length: 5", body=b"he"),
    http.CHUNK_SIZE: chunked(b"5", UPGRADE),
    http.CHUNK_DATA: chunked(b"5\r\nhe", UPGRADE),
    http.CHUNK_END: chunked(b"5\r\nhello\r", UPGRADE),
    http.TRAILER: chunked(b"0\r\nA", UPGRADE),
    http.OPAQUE: b"EHLO a\r\n",
    http.LOST: post(UPGRADE) + b"\0",
}


def snapshot(parser):
    return {name: getattr(parser, name) for name in parser.__slots__}


@pytest.mark.parametrize("state", http.MOVES)
def test_illegal_moves_raise_and_change_nothing(state):
    for to in set(http.MOVES) - http.MOVES[state]:
        parser, _ = parse([WAYS[state]])
        before = snapshot(parser)
        assert before["state"] == state
        with pytest.raises(IllegalMove):
            parser._move(to)
        assert snapshot(parser) == before


def test_every_move_of_the_table_is_made():
    made = set()

    class Watched(RequestParser):
        __slots__ = ()

        def _move(self, state):
            made.add((self.state, state))
            super()._move(state)

    heads = [request for request, _ in (*BODIES.values(), *REFUSED_HEADS.values())]
    bodies = [chunked(good + bad) for good, bad, _ in REFUSED_CHUNKS.values()]
    for data in [*heads, *bodies, *OPAQUE, *WAYS.values()]:
        for pieces in cuts(data):
            parse(pieces, Watched)
    for state, data in WAYS.items():
        if state not in (http.UNDECIDED, http.OPAQUE, http.LOST):
            parse([data], Watched)[0].became_opaque()
    parse([b"GET /" + FILL], Watched)
    assert made == {(state, to) for state, moves in http.MOVES.items() for to in moves}


@pytest.mark.parametrize("state", http.MOVES)
def test_a_connection_becomes_opaque_only_if_it_asked_to(state):
    data = WAYS[state]
    parser, _ = parse([data])
    before = snapshot(parser)
    if state in (http.UNDECIDED, http.OPAQUE, http.LOST):
        with pytest.raises(IllegalMove):
            parser.became_opaque()
        assert snapshot(parser) == before
    else:
        held = parser.held
        assert parser.became_opaque() == ([Opaque(held)] if held else [])
        assert (parser.state, parser.held) == (http.OPAQUE, b"")
        assert parser.feed(b"\x81\r\n\r\n") == [Opaque(b"\x81\r\n\r\n")]

    plain, _ = parse([data.replace(UPGRADE, b"Nothing: x")])
    before = snapshot(plain)
    with pytest.raises(IllegalMove):
        plain.became_opaque()
    assert snapshot(plain) == before


def test_nothing_is_fed_after_an_invalid():
    parser, _ = parse([WAYS[http.LOST]])
    before = snapshot(parser)
    with pytest.raises(IllegalMove):
        parser.feed(b"x")
    assert snapshot(parser) == before


def test_requests_go_on_until_the_server_has_agreed():
    parser = RequestParser()
    parser.feed(b"CONNECT a:443 HTTP/1.1\r\n\r\n")
    assert parser.feed(GET) == events_of(GET)
    assert parser.feed(b"GET /") == []
    assert parser.became_opaque() == [Opaque(b"GET /")]
    assert parser.feed(GET) == [Opaque(GET)]


class TestRequestLines:
    def test_a_line_comes_with_the_end_of_its_head(self):
        log = RequestLines()
        assert not log.is_http
        assert log.feed(GET[:-1]) == []
        assert log.is_http
        assert log.feed(GET[-1:]) == [b"GET / HTTP/1.1"]
        assert log.feed(GET + GET[:5]) == [b"GET / HTTP/1.1"]
        assert log.feed(GET[5:] + GET) == [b"GET / HTTP/1.1"] * 2

    def test_bodies_are_passed_over(self):
        log = RequestLines()
        assert log.feed(post(b"Content-Length: %d" % len(GET * 1000))) == [b"POST / HTTP/1.1"]
        for _ in range(1000):
            assert log.feed(GET) == []
        assert log.feed(GET) == [b"GET / HTTP/1.1"]
        assert log.feed(chunked(b"5\r\nhe")) == [b"POST / HTTP/1.1"]
        assert log.feed(b"llo\r\n0\r\n\r\n" + NEXT) == [b"GET /next HTTP/1.1"]

    def test_a_connection_that_is_not_http_gives_every_piece(self):
        log = RequestLines()
        assert [log.feed(piece) for piece in (b"EHLO a\r\n", GET, b"\r\n", b"\0")] == [
            [b"EHLO a\r\n"],
            [GET],
            [b"\r\n"],
            [b"\0"],
        ]
        assert not log.is_http
        assert not log.silent
        assert log.finish() == []

    def test_what_was_undecided_comes_as_one_piece(self):
        log = RequestLines()
        assert [log.feed(piece) for piece in (b"EH", b"LO", b" a\r\n", b"x")] == [
            [],
            [],
            [b"EHLO a\r\n"],
            [b"x"],
        ]

    @pytest.mark.parametrize("before", [0, 1, 5])
    def test_a_request_in_pieces_of_which_a_server_answers_some(self, before):
        log = RequestLines()
        assert [log.feed(GET[at : at + 1]) for at in range(before)] == [[]] * before
        assert log.answered() == []
        assert [log.feed(piece) for piece in (GET[before:-1], GET[-1:])] == [[], [b"GET / HTTP/1.1"]]

    @pytest.mark.parametrize("text", [b"hello", b"USER bob", b"GETX", b"get / ", b"\r\nhello"])
    def test_no_end_of_a_line_is_waited_for_that_a_server_answers(self, text):
        """But of one that begins as HTTP's usual methods do."""
        log = RequestLines()
        assert log.feed(text) == []
        assert log.answered() == [text]
        assert log.feed(GET) == [GET]
        log = RequestLines()
        assert log.answered() == []
        assert log.feed(text) == [text]
        assert log.feed(GET) == [GET]

    def test_where_the_framing_is_lost_it_gives_every_piece(self):
        log = RequestLines()
        assert log.feed(GET + post(b"Content-Length: x") + b"abc") == [b"GET / HTTP/1.1", b"POST / HTTP/1.1"]
        assert not log.is_http
        assert log.feed(GET) == [GET]
        log = RequestLines()
        assert log.feed(chunked(b"x\r\nabc")) == [b"POST / HTTP/1.1", b"x\r\nabc"]
        assert log.feed(b"def") == [b"def"]
        assert log.finish() == []

    @pytest.mark.parametrize("ask", [post(UPGRADE), b"CONNECT a:443 HTTP/1.1\r\n\r\n"])
    @pytest.mark.parametrize(
        "frame", [b"\x81\x85abc", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FILL]
    )
    def test_another_protocol_after_an_upgrade_is_not_logged(self, ask, frame):
        log = RequestLines()
        line = ask.partition(b"\r\n")[0]
        assert log.feed(ask) == [line]
        assert log.feed(b"SS") == []
        assert log.finish() == []
        log = RequestLines()
        assert log.feed(GET + ask + frame) == [b"GET / HTTP/1.1", line]
        assert log.silent
        assert not log.is_http
        assert log.feed(GET) == []
        assert log.finish() == []

    def test_requests_after_an_upgrade_that_was_declined_are_logged(self):
        log = RequestLines()
        assert log.feed(post(UPGRADE) + NEXT) == [b"POST / HTTP/1.1", b"GET /next HTTP/1.1"]
        assert log.feed(b"\0") == [b"\0"]
        log = RequestLines()
        assert log.feed(post(UPGRADE)) == [b"POST / HTTP/1.1"]
        assert log.feed(NEXT) == [b"GET /next HTTP/1.1"]
        assert log.feed(b"\0") == [b"\0"]

    def test_a_request_refused_after_an_upgrade_is_logged(self):
        log = RequestLines()
        assert log.feed(post(UPGRADE) + NEXT.replace(b"\r\n", b"\n")) == [
            b"POST / HTTP/1.1",
            b"GET /next HTTP/1.1",
        ]
        assert not log.silent

    @pytest.mark.parametrize(
        ("data", "lines"),
        [
            (b"", []),
            (b"\r\n\r", []),
            (b"GET /hal", [b"GET /hal"]),
            (b"\r\nGET /hal", [b"GET /hal"]),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", [b"GET / HTTP/1.1"]),
            (b"\r\nGET / HTTP/1.1\r\n\r", [b"GET / HTTP/1.1"]),
            (GET, [b"GET / HTTP/1.1"]),
            (GET + b"\r\n", [b"GET / HTTP/1.1"]),
            (GET + b"GET /hal", [b"GET / HTTP/1.1", b"GET /hal"]),
            (chunked(b"5"), [b"POST / HTTP/1.1"]),
            (chunked(b"0\r\nA: b"), [b"POST / HTTP/1.1"]),
            (post(b"Content-Length: 5", body=b"he"), [b"POST / HTTP/1.1"]),
        ],
    )
    def test_the_end_gives_what_was_begun(self, data, lines):
        assert lines_of(data) == lines

    def test_a_long_head_is_not_kept(self):
        log = RequestLines()
        assert log.feed(b"GET / HTTP/1.1\r\nA: ") == []
        assert log.feed(FILL) == [b"GET / HTTP/1.1"]
        assert log._parser.held == b""


# Properties: what holds for requests made at random, and for bytes made from the pieces of requests.

TOKEN = st.text("abcXYZ09!#$%&'*+-.^_`|~", min_size=1, max_size=8).map(str.encode)
VALUE = st.text('abc,;=: \t"\\/\xe9', max_size=12).map(lambda text: text.encode("latin-1"))
FIELD = st.builds(b"X-%b:%b".__mod__, st.tuples(TOKEN, VALUE))
BLOB = st.binary(max_size=20) | st.sampled_from([GET, b"0\r\n\r\n", b"\r\n"])


@st.composite
def requests(draw):
    """A request of random fields, and its body without framing."""
    line = draw(TOKEN) + b" /" + draw(TOKEN) + b" HTTP/1.1"
    fields = [b"Host: a", *draw(st.lists(FIELD, max_size=4))]
    body, framed = draw(BLOB), b""
    if draw(st.booleans()):
        fields.append(b"Transfer-Encoding: chunked")
        chunks = [body, draw(BLOB)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        framed += (
            b"0\r\n" + b"".join(field + b"\r\n" for field in draw(st.lists(FIELD, max_size=2))) + b"\r\n"
        )
        body = b"".join(chunks)
    elif body:
        fields.append(b"Content-Length: %d" % len(body))
        framed = body
    fields = draw(st.permutations(fields))
    return line, line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n", framed, body


PIECES = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b",",
        b"0",
        b"1",
        b"5",
        b"\0",
        b"\x80",
        b";",
        b'"',
    ),
    *(
        b"GET",
        b" / ",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"CONNECT",
        b"Content-Length",
        b"Transfer-Encoding",
        b"chunked",
    ),
    *(
        b"Upgrade",
        b"A: b",
        b"GET / HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"Upgrade: x\r\n", b"upGRADE:x\r\n", GET),
]
NOISE = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=14).map(b"".join)
BEGUN = st.builds(
    bytes.__add__,
    st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: a\r\n", GET, chunked(b"", b"Host: a")]),
    NOISE,
)


@given(st.lists(requests(), min_size=1, max_size=4))
def test_random_requests_are_told_apart(made):
    stream = b"".join(head + framed for _, head, framed, _ in made)
    expected = []
    for _, head, framed, _ in made:
        expected += [head] + ([framed] if framed else [])
    events = events_of(stream)
    assert [event.raw for event in events] == expected
    assert lines_of(stream) == [line for line, _, _, _ in made]


@given(BEGUN)
def test_no_cut_changes_what_bytes_mean(data):
    events_of(data)


@given(st.lists(BEGUN, max_size=4))
def test_a_log_hears_the_same_as_the_parser(pieces):
    """`plain`, the short way, says what the long way says, and leaves the same state behind."""
    parser, log = RequestParser(), RequestLines()
    for piece in pieces:
        if parser.state in (http.OPAQUE, http.LOST):
            break
        lines = log.feed(piece)
        events = parser.feed(piece)
        assert snapshot(parser) == snapshot(log._parser)
        heads = [event.line for event in events if isinstance(event, Head)]
        assert lines[: len(heads)] == heads
        assert len(lines) - len(heads) <= sum(isinstance(event, Opaque | Invalid) for event in events)


@given(BEGUN)
@example(b"GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n")
@example(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: b\r\n\r\n\r\n\r\n")
@example(b"\r\nGET / HTTP/1.1\r\nContent: x\r\nUp: y\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: " + b"x" * 65513 + b"\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: " + b"x" * 65514 + b"\r\n\r\n")
def test_the_short_way_is_taken_where_it_may_and_only_there(data):
    parser, (long, events) = RequestParser(), parse([data])
    line = parser.plain(data)
    one = [event for event in events if isinstance(event, Head)] if len(events) == 1 and not long.held else []
    if line is None:
        assert snapshot(parser) == snapshot(RequestParser())
        assert not one or one[0].switches or b"content-length" in data.lower() or one[0].chunked
    else:
        assert [head.line for head in one] == [line]
        assert (one[0].length, one[0].chunked, one[0].switches) == (0, False, False)
        assert snapshot(parser) == snapshot(long)


def h11_reads(stream):
    """The request lines and bodies that h11 finds; at a fault it goes no further, and `None` is the last."""
    seen = []
    while stream:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
        connection.receive_data(stream)
        stream = b""
        try:
            while (event := connection.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
                if isinstance(event, h11.Request):
                    seen.append([b"%b %b HTTP/%b" % (event.method, event.target, event.http_version), b""])
                elif isinstance(event, h11.Data):
                    seen[-1][1] += event.data
                elif isinstance(event, h11.EndOfMessage):
                    stream = connection.trailing_data[0].lstrip(b"\r\n")  # empty lines h11 does not take
                    break
        except h11.RemoteProtocolError:
            seen.append(None)
    return seen


def we_read(stream):
    """The same as we find them, bodies with their framing; `None` at a fault."""
    seen = []
    for event in parse([stream])[1]:
        if isinstance(event, Head):
            seen.append([event.line, b""])
        elif isinstance(event, Data):
            seen[-1][1] += event.raw
        else:
            seen.append(None)
    return seen


@given(st.lists(requests(), min_size=1, max_size=3))
def test_h11_finds_the_same_requests(made):
    stream = b"".join(head + framed for _, head, framed, _ in made)
    assert we_read(stream) == [[line, framed] for line, _, framed, _ in made]
    assert h11_reads(stream) == [[line, body] for line, _, _, body in made]


@given(BEGUN)
@example(GET + GET)
@example(GET + b"\0")
def test_h11_finds_no_other_requests_in_what_we_take(data):
    """As far as neither finds fault: no request is hidden between the two readers, no body read as one."""
    ours, theirs = we_read(data), h11_reads(data.lstrip(b"\r\n"))
    for our, their in zip_longest(ours, theirs, fillvalue="nothing"):
        if our is None or their is None:
            break
        assert our[0] == their[0]
