"""What examples/ has works as it stands, and the README names nothing that is not there."""

import re

import pytest
from support.lab import Lab
from support.pen import control_options
from support.ports import free_port
from support.programs import ROOT, find, needs
from support.webserver import APACHE

EXAMPLES = ROOT / "examples"
UNITS = sorted(path.name for path in EXAMPLES.glob("*.service"))
OPTION = re.compile(r"(?<= )--?\w+")


def test_pen_cfg_is_read_without_a_complaint(lab: Lab) -> None:
    """Its port 80 made one that is free; what it sets is what pen then says."""
    text = (EXAMPLES / "pen.cfg").read_text()
    port = free_port()
    config = lab.write("pen.cfg", text.replace("\nlisten 80\n", f"\nlisten 127.0.0.1:{port}\n"))
    control = str(lab.directory / "control")
    lab.daemon("-F", config, "-p", "pen.pid", "-l", "pen.log", *control_options(control))
    said = {command: lab.penctl(control, command).out for command in ("listen", "servers", "conn_max")}
    assert said["listen"] == f"127.0.0.1:{port}\n"
    assert said["servers"].count("\n") == text.count("\nserver ") == 3
    assert said["conn_max"] == "5000\n"


@pytest.mark.parametrize("unit", UNITS)
def test_units_start_tools_with_options_they_have(lab: Lab, unit: str) -> None:
    text = (EXAMPLES / unit).read_text().replace("\\\n", " ")
    command = re.findall(r"^ExecStart=.*?/usr/local/bin/(\w+)(.*)", text, re.MULTILINE)
    assert len(command) == 1
    name, words = command[0]
    usage = lab.run(name, "--help").out
    for option in OPTION.findall(words):
        assert re.search(rf"^  {option}\b", usage, re.MULTILINE), option


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_the_units(lab: Lab, unit: str) -> None:
    """Every line; that the tools are not in /usr/local/bin is the one thing that it may find."""
    text = (EXAMPLES / unit).read_text()
    lab.write(unit, re.sub(r"/usr/local/bin/\w+", "/bin/true", text))
    assert lab.run_words(["systemd-analyze", "verify", "--man=no", f"./{unit}"]) == (0, "", "")


@needs("nginx")
def test_nginx_understands_its_lines(lab: Lab) -> None:
    lines = (EXAMPLES / "nginx.conf").read_text().replace("/var/log/nginx", str(lab.directory))
    config = f"pid nginx.pid; events {{}} http {{ server {{ listen unix:http;\n{lines}\n}} }}"
    words = ["-t", "-q", "-p", str(lab.directory), "-e", "stderr", "-c", str(lab.write("nginx.conf", config))]
    assert lab.run_words([str(find("nginx")), *words]) == (0, "", "")


@needs("apache2")
def test_apache_understands_its_lines(lab: Lab) -> None:
    given = {"host": "127.0.0.1", "port": 80, "user": "", "log": "/dev/null", "form": "common"}
    config = f"Define APACHE_LOG_DIR {lab.directory}\n" + APACHE.format(directory=lab.directory, **given)
    config += (EXAMPLES / "apache.conf").read_text()
    words = ["-t", "-f", str(lab.write("apache.conf", config))]
    assert lab.run_words([str(find("apache2")), *words]) == (0, "", "Syntax OK\n")


def test_the_readme_names_only_what_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"[`(]((?:bin|doc|examples|man|penlib)/[\w./-]*|[A-Z]+\.md|LICENSE)[`)]", readme)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_has_every_tool_in_its_table() -> None:
    tools = {path.name for path in (ROOT / "bin").iterdir() if path.is_file()}
    assert set(
        re.findall(r"^\| ([a-z][\w-]*) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    ) == tools | {"tool"}
