"""The benchmark's own arithmetic: ratios, their file, what is met, the report, the chart, what peers said."""

import signal
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.programs import needs

from bench import balancing, crowd, idle, loghost, merging, report, resolving, rounds, slowdns, starting
from bench.__main__ import chosen
from bench.chart import Axis, chart
from bench.lab import Lab, Scale
from bench.nsd import answered
from bench.process import end_all, started, undisturbed
from bench.report import CHARTS, table
from bench.results import Measured, Results, Series, digits
from bench.sample import Entrant, Sample, Work
from bench.targets import TARGETS, judged, limit_of
from bench.web import Load, checked
from penlib.errors import PenError

SVG = "{http://www.w3.org/2000/svg}"


def samples(*costs: float, units: float = 100.0, **more: float) -> list[Sample]:
    """Measurements with these CPU seconds per unit."""
    return [Sample(units, cost * units, 2.0, **more) for cost in costs]


def measured(name: str, group: str, quantity: str = "cpu", **series: Series) -> Measured:
    """A work; underscores in names of programs stand for spaces, two of them for a dot."""
    named = {peer.replace("__", ".").replace("_", " "): one for peer, one in series.items()}
    return Measured(name, f"the work {name}", "thing", group, quantity, "one day, 7 rounds", named)


KEEPALIVE = measured(
    "keepalive",
    "TCP",
    pen=Series("", samples(2.0, 3.0, 4.0)),
    pen_0__34__1=Series("", samples(2.0, 2.0, 2.0)),
    haproxy=Series("", samples(4.0, 4.0, 4.0)),
)
PENLOGD = measured(
    "penlogd-40k-1000",
    "penlogd",
    pen=Series("", samples(9e-6, 9e-6)),
    penlogd_0__34__1=Series("", samples(3e-6, 3e-6, units=50, lost=50)),
)._replace(title="40,000 datagrams/s, -n 1000")
RESOLVED = measured(
    "webresolve-100k-20",
    "webresolve",
    "wall",
    pen=Series("", samples(1.0, 1.0, units=1000, memory=5e7)),
    adnslogres=Series("10 addresses", samples(1.0, units=10)),
)
RESULTS = Results([KEEPALIVE, PENLOGD, RESOLVED], ["pen: 1.0.0"])


class TestResults:
    def test_a_ratio_is_of_rounds_and_the_median_of_them(self):
        assert KEEPALIVE.ratio("pen 0.34.1") == (1.5, 1.25, 1.75)
        assert KEEPALIVE.ratio("haproxy") == (0.75, 0.625, 0.875)

    def test_a_single_sample_is_compared_to_each_round(self):
        assert RESOLVED.ratio("adnslogres") == (0.01, 0.01, 0.01)

    def test_units_do_not_matter_only_costs_per_unit(self):
        one = measured("x", "TCP", pen=Series("", samples(3.0, units=7)), haproxy=Series("", samples(2.0)))
        assert one.ratio("haproxy").median == pytest.approx(1.5)

    def test_what_was_lost_is_a_share_of_all(self):
        assert PENLOGD.series["penlogd 0.34.1"].lost() == 0.5
        assert PENLOGD.own.lost() == 0

    def test_written_and_read_again_they_are_the_same(self, tmp_path: Path):
        RESULTS.write(tmp_path / "kept")
        again = Results.read(tmp_path / "kept")
        assert report.report(again) == report.report(RESULTS)
        assert again.works["keepalive"].own.samples == KEEPALIVE.own.samples

    def test_no_file_no_results(self, tmp_path: Path):
        assert Results.read(tmp_path / "none").works == {}

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"programs": [], "works": [{"name": "x"}]}'])
    def test_another_file_is_refused(self, tmp_path: Path, text: str):
        (tmp_path / "other").write_text(text)
        with pytest.raises(PenError, match="not the results of a benchmark"):
            Results.read(tmp_path / "other")

    def test_pieces_come_into_one_order(self):
        results = Results([RESOLVED, KEEPALIVE, PENLOGD])
        results.arrange(["keepalive", "connections", "penlogd-40k-1000"])
        assert list(results.works) == ["keepalive", "penlogd-40k-1000"]

    def test_digits(self):
        assert list(map(digits, (0.0123, 0.5, 1.234, 25.4))) == ["0.012", "0.50", "1.23", "25"]


