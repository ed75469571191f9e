"""The recipes of doc/howto.md, so that tests run what is printed there, and the hosts that they speak of."""

import re

from support.programs import ROOT

HOWTO = ROOT / "doc" / "howto.md"

HOSTS = ["lbhost", "host1", "host2", "loghost"]
ADDRESSES = {name: f"127.0.0.{number}" for number, name in enumerate(HOSTS, 11)}
VISITORS = {f"visitor{number}.example": f"127.0.9.{number}" for number in range(1, 7)}
"""What /etc/hosts says while a recipe is run."""


def recipe(heading: str) -> list[str]:
    """What is typed in the section of that heading, block by block."""
    return recipes()[heading]


def recipes() -> dict[str, list[str]]:
    """The `sh` blocks of each section, by the section's heading; sections without any are left out."""
    found = {heading: blocks(text, "sh") for heading, text in sections().items()}
    return {heading: typed for heading, typed in found.items() if typed}


def excerpt(heading: str, kind: str) -> str:
    """The one block of another kind in a section: lines for the configuration of a server."""
    (block,) = blocks(sections()[heading], kind)
    return block


def sections() -> dict[str, str]:
    parts = re.split(r"^## ", HOWTO.read_text(), flags=re.MULTILINE)[1:]
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts)}


def blocks(text: str, kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block.rstrip() for block in found]
