"""-H without sockets: what its two taps make of what a client and a server say, whatever the pieces."""

import random
from collections.abc import Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.corpus import cases, whole_requests

from penlib.balancer import rewrite
from penlib.balancer.rewrite import Rewriter
from penlib.forwarded import Forwarded

CLIENT = "192.0.2.7"
FORWARDED = f"X-Forwarded-For: {CLIENT}\r\nX-Forwarded-Proto: http\r\n".encode()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GOT = GET[:-2] + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /chat HTTP/1.1\r\nUpgrade: chat\r\n\r\n"
UPGRADED = UPGRADE[:-2] + FORWARDED + b"\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n\r\n"
BAD = b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"
DOWN, UP = 7, 8
CASES = {case.name: case for case in cases()}


class Wire:
    """A connection with -H, in the place of relay and tcp: `up` is what the server got, `down` the client."""

    down, up = DOWN, UP

    def __init__(self) -> None:
        self.to_server = self.to_client = b""
        self.paused = self.opaque = self.told_end = self.closed = False
        self.work = []
        self.taps = {}
        rewriter = Rewriter(
            self, self, Forwarded(CLIENT.encode(), b"http"), (None, None), self.refuse, self.work.append
        )
        self.taps = {DOWN: rewriter.requests, UP: rewriter.replies}

    def client(self, *pieces):
        for piece in pieces:
            if not self.closed:
                tap = self.taps[DOWN]
                self.to_server += tap.feed(piece) if tap else piece
                self.after()
        return self

    def server(self, *pieces):
        for piece in pieces:
            if not self.closed:
                tap = self.taps[UP]
                self.to_client += tap.feed(piece) if tap else piece
                self.after()
        return self

    def after(self):
        while self.work:
            self.work.pop(0)()

    def server_ends(self):
        self.taps[UP].finish()
        self.after()

    # what the taps may ask of the relay

    def tap(self, fd, tap):
        self.taps[fd] = tap
        self.opaque = True

    def pause(self, fd):
        assert fd == DOWN
        self.paused = True

    def resume(self, fd):
        assert fd == DOWN
        self.paused = False

    def give(self, fd, data):
        assert fd == UP
        self.to_server += data

    def end(self, fd):
        assert fd == DOWN
        self.told_end = True

    def is_joined(self, fd, owner):
        return not self.closed

    def refuse(self, connection, why, last):
        assert why
        self.to_client += last
        self.closed = True


def byte_by_byte(data):
    return [data[i : i + 1] for i in range(len(data))]


def all_cuts(data) -> Iterator[list[bytes]]:
    """Whole, byte by byte, in two at every byte, at random."""
    yield [data]
    yield byte_by_byte(data)
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    dice = random.Random(len(data))
    for _ in range(20):
        places = sorted(dice.choices(range(len(data) + 1), k=dice.randint(1, 9)))
        yield [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_corpus(case):
    """Every case in every cut.  Where a request is refused in pieces, more of it may have passed, but no
    whole one."""
    wanted = case.server(CLIENT)
    for pieces in all_cuts(case.sent):
        wire = Wire().client(*pieces)
        assert not (wire.opaque and case.is_http)
        assert wire.closed is (case.answers == ["400"])
        if case.answers == ["400"]:
            assert wire.to_client.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        if not case.is_refused or len(pieces) == 1:
            assert wire.to_server == wanted
        else:
            assert wire.to_server.startswith(wanted)
            assert whole_requests(wire.to_server) == whole_requests(wanted)


class TestSloppyFirstLine:
    """Not HTTP, but lenient servers answer it: it passes, but not with a word about where it is from."""

    LINES = (
        *(b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / HTTP/1.10", b"GET / HTTP/1.01"),
        *(b"\rGET / HTTP/1.1", b"\r\r\nGET / HTTP/1.1", b"GET\t/ HTTP/1.1", b" GET / HTTP/1.1"),
        *(b"GET / HTTP/2.0", b"GET / HTTP/9.9", b"PRI * HTTP/2.0"),
    )

    @pytest.mark.parametrize("line", LINES)
    @pytest.mark.parametrize("end", [b"\r\n", b"\n"])
    @pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x_forwarded_proto"])
    def test_with_a_field_of_its_own(self, line, end, name):
        sent = line + end + b"Host: a" + end + name + b": 6.6.6.6" + end + end
        for pieces in all_cuts(sent):
            wire = Wire().client(*pieces)
            assert wire.closed
            assert sent.startswith(wire.to_server)
            assert name not in wire.to_server

    def test_later_in_the_connection(self):
        first = b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"
        wire = Wire().client(first, GET, GET[:-2])
        assert not wire.closed
        assert wire.to_server == first + GET + GET[:-2]
        assert wire.client(b"X-Forwarded-For: 6.6.6.6\r\n\r\n").closed
        assert wire.to_server == first + GET + GET[:-2]

    @pytest.mark.parametrize(
        "line",
        [
            b"hello  world",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
            b"GET / RTSP/1.0",
            b"\x16  HTTP/1.1",
            b"G / HTTP/2",
        ],
    )
    def test_another_protocol_may_say_what_it_likes(self, line):
        sent = line + b"\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        for pieces in all_cuts(sent):
            wire = Wire().client(*pieces)
            assert (wire.to_server, wire.closed) == (sent, False)

    def test_a_line_without_end(self):
        wire = Wire()
        for _ in range(20):
            wire.client(b"word and " * 1000)
        assert wire.to_server == b"word and " * 20_000


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if not case.is_http], ids=lambda case: case.name
)
def test_what_is_not_http_passes_at_once(case):
    wire = Wire()
    for size, byte in enumerate(byte_by_byte(case.sent), 1):
        assert wire.client(byte).to_server == case.sent[:size]


