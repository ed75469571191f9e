"""What every test gets: the laboratory, and the output of its processes when it fails."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import process
from support.certificates import Authority
from support.datagrams import UdpPen
from support.lab import Lab
from support.network import names, private_network
from support.process import Result
from support.programs import is_program, missing, tools_in
from support.recipes import ADDRESSES, VISITORS


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(names): programs, 'root' or 'original pen' without which to skip"
    )
    process.adopt_orphans()
    # Property tests fail for what they find, never for the time that takes.
    settings.register_profile("whatever it takes", deadline=None)
    settings.load_profile("whatever it takes")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            why = missing(name)
            if why and is_program(name) and os.environ.get("CI") == "true":
                pytest.fail(f"{why}, and CI=true", pytrace=False)
            if why:
                pytest.skip(why)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and lab:
        report.sections.append(("processes", lab.describe()))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    if "network" in request.fixturenames:
        request.getfixturevalue("network")  # so that the lab is closed before its network goes
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def network() -> Iterator[None]:
    """A network namespace for this test alone: all ports free, any address ours to give.  Needs root."""
    why = missing("root")
    if why:
        pytest.skip(why)
    with private_network():
        yield


@pytest.fixture
def udp(lab: Lab) -> UdpPen:
    """pen -U, its servers and its clients."""
    return UdpPen(lab)


@pytest.fixture(scope="session")
def certificates_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="session")
def ca(certificates_directory: Path) -> Authority:
    """A certificate authority."""
    return Authority(certificates_directory, "ca")


@pytest.fixture
def shell(lab: Lab, network: None) -> list[str]:
    """Words that run what is typed, with our tools in the PATH and the names in /etc/hosts."""
    programs = tools_in(lab.directory / "bin")
    hosts = names(ADDRESSES | VISITORS, lab.directory)
    return [*hosts, "env", f"PATH={programs}:{os.environ['PATH']}", "sh", "-c"]


@pytest.fixture
def typed(lab: Lab, shell: list[str]) -> Callable[[str], Result]:
    """Type a block; it must end well."""

    def run(block: str) -> Result:
        done = lab.run_words([*shell, block])
        assert done.code == 0, done
        return done

    return run
