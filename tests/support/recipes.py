"""The recipes of doc/howto.md, so that tests run what is printed there."""

import re

from support.programs import ROOT

HOWTO = ROOT / "doc" / "howto.md"


def recipes() -> dict[str, list[str]]:
    """The `sh` blocks of each section, by the section's heading; sections without any are left out."""
    found = {}
    for section in re.split(r"^## ", HOWTO.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if blocks:
            found[heading] = [block.rstrip() for block in blocks]
    return found
