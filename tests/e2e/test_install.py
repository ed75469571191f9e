"""Installing: into a stage and out of it, from nothing but a checkout; and by pip.

Every test works on a copy of the checkout, so that neither .venv nor what make and pip leave in a tree meets
the one the tests run from.
"""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.process import Result, run
from support.programs import ROOT, needs

from penlib.version import VERSION

TOOLS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file())
BUILT = ("__pycache__", ".*_cache", ".venv", ".git", "build", "*.egg-info", ".hypothesis", ".benchmarks")
pytestmark = pytest.mark.xdist_group("install")  # one stage for all, made once
MINUTES = pytest.mark.timeout(300)  # pip may be slow to fetch


def make(tree: Path, *words: str) -> Result:
    """Run make in `tree`, with the interpreter that runs the tests."""
    return run(["make", f"PYTHON={interpreter()}", *words], cwd=tree, seconds=240)


def interpreter() -> str:
    """Outside of any virtual environment."""
    return os.path.realpath(os.path.join(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))


def fetched(done: Result) -> None:
    """See that it went well. Who has no network may go without these tests, but not CI."""
    if "Could not find a version" in done.err and os.environ.get("CI") != "true":
        pytest.skip("pip can't reach its index")
    assert done.code == 0, done


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("checkout") / "pen"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*BUILT))
    return tree


@pytest.fixture(scope="module")
def stage(checkout: Path) -> Path:
    """What `make install` makes; the place has a file of somebody else."""
    stage = checkout.parent / "stage"
    (stage / "usr" / "bin").mkdir(parents=True)
    (stage / "usr" / "bin" / "alien").write_text("not ours\n")
    fetched(make(checkout, "install", f"DESTDIR={stage}", "prefix=/usr"))
    return stage


@MINUTES
@pytest.mark.parametrize("tool", TOOLS)
def test_an_installed_tool_needs_no_environment(stage: Path, tool: str) -> None:
    done = run([str(stage / "usr" / "bin" / tool), "--version"], cwd="/", env={})
    assert done == (0, f"{tool} {VERSION}\n", "")


def test_an_installed_tool_sees_no_other_packages(stage: Path, tmp_path: Path) -> None:
    """Neither the directory it is started in nor PYTHONPATH can put something in its way."""
    for module in ("docopt", "penlib", "re"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not mine')\n")
    done = run([str(stage / "usr/bin/penlog"), "--help"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 0
    assert done.out.startswith("penlog - ")


def test_an_installed_tool_works_by_a_link(stage: Path, tmp_path: Path) -> None:
    (tmp_path / "penlog").symlink_to(stage / "usr" / "bin" / "penlog")
    assert run([str(tmp_path / "penlog"), "--version"], env={}).code == 0


def test_everything_has_its_place(stage: Path) -> None:
    found = files(stage / "usr")
    assert {f"bin/{tool}" for tool in TOOLS} <= found
    assert {f"share/man/man1/{tool}.1" for tool in TOOLS} <= found
    elsewhere = {name for name in found if not name.startswith(("bin/", "share/man/man1/", "lib/pen/"))}
    assert not elsewhere


def test_modules_are_compiled_for_the_place_they_will_have(stage: Path) -> None:
    compiled = list((stage / "usr" / "lib" / "pen").rglob("*.pyc"))
    assert any(path.name.startswith("usage.") for path in compiled)
    assert not [path for path in compiled if str(stage).encode() in path.read_bytes()]


def test_tools_and_pages_can_be_read_by_everybody(stage: Path) -> None:
    for path in (stage / "usr").rglob("*"):
        wanted = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
        if path.name != "alien":
            assert path.stat().st_mode & 0o7777 == wanted, path


def test_uninstall_takes_away_what_install_brought_and_no_more(checkout: Path, stage: Path) -> None:
    copy = stage.parent / "copy"
    shutil.copytree(stage, copy)
    for _ in range(2):  # the second finds nothing, and minds nothing
        done = make(checkout, "uninstall", f"DESTDIR={copy}", "prefix=/usr")
        assert done.code == 0, done
        assert files(copy) == {"usr/bin/alien"}
    assert not (copy / "usr" / "lib" / "pen").exists()


def test_installing_again_leaves_nothing_of_an_older_version(checkout: Path, stage: Path) -> None:
    copy = stage.parent / "again"
    shutil.copytree(stage, copy)
    before = files(copy)
    (copy / "usr/lib/pen/penlib/gone.py").write_text("")
    (copy / "usr/bin/gone").write_text("")
    with (copy / "usr/lib/pen/manifest").open("a") as manifest:
        manifest.write("bin/gone\n")
    done = make(checkout, "install", f"DESTDIR={copy}", "prefix=/usr")
    assert done.code == 0, done
    assert files(copy) == before


def test_a_second_install_needs_no_network(checkout: Path, stage: Path, tmp_path: Path) -> None:
    unreachable = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    done = run(
        ["make", f"PYTHON={interpreter()}", "install", f"DESTDIR={tmp_path}", "prefix=/opt/pen"],
        cwd=checkout,
        env=unreachable,
    )
    assert done.code == 0, done
    assert run([str(tmp_path / "opt/pen/bin/penlog"), "--version"], env={}).code == 0


def test_an_interpreter_that_will_not_do_is_named(checkout: Path) -> None:
    done = run(["make", "PYTHON=/bin/false", "demo"], cwd=checkout)
    assert done.code == 2
    assert "pen needs Python 3.11 or newer, which /bin/false is not" in done.err


@MINUTES
def test_the_demo_needs_nothing_but_a_checkout(checkout: Path) -> None:
    done = make(checkout, "demo")
    fetched(done)
    assert "20 of 20 lines name the true client" in done.out


@MINUTES
def test_pip_installs_it(checkout: Path, tmp_path: Path) -> None:
    """As into any virtual environment; the tools find penlib and docopt in it."""
    subprocess.run([interpreter(), "-m", "venv", tmp_path / "venv"], check=True)
    tree = tmp_path / "tree"  # pip builds in the tree
    shutil.copytree(checkout, tree, ignore=shutil.ignore_patterns(*BUILT))
    pip = [str(tmp_path / "venv/bin/python"), "-m", "pip", "install", "--quiet", "."]
    fetched(run(pip, cwd=tree, seconds=240))
    for tool in TOOLS:
        done = run([str(tmp_path / "venv" / "bin" / tool), "--version"], cwd="/", env={})
        assert done == (0, f"{tool} {VERSION}\n", "")
        assert (tmp_path / "venv/share/man/man1" / f"{tool}.1").exists()


def test_setup_cfg_knows_every_tool() -> None:
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options"]["scripts"].split() == [f"bin/{tool}" for tool in TOOLS]


@needs("unshare", "root")
@MINUTES
def test_an_interpreter_without_ensurepip_borrows_a_pip(checkout: Path, tmp_path: Path) -> None:
    """Debian without python3-venv."""
    tree = tmp_path / "tree"
    shutil.copytree(checkout, tree, ignore=shutil.ignore_patterns(*BUILT))
    where = [interpreter(), "-c", "import ensurepip; print(ensurepip.__path__[0])"]
    ensurepip = subprocess.check_output(where, text=True).strip()
    hide = f"mount -t tmpfs none {ensurepip} && NO_INSTALL=1 PYTHON={interpreter()} scripts/venv"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # there is a pip, that of the tests
    words = ["unshare", "--mount", "sh", "-c", hide]
    fetched(run(words, cwd=tree, env={**os.environ, "PATH": path}, seconds=240))
    assert run([str(tree / ".venv/bin/python"), "-c", "import docopt, pip"], env={}).code == 0
