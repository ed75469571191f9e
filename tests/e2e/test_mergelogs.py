"""mergelogs: one log from files, with the clients that pen saw; complete, in order, and as logged."""

import bz2
import contextlib
import gzip
import lzma
import os
import random
import signal
import subprocess
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import clusterlog
from support.clusterlog import Settings
from support.process import peak_rss
from support.programs import needs, tool
from support.waiting import wait_until

try:
    from compression import zstd
except ImportError:
    from backports import zstd

START = 1_700_000_000  # 14/Nov/2023:22:13:20 UTC
S1, S2, PEN = "10.0.0.11", "10.0.0.12", "192.0.2.1"


def stamp(second: float, zone: str = "+0000") -> str:
    """The time `second` seconds after START, as a server in `zone` logs it."""
    offset = (int(zone[1:3]) * 60 + int(zone[3:])) * 60 * (-1 if zone[0] == "-" else 1)
    seconds = 22 * 3600 + 13 * 60 + 20 + int(second) + offset
    days, rest = divmod(seconds, 86400)
    return f"{14 + days}/Nov/2023:{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02} {zone}"


def line(
    second: float,
    request: str = "GET / HTTP/1.1",
    client: str = PEN,
    *,
    zone: str = "+0000",
    tail: str = " 200 5",
):
    return f'{client} - - [{stamp(second, zone)}] "{request}"{tail}\n'


def agent(name: str) -> str:
    return f' 200 5 "-" "{name}"'


def record(second: int, client: str, server: str = S1, request: str = "GET / HTTP/1.1") -> str:
    return f"{client} {START + second} {server} {request[:100]}\n"


@pytest.fixture
def merge(lab):
    """Write the logs (name=content) and merge them; options are words before the servers."""

    def run(pen_log: str, *words: str, code: int = 0, **logs: str):
        lab.write("pen.log", pen_log)
        for name, content in logs.items():
            lab.write(name, content)
        given = [f"{S1 if name == 'a' else S2}:{name}" for name in logs]
        done = lab.run("mergelogs", "-p", "pen.log", *words, *given)
        assert done.code == code, done
        return done

    return run


def clients(output: str) -> list[str]:
    return [text.split(" ", 1)[0] for text in output.splitlines()]


