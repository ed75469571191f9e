"""doc/: the recipes of the how-to are all run, its names explained; the threat model's tests are there."""

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


def test_what_holds_the_bounds_of_the_threat_model_is_there():
    """`file::name`, or `::name` for one more of the same file."""
    text = (ROOT / "doc" / "threat-model.md").read_text()
    file = ""
    missing = []
    found = re.findall(r"`(\w*)::(\w+)`", text)
    for named, test in found:
        file = named or file
        paths = list((ROOT / "tests").glob(f"*/{file}.py"))
        if not any(re.search(rf"(def|class) {test}\b", path.read_text()) for path in paths):
            missing.append(f"{file}::{test}")
    assert found
    assert missing == []