NAME = st.sampled_from(
    [b"X-Forwarded-For", b"x-forwarded-for", b"X_Forwarded_For", b"X-FORWARDED-PROTO", b"Connection", b"Via"]
)
VALUE = st.sampled_from(
    [b"", b"6.6.6.6", b" 1.1.1.1 ,2.2.2.2\t", b"x-forwarded-for", b"a, X-Forwarded-Proto"]
)
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=5)


@given(st.lists(FIELDS, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_h11_finds_the_true_client_last(requests, dice):
    heads = [
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%b:%b\r\n" % field for field in fields) + b"\r\n"
        for fields in requests
    ]
    data = b"".join(heads)
    places = sorted(dice.choices(range(len(data) + 1), k=4))
    wire = Wire().client(*(data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)))
    stream = wire.to_server
    for fields in requests:
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(stream)
        headers = list(reader.next_event().headers)
        reader.next_event()
        stream = reader.trailing_data[0]
        own = [v.strip(b" \t") for n, v in fields if n.lower() == b"x-forwarded-for"]
        assert [v for n, v in headers if n == b"x-forwarded-for"] == [
            b", ".join([*filter(None, own), CLIENT.encode()])
        ]
        assert [v for n, v in headers if n == b"x-forwarded-proto"] == [b"http"]
        assert [n for n, _ in headers[-2:]] == [b"x-forwarded-for", b"x-forwarded-proto"]
        assert not [n for n, _ in headers if n == b"x_forwarded_for"]
        assert not [v for n, v in headers if n == b"connection" and b"forwarded" in v.lower()]
        assert [v for n, v in headers if n == b"via"] == [v.strip(b" \t") for n, v in fields if n == b"Via"]
    assert stream == b""


@pytest.mark.parametrize(
    ("client", "own"), [(b"", b""), (b"", b"6.6.6.6"), (b"::1", b""), (b"::1", b"6.6.6.6")]
)
def test_a_client_without_an_address(client, own):
    head = b"GET / HTTP/1.1\r\n" + (b"X-Forwarded-For: %b\r\n" % own if own else b"") + b"\r\n"
    values = b", ".join(filter(None, [own, client]))
    line = b"X-Forwarded-For: %b\r\n" % values if values else b""
    assert Forwarded(client, b"https").added_to(head) == (
        b"GET / HTTP/1.1\r\n" + line + b"X-Forwarded-Proto: https\r\n\r\n"
    )


class TestRefusal:
    def test_when_the_answer_has_come(self):
        for pieces in all_cuts(OK):
            wire = Wire().client(GET).server(*pieces).client(BAD)
            assert wire.closed
            assert wire.to_client.startswith(OK + b"HTTP/1.1 400 ")
            assert wire.to_server == GOT

    def test_while_answers_are_due_they_come_and_nothing_else(self):
        for pieces in all_cuts(OK + OK):
            wire = Wire().client(GET + GET + BAD, GET)
            assert not wire.closed
            wire.server(*pieces)
            assert wire.closed
            assert wire.to_client == OK + OK
            assert wire.to_server == GOT + GOT

    def test_while_an_answer_is_coming(self):
        wire = Wire().client(GET).server(OK[:-1]).client(BAD)
        assert not wire.closed
        wire.server(OK[-1:])
        assert wire.closed
        assert wire.to_client == OK

    def test_after_a_100(self):
        wire = Wire().client(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.server(b"HTTP/1.1 100 Continue\r\n\r\n").client(b"x\r\n")
        assert wire.closed
        assert b"400 Bad" in wire.to_client

    def test_in_a_body_that_is_answered_already(self):
        """A second answer to one request would be one too many."""
        wire = (
            Wire()
            .client(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .server(OK)
            .client(b"x\r\n")
        )
        assert wire.closed
        assert wire.to_client == OK

    def test_in_a_body_behind_a_request_that_is_not_answered(self):
        wire = Wire().client(GET, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"x\r\n")
        assert not wire.closed
        wire.server(OK)
        assert wire.closed
        assert wire.to_client == OK

    def test_in_a_body_whose_answer_has_begun(self):
        """The server is told that no more will come, and the answer is let come to its end."""
        wire = Wire().client(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").server(OK[:20])
        wire.client(b"x\r\n")
        wire.server(OK[20:30])
        assert not wire.closed
        assert wire.told_end
        wire.server(OK[30:])
        assert wire.closed
        assert wire.to_client == OK

    def test_an_agreement_comes_too_late(self):
        ask = UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        wire = Wire().client(GET + ask, b"x\r\n").server(OK + SWITCH)
        assert wire.closed
        assert wire.to_server.endswith(b"chunked\r\n" + FORWARDED + b"\r\n")

    def test_behind_an_answer_that_ends_with_the_connection(self):
        wire = Wire().client(GET, BAD).server(b"HTTP/1.0 200 OK\r\n\r\nabc", b"def")
        assert not wire.closed
        assert wire.taps[UP].unseen() > 1 << 60, "the rest may pass unseen, but not its end"
        wire.server_ends()
        assert wire.closed
        assert wire.to_client.endswith(b"abcdef")

    @pytest.mark.parametrize("answer", [b"\x05\x00", b"SSH-2.0\r\n", b"HTTP/1.1 2000 x\r\n\r\n"])
    def test_from_a_server_that_is_none_of_the_web(self, answer):
        wire = Wire().client(GET).server(answer).client(BAD)
        assert wire.told_end
        assert wire.to_client == answer

    def test_a_head_of_more_than_64_kib(self):
        wire = Wire().client(b"GET / HTTP/1.1\r\n", *[b"A: " + b"x" * 1000 + b"\r\n"] * 100)
        assert wire.to_client.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert wire.to_server == b""


class TestUpgrade:
    def test_agreed(self):
        for pieces in all_cuts(SWITCH + b"\x81frames"):
            wire = Wire().client(UPGRADE).server(*pieces)
            assert wire.opaque
            assert wire.client(GET, b"\0\xff").to_server == UPGRADED + GET + b"\0\xff"
            assert wire.to_client == SWITCH + b"\x81frames"

    def test_refused_and_requests_go_on_being_treated(self):
        for pieces in all_cuts(OK):
            wire = Wire().client(UPGRADE).server(*pieces).client(GET)
            assert not wire.opaque
            assert wire.to_server == UPGRADED + GOT

    def test_until_then_requests_go_on_being_treated(self):
        wire = Wire().client(UPGRADE, GET)
        assert wire.to_server == UPGRADED + GOT
        wire.client(b"GET / HT").server(SWITCH)
        assert wire.opaque
        assert wire.to_server == UPGRADED + GOT + b"GET / HT"

    def test_other_1xx_before_it(self):
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        for pieces in all_cuts(early + SWITCH):
            wire = Wire().client(UPGRADE).server(*pieces)
            assert wire.opaque

    def test_behind_other_requests(self):
        """A 101 in the body of another answer is no agreement."""
        lie = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SWITCH) + SWITCH
        for pieces in all_cuts(lie + OK):
            wire = Wire().client(GET + GET + UPGRADE).server(*pieces)
            assert not wire.opaque
            assert wire.server(SWITCH).opaque

    def test_behind_head(self):
        """The answer to HEAD has no body, whatever length it names."""
        head = GET.replace(b"GET", b"HEAD")
        wire = Wire().client(head + UPGRADE).server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", SWITCH)
        assert wire.opaque

    def test_not_asked_for(self):
        wire = Wire().client(GET).server(SWITCH).client(GET)
        assert not wire.opaque
        assert wire.to_server == GOT + GOT

    def test_a_second_request_is_not_the_one_that_asked(self):
        wire = Wire().client(UPGRADE + GET).server(OK, SWITCH)
        assert not wire.opaque

    @pytest.mark.parametrize(
        ("status", "opaque"), [(200, True), (204, True), (299, True), (407, False), (101, False)]
    )
    def test_connect(self, status, opaque):
        ask = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"
        wire = Wire().client(ask).server(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status).client(GET)
        assert wire.opaque is opaque
        assert wire.to_server == ask[:-2] + FORWARDED + b"\r\n" + (GET if opaque else GOT)

    def test_what_is_no_request_waits_for_the_answer(self):
        """A client that speaks the other protocol a little early."""
        wire = Wire().client(UPGRADE + b"\x81frame")
        assert wire.paused
        assert wire.to_server == UPGRADED
        wire.server(SWITCH)
        assert wire.opaque
        assert not wire.paused
        assert wire.to_server == UPGRADED + b"\x81frame"

    def test_what_is_no_request_when_the_upgrade_is_refused(self):
        wire = Wire().client(UPGRADE + b"\x81frame").server(OK)
        assert wire.closed
        assert wire.to_client == OK
        assert wire.to_server == UPGRADED

    def test_in_a_request_with_a_body(self):
        ask = UPGRADE[:-2] + b"Content-Length: 3\r\n\r\n"
        wire = Wire().client(ask + b"a").server(SWITCH).client(b"bc\x81")
        assert wire.to_server.endswith(b"\r\n\r\nabc\x81")


class TestGreeting:
    """What the server says before the client's first line is whole decides nothing."""

    GREETINGS = (b"220 mail\r\n", b"\0", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")

    @pytest.mark.parametrize("greeting", GREETINGS)
    def test_then_a_request(self, greeting):
        wire = Wire().server(greeting).client(*byte_by_byte(GET), GET)
        assert not wire.opaque
        assert wire.to_server == GOT * 2
        assert wire.to_client == greeting

    @pytest.mark.parametrize("greeting", GREETINGS)
    def test_then_another_protocol(self, greeting):
        wire = Wire().server(greeting).client(b"EHLO a\r\n")
        assert wire.opaque
        assert wire.client(GET).to_server == b"EHLO a\r\n" + GET

    def test_half_a_line_is_passed_on_at_once_and_answered(self):
        wire = Wire().client(b"USER bob").server(b"+OK\r\n")
        assert wire.to_server == b"USER bob"
        assert wire.client(b"\r\n" + GET).to_server == b"USER bob\r\n" + GET

    def test_an_echo_of_each_byte(self):
        wire = Wire()
        for byte in byte_by_byte(GET):
            wire.client(byte).server(byte)
        assert wire.to_server == GOT


def test_who_has_too_many_requests_unanswered_waits():
    wire = Wire().client(GET * (rewrite.OUTSTANDING - 1))
    assert not wire.paused
    assert wire.client(GET).paused
    assert not wire.server(OK * (rewrite.OUTSTANDING // 2)).paused
    assert wire.client(GET).to_server == GOT * (rewrite.OUTSTANDING + 1)


def test_bodies_may_pass_unseen():
    wire = Wire().client(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx")
    requests, replies = wire.taps[DOWN], wire.taps[UP]
    assert requests.unseen() == 999_999
    requests.skip(999_998)
    assert requests.unseen() == 1
    wire.client(b"y" + GET)
    assert wire.to_server.endswith(b"xy" + GOT)
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert replies.unseen() == 500
    replies.skip(500)
    assert replies.unseen() == 0
    assert not wire.server(OK).client(BAD).server().to_client.endswith(OK)
