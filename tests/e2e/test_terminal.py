"""What the filters show on a terminal while they work for long."""

import contextlib
import os
import pty
import subprocess

import pytest
from support.programs import tool
from support.waiting import wait_until

ERASE = b"\r\x1b[K"
LOG_LINE = b'192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5\n'


class Filter:
    """One of them, with standard error on a terminal; what that shows is in `shown`."""

    def __init__(self, lab, *words):
        self.terminal, its_side = pty.openpty()
        os.set_blocking(self.terminal, False)
        self.process = lab.spawn(words, stdin=subprocess.PIPE, stderr=its_side)
        os.close(its_side)
        lab.ends.callback(os.close, self.terminal)
        self.shown = b""

    def feed(self, data):
        self.process.popen.stdin.write(data)
        self.process.popen.stdin.flush()

    def read(self):
        with contextlib.suppress(OSError):  # nothing there, or, as Linux says it, the other side gone
            self.shown += os.read(self.terminal, 65536)
        return self.shown

    def end(self):
        self.process.popen.stdin.close()
        return self.process.wait()


@pytest.mark.parametrize(
    "words",
    [["webresolve"], ["splitwr", "-n", "2"], ["mergelogs", "-p", "pen.log", "10.0.0.1:-"]],
    ids=lambda words: words[0],
)
def test_a_line_says_how_far_it_is_and_q_turns_that_off(lab, words):
    lab.write("pen.log", "127.0.0.7 1700000000 10.0.0.1 GET / HTTP/1.1\n")
    name, *rest = words
    loud, quiet = Filter(lab, *tool(name), *rest), Filter(lab, *tool(name), "-q", *rest)

    def work():
        for one in (loud, quiet):
            one.feed(LOG_LINE)
        return ERASE in loud.read()

    wait_until(work, "a line on the terminal")
    assert (loud.end(), quiet.end()) == (0, 0)
    assert loud.read().endswith(ERASE), "it is wiped away at the end"
    assert quiet.read() == b""
