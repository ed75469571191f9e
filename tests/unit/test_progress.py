"""The progress line: what it says, and when it says nothing."""

import io
import sys

import pytest

from penlib import clock, progress
from penlib.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    return now


def test_says_how_much_how_fast_and_how_long() -> None:
    done = Progress(400_000_000)
    done.add(100_000_000, 1_000_000)
    assert done.text(10.0) == " 25%, 100.0 MB of 400.0 MB, 100,000 lines/s, 0:30 left"
    done.add(-99_000_000, 0)
    assert done.text(10.0).endswith(", 1:06:30 left")


@pytest.mark.parametrize("total", [None, 0])
def test_of_a_pipe_the_end_is_not_known(total: int | None) -> None:
    done = Progress(total)
    done.add(1_500_000, 20)
    assert done.text(2.0) == "1.5 MB, 10 lines/s"


def test_a_file_that_grew_is_never_over_the_whole() -> None:
    done = Progress(100)
    done.add(250, 1)
    assert done.text(1.0).startswith("100%")
    assert "0:00 left" in done.text(1.0)


def test_appears_after_two_seconds_not_too_often_and_goes(
    monkeypatch: pytest.MonkeyPatch, time: list[float]
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(100) as done:
        for seconds, shown in ((1.9, 0), (2.1, 1), (2.15, 1), (2.4, 2)):
            time[0] = 100 + seconds
            done.add(10, 1)
            assert screen.getvalue().count(progress.ERASE) == shown, seconds
    assert screen.getvalue().endswith(progress.ERASE)


def test_quick_work_leaves_no_trace(monkeypatch: pytest.MonkeyPatch, time: list[float]) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(100) as done:
        done.add(100, 1)
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("screen", "quiet"), [(io.StringIO(), False), (Terminal(), True), (None, False)])
def test_silent_without_a_terminal_and_when_told(
    monkeypatch: pytest.MonkeyPatch, time: list[float], screen: io.StringIO | None, quiet: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(100, quiet) as done:
        time[0] += 60
        done.add(10, 1)
    assert screen is None or screen.getvalue() == ""