class TestUsage:
    def test_help(self, lab):
        done = lab.run("mergelogs", "-h")
        assert (done.code, done.err) == (0, "")
        for option in ("-c", "-d", "-j", "-p", "-r", "-t", "-q", "-v", "--keep-zone", "--unmatched-server"):
            assert f"  {option} " in done.out

    def test_version(self, lab):
        assert lab.run("mergelogs", "--version").out.startswith("mergelogs ")

    @pytest.mark.parametrize(
        ("words", "wrong"),
        [
            ([], "option -p is missing"),
            (["10.0.0.1:log"], "option -p is missing"),
            (["-p"], "option -p needs a value"),
            (["-p", "pen.log", "nocolon"], "'nocolon'"),
            (["-p", "pen.log", ":log"], "':log'"),
            (["-p", "pen.log", "10.0.0.1:"], "'10.0.0.1:'"),
            (["-p", "pen.log", "[::1]"], "'[::1]'"),
            (["-p", "pen.log", "[::1]log"], "'[::1]log'"),
            (["-p", "pen.log", "[]:log"], "'[]:log'"),
            (["-p", "pen.log", "-j", "-1", "a:b"], "option -j"),
            (["-p", "pen.log", "-j", "soon", "a:b"], "option -j"),
            (["-p", "pen.log", "-t", "x", "a:b"], "option -t"),
            (["-p", "pen.log", "-t", "-+5", "a:b"], "option -t"),
            (["-p", "-", "a:-"], "standard input"),
            (["-p", "-"], "server:logfile"),
            (["-p", "pen.log", "-z", "a:b"], "-z"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, lab, words, wrong):
        done = lab.run("mergelogs", *words)
        assert (done.code, done.out) == (2, "")
        assert wrong in done.err.splitlines()[0]
        assert done.err.startswith("mergelogs: ")

    def test_options_may_follow_the_logs(self, merge, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        lab.write("a", line(0))
        done = lab.run("mergelogs", f"{S1}:a", "-vp", "pen.log")
        assert clients(done.out) == ["10.1.1.1"]


class TestServers:
    def test_a_name_that_does_not_resolve_is_said(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        lab.write("a", line(0))
        done = lab.run("mergelogs", "-p", "pen.log", "nowhere.invalid:a")
        assert done.code == 0
        assert clients(done.out) == [PEN]
        assert done.err.startswith("mergelogs: nowhere.invalid: ")
        assert done.err.endswith(", and no record names it: its lines keep their clients\n")

    def test_unless_records_name_it_by_that(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1", server="nowhere.invalid"))
        lab.write("a", line(0))
        done = lab.run("mergelogs", "-p", "pen.log", "nowhere.invalid:a")
        assert (clients(done.out), done.err) == (["10.1.1.1"], "")


class TestOneLine:
    def test_gets_the_client_of_its_record(self, merge):
        done = merge(record(0, "10.1.1.1"), a=line(0, tail=' 200 5 "http://x/" "Fox"'))
        assert done == (0, line(0, client="10.1.1.1", tail=' 200 5 "http://x/" "Fox"'), "")

    def test_an_ipv6_client(self, merge):
        assert clients(merge(record(0, "2001:db8::7"), a=line(0)).out) == ["2001:db8::7"]

    def test_without_a_record_keeps_its_client(self, merge):
        assert merge(record(0, "10.1.1.1", request="GET /x HTTP/1.0"), a=line(0)).out == line(0)

    def test_without_a_record_gets_the_server_if_asked_for(self, merge):
        done = merge("", "--unmatched-server", a=line(0), b=line(1))
        assert clients(done.out) == [S1, S2]

    def test_another_servers_record_does_not_count(self, merge):
        assert clients(merge(record(0, "10.1.1.1", S2), a=line(0)).out) == [PEN]

    @pytest.mark.parametrize(("apart", "found"), [(600, True), (-600, True), (601, False), (-601, False)])
    def test_jitter_is_600_s(self, merge, apart, found):
        done = merge(record(1000, "10.1.1.1"), a=line(1000 + apart))
        assert clients(done.out) == ["10.1.1.1" if found else PEN]

    @pytest.mark.parametrize(("apart", "found"), [(0, True), (5, True), (-5, True), (6, False), (-6, False)])
    def test_jitter_can_be_chosen(self, merge, apart, found):
        done = merge(record(1000, "10.1.1.1"), "-j5", a=line(1000 + apart))
        assert clients(done.out) == ["10.1.1.1" if found else PEN]

    def test_without_any_jitter(self, merge):
        done = merge(record(0, "10.1.1.1") + record(1, "10.1.1.2"), "-j", "0", a=line(0) + line(2))
        assert clients(done.out) == ["10.1.1.1", PEN]

    @pytest.mark.parametrize("ahead", [7200, -7200])
    def test_pens_clock_may_be_another(self, merge, ahead):
        done = merge(record(ahead, "10.1.1.1"), "-t", str(ahead), a=line(0))
        assert clients(done.out) == ["10.1.1.1"]
        assert clients(merge(record(ahead, "10.1.1.1"), a=line(0)).out) == [PEN]

    def test_no_index_gives_the_same(self, merge):
        log, lines = record(0, "10.1.1.1") + record(1, "10.1.1.2"), line(0) + line(1)
        assert merge(log, "-c", a=lines) == merge(log, a=lines)


class TestTime:
    @pytest.mark.parametrize("zone", ["+0100", "-0730", "+0000", "-0000", "+1400"])
    def test_is_written_as_utc(self, merge, zone):
        done = merge(record(0, "10.1.1.1"), a=line(0, zone=zone))
        assert done.out == line(0, client="10.1.1.1")

    def test_stays_if_asked_for(self, merge):
        done = merge(record(0, "10.1.1.1"), "--keep-zone", a=line(0, zone="+0100"))
        assert done.out == line(0, client="10.1.1.1", zone="+0100")

    def test_tz_changes_nothing(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        lab.write("a", line(0, zone="+0200"))
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a", env={**os.environ, "TZ": "Asia/Tokyo"})
        assert done.out == line(0, client="10.1.1.1")

    def test_a_time_in_another_field_is_left_alone(self, merge):
        here, utc = stamp(0, "+0100"), stamp(0)
        text = f'{PEN} - [{here}x] [{here}] "GET / HTTP/1.1" 200 [{here}]\n'
        expected = f'{PEN} - [{here}x] [{utc}] "GET / HTTP/1.1" 200 [{here}]\n'
        assert merge("", a=text).out == expected


class TestOrder:
    def test_by_time_over_all_servers(self, merge):
        done = merge("", a=line(0) + line(4), b=line(2) + line(3) + line(9))
        assert done.out == "".join(map(line, (0, 2, 3, 4, 9)))

    def test_by_time_whatever_the_zone(self, merge):
        done = merge("", "--keep-zone", a=line(1, zone="+0500"), b=line(0, zone="-0500"))
        assert done.out == line(0, zone="-0500") + line(1, zone="+0500")

    def test_equal_times_keep_the_order_of_the_input(self, merge):
        a = [line(0, f"GET /a{n} HTTP/1.1") for n in range(5)]
        b = [line(0, f"GET /b{n} HTTP/1.1") for n in range(5)]
        assert merge("", a="".join(a), b="".join(b)).out == "".join(a + b)

    def test_lines_out_of_order_within_the_jitter_are_put_in_order(self, merge):
        seconds = list(range(0, 3000, 3))
        shuffled = sorted(seconds, key=lambda second: second + random.Random(second).random() * 300)
        assert shuffled != seconds
        done = merge("", a="".join(map(line, shuffled)))
        assert done == (0, "".join(map(line, seconds)), "")

    def test_a_line_later_than_that_comes_out_and_is_counted(self, merge):
        done = merge(record(0, "10.1.1.1"), a=line(1000) + line(2000) + line(0) + line(2001))
        assert [done.out.count(line(second)) for second in (1000, 2000, 2001)] == [1, 1, 1]
        assert line(0, client="10.1.1.1") in done.out
        assert "1 line" in done.err
        assert "600 s" in done.err

    def test_one_time_from_the_future_holds_nothing_up(self, merge):
        """A clock that was wrong for one line."""
        future = line(0).replace("2023", "2093")
        pen_log = "".join(record(second, f"10.1.1.{second % 200}") for second in range(0, 9000, 9))
        lines = "".join(map(line, range(0, 9000, 9)))
        done = merge(pen_log, a=future + lines, b=lines)
        assert done.out.count("\n") == 2001
        assert done.out.count(".1.1.") == 1000


class TestAttribution:
    def test_two_clients_who_ask_the_same_in_the_same_second_each_get_their_line(self, merge):
        done = merge(record(0, "10.1.1.1") + record(0, "10.1.1.2"), a=line(0) + line(0))
        assert sorted(clients(done.out)) == ["10.1.1.1", "10.1.1.2"]

    def test_the_nearer_record_is_taken_whatever_comes_first(self, merge):
        done = merge(record(0, "10.1.1.1") + record(60, "10.1.1.2"), a=line(60))
        assert clients(done.out) == ["10.1.1.2"]

    def test_user_agents_decide_between_records_of_one_second(self, merge):
        pen_log = record(0, "10.1.1.1", request="GET /one HTTP/1.1") + record(
            0, "10.1.1.2", request="GET /two HTTP/1.1"
        )
        lines = line(0, "GET /one HTTP/1.1", tail=agent("Fox")) + line(
            0, "GET /two HTTP/1.1", tail=agent("Cat")
        )
        pen_log += record(10, "10.1.1.1") + record(10, "10.1.1.2")
        lines += line(10, tail=agent("Cat")) + line(10, tail=agent("Fox"))
        assert clients(merge(pen_log, a=lines).out) == ["10.1.1.1", "10.1.1.2", "10.1.1.2", "10.1.1.1"]

    def test_what_later_lines_teach_counts_too(self, merge):
        pen_log = record(0, "10.1.1.1") + record(0, "10.1.1.2")
        pen_log += record(9, "10.1.1.2", request="GET /two HTTP/1.1")
        lines = line(0, tail=agent("Cat")) + line(0, tail=agent("Fox"))
        lines += line(9, "GET /two HTTP/1.1", tail=agent("Cat"))
        assert clients(merge(pen_log, a=lines).out) == ["10.1.1.2", "10.1.1.1", "10.1.1.2"]

    def test_an_aborted_request_shifts_nothing(self, merge):
        """The record of a request that was never logged is nobody's."""
        pen_log = "".join(record(10 * n, f"10.1.1.{n}") for n in range(20))
        lines = "".join(line(10 * n) for n in range(20) if n != 7)
        done = merge(pen_log, a=lines)
        assert clients(done.out) == [f"10.1.1.{n}" for n in range(20) if n != 7]

    def test_where_all_ask_for_the_same_the_order_tells(self, merge):
        """Seconds in which many came are no sign of a clock that is off."""
        rng = random.Random(1)
        seconds = sorted(rng.randrange(600) for _ in range(3000))
        asked = [f"10.1.{n >> 8}.{n & 255}" for n in range(len(seconds))]
        pen_log = "".join(record(second, client) for second, client in zip(seconds, asked, strict=True))
        assert clients(merge(pen_log, a="".join(map(line, seconds))).out) == asked

    @needs("prlimit")
    def test_where_thousands_ask_for_the_same_at_once_memory_is_bounded(self, lab):
        seconds = sorted(n % 3 for n in range(9000))
        lab.write("pen.log", "".join(record(second, f"10.1.1.{second}") for second in seconds))
        lab.write("a", "".join(map(line, seconds)))
        typed = ["prlimit", "--as=400000000", *lab.tool("mergelogs"), "-p", "pen.log", f"{S1}:a"]
        done = lab.run_words(typed)
        assert done.code == 0, done
        assert clients(done.out) == [f"10.1.1.{second}" for second in seconds]

    def test_a_second_line_within_2_s_takes_a_used_record(self, merge):
        assert clients(merge(record(0, "10.1.1.1"), a=line(0) + line(1)).out) == ["10.1.1.1"] * 2

    def test_a_second_line_later_than_that_does_not(self, merge):
        assert clients(merge(record(0, "10.1.1.1"), a=line(0) + line(30)).out) == ["10.1.1.1", PEN]

    @pytest.mark.parametrize("off", [3, -3, 90, -90, 400])
    def test_a_servers_clock_that_is_off_is_allowed_for(self, merge, off):
        """Lines of one request every 20 s: nearest in time would be another client's."""
        pen_log = "".join(record(20 * n, f"10.1.1.{n}") for n in range(60))
        pen_log += "".join(record(20 * n + 7, f"10.1.2.{n}", request=f"GET /{n} HTTP/1.1") for n in range(60))
        lines = [(20 * n, "GET / HTTP/1.1") for n in range(60)]
        lines += [(20 * n + 7, f"GET /{n} HTTP/1.1") for n in range(60)]
        done = merge(pen_log, a="".join(line(at + off, what) for at, what in sorted(lines)))
        expected = [f"10.1.{1 + k}.{n}" for n in range(60) for k in (0, 1)]
        assert clients(done.out) == expected
        assert done.out.startswith(line(off, client="10.1.1.0"))

    def test_direct_hits_keep_their_client(self, merge):
        pen_log = "".join(record(10 * n, f"10.1.1.{n}") for n in range(100))
        lines = [line(10 * n, client="198.51.100.9" if n % 10 == 3 else PEN) for n in range(100)]
        pen_log += record(995, "10.1.9.9")  # never logged, so free to be taken
        done = merge(
            "".join(text for text in pen_log.splitlines(True) if "1.1.3 " not in text), a="".join(lines)
        )
        assert clients(done.out)[3] == "198.51.100.9"

    def test_long_requests_are_compared_as_far_as_pen_keeps_them(self, merge):
        request = "GET /" + "x" * 150 + " HTTP/1.1"
        assert clients(merge(record(0, "10.1.1.1", request=request), a=line(0, request)).out) == ["10.1.1.1"]

    def test_a_short_record_must_match_whole(self, merge):
        done = merge(record(0, "10.1.1.1", request="GET /x"), a=line(0, "GET /xyz HTTP/1.1"))
        assert clients(done.out) == [PEN]

    @pytest.mark.parametrize(
        ("recorded", "logged"),
        [
            ('GET /?q="x" HTTP/1.1', r"GET /?q=\"x\" HTTP/1.1"),
            ("GET /a\\b HTTP/1.1", r"GET /a\\b HTTP/1.1"),
            ("GET /a.b HTTP/1.1", r"GET /a\tb HTTP/1.1"),
            ("GET /.. HTTP/1.1", r"GET /\xc3\xa4 HTTP/1.1"),
            ("GET /..", "GET /\u00e4"),
            ("GET /a", r"GET /a\r\nHost: b"),
        ],
    )
    def test_requests_are_compared_in_one_form(self, merge, recorded, logged):
        done = merge(record(0, "10.1.1.1", request=recorded), a=line(0, logged))
        assert done.out == line(0, logged, client="10.1.1.1")

    def test_records_of_the_original_with_raw_control_characters(self, merge):
        done = merge(record(0, "10.1.1.1", request="GET /a\tb HTTP/1.1"), a=line(0, r"GET /a\tb HTTP/1.1"))
        assert clients(done.out) == ["10.1.1.1"]

    def test_two_pens(self, lab, merge):
        lab.write("pen2.log", record(1, "10.1.1.2") + record(5, "10.1.1.3"))
        done = merge(record(0, "10.1.1.1"), "-p", "pen2.log", a=line(0) + line(1) + line(5))
        assert clients(done.out) == ["10.1.1.1", "10.1.1.2", "10.1.1.3"]


class TestBytes:
    def test_any_bytes_after_the_client_stay(self, lab):
        tail = bytes(range(256)).replace(b"\n", b"") * 3
        lab.write("pen.log", record(0, "10.1.1.1"))
        text = line(0, tail="").encode()[:-1] + tail
        (lab.directory / "a").write_bytes(text + b"\r\n" + text)
        done = subprocess.run(
            [*tool("mergelogs"), "-p", "pen.log", f"{S1}:a"],
            cwd=lab.directory,
            capture_output=True,
            check=True,
        )
        expected = text.replace(PEN.encode(), b"10.1.1.1", 1)
        assert done.stdout == expected + b"\r\n" + expected + b"\n"

    def test_a_line_of_a_megabyte(self, merge):
        tail = " 200 5 " + "x" * (1 << 20)
        assert merge(record(0, "10.1.1.1"), a=line(0, tail=tail)).out == line(0, client="10.1.1.1", tail=tail)

    def test_empty_logs(self, merge):
        assert merge("", a="") == (0, "", "")

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2000), st.binary(max_size=40)), max_size=30)
    )
    def test_what_goes_in_comes_out(self, lab, drawn):
        logs = {"a": b"", "b": b""}
        for number, (where, second, raw) in enumerate(drawn):
            raw = raw.replace(b"\n", b"")
            logs[where] += line(second, tail=f" {number} ").encode()[:-1] + raw + b"\n"
        for name, content in logs.items():
            (lab.directory / name).write_bytes(content)
        lab.write("pen.log", record(5, "10.1.1.1"))
        done = subprocess.run(
            [*tool("mergelogs"), "-p", "pen.log", f"{S1}:a", f"{S2}:b"],
            cwd=lab.directory,
            capture_output=True,
            check=True,
        )
        came = sorted(text.split(b" ", 1)[1] for text in done.stdout.split(b"\n") if text)
        went = sorted(text.split(b" ", 1)[1] for log in logs.values() for text in log.split(b"\n") if text)
        assert done.stdout.count(b"\n") == len(drawn)
        assert came == went


class TestWhatCanNotBeParsed:
    GARBAGE = (
        "",
        "garbage\n",
        "\n",
        f'{PEN} - - [99/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5\n',
        "x - - [\n",
    )

    def test_is_counted(self, merge):
        done = merge(record(0, "10.1.1.1"), a="".join(self.GARBAGE) + line(0))
        assert clients(done.out) == ["10.1.1.1"]
        assert done.err.count("\n") == 1
        assert "4 lines" in done.err

    def test_goes_to_a_file_as_it_is(self, merge, lab):
        done = merge(record(0, "10.1.1.1"), "-r", "rejects", a="".join(self.GARBAGE) + line(0))
        assert clients(done.out) == ["10.1.1.1"]
        assert done.err == ""
        assert (lab.directory / "rejects").read_text() == "".join(self.GARBAGE)

    def test_the_file_must_be_writable(self, merge):
        done = merge("", "-r", "nosuch/rejects", a=line(0), code=1)
        assert done.out == ""
        assert done.err == "mergelogs: nosuch/rejects: No such file or directory\n"

    def test_a_full_disk_for_them_ends_the_work(self, merge):
        done = merge(record(0, "10.1.1.1"), "-r", "/dev/full", a="garbage\n" * 100_000, b=line(0), code=1)
        assert done.err == "mergelogs: /dev/full: No space left on device\n"

    def test_in_pens_log_is_counted_too(self, merge):
        done = merge("garbage\n" + record(0, "10.1.1.1") + "a b c\n", a=line(0))
        assert clients(done.out) == ["10.1.1.1"]
        assert done.err == "mergelogs: pen.log: 2 lines are no records\n"

    def test_random_bytes_everywhere(self, lab):
        noise = random.Random(1).randbytes(300_000)
        for name in ("pen.log", "a"):
            (lab.directory / name).write_bytes(noise)
        done = lab.run("mergelogs", "-p", "pen.log", "-r", "rejects", f"{S1}:a")
        assert (done.code, done.out) == (0, "")
        assert (lab.directory / "rejects").read_bytes() == noise + b"\n"


class TestInputs:
    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
    def test_compressed_whatever_the_name(self, lab, pack):
        (lab.directory / "pen.log").write_bytes(pack(record(0, "10.1.1.1").encode()))
        (lab.directory / "a").write_bytes(pack(line(0).encode()) + pack(line(1).encode()))
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a")
        assert done == (0, line(0, client="10.1.1.1") + line(1, client="10.1.1.1"), "")

    def test_standard_input(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:-", stdin=line(0).encode())
        assert clients(done.out) == ["10.1.1.1"]

    def test_pens_log_from_standard_input_compressed(self, lab):
        lab.write("a", line(0))
        packed = gzip.compress(record(0, "10.1.1.1").encode())
        assert clients(lab.run("mergelogs", "-p", "-", f"{S1}:a", stdin=packed).out) == ["10.1.1.1"]

    def test_a_damaged_log_is_said_and_the_rest_is_merged(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        lab.write("a", line(0))
        packed = gzip.compress("".join(map(line, range(5000))).encode())
        (lab.directory / "b").write_bytes(packed[: len(packed) // 2])
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a", f"{S2}:b")
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert done.err.startswith("mergelogs: b: ")
        assert line(0, client="10.1.1.1") in done.out
        assert done.out.count("\n") > 100

    @pytest.mark.parametrize("cut", [b"\x0b\x17", b""])
    def test_what_comes_before_the_damage_counts(self, lab, cut):
        for name, text in (("pen.log", record(0, "10.1.1.1") + "10.1.1.2"), ("a", line(0) + PEN)):
            packer = zlib.compressobj(wbits=31)
            packed = packer.compress(text.encode()) + packer.flush(zlib.Z_SYNC_FLUSH) + cut
            (lab.directory / name).write_bytes(packed)
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a")
        assert done.out == line(0, client="10.1.1.1")
        assert (done.code, done.err.count("\n")) == (1, 2)

    @pytest.mark.parametrize("which", ["pen.log", "a"])
    def test_a_missing_log_writes_nothing(self, lab, which):
        for name, content in (("pen.log", record(0, "10.1.1.1")), ("a", line(0))):
            if name != which:
                lab.write(name, content)
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a")
        assert done == (1, "", f"mergelogs: {which}: No such file or directory\n")

    def test_a_directory(self, lab):
        lab.write("pen.log", "")
        (lab.directory / "a").mkdir()
        assert lab.run("mergelogs", "-p", "pen.log", f"{S1}:a") == (1, "", "mergelogs: a: Is a directory\n")

    def test_several_logs_of_one_server(self, lab):
        lab.write("pen.log", "".join(record(n, f"10.1.1.{n}") for n in range(10)))
        lab.write("a.1", "".join(map(line, range(5))))
        lab.write("a", "".join(map(line, range(5, 10))))
        done = lab.run("mergelogs", "-p", "pen.log", f"{S1}:a.1", f"{S1}:a")
        assert clients(done.out) == [f"10.1.1.{n}" for n in range(10)]

    @pytest.mark.parametrize(
        ("word", "server"),
        [
            ("[2001:db8::1]:a:b", "2001:db8::1"),
            ("[2001:db8:0::1]:a:b", "2001:db8::1"),
            ("[::ffff:10.0.0.11]:a:b", S1),
            ("/run/web.sock:a:b", "/run/web.sock"),
            ("localhost:a:b", "127.0.0.1"),
        ],
    )
    def test_names_of_servers(self, lab, word, server):
        lab.write("pen.log", record(0, "10.1.1.1", server))
        lab.write("a:b", line(0))
        assert clients(lab.run("mergelogs", "-p", "pen.log", word).out) == ["10.1.1.1"]


class TestDiscovery:
    FORMS = ("access_log.{}", "access_log-{}", "{}.log", "access_log.{}.gz")

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("beside", ["", "logs/"])
    def test_logs_beside_pens(self, lab, form, beside):
        (lab.directory / "logs").mkdir()
        lab.write(f"{beside}pen.log", record(0, "10.1.1.1") + record(1, "10.1.1.2", S2))
        for server, second in ((S1, 0), (S2, 1)):
            lab.write(beside + form.format(server), line(second))
        done = lab.run("mergelogs", "-p", f"{beside}pen.log")
        assert (done.code, clients(done.out)) == (0, ["10.1.1.1", "10.1.1.2"])

    @pytest.mark.parametrize("form", FORMS)
    def test_by_host_name(self, lab, form):
        lab.write("pen.log", record(0, "10.1.1.1", "127.0.0.1"))
        lab.write(form.format("localhost"), line(0))
        assert clients(lab.run("mergelogs", "-p", "pen.log").out) == ["10.1.1.1"]

    def test_none_found(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1"))
        done = lab.run("mergelogs", "-p", "pen.log")
        assert (done.code, done.out) == (1, "")
        for name in (f"access_log.{S1}", f"access_log-{S1}", f"{S1}.log"):
            assert name in done.err

    def test_one_of_two_found(self, lab):
        lab.write("pen.log", record(0, "10.1.1.1") + record(0, "10.1.1.2", S2))
        lab.write(f"{S2}.log", line(0))
        done = lab.run("mergelogs", "-p", "pen.log")
        assert (done.code, clients(done.out)) == (1, ["10.1.1.2"])
        assert f"access_log.{S1}" in done.err

    def test_an_empty_pen_log(self, lab):
        lab.write("pen.log", "")
        done = lab.run("mergelogs", "-p", "pen.log")
        assert (done.code, done.out) == (1, "")
        assert done.err.count("\n") == 1


class TestEndings:
    @pytest.fixture
    def logs(self, lab):
        lab.write("pen.log", "".join(record(n, "10.1.1.1") for n in range(20000)))
        lab.write("a", "".join(map(line, range(20000))))
        return lab

    def test_a_full_disk(self, logs):
        done = logs.run_words(["sh", "-c", " ".join([*tool("mergelogs"), f"-p pen.log {S1}:a >/dev/full"])])
        assert done == (1, "", "mergelogs: standard output: No space left on device\n")

    def test_a_closed_pipe(self, logs):
        done = logs.run_words(
            [
                "bash",
                "-c",
                " ".join([*tool("mergelogs"), f"-p pen.log {S1}:a"]) + " | head -n 1; echo ${PIPESTATUS[0]}",
            ]
        )
        assert (done.out, done.err) == (line(0, client="10.1.1.1") + "141\n", "")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal(self, lab, number):
        lab.write("pen.log", "")
        read, write = os.pipe()
        process = subprocess.Popen(
            [*tool("mergelogs"), "-p", "pen.log", f"{S1}:-"],
            cwd=lab.directory,
            stdin=read,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(read)
        try:
            os.write(write, line(0).encode())
            wait_until(lambda: _reads(process.pid), "mergelogs reads its input")
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            os.close(write)
        assert (process.returncode, out, err) == (128 + number, b"", b"")


def _reads(pid: int) -> bool:
    """Whether it waits in read(2) of its standard input."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/syscall") as file:
        return file.read().startswith("0 0x0 ")
    return False


class TestSummary:
    def test_of_each_server(self, merge):
        pen_log = (
            "".join(record(10 * n, f"10.1.1.{n}") for n in range(30))
            + record(305, "10.1.1.1")
            + record(305, "10.1.1.2")
        )
        lines = "".join(line(10 * n + 2) for n in range(30)) + line(307) + line(307)
        lines += line(999, "GET /direct HTTP/1.1", "198.51.100.9") + line(999, "GET /lost HTTP/1.1")
        done = merge(pen_log, "-v", a=lines, b="")
        assert (
            f"mergelogs: {S1}: 34 lines, 30 sure, 2 guessed, 1 unmatched, 1 direct, clock +2.0 s\n"
            in done.err
        )
        assert f"{S2}: 0 lines" in done.err

    def test_debug_says_how_each_client_was_found(self, merge):
        done = merge(record(0, "10.1.1.1"), "-d", a=line(0) + line(50, "GET /x HTTP/1.1"))
        assert "unmatched" in done.err
        assert "sure" not in done.err
        assert "sure" in merge(record(0, "10.1.1.1"), "-dd", a=line(0)).err

    def test_no_progress_line_unless_on_a_terminal(self, merge):
        assert merge(record(0, "10.1.1.1"), a=line(0)).err == ""


CLUSTERS = {
    "combined": (Settings(requests=20_000), 99.7),
    "busy": (Settings(requests=20_000, rate=500.0), 98.5),
    "common": (Settings(requests=20_000, combined=False), 96.0),
    "seconds off": (Settings(requests=20_000, offsets=(3.0, -2.4, 1.3, -0.5)), 98.0),
    "minutes off": (Settings(requests=20_000, offsets=(90.0, -80.3, 45.5, -20.7)), 97.0),
    "stamped at the end": (Settings(requests=20_000, stamped_at_end=True), 99.5),
}


class TestCluster:
    """Simulated clusters whose truth is known."""

    @pytest.mark.parametrize("name", CLUSTERS)
    def test_each_line_once_unaltered_in_order_and_with_its_client(self, lab, name):
        cluster, enough = CLUSTERS[name]
        made = clusterlog.requests(cluster)
        write_cluster(lab, cluster, made)
        done = lab.run("mergelogs", "-p", "pen.log")
        assert (done.code, done.err) == (0, "")
        lines = done.out.encode().splitlines(keepends=True)
        logged = {request.number: request for request in made if request.line}
        assert sorted(map(clusterlog.number_of, lines)) == sorted(logged)
        times = [text.split(b"[")[1][12:20] for text in lines]
        assert times == sorted(times)
        right = 0
        for text in lines:
            request = logged[clusterlog.number_of(text)]
            client, rest = text.split(b" ", 1)
            assert rest == request.line.split(b" ", 1)[1]
            right += client == request.client
            assert request.recorded or client == request.client
        assert right >= enough / 100 * len(lines)

    def test_memory_does_not_grow_with_the_logs(self, lab):
        peaks = []
        for requests in (20_000, 120_000):
            cluster = Settings(requests=requests, urls=500)
            write_cluster(lab, cluster, clusterlog.requests(cluster))
            peaks.append(peak_rss([*tool("mergelogs"), "-j", "60", "-p", "pen.log"], lab.directory))
        assert peaks[1] < peaks[0] + (4 << 20)


def write_cluster(lab, cluster: Settings, made: list[clusterlog.Request]) -> None:
    (lab.directory / "pen.log").write_bytes(b"".join(clusterlog.pen_log(made)))
    for number in range(cluster.servers):
        server = clusterlog.server_address(number)
        path = lab.directory / f"access_log.{server.decode()}"
        path.write_bytes(b"".join(clusterlog.access_log(made, server)))