class TestRounds:
    def test_all_in_turn_each_round_beginning_with_another_one(self):
        done: list[str] = []

        def entrant(name: str, sample: str = "") -> Entrant:
            return Entrant(name, lambda: (done.append(name), Sample(1, 1, 1))[1], sample)

        work = Work("w", "work", "unit", "TCP", [entrant("a"), entrant("b"), entrant("c", "a little")])
        told: list[str] = []
        found = rounds.run(work, 3, "today", told.append)
        assert "".join(done) == "abc" + "ba" + "ab"
        assert [len(series.samples) for series in found.series.values()] == [3, 3, 1]
        assert len(told) == 3

    def test_a_work_may_want_fewer(self):
        work = Work("w", "work", "unit", "TCP", [Entrant("a", lambda: Sample(1, 1, 1))], most_rounds=2)
        assert rounds.run(work, 7, "today", lambda _: None).rounds == 2

    def test_a_failure_says_whose_it_is(self):
        def fail() -> Sample:
            raise PenError("wrong answer")

        work = Work("w", "work", "unit", "TCP", [Entrant("a", fail)])
        with pytest.raises(PenError, match="work, a: wrong answer"):
            rounds.run(work, 1, "today", lambda _: None)

    def test_a_peer_that_does_it_wrong_is_measured_again_but_pen_is_not(self):
        told: list[str] = []
        wrong = [PenError("a wrong answer")] * 2

        def measure() -> Sample:
            if wrong:
                raise wrong.pop()
            return Sample(1, 1, 1)

        entrants = [Entrant("pen", lambda: Sample(1, 1, 1)), Entrant("other", measure)]
        rounds.run(Work("w", "work", "unit", "TCP", entrants), 1, "today", told.append)
        assert told[:2] == ["work, other: a wrong answer; measured again"] * 2
        wrong.append(PenError("a wrong answer"))
        with pytest.raises(PenError, match="work, pen: a wrong answer"):
            rounds.run(Work("w", "work", "unit", "TCP", [Entrant("pen", measure)]), 1, "today", told.append)


class TestTargets:
    def test_met_and_not_met(self):
        rows = {(row.work, row.peer, row.target): (row.measured, row.met) for row in judged(RESULTS)}
        work = "the work keepalive"
        assert rows[work, "pen 0.34.1", "≤ 1.20"] == ("1.50", False)
        assert rows[work, "haproxy", "≤ 1.10"] == ("0.75", True)
        work = "penlogd: 40,000 datagrams/s, -n 1000"
        assert rows[work, "", "≤ 10.0 µs of CPU time"] == ("9.0 µs of CPU time", True)
        assert rows[work, "", "≤ 0 % lost"] == ("0 % lost", True)
        work = "webresolve: the work webresolve-100k-20"
        assert rows[work, "adnslogres", "≥ 10.0 times"] == ("100.0 times", True)
        assert rows[work, "", "≤ 100 MB"] == ("50 MB", True)
        assert len(rows) == 7

    def test_as_a_ratio_for_the_chart(self):
        assert limit_of("keepalive", "haproxy") == 1.1
        assert limit_of("webresolve-100k-20", "adnslogres") == 0.1
        assert limit_of("webresolve-100k-20", "logresolve") is None

    @needs("nginx", "wrk", "nsd", "dnsperf", "openssl")
    def test_each_is_of_a_work_and_a_peer_that_there_are(self):
        kinds = (balancing, idle, crowd, merging, loghost, resolving, starting)
        with Lab(Scale(), []) as lab:
            works = {work.name: work for kind in kinds for work in kind.works(lab)}
        entrants = {name: [entrant.name for entrant in work.entrants] for name, work in works.items()}
        here = {name for names in entrants.values() for name in names}
        for target in TARGETS:
            assert target.work in works
            assert target.peer in (*entrants[target.work], "") or target.peer not in here
        groups = {group for _, shown in CHARTS.values() for group in shown}
        assert {work.group for work in works.values()} == groups


