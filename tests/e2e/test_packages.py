"""scripts/packages: what it installs for the tests, when, and that no service starts meanwhile.

dpkg-query and apt-get are played by scripts; /usr/sbin, where the policy stands, is a directory of the test,
mounted there for the script alone.
"""

import os
from pathlib import Path

import pytest
from support.process import Result, run
from support.programs import ROOT, needs


def listed(directory: str) -> list[str]:
    """The packages that a list names."""
    lines = (ROOT / directory / "packages").read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


WANTED = listed("tests")
DPKG_QUERY = """#!/bin/sh
sed 's/^/installed /' {here}/installed
exit 1
"""
APT_GET = """#!/bin/sh
[ ! -x /usr/sbin/policy-rc.d ] || /usr/sbin/policy-rc.d; echo "policy $?: $*" >>{here}/apt
case "$*" in *update) exit ;; esac
for package; do case " {unknown} " in *" $package "*) exit 100 ;; esac; done
for package; do echo "$package" >>{here}/installed; done
"""


class Machine:
    """A Debian with some packages installed; `unknown` are those that it can't get."""

    def __init__(self, here: Path, installed: list[str], unknown: str = "") -> None:
        self.here = here
        self.sbin = here / "sbin"
        self.policy = self.sbin / "policy-rc.d"
        (here / "installed").write_text("".join(f"{package}\n" for package in installed))
        (here / "bin").mkdir()
        self.sbin.mkdir()
        self.program("dpkg-query", DPKG_QUERY)
        self.program("apt-get", APT_GET.replace("{unknown}", unknown))

    def program(self, name: str, text: str) -> None:
        path = self.here / "bin" / name
        path.write_text(text.replace("{here}", str(self.here)))
        path.chmod(0o755)

    def run(self, *words: str, **settings: str) -> Result:
        env = {"PATH": f"{self.here}/bin:/usr/bin:/bin", **settings}
        return run(["scripts/packages", *words], cwd=ROOT, env=env)

    def run_as_root(self, **settings: str) -> Result:
        """With /usr/sbin its own."""
        env = {"PATH": f"{self.here}/bin:{os.environ['PATH']}", **settings}
        own = f"mount --bind {self.sbin} /usr/sbin && exec scripts/packages"
        return run(["unshare", "--mount", "sh", "-c", own], cwd=ROOT, env=env)

    @property
    def apt(self) -> list[str]:
        """What apt-get was asked, each with what the policy of services said at that time."""
        log = self.here / "apt"
        return log.read_text().splitlines() if log.exists() else []


def test_nothing_missing_nothing_said_nothing_done(tmp_path: Path) -> None:
    machine = Machine(tmp_path, WANTED)
    assert machine.run() == (0, "", "")
    assert machine.apt == []


def test_told_not_to_install_it_says_what_is_missing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, WANTED[1:])
    done = machine.run(NO_INSTALL="1")
    assert done.code == 0
    assert "NO_INSTALL" in done.out
    assert done.out.split(": ")[-1].split() == WANTED[:1]
    assert machine.apt == []


def test_the_benchmark_has_a_list_of_its_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [])
    said = machine.run("bench", NO_INSTALL="1").out
    assert said.split(": ")[-1].split() == listed("bench")


def test_who_is_not_root_is_told_what_to_type(tmp_path: Path) -> None:
    machine = Machine(tmp_path, WANTED[2:])
    machine.program("id", "#!/bin/sh\necho 1000\n")
    done = machine.run()
    assert done.code == 0
    assert f"as root: apt-get install {' '.join(WANTED[:2])}" in done.out
    assert machine.apt == []


def test_no_debian_no_word(tmp_path: Path) -> None:
    Machine(tmp_path, [])
    for name in ("sh", "sed"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    (tmp_path / "bin" / "apt-get").unlink()
    done = run(["/bin/sh", "scripts/packages"], cwd=ROOT, env={"PATH": str(tmp_path / "bin")})
    assert done == (0, "", "")


@needs("root", "unshare")
class TestInstalling:
    def test_what_is_missing_and_no_more_and_no_service_starts(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, WANTED[2:])
        done = machine.run_as_root()
        assert (done.code, done.err) == (0, "")
        said = "installing what tests/packages lists, services not started (NO_INSTALL=1 turns this off): "
        assert said + WANTED[0] in done.out
        update, install = machine.apt
        assert update.startswith("policy 101: ")
        assert update.endswith(" update")
        assert install.startswith("policy 101: ")
        assert install.split()[-2:] == WANTED[:2]
        assert "--no-remove" in install.split(), "postfix must not take the place of another mail server"
        assert list(machine.sbin.iterdir()) == []

    def test_a_policy_of_the_machine_is_put_back(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, WANTED[1:])
        machine.policy.write_text("#!/bin/sh\nexit 104\n")
        machine.policy.chmod(0o700)
        assert machine.run_as_root().code == 0
        assert {line.split(":")[0] for line in machine.apt} == {"policy 101"}
        assert machine.policy.read_text() == "#!/bin/sh\nexit 104\n"
        assert machine.policy.stat().st_mode & 0o777 == 0o700
        assert list(machine.sbin.iterdir()) == [machine.policy]

    def test_one_that_can_not_be_had_keeps_no_other_away(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, WANTED[3:], unknown=WANTED[1])
        done = machine.run_as_root()
        assert done.code == 0
        last = done.out.splitlines()[-1]
        assert "could not be installed" in last
        assert last.split(": ")[-1].split() == [WANTED[1]]
        assert {WANTED[0], WANTED[2]} <= set((tmp_path / "installed").read_text().split())
        assert list(machine.sbin.iterdir()) == []

    @pytest.mark.parametrize("number", [2, 15])
    def test_interrupted_it_puts_the_policy_back(self, tmp_path: Path, number: int) -> None:
        machine = Machine(tmp_path, WANTED[1:])
        machine.program(
            "apt-get", f"#!/bin/sh\ncp /usr/sbin/policy-rc.d {{here}}/seen\nkill -{number} $PPID\n"
        )
        assert machine.run_as_root().code == 1
        assert "exit 101" in (tmp_path / "seen").read_text()
        assert list(machine.sbin.iterdir()) == []
