"""webresolve and splitwr as filters: what needs no name server."""

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(__file__).parents[2] / "bin"
NOWHERE = ("-s", "127.0.0.1:9", "-t", "1")
"""A name server that refuses: only the hosts file answers."""


def run(tool: str, *words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, BIN / tool, *map(str, words)]
    return subprocess.run(command, input=data, capture_output=True, timeout=50, check=False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no address at all\n",
        b'192.0.2.1 - - [x] "GET / HTTP/1.0" 200 5\r\n',
        b"192.0.2.1",
        b"192.0.2.1 \0 \xff\xfe\n2001:db8::1 x\n",
        b"192.0.2.256 a\n1.2.3 b\n",
        b"192.0.2.1 " + b"x" * 300_000 + b"\n",
    ],
)
def test_what_has_no_name_passes_byte_for_byte(data):
    result = run("webresolve", *NOWHERE, data=data)
    assert (result.returncode, result.stdout) == (0, data)


def test_the_hosts_file_counts_first_and_lines_stay_in_order():
    data = b"127.0.0.1 - a\n192.0.2.7 b\n127.0.0.1 - c"
    result = run("webresolve", *NOWHERE, data=data)
    assert result.stdout == b"localhost - a\n192.0.2.7 b\nlocalhost - c"


def test_splitwr_gives_what_webresolve_gives(tmp_path):
    log = tmp_path / "access_log"
    log.write_bytes(b"".join(b"127.0.0.1 %d\r\n192.0.2.%d x\n" % (n, n % 5) for n in range(2000)))
    resolved = run("webresolve", *NOWHERE, log)
    split = run("splitwr", "-n", "3", *NOWHERE, log)
    assert (split.returncode, split.stdout) == (resolved.returncode, resolved.stdout) == (0, resolved.stdout)
    assert resolved.stdout.startswith(b"localhost 0\r\n192.0.2.0 x\n")


@pytest.mark.parametrize("tool", ["webresolve", "splitwr"])
def test_a_missing_file_is_one_line_and_exit_1(tool, tmp_path):
    result = run(tool, *NOWHERE, tmp_path / "missing")
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 1
    assert b"No such file" in result.stderr


@pytest.mark.parametrize("tool", ["webresolve", "splitwr"])
def test_wrong_usage(tool):
    result = run(tool, "-z")
    assert result.returncode == 2
    assert result.stderr.startswith(f"{tool}: unknown option -z\nUsage:".encode())