class TestReport:
    def test_each_group_has_a_table_of_ratios(self):
        text = report.report(RESULTS)
        assert "### TCP: CPU time\n\n| work | pen 0.34.1 | haproxy |" in text
        assert "| the work keepalive | 1.50 (1.25-1.75) | 0.75 (0.62-0.88) |" in text
        assert "### webresolve: time on the wall" in text
        assert r"| 0.010 (0.010-0.010) \* 10 addresses |" in text

    def test_costs_rates_and_losses(self):
        text = report.report(RESULTS)
        assert "| the work keepalive | haproxy | 4,000,000.0 µs per thing |  | 50 |  |" in text
        assert "| penlogd 0.34.1 | 3.0 µs per thing |  | 25 | 50 % |" in text

    def test_the_highest_rate_without_loss(self):
        text = report.report(RESULTS)
        assert "- penlogd 0.34.1, -n 1000: none of these\n" in text
        assert "- pen, -n 1000: 50 datagrams/s\n" in text

    def test_targets_are_counted(self):
        assert "6 of 7 are met." in report.report(RESULTS)
        assert "| ≤ 1.20 | 1.50 | **no** |" in report.report(RESULTS)

    def test_circumstances_of_pieces(self):
        other = RESOLVED._replace(circumstances="another day")
        assert report.circumstances(RESULTS) == "one day, 7 rounds"
        assert report.circumstances(Results([KEEPALIVE, other])) == (
            "- one day, 7 rounds: keepalive\n- another day: webresolve-100k-20"
        )

    def test_of_nothing(self):
        assert report.report(Results()).startswith("# pen beside its peers\n")

    def test_table(self):
        assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


class TestChart:
    def test_a_dot_for_each_peer_on_its_side_of_one(self):
        axis = Axis([1.75, 0.625, 1.2, 1.1])
        one = axis.at(1.0)
        picture = ElementTree.fromstring(chart(RESULTS, ["TCP"], "title"))
        dots = [float(dot.get("cx", "")) for dot in picture.iter(f"{SVG}circle")]
        assert len(dots) == 2
        assert dots[0] > one > dots[1]

    def test_works_without_peers_and_other_groups_are_not_in_it(self):
        alone = measured("alone", "TCP", pen=Series("", samples(1.0)))
        picture = ElementTree.fromstring(chart(Results([alone, PENLOGD]), ["TCP"], "title"))
        assert not list(picture.iter(f"{SVG}circle"))

    def test_texts_are_escaped(self):
        odd = KEEPALIVE._replace(title="<odd> & even")
        picture = ElementTree.fromstring(chart(Results([odd]), ["TCP"], "a < b"))
        texts = [text.text for text in picture.iter(f"{SVG}text")]
        assert {"<odd> & even", "a < b"} <= set(texts)

    def test_a_peer_that_did_less_has_a_star(self):
        assert ">adnslogres*<" in chart(RESULTS, ["webresolve"], "title")

    @pytest.mark.parametrize("values", [[], [0.29, 1.6], [0.007, 40.0], [1.0, 1.1], [1e-6, 1e6]])
    def test_an_axis_has_one_and_few_labels_in_order(self, values: list[float]):
        axis = Axis(values)
        labels = axis.labels()
        assert 1.0 in labels
        assert len(labels) <= 13
        places = [axis.at(label) for label in labels]
        assert places == sorted(places)
        assert all(axis.at(1.0) != axis.at(value) for value in values if value != 1.0)


