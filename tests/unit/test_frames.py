"""frames: ARP and IPv4 as they travel."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import frames
from penlib.frames import BROADCAST, REPLY, REQUEST, TCP, UDP, Arp

US, THEM = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
OURS, THEIRS = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def packet(protocol=TCP, payload=b"", options=b"", fragment=0, version=4, flags=0x02):
    """A frame from them to us."""
    size = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | size // 4,
        0,
        size + 20 + len(payload),
        7,
        fragment,
        64,
        protocol,
        0,
        THEIRS,
        OURS,
    )
    segment = struct.pack("!HHIIBBHHH", 1234, 80, 99, 0, 5 << 4, flags, 1000, 0, 0) + payload
    return US + THEM + b"\x08\x00" + head + options + segment


def test_asking_and_answering():
    asked = frames.arp(frames.arp_request(THEM, THEIRS, OURS))
    assert asked == Arp(REQUEST, THEM, THEIRS, OURS)
    answer = frames.arp_reply(US, OURS, asked)
    assert frames.arp(answer) == Arp(REPLY, US, OURS, THEIRS)
    assert answer[:6] == THEM
    assert frames.arp_request(THEM, THEIRS, OURS)[:6] == BROADCAST
    assert len(answer) == 60


@pytest.mark.parametrize("options", [b"", b"\1" * 8])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_who_asks_whom(options, protocol):
    found = frames.ipv4(packet(protocol, options=options))
    assert found[:4] == (THEIRS, OURS, protocol, (b"\x04\xd2", b"\0\x50"))
    assert found.payload == 34 + len(options)


def test_later_fragments_have_no_ports_and_first_ones_have():
    assert frames.ipv4(packet(fragment=0x2000)).ports
    assert frames.ipv4(packet(fragment=0x2001)).ports is None
    assert frames.ipv4(packet(fragment=0x0001)).ports is None


def test_whole_packets_are_told_from_fragments():
    assert frames.ipv4(packet()).whole
    assert frames.ipv4(packet(fragment=0x4000)).whole, "do not fragment"
    assert [frames.ipv4(packet(fragment=value)).whole for value in (0x2000, 0x2001, 0x0001)] == [False] * 3


def icmp(kind, about, to=OURS):
    """An ICMP error from a router to us, about what we sent: the header and 8 bytes of it."""
    head = packet(protocol=1)[:26] + bytes([10, 9, 9, 9]) + to
    return head + bytes([kind, 4, 0, 0, 0, 0, 5, 0]) + about[14:42]


ANSWER = packet()[:26] + OURS + THEIRS + struct.pack("!HHII", 80, 1234, 99, 0)


@pytest.mark.parametrize("kind", [3, 11, 12])
def test_a_complaint_about_an_answer_is_as_if_from_the_client(kind):
    frame = icmp(kind, ANSWER)
    found = frames.complaint(frame, frames.ipv4(frame))
    assert found[:4] == (THEIRS, OURS, TCP, (b"\x04\xd2", b"\0\x50"))


@pytest.mark.parametrize(
    "frame",
    [packet(), icmp(8, ANSWER), icmp(3, packet()), icmp(3, ANSWER, to=THEIRS), icmp(3, ANSWER)[:50]],
    ids=["no ICMP", "an echo request", "sent by the client", "sent by others", "cut"],
)
def test_what_is_no_complaint_about_an_answer(frame):
    assert frames.complaint(frame, frames.ipv4(frame)) is None


def test_other_protocols_have_no_ports():
    assert frames.ipv4(packet(protocol=1)).ports is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        packet()[:33],
        packet(version=6),
        US + THEM + b"\x86\xdd" + packet()[14:],
        packet()[:14] + b"\x44" * 20,
    ],
)
def test_what_is_no_ipv4(frame):
    assert frames.ipv4(frame) is None


@given(st.binary(max_size=100), st.sampled_from([b"\x08\x00", b"\x08\x06"]))
def test_any_bytes(data, kind):
    frame = US + THEM + kind + data
    frames.arp(frame)
    found = frames.ipv4(frame)
    if found:
        frames.is_syn(frame, found)
        frames.complaint(frame, found)


@pytest.mark.parametrize(
    ("flags", "syn"), [(0x02, True), (0xC2, True), (0x12, False), (0x04, False), (0x03, False), (0, False)]
)
def test_syn(flags, syn):
    frame = packet(flags=flags)
    assert frames.is_syn(frame, frames.ipv4(frame)) == syn


def test_the_answer_to_a_syn_is_right_to_the_last_checksum():
    frame = packet()
    answer = frames.syn_ack(frame, frames.ipv4(frame), US, 5)
    back = frames.ipv4(answer)
    assert (answer[:6], answer[6:12]) == (THEM, US)
    assert back[:4] == (OURS, THEIRS, TCP, (b"\0\x50", b"\x04\xd2"))
    sequence, acknowledged, _, flags = struct.unpack_from("!IIBB", answer, back.payload + 4)
    assert (sequence, acknowledged, flags) == (5, 100, 0x12)
    assert frames.checksum(answer[14:34]) == 0
    assert frames.checksum(OURS + THEIRS + struct.pack("!BBH", 0, TCP, 20) + answer[34:54]) == 0


def test_a_frame_sent_on_has_other_hardware_addresses_only():
    frame = packet(payload=b"data")
    assert frames.redirect(frame, THEM, US) == THEM + US + frame[12:]


@given(st.binary(max_size=50))
def test_a_checksum_of_data_with_its_checksum_is_0(data):
    data += b"\0" * (len(data) % 2)
    assert frames.checksum(data + struct.pack("!H", frames.checksum(data))) == 0
