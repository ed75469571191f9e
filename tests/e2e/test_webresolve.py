"""webresolve: names for addresses, every other byte as it was, each address asked for once."""

import contextlib
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
from support.nameserver import NXDOMAIN, REFUSED, SERVFAIL, NameServer, Reply, named, reverse, wire
from support.network import names as hosts_file
from support.process import peak_rss
from support.programs import needs, tool
from support.waiting import wait_until


def host_of_last_byte(name: str, kind: str) -> Reply:
    return named(f"h{name.partition('.')[0]}.example", delay=0.02)


HEAD = re.compile(r"^[0-9a-f.:]+(?=[ \t,\r]|$)")
"""Of the lines made here: an address at the start."""

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
LINE = ' - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5\n'


@pytest.fixture
def server(lab):
    return lab.closing(NameServer())


@pytest.fixture
def resolve(lab, server):
    """`webresolve` at our name server."""

    def run(*words, data: str | bytes = b"", name: str = "webresolve", code: int = 0, **more):
        data = data.encode("latin-1") if isinstance(data, str) else data
        done = lab.run(name, "-s", server, *words, stdin=data, **more)
        assert done.code == code, done
        return done

    return run


class TestUsage:
    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_help(self, lab, name):
        done = lab.run(name, "-h")
        assert (done.code, done.err) == (0, "")
        for option in ("-c", "-f", "-n", "-q", "-s", "-t", "-v"):
            assert f"  {option} " in done.out

    def test_what_splitwr_gets_of_its_workers(self, lab, server, resolve):
        """-a: an address a line, its name and until when that holds."""
        server.answer = lambda name, kind: (
            named("h7.example") if name.startswith("7.") else Reply(rcode=NXDOMAIN)
        )
        began = int(time.time())
        done = resolve("-a", data="192.0.2.7\n2001:db8::1\n")
        rows = [row.split(" ") for row in done.out.splitlines()]
        assert all(int(expires) >= began for _, _, expires in rows)
        assert sorted(row[:2] for row in rows) == [["192.0.2.7", "h7.example"], ["2001:db8::1", "-"]]

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            (["-z"], "unknown option -z"),
            (["-n", "0"], "option -n: '0' is not a number from 1"),
            (["-n", "many"], "option -n: 'many' is not a number from 1"),
            (["-t", "0"], "option -t: '0' is not a number of seconds"),
            (["-t", "soon"], "option -t: 'soon' is not a number of seconds"),
            (["-s", "host:port:"], "host:port:"),
            (["-s", "127.0.0.1:70000"], "70000"),
            (["-c"], "option -c needs a value"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, lab, name, words, wrong):
        done = lab.run(name, *words)
        assert (done.code, done.out) == (2, "")
        assert wrong in done.err.splitlines()[0]
        assert done.err.startswith(f"{name}: ")

    def test_a_name_server_that_does_not_resolve(self, lab):
        done = lab.run("webresolve", "-s", "nosuchhost.invalid")
        assert (done.code, done.out) == (1, "")
        assert "nosuchhost.invalid" in done.err