class TestWhatPeersSay:
    def test_wrk(self):
        assert checked("RESULT 10 1000 0 2000000", 100) == Load(10, 2.0)

    @pytest.mark.parametrize("said", ["", "RESULT 10 1000 1 2", "RESULT 10 999 0 2", "RESULT 0 0 0 2"])
    def test_wrk_with_wrong_answers(self, said: str):
        with pytest.raises(PenError, match="wrk"):
            checked(said, 100)

    DNSPERF = """
  Queries sent:         50
  Queries completed:    50 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 50 (100.00%)
  Run time (s):         1.5
"""

    def test_dnsperf(self):
        assert answered(self.DNSPERF) == (50, 1.5)

    @pytest.mark.parametrize(
        "change", [("sent:         50", "sent: 51"), ("NOERROR 50", "SERVFAIL 50"), ("50", "")]
    )
    def test_dnsperf_with_wrong_answers(self, change: tuple[str, str]):
        with pytest.raises(PenError, match="dnsperf"):
            answered(self.DNSPERF.replace(*change))

    def test_penlogd(self, tmp_path: Path):
        log = tmp_path / "log"
        log.write_bytes(
            b"".join((loghost.LINE % (n, n)).replace(b"127.0.0.1", loghost.client(n)) for n in range(9))
        )
        loghost.check(log, 9, 0)
        loghost.check(log, 10, 1)
        with pytest.raises(PenError, match="9 lines with their client of 10"):
            loghost.check(log, 10, 0)
        log.write_bytes(b"".join(loghost.LINE % (n, n) for n in range(9)))
        with pytest.raises(PenError, match="0 lines with their client"):
            loghost.check(log, 9, 8)

    def test_merged(self, tmp_path: Path):
        logs = merging.write(tmp_path, 100, 50, {100, 10})
        assert 5 <= len(logs[10].clients) <= 10
        output = tmp_path / "merged"
        output.write_bytes(b"".join(log.read_bytes() for log in (tmp_path / "10").iterdir()))
        logs[10].check(output, 0.0)
        with pytest.raises(PenError, match="only 0 of"):
            logs[10].check(output, 0.5)
        first = output.read_bytes().splitlines(keepends=True)[0]
        for wrong in (b"", output.read_bytes() + first):
            output.write_bytes(wrong)
            with pytest.raises(PenError, match=" came out"):
                logs[10].check(output, 0.0)

    def test_resolved(self, tmp_path: Path):
        output = tmp_path / "output"
        output.write_bytes(b"h10-0-0-0.example.test" + resolving.TAIL)
        resolving.check(output, 1)
        with pytest.raises(PenError, match="1 lines of 2"):
            resolving.check(output, 2)
        output.write_bytes(b"10.0.0.0" + resolving.TAIL)
        with pytest.raises(PenError, match="line 1 is"):
            resolving.check(output, 1)
        output.write_bytes(b"")
        with pytest.raises(PenError, match="0 lines of 1"):
            resolving.check(output, 1)


class TestProcesses:
    def test_a_signal_waits_until_what_was_started_is_known(self):
        came = []
        before = signal.signal(signal.SIGTERM, lambda *_: came.append("now"))
        try:
            with undisturbed():
                signal.raise_signal(signal.SIGTERM)
                assert came == []
            assert came == ["now"]
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_what_nobody_ended_is_ended_at_last(self, tmp_path: Path):
        with (tmp_path / "output").open("wb") as output:
            sleeper = started(["sleep", "60"], tmp_path, None, output, output)
        assert sleeper.poll() is None
        end_all()
        assert sleeper.returncode == -signal.SIGTERM


class TestSlowDns:
    def question(self, name: bytes, kind: int) -> bytes:
        labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
        return (
            b"\x12\x34"
            + struct.pack("!5H", 0x0100, 1, 0, 0, 0)
            + labels
            + b"\0"
            + struct.pack("!HH", kind, 1)
        )

    def test_the_name_of_an_address(self):
        message = slowdns.answer(self.question(b"4.3.2.10.in-addr.arpa", slowdns.PTR))
        assert message.startswith(b"\x12\x34\x85\x80\0\1\0\1")
        assert message.endswith(b"\0\x18\x09h10-2-3-4\x07example\x04test\0")

    def test_the_address_of_a_name(self):
        assert slowdns.answer(self.question(b"h10-2-3-4.example.test", slowdns.A)).endswith(b"\0\4\n\2\3\4")

    def test_anything_else_does_not_exist(self):
        message = slowdns.answer(self.question(b"www.example.test", slowdns.A))
        assert message[3] & 15 == 3
        assert message.endswith(self.question(b"www.example.test", slowdns.A)[12:])


@pytest.mark.parametrize(
    ("wanted", "descriptors", "count"),
    [(10_000, 1_000_000, 10_000), (10_000, 20_000, 9800), (300, 1024, 300), (300, 256, 0)],
)
def test_as_many_connections_as_descriptors_permit(wanted: int, descriptors: int, count: int):
    assert idle.possible(wanted, descriptors) == count


def test_works_by_name_or_by_how_names_begin():
    works = [Work(name, "", "", "TCP", []) for name in ("keepalive", "tls-keepalive", "tls-upload", "log")]
    assert [work.name for work in chosen(works, ["tls-"])] == ["tls-keepalive", "tls-upload"]
    assert [work.name for work in chosen(works, ["log", "keepalive"])] == ["log", "keepalive"]
    assert chosen(works, []) == works
