"""The known differences from the original suite: each is an entry in the NOTES of a man page, and is shown
by a test, in tests/interop, that has its title.

    difference = Differences("penlog")

    @difference("Long lines")
    def test_long_lines(lab): ...

    difference.complete()

A title that the page does not have, or an entry that is left without a test, is an error when the module is
imported: nothing of it runs then.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from support.programs import ROOT, needs

Test = TypeVar("Test", bound=Callable[..., None])

HEADING = ".SS Differences from pen 0.34.1\n"


def listed(tool: str) -> list[str]:
    """The titles of the entries in a tool's page, in their order."""
    page = (ROOT / "man" / f"{tool}.1").read_text()
    _, found, section = page.partition(HEADING)
    assert found, f"{tool}.1 has no '{HEADING.strip()}'"
    section = re.split(r"^\.S[HS]", section, flags=re.MULTILINE)[0]
    return [title.replace("\\-", "-") for title in re.findall(r"^\.TP\n\.B (.*)$", section, re.MULTILINE)]


class Differences:
    """Those of one tool, and which of them have a test by now."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.left = listed(tool)

    def __call__(self, title: str) -> Callable[[Test], Test]:
        """Mark the test that shows this one."""
        assert title in self.left, f"'{title}' is not in {self.tool}.1, or has a test already"
        self.left.remove(title)
        return needs("original pen")  # type: ignore[return-value]

    def complete(self) -> None:
        """To be called when all tests are defined."""
        assert self.left == [], f"{self.tool}.1 lists differences that no test shows: {self.left}"
