"""records: both forms, their limits, and that no bytes whatever upset the parsers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import records
from penlib.records import DATAGRAM_LIMIT, FILE_LIMIT, Record

# Written by pen 0.34.1 for the requests named beside them (black box, `pen -l`).
FILE_LINES = [
    (b"127.0.0.1 1795423428 127.0.0.1 GET / HTTP/1.0\n", b"GET / HTTP/1.0"),
    (b"127.0.0.1 1795423428 127.0.0.1 GET /\x01.\t\x00abc HTTP/1.0\n", b"GET /....abc HTTP/1.0"),
    (b"127.0.0.1 1795423429 127.0.0.1 \n", b""),
    (b"127.0.0.1 1795423430 ::1 GET /" + b"a" * 95 + b"\n", b"GET /" + b"a" * 95),
]
DATAGRAMS = [
    (b"+ 127.0.0.1 127.0.0.1 GET / HTTP/1.0\n", b"GET / HTTP/1.0"),
    (b"+ 127.0.0.1 127.0.0.1 GET /\x01\x80\t\x00abc HTTP/1.0\n", b"GET /....abc HTTP/1.0"),
    (b"+ 127.0.0.1 127.0.0.1 \n", b""),
    (b"+ 127.0.0.1 127.0.0.1 GET / HTTP/1.0", b"GET / HTTP/1.0"),
]
GARBAGE = [
    b"",
    b"\n",
    b"+",
    b"+ ",
    b"+ 127.0.0.1",
    b"+ 127.0.0.1 127.0.0.1",
    b"+  127.0.0.1 GET / HTTP/1.0\n",
    b"+127.0.0.1 127.0.0.1 GET /\n",
    b"+ \x1b[2J 127.0.0.1 GET / HTTP/1.0\n",
    b"+ " + b"a" * 108 + b" 127.0.0.1 GET / HTTP/1.0\n",
    b"+ 127.0.0.1 " + b"a" * 108 + b" GET / HTTP/1.0\n",
    b"127.0.0.1 12x4 127.0.0.1 GET /",
    b"127.0.0.1 -1 127.0.0.1 GET /",
    b"127.0.0.1 " + b"9" * 5000 + b" 127.0.0.1 GET /",
    b"127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] GET",
]


@pytest.mark.parametrize(("line", "request_"), FILE_LINES)
def test_lines_of_pen_0_34_1_are_read(line, request_):
    record = records.parse_file_line(line)
    assert record.request == request_
    assert record.epoch in range(1795423428, 1795423431)
    assert record.cut is (len(request_) == FILE_LIMIT)


@pytest.mark.parametrize(("data", "request_"), DATAGRAMS)
def test_datagrams_of_pen_0_34_1_are_read(data, request_):
    assert records.parse_datagram(data) == Record(b"127.0.0.1", b"127.0.0.1", request_, None, 1001)


def test_of_a_request_in_a_datagram_no_more_is_kept_than_a_pen_sends():
    """So that who sends datagrams of 64 KB does not decide how much memory 1000 records take."""
    head = b"+ 127.0.0.1 127.0.0.1 "
    record = records.parse_datagram(head + b"GET /" + b"a" * 65_000 + b"\n")
    assert record == records.parse_datagram(head + b"GET /" + b"a" * (DATAGRAM_LIMIT - len(head) - 6) + b"\n")
    assert record.cut


def test_a_datagram_that_pen_0_34_1_cut_is_known_to_be_cut():
    data = b"+ 127.0.0.1 127.0.0.1 GET /" + b"a" * 996 + b"\n"  # 1024 bytes, for a request of 2,000
    assert len(data) == DATAGRAM_LIMIT
    assert records.parse_datagram(data).cut
    assert not records.parse_datagram(data.replace(b"aa", b"a", 1)).cut


def test_a_datagram_may_hold_what_a_file_kept():
    """Somebody sends the lines of a pen.log: a request of 100 bytes was probably cut there."""
    data = b"+ 127.0.0.1 127.0.0.1 GET /" + b"a" * (FILE_LIMIT - 5)
    assert records.parse_datagram(data).cut
    assert not records.parse_datagram(data + b"a").cut
    assert not records.parse_datagram(data[:-1]).cut


@pytest.mark.parametrize("data", GARBAGE)
def test_what_is_no_record_is_none(data):
    assert records.parse_file_line(data) is None
    assert records.parse_datagram(data) is None


def test_the_request_ends_at_the_first_cr_or_lf():
    assert records.clean(b"GET / HTTP/1.1\r\nHost: x") == b"GET / HTTP/1.1"
    assert records.clean(b"GET / HTTP/1.1\nHost:\r x") == b"GET / HTTP/1.1"
    assert records.clean(b"\r\nGET /") == b""
    assert records.clean(bytes(range(32, 256))) == bytes(range(32, 127)) + b"." * 129


def test_a_file_line_keeps_100_bytes_of_the_request():
    line = records.file_line(b"192.0.2.1", 7, b"/run/web", b"x" * 5000)
    assert line == b"192.0.2.1 7 /run/web " + b"x" * 100 + b"\n"


def test_a_whole_datagram_has_at_most_1024_bytes():
    data = records.datagram(b"192.0.2.1", b"2001:db8::1", b"x" * 5000)
    assert len(data) == 1024
    assert data.endswith(b"x\n")
    assert records.parse_datagram(data).cut


def test_a_field_never_divides_a_record():
    assert records.field("/run/my web\n\udcff") == b"/run/my.web.."
    assert records.field("2001:db8::1") == b"2001:db8::1"


fields = st.sampled_from([b"192.0.2.1", b"2001:db8::1", b"unix", b"/run/web.sock", b"x" * 107])


@given(fields, fields, st.binary(max_size=1500))
def test_what_is_written_is_read_back(client, server, request):
    written = records.clean(request[:FILE_LIMIT])
    assert records.parse_file_line(records.file_line(client, 12, server, request)) == (
        Record(client, server, written, 12, FILE_LIMIT)
    )
    record = records.parse_datagram(records.datagram(client, server, request))
    assert (record.client, record.server) == (client, server)
    assert records.clean(request).startswith(record.request)
    assert record.cut or record.request == records.clean(request)


@given(
    st.binary()
    | st.binary().map(lambda tail: b"+ a b " + tail)
    | st.binary().map(lambda tail: b"a 1 b " + tail)
)
def test_no_bytes_upset_the_parsers(data):
    for record in (records.parse_file_line(data), records.parse_datagram(data)):
        assert record is None or record.request == records.clean(record.request)


@given(st.lists(st.sampled_from([b"a", b"a 1 b GET /", b"a x b GET /", b"\r", b"\xe4", b"\n"])))
def test_a_text_is_split_as_its_lines_are(drawn):
    text = b"".join(drawn) + b"\n"
    found = records.split_file_lines(text)
    for line, (client, epoch, server, request, bad) in zip(text.split(b"\n")[:-1], found, strict=True):
        record = records.parse_file_line(line)
        if record is None:
            assert (client, epoch, server, request, bad) == (b"", b"", b"", b"", line)
        else:
            assert (client, int(epoch), server, request, bad) == (
                *(record.client, record.epoch, record.server, record.request),
                b"",
            )
