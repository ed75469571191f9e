"""httpanswers: where each answer of a server ends, and when it agrees to another protocol."""

import random

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import httpanswers
from penlib.httpanswers import BODILESS, TUNNEL, UPGRADE, Answers

NEXT = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(*fields, status=b"200 OK", body=b"", end=b"\r\n"):
    return b"HTTP/1.1 " + status + end + b"".join(field + end for field in fields) + end + body


def cuts(data):
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    dice = random.Random(1)
    for _ in range(10):
        places = sorted(dice.choices(range(len(data) + 1), k=5))
        yield [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


def after(data, *asked):
    """What is known after `data`, the same however it comes, and whether bodies are shown or skipped."""
    found = set()
    for pieces in cuts(data):
        for skips in (False, True):
            answers = Answers()
            for kind in asked:
                answers.asked(kind)
            for piece in pieces:
                feed(answers, piece, skips)
            found.add((answers.outstanding, answers.at_rest, answers.state))
    assert len(found) == 1
    return found.pop()


def feed(answers, piece, skips):
    size = min(len(piece), answers.unseen) if skips else 0
    if size:
        answers.skip(size)
    if piece[size:]:
        answers.feed(piece[size:])


# Answers to a GET that come to an end.
WHOLE = {
    "length": answer(b"Content-Length: 5", body=b"hello"),
    "length zero": answer(b"Content-Length: 0"),
    "length in other case, with blanks": answer(b"CONTENT-length :\t 2 ", body=b"ok"),
    "length twice, the same": answer(b"Content-Length: 2", b"Content-Length: 2", body=b"ok"),
    "204": NEXT,
    "304 with the length of another": answer(b"Content-Length: 5", status=b"304 Not Modified"),
    "a body that looks like an answer": answer(b"Content-Length: %d" % len(NEXT), body=NEXT),
    "no reason": answer(b"Content-Length: 0", status=b"200"),
    "LF only": answer(b"Content-Length: 2", body=b"ok", end=b"\n"),
    "chunked": answer(b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "chunked, gzip before": answer(b"Transfer-Encoding: gzip, Chunked", body=b"02;a=b\r\nok\r\n00\r\n\r\n"),
    "chunked and length": answer(b"Transfer-Encoding: chunked", b"Content-Length: 1", body=b"0\r\n\r\n"),
    "trailers": answer(b"Transfer-Encoding: chunked", body=b"2 \r\nok\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
    "a chunk like the last": answer(b"Transfer-Encoding: chunked", body=b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"Content-Length: 2", body=b"ok"),
    "103 twice before": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 2
    + answer(b"Content-Length: 2", body=b"ok"),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_answers_end_where_they_end(data):
    assert after(data, 0) == (0, True, httpanswers.HEAD)
    assert after(data + NEXT, 0, 0, 0) == (1, True, httpanswers.HEAD)
    outstanding, at_rest, state = after(data[:-1], 0)
    assert (outstanding, at_rest) == (1, False)
    assert state is not httpanswers.LOST


def test_all_in_a_row():
    assert after(b"".join(WHOLE.values()), *[0] * len(WHOLE)) == (0, True, httpanswers.HEAD)


@pytest.mark.parametrize("length", [0, 5])
def test_the_answer_to_head_has_no_body(length):
    head = answer(b"Content-Length: %d" % length)
    assert after(head + NEXT, BODILESS, 0) == (0, True, httpanswers.HEAD)
    assert after(answer(b"Transfer-Encoding: chunked") + NEXT, BODILESS, 0) == (0, True, httpanswers.HEAD)


@pytest.mark.parametrize(
    "data",
    [
        answer(),
        answer(b"Transfer-Encoding: gzip"),
        answer(b"Transfer-Encoding: chunked, gzip"),
        answer(b"Connection: close", body=NEXT),
    ],
)
def test_answers_that_end_with_the_connection(data):
    assert after(data + b"abc", 0, 0) == (2, False, httpanswers.ENDLESS)


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"220 mail\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        answer(b"Content-Length: 5", b"Content-Length: 6"),
        answer(b"Content-Length: five"),
        answer(b"Transfer-Encoding: chunked", body=b"x\r\n"),
        answer(b"Transfer-Encoding: chunked", body=b"5\r\nhello!\r\n0\r\n\r\n"),
        answer(b"Content-Length: 0", body=b"more"),
    ],
)
def test_what_is_not_understood(data):
    assert after(data + NEXT, 0)[1:] == (False, httpanswers.LOST)


@pytest.mark.parametrize(
    "filling", [b"HTTP/1.1 200 OK\r\nA: ", answer(b"Transfer-Encoding: chunked", body=b"0;")]
)
def test_what_does_not_end_is_not_kept(filling):
    answers = Answers()
    answers.asked(0)
    answers.feed(filling)
    for _ in range(httpanswers.HEAD_LIMIT // 1000 + 1):
        answers.feed(b"x" * 1000)
    assert answers.state is httpanswers.LOST


@pytest.mark.parametrize(
    ("status", "asked", "state"),
    [
        (b"101 Switching", UPGRADE, httpanswers.SWITCHED),
        (b"101 Switching", UPGRADE | BODILESS, httpanswers.SWITCHED),
        (b"101 Switching", 0, httpanswers.LOST),
        (b"101 Switching", TUNNEL, httpanswers.LOST),
        (b"200 Established", TUNNEL, httpanswers.SWITCHED),
        (b"299 x", TUNNEL, httpanswers.SWITCHED),
        (b"200 OK", UPGRADE, httpanswers.BODY),
        (b"407 Who are you", TUNNEL, httpanswers.BODY),
    ],
)
def test_agreement(status, asked, state):
    assert after(answer(b"Content-Length: 3", status=status), asked)[2] is state
    assert after(NEXT + answer(b"Content-Length: 3", status=status), 0, asked)[2] is state


def test_may_switch():
    answers = Answers()
    assert not answers.may_switch
    answers.asked(0)
    answers.asked(UPGRADE)
    assert answers.may_switch
    answers.feed(NEXT)
    assert answers.may_switch
    answers.feed(NEXT)
    assert not answers.may_switch


def test_nothing_more_is_remembered_once_lost():
    answers = Answers()
    answers.feed(b"?")
    for _ in range(3):
        answers.asked(0)
    assert answers.outstanding == 0


BODY = st.binary(max_size=20) | st.just(NEXT)


@st.composite
def answers_made(draw):
    body = draw(BODY)
    if draw(st.booleans()):
        return answer(b"Content-Length: %d" % len(body), body=body), body
    chunks = [chunk for chunk in (body, draw(BODY)) if chunk]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return answer(b"Transfer-Encoding: chunked", body=framed), b"".join(chunks)


@given(st.lists(answers_made(), min_size=1, max_size=4))
def test_h11_finds_the_same_answers(made):
    stream = b"".join(data for data, _ in made)
    assert after(stream, *[0] * len(made)) == (0, True, httpanswers.HEAD)
    for _, body in made:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(stream)
        read = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            read += bytes(event.data) if isinstance(event, h11.Data) else b""
        assert read == body
        stream = client.trailing_data[0]
    assert stream == b""
