"""doc/howto.md: its recipes are all run, and its names explained."""

import re

from support.programs import ROOT
from support.recipes import ADDRESSES, HOWTO, recipes


def test_no_recipe_is_left_out():
    """A test takes a section's blocks by `recipe("its heading")`, in some file of that name."""
    files = (ROOT / "tests" / "e2e").glob("test_recipes*.py")
    used = [re.findall(r'recipe\("([^"]+)"\)', file.read_text()) for file in files]
    assert {heading for headings in used for heading in headings} == set(recipes())


def test_the_names_are_those_that_the_page_explains():
    text = HOWTO.read_text()
    assert [name for name in ADDRESSES if f"`{name}`" not in text] == []
