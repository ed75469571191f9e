"""`make bench`: its command line; what it measures is tested by itself, as each answer is checked."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from support.process import Result, run
from support.programs import ROOT, needs
from support.waiting import wait_until

from bench import report
from bench.chart import chart
from bench.report import CHARTS
from bench.results import Measured, Results, Series
from bench.sample import Sample

SERIES = {"pen": Series("", [Sample(10, 2, 1)]), "haproxy": Series("", [Sample(10, 1, 1)])}
KEPT = Results([Measured("keepalive", "requests", "request", "TCP", "cpu", "today", SERIES)], ["pen: 1.0.0"])


class TestCommand:
    def run(self, *words: str) -> Result:
        return run([sys.executable, "-m", "bench", *words], cwd=ROOT)

    def test_written_again_without_measuring(self, tmp_path: Path):
        KEPT.write(tmp_path / "results.json")
        done = self.run("-r", "-o", str(tmp_path))
        assert done == (0, report.report(KEPT), "")
        assert (tmp_path / "RESULTS.md").read_text() == done.out
        for name, (title, groups) in CHARTS.items():
            assert (tmp_path / name).read_text() == chart(KEPT, groups, title)

    def test_what_is_kept_here_is_of_the_samples_kept_here(self, tmp_path: Path):
        """Otherwise `make bench BENCH=-r`."""
        (tmp_path / "results.json").write_bytes((ROOT / "bench" / "results.json").read_bytes())
        assert self.run("-r", "-o", str(tmp_path)).code == 0
        for name in ("RESULTS.md", *CHARTS):
            assert (tmp_path / name).read_text() == (ROOT / "bench" / name).read_text(), name

    def test_wrong_usage(self, tmp_path: Path):
        done = self.run("-o", str(tmp_path), "nosuch")
        assert done.code == 2
        assert "'nosuch' is not one of " in done.err
        assert self.run("-n", "0").code == 2

    def test_results_that_are_none(self, tmp_path: Path):
        (tmp_path / "results.json").write_text("{")
        done = self.run("-r", "-o", str(tmp_path))
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"bench: {tmp_path}/results.json: not the results of a benchmark: ")

    def test_a_directory_that_can_not_be(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        done = self.run("-r", "-o", f"{tmp_path}/file/below")
        assert done == (1, "", f"bench: make {tmp_path}/file/below: Not a directory\n")


@needs("nginx", "wrk")
def test_a_signal_ends_it_and_all_that_it_started(tmp_path: Path):
    words = [sys.executable, "-m", "bench", "-q", "keepalive"]
    env = {"PATH": "/usr/bin:/bin:/usr/sbin", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as bench:
        try:
            wait_until(lambda: list(tmp_path.glob("pen-bench-*/*/output")), "it has begun")
        finally:
            bench.send_signal(signal.SIGTERM)
        assert bench.stdout
        said = bench.stdout.read()  # up to the end of all who have it
    assert bench.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert living_in(tmp_path) == []


def living_in(directory: Path) -> list[str]:
    """The command lines of processes that work in this directory, or did until it was removed."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if str(process.joinpath("cwd").readlink()).startswith(f"{directory}/"):
                found.append(process.joinpath("cmdline").read_text())
    return found