class TestText:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\n",
            b"\r\n\r\n",
            b"no address at all\n",
            b" 192.0.2.1 not at the start\n",
            b'192.0.2.9 - - [x] "GET / HTTP/1.0" 200 5\r\n',
            b"192.0.2.9",
            b"192.0.2.9 \0 \xff\xfe\n2001:db8::9 x\n",
            b"192.0.2.256 a\n1.2.3 b\n1.2.3.4.5 c\n192.0.2.1.example d\n192.0.2.1:80 e\n192.0.2.1/24 f\n",
            b"192.0.2.9 " + b"x" * 300_000 + b"\n",
            b"::\n:::\n1::2::3 x\n::ffff:1.2.3.4.5 x\nabcd: x\n",
        ],
    )
    def test_what_has_no_name_passes_byte_for_byte(self, lab, resolve, data):
        (lab.directory / "in").write_bytes(data)
        words = [*tool("webresolve"), "-s", "127.0.0.1:9", "-t", "1", "in"]
        done = subprocess.run(words, cwd=lab.directory, capture_output=True, check=True)
        assert done.stdout == data

    def test_the_address_becomes_the_name_and_all_else_stays(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        rest = bytes(byte for byte in range(256) if byte != 10).decode("latin-1")
        data = f"192.0.2.1 {rest}\r\n192.0.2.1\n192.0.2.1\t192.0.2.1\nx 192.0.2.1\n192.0.2.1"
        words = [*tool("webresolve"), "-s", str(server)]
        done = subprocess.run(words, input=data.encode("latin-1"), capture_output=True, check=True)
        expected = f"one.example {rest}\r\none.example\none.example\t192.0.2.1\nx 192.0.2.1\none.example"
        assert done.stdout == expected.encode("latin-1")

    def test_ipv6_in_all_its_spellings_is_asked_for_once(self, resolve, server):
        server.knows("2001:db8::1", "six.example")
        done = resolve(data="2001:db8::1 a\n2001:DB8:0:0::1 b\n2001:0db8:0000:0000:0000:0000:0000:0001 c\n")
        assert done.out == "six.example a\nsix.example b\nsix.example c\n"
        assert server.questions() == {reverse("2001:db8::1"): 1}

    def test_ipv4_mapped_into_ipv6_is_ipv4(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        assert resolve(data="::ffff:192.0.2.1 a\n").out == "one.example a\n"

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    @pytest.mark.parametrize("seed", range(3))
    def test_however_the_text_arrives(self, lab, server, name, seed):
        """In random pieces, cut within addresses, names and ends of lines too."""
        rng = random.Random(seed)
        known = {f"192.0.2.{n}": f"h{n}.example" for n in range(0, 256, 2)} | {"2001:db8::1": "six.example"}
        for address, host in known.items():
            server.knows(address, host, delay=rng.choice([0.0, 0.01]))
        heads = [*known, "192.0.2.1", "2001:db8::2", "192.0.2.2.", "x", "", "1:", "2001:db8::1%eth0", "\xff"]
        lines = [rng.choice(heads) + rng.choice(["", " ", " x", "\t-", ",y\r"]) for _ in range(300)]
        expected = [HEAD.sub(lambda found: known.get(found[0], found[0]), line) for line in lines]
        ending = rng.choice(["", "\n"])
        data = ("\n".join(lines) + ending).encode("latin-1")
        process = subprocess.Popen([*tool(name), "-s", str(server)], **PIPES)
        at = 0
        while at < len(data):
            size = rng.choice([1, 3, 10, 40, 400])
            process.stdin.write(data[at : at + size])
            process.stdin.flush()
            at += size
        out, err = process.communicate(timeout=30)
        assert (out.decode("latin-1"), err) == ("\n".join(expected) + ending, b"")

    def test_files_one_after_another_and_standard_input_among_them(self, lab, resolve, server):
        server.knows("192.0.2.1", "one.example")
        lab.write("a", "192.0.2.1 a\n192.0.2.1 no newline")
        lab.write("b", "192.0.2.1 b\n")
        done = resolve("a", "-", "b", data="192.0.2.1 stdin\n")
        assert done.out == "one.example a\none.example no newlineone.example stdin\none.example b\n"

    def test_order_whatever_the_order_of_answers(self, resolve, server):
        for number in range(50):
            server.knows(f"192.0.2.{number}", f"h{number}.example", delay=0.3 if number % 7 == 0 else 0.0)
        lines = [number * 17 % 50 for number in range(500)]
        done = resolve(data="".join(f"192.0.2.{number} {at}\n" for at, number in enumerate(lines)))
        assert done.out == "".join(f"h{number}.example {at}\n" for at, number in enumerate(lines))

    def test_a_live_pipe_gets_its_lines_as_soon_as_can_be(self, lab, server):
        server.knows("192.0.2.1", "one.example")
        server.knows("192.0.2.2", "two.example", delay=1.0)
        words = [*tool("webresolve"), "-s", str(server)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdin.write(b"192.0.2.1 a\n192.0.2.1 b\n192.0.2.2 c\n192.0.2.1 d\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"one.example a\n"
            assert process.stdout.readline() == b"one.example b\n"
            assert process.stdout.readline() == b"two.example c\n"
            assert process.stdout.readline() == b"one.example d\n"
            process.stdin.close()
        assert process.returncode == 0


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "h-1.under_score.example",
            "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61,
            "localhost",
            "1.example",
        ],
    )
    def test_names_that_are_written(self, resolve, server, name):
        server.knows("192.0.2.1", name)
        assert resolve(data="192.0.2.1 x\n").out == f"{name} x\n"

    @pytest.mark.parametrize(
        "name",
        [
            "bad host.example",
            'quote".example',
            "new\nline.example",
            "nul\0.example",
            "esc\x1b[31m.example",
            "slash/.example",
            "caf\xe9.example",
            "star*.example",
            "[x].example",
            "198.51.100.7",
            "127.1",
            "2130706433",
            "0x7f.1",
            b"\0",  # the root: an empty name
            b"\x07with.do\x07example\0",  # a dot within a label
            wire("a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 62),
        ],
    )
    def test_names_that_are_not(self, resolve, server, name):
        server.knows("192.0.2.1", name)
        done = resolve(data="192.0.2.1 x\n")
        assert done.out == "192.0.2.1 x\n"

    def test_of_several_the_first_in_byte_order_that_is_one(self, resolve, server):
        server.knows("192.0.2.1", "zeta.example", "Beta.example", "alpha.example", "A bad one.example")
        assert resolve(data="192.0.2.1 x\n").out == "Beta.example x\n"

    def test_delegated_reverse_zones(self, resolve, server):
        """RFC 2317: the answer is an alias, and the alias's name."""
        server.zone[reverse("192.0.2.1"), "PTR"] = Reply(
            [("CNAME", "1.0/25.2.0.192.in-addr.arpa"), ("PTR", "one.example")]
        )
        assert resolve(data="192.0.2.1 x\n").out == "one.example x\n"

    @needs("root", "unshare", "mount")
    def test_the_hosts_file_counts_first(self, lab, server):
        server.knows("192.0.2.1", "wrong.example")
        server.knows("192.0.2.2", "two.example")
        under = hosts_file({"one.example alias": "192.0.2.1", "six.example": "2001:db8::1"}, lab.directory)
        done = lab.run_words(
            [*under, *tool("webresolve"), "-s", str(server)],
            stdin=b"192.0.2.1 a\n192.0.2.2 b\n2001:db8:0::1 c\n",
        )
        assert done == (0, "one.example a\ntwo.example b\nsix.example c\n", "")
        assert server.questions() == {reverse("192.0.2.2"): 1}


class TestForwardConfirm:
    def test_a_name_must_lead_back(self, resolve, server):
        for number in range(1, 5):
            server.knows(f"192.0.2.{number}", f"h{number}.example")
        server.zone["h1.example", "A"] = Reply([("A", "192.0.2.1")])
        server.zone["h2.example", "A"] = Reply([("A", "192.0.2.99")])
        server.zone["h3.example", "A"] = Reply([("A", "192.0.2.98"), ("A", "192.0.2.3")])
        done = resolve("-f", data="".join(f"192.0.2.{number} x\n" for number in range(1, 5)))
        assert done.out == "h1.example x\n192.0.2.2 x\nh3.example x\n192.0.2.4 x\n"

    def test_ipv6(self, resolve, server):
        server.knows("2001:db8::1", "six.example")
        server.zone["six.example", "AAAA"] = Reply([("AAAA", "2001:db8::1")])
        assert resolve("-f", data="2001:db8::1 x\n").out == "six.example x\n"
        assert server.questions("AAAA") == {"six.example": 1}

    def test_through_an_alias(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        server.zone["one.example", "A"] = Reply([("CNAME", "real.example"), ("A", "192.0.2.1")])
        assert resolve("-f", data="192.0.2.1 x\n").out == "one.example x\n"

    def test_without_it_nobody_asks(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        resolve(data="192.0.2.1 x\n")
        assert server.questions("A") == {}


class TestServers:
    @pytest.mark.parametrize("rcode", [NXDOMAIN, SERVFAIL, REFUSED])
    def test_no_name(self, resolve, server, rcode):
        server.zone[reverse("192.0.2.1"), "PTR"] = Reply(rcode=rcode)
        assert resolve(data="192.0.2.1 x\n") == (0, "192.0.2.1 x\n", "")
        assert server.questions() == {reverse("192.0.2.1"): 1}

    def test_an_answer_without_records(self, resolve, server):
        server.zone[reverse("192.0.2.1"), "PTR"] = Reply()
        assert resolve(data="192.0.2.1 x\n").out == "192.0.2.1 x\n"

    def test_one_that_is_down_makes_place_for_the_next(self, lab, server):
        server.knows("192.0.2.1", "one.example")
        done = lab.run("webresolve", "-s", lab.refusing(), "-s", server, stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    def test_one_that_is_silent_too(self, lab, server):
        silent = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
        server.knows("192.0.2.1", "one.example")
        done = lab.run("webresolve", "-t", "2", "-s", silent, "-s", server, stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    @pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED])
    def test_one_that_fails_too(self, lab, server, rcode):
        failing = lab.closing(NameServer(lambda name, kind: Reply(rcode=rcode)))
        server.knows("192.0.2.1", "one.example")
        done = lab.run("webresolve", "-s", failing, "-s", server, stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    def test_one_on_ipv6(self, lab):
        server = lab.closing(NameServer(host="::1"))
        server.knows("192.0.2.1", "one.example")
        assert lab.run("webresolve", "-s", server, stdin=b"192.0.2.1 x\n").out == "one.example x\n"

    @needs("root", "unshare", "mount")
    @pytest.mark.parametrize(
        "before", ["", "nameserver fe80::1%none0\nnameserver nowhere.invalid\nnameserver\n"]
    )
    def test_those_of_resolv_conf(self, lab, network, before):
        server = lab.closing(NameServer(host="127.0.0.53", port=53))
        server.knows("192.0.2.1", "one.example")
        conf = lab.write("resolv.conf", f"search example\n{before}nameserver 127.0.0.53\n")
        real = os.path.realpath("/etc/resolv.conf")
        under = ["unshare", "--mount", "sh", "-c", f'mount --bind {conf} {real} && exec "$@"', "sh"]
        done = lab.run_words([*under, *tool("webresolve")], stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    def test_silence_ends_after_the_time_for_a_lookup(self, lab):
        silent = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
        done = lab.run("webresolve", "-t", "0.5", "-s", silent, stdin=b"192.0.2.1 x\n192.0.2.2 y\n")
        assert done == (0, "192.0.2.1 x\n192.0.2.2 y\n", "")

    def test_an_answer_cut_short_is_asked_for_by_tcp(self, resolve, server):
        many = [f"h{number:03}.a-rather-long-name-for-a-host.example" for number in range(100)]
        server.knows("192.0.2.1", *reversed(many), truncated=True)
        assert resolve(data="192.0.2.1 x\n").out == f"{many[0]} x\n"
        assert server.by_tcp == 1

    def test_late_answers_are_waited_for(self, resolve, server):
        server.knows("192.0.2.1", "one.example", delay=1.5)
        assert resolve(data="192.0.2.1 x\n").out == "one.example x\n"
        assert server.questions() == {reverse("192.0.2.1"): 1}

    def test_the_first_copy_may_be_answered_after_the_second_was_sent(self, resolve, server):
        replies = iter([named("one.example", delay=0.7), *[Reply(silent=True)] * 9])
        server.answer = lambda name, kind: next(replies)
        assert resolve("-t", "1", data="192.0.2.1 x\n").out == "one.example x\n"

    def test_a_question_that_got_lost_is_sent_again(self, resolve, server):
        replies = iter([Reply(silent=True), named("one.example")])
        server.answer = lambda name, kind: next(replies)
        assert resolve("-t", "1", data="192.0.2.1 x\n").out == "one.example x\n"
        assert server.questions() == {reverse("192.0.2.1"): 2}

    def test_silence_about_one_address_does_not_make_the_next_server_the_first(self, lab, server):
        """Many reverse zones have no server that works; that is not our name server's fault."""
        server.answer = lambda name, kind: Reply(silent=name.startswith("1."), rcode=NXDOMAIN)
        other = lab.closing(NameServer())
        other.knows("192.0.2.1", "one.example")
        words = [*tool("webresolve"), "-t", "1", "-s", str(server), "-s", str(other)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            # 192.0.2.3 is asked for after the question about 192.0.2.1, and is answered
            process.stdin.write(b"192.0.2.1 a\n192.0.2.3 c\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"one.example a\n"
            assert process.stdout.readline() == b"192.0.2.3 c\n"
            process.stdin.write(b"192.0.2.2 b\n")
            process.stdin.close()
            assert process.stdout.read() == b"192.0.2.2 b\n"
        assert list(other.questions()) == [reverse("192.0.2.1")]

    def test_a_late_failure_does_not_outdo_the_next_servers_name(self, lab, server):
        failing = lab.closing(NameServer(lambda name, kind: Reply(rcode=SERVFAIL, delay=0.9)))
        server.knows("192.0.2.1", "one.example", delay=0.8)
        done = lab.run("webresolve", "-t", "2", "-s", failing, "-s", server, stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    @needs("root")
    def test_one_without_a_way_to_it_makes_place_too(self, lab, network):
        server = lab.closing(NameServer())
        server.knows("192.0.2.1", "one.example")
        for away in ("198.51.100.1", "[2001:db8::53]:53"):
            done = lab.run("webresolve", "-s", away, "-s", server, stdin=b"192.0.2.1 x\n")
            assert done == (0, "one.example x\n", "")
        assert lab.run("webresolve", "-s", "198.51.100.1", stdin=b"192.0.2.1 x\n") == (0, "192.0.2.1 x\n", "")

    def test_one_that_answers_short_and_not_by_tcp_makes_place_too(self, lab, server):
        short = lab.closing(NameServer(lambda name, kind: Reply(truncated=True)))
        short.tcp.shutdown(socket.SHUT_RDWR)
        server.knows("192.0.2.1", "one.example")
        done = lab.run("webresolve", "-s", short, "-s", server, stdin=b"192.0.2.1 x\n")
        assert done == (0, "one.example x\n", "")

    def test_many_answers_cut_short(self, lab):
        server = lab.closing(NameServer(lambda name, kind: named("h.example", truncated=True)))
        data = "".join(f"10.0.{number // 250}.{number % 250} x\n" for number in range(500))
        done = lab.run("webresolve", "-s", server, stdin=data.encode())
        assert done == (0, "h.example x\n" * 500, "")
        assert server.by_tcp == 500

    @pytest.mark.parametrize("limit", ["1", "50000"])
    def test_the_ends_of_n(self, lab, limit):
        server = lab.closing(NameServer(host_of_last_byte))
        data = "".join(f"10.0.0.{number} x\n" for number in range(20))
        done = lab.run("webresolve", "-n", limit, "-s", server, stdin=data.encode())
        assert done == (0, "".join(f"h{number}.example x\n" for number in range(20)), "")

    @pytest.mark.parametrize(
        "change",
        [
            lambda message: b"",
            lambda message: message[:11],
            lambda message: message[:-3],
            lambda message: bytes([message[0] ^ 1]) + message[1:],
            lambda message: message.replace(b"\x01" + b"1" + b"\x01" + b"2", b"\x01" + b"9" + b"\x01" + b"2"),
            lambda message: message[:2] + b"\x01\x00" + message[4:],
            lambda message: message[:6] + b"\xff\xff" + message[8:],
            lambda message: message[:12] + b"\xc0\x0c" + message[14:],
            lambda message: b"\xff" * 600,
        ],
        ids=["empty", "short", "cut", "other id", "other question", "a question", "many", "loop", "noise"],
    )
    def test_what_is_no_answer_to_the_question_is_not_believed(self, resolve, server, change):
        server.knows("192.0.2.1", "forged.example", change=change)
        server.knows("192.0.2.7", "seven.example")
        done = resolve("-t", "0.5", data="192.0.2.1 x\n192.0.2.7 y\n")
        assert done == (0, "192.0.2.1 x\nseven.example y\n", "")

    def test_no_more_in_flight_than_allowed(self, lab):
        server = lab.closing(NameServer(lambda name, kind: named("h.example", delay=0.05)))
        data = "".join(f"10.0.{number // 250}.{number % 250} x\n" for number in range(300))
        done = lab.run("webresolve", "-n", "7", "-s", server, stdin=data.encode())
        assert done.out == "h.example x\n" * 300
        assert 2 <= server.most <= 7


class TestManyAddresses:
    def test_each_is_asked_for_once_and_order_is_kept(self, lab):
        server = lab.closing(NameServer(host_of_last_byte))
        lines = [f"10.1.{number // 250}.{number % 250} {number}\n" for number in range(5000)]
        done = lab.run("webresolve", "-s", server, stdin="".join(lines * 2).encode())
        assert done.out.splitlines() == [f"h{number % 250}.example {number}" for number in range(5000)] * 2
        assert len(server.questions()) == 5000
        assert set(server.questions().values()) == {1}

    def test_at_most_100_000_lines_wait(self, lab):
        """Behind an address that has no answer yet, reading pauses; the rest stays in the pipe."""
        server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
        words = [*tool("webresolve"), "-t", "60", "-s", str(server)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            sent = _feed(process.stdin, b"192.0.2.1 first\n" + b"x\n" * 300_000)
            assert 200_000 < sent < 2 * 100_000 + (1 << 17)
            process.kill()

    def test_reading_pauses_while_nobody_reads_what_is_written(self, lab, server):
        words = [*tool("webresolve"), "-s", str(server)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            sent = _feed(process.stdin, f"192.0.2.1{LINE}".encode() * 100_000)
            assert sent < 2 << 20
            process.kill()

    def test_reading_pauses_while_many_addresses_wait(self, lab):
        server = lab.closing(NameServer(lambda name, kind: Reply(silent=True)))
        words = [*tool("webresolve"), "-t", "60", "-s", str(server)]
        lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(100_000)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            sent = _feed(process.stdin, "".join(lines).encode())
            assert sent < 400_000
            process.kill()

    def test_all_come_after_a_pause(self, lab):
        """More addresses than may wait, the first of them slow."""
        server = lab.closing(
            NameServer(lambda name, kind: named("h.example", delay=0.3 * (name[:2] == "0.")))
        )
        lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(25_000)]
        done = lab.run("webresolve", "-s", server, stdin="".join(lines).encode())
        assert done == (0, "h.example\n" * 25_000, "")

    def test_memory_for_an_address_is_some_hundred_bytes(self, lab):
        """Also where all are new, and each is asked for."""
        server = lab.closing(NameServer(lambda name, kind: named("some-host.of-an.example")))
        peaks = []
        for count in (10, 40_000):
            lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}{LINE}" for n in range(count)]
            lab.write("log", "".join(lines))
            peaks.append(peak_rss([*tool("webresolve"), "-s", str(server), "log"], lab.directory))
        assert peaks[1] < peaks[0] + 40_000 * 700

    def test_memory_does_not_grow_with_the_text(self, lab, server):
        server.knows("192.0.2.1", "one.example")
        peaks = []
        for count in (20_000, 800_000):
            lab.write("log", f"192.0.2.1{LINE}" * count)
            words = [*tool("webresolve"), "-s", str(server), "log"]
            peaks.append(peak_rss(words, lab.directory))
        assert peaks[1] < peaks[0] + (4 << 20)


def _feed(pipe, data: bytes) -> int:
    """Write until nothing has been taken for a second; how much was."""
    os.set_blocking(pipe.fileno(), False)
    sent, moved = 0, time.monotonic()

    def stuck() -> bool:
        nonlocal sent, moved
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += os.write(pipe.fileno(), data[sent : sent + 65536])
                moved = time.monotonic()
        return sent > 65536 and time.monotonic() > moved + 1

    wait_until(stuck, "it takes no more")
    return sent


class TestCache:
    def test_a_second_run_asks_nothing(self, resolve, server, lab):
        server.knows("192.0.2.1", "one.example")
        server.zone[reverse("192.0.2.3"), "PTR"] = Reply(rcode=SERVFAIL)
        data = "192.0.2.1 a\n192.0.2.2 b\n192.0.2.3 c\n2001:db8::1 d\n"
        first = resolve("-c", "cache", data=data)
        asked = dict(server.questions())
        assert first.out == "one.example a\n192.0.2.2 b\n192.0.2.3 c\n2001:db8::1 d\n"
        assert resolve("-c", "cache", data=data) == first
        assert server.questions() == asked

    def test_silence_is_not_kept(self, resolve, server):
        server.zone[reverse("192.0.2.1"), "PTR"] = Reply(silent=True)
        resolve("-c", "cache", "-t", "0.3", data="192.0.2.1 a\n")
        server.knows("192.0.2.1", "one.example")
        assert resolve("-c", "cache", data="192.0.2.1 a\n").out == "one.example a\n"

    def test_names_hold_as_long_as_they_say_and_that_there_is_none_for_900_s(self, resolve, server, lab):
        server.knows("192.0.2.1", "one.example", ttl=77)
        before = int(time.time())
        resolve("-c", "cache", data="192.0.2.1 a\n192.0.2.2 b\n")
        after = int(time.time())
        with contextlib.closing(sqlite3.connect(lab.directory / "cache")) as file:
            rows = dict(file.execute("SELECT hex(address), expires FROM names"))
        for address, seconds in (("C0000201", 77), ("C0000202", 900)):
            assert before + seconds <= rows[address] <= after + seconds

    def test_what_is_over_is_asked_for_again(self, resolve, server, lab):
        server.knows("192.0.2.1", "old.example")
        resolve("-c", "cache", data="192.0.2.1 a\n")
        with contextlib.closing(sqlite3.connect(lab.directory / "cache")) as file:
            file.execute("UPDATE names SET expires = 1")
            file.commit()
        server.knows("192.0.2.1", "new.example")
        assert resolve("-c", "cache", data="192.0.2.1 a\n").out == "new.example a\n"

    def test_what_is_not_to_be_kept_is_not(self, resolve, server):
        server.knows("192.0.2.1", "one.example", ttl=0)
        for _ in range(2):
            assert resolve("-c", "cache", data="192.0.2.1 a\n").out == "one.example a\n"
        assert server.questions() == {reverse("192.0.2.1"): 2}

    @pytest.mark.parametrize("name", [b"bad name", "text.example", b"127.1", b"", 7])
    def test_a_name_that_others_put_there_is_checked_too(self, resolve, server, lab, name):
        server.knows("192.0.2.1", "one.example")
        resolve("-c", "cache", data="192.0.2.1 a\n")
        with contextlib.closing(sqlite3.connect(lab.directory / "cache")) as file:
            file.execute("UPDATE names SET name = ?", (name,))
            file.commit()
        assert resolve("-c", "cache", data="192.0.2.1 a\n").out == "one.example a\n"

    @needs("root", "mount")
    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_full_disk_ends_the_cache_and_not_the_work(self, lab, name):
        server = lab.closing(NameServer(lambda name, kind: named("h.example")))
        (lab.directory / "disk").mkdir()
        lab.mount_tmpfs(lab.directory / "disk", 64)
        lines = [f"10.0.{n >> 8}.{n & 255} x\n" for n in range(12_000)]
        done = lab.run(name, "-s", server, "-c", "disk/cache", stdin="".join(lines).encode())
        assert done == (1, "h.example x\n" * 12_000, f"{name}: cache disk/cache: database or disk is full\n")

    def test_what_was_not_confirmed_does_not_count_as_confirmed(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        resolve("-c", "cache", data="192.0.2.1 a\n")
        assert resolve("-c", "cache", "-f", data="192.0.2.1 a\n").out == "192.0.2.1 a\n"

    def test_several_runs_at_once(self, lab, server):
        server.answer = lambda name, kind: named(name.split(".")[0] + "h.example", delay=0.01)
        data = "".join(f"10.0.{number // 200}.{number % 200} x\n" for number in range(1000)).encode()
        words = [*tool("webresolve"), "-s", str(server), "-c", "cache"]
        runs = [subprocess.Popen(words, cwd=lab.directory, **PIPES) for _ in range(4)]
        for run in runs:
            run.stdin.write(data)
            run.stdin.close()
            run.stdin = None
        ends = [run.communicate(timeout=50) for run in runs]
        assert {(out, err) for out, err in ends} == {(ends[0][0], b"")}
        assert ends[0][0].count(b"h.example x\n") == 1000
        server.asked.clear()
        assert lab.run("webresolve", "-s", server, "-c", "cache", stdin=data).out.encode() == ends[0][0]
        assert not server.asked

    @pytest.mark.parametrize("content", ["no data base, but long enough to be one" * 50, None])
    def test_one_that_is_none(self, lab, resolve, content):
        if content is None:
            (lab.directory / "cache").mkdir()
        else:
            lab.write("cache", content)
        done = resolve("-c", "cache", data="192.0.2.1 a\n", code=1)
        assert done.out == ""
        assert done.err.startswith("webresolve: cache cache: ")
        assert done.err.count("\n") == 1


class TestEndings:
    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_file_that_can_not_be_read_is_passed_over(self, lab, resolve, server, name):
        server.knows("192.0.2.1", "one.example")
        (lab.directory / "directory").mkdir()
        lab.write("log", "192.0.2.1 a\n")
        done = resolve("missing", "log", "directory", "log", name=name, code=1)
        assert done.out == "one.example a\n" * 2
        assert done.err == f"{name}: missing: No such file or directory\n{name}: directory: Is a directory\n"

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_full_disk(self, lab, server, name):
        lab.write("log", "192.0.2.1 a\n" * 10_000)
        words = " ".join([*tool(name), "-s", str(server), "log"])
        done = lab.run_words(["sh", "-c", f"{words} >/dev/full"])
        assert done == (1, "", f"{name}: standard output: No space left on device\n")

    @needs("root", "mount")
    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_disk_that_fills(self, lab, server, name):
        server.knows("192.0.2.1", "one.example")
        lab.write("log", "192.0.2.1 a\n" * 50_000)
        (lab.directory / "disk").mkdir()
        lab.mount_tmpfs(lab.directory / "disk", 64)
        words = " ".join([*tool(name), "-s", str(server), "log"])
        done = lab.run_words(["sh", "-c", f"{words} >disk/out"])
        assert done == (1, "", f"{name}: standard output: No space left on device\n")
        assert (lab.directory / "disk" / "out").stat().st_size == 64 << 10

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_file_that_breaks_off_is_said_and_the_next_one_read(self, lab, resolve, name):
        lab.write("log", "192.0.2.1 a\n")
        done = resolve("/proc/self/mem", "log", name=name, code=1)
        assert (done.out, done.err) == ("192.0.2.1 a\n", f"{name}: /proc/self/mem: Input/output error\n")

    @pytest.mark.parametrize("name", ["webresolve", "splitwr"])
    def test_a_closed_pipe(self, lab, server, name):
        lab.write("log", "192.0.2.1 a\n" * 50_000)
        words = " ".join([*tool(name), "-s", str(server), "log"])
        done = lab.run_words(["bash", "-c", f"{words} | head -n 1; echo ${{PIPESTATUS[0]}}"])
        assert done == (0, "192.0.2.1 a\n141\n", "")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_quietly_and_what_was_found_is_kept(self, lab, number):
        server = lab.closing(NameServer())
        server.knows("192.0.2.1", "one.example")
        server.zone[reverse("192.0.2.2"), "PTR"] = Reply(silent=True)
        words = [*tool("webresolve"), "-s", str(server), "-t", "60", "-c", "cache"]
        run = subprocess.Popen(words, cwd=lab.directory, **PIPES)
        run.stdin.write(b"192.0.2.1 a\n192.0.2.2 b\n")
        run.stdin.flush()
        assert run.stdout.readline() == b"one.example a\n"
        run.send_signal(number)
        out, err = run.communicate(timeout=20)
        assert (run.returncode, out, err) == (128 + number, b"", b"")
        server.asked.clear()
        assert (
            lab.run("webresolve", "-s", server, "-c", "cache", stdin=b"192.0.2.1 a\n").out
            == "one.example a\n"
        )
        assert not server.asked


class TestSummary:
    def test_says_what_was_done(self, resolve, server):
        server.knows("192.0.2.1", "one.example")
        done = resolve("-v", data="192.0.2.1 a\n192.0.2.2 b\n192.0.2.1 c\n")
        assert done.err == (
            "webresolve: 3 lines, 2 addresses, 1 with a name; hosts file 0, cache 0, asked 2, unanswered 0\n"
        )

    def test_counts_what_nobody_answered(self, lab):
        done = lab.run("webresolve", "-v", "-s", lab.refusing(), stdin=b"192.0.2.1 a\n192.0.2.2 b\n")
        assert (done.code, done.out) == (0, "192.0.2.1 a\n192.0.2.2 b\n")
        assert done.err.endswith("asked 2, unanswered 2\n")

    def test_is_silent_without(self, resolve):
        assert resolve(data="192.0.2.2 b\n").err == ""


@needs("nsd")
def test_a_real_name_server(lab):
    """nsd with a reverse zone of IPv4 and one of IPv6."""
    zone = lab.write("zone", _zone("2.0.192.in-addr.arpa", {n: f"host{n}.example" for n in range(1, 255)}))
    six = ".".join(reversed("20010db8" + "0" * 23))
    zone6 = lab.write("zone6", _zone(f"{six}.ip6.arpa", {"1": "six.example"}))
    server = lab.closing(NameServer())  # for its port only
    server.close()
    conf = lab.write(
        "nsd.conf",
        f"""
server:
    ip-address: 127.0.0.1@{server.port}
    username: ""
    chroot: ""
    zonesdir: "{lab.directory}"
    pidfile: "{lab.directory}/nsd.pid"
    database: ""
    xfrdfile: "{lab.directory}/xfrd.state"
    zonelistfile: "{lab.directory}/zone.list"
    xfrdir: "{lab.directory}"
    rrl-ratelimit: 0
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: "2.0.192.in-addr.arpa"
    zonefile: "{zone}"
zone:
    name: "{six}.ip6.arpa"
    zonefile: "{zone6}"
""",
    )
    nsd = lab.spawn(["nsd", "-d", "-c", str(conf)], "nsd")
    wait_until(lambda: not nsd.alive or re.search("nsd started", nsd.err), "nsd runs")
    assert nsd.alive, nsd.err
    data = "".join(f"192.0.2.{n} x\n" for n in range(1, 255)) + "2001:db8::1 y\n192.0.2.0 z\n"
    expected = "".join(f"host{n}.example x\n" for n in range(1, 255)) + "six.example y\n192.0.2.0 z\n"
    for name in ("webresolve", "splitwr"):
        assert lab.run(name, "-s", server, stdin=data.encode()) == (0, expected, "")


def _zone(origin: str, names: dict) -> str:
    lines = [
        f"$ORIGIN {origin}.",
        "$TTL 3600",
        "@ IN SOA ns.example. admin.example. 1 3600 600 86400 60",
        "@ IN NS ns.example.",
    ]
    return "\n".join([*lines, *(f"{label} IN PTR {name}." for label, name in names.items())]) + "\n"
