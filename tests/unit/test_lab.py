"""The laboratory itself: what a test started ends with it; a missing program is a skip, in CI a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import Lab
from support.waiting import stays, wait_until

TESTS = Path(__file__).parents[1]


def run_pytest(directory, content, **env):
    """What pytest says of a file of tests that has this content and our conftest."""
    (directory / "test_inner.py").write_text(content)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CI"))}
    environment |= {"PYTHONPATH": str(TESTS), **env}
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    done = subprocess.run(
        [*words, "test_inner.py"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.parametrize(
    ("ci", "expected"), [({}, "1 skipped"), ({"CI": "true"}, "1 error"), ({"CI": "false"}, "1 skipped")]
)
def test_a_missing_program(tmp_path, ci, expected):
    content = 'from support.programs import needs\n\n\n@needs("no-such-program")\ndef test_it():\n    pass\n'
    out = run_pytest(tmp_path, content, **ci)
    assert expected in out
    assert "no-such-program is not installed" in out


def test_a_program_that_is_there(tmp_path):
    content = 'from support.programs import needs\n\n\n@needs("sh")\ndef test_it():\n    pass\n'
    assert "1 passed" in run_pytest(tmp_path, content)


def test_a_failure_shows_what_the_processes_said(tmp_path):
    content = (
        'def test_it(lab):\n    lab.spawn(["sh", "-c", "echo the last words >&2"]).wait()\n    assert False\n'
    )
    assert "the last words" in run_pytest(tmp_path, content)


def test_everything_ends_with_the_test():
    """A child, one that ignores TERM, and a daemon that left its parent and its session."""
    lab = Lab()
    child = lab.spawn(["sleep", "600"])
    daemon = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    daemon += "open('pid', 'w').write(str(os.getpid()))\nimport time; time.sleep(600)\n"
    lab.spawn([sys.executable, "-c", daemon])
    wait_until(lambda: (lab.directory / "pid").exists() and (lab.directory / "pid").read_text())
    pid = int((lab.directory / "pid").read_text())
    directory = lab.directory
    lab.close()
    assert not child.alive
    assert not Path(f"/proc/{pid}").exists()
    assert not directory.exists()


def test_waiting():
    turns = iter([0, 0, "there"])
    assert wait_until(lambda: next(turns)) == "there"
    with pytest.raises(AssertionError, match="the bus comes"):
        wait_until(lambda: False, "the bus comes", seconds=0.01)
    with pytest.raises(AssertionError, match="the bus stays"):
        stays(lambda: False, 0.01, "the bus stays")
